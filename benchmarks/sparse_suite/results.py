"""The files of results: one CSV of evaluations and one of failed cells. Several processes may write them."""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.learning import replace_results

BENCHMARKS = Path(__file__).resolve().parents[1]
LOGS = BENCHMARKS / "logs" / "sparse_suite"
RESULTS_FILE = BENCHMARKS / "results" / "sparse_suite.csv"


@dataclass(frozen=True, order=True)
class Cell:
    """One run: a method with a seed on a task."""

    task: str
    method: str
    demos: int
    seed: int

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "Cell":
        """:param row: Row of the results"""
        return cls(row["task"], row["method"], int(row["demos"]), int(row["seed"]))

    @property
    def columns(self) -> dict[str, Any]:
        """The columns that identify its rows"""
        return {"task": self.task, "method": self.method, "demos": self.demos, "seed": self.seed}

    def owns(self, row: Mapping[str, Any]) -> bool:
        """:param row: Row of the results"""
        return all(row[name] == value for name, value in self.columns.items())

    def folder(self, logs: Path) -> Path:
        """:param logs: Folder for the checkpoints of all cells"""
        return logs / self.task / self.method / f"demos_{self.demos}" / f"seed_{self.seed}"

    def __str__(self) -> str:
        return f"{self.task} {self.method}, {self.demos} demonstrations, seed {self.seed}"


def fingerprint(settings: Mapping[str, Any]) -> str:
    """:return: Eight letters that change when the settings change"""
    return hashlib.sha1(json.dumps(settings, sort_keys=True, default=repr).encode()).hexdigest()[:8]


def failures_file(results: Path) -> Path:
    """:param results: The CSV of evaluations"""
    return results.with_name(f"{results.stem}_failures.csv")


def is_finished(results: Sequence[Mapping[str, Any]], cell: Cell, config: str, last_step: int) -> bool:
    """
    :param results: Rows of the CSV
    :param cell: A run
    :param config: Fingerprint of its settings
    :param last_step: Last step of the run
    :return: Whether the results of the whole run are there, with these settings
    """
    return any(row["config"] == config and row["steps"] >= last_step for row in results if cell.owns(row))


def store(results: Path, cell: Cell, rows: Sequence[Mapping[str, Any]]) -> None:
    """
    Replace the rows of a cell in the CSV, and remove its failure.

    :param results: The CSV of evaluations
    :param cell: The run
    :param rows: Its evaluations
    """
    _replace(results, cell, rows)
    if failures_file(results).is_file():
        _replace(failures_file(results), cell, [])


def store_failure(results: Path, cell: Cell, steps: int, error: str) -> None:
    """
    :param results: The CSV of evaluations; failures are stored beside it
    :param cell: The run that failed
    :param steps: Steps at its last checkpoint
    :param error: Error message
    """
    _replace(failures_file(results), cell, [{"steps": steps, "error": " ".join(error.split())}])


def _replace(path: Path, cell: Cell, rows: Sequence[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.parent):
        replace_results(path, cell.columns, rows)


@contextmanager
def locked(folder: Path, wait: bool = True) -> Iterator[None]:
    """
    Let one process at a time into a folder. The lock is on the folder itself: no file is left behind, and a killed process
    holds no lock.

    :param folder: Existing folder
    :param wait: Whether to wait for the other process
    :raises BlockingIOError: If another process has the lock and ``wait`` is False
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(handle)
