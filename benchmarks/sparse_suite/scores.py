"""The score of a run, statistics over seeds, and how steady a run is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.sparse_suite.results import Cell
from sb3_pgfd.comparison.curves import MIN_SEEDS, interquartile_mean, interval_over_seeds

CONFIDENCE, RESAMPLES = 0.95, 2000
N_LAST = 3
"""The score is the mean of so many evaluations"""
GOOD = 0.9


@dataclass(frozen=True)
class Estimate:
    """Interquartile mean over seeds with its bootstrap interval, or below five seeds their range."""

    value: float
    low: float
    high: float
    n_seeds: int

    def __str__(self) -> str:
        if self.n_seeds == 1:
            return f"{self.value:.2f}"
        if self.n_seeds < MIN_SEEDS:
            return f"{self.value:.2f} (range of {self.n_seeds} seeds: {self.low:.2f} to {self.high:.2f})"
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


@dataclass(frozen=True)
class Outcome:
    """The evaluations of a cell in the order of steps."""

    cell: Cell
    steps: np.ndarray
    successes: np.ndarray
    seconds: float
    """Processor time of learning and evaluating"""

    def score(self, last_step: float = np.inf) -> float:
        """
        :param last_step: Later evaluations are left out
        :return: Mean success of the last three evaluations (a method that takes no steps has one)
        """
        return float(self.successes[self.steps <= last_step][-N_LAST:].mean())

    def first_good(self) -> float | None:
        """:return: Steps at the first evaluation of 0.9 or more, None if there is none"""
        good = np.flatnonzero(self.successes >= GOOD)
        return float(self.steps[good[0]]) if len(good) else None

    def lowest_after_good(self) -> float | None:
        """:return: The lowest evaluation after the first of 0.9 or more, None if there is none"""
        good = np.flatnonzero(self.successes >= GOOD)
        later = self.successes[good[0] + 1 :] if len(good) else good
        return float(later.min()) if len(later) else None


def outcomes_of(rows: Sequence[Mapping[str, Any]]) -> list[Outcome]:
    """
    :param rows: Rows of the results in any order
    :return: One outcome per cell, in the order of tasks, methods, numbers of demonstrations and seeds
    """
    by_cell: dict[Cell, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_cell.setdefault(Cell.of(row), []).append(row)
    outcomes = []
    for cell in sorted(by_cell):
        own = sorted(by_cell[cell], key=lambda row: row["steps"])
        steps, successes = (np.array([row[name] for row in own]) for name in ("steps", "success"))
        outcomes.append(Outcome(cell, steps, successes, own[-1]["seconds"] + own[-1]["evaluation_seconds"]))
    return outcomes


def select(outcomes: Sequence[Outcome], task: str, method: str, demos: int) -> list[Outcome]:
    """:return: The outcomes of a method on a task with this number of demonstrations, one per seed"""
    return [item for item in outcomes if (item.cell.task, item.cell.method, item.cell.demos) == (task, method, demos)]


def estimate(values: Sequence[float]) -> Estimate | None:
    """
    :param values: One score per seed
    :return: None without any seed
    """
    if not values:
        return None
    (curve,) = estimate_curve(np.array(values)[:, None])
    return curve


def estimate_curve(scores: np.ndarray) -> list[Estimate]:
    """
    :param scores: Shape ``(n_seeds, k)``
    :return: k estimates
    """
    values = low = high = interquartile_mean(scores)
    if len(scores) > 1:
        low, high = interval_over_seeds(scores, interquartile_mean, RESAMPLES, CONFIDENCE)
    return [Estimate(float(v), float(a), float(b), len(scores)) for v, a, b in zip(values, low, high, strict=True)]


def curve_of(outcomes: Sequence[Outcome]) -> tuple[np.ndarray, list[Estimate]]:
    """
    :param outcomes: One per seed, at least one
    :return: Steps at which all seeds were evaluated, shape ``(k,)``, and k estimates of the success rate
    """
    steps = outcomes[0].steps
    for outcome in outcomes[1:]:
        steps = np.intersect1d(steps, outcome.steps)
    successes = np.array([outcome.successes[np.isin(outcome.steps, steps)] for outcome in outcomes])
    return steps, estimate_curve(successes)
