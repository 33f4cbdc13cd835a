"""Which states demonstrations cover."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sb3_pgfd.demonstrations.dataset import Demonstrations

# Images of more numbers are left out
MAX_IMAGE = 256
# Random states that are looked at, and at most so many numbers of them
MAX_STATES = 20_000
_MAX_NUMBERS = 4_000_000


@dataclass(frozen=True)
class Coverage:
    """States in their first principal components, of which there are two, or fewer if fewer numbers change."""

    points: np.ndarray
    """Shape ``(n_states, n_components)``"""
    steps: np.ndarray
    """Step in its episode of each, shape ``(n_states,)``"""
    starts: np.ndarray
    """Where the episodes begin, shape ``(n_episodes, n_components)``"""
    variance: np.ndarray
    """Share of the variance along each component, shape ``(n_components,)``"""
    left_out: list[str]
    """Observations that are too large, with their shapes"""


def state_coverage(demonstrations: Demonstrations, seed: int = 0) -> Coverage:
    """
    Principal components of the observations, each number standardised. The arrays of Dict observations are joined, images
    of more than ``MAX_IMAGE`` numbers are left out, and so is what never changes.

    :param demonstrations: Of more than ``MAX_STATES`` transitions, random ones are taken
    :param seed: Of that choice
    """
    observations = demonstrations.observations
    arrays = observations if isinstance(observations, Mapping) else {"images": observations}
    large = [name for name, array in arrays.items() if array.ndim > 2 and math.prod(array.shape[1:]) > MAX_IMAGE]
    chosen = [array.reshape(len(array), -1) for name, array in arrays.items() if name not in large]
    starts = demonstrations.episode_starts
    rows = _some_rows(len(demonstrations), sum(array.shape[1] for array in chosen), seed)
    states, first = _join(chosen, rows), _join(chosen, starts)
    # Not by the standard deviation: that of equal numbers may be a rounding error
    low, high = states.min(axis=0), states.max(axis=0)
    moving = low < high
    # In units that cannot overflow when they are squared
    unit = np.maximum(np.abs(low), np.abs(high))[moving]
    states, first = states[:, moving] / unit, first[:, moving] / unit
    mean, scale = states.mean(axis=0), states.std(axis=0)
    states, first = (states - mean) / scale, (first - mean) / scale
    _, singular, directions = np.linalg.svd(states, full_matrices=False)
    directions = directions[:2]
    # The sign of a direction is arbitrary; pictures of the same file are the same
    directions *= np.sign(directions.sum(axis=1, keepdims=True) + 1e-12)
    return Coverage(
        points=states @ directions.T,
        steps=rows - starts[np.searchsorted(starts, rows, side="right") - 1],
        starts=first @ directions.T,
        variance=(singular**2 / max((singular**2).sum(), 1e-300))[:2],
        left_out=[f"{name} {'x'.join(map(str, arrays[name].shape[1:]))}" for name in large],
    )


def _some_rows(n_rows: int, n_numbers: int, seed: int) -> np.ndarray:
    wanted = min(n_rows, MAX_STATES, max(100, _MAX_NUMBERS // max(n_numbers, 1)))
    return np.sort(np.random.default_rng(seed).permutation(n_rows)[:wanted])


def _join(arrays: list[np.ndarray], rows: np.ndarray) -> np.ndarray:
    return np.concatenate([np.empty((len(rows), 0)), *(array[rows].astype(np.float64) for array in arrays)], axis=1)
