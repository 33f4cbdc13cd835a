"""
Every packaged task with its packaged demonstrations and tuned hyperparameters, trained as a user does it: by
``sb3-pgfd train`` with the algorithm that it chooses.

    python -m benchmarks.tasks --processes 2            # all
    python -m benchmarks.tasks --tasks Reacher-v5       # one
    python -m benchmarks.tasks --compile                # updates are compiled: the same but for rounding, in less time
    python -m benchmarks.tasks --report                 # table and figure from the CSV alone

A run is one task with one seed. A finished run is in benchmarks/results/tasks.csv and does not run again without --fresh; its
logs are in benchmarks/logs.
"""

import argparse
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.learning import RESULTS, read_results, replace_results
from sb3_pgfd import Demonstrations
from sb3_pgfd.demonstrations.inspection.plots import new_figure
from sb3_pgfd.utils.files import hyperparams_file
from sb3_pgfd.zoo.hyperparameters import default_algorithm

LOGS = Path(__file__).parent / "logs"
RESULTS_FILE = RESULTS / "tasks.csv"
N_EPISODES = 50


@dataclass(frozen=True)
class Task:
    """An environment, and what each seed must reach at the end of its run."""

    env_id: str
    target: float | None
    seeds: int
    eval_freq: int
    by_success: bool = False
    """Whether the target is a success rate; otherwise it is a mean return"""


TASKS = (
    Task("FetchReach-v4", 0.95, 5, 500, by_success=True),
    Task("LunarLanderContinuous-v3", 200.0, 3, 5_000),
    Task("BipedalWalker-v3", 250.0, 2, 10_000),
    Task("Reacher-v5", -4.5, 2, 5_000),
    Task("FetchPush-v4", None, 1, 5_000, by_success=True),
    Task("FetchPickAndPlace-v4", None, 1, 5_000, by_success=True),
    Task("PointMaze_UMaze-v3", None, 1, 5_000, by_success=True),
    Task("PointMaze_Medium-v3", None, 1, 5_000, by_success=True),
    Task("SparsePegInsertSide-v3", 0.9, 1, 5_000, by_success=True),
    Task("SparseAssembly-v3", 0.9, 1, 5_000, by_success=True),
)


def hyperparameters_of(env_id: str) -> tuple[str, dict[str, Any]]:
    """:return: Name of the algorithm, and its entry for the environment"""
    algo = default_algorithm(env_id)
    return algo, yaml.safe_load(hyperparams_file(algo).read_text())[env_id]


def train(cell: tuple[Task, int], options: Sequence[str] = ()) -> tuple[tuple[Task, int], list[dict[str, Any]]]:
    """
    :param cell: Task and seed
    :param options: More options of ``sb3-pgfd train``
    :return: The cell and its rows
    """
    task, seed = cell
    algo, _ = hyperparameters_of(task.env_id)
    folder = LOGS / algo / task.env_id / f"seed_{seed}"
    run = ["--algo", algo, "--env", task.env_id, "--seed", str(seed), "--num-threads", "1", "-f", str(folder)]
    evaluation = ["--eval-freq", str(task.eval_freq), "--eval-episodes", str(N_EPISODES)]
    start = time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "output.txt").open("w") as output:
        command = [sys.executable, "-m", "sb3_pgfd.train", *run, *evaluation, *options]
        subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=output, stderr=output, check=True)
    # Folders with a smaller number are those of interrupted runs
    newest = max((folder / algo).glob(f"{task.env_id}_*"), key=lambda path: int(path.name.rsplit("_", 1)[1]))
    return cell, read_evaluations(newest / "evaluations.npz", time.perf_counter() - start)


def read_evaluations(path: Path, seconds: float) -> list[dict[str, Any]]:
    """:return: One row for each evaluation"""
    with np.load(path) as evaluations:
        returns, lengths = evaluations["results"], evaluations["ep_lengths"]
        successes = evaluations["successes"] if "successes" in evaluations.files else np.full(returns.shape, np.nan)
        steps = evaluations["timesteps"]
    return [
        {
            "steps": int(steps[k]),
            "mean_return": round(float(returns[k].mean()), 3),
            "worst_return": round(float(returns[k].min()), 3),
            "success": round(float(successes[k].mean()), 3),
            "length": round(float(lengths[k].mean()), 1),
            "seconds": round(seconds, 1),
        }
        for k in range(len(steps))
    ]


