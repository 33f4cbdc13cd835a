"""The spaces that a Minari dataset names: those that were recorded, or what can be told from the arrays."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np
from gymnasium import spaces

from sb3_pgfd.demonstrations.dataset import Demonstrations
from sb3_pgfd.demonstrations.errors import DemonstrationsError
from sb3_pgfd.demonstrations.spaces import space_from_json
from sb3_pgfd.demonstrations.validation import Locator, check_actions, check_observations

# Discrete spaces count with int64; values of a wider range are no choices
_MAX_CHOICES = 2**31


def observation_space(demonstrations: Demonstrations) -> spaces.Space:
    """
    :param demonstrations: What is to be written
    :return: The space of their metadata if they fit it; otherwise an unbounded one, with all values of uint8 for images
    """
    # They may have been edited since they were recorded
    with suppress(DemonstrationsError):
        recorded = space_from_json(demonstrations.metadata.get("observation_space"))
        check_observations(demonstrations.observations, _flatten(recorded))
        return recorded
    before, after = demonstrations.observations, demonstrations.next_observations
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        return _nest({key: _infer(before[key], after[key]) for key in before})
    return _infer(before, after)


def action_space(demonstrations: Demonstrations) -> spaces.Space:
    """
    :param demonstrations: What is to be written
    :return: The space of their metadata if they fit it; otherwise for one or more whole numbers per step as many choices as
        occur, else an unbounded one
    """
    with suppress(DemonstrationsError):
        recorded = space_from_json(demonstrations.metadata.get("action_space"))
        check_actions(demonstrations.actions, recorded, Locator(demonstrations.episode_lengths))
        return recorded
    actions = demonstrations.actions
    if actions.dtype.kind in "iu" and actions.ndim == 2 and actions.size:
        starts, ends = (np.array(list(map(int, bound(actions, axis=0))), dtype=object) for bound in (np.min, np.max))
        starts = np.minimum(starts, 0)
        if (ends - starts).max() < _MAX_CHOICES:
            return spaces.MultiDiscrete((ends - starts + 1).astype(np.int64), start=starts.astype(np.int64))
    return _infer(actions)


def _infer(*arrays: Any) -> spaces.Space:
    """:return: The space of one array for each step"""
    first = arrays[0]
    shape, dtype = first.shape[1:], first.dtype.newbyteorder("=")
    if dtype.kind in "iu" and shape == ():
        start, end = min(0, *(int(array.min()) for array in arrays)), max(int(array.max()) for array in arrays)
        if end - start < _MAX_CHOICES:
            return spaces.Discrete(end - start + 1, start=start)
    if dtype.kind == "f":
        low, high = -np.inf, np.inf
    elif dtype.kind == "b":
        low, high = False, True
    else:
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    return spaces.Box(np.full(shape, low, dtype), np.full(shape, high, dtype), shape, dtype.type)


def _flatten(space: spaces.Space) -> spaces.Space:
    """As observations are, with keys ``"outer/inner"``."""
    if not isinstance(space, spaces.Dict):
        return space
    flat: dict[str, spaces.Space] = {}
    for key, value in space.spaces.items():
        part = _flatten(value)
        flat |= (
            {f"{key}/{inner}": leaf for inner, leaf in part.spaces.items()} if isinstance(part, spaces.Dict) else {key: part}
        )
    return spaces.Dict(flat)


def _nest(leaves: Mapping[str, spaces.Space]) -> spaces.Dict:
    """As Minari holds them: groups in groups."""
    nested: dict[str, Any] = {}
    for key, leaf in leaves.items():
        *folders, name = key.split("/")
        inner = nested
        for folder in folders:
            inner = inner.setdefault(folder, {})
        inner[name] = leaf
    return _dict(nested)


def _dict(nested: Mapping[str, Any]) -> spaces.Dict:
    return spaces.Dict({key: _dict(value) if isinstance(value, dict) else value for key, value in nested.items()})
