"""The results: one CSV of evaluations and one of cells that failed, which several processes may write."""

import csv
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import suite_paths  # noqa: F401  # makes `learning` importable
from learning import read_results as read_results

from sb3_pgfd.utils.files import write_whole


@dataclass(frozen=True, order=True)
class Cell:
    """One run: a method with a seed on a task."""

    task: str
    method: str
    demos: int
    seed: int

    @property
    def columns(self) -> dict[str, Any]:
        """What tells its rows from others'"""
        return {"task": self.task, "method": self.method, "demos": self.demos, "seed": self.seed}

    def owns(self, row: Mapping[str, Any]) -> bool:
        """:param row: Of the results"""
        return all(row[name] == value for name, value in self.columns.items())

    def folder(self, logs: Path) -> Path:
        """:param logs: Where cells keep their checkpoints"""
        return logs / self.task / self.method / f"demos_{self.demos}" / f"seed_{self.seed}"

    def __str__(self) -> str:
        return f"{self.task} {self.method}, {self.demos} demonstrations, seed {self.seed}"


def fingerprint(settings: Mapping[str, Any]) -> str:
    """:return: Eight letters that change when the settings do"""
    return hashlib.sha1(json.dumps(settings, sort_keys=True, default=repr).encode()).hexdigest()[:8]


def failures_file(results: Path) -> Path:
    """:param results: The CSV of evaluations"""
    return results.with_name(f"{results.stem}_failures.csv")


def is_finished(results: Sequence[Mapping[str, Any]], cell: Cell, config: str, last_step: int) -> bool:
    """
    :param results: Rows of the CSV
    :param cell: A run
    :param config: Fingerprint of its settings
    :param last_step: At which it ends
    :return: Whether its results are there, with these settings
    """
    return any(row["config"] == config and row["steps"] >= last_step for row in results if cell.owns(row))


def store(results: Path, cell: Cell, rows: Sequence[Mapping[str, Any]]) -> None:
    """
    Replace what the CSV has of a cell, and forget that it failed.

    :param results: The CSV
    :param cell: Whose rows these are
    :param rows: Evaluations
    """
    _replace(results, cell, [{**cell.columns, **row} for row in rows])
    if failures_file(results).is_file():
        _replace(failures_file(results), cell, [])


def store_failure(results: Path, cell: Cell, steps: int, error: str) -> None:
    """
    :param results: The CSV of evaluations, beside which failures are kept
    :param cell: That failed
    :param steps: Of its last checkpoint
    :param error: What happened
    """
    _replace(failures_file(results), cell, [{**cell.columns, "steps": steps, "error": " ".join(error.split())}])


def _replace(path: Path, cell: Cell, rows: Sequence[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.parent):
        kept: list[Mapping[str, Any]] = [row for row in read_text(path) if not cell.owns(_numbers(row))]
        rows = [*kept, *rows]
        if not rows:
            path.unlink(missing_ok=True)
            return
        with write_whole(path, overwrite=True) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[-1]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


def read_text(path: Path) -> list[dict[str, Any]]:
    """:return: Rows as they are written, so that the others' stay to the last digit"""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _numbers(row: Mapping[str, str]) -> dict[str, Any]:
    return {name: float(value) if name in ("demos", "seed") else value for name, value in row.items()}


@contextmanager
def locked(folder: Path, wait: bool = True) -> Iterator[None]:
    """
    One process at a time. The folder is what is locked, so that no file is left, and a process that is killed holds nothing.

    :param folder: Which is there
    :param wait: Until the others are done
    :raises BlockingIOError: If another process has it, and this one does not wait
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(handle)
