"""Whether each step begins where the step before it ended."""

import numpy as np

from sb3_pgfd.demonstrations.errors import DemonstrationsError
from sb3_pgfd.demonstrations.validation import Observations, as_dict

# Rows that are compared at a time
_CHUNK = 8192
# Rounding errors of storage, in units of the coarser dtype's resolution; float64 may hold what was float32 before
_ROUNDINGS = 8
# Number of environments whose rows may be interleaved
_MAX_STRIDE = 64


def interruptions(before: Observations, after: Observations) -> np.ndarray:
    """
    :param before: Observations of N rows
    :param after: Their next observations
    :return: Of each row but the last, whether the next row begins with another observation than it ended with, bit by bit
        (-0.0 equals 0.0 and is another number), shape ``(N - 1,)``, bool
    """
    moved = np.zeros(len(next(iter(as_dict(before).values()))) - 1, dtype=bool)
    for array, next_array in zip(as_dict(before).values(), as_dict(after).values(), strict=True):
        if array.dtype != next_array.dtype:
            return np.ones_like(moved)
        for start in range(0, len(moved), _CHUNK):
            rows = slice(start, min(start + _CHUNK, len(moved)))
            moved[rows] |= (_raw(array[1:][rows]) != _raw(next_array[:-1][rows])).any(axis=1)
    return moved


def _raw(rows: np.ndarray) -> np.ndarray:
    """:return: The bits of each row as whole numbers, shape ``(n, anything)``"""
    flat = np.ascontiguousarray(rows).reshape(len(rows), -1)
    return flat.view(f"u{min(flat.dtype.itemsize, 8)}")


def find_jumps(before: Observations, after: Observations, ended: np.ndarray, ordered: bool = False) -> np.ndarray:
    """
    Ends of episodes that no flag marks. An observation that was stored in two dtypes differs by rounding, which is no jump.

    :param before: Observations of N rows
    :param after: Their next observations
    :param ended: Whether a flag marks the row as the last of its episode, shape ``(N,)``, bool
    :param ordered: The rows are known to be in the order of time
    :return: Whether the next row begins elsewhere though no flag says so, shape ``(N,)``, bool
    :raises DemonstrationsError: If that holds for half of the rows, so that their order in time is not known
    """
    jumps = np.zeros(len(ended), dtype=bool)
    suspects = np.flatnonzero(interruptions(before, after) & ~ended[:-1])
    jumps[suspects] = _moved(before, after, suspects, 1)
    inner = np.flatnonzero(~ended[:-1])
    if not ordered and jumps.any() and 2 * jumps.sum() >= len(inner) > 1:
        _refuse(before, after, inner, int(jumps.sum()))
    return jumps


def _moved(before: Observations, after: Observations, rows: np.ndarray, stride: int) -> np.ndarray:
    """:return: Of each of these rows, whether the row ``stride`` later begins elsewhere than it ended"""
    moved = np.zeros(len(rows), dtype=bool)
    for array, next_array in zip(as_dict(before).values(), as_dict(after).values(), strict=True):
        is_float = "f" in (array.dtype.kind, next_array.dtype.kind)
        typical = _typical(array) if is_float else np.zeros(1)
        for start in range(0, len(rows), _CHUNK):
            part = rows[start : start + _CHUNK]
            ends = next_array[part].reshape(len(part), -1)
            begins = array[part + stride].reshape(len(part), -1)
            if not is_float:
                moved[start : start + _CHUNK] |= (ends != begins).any(axis=1)
                continue
            ends, begins = ends.astype(np.float64), begins.astype(np.float64)
            with np.errstate(over="ignore", invalid="ignore"):
                # NaN and infinity are refused elsewhere, with a better message
                size = np.maximum(np.abs(ends), np.abs(begins)) + typical
                tolerance = _ROUNDINGS * _resolution(array.dtype, next_array.dtype) * size
                moved[start : start + _CHUNK] |= (np.abs(ends - begins) > tolerance).any(axis=1)
    return moved


def _typical(array: np.ndarray) -> np.ndarray:
    """:return: Mean size of each component: values near 0 carry the rounding errors of what they were computed from"""
    rows = array[:: max(1, len(array) // _CHUNK)]
    with np.errstate(over="ignore", invalid="ignore"):
        return np.abs(rows.reshape(len(rows), -1).astype(np.float64)).mean(axis=0)


def _resolution(*dtypes: np.dtype) -> float:
    return max(float(np.finfo(dtype).eps) for dtype in (np.dtype(np.float32), *dtypes) if dtype.kind == "f")


def _refuse(before: Observations, after: Observations, inner: np.ndarray, n_jumps: int) -> None:
    """:raises DemonstrationsError: With what the order of the rows seems to be"""
    order = "The rows are shuffled, steps between them were left out, or these are no next observations"
    n_rows = len(next(iter(as_dict(before).values())))
    for stride in range(2, min(_MAX_STRIDE, n_rows // 2) + 1):
        rows = inner[inner < n_rows - stride][:_CHUNK]
        if len(rows) > 1 and _moved(before, after, rows, stride).mean() < 0.5:
            order = (
                f"Rows go on where the row {stride} before them ended: the rows of {stride} environments are "
                f"interleaved. Take rows k::{stride} of each environment, one environment after the other"
            )
            break
    raise DemonstrationsError(
        f"observations: found {n_jumps} of {len(inner)} steps within episodes that do not end with the observation that the "
        f"next row begins with, expected rows in the order of time. {order}. To train on rows that each stand alone, set "
        "truncated in all of them; if the two differ by noise, pass the next row's observation as the next observation"
    )
