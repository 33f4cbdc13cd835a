"""
Learning curves of DDPGfD, TD3fD and SACfD with the packaged hyperparameters and demonstrations, next to SB3's DDPG without
them.

benchmarks/pendulum.py and benchmarks/mountain_car.py run it; the other benchmarks use parts of it. A run is one algorithm with
one seed. A finished run is in benchmarks/results/<env>.csv and does not run again, so an interrupted benchmark continues where
it stopped.
"""

import argparse
import ast
import csv
import multiprocessing
import time
from collections.abc import Mapping, Sequence
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

from sb3_pgfd import DDPGfD, Demonstrations, SACfD, TD3fD
from sb3_pgfd.demonstrations.inspection.plots import new_figure
from sb3_pgfd.utils.files import hyperparams_file, write_whole
from sb3_pgfd.zoo.hyperparameters import with_schedules

RESULTS = Path(__file__).parent / "results"
FIRST_EVALUATION_SEED = 10_000
# The columns of all results that are texts; the others are numbers
TEXTS = ("algorithm", "configuration", "task", "method", "config", "error", "device")

PLAIN: dict[str, Any] = {"proposals": False, "q_filter": False}
TWIN_CRITICS: dict[str, Any] = {"n_critics": 2, "n_target_critics": None}
"""Arguments and ``policy_kwargs`` of TD3fD with TD3's two critics and without a clone: half the cost of its defaults"""


@dataclass(frozen=True)
class Benchmark:
    """An environment, the steps of a run and the return that it must reach."""

    env_id: str
    steps: int
    evaluate_at: tuple[int, ...]
    """Environment steps; 0 is the pretrained policy"""
    target: float
    """Mean return that every seed must reach at the last evaluation"""
    n_evaluations: int = 100


Cell = tuple[Benchmark, str, int]
"""Benchmark, algorithm and seed"""


