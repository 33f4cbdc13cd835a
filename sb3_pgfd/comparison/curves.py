"""Learning curves over seeds: a common grid of steps, a statistic, its interval, and a CSV file of the numbers."""

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sb3_pgfd.comparison.runs import ComparisonError, Run
from sb3_pgfd.utils.files import write_whole

# From scores of shape (n_seeds, k) to shape (k,)
Statistic = Callable[[np.ndarray], np.ndarray]


def interquartile_mean(scores: np.ndarray) -> np.ndarray:
    """Mean without the lowest and the highest quarter of the seeds; with fewer than 4 seeds, the mean."""
    n_cut = len(scores) // 4
    return np.sort(scores, axis=0)[n_cut : len(scores) - n_cut].mean(axis=0)


STATISTICS: dict[str, Statistic] = {
    "mean": lambda scores: scores.mean(axis=0),
    "iqm": interquartile_mean,
    "median": lambda scores: np.median(scores, axis=0),
}


def bootstrap_interval(
    scores: np.ndarray, statistic: Statistic, reps: int = 2000, confidence: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """
    Percentile bootstrap over the seeds. rliable's stratified bootstrap of a single task is the same.

    :param scores: Shape ``(n_seeds, k)``
    :param confidence: Share of the ``reps`` resamples inside the interval, whose ends have shape ``(k,)``
    """
    rng, n = np.random.default_rng(0), len(scores)
    estimates = np.array([statistic(scores[rng.integers(n, size=n)]) for _ in range(reps)])
    low, high = np.quantile(estimates, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    return low, high


# Resamples of fewer seeds reach hardly beyond the seeds themselves, and hold too little for their confidence
MIN_SEEDS = 5


def interval_over_seeds(
    scores: np.ndarray, statistic: Statistic, reps: int = 2000, confidence: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """
    :param scores: Shape ``(n_seeds, k)``
    :return: The ends of the bootstrap interval from five seeds on, otherwise the lowest and the highest seed
    """
    if len(scores) < MIN_SEEDS:
        return scores.min(axis=0), scores.max(axis=0)
    return bootstrap_interval(scores, statistic, reps, confidence)


@dataclass(frozen=True, eq=False)
class Band:
    """A statistic over seeds and its interval, below five seeds their range, None of one seed; shape ``(k,)``, float64."""

    values: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Curve:
    """All seeds of one label in one environment; k is the number of steps on their grid."""

    env: str
    label: str
    runs: tuple[Run, ...]
    timesteps: np.ndarray
    """Shape ``(k,)``, float64"""
    returns: Band
    successes: Band | None
    """None unless every seed has success rates"""

    def at(self, index: int) -> dict[str, float | None]:
        """:return: ``return``, ``success`` and the ends of their intervals (``_low``, ``_high``) at a step; None if unknown"""
        row: dict[str, float | None] = {}
        for name, band in (("return", self.returns), ("success", self.successes)):
            for end, field in (("", "values"), ("_low", "low"), ("_high", "high")):
                array = getattr(band, field, None)
                row[name + end] = None if array is None else float(array[index])
        return row


def aggregate(
    runs: Sequence[Run], statistic: str = "mean", confidence: float = 0.95, reps: int = 2000, max_timesteps: int | None = None
) -> tuple[list[Curve], list[str]]:
    """
    :param runs: Labelled runs
    :param statistic: Statistic over the seeds: ``"mean"``, ``"iqm"`` (interquartile mean) or ``"median"``
    :param confidence: Confidence of the pointwise intervals, which curves of five or more seeds have; fewer have their range
    :param reps: Number of bootstrap resamples
    :param max_timesteps: Leave out later evaluations
    :return: Curves, sorted by environment and then in the order of their labels, and notes on doubtful ones
    :raises ComparisonError: If an argument has no meaning or no curve is left
    """
    if statistic not in STATISTICS or not 0.0 < confidence < 1.0 or reps < 1:
        raise ComparisonError(
            f"found statistic={statistic!r}, confidence={confidence}, reps={reps}, expected one of {', '.join(STATISTICS)}, a "
            "number between 0 and 1, and at least 1"
        )

    def band(scores: np.ndarray) -> Band:
        ends = interval_over_seeds(scores, STATISTICS[statistic], reps, confidence) if len(scores) > 1 else ()
        return Band(STATISTICS[statistic](scores), *ends)

    labels = list(dict.fromkeys(run.label for run in runs))
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in sorted(runs, key=lambda run: (run.env, labels.index(run.label))):
        groups.setdefault((run.env, run.label), []).append(run)
    curves, notes = [], []
    for (env, label), group in groups.items():
        try:
            timesteps, returns, successes = on_common_grid(group, max_timesteps)
        except ComparisonError as error:
            notes.append(f"left out: {label} in {env}: {error}")
            continue
        notes += [f"{label} in {env}: {note}" for note in _notes(group, timesteps, max_timesteps)]
        success_band = None if successes is None else band(successes)
        curves.append(Curve(env, label, tuple(group), timesteps, band(returns), success_band))
    if not curves:
        raise ComparisonError("; ".join(notes) or "found no runs, expected one or more")
    return curves, notes


def on_common_grid(runs: Sequence[Run], max_timesteps: int | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """
    The grid has every step at which a run was evaluated, within the range that all runs share. The mean of curves that are
    linear between their evaluations is linear between these steps.

    :return: Steps, shape ``(k,)``; returns and, if every run has them, success rates, shape ``(n_seeds, k)``
    :raises ComparisonError: If the runs share no range
    """
    start, end = max(run.timesteps[0] for run in runs), min(run.timesteps[-1] for run in runs)
    end = end if max_timesteps is None else min(end, max_timesteps)
    if start > end:
        raise ComparisonError(f"found evaluations from step {start:,.0f} on and up to {end:,.0f}, expected a common range")
    grid = np.unique(np.concatenate([run.timesteps for run in runs]))
    grid = grid[(grid >= start) & (grid <= end)]
    returns = np.array([np.interp(grid, run.timesteps, run.returns) for run in runs])
    successes = [np.interp(grid, run.timesteps, run.successes) for run in runs if run.successes is not None]
    return grid, returns, np.array(successes) if len(successes) == len(runs) else None


def _notes(runs: Sequence[Run], grid: np.ndarray, max_timesteps: int | None) -> list[str]:
    """Why the runs of a curve may not be repetitions of the same experiment."""
    notes = []
    first, last = min(run.timesteps[0] for run in runs), max(run.timesteps[-1] for run in runs)
    if first < grid[0] or min(last, np.inf if max_timesteps is None else max_timesteps) > grid[-1]:
        shortest = min(runs, key=lambda run: np.ptp(run.timesteps)).folder
        notes.append(f"cut to steps {grid[0]:,.0f} to {grid[-1]:,.0f}, which all runs have; {shortest} is the shortest")
    known = [run.hyperparams for run in runs if run.hyperparams]
    names = dict.fromkeys(name for values in known for name in values if name != "n_timesteps")
    different = [name for name in names if any(values.get(name) != known[0].get(name) for values in known)]
    if different:
        notes.append(f"its runs are averaged although they differ in {', '.join(different)}: --labels draws them apart")
    seeds = [run.seed for run in runs if run.seed is not None]
    repeated = ", ".join(str(seed) for seed in sorted(set(seeds)) if seeds.count(seed) > 1)
    if repeated:
        notes.append(f"several runs have the seed {repeated}: they are not independent, so the intervals are too narrow")
    return notes


def write_csv(curves: Sequence[Curve], path: str | Path, overwrite: bool = False) -> None:
    """
    Write one row for each step of each curve. Unknown values, such as the interval of a single seed, are empty.

    :raises FileExistsError: If the file exists and ``overwrite`` is False
    """
    rows = [
        {"env": curve.env, "label": curve.label, "n_seeds": len(curve.runs), "timesteps": f"{step:.0f}", **curve.at(i)}
        for curve in curves
        for i, step in enumerate(curve.timesteps)
    ]
    with write_whole(Path(path), overwrite) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
