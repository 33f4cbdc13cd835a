"""
How many steps a second do environments in Ray's workers take, beside SubprocVecEnv?

    python -m benchmarks.ray_speed                    # writes benchmarks/results/ray_speed.csv

Environments that sleep 0, 1 and 20 ms in each step, 1 and 8 of them, without a learner (the policy acts, nothing is learned),
and those of 20 ms with one: DDPGfD with 128 x 128 units, as many updates as steps of all environments. `efficiency` is the
throughput over 8 times that of one environment of the same kind. SubprocVecEnv and RayVecEnv wait for each step. Workers of
RayCollector act by themselves for `--block` steps (`train_freq`), then there are as many updates.
"""

import argparse
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import SubprocVecEnv, VecEnv

from benchmarks.learning import RESULTS, replace_results
from benchmarks.logged_point import LoggedPoint
from sb3_pgfd import DDPGfD
from sb3_pgfd.distributed import RayCollector, RayVecEnv, connect

PATH = RESULTS / "ray_speed.csv"
KINDS = ("SubprocVecEnv", "RayVecEnv", "RayCollector")
N_WORKERS = 8
CASES = [(sleep, False) for sleep in (0, 1, 20)] + [(20, True)]


class Clock(BaseCallback):
    """:param seconds: How long to measure, after a second of warming up"""

    def __init__(self, seconds: float):
        super().__init__()
        self.seconds, self.begin, self.first = seconds, 0.0, 0
        self.rate = 0.0

    def _on_training_start(self) -> None:
        self.start = time.perf_counter()

    def _on_step(self) -> bool:
        now = time.perf_counter()
        if self.begin == 0.0:
            if now - self.start > 1.0:
                self.begin, self.first = now, self.num_timesteps
            return True
        self.rate = (self.num_timesteps - self.first) / (now - self.begin)
        return now - self.begin < self.seconds


def make(kind: str, n_envs: int, milliseconds: float) -> VecEnv:
    """:return: Environments in as many processes"""
    fns: Any = [partial(LoggedPoint, milliseconds / 1000.0)] * n_envs
    if kind == "SubprocVecEnv":
        return SubprocVecEnv(fns)
    # They sleep more than they compute
    return (RayVecEnv if kind == "RayVecEnv" else RayCollector)(fns, num_cpus=0)


def rate(env: VecEnv, learns: bool, seconds: float, train_freq: int) -> float:
    """:return: Steps of single environments in a second"""
    model = DDPGfD(
        "MlpPolicy",
        env,
        learning_starts=0,
        batch_size=128,
        train_freq=train_freq,
        gradient_steps=train_freq if learns else 0,
        action_noise=0.1,
        policy_kwargs={"net_arch": [128, 128]},
        seed=0,
        device="cpu",
    )
    clock = Clock(seconds)
    model.learn(10**9, callback=clock)
    return clock.rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    parser.add_argument("--block", type=int, default=8, help="steps of a worker of RayCollector between two rounds of updates")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS, metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--results", type=Path, default=PATH)
    args = parser.parse_args()
    th.set_num_threads(1)
    connect("local", include_dashboard=False)
    for kind in args.kinds:
        one: dict[tuple[int, bool], float] = {}
        # Starting the processes takes longer than measuring: the same ones for all cases
        for n_envs in (1, N_WORKERS):
            env = make(kind, n_envs, 0.0)
            for sleep, learns in CASES:
                env.set_attr("seconds", sleep / 1000.0)
                found = rate(env, learns, args.seconds, args.block if kind == "RayCollector" else 1)
                alone = one.setdefault((sleep, learns), found)
                run = {"kind": kind, "sleep_ms": sleep, "learner": learns, "n_envs": n_envs}
                row = {
                    "steps_per_second": round(found, 1),
                    "efficiency": "" if n_envs == 1 else round(found / (N_WORKERS * alone), 3),
                }
                replace_results(args.results, run, [row])
                print({**run, **row}, flush=True)
            env.close()


if __name__ == "__main__":
    main()
