"""Features extractors for the ``policy_kwargs`` of any SB3 algorithm."""

from collections.abc import Sequence

import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor

from sb3_pgfd.utils.checks import is_number, is_whole


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

    :param observation_space: A ``Box`` of shape ``(k,)``
    :param pairs: Each pair ``(i, j)`` appends the position starting at entry j minus the position starting at entry i
    :param size: Number of entries of a position
    :param scale: Factor of the differences. A factor above 1 helps, because gradient descent learns from large inputs first
    :raises ValueError: If the space is no such Box, there is no pair, a position reaches beyond the observation, or a number
        is out of range
    """

    def __init__(self, observation_space: spaces.Space, pairs: Sequence[Sequence[int]], size: int = 3, scale: float = 1.0):
        if not isinstance(observation_space, spaces.Box) or len(observation_space.shape) != 1:
            raise ValueError(f"observation_space: found {observation_space}, expected a Box of shape (k,)")
        if not is_whole(size, 1):
            raise ValueError(f"size: found {size!r}, expected a whole number >= 1")
        if not is_number(scale, 0.0) or scale == 0.0:
            raise ValueError(f"scale: found {scale!r}, expected a number > 0")
        (n_entries,) = observation_space.shape
        two_each = bool(pairs) and all(isinstance(pair, Sequence) and len(pair) == 2 for pair in pairs)
        if not two_each or not all(is_whole(start, 0) and start + size <= n_entries for pair in pairs for start in pair):
            raise ValueError(
                f"pairs: found {pairs!r}, expected pairs of entries at which a position of size {size} starts, in an "
                f"observation of {n_entries} entries"
            )
        super().__init__(observation_space, n_entries + len(pairs) * size)
        self.scale = scale
        entries = th.tensor(pairs)[:, :, None] + th.arange(size)
        first, second = entries.transpose(0, 1).flatten(1)
        # Buffers move to the policy's device; they are not saved, because the constructor makes them again
        self.register_buffer("first", first, persistent=False)
        self.register_buffer("second", second, persistent=False)
        self.first: th.Tensor
        self.second: th.Tensor

    def forward(self, observations: th.Tensor) -> th.Tensor:
        """
        :param observations: Shape ``(B, k)``
        :return: Observations and differences, shape ``(B, features_dim)``
        """
        differences = observations.index_select(1, self.second) - observations.index_select(1, self.first)
        return th.cat((observations, self.scale * differences), dim=1)
