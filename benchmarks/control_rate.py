"""
How punctual a robot is controlled while its policy is updated: 1,000 steps at 10 Hz with networks of 128 x 128 and as many
updates as fit in between (about 2 minutes for each learner).

    python -m benchmarks.control_rate

TD3fD acts in a thread of its own (``RealTime``). SB3's TD3 waits for its updates at the same pace. The environment, a
simulated arm, answers at once. Results are in benchmarks/results/control_rate.csv.
"""

import argparse
import time
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from stable_baselines3 import TD3

from benchmarks.learning import PLAIN, RESULTS, TWIN_CRITICS, replace_results
from examples import two_link_arm
from sb3_pgfd import TD3fD
from sb3_pgfd.demonstrations import record
from sb3_pgfd.wrappers import RealTime

TOLERANCE = 0.02
"""Seconds; what comes later than that is a missed deadline"""
PATH = RESULTS / "control_rate.csv"


class _Timed:
    """Counts updates and the seconds that they take."""

    seconds, n_made = 0.0, 0

    def train(self, gradient_steps: int, *args: Any, **kwargs: Any) -> None:
        begin = time.perf_counter()
        super().train(gradient_steps, *args, **kwargs)  # type: ignore[misc]
        self.seconds += time.perf_counter() - begin
        self.n_made += gradient_steps


class TimedTD3fD(_Timed, TD3fD):
    """TD3fD with a clock."""


class TimedTD3(_Timed, TD3):
    """SB3's TD3 with a clock."""


def run(name: str, hz: float, n_steps: int, gradient_steps: int) -> dict[str, Any]:
    """:return: A row of the results"""
    env = gym.make("TwoLinkArm-v0")
    demonstrations = record(two_link_arm.Expert(env), env, 3, seed=20_000, action_noise=0.1)
    real_time = RealTime(env, hz, TOLERANCE)
    options: dict[str, Any] = {"batch_size": 128, "gradient_steps": gradient_steps, "learning_starts": 10, "device": "cpu"}
    options |= {"policy_kwargs": {"net_arch": [128, 128]}, "seed": 0, "buffer_size": 10_000}
    if name == "TD3fD":
        options |= {**PLAIN, "policy_kwargs": {"net_arch": [128, 128], **TWIN_CRITICS}}
        model: Any = TimedTD3fD("MlpPolicy", real_time, demonstrations, pretrain_steps=0, **options)
    else:
        model = TimedTD3("MlpPolicy", real_time, **options)
    begin = time.perf_counter()
    model.learn(n_steps)
    seconds = time.perf_counter() - begin
    real_time.close()
    late = 1e3 * np.array(real_time.punctuality.lateness)
    print(f"{name}, {real_time.punctuality}; {model.n_made:,} updates, {model.seconds / seconds:.0%} of the time")
    return {
        "steps": n_steps,
        "missed": int((late > 1e3 * TOLERANCE).sum()),
        "missed_share": round(float((late > 1e3 * TOLERANCE).mean()), 4),
        "median_ms": round(float(np.median(late)), 2),
        "p99_ms": round(float(np.quantile(late, 0.99)), 2),
        "largest_ms": round(float(late.max()), 2),
        "seconds": round(seconds, 1),
        "updates": model.n_made,
        "updating_share": round(model.seconds / seconds, 3),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--learners", nargs="+", default=["TD3fD", "SB3 TD3"], choices=["TD3fD", "SB3 TD3"])
    parser.add_argument("--hz", type=float, default=10.0)
    parser.add_argument("--steps", type=int, default=1_000)
    parser.add_argument("--gradient-steps", type=int, default=50, help="updates that are asked for after each step")
    args = parser.parse_args()
    th.set_num_threads(1)
    for name in args.learners:
        row = run(name, args.hz, args.steps, args.gradient_steps)
        replace_results(PATH, {"algorithm": name, "hz": args.hz}, [row])


if __name__ == "__main__":
    main()
