"""The return of the demonstrations, to compare the agents with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sb3_pgfd.comparison.curves import Curve
from sb3_pgfd.comparison.runs import ComparisonError, Run, folder_name
from sb3_pgfd.demonstrations import Demonstrations, DemonstrationsError


@dataclass(frozen=True)
class Reference:
    """Demonstrations of an environment."""

    env: str
    name: str
    mean_return: float
    success_rate: float | None


def find_references(runs: Sequence[Run]) -> tuple[list[Reference], list[str]]:
    """
    :param runs: Runs; ``config.yml`` names the demonstrations that they learned from
    :return: These demonstrations, each once for each environment, and notes on those that cannot be read
    """
    references: list[Reference] = []
    notes: list[str] = []
    done: list[tuple[str, Any]] = []
    for run in runs:
        buffer = run.hyperparams.get("replay_buffer_kwargs")
        in_buffer = buffer.get("demonstrations") if isinstance(buffer, Mapping) else None
        source = run.hyperparams.get("demonstrations") or in_buffer
        if not source or (run.env, source) in done:
            continue
        done.append((run.env, source))
        try:
            reference = _reference(_load(source), run.env)
            if any((reference.env, reference.name) == (other.env, other.name) for other in references):
                # Parts of one file
                reference = replace(reference, name=f"{reference.name} of {run.label}")
            references.append(reference)
        except (DemonstrationsError, ImportError) as error:
            missing = f"no line for the demonstrations of {run.label} in {run.env}"
            notes.append(f"{missing}: {error}; name them with --demonstrations")
    return references, notes


def _load(source: Any) -> Demonstrations:
    """:param source: Value of ``demonstrations`` in ``config.yml``: a string, or a mapping of options with ``source``"""
    options: dict[str, Any] = {}
    if isinstance(source, Mapping):
        # The author of a log folder is not trusted to run code here
        options = {str(name): value for name, value in source.items() if name not in ("source", "trusted")}
        source = source.get("source")
    named = source if isinstance(source, list) else [source]
    if not named or not all(isinstance(item, str) for item in named):
        raise DemonstrationsError(f"found {source!r} as their source, expected a path, a packaged name or minari:ID")
    return Demonstrations.load(source, **options)


def _reference(demonstrations: Demonstrations, env: str) -> Reference:
    source = str(demonstrations.source)
    name = source if source.startswith("minari:") else Path(source).name.removesuffix(".npz")
    summary = demonstrations.summary()
    return Reference(env, name, summary["mean_return"], summary["success_rate"])


def name_references(sources: Sequence[str], envs: Sequence[str]) -> list[Reference]:
    """
    :param sources: Paths, packaged names or ``minari:ID``
    :param envs: Environments of the comparison. If there are several, the demonstrations must say which one is theirs
    :raises DemonstrationsError: If demonstrations cannot be read
    :raises ComparisonError: If demonstrations belong to none of the environments
    """
    references = []
    for source in sources:
        demonstrations = Demonstrations.load(source)
        recorded = demonstrations.metadata.get("env_id")
        env = folder_name(recorded) if isinstance(recorded, str) else "an unknown environment"
        if env not in envs and len(envs) > 1:
            raise ComparisonError(
                f"{source}: found demonstrations of {env}, expected one of {', '.join(envs)}: choose it with --env"
            )
        references.append(_reference(demonstrations, env if env in envs else envs[0]))
    return references


def reached_at(curve: Curve, references: Sequence[Reference]) -> float | None:
    """
    :return: The first step at which the curve is as high as the best demonstrations of its environment; None if there is no
        such step or there are no demonstrations
    """
    best = max((reference.mean_return for reference in references if reference.env == curve.env), default=np.inf)
    above = curve.timesteps[curve.returns.values >= best]
    return float(above[0]) if len(above) else None
