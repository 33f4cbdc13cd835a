"""Find runs in the RL Zoo's log folders and read their evaluations and settings."""

import csv
import re
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from sb3_pgfd.utils.files import near
from sb3_pgfd.utils.run_folders import read_settings

_EVALUATIONS = "evaluations.npz"
_LAYOUT = f"<log root>/<algorithm>/<environment>_<number>/{_EVALUATIONS}"
_WRITER = "as SB3's EvalCallback writes them"
# What NumPy raises for a damaged or foreign file
_UNREADABLE = (EOFError, LookupError, OSError, SyntaxError, TypeError, ValueError, zipfile.BadZipFile, zlib.error)


STUDY_RESULTS = "results.csv"
"""Name of the results of ``sb3-pgfd study`` in its folder, beside ``cells``"""
STUDY_COLUMNS = ("task", "env", "algorithm", "setting", "seed", "timesteps", "return", "success")
"""Of the results of ``sb3-pgfd study``, a row for each evaluation"""


class ComparisonError(Exception):
    """Runs cannot be compared. The message names what was found, what was expected and how to mend it."""


@dataclass(frozen=True, eq=False)
class Run:
    """One seed of one algorithm in one environment; k is the number of its evaluations."""

    folder: Path
    """The folder of ``evaluations.npz``"""
    env: str
    """Environment id as the RL Zoo spells it in folder names"""
    algo: str
    timesteps: np.ndarray
    """Environment steps of the evaluations in ascending order, shape ``(k,)``, float64"""
    returns: np.ndarray
    """Mean return of the episodes of each evaluation, shape ``(k,)``, float64"""
    successes: np.ndarray | None
    """Share of these episodes that solved the task, shape ``(k,)``, float64; None if the environment reports no success"""
    label: str = ""
    """Name of the curve; runs of an environment with the same label are seeds of one curve"""
    seed: int | None = None
    hyperparams: Mapping[str, Any] = field(default_factory=dict)
    """Content of ``config.yml``"""


def folder_name(env_id: str) -> str:
    """:return: The RL Zoo's folder name for an environment id such as ``"module:Name-v0"`` or ``"space/Name-v0"``"""
    return env_id.split(":")[-1].replace("/", "-")


def find_runs(folders: Sequence[str | Path], labels: Sequence[str] | None = None) -> tuple[list[Run], list[str]]:
    """
    :param folders: Log roots, folders of algorithms or folders of single runs, or studies: their folders, or results
        (``.csv``). A run found twice is taken once
    :param labels: One label for each folder; folders with the same label make one curve. By default the label is the
        algorithm, with the name of the log root added if several roots have runs of it
    :return: Labelled runs, and notes on runs that were left out
    :raises ComparisonError: If a folder is missing or has no readable run
    """
    if labels is not None and len(labels) != len(folders):
        raise ComparisonError(f"labels: found {len(labels)}, expected {len(folders)}, one for each folder")
    runs: dict[Path, Run] = {}
    notes: list[str] = []
    for folder, label in zip(folders, labels or [""] * len(folders), strict=True):
        found, unreadable = _runs_below(Path(folder).expanduser())
        notes += [note for note in unreadable if note not in notes]
        several = len({run.label or run.algo for run in found}) > 1
        for run in found:
            own = run.label or run.algo
            given = f"{label} {own}" if several and label else label
            runs.setdefault(run.folder, replace(run, label=given or run.label))
    return list(runs.values()) if labels else _label(list(runs.values())), notes


def _runs_below(folder: Path) -> tuple[list[Run], list[str]]:
    if folder.suffix == ".csv" and folder.is_file():
        return _runs_of_study(folder), []
    # The folders of its cells do not say which runs are seeds of one curve
    if (folder / "cells").is_dir() and (folder / STUDY_RESULTS).is_file():
        return _runs_of_study(folder / STUDY_RESULTS), []
    if not folder.is_dir():
        found = "a file" if folder.exists() else "no such folder"
        raise ComparisonError(
            f"{folder}: found {found}, expected a folder of runs: {_LAYOUT}, or a part of this path{near(folder)}"
        )
    runs, notes = [], []
    for path in sorted(folder.resolve().rglob(_EVALUATIONS)):
        try:
            runs.append(_read_run(path.parent))
        except ComparisonError as error:
            notes.append(f"left out: {error}")
    if not runs:
        found = "; ".join(notes) or f"no {_EVALUATIONS}"
        raise ComparisonError(
            f"{folder}: found no run to compare ({found}), expected {_LAYOUT}: train with `sb3-pgfd train` or the RL Zoo, "
            "with evaluations (--eval-freq)"
        )
    return runs, notes


