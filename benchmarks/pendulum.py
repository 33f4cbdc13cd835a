"""
DDPGfD, TD3fD, SACfD and SB3's DDPG on Pendulum-v1, 5 demonstrations, 5,000 steps (about 5 minutes on 2 cores).

    python -m benchmarks.pendulum --processes 2
"""

from benchmarks.learning import Benchmark, main

if __name__ == "__main__":
    main(Benchmark("Pendulum-v1", steps=5_000, evaluate_at=(0, 1_000, 2_000, 5_000), target=-165.0))
