"""What the demonstrations themselves return, to compare the agents with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sb3_pgfd.comparison.aggregate import Curve
from sb3_pgfd.comparison.errors import ComparisonError
from sb3_pgfd.comparison.runs import Run, folder_name
from sb3_pgfd.demonstrations import Demonstrations, DemonstrationsError


@dataclass(frozen=True)
class Reference:
    """Demonstrations that runs of an environment learned from."""

    env: str
    name: str
    """For people"""
    mean_return: float
    success_rate: float | None
    """None: nobody said"""


def find_references(runs: Sequence[Run]) -> tuple[list[Reference], list[str]]:
    """
    :param runs: Their ``config.yml`` names demonstrations, if they had any
    :return: What is found of them, each once for each environment, and notes about the others
    """
    references: list[Reference] = []
    notes: list[str] = []
    done: list[tuple[str, Any]] = []
    for run in runs:
        source = _named_by(run)
        if not source or (run.env, source) in done:
            continue
        done.append((run.env, source))
        try:
            references.append(_describe(_load(source), run.env))
        except (DemonstrationsError, ImportError) as error:
            notes.append(
                f"no line for the demonstrations of {run.label} in {run.env}: {error}; name them with --demonstrations"
            )
    return references, notes


def name_references(sources: Sequence[str], envs: Sequence[str]) -> list[Reference]:
    """
    :param sources: Paths, packaged names or ``minari:ID``
    :param envs: That are compared. Several tell by the recorded environment which one demonstrations belong to
    :raises DemonstrationsError: If demonstrations cannot be read
    :raises ComparisonError: If they belong to none of the environments
    """
    references = []
    for source in sources:
        demonstrations = Demonstrations.load(source)
        recorded = demonstrations.metadata.get("env_id")
        env = folder_name(recorded) if isinstance(recorded, str) else None
        if env not in envs and len(envs) > 1:
            found = "no environment" if env is None else env
            raise ComparisonError(
                f"{source}: found demonstrations of {found}, expected one of {', '.join(envs)}: choose it with --env"
            )
        references.append(_describe(demonstrations, env if env in envs and env is not None else envs[0]))
    return references


def reached_at(curve: Curve, references: Sequence[Reference]) -> float | None:
    """
    :param curve: Seeds of one label
    :param references: Of all environments
    :return: The first step at which the curve is as high as the best demonstrations of its environment; None: at none, or
        there are none
    """
    own = [reference.mean_return for reference in references if reference.env == curve.env]
    above = curve.timesteps[curve.returns.values >= max(own, default=np.inf)]
    return float(above[0]) if len(above) else None


def _named_by(run: Run) -> Any:
    """Of the algorithm, or of the replay buffer that brings demonstrations to any other."""
    buffer = run.hyperparams.get("replay_buffer_kwargs")
    return run.hyperparams.get("demonstrations") or (buffer.get("demonstrations") if isinstance(buffer, Mapping) else None)


def _load(source: Any) -> Demonstrations:
    """:param source: What ``config.yml`` names: a string, or a mapping of ``source`` and options of ``Demonstrations.load``"""
    options: dict[str, Any] = {}
    if isinstance(source, Mapping):
        options = {str(name): value for name, value in source.items()}
        source = options.pop("source", None)
        # Whoever wrote the log folder is not trusted to run code here
        options.pop("trusted", None)
    if not isinstance(source, str):
        raise DemonstrationsError(f"found {source!r} as their source, expected a path, a packaged name or minari:ID")
    return Demonstrations.load(source, **options)


def _describe(demonstrations: Demonstrations, env: str) -> Reference:
    source = str(demonstrations.source)
    name = source if source.startswith("minari:") else Path(source).name.removesuffix(".npz")
    summary = demonstrations.summary()
    return Reference(env, name, summary["mean_return"], summary["success_rate"])
