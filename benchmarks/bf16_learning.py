"""
Whether learning with products in bfloat16 loses anything: DDPGfD and TD3fD on Pendulum-v1, and TD3fD on peg-insert-side of the
sparse suite, each with ``policy_kwargs={"precision": "float32"}`` and ``"bf16"``, three seeds, one core for each run.

    python -m benchmarks.bf16_learning --processes 16

A finished run is in benchmarks/results/bf16_learning.csv or bf16_learning_peg.csv and does not run again.
"""

import argparse
import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import torch as th

from benchmarks.learning import RESULTS, Benchmark, Evaluations, make_model, read_results, replace_results

PRECISIONS = ("float32", "bf16")
PEG = "peg-insert-side"
PENDULUM = "Pendulum-v1"
Run = tuple[str, str, str, int, argparse.Namespace]
"""Task, algorithm, precision, seed, and the options of the command"""


def path_of(task: str, results: Path) -> Path:
    """:return: The CSV of a task"""
    return results / ("bf16_learning_peg.csv" if task == PEG else "bf16_learning.csv")


def run(one: Run) -> tuple[Run, list[dict[str, Any]]]:
    """:return: The run, and its rows of the CSV; none of the peg's, which the suite writes itself"""
    task, algorithm, precision, seed, args = one
    th.set_num_threads(1)
    if task == PEG:
        # Meta-World is needed for this task alone
        from benchmarks.sparse_suite import run_cell

        options = f"--task {PEG} --method td3fd_plain --seed {seed}"
        options += f" --set policy_kwargs.precision={precision} --label td3fd_{precision}"
        options += f" --results {path_of(task, args.results)} --logs {args.results / 'logs'}"
        options += "" if args.peg_steps is None else f" --steps {args.peg_steps}"
        run_cell.main(options.split())
        return one, []
    steps = args.pendulum_steps
    evaluations = Evaluations(Benchmark(PENDULUM, steps, (steps // 2, steps), target=-165.0, n_evaluations=args.evaluations))
    model = make_model(algorithm, PENDULUM, seed, {"precision": precision})
    model.learn(steps, callback=evaluations)
    return one, evaluations.rows


def report(results: Path) -> None:
    """Print the last score of each seed."""
    for task, score in ((PENDULUM, "mean_return"), (PEG, "success")):
        rows = read_results(path_of(task, results))
        names = ("method",) if task == PEG else ("algorithm", "configuration")
        for name in dict.fromkeys(tuple(row[column] for column in names) for row in rows):
            found = [row for row in rows if tuple(row[column] for column in names) == name]
            last = max(row["steps"] for row in found)
            scores = [row[score] for row in sorted(found, key=lambda row: row["seed"]) if row["steps"] == last]
            each = ", ".join(f"{value:.2f}" for value in scores)
            print(f"{task:<18}{' '.join(name):<20}{score} after {last:,.0f} steps: {np.mean(scores):.2f} ({each})")


def main() -> None:
    """Run what is missing, then report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0 to N - 1")
    parser.add_argument("--tasks", nargs="+", choices=[PENDULUM, PEG], default=[PENDULUM, PEG])
    parser.add_argument("--pendulum-steps", type=int, default=5_000)
    parser.add_argument("--peg-steps", type=int, help="default: the suite's")
    parser.add_argument("--evaluations", type=int, default=100, help="episodes of an evaluation on Pendulum")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FOLDER")
    args = parser.parse_args()
    kinds = [(PENDULUM, "DDPGfD"), (PENDULUM, "TD3fD"), (PEG, "TD3fD")]
    runs = [
        (*kind, precision, seed, args)
        # The longest ones first
        for kind in reversed(kinds)
        for seed in range(args.seeds)
        for precision in PRECISIONS
        if kind[0] in args.tasks
    ]
    done = {(row["algorithm"], row["configuration"], row["seed"]) for row in read_results(path_of(PENDULUM, args.results))}
    todo = [one for one in runs if one[0] == PEG or one[1:4] not in done]
    with multiprocessing.get_context("spawn").Pool(args.processes) as pool:
        for (task, algorithm, precision, seed, _), rows in pool.imap_unordered(run, todo):
            if rows:
                columns = {"algorithm": algorithm, "configuration": precision, "seed": seed}
                replace_results(path_of(task, args.results), columns, rows)
    report(args.results)


if __name__ == "__main__":
    main()
