"""
All cells of the benchmark, several at a time.

    python -m benchmarks.sparse_suite.grid --processes 2 --compile
    python -m benchmarks.sparse_suite.grid --part main --methods td3fd bc
    python -m benchmarks.sparse_suite.grid --list                              # runs nothing

    python -m benchmarks.sparse_suite.grid --processes 40 --address HEAD:6379  # on a cluster of Ray (docs/distributed.md)

Each cell is a task of Ray (run_cell.py) in a process of its own, with its output in benchmarks/logs/sparse_suite/output.
Finished cells do not run again. A cell that fails does not stop the others: it is named at the end, and the exit status is 1.
After Ctrl-C the same command continues where it stopped.
"""

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from benchmarks.learning import read_results
from benchmarks.sparse_suite import run_cell
from benchmarks.sparse_suite.cells import PARTS, Selection, runs_of_grid, status_of
from benchmarks.sparse_suite.methods import METHODS
from benchmarks.sparse_suite.results import LOGS, RESULTS_FILE, failures_file, is_finished, store_failure
from benchmarks.sparse_suite.run import Run
from benchmarks.sparse_suite.tasks import TASKS
from sb3_pgfd.distributed import Job, Outcome, run_jobs


def output_of(run: Run) -> Path:
    """:return: File of what a cell prints"""
    cell = run.cell
    return run.logs / "output" / f"{cell.task}_{cell.method}_{cell.demos}_{cell.seed}.txt"


def job_of(run: Run, options: Sequence[str]) -> Job:
    """
    :param run: Run to start
    :param options: More options of run_cell.py
    """
    cell = run.cell
    arguments = ["--task", cell.task, "--method", cell.method, "--seed", str(cell.seed), "--demos", str(cell.demos)]
    files = ["--results", str(run.results.resolve()), "--logs", str(run.logs.resolve())]
    return Job(str(cell), _run_cell, ([*arguments, *files, *options], output_of(run).resolve()))


def _run_cell(arguments: Sequence[str], output: Path) -> int:
    """:return: 1 if the cell failed. Ray runs it in a process of its own"""
    output.parent.mkdir(parents=True, exist_ok=True)
    with output.open("w", buffering=1) as file, redirect_stdout(file), redirect_stderr(file):
        return run_cell.main(arguments)


def error_of(run: Run, outcome: Outcome) -> str | None:
    """
    :param run: A cell that has ended
    :param outcome: What became of it
    :return: The error, None if there was none
    """
    if outcome.error is not None:
        # A killed process could not store its failure itself
        store_failure(run.results, run.cell, 0, outcome.reason)
        return outcome.reason
    lines = output_of(run).read_text(errors="replace").strip().splitlines() if outcome.value else []
    return (lines[-1] if lines else "no output") if outcome.value else None


def run_all(
    todo: Sequence[Run], n_processes: int, options: Sequence[str] = (), address: str | None = None, retries: int = 1
) -> int:
    """
    Run cells.

    :param todo: Runs, in this order
    :param n_processes: Number of processes at a time
    :param options: More options of run_cell.py
    :param address: Of Ray's cluster, None: as Ray finds it, or this machine
    :param retries: How often a cell whose process dies goes on from its checkpoint
    :return: Number of failures
    """
    begin, n_failed = time.perf_counter(), 0
    runs = {str(run.cell): run for run in todo}
    jobs = [job_of(run, options) for run in todo]
    for n_done, outcome in enumerate(run_jobs(jobs, n_processes, retries, address), start=1):
        run = runs[outcome.job.name]
        error = error_of(run, outcome)
        n_failed += error is not None
        left = (time.perf_counter() - begin) / n_done * (len(todo) - n_done)
        took = f"{outcome.seconds / 60:.1f} min"
        what = f"FAILED, {error}, see {output_of(run)}" if error else took
        print(f"[{n_done}/{len(todo)}] {run.cell}: {what}; about {left / 3600:.1f} h left", flush=True)
    return n_failed


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """:param arguments: Arguments of the command line"""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--address", help="of Ray's cluster; default: RAY_ADDRESS, or this machine")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, metavar="TASK", help=", ".join(TASKS))
    parser.add_argument("--methods", nargs="+", choices=METHODS, metavar="METHOD", help=", ".join(METHODS))
    parser.add_argument("--seeds", type=int, metavar="N", help="seeds 0 to N - 1, where the method has so many")
    parser.add_argument("--part", nargs="+", choices=PARTS, help="default: all")
    parser.add_argument("--compile", action="store_true", help="compile the updates of this package's algorithms")
    parser.add_argument("--list", action="store_true", help="list what is finished and what is not, and run nothing")
    parser.add_argument("--steps", type=int, metavar="N", help="environment steps; default: the task's")
    parser.add_argument("--eval-freq", type=int, metavar="N")
    parser.add_argument("--eval-episodes", type=int, metavar="N")
    parser.add_argument("--results", type=Path, default=RESULTS_FILE, metavar="FILE")
    parser.add_argument("--logs", type=Path, default=LOGS, metavar="FOLDER")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """
    :param arguments: Arguments of the command line
    :return: 1 if a cell failed
    """
    args = parse(arguments)
    changes = {
        name: value
        for name, value in (("steps", args.steps), ("eval_freq", args.eval_freq), ("n_episodes", args.eval_episodes))
        if value is not None
    }
    flags = {"steps": "--steps", "eval_freq": "--eval-freq", "n_episodes": "--eval-episodes"}
    options = [text for name, value in changes.items() for text in (flags[name], str(value))]
    options += ["--compile"] if args.compile else []
    runs = runs_of_grid(
        Selection(args.tasks, args.methods, args.seeds, args.part), results=args.results, logs=args.logs, **changes
    )
    if not args.list:
        # Ending the grid ends its cells
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        rows = read_results(args.results)
        todo = [run for run in runs if not is_finished(rows, run.cell, run.config, run.last_step)]
        print(f"{len(runs)} cells, {len(todo)} to run", flush=True)
        try:
            run_all(todo, args.processes, options, args.address)
        except KeyboardInterrupt:
            print("interrupted: the same command continues", flush=True)
            return 130
    status = status_of(runs, read_results(args.results), read_results(failures_file(args.results)))
    for kind in ("failed", "other settings", "missing") if args.list else ("failed",):
        for line in status[kind]:
            print(f"{kind}: {line}")
    print(", ".join(f"{len(lines)} {kind}" for kind, lines in status.items()))
    return 1 if status["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
