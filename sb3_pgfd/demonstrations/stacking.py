"""Stacks of frames, as SB3's ``VecFrameStack`` makes them."""

from collections.abc import Mapping

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env.stacked_observations import StackedObservations

from sb3_pgfd.demonstrations.arrays import owned
from sb3_pgfd.demonstrations.episode import T
from sb3_pgfd.demonstrations.errors import DemonstrationsError
from sb3_pgfd.demonstrations.validation import as_dict
from sb3_pgfd.utils.checks import is_whole

ChannelsOrder = str | None | Mapping[str, str | None]


def stack_frames(demonstrations: T, n_stack: int, channels_order: ChannelsOrder = None) -> T:
    """
    Replace each observation by the last ones of its episode, the newest last, with zeros before its first one. It takes
    ``n_stack`` times the memory.

    :param demonstrations: Box or Dict observations, one frame each
    :param n_stack: Frames per observation
    :param channels_order: ``"first"`` or ``"last"``: the axis that frames are joined along, for Dict observations perhaps by
        key. None: the channels of images (three axes of uint8), otherwise the last axis
    :raises DemonstrationsError: If ``n_stack`` is no whole number of at least 1, an observation has no axis, or the
        demonstrations are stacks already
    """
    if not is_whole(n_stack, 1):
        raise DemonstrationsError(f"stack_frames: found {n_stack!r}, expected a whole number of at least 1")
    if n_stack == 1:
        return demonstrations
    if demonstrations.metadata.get("frame_stack", 1) != 1:
        found = f"stacks of {demonstrations.metadata['frame_stack']} frames already"
        raise DemonstrationsError(f"stack_frames: found {found}, expected single frames: leave it out")
    steps = np.arange(len(demonstrations)) - np.repeat(demonstrations.episode_starts, demonstrations.episode_lengths)
    stacked: dict[str, dict[str, np.ndarray]] = {"observations": {}, "next_observations": {}}
    firsts, seconds = as_dict(demonstrations.observations), as_dict(demonstrations.next_observations)
    keys = list(demonstrations.observations) if isinstance(demonstrations.observations, Mapping) else [""]
    for key, name, first, second in zip(keys, firsts, firsts.values(), seconds.values(), strict=True):
        order = channels_order.get(key) if isinstance(channels_order, Mapping) else channels_order
        axis = _axis(name, first, n_stack, order)
        frames = [_earlier(first, steps, age) for age in reversed(range(n_stack))]
        stacked["observations"][key] = owned(np.concatenate(frames, axis=axis))
        stacked["next_observations"][key] = owned(np.concatenate([*frames[1:], second], axis=axis))
    fields = {field: arrays[""] if keys == [""] else arrays for field, arrays in stacked.items()}
    # It describes single frames
    metadata = {name: value for name, value in demonstrations.metadata.items() if name != "observation_space"}
    return demonstrations.changed(**fields, metadata={**metadata, "frame_stack": n_stack})


def _axis(name: str, array: np.ndarray, n_stack: int, channels_order: str | None) -> int:
    """:return: The axis of the rows that frames are joined along, as SB3 chooses it"""
    if channels_order not in (None, "first", "last"):
        raise DemonstrationsError(f"channels_order: found {channels_order!r}, expected 'first', 'last' or None")
    if array.ndim < 2:
        raise DemonstrationsError(f"{name}: found shape {array.shape[1:]} per step, expected an axis to stack frames along")
    space = spaces.Box(0, 255 if array.dtype == np.uint8 else 1, array.shape[1:], array.dtype.type)
    return StackedObservations.compute_stacking(n_stack, space, channels_order)[1]


def _earlier(array: np.ndarray, steps: np.ndarray, age: int) -> np.ndarray:
    """:return: What each row's episode had ``age`` steps before, or zeros"""
    if age == 0:
        return array
    frames = np.zeros_like(array)
    frames[age:] = array[:-age]
    frames[steps < age] = 0
    return frames
