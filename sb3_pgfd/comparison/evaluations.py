"""The file that SB3's ``EvalCallback`` writes."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sb3_pgfd.comparison.errors import ComparisonError
from sb3_pgfd.demonstrations.formats import UNREADABLE

FILE_NAME = "evaluations.npz"
_EXPECTED = "as SB3's EvalCallback writes"


@dataclass(frozen=True, eq=False)
class Evaluations:
    """One curve; k is the number of evaluations."""

    timesteps: np.ndarray
    """Environment steps, ascending, shape ``(k,)``, float64"""
    returns: np.ndarray
    """Mean over the episodes of each evaluation, shape ``(k,)``, float64"""
    successes: np.ndarray | None
    """Share of these episodes that solved the task, shape ``(k,)``, float64; None: the environment does not say"""


def read_evaluations(path: Path) -> Evaluations:
    """
    :param path: Of ``evaluations.npz``
    :raises ComparisonError: If it is damaged or holds something else
    """
    arrays = _read_arrays(path)
    timesteps, returns = arrays["timesteps"], arrays["results"]
    if timesteps.ndim != 1 or len(timesteps) == 0 or (np.diff(timesteps) < 0).any():
        found = f"shape {timesteps.shape}" if timesteps.ndim != 1 else "none" if len(timesteps) == 0 else "falling numbers"
        raise ComparisonError(f"{path}: timesteps: found {found}, expected one or more ascending numbers, {_EXPECTED}")
    for name in ("results", "successes"):
        array = arrays.get(name)
        if array is not None and (array.ndim != 2 or len(array) != len(timesteps) or array.shape[1] == 0):
            raise ComparisonError(
                f"{path}: {name}: found shape {array.shape}, expected ({len(timesteps)}, episodes), {_EXPECTED}"
            )
    # Learning that goes on evaluates once more at the step where it stopped
    last = np.append(np.diff(timesteps) > 0, True)
    successes = arrays["successes"].mean(axis=1)[last] if "successes" in arrays else None
    return Evaluations(timesteps[last], returns.mean(axis=1)[last], successes)


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    names = ("timesteps", "results", "successes")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in names if name in file}
    except UNREADABLE as error:
        raise ComparisonError(
            f"{path}: found a file that cannot be read ({type(error).__name__}: {error}), expected plain arrays, {_EXPECTED}"
        ) from error
    for name in names[:2]:
        if name not in arrays:
            raise ComparisonError(f"{path}: found no {name!r}, expected it beside {sorted(arrays)}, {_EXPECTED}")
    for name, array in arrays.items():
        if array.dtype.kind not in "iufb" or not np.isfinite(array).all():
            found = "NaN or infinity" if array.dtype.kind == "f" else f"dtype {array.dtype}"
            raise ComparisonError(f"{path}: {name}: found {found}, expected finite numbers")
    return {name: array.astype(np.float64) for name, array in arrays.items()}