def _runs_of_study(path: Path) -> list[Run]:
    """:return: The runs in the results of a study. A setting is in the label if there are several"""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        cells: dict[tuple[str, ...], list[tuple[float, float, float | None]]] = {}
        for row in rows:
            cell = tuple(row[name] for name in STUDY_COLUMNS[:5])
            success = float(row["success"]) if row["success"] else None
            cells.setdefault(cell, []).append((float(row["timesteps"]), float(row["return"]), success))
        several = len({cell[3] for cell in cells}) > 1
        runs = []
        for (task, _, algo, setting, seed), evaluations in cells.items():
            timesteps, returns, successes = zip(*sorted(evaluations, key=itemgetter(0)), strict=True)
            solved = None if None in successes else np.array(successes, dtype=np.float64)
            place = path.resolve().parent / "cells" / task.replace("/", "-") / algo / setting / f"seed_{seed}"
            label = f"{algo} {setting}" if several else algo
            arrays = np.array(timesteps), np.array(returns)
            # The table may have been copied without them
            configs = sorted(place.glob("logs/*/*/*/config.yml"))
            hyperparams = _settings(configs[0]) if configs else {}
            runs.append(Run(place, folder_name(task), algo, *arrays, solved, label, int(seed), hyperparams))
    except (KeyError, TypeError, UnicodeDecodeError, ValueError, csv.Error) as error:
        expected = f"expected the results of a study, with the columns {', '.join(STUDY_COLUMNS)}"
        raise ComparisonError(f"{path}: found a table that cannot be read ({error!r}), {expected}") from error
    if not runs:
        raise ComparisonError(f"{path}: found no finished cell, expected one or more")
    return runs


def _read_run(folder: Path) -> Run:
    timesteps, returns, successes = read_evaluations(folder / _EVALUATIONS)
    arguments, hyperparams = (
        _settings(paths[0]) if (paths := sorted(folder.glob(f"*/{name}"))) else {} for name in ("args.yml", "config.yml")
    )
    algo, env, seed = (arguments.get(name) for name in ("algo", "env", "seed"))
    env = folder_name(env) if isinstance(env, str) else _env_from_folder(folder)
    algo = algo if isinstance(algo, str) else folder.parent.name
    seed = seed if isinstance(seed, int) else None
    return Run(folder, env, algo, timesteps, returns, successes, seed=seed, hyperparams=hyperparams)


def _settings(path: Path) -> dict[str, Any]:
    try:
        return read_settings(path)
    except ValueError as error:
        raise ComparisonError(str(error)) from error


def _env_from_folder(folder: Path) -> str:
    """Without a subfolder of its name, only an id with a version is an environment: ``trial_3`` is a trial of -optimize."""
    env, _, number = folder.name.rpartition("_")
    if not number.isdecimal() or not env or not ((folder / env).is_dir() or re.fullmatch(r".+-v\d+", env)):
        raise ComparisonError(
            f"{folder}: found no <environment>/args.yml and no environment in the folder's name, expected the folder of a "
            "run, e.g. ddpgfd/FetchReach-v4_1"
        )
    return env


def _label(runs: Sequence[Run]) -> list[Run]:
    """
    The algorithm, or the label within a study, followed by as much of the path of the log root, or of the study, as tells
    several of them apart.
    """
    labelled = []
    for run in runs:
        label = run.label or run.algo
        roots = {_root(other) for other in runs if (other.label or other.algo) == label}
        length = 1
        while len({root.parts[-length:] for root in roots}) < len(roots):
            length += 1
        name = "/".join(_root(run).parts[-length:])
        labelled.append(replace(run, label=f"{label} ({name})" if len(roots) > 1 else label))
    return labelled


def _root(run: Run) -> Path:
    """:return: The study's folder, or the log root"""
    # <study>/cells/<task>/<algorithm>/<setting>/seed_<number>, <log root>/<algorithm>/<environment>_<number>
    return run.folder.parents[4] if run.label else run.folder.parents[1]


def read_evaluations(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """
    :return: ``timesteps``, ``returns`` and ``successes`` of a :class:`Run` from its ``evaluations.npz``
    :raises ComparisonError: If the file is damaged or holds something else
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in ("timesteps", "results", "successes") if name in file}
    except _UNREADABLE as error:
        raise ComparisonError(
            f"{path}: found a file that cannot be read ({type(error).__name__}: {error}), expected arrays, {_WRITER}"
        ) from error
    if "timesteps" not in arrays or "results" not in arrays:
        raise ComparisonError(f"{path}: found the arrays {sorted(arrays)}, expected 'timesteps' and 'results', {_WRITER}")
    for name, array in arrays.items():
        if array.dtype.kind not in "iufb" or not np.isfinite(array).all():
            raise ComparisonError(f"{path}: {name}: found dtype {array.dtype} or NaN or infinity, expected finite numbers")
    timesteps = arrays.pop("timesteps").astype(np.float64)
    if timesteps.ndim != 1 or len(timesteps) == 0 or (np.diff(timesteps) < 0).any():
        raise ComparisonError(f"{path}: timesteps: found {timesteps!r:.100}, expected ascending numbers, {_WRITER}")
    for name, array in arrays.items():
        if array.ndim != 2 or len(array) != len(timesteps) or array.shape[1] == 0:
            raise ComparisonError(
                f"{path}: {name}: found shape {array.shape}, expected ({len(timesteps)}, episodes), {_WRITER}"
            )
    # A continued run evaluates once more at the step where it stopped: the later evaluation counts
    last = np.append(np.diff(timesteps) > 0, True)
    means = {name: array.mean(axis=1, dtype=np.float64)[last] for name, array in arrays.items()}
    return timesteps[last], means["results"], means.get("successes")
