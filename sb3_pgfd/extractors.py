"""Features extractors for the ``policy_kwargs`` of any SB3 algorithm."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor

from sb3_pgfd.common.images import ImageEncoder
from sb3_pgfd.utils.checks import is_number, is_whole

__all__ = ["ImageEncoder", "RelativePositions"]


class RelativePositions(BaseFeaturesExtractor):
    """
    Append differences of positions to the observation. What a gripper does depends on where the object is relative to it,
    not on where both are, and a network does not learn this from a few demonstrations. Stored observations and
    demonstrations stay as they are::

        policy_kwargs = dict(
            features_extractor_class=RelativePositions,
            # Meta-World: gripper at entries 0 to 2, object at 4 to 6, goal at 36 to 38
            features_extractor_kwargs=dict(pairs=[(0, 4), (4, 36)], scale=10.0),
        )

    In a Dict observation a position has a key, and an entry of that key unless it starts at 0::

        # Fetch: gripper, object and goal
        features_extractor_kwargs=dict(pairs=[(("observation", 0), "achieved_goal"), ("achieved_goal", "desired_goal")])

    The features then are all keys one after another, as in SB3's ``CombinedExtractor``, and the differences.
    ``sb3-pgfd demos show --features`` proposes pairs. ``VecNormalize`` must leave observations as they are, because it gives
    each entry a unit of its own: ``norm_obs=False``, or ``norm_obs_keys`` without those of the pairs.

    :param observation_space: A ``Box`` of shape ``(k,)``, or a ``Dict`` of such
    :param pairs: Each pair ``(i, j)`` appends the position starting at j minus the position starting at i
    :param size: Number of entries of a position
    :param scale: Factor of the differences. A factor above 1 helps, because gradient descent learns from large inputs first
    :raises ValueError: If the space is no such space, there is no pair, a position reaches beyond the observation, or a
        number is out of range
    """

    def __init__(self, observation_space: spaces.Space, pairs: Sequence[Sequence[Any]], size: int = 3, scale: float = 1.0):
        parts = _parts(observation_space)
        if not is_whole(size, 1):
            raise ValueError(f"size: found {size!r}, expected a whole number >= 1")
        if not is_number(scale, 0.0) or scale == 0.0:
            raise ValueError(f"scale: found {scale!r}, expected a number > 0")
        if not _is_list(pairs) or not pairs or not all(_is_list(pair) and len(pair) == 2 for pair in pairs):
            raise ValueError(f"pairs: found {pairs!r}, expected pairs of positions, such as (0, 4)")
        places = [[_place(position, parts, size) for position in pair] for pair in pairs]
        offsets = dict(zip(parts, np.cumsum([0, *parts.values()]).tolist(), strict=False))
        starts = [[offsets[key] + entry for key, entry in pair] for pair in places]
        super().__init__(observation_space, sum(parts.values()) + len(pairs) * size)
        self.keys, self.scale = list(parts), scale
        self.compared_keys = {key for pair in places for key, _ in pair}
        """Keys, '' of a Box, whose entries must have the same unit: algorithms of this package warn of ``VecNormalize``"""
        self.compared_entries = [[(entry, parts[key]) for key, entry in pair] for pair in places]
        """Where each pair starts, and of how many entries of its key: algorithms of this package warn of older frames"""
        entries = th.tensor(starts)[:, :, None] + th.arange(size)
        first, second = entries.transpose(0, 1).flatten(1)
        # Buffers move to the policy's device; they are not saved, because the constructor makes them again
        self.register_buffer("first", first, persistent=False)
        self.register_buffer("second", second, persistent=False)
        self.first: th.Tensor
        self.second: th.Tensor

    def forward(self, observations: th.Tensor | dict[str, th.Tensor]) -> th.Tensor:
        """
        :param observations: Shape ``(B, k)``, or a dict of such
        :return: Observations and differences, shape ``(B, features_dim)``
        """
        if isinstance(observations, dict):
            # An environment may have its keys in another order
            observations = th.cat([observations[key] for key in self.keys], dim=1)
        differences = observations.index_select(1, self.second) - observations.index_select(1, self.first)
        return th.cat((observations, self.scale * differences), dim=1)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _parts(space: spaces.Space) -> dict[str, int]:
    """:return: The number of entries of each key, in the order in which they are joined; a Box has the key ''"""
    parts = dict(space.items()) if isinstance(space, spaces.Dict) else {"": space}
    for key, part in parts.items():
        if not isinstance(part, spaces.Box) or len(part.shape) != 1:
            found = f"{part} of the key {key!r}" if key else f"{part}"
            raise ValueError(f"observation_space: found {found}, expected a Box of shape (k,), or a Dict of such")
    return {key: spaces.flatdim(part) for key, part in parts.items()}


def _is_entry(position: Any) -> bool:
    return _is_list(position) and len(position) == 2


def _place(position: Any, parts: dict[str, int], size: int) -> tuple[str, int]:
    """:return: The key of a position, '' in a Box, and the entry of that key at which it starts"""
    is_box = "" in parts
    key = "" if is_box else position[0] if _is_entry(position) else position
    index = position if is_box else position[1] if _is_entry(position) else 0
    if not isinstance(key, str) or key not in parts or not is_whole(index, 0) or index + size > parts[key]:
        wanted = "an entry" if is_box else "a key, or (key, entry),"
        entries = f"{parts['']} entries" if is_box else " and ".join(f"{n} entries of {name!r}" for name, n in parts.items())
        raise ValueError(
            f"pairs: found {position!r}, expected {wanted} at which a position of size {size} starts, in an observation of "
            f"{entries}"
        )
    return key, index
