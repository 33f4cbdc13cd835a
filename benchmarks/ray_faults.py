"""
Kill Ray's workers, nodes and drivers, and see what is learned and stored.

    python -m benchmarks.ray_faults learning                  # a worker killed every 20 s for 5 minutes, a node removed once
    python -m benchmarks.ray_faults learning --kind RayVecEnv
    python -m benchmarks.ray_faults study                     # 24 short cells, the driver killed twice

`learning` runs on four nodes of a `Cluster` of Ray on this machine, one without CPUs, and compares every stored transition
with what the environments wrote down; then it learns for as many steps again without faults. `study` compares the table with
that of an undisturbed study. Each writes a row of benchmarks/results/ray_faults_<name>.csv.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import threading
import time
import warnings
from contextlib import suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ray
import torch as th
import yaml
from ray.cluster_utils import Cluster
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from benchmarks.learning import PLAIN, RESULTS, TWIN_CRITICS, replace_results
from benchmarks.logged_point import LoggedPoint, compare_with_log, demonstrations
from sb3_pgfd import TD3fD
from sb3_pgfd.distributed import RayCollector, RayVecEnv, connect

N_NODES, N_ENVS, SLEEP = 3, 8, 0.02


class Deadline(BaseCallback):
    """:param seconds: After which learning ends"""

    def __init__(self, seconds: float):
        super().__init__()
        self.seconds = seconds

    def _on_training_start(self) -> None:
        self.begin = time.monotonic()

    def _on_step(self) -> bool:
        return time.monotonic() - self.begin < self.seconds


class Killer(threading.Thread):
    """
    Kills a worker now and then, until it is stopped, and removes a node once.

    :param log: Whose files have the numbers of the processes in their names
    :param every: Seconds between two kills
    :param remove_node: Called in the middle
    """

    def __init__(self, log: Path, every: float, middle: float, remove_node: Any):
        super().__init__(daemon=True)
        self.log, self.every, self.middle, self.remove_node = log, every, middle, remove_node
        self.n_kills, self.n_removed, self.stopped = 0, 0, threading.Event()
        self._rng = random.Random(0)

    def run(self) -> None:
        begin = time.monotonic()
        while not self.stopped.wait(self.every):
            alive = sorted({pid for path in self.log.iterdir() if _is_alive(pid := int(path.name.partition("_")[0]))})
            if alive:
                with suppress(ProcessLookupError):
                    os.kill(self._rng.choice(alive), signal.SIGKILL)
                    self.n_kills += 1
            if self.n_removed == 0 and time.monotonic() - begin > self.middle:
                self.remove_node()
                self.n_removed = 1


def _is_alive(pid: int) -> bool:
    """:return: Whether a worker of Ray has this number, and not another process by now"""
    try:
        return b"ray::EnvWorker" in Path("/proc", str(pid), "cmdline").read_bytes()
    except OSError:
        return False


def make_model(env: VecEnv) -> TD3fD:
    """:return: A small learner with one update after each step of all environments"""
    options: dict[str, Any] = {"pretrain_steps": 300, "critic_warmup_steps": 500, "batch_size": 64, "action_noise": 0.2}
    options |= {"policy_kwargs": {"net_arch": [64, 64], **TWIN_CRITICS}, **PLAIN}
    return TD3fD("MlpPolicy", env, demonstrations(), seed=0, device="cpu", **options)


def success_rate(model: TD3fD) -> float:
    """:return: Share of 100 episodes that reach the goal"""
    successes: list[bool] = []
    env = DummyVecEnv([LoggedPoint])
    env.seed(10_000)

    def note(values: dict[str, Any], _: dict[str, Any]) -> None:
        if values["done"]:
            successes.append(values["info"]["is_success"])

    with warnings.catch_warnings():
        # There is no Monitor
        warnings.simplefilter("ignore", UserWarning)
        evaluate_policy(model, env, 100, callback=note)
    return sum(successes) / len(successes)


def learning(args: argparse.Namespace) -> dict[str, Any]:
    """:return: The row of a run with faults, and of one of the same length without"""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": 150 * 2**20})
    # One node may go: the others have room for all workers
    nodes = [cluster.add_node(num_cpus=N_ENVS, object_store_memory=100 * 2**20) for _ in range(N_NODES)]
    connect(cluster.address)
    with TemporaryDirectory() as folder:
        log = Path(folder, "log")
        kind = {"RayVecEnv": RayVecEnv, "RayCollector": RayCollector}[args.kind]
        env = kind([partial(LoggedPoint, SLEEP, str(log))] * N_ENVS, max_restarts_per_hour=10_000)
        model, seconds = make_model(env), 60.0 * args.minutes
        killer = Killer(log, args.every, seconds / 2, lambda: cluster.remove_node(nodes[-1], allow_graceful=False))
        killer.start()
        try:
            model.learn(10**9, callback=Deadline(seconds))
        finally:
            killer.stopped.set()
        invented, twice = compare_with_log(model.buffer, log)
        buffer = model.buffer
        row = {"kind": args.kind, "minutes": args.minutes, "kills": killer.n_kills, "nodes_removed": killer.n_removed}
        row |= {
            "restarts": env.n_restarts,
            "steps": model.num_timesteps,
            "stored": buffer.n_own,
            "left_out": buffer.ring.n_gaps,
        }
        row |= {"not_in_log": invented, "twice": twice, "success": success_rate(model)}
        env.close()
    print(row, flush=True)
    ray.shutdown()
    cluster.shutdown()
    undisturbed = make_model(DummyVecEnv([LoggedPoint] * N_ENVS))
    undisturbed.learn(model.num_timesteps)
    return {**row, "success_undisturbed": success_rate(undisturbed)}


_SMALL = {"pretrain_steps": 20, "batch_size": 32, "learning_starts": 20, "policy_kwargs": {"net_arch": [16]}}
_SETTINGS: dict[str, Any] = {"plain": {}, "one_step": {"n_steps": 1}, "no_cloning": {"bc_coef": 0.0}}
GRID: dict[str, Any] = {
    "tasks": ["Pendulum-v1"],
    "algorithms": ["ddpgfd", "td3fd"],
    "settings": {name: {**_SMALL, **changes} for name, changes in _SETTINGS.items()},
    "n_timesteps": 600,
    "arguments": [
        *("--eval-freq", "200", "--eval-episodes", "2", "--save-freq", "100"),
        *("--device", "cpu", "--num-threads", "1", "--verbose", "0"),
    ],
}


def study(args: argparse.Namespace) -> dict[str, Any]:
    """:return: The row of a study whose driver is killed, beside one that is not"""
    with TemporaryDirectory() as folder:
        grid = Path(folder, "grid.yml")
        grid.write_text(yaml.safe_dump({**GRID, "seeds": args.seeds}))
        n_cells, tables = 6 * args.seeds, []
        for name, kills in (("killed", [n_cells // 3, 2 * n_cells // 3]), ("undisturbed", [])):
            place = Path(folder, name)
            for n_finished in kills:
                driver = _start(grid, place)
                while len(list(place.glob("cells/*/*/*/*/result.json"))) < n_finished and driver.poll() is None:
                    time.sleep(0.05)
                driver.kill()
                driver.wait()
            driver = _start(grid, place)
            if driver.wait() != 0:
                raise RuntimeError(f"the study {name} ended with status {driver.returncode}")
            tables.append((place / "results.csv").read_bytes())
            if kills:
                outputs = [path.read_text() for path in sorted(place.glob("cells/*/*/*/*/output.txt"))]
                ends = [output.count("Saving to") for output in outputs]
                resumed = sum("Going on after" in output for output in outputs)
        return {
            "cells": len(ends),
            "kills": 2,
            "resumed": resumed,
            "finished": sum(end > 0 for end in ends),
            "finished_twice": sum(end > 1 for end in ends),
            "same_table": tables[0] == tables[1],
        }


def _start(grid: Path, place: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "sb3_pgfd", "study", str(grid), "-f", str(place), "--address", "local"]
    return subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("learning", "study"))
    parser.add_argument("--kind", choices=("RayVecEnv", "RayCollector"), default="RayCollector", help="of learning")
    parser.add_argument("--minutes", type=float, default=5.0, help="of learning")
    parser.add_argument("--every", type=float, default=20.0, help="seconds between two kills")
    parser.add_argument("--seeds", type=int, default=4, help="of study: 6 cells for each")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the tables")
    args = parser.parse_args()
    th.set_num_threads(1)
    row = learning(args) if args.what == "learning" else study(args)
    print(row)
    run = {name: row.pop(name) for name in (("kind", "minutes") if args.what == "learning" else ("cells",))}
    replace_results(args.results / f"ray_faults_{args.what}.csv", run, [row])


if __name__ == "__main__":
    main()
