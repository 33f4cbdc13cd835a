"""From runs to curves: seeds on a common grid, averaged, with intervals."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from sb3_pgfd.comparison.errors import ComparisonError
from sb3_pgfd.comparison.intervals import STATISTICS, Bootstrap, Statistic, find_bootstrap, numpy_bootstrap
from sb3_pgfd.comparison.runs import Run


@dataclass(frozen=True, eq=False)
class Band:
    """A statistic over seeds and its interval, shape ``(k,)`` each, float64."""

    values: np.ndarray
    low: np.ndarray | None = None
    """None: of a single seed there is no interval"""
    high: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Curve:
    """Seeds of one label in one environment; k is the number of steps on their grid."""

    env: str
    label: str
    runs: tuple[Run, ...]
    timesteps: np.ndarray
    """Shape ``(k,)``, float64"""
    returns: Band
    successes: Band | None
    """None: not every seed says"""

    @property
    def n_seeds(self) -> int:
        return len(self.runs)


def aggregate(
    runs: Sequence[Run],
    statistic: str = "mean",
    confidence: float = 0.95,
    reps: int = 2000,
    max_timesteps: int | None = None,
) -> tuple[list[Curve], list[str]]:
    """
    :param runs: With labels
    :param statistic: Over the seeds: ``"mean"``, ``"iqm"`` (interquartile mean) or ``"median"``
    :param confidence: Of the intervals, which are pointwise
    :param reps: Resamples of the bootstrap
    :param max_timesteps: Leave out later evaluations
    :return: Curves, by environment and then in the order of the labels, and what a person should know of them
    :raises ComparisonError: If nothing is left
    """
    if statistic not in STATISTICS or not 0.0 < confidence < 1.0 or reps < 1:
        found = f"statistic={statistic!r}, confidence={confidence}, reps={reps}"
        raise ComparisonError(f"found {found}, expected one of {', '.join(STATISTICS)}, a share below 1 and at least 1")
    groups = _group(runs)
    notes: list[str] = []
    bootstrap: Bootstrap = numpy_bootstrap
    if any(len(group) > 1 for group in groups.values()):
        bootstrap, missing = find_bootstrap()
        notes += [missing] if missing else []
    curves = []
    for (env, label), group in groups.items():
        try:
            timesteps = common_grid(group, max_timesteps)
        except ComparisonError as error:
            notes.append(f"left out: {label} in {env}: {error}")
            continue
        notes += [f"{label} in {env}: {note}" for note in _doubts(group, max_timesteps)]
        returns, successes = on_grid(group, timesteps)
        band = partial(_band, statistic=STATISTICS[statistic], confidence=confidence, reps=reps, bootstrap=bootstrap)
        curves.append(
            Curve(env, label, tuple(group), timesteps, band(returns), None if successes is None else band(successes))
        )
    if not curves:
        raise ComparisonError("; ".join(notes) or "found no runs, expected one or more")
    return curves, notes


def _group(runs: Sequence[Run]) -> dict[tuple[str, str], list[Run]]:
    """By environment and label, sorted by the environment and then in the order in which labels come first."""
    labels = list(dict.fromkeys(run.label for run in runs))
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in sorted(runs, key=lambda run: (run.env, labels.index(run.label))):
        groups.setdefault((run.env, run.label), []).append(run)
    return groups


def common_grid(runs: Sequence[Run], max_timesteps: int | None = None) -> np.ndarray:
    """
    :param runs: Seeds of one curve
    :param max_timesteps: Leave out later evaluations
    :return: Every step at which a run was evaluated, within the range that all share: the mean of curves that are linear
        between evaluations is linear between these
    :raises ComparisonError: If there is none
    """
    steps = [run.evaluations.timesteps for run in runs]
    start, end = max(array[0] for array in steps), min(array[-1] for array in steps)
    end = end if max_timesteps is None else min(end, max_timesteps)
    if start > end:
        raise ComparisonError(f"found evaluations from step {start:,.0f} on and up to {end:,.0f}, expected a common range")
    grid = np.unique(np.concatenate(steps))
    return grid[(grid >= start) & (grid <= end)]


def on_grid(runs: Sequence[Run], timesteps: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """
    :param runs: Seeds of one curve
    :param timesteps: The grid, shape ``(k,)``
    :return: Returns and, if all know them, success rates, shape ``(n_seeds, k)``, by linear interpolation
    """
    evaluations = [run.evaluations for run in runs]
    returns = np.array([np.interp(timesteps, item.timesteps, item.returns) for item in evaluations])
    successes = [np.interp(timesteps, item.timesteps, item.successes) for item in evaluations if item.successes is not None]
    return returns, np.array(successes) if len(successes) == len(evaluations) else None


def _band(scores: np.ndarray, statistic: Statistic, confidence: float, reps: int, bootstrap: Bootstrap) -> Band:
    if len(scores) == 1:
        return Band(statistic(scores))
    return Band(statistic(scores), *bootstrap(scores, statistic, reps, confidence))


def _doubts(runs: Sequence[Run], max_timesteps: int | None) -> list[str]:
    """What makes the seeds of a curve less than repetitions of the same."""
    notes = []
    starts, ends = ([run.evaluations.timesteps[i] for run in runs] for i in (0, -1))
    if max(starts) > min(starts):
        latest = runs[int(np.argmax(starts))].folder
        notes.append(
            f"cut to what follows step {max(starts):,.0f}, where {latest} begins; another of its runs has {min(starts):,.0f}"
        )
    limit = np.inf if max_timesteps is None else max_timesteps
    if min(max(ends), limit) > min(ends):
        shortest = runs[int(np.argmin(ends))].folder
        notes.append(
            f"cut to {min(ends):,.0f} steps, where {shortest} ends; the longest of its {len(runs)} runs has {max(ends):,.0f}"
        )
    known = [run.hyperparams for run in runs if run.hyperparams]
    settings = [{name: value for name, value in values.items() if name != "n_timesteps"} for values in known]
    names = dict.fromkeys(name for values in settings for name in values)
    different = [name for name in names if any(values.get(name) != settings[0].get(name) for values in settings)]
    if different:
        notes.append(
            f"its runs differ in {', '.join(different)}, and are averaged all the same: name their folders with --labels to "
            "draw them apart"
        )
    seeds = [run.seed for run in runs if run.seed is not None]
    repeated = sorted({seed for seed in seeds if seeds.count(seed) > 1})
    if repeated:
        found = ", ".join(map(str, repeated))
        notes.append(
            f"several of its runs have the seed {found}: they are no independent repetitions, intervals are too narrow"
        )
    return notes