def evaluate(model: BaseAlgorithm, env_id: str, n_episodes: int) -> np.ndarray:
    """
    :param model: Model to evaluate with its deterministic policy
    :param env_id: Environment
    :param n_episodes: Number of starts, which are always the same
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
    """Evaluate at the steps of a benchmark. The time of evaluations is not counted."""

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


def options_of(file: Path, entry: str, changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """
    :param file: Hyperparameters in the RL Zoo's format
    :param entry: Name of the entry
    :param changes: Changes to the entry
    :return: Arguments of the algorithm, besides them ``n_envs``, ``normalize``, ``noise_std`` and another ``noise_type`` than
        normal if the entry has them
    """
    options = {**yaml.safe_load(file.read_text())[entry], **(changes or {})}
    options.pop("n_timesteps", None)
    if options.get("noise_type") == "normal":
        options.pop("noise_type")
    for name, value in options.items():
        # The RL Zoo spells arguments as a call of dict
        if isinstance(value, str) and value.startswith("dict("):
            call = ast.parse(value, mode="eval").body
            assert isinstance(call, ast.Call)
            options[name] = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
    return with_schedules(options)


def make_model(algorithm: str, env_id: str, seed: int, policy_kwargs: Mapping[str, Any] | None = None) -> BaseAlgorithm:
    """
    :param algorithm: ``"DDPGfD"``, ``"TD3fD"`` or ``"SACfD"`` with the packaged hyperparameters; ``"default"``: DDPGfD with
        those for any environment; ``"relative priorities"``: DDPGfD with the packaged ones and the scale-free bonus;
        ``"SB3 DDPG"`` with the packaged ones that it has
    :param env_id: Environment
    :param seed: Seed
    :param policy_kwargs: Further options of the policy, not of SB3's DDPG
    """
    name, cls = {"TD3fD": ("td3fd", TD3fD), "SACfD": ("sacfd", SACfD)}.get(algorithm, ("ddpgfd", DDPGfD))
    options = options_of(hyperparams_file(name), "default" if algorithm == "default" else env_id)
    env = gym.make(env_id)
    assert env.action_space.shape is not None
    if "noise_std" in options:
        sigma = options.pop("noise_std") * np.ones(env.action_space.shape)
        options["action_noise"] = NormalActionNoise(np.zeros_like(sigma), sigma)
    options.update(seed=seed, device="cpu")
    if algorithm == "relative priorities":
        options["replay_buffer_kwargs"] = {**options.get("replay_buffer_kwargs", {}), "relative_priorities": True}
    if algorithm != "SB3 DDPG":
        options["policy_kwargs"] = {**(options.get("policy_kwargs") or {}), **(policy_kwargs or {})}
        return cls(env=env, **{**options, "demonstrations": env_id})
    plain = ("policy", "gamma", "learning_rate", "batch_size", "tau", "gradient_steps", "action_noise", "seed", "device")
    net_arch = (options.get("policy_kwargs") or {}).get("net_arch", [400, 300])
    return DDPG(env=env, policy_kwargs={"net_arch": net_arch}, **{name: options[name] for name in plain if name in options})


def run_cell(cell: Cell) -> tuple[Cell, list[dict[str, Any]]]:
    """
    :param cell: Benchmark, algorithm and seed
    :return: The cell and its rows
    """
    benchmark, algorithm, seed = cell
    th.set_num_threads(1)
    evaluations = Evaluations(benchmark)
    make_model(algorithm, benchmark.env_id, seed).learn(benchmark.steps, callback=evaluations)
    return cell, evaluations.rows


def read_results(path: Path) -> list[dict[str, Any]]:
    """
    :param path: A CSV of results; it may not exist yet
    :return: Its rows, with numbers in place of texts but for the columns of texts
    """
    return [{name: value if name in TEXTS else float(value) for name, value in row.items()} for row in _read_rows(path)]


def replace_results(path: Path, run: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    """
    Write the rows of a run into a CSV, in place of its old rows.

    :param path: A CSV of results; it may not exist yet
    :param run: Columns that identify the run, with their values
    :param rows: Rows with the columns of the file; with no rows the old ones are removed
    """
    # Texts, not numbers: the rows of other runs stay as they are to the last digit
    kept = [row for row in _read_rows(path) if any(row[name] != str(value) for name, value in run.items())]
    rows = [*kept, *({**run, **row} for row in rows)]
    if not rows:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_whole(path, overwrite=True) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[-1]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _read_rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def report(benchmark: Benchmark, rows: list[dict[str, Any]]) -> None:
    """Print one line per run, and draw all runs."""
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
    print()
    for name in ("DDPGfD", "TD3fD", "SACfD"):
        final = [row["mean_return"] for row in rows if row["algorithm"] == name and row["steps"] == last]
        reached = sum(value >= benchmark.target for value in final)
        print(f"{name} at {last:,} steps: {reached} of {len(final)} seeds >= {benchmark.target:g}")
    print(f"Figure: {draw(benchmark, rows)}")


def draw(benchmark: Benchmark, rows: list[dict[str, Any]]) -> Path:
    """:return: Path of the figure"""
    figure = new_figure((7.0, 4.0))
    axis = figure.subplots()
    for color, algorithm in (
        ("C0", "DDPGfD"),
        ("C5", "TD3fD"),
        ("C6", "SACfD"),
        ("C1", "relative priorities"),
        ("C4", "default"),
        ("0.6", "SB3 DDPG"),
    ):
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
    """:param benchmark: Benchmark to run"""
    parser = argparse.ArgumentParser(description=f"Learning curves on {benchmark.env_id}")
    parser.add_argument("--seeds", type=int, default=5, help="seeds 0 to N - 1")
    choices = ["DDPGfD", "TD3fD", "SACfD", "SB3 DDPG", "default", "relative priorities"]
    parser.add_argument("--algorithms", nargs="+", default=choices[:4], choices=choices, metavar="NAME")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--fresh", action="store_true", help="repeat runs that are finished")
    args = parser.parse_args()
    path = RESULTS / f"{benchmark.env_id}.csv"
    done = set() if args.fresh else {(row["algorithm"], row["seed"]) for row in read_results(path)}
    cells = [(benchmark, algorithm, seed) for seed in range(args.seeds) for algorithm in args.algorithms]
    todo = [cell for cell in cells if cell[1:] not in done]
    with multiprocessing.get_context("spawn").Pool(args.processes) as pool:
        for (_, algorithm, seed), rows in pool.imap_unordered(run_cell, todo):
            replace_results(path, {"algorithm": algorithm, "seed": seed}, rows)
    report(benchmark, read_results(path))
