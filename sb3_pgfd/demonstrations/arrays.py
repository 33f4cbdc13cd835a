"""Read-only arrays, and operations on observations, which are one array or one array per key."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
from gymnasium import spaces

from sb3_pgfd.demonstrations.errors import DemonstrationsError
from sb3_pgfd.demonstrations.validation import Observations

# Where None, the array keeps its dtype
_DTYPES = {
    "actions": None,
    "rewards": np.float32,
    "terminated": np.bool_,
    "truncated": np.bool_,
    "episode_lengths": np.int64,
}
_INFO_DTYPES = {"success": np.bool_, "seed": np.int64, "cut": np.bool_}


class FrozenDict(dict[str, Any]):
    """A dict that cannot be changed: code that asks for a dict, as SB3's does for Dict observations, takes it."""

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError("demonstrations cannot be changed: make a copy, dict(...)")

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        # Copies and pickles are plain dicts, which can be filled
        return dict, (dict(self),)


def freeze(name: str, value: Any) -> Any:
    """:return: The value of a field of a dataset, read-only, with the field's dtype"""
    if name in _DTYPES:
        return frozen(value, _DTYPES[name], name)
    if name == "metadata":
        return json_copy(value)
    if name == "episode_info":
        return _frozen_mapping(value, name, _INFO_DTYPES)
    if name in ("observations", "next_observations"):
        return _frozen_mapping(value, name, {}) if isinstance(value, Mapping) else frozen(value, None, name)
    return value


def frozen(array: Any, dtype: Any, name: str) -> np.ndarray:
    """
    :param dtype: Dtype to convert the numbers to; None keeps theirs
    :return: A read-only array. It is a copy unless nobody else can write to the given one, see :func:`owned`
    :raises DemonstrationsError: If the array does not hold numbers; the message has the name
    """
    try:
        array = np.asarray(array)
    except ValueError:
        raise DemonstrationsError(f"{name}: found rows of different shapes, expected one shape") from None
    if array.dtype.kind not in "biuf":
        raise DemonstrationsError(f"{name}: found dtype {array.dtype}, expected {'bool' if dtype is np.bool_ else 'numbers'}")
    if dtype is np.int64 and array.dtype.kind not in "iu" and array.size:
        raise DemonstrationsError(f"{name}: found dtype {array.dtype}, expected whole numbers")
    base = array.base
    private = base is None or (isinstance(base, np.ndarray) and base.base is None and not base.flags.writeable)
    shared = array.flags.writeable or not private
    copy = np.array(array, dtype=dtype) if shared else array.astype(dtype or array.dtype, copy=False)
    copy.flags.writeable = False
    return copy


def owned(array: np.ndarray) -> np.ndarray:
    """Mark an array that nobody else holds, or a view of one, as read-only, so that :func:`frozen` does not copy it."""
    if isinstance(array.base, np.ndarray):
        array.base.flags.writeable = False
    array.flags.writeable = False
    return array


def _frozen_mapping(arrays: Mapping[str, Any], name: str, dtypes: Mapping[str, Any]) -> Mapping[str, np.ndarray]:
    # Sorted, so that observations and next observations have their keys in the same order
    return FrozenDict({key: frozen(arrays[key], dtypes.get(key), f"{name}[{key!r}]") for key in sorted(arrays)})


def json_copy(metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    """A copy through JSON. It is the same before and after it was in a file."""
    try:
        return FrozenDict(json.loads(json.dumps(dict(metadata), default=_plain)))
    except (TypeError, ValueError, RecursionError) as error:
        raise DemonstrationsError(
            f"metadata: found what JSON cannot hold ({error}), expected names and plain values"
        ) from None


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else str(value)


def map_observations(observations: Observations, function: Callable[[np.ndarray], np.ndarray]) -> Observations:
    """:return: One array, or one per key, with the function applied to each"""
    if isinstance(observations, Mapping):
        return {key: function(array) for key, array in observations.items()}
    return function(observations)


def concatenate(parts: Sequence[Observations], rows: slice = slice(None)) -> Observations:
    """:return: These rows of all parts, which have the same keys"""
    first = parts[0]
    if isinstance(first, Mapping):
        return {key: _join([np.asarray(part[key])[rows] for part in parts]) for key in first}
    return _join([np.asarray(part)[rows] for part in parts])


def _join(arrays: Sequence[np.ndarray]) -> np.ndarray:
    # Without a dtype, NumPy converts numbers to the machine's byte order
    dtypes = {array.dtype for array in arrays}
    return owned(np.concatenate(arrays, dtype=dtypes.pop() if len(dtypes) == 1 else None))


def unscaled(actions: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """:return: Actions in [-1, 1] in environment units, whose bounds are ``low`` and ``high``"""
    return low + (actions + 1) / 2 * (high - low)


def channels_first(observations: Observations, space: spaces.Space) -> Observations:
    """
    :param observations: Recorded, images with their channels last or first
    :param space: The model's observation space, images with their channels first
    """
    if isinstance(space, spaces.Dict) and isinstance(observations, Mapping):
        return {key: _channels_first(array, space.spaces.get(key)) for key, array in observations.items()}
    return observations if isinstance(observations, Mapping) else _channels_first(observations, space)


def _channels_first(array: np.ndarray, space: spaces.Space | None) -> np.ndarray:
    shape = None if space is None else space.shape
    if shape is None or len(shape) != 3 or array.shape[1:] == shape or array.shape[1:] != (*shape[1:], shape[0]):
        return array
    return np.moveaxis(array, -1, 1)


def resized(picture: np.ndarray, size: int) -> np.ndarray:
    """
    :param picture: Shape ``(height, width, channels)``, uint8
    :param size: Pixels in each direction
    :return: The largest square in its middle, each pixel the mean of those that it covers, shape ``(size, size, channels)``
    """
    side = min(picture.shape[:2])
    top, left = ((length - side) // 2 for length in picture.shape[:2])
    square = picture[top : top + side, left : left + side]
    edges = np.linspace(0, side, size + 1).round().astype(int)
    if side < size:
        return square[edges[:-1].clip(max=side - 1)][:, edges[:-1].clip(max=side - 1)]
    sums = np.add.reduceat(np.add.reduceat(square, edges[:-1], axis=0, dtype=np.uint32), edges[:-1], axis=1)
    counts = np.outer(np.diff(edges), np.diff(edges))[..., None]
    return ((sums + counts // 2) // counts).astype(np.uint8)


def discounted_returns(rewards: np.ndarray, episode_lengths: np.ndarray, gamma: float) -> np.ndarray:
    """:return: G_t = r_t + gamma G_{t + 1} within each episode, of rewards of shape ``(N,)``; shape ``(N,)``, float64"""
    returns = np.array(rewards, dtype=np.float64)
    ends = set((np.cumsum(episode_lengths) - 1).tolist())
    for row in reversed(range(len(rewards))):
        if row not in ends:
            returns[row] += gamma * returns[row + 1]
    return returns