def demonstrations_of(task: Task) -> Demonstrations:
    """:return: The demonstrations that the tuned hyperparameters name"""
    return Demonstrations.load(hyperparameters_of(task.env_id)[1]["demonstrations"])


def report(rows: Sequence[dict[str, Any]]) -> None:
    """Print one line for each task that has results, and draw them all."""
    print("| task | demonstrations, their return | steps | measure, target | pretrained | at the end, each seed |")
    print("|---|---|---|---|---|---|")
    for task in TASKS:
        runs = runs_of(task, rows)
        if not runs:
            continue
        measure = "success" if task.by_success else "mean_return"
        kind, dataset = ("success" if task.by_success else "return"), demonstrations_of(task)
        known = f"{dataset.n_episodes}, {dataset.episode_returns.mean():.1f}"
        target = kind if task.target is None else f"{kind} >= {task.target:g}"
        first = ", ".join(f"{run[0][measure]:.2f}" for run in runs)
        last = ", ".join(f"{run[-1][measure]:.2f}" for run in runs)
        reached = "" if task.target is None else f" ({sum(run[-1][measure] >= task.target for run in runs)} of {len(runs)})"
        steps = f"{runs[0][-1]['steps']:,.0f}"
        print(f"| {task.env_id} | {known} | {steps} | {target} | {first} | {last}{reached} |")
    print(f"\nFigure: {draw(rows)}")


def runs_of(task: Task, rows: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """:return: The evaluations of each seed, in the order of steps"""
    mine = [row for row in rows if row["task"] == task.env_id]
    return [
        sorted((row for row in mine if row["seed"] == seed), key=lambda row: row["steps"])
        for seed in sorted({row["seed"] for row in mine})
    ]


def draw(rows: Sequence[dict[str, Any]]) -> Path:
    """:return: Path of the figure"""
    drawn = [task for task in TASKS if runs_of(task, rows)]
    n_rows = -(-len(drawn) // 3)
    figure = new_figure((12.0, 2.8 * n_rows))
    axes = list(figure.subplots(n_rows, 3, squeeze=False).flat)
    for axis in axes:
        axis.set_visible(False)
    for task, axis in zip(drawn, axes, strict=False):
        axis.set_visible(True)
        measure, dataset = ("success" if task.by_success else "mean_return"), demonstrations_of(task)
        for run in runs_of(task, rows):
            axis.plot([row["steps"] / 1000 for row in run], [row[measure] for row in run], color="C0", marker=".")
        known = dataset.successes if task.by_success else dataset.episode_returns
        if known is not None:
            axis.axhline(known.mean(), color="C2", linestyle="--", label=f"{dataset.n_episodes} demonstrations")
        if task.target is not None:
            axis.axhline(task.target, color="C3", linestyle=":", label="target")
        axis.set(title=task.env_id, ylabel="success" if task.by_success else "mean return")
        if task.by_success:
            axis.set_ylim(-0.05, 1.05)
        axis.set_xlabel("1,000 environment steps")
        axis.grid(alpha=0.3)
        axis.legend(loc="lower right", fontsize="small")
    path = RESULTS_FILE.with_suffix(".png")
    figure.savefig(path, dpi=80)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", metavar="ENV", help="default: all")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--compile", action="store_true", help="compile the updates")
    parser.add_argument("--report", action="store_true", help="run nothing")
    parser.add_argument("--fresh", action="store_true", help="repeat runs that are finished")
    args = parser.parse_args()
    tasks = [task for task in TASKS if args.tasks is None or task.env_id in args.tasks]
    done = set() if args.fresh else {(row["task"], row["seed"]) for row in read_results(RESULTS_FILE)}
    cells = [(task, seed) for task in tasks for seed in range(task.seeds) if (task.env_id, seed) not in done]
    if not args.report:
        with multiprocessing.get_context("spawn").Pool(args.processes) as pool:
            options = ["-params", "compile:True"] if args.compile else []
            for (task, seed), rows in pool.imap_unordered(partial(train, options=options), cells):
                replace_results(RESULTS_FILE, {"task": task.env_id, "seed": seed}, rows)
    # Of all tasks, also if one was run: the figure is one file
    report(read_results(RESULTS_FILE))


if __name__ == "__main__":
    main()
