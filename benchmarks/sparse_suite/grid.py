"""
All cells of the benchmark, several at a time.

    python benchmarks/sparse_suite/grid.py --processes 2
    python benchmarks/sparse_suite/grid.py --part curves --methods ddpgfd bc
    python benchmarks/sparse_suite/grid.py --list                              # runs nothing

Each cell is a process (run_cell.py), whose output goes to benchmarks/logs/sparse_suite/output. Finished cells are not run
again. A cell that fails does not stop the others; it is named at the end, and the exit status is 1. After Ctrl-C the same
command goes on where this one stopped.
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

from suite_grid import PARTS, Selection, runs_of_grid, status_of
from suite_methods import METHODS
from suite_paths import LOGS, RESULTS_FILE
from suite_results import failures_file, is_finished, read_results, store_failure
from suite_run import Run
from suite_tasks import TASKS

RUN_CELL = Path(__file__).parent / "run_cell.py"


@dataclass
class Worker:
    """A cell under way."""

    run: Run
    process: subprocess.Popen[bytes]
    output: Path
    start: float = field(default_factory=time.perf_counter)


def start(run: Run, options: Sequence[str]) -> Worker:
    """
    :param run: What to run
    :param options: Further ones of run_cell.py
    """
    cell = run.cell
    output = run.logs / "output" / f"{cell.task}_{cell.method}_{cell.demos}_{cell.seed}.txt"
    output.parent.mkdir(parents=True, exist_ok=True)
    arguments = ["--task", cell.task, "--method", cell.method, "--seed", str(cell.seed), "--demos", str(cell.demos)]
    files = ["--results", str(run.results), "--logs", str(run.logs)]
    with output.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, str(RUN_CELL), *arguments, *files, *options],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=file,
            stderr=subprocess.STDOUT,
            # Ctrl-C is for the grid, which then ends its cells
            start_new_session=True,
        )
    return Worker(run, process, output)


def end(worker: Worker) -> str | None:
    """
    :param worker: Whose process is over
    :return: What went wrong
    """
    status = worker.process.returncode
    if status == 0:
        return None
    lines = worker.output.read_text(errors="replace").strip().splitlines()
    said = lines[-1] if lines else "no output"
    # It could not say so itself
    if status != 1 or not any(worker.run.cell.owns(row) for row in read_results(failures_file(worker.run.results))):
        said = f"killed by signal {-status}" if status < 0 else said
        store_failure(worker.run.results, worker.run.cell, 0, said)
    return said


def work(todo: Sequence[Run], n_processes: int, options: Sequence[str] = ()) -> int:
    """
    :param todo: Cells, in this order
    :param n_processes: How many at a time
    :param options: Further ones of run_cell.py
    :return: How many failed
    """
    waiting, workers, begin = list(todo), list[Worker](), time.perf_counter()
    n_done = n_failed = 0
    try:
        while waiting or workers:
            while waiting and len(workers) < n_processes:
                workers.append(start(waiting.pop(0), options))
            time.sleep(0.2)
            for worker in [worker for worker in workers if worker.process.poll() is not None]:
                workers.remove(worker)
                error = end(worker)
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
    """:param arguments: Of the command line"""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, metavar="TASK", help=", ".join(TASKS))
    parser.add_argument("--methods", nargs="+", choices=METHODS, metavar="METHOD", help=", ".join(METHODS))
    parser.add_argument("--seeds", type=int, metavar="N", help="seeds 0 to N - 1, of methods that have as many")
    parser.add_argument("--part", nargs="+", choices=PARTS, help="by default all")
    parser.add_argument("--list", action="store_true", help="say what is done and what is not, and run nothing")
    parser.add_argument("--steps", type=int, metavar="N", help="environment steps, by default the task's")
    parser.add_argument("--eval-freq", type=int, metavar="N")
    parser.add_argument("--eval-episodes", type=int, metavar="N")
    parser.add_argument("--results", type=Path, default=RESULTS_FILE, metavar="FILE")
    parser.add_argument("--logs", type=Path, default=LOGS, metavar="FOLDER")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """
    :param arguments: Of the command line
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
        # Whoever ends the grid ends its cells
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        rows = read_results(args.results)
        todo = [run for run in runs if not is_finished(rows, run.cell, run.config, run.last_step)]
        print(f"{len(runs)} cells, {len(todo)} to run", flush=True)
        try:
            work(todo, args.processes, options)
        except KeyboardInterrupt:
            print("interrupted: the same command goes on", flush=True)
            return 130
    status = status_of(runs, read_results(args.results), read_results(failures_file(args.results)))
    for kind in ("failed", "other settings", "missing") if args.list else ("failed",):
        for line in status[kind]:
            print(f"{kind}: {line}")
    print(", ".join(f"{len(lines)} {kind}" for kind, lines in status.items()))
    return 1 if status["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
