"""
DDPGfD, TD3fD, SACfD and SB3's DDPG on MountainCarContinuous-v0, 3 demonstrations, 20,000 steps (about 12 minutes on 2 cores).

    python -m benchmarks.mountain_car --processes 2
"""

from benchmarks.learning import Benchmark, main

if __name__ == "__main__":
    main(
        Benchmark("MountainCarContinuous-v0", steps=20_000, evaluate_at=(0, 1_000, 2_000, 5_000, 10_000, 20_000), target=90.0)
    )
