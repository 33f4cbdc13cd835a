"""Finding runs in the RL Zoo's log folders."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sb3_pgfd.comparison.errors import ComparisonError
from sb3_pgfd.comparison.evaluations import FILE_NAME, Evaluations, read_evaluations
from sb3_pgfd.comparison.settings import read_settings

_LAYOUT = "<log root>/<algorithm>/<environment>_<number>/evaluations.npz"
# Without other signs only a versioned id is taken for an environment: `trial_3` is a trial of -optimize
_NUMBERED = re.compile(r"(?P<env>.+)_\d+")
_VERSIONED = re.compile(r".+-v\d+")


@dataclass(frozen=True, eq=False)
class Run:
    """One seed of one algorithm in one environment."""

    folder: Path
    """Where ``evaluations.npz`` lies"""
    env: str
    """The environment's id, as it is spelled in folder names"""
    algo: str
    """The algorithm, as the RL Zoo calls it"""
    evaluations: Evaluations
    label: str = ""
    """What the curve is called; runs that share it in an environment are seeds of one curve"""
    seed: int | None = None
    """None: unknown"""
    hyperparams: Mapping[str, Any] = field(default_factory=dict)
    """``config.yml``"""

    @property
    def root(self) -> Path:
        """The log root that the run is in"""
        return self.folder.parent.parent


def folder_name(env_id: str) -> str:
    """
    :param env_id: Of an environment, e.g. ``"module:Name-v0"`` or ``"space/Name-v0"``
    :return: What the RL Zoo calls its folders
    """
    return env_id.split(":")[-1].replace("/", "-")


def find_runs(folders: Sequence[str | Path], labels: Sequence[str] | None = None) -> tuple[list[Run], list[str]]:
    """
    :param folders: Log roots, folders of algorithms or of single runs; what lies in several of them is taken once
    :param labels: One for each folder, equal ones are one curve; by default a curve is called as its algorithm, with the
        name of the log root if several have runs of it
    :return: Runs with labels, and what a person should know of those that were left out
    :raises ComparisonError: If a folder is missing or has no run that can be read
    """
    if labels is not None and len(labels) != len(folders):
        raise ComparisonError(f"labels: found {len(labels)}, expected {len(folders)}, one for each folder")
    runs: dict[Path, Run] = {}
    notes: list[str] = []
    for number, folder in enumerate(folders):
        found, unreadable = _runs_below(Path(folder).expanduser())
        notes += [note for note in unreadable if note not in notes]
        label = "" if labels is None else labels[number]
        several = len({run.algo for run in found}) > 1
        for run in found:
            runs.setdefault(run.folder, replace(run, label=f"{label} {run.algo}" if several and label else label))
    unlabelled = list(runs.values())
    return unlabelled if labels is not None else _label(unlabelled), notes


def _runs_below(folder: Path) -> tuple[list[Run], list[str]]:
    if not folder.is_dir():
        found = "a file" if folder.exists() else "no such folder"
        raise ComparisonError(f"{folder}: found {found}, expected a folder of runs: {_LAYOUT}, or a part of this path")
    runs, notes = [], []
    for path in sorted(folder.resolve().rglob(FILE_NAME), key=_natural):
        try:
            runs.append(read_run(path.parent))
        except ComparisonError as error:
            notes.append(f"left out: {error}")
    if not runs:
        found = "; ".join(notes) or f"no {FILE_NAME}"
        raise ComparisonError(
            f"{folder}: found no run to compare ({found}), expected {_LAYOUT}: train with `sb3-pgfd train` or the RL Zoo, "
            "and with evaluations (--eval-freq)"
        )
    return runs, notes


def read_run(folder: Path) -> Run:
    """
    :param folder: With ``evaluations.npz``, and ``<environment>/args.yml`` and ``config.yml`` if the RL Zoo made it
    :return: The run, without a label
    :raises ComparisonError: If something in it cannot be read, or nothing tells the environment
    """
    evaluations = read_evaluations(folder / FILE_NAME)
    arguments, hyperparams = _settings(folder, "args.yml"), _settings(folder, "config.yml")
    algo, env, seed = (arguments.get(name) for name in ("algo", "env", "seed"))
    return Run(
        folder=folder,
        env=folder_name(env) if isinstance(env, str) else _env_of(folder),
        algo=algo if isinstance(algo, str) else folder.parent.name,
        evaluations=evaluations,
        seed=seed if isinstance(seed, int) else None,
        hyperparams=hyperparams,
    )


def _settings(folder: Path, name: str) -> dict[str, Any]:
    paths = sorted(folder.glob(f"*/{name}"))
    return read_settings(paths[0]) if paths else {}


def _env_of(folder: Path) -> str:
    match = _NUMBERED.fullmatch(folder.name)
    if match is None or not ((folder / match["env"]).is_dir() or _VERSIONED.fullmatch(match["env"])):
        raise ComparisonError(
            f"{folder}: found no <environment>/args.yml, and the folder's name tells no environment, expected the folder of a "
            "run, e.g. ddpgfd/FetchReach-v4_1"
        )
    return match["env"]


def _label(runs: Sequence[Run]) -> list[Run]:
    roots: dict[str, set[Path]] = {}
    for run in runs:
        roots.setdefault(run.algo, set()).add(run.root)
    names = {algo: _short_names(found) for algo, found in roots.items()}
    several = {algo for algo, found in roots.items() if len(found) > 1}
    return [
        replace(run, label=f"{run.algo} ({names[run.algo][run.root]})" if run.algo in several else run.algo) for run in runs
    ]


def _short_names(folders: set[Path]) -> dict[Path, str]:
    """As many of the last parts of the paths as it takes to tell them apart."""
    length = 1
    while len({folder.parts[-length:] for folder in folders}) < len(folders):
        length += 1
    return {folder: "/".join(folder.parts[-length:]) for folder in folders}


def _natural(path: Path) -> list[tuple[int, str]]:
    """Run 10 comes after run 9."""
    parts = re.split(r"(\d+)", str(path))
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]
