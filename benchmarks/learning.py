"""
Learning curves of DDPGfD with the packaged hyperparameters and demonstrations, next to SB3's DDPG without them.

Used by benchmarks/pendulum.py and benchmarks/mountain_car.py; benchmarks/a2c.py uses its parts. A run is one (algorithm,
seed); a finished run is kept in benchmarks/results/<env>.csv and not run again, so an interrupted benchmark goes on where it
stopped.
"""

import argparse
import csv
import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
import yaml
from stable_baselines3 import DDPG
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import NormalActionNoise

from sb3_pgfd import DDPGfD, Demonstrations
from sb3_pgfd.utils.files import hyperparams_file
from sb3_pgfd.zoo.experiment_manager import PgfdExperimentManager

RESULTS = Path(__file__).parent / "results"
FIRST_EVALUATION_SEED = 10_000
# What a column of the results holds besides numbers
TEXTS = ("algorithm", "configuration", "task", "method", "config", "error")


@dataclass(frozen=True)
class Benchmark:
    """What to run and what it must reach."""

    env_id: str
    steps: int
    evaluate_at: tuple[int, ...]
    """Environment steps; 0 is the pretrained policy"""
    target: float
    """Mean return that every seed must reach at the last evaluation"""
    n_evaluations: int = 100


def evaluate(model: BaseAlgorithm, env_id: str, n_episodes: int) -> np.ndarray:
    """
    :param model: Whose deterministic policy is run
    :param env_id: Where
    :param n_episodes: Number of starts, always the same ones
    :return: Returns, shape ``(n_episodes,)``
    """
    normalize = model.get_vec_normalize_env()
    envs = [gym.make(env_id) for _ in range(n_episodes)]
    observations = np.stack([env.reset(seed=FIRST_EVALUATION_SEED + k)[0] for k, env in enumerate(envs)])
    returns, running = np.zeros(n_episodes), np.ones(n_episodes, dtype=bool)
    while running.any():
        seen = observations if normalize is None else normalize.normalize_obs(observations)
        actions, _ = model.predict(seen, deterministic=True)
        for k in np.flatnonzero(running):
            observations[k], reward, terminated, truncated, _ = envs[k].step(actions[k])
            returns[k] += float(reward)
            running[k] = not (terminated or truncated)
    return returns


class Evaluations(BaseCallback):
    """Evaluate at the steps of a benchmark; the time it takes does not count."""

    def __init__(self, benchmark: Benchmark):
        super().__init__()
        self.benchmark = benchmark
        self.rows: list[dict[str, Any]] = []
        self.start = time.perf_counter()

    def _evaluate(self) -> None:
        before = time.perf_counter()
        returns = evaluate(self.model, self.benchmark.env_id, self.benchmark.n_evaluations)
        self.rows.append(
            {
                "steps": self.num_timesteps,
                "mean_return": round(float(returns.mean()), 2),
                "std_return": round(float(returns.std()), 2),
                "worst_return": round(float(returns.min()), 2),
                "seconds": round(before - self.start, 1),
            }
        )
        self.start += time.perf_counter() - before

    def _on_training_start(self) -> None:
        if 0 in self.benchmark.evaluate_at:
            self._evaluate()

    def _on_step(self) -> bool:
        if self.num_timesteps in self.benchmark.evaluate_at:
            self._evaluate()
        return True


def make_model(algorithm: str, env_id: str, seed: int) -> BaseAlgorithm:
    """
    :param algorithm: ``"DDPGfD"`` with the packaged hyperparameters, ``"default"`` with those for any environment,
        ``"relative priorities"`` with the packaged ones and the scale-free bonus, or ``"SB3 DDPG"`` with those that it has
        of the packaged ones
    :param env_id: Environment
    :param seed: Seed
    """
    options = yaml.safe_load(hyperparams_file("ddpgfd").read_text())["default" if algorithm == "default" else env_id]
    env = gym.make(env_id)
    assert env.action_space.shape is not None
    sigma = options.pop("noise_std") * np.ones(env.action_space.shape)
    for name in ("n_timesteps", "noise_type"):
        del options[name]
    # Schedules are spelled as in the RL Zoo, "lin_1e-3"
    options = PgfdExperimentManager._preprocess_schedules(options)
    options.update(action_noise=NormalActionNoise(np.zeros_like(sigma), sigma), seed=seed, device="cpu")
    if algorithm == "relative priorities":
        options["relative_priorities"] = True
    if algorithm != "SB3 DDPG":
        return DDPGfD(env=env, **{**options, "demonstrations": env_id})
    plain = ("policy", "gamma", "learning_rate", "batch_size", "tau", "gradient_steps", "action_noise", "seed", "device")
    net_arch = (options.get("policy_kwargs") or {}).get("net_arch", [400, 300])
    return DDPG(env=env, policy_kwargs={"net_arch": net_arch}, **{name: options[name] for name in plain if name in options})


