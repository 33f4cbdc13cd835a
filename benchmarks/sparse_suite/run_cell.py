"""
One cell of the benchmark: a method with a seed on a task.

    python -m benchmarks.sparse_suite.run_cell --task peg-insert-side --method td3fd --seed 0

The cell is evaluated before the first step and every 5,000 steps. An interrupted cell continues from its last evaluation
(benchmarks/logs/sparse_suite). A finished cell is in benchmarks/results/sparse_suite.csv and does not run again. A failed cell
is named in benchmarks/results/sparse_suite_failures.csv until it succeeds.

    --set n_steps=10 policy_kwargs.n_critics=5 --label my_try --results my_tries.csv

runs other settings under another name and writes to another file.
"""

import argparse
import shutil
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from benchmarks.sparse_suite.methods import METHODS, with_changes
from benchmarks.sparse_suite.results import LOGS, RESULTS_FILE, Cell, store_failure
from benchmarks.sparse_suite.run import Run, find_checkpoint, read_progress, run_cell
from benchmarks.sparse_suite.tasks import TASKS


def parse(arguments: Sequence[str] | None = None) -> tuple[Run, bool]:
    """
    :param arguments: Arguments of the command line
    :return: The run, and whether to ignore the checkpoint of an interrupted process
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", required=True, choices=TASKS)
    parser.add_argument("--method", required=True, choices=METHODS)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--demos", type=int, metavar="N", help="number of demonstrated episodes; default: the task's")
    parser.add_argument("--steps", type=int, metavar="N", help="environment steps; default: the task's")
    parser.add_argument("--eval-freq", type=int, default=5_000, metavar="N", help="steps between evaluations")
    parser.add_argument("--eval-episodes", type=int, default=50, metavar="N")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="change settings of the method")
    parser.add_argument("--label", help="name in the results; default: the name of the method")
    parser.add_argument("--results", type=Path, default=RESULTS_FILE, metavar="FILE", help="CSV to write to")
    parser.add_argument("--logs", type=Path, default=LOGS, metavar="FOLDER", help="folder of the checkpoints")
    parser.add_argument("--compile", action="store_true", help="compile the updates of this package's algorithms")
    parser.add_argument("--fresh", action="store_true", help="ignore a checkpoint")
    args = parser.parse_args(arguments)
    if args.set and args.label is None and args.results == RESULTS_FILE:
        parser.error("found --set without --label, expected another name for the other settings")
    changes = dict(_setting(parser, text) for text in args.set)
    task, method = TASKS[args.task], METHODS[args.method]
    if not method.is_for(task):
        parser.error(f"found --method {args.method} --task {args.task}, expected a task that this method can run on")
    demos = (task.n_demos if args.demos is None else args.demos) if method.uses_demonstrations else 0
    if demos == 0 and args.method == "bc":
        parser.error(f"found --method {args.method} without demonstrations, expected at least 1: it learns from nothing else")
    run = Run(
        Cell(task.name, args.label or args.method, demos, args.seed),
        task,
        method,
        with_changes(method.settings_for(task), changes),
        steps=args.steps or task.steps,
        eval_freq=args.eval_freq,
        n_episodes=args.eval_episodes,
        results=args.results,
        logs=args.logs,
        compile=args.compile,
    )
    return run, args.fresh


def _setting(parser: argparse.ArgumentParser, text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        parser.error(f"--set: found {text!r}, expected KEY=VALUE")
    loaded = yaml.safe_load(value)
    # YAML reads 1e-3 as text
    try:
        return name, float(loaded) if isinstance(loaded, str) else loaded
    except ValueError:
        return name, loaded


def main(arguments: Sequence[str] | None = None) -> int:
    """
    :param arguments: Arguments of the command line
    :return: 1 if the cell failed
    """
    run, fresh = parse(arguments)
    checkpoint = find_checkpoint(run.folder)
    if fresh and checkpoint is not None:
        shutil.rmtree(run.folder)
    try:
        ran = run_cell(run)
    except Exception as error:  # noqa: BLE001  # the report names every failure
        traceback.print_exc()
        checkpoint = find_checkpoint(run.folder)
        steps = 0 if checkpoint is None else read_progress(checkpoint).steps
        store_failure(run.results, run.cell, steps, f"{type(error).__name__}: {error}")
        return 1
    if not ran:
        print(f"{run.cell}: already in {run.results}, not run again")
    return 0


if __name__ == "__main__":
    sys.exit(main())
