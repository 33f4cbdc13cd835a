"""
All cells of the benchmark, several at a time.

    python -m benchmarks.sparse_suite.grid --processes 2
    python -m benchmarks.sparse_suite.grid --part curves --methods td3fd bc
    python -m benchmarks.sparse_suite.grid --list                              # runs nothing

Each cell is a process (run_cell.py) with its output in benchmarks/logs/sparse_suite/output. Finished cells do not run again. A
cell that fails does not stop the others: it is named at the end, and the exit status is 1. After Ctrl-C the same command
continues where it stopped.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.learning import read_results
from benchmarks.sparse_suite.cells import PARTS, Selection, runs_of_grid, status_of
from benchmarks.sparse_suite.methods import METHODS
from benchmarks.sparse_suite.results import (
    BENCHMARKS,
    LOGS,
    RESULTS_FILE,
    failures_file,
    is_finished,
    store_failure,
)
from benchmarks.sparse_suite.run import Run
from benchmarks.sparse_suite.tasks import TASKS


@dataclass
class Worker:
    """A running cell."""

    run: Run
    process: subprocess.Popen[bytes]
    output: Path
    start: float = field(default_factory=time.perf_counter)


def start_process(run: Run, options: Sequence[str]) -> Worker:
    """
    Start the process of a cell.

    :param run: Run to start
    :param options: More options of run_cell.py
    """
    cell = run.cell
    output = run.logs / "output" / f"{cell.task}_{cell.method}_{cell.demos}_{cell.seed}.txt"
    output.parent.mkdir(parents=True, exist_ok=True)
    arguments = ["--task", cell.task, "--method", cell.method, "--seed", str(cell.seed), "--demos", str(cell.demos)]
    files = ["--results", str(run.results.resolve()), "--logs", str(run.logs.resolve())]
    with output.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.sparse_suite.run_cell", *arguments, *files, *options],
            # `-m` looks for the module in the working directory
            cwd=BENCHMARKS.parent,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=file,
            stderr=subprocess.STDOUT,
            # Ctrl-C reaches the grid alone, which then ends its cells
            start_new_session=True,
        )
    return Worker(run, process, output)


def error_of(worker: Worker) -> str | None:
    """
    :param worker: A cell with a finished process
    :return: The error, None if there was none
    """
    status = worker.process.returncode
    if status == 0:
        return None
    lines = worker.output.read_text(errors="replace").strip().splitlines()
    said = lines[-1] if lines else "no output"
    # A killed process could not store its failure itself
    if status != 1 or not any(worker.run.cell.owns(row) for row in read_results(failures_file(worker.run.results))):
        said = f"killed by signal {-status}" if status < 0 else said
        store_failure(worker.run.results, worker.run.cell, 0, said)
    return said


def run_all(todo: Sequence[Run], n_processes: int, options: Sequence[str] = ()) -> int:
    """
    Run cells.

    :param todo: Runs, in this order
    :param n_processes: Number of processes at a time
    :param options: More options of run_cell.py
    :return: Number of failures
    """
    waiting, workers, begin = list(todo), list[Worker](), time.perf_counter()
    n_done = n_failed = 0
    try:
        while waiting or workers:
            while waiting and len(workers) < n_processes:
                workers.append(start_process(waiting.pop(0), options))
            time.sleep(0.2)
            for worker in [worker for worker in workers if worker.process.poll() is not None]:
                workers.remove(worker)
                error = error_of(worker)
                n_done, n_failed = n_done + 1, n_failed + (error is not None)
                left = (time.perf_counter() - begin) / n_done * (len(todo) - n_done)
                took = f"{(time.perf_counter() - worker.start) / 60:.1f} min"
                what = f"FAILED, {error}, see {worker.output}" if error else took
                print(f"[{n_done}/{len(todo)}] {worker.run.cell}: {what}; about {left / 3600:.1f} h left", flush=True)
    finally:
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            worker.process.wait()
    return n_failed


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """:param arguments: Arguments of the command line"""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, metavar="TASK", help=", ".join(TASKS))
    parser.add_argument("--methods", nargs="+", choices=METHODS, metavar="METHOD", help=", ".join(METHODS))
    parser.add_argument("--seeds", type=int, metavar="N", help="seeds 0 to N - 1, where the method has so many")
    parser.add_argument("--part", nargs="+", choices=PARTS, help="default: all")
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
            run_all(todo, args.processes, options)
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