def run_cell(cell: tuple[Benchmark, str, int]) -> list[dict[str, Any]]:
    """:param cell: Benchmark, algorithm and seed"""
    benchmark, algorithm, seed = cell
    th.set_num_threads(1)
    evaluations = Evaluations(benchmark)
    make_model(algorithm, benchmark.env_id, seed).learn(benchmark.steps, callback=evaluations)
    return [{"algorithm": algorithm, "seed": seed, **row} for row in evaluations.rows]


def read_results(path: Path) -> list[dict[str, Any]]:
    """:param path: A CSV written by :func:`append_results`, or nothing yet"""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return [
            {name: value if name in TEXTS else float(value) for name, value in row.items()} for row in csv.DictReader(file)
        ]


def append_results(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """
    :param path: CSV to append to
    :param rows: With the same columns as those that are there
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        if file.tell() == 0:
            writer.writeheader()
        writer.writerows(rows)


def report(benchmark: Benchmark, rows: list[dict[str, Any]]) -> None:
    """Print one line per run, and draw all of them."""
    header = "".join(f"{steps:>10,}" for steps in benchmark.evaluate_at)
    print(f"{benchmark.env_id}: mean return over {benchmark.n_evaluations} starts, after environment steps (0: pretrained)")
    demonstrations = Demonstrations.load(benchmark.env_id)
    print(f"demonstrations: {demonstrations.n_episodes}, mean return {demonstrations.episode_returns.mean():.1f}\n")
    print(f"{'algorithm':<20}{'seed':>5}{header}{'seconds':>10}")
    runs = sorted({(row["algorithm"], row["seed"]) for row in rows})
    last = benchmark.evaluate_at[-1]
    for algorithm, seed in runs:
        run = {row["steps"]: row for row in rows if (row["algorithm"], row["seed"]) == (algorithm, seed)}
        returns = "".join(f"{run[steps]['mean_return']:>10.1f}" for steps in benchmark.evaluate_at)
        print(f"{algorithm:<20}{seed:>5.0f}{returns}{run[last]['seconds']:>10.0f}")
    final = [row["mean_return"] for row in rows if row["algorithm"] == "DDPGfD" and row["steps"] == last]
    reached = sum(value >= benchmark.target for value in final)
    print(f"\nDDPGfD at {last:,} steps: {reached} of {len(final)} seeds >= {benchmark.target:g}")
    print(f"Figure: {draw(benchmark, rows)}")


def draw(benchmark: Benchmark, rows: list[dict[str, Any]]) -> Path:
    """:return: Path of the figure"""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 4.0), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    for color, algorithm in (("C0", "DDPGfD"), ("C1", "relative priorities"), ("C4", "default"), ("0.6", "SB3 DDPG")):
        seeds = sorted({row["seed"] for row in rows if row["algorithm"] == algorithm})
        for seed in seeds:
            run = sorted(
                (row["steps"], row["mean_return"]) for row in rows if (row["algorithm"], row["seed"]) == (algorithm, seed)
            )
            name = f"DDPGfD, {algorithm}" if algorithm in ("default", "relative priorities") else algorithm
            label = f"{name}, {len(seeds)} seeds" if seed == seeds[0] else None
            axis.plot(*zip(*run, strict=True), color=color, marker=".", label=label)
    axis.axhline(
        Demonstrations.load(benchmark.env_id).episode_returns.mean(), color="C2", linestyle="--", label="demonstrations"
    )
    axis.axhline(benchmark.target, color="C3", linestyle=":", label="target")
    axis.set(title=benchmark.env_id, xlabel="environment steps", ylabel=f"mean return, {benchmark.n_evaluations} starts")
    axis.grid(alpha=0.3)
    axis.legend()
    path = RESULTS / f"{benchmark.env_id}.png"
    figure.savefig(path, dpi=100)
    return path


def main(benchmark: Benchmark) -> None:
    """:param benchmark: What to run"""
    parser = argparse.ArgumentParser(description=f"Learning curves on {benchmark.env_id}")
    parser.add_argument("--seeds", type=int, default=5, help="seeds 0 to N - 1")
    parser.add_argument("--algorithms", nargs="+", default=["DDPGfD", "SB3 DDPG"], help="also: default, 'relative priorities'")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--fresh", action="store_true", help="run again what is in the results already")
    args = parser.parse_args()
    path = RESULTS / f"{benchmark.env_id}.csv"
    if args.fresh:
        path.unlink(missing_ok=True)
    done = {(row["algorithm"], row["seed"]) for row in read_results(path)}
    cells = [(benchmark, algorithm, seed) for seed in range(args.seeds) for algorithm in args.algorithms]
    todo = [cell for cell in cells if cell[1:] not in done]
    with multiprocessing.get_context("spawn").Pool(args.processes) as pool:
        for rows in pool.imap_unordered(run_cell, todo):
            append_results(path, rows)
    report(benchmark, read_results(path))
