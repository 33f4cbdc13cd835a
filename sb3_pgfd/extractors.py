"""Features extractors, for the ``policy_kwargs`` of any algorithm of SB3."""

from collections.abc import Sequence

import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor

from sb3_pgfd.utils.checks import is_number, is_whole


class RelativePositions(BaseFeaturesExtractor):
    """
    The observation, and behind it the ways between things: differences of positions in it. What a hand does depends on the
    way to the object, not on where both are; a handful of demonstrations does not tell a network so. Observations stay as
    they are stored, so that demonstrations need no other form::

        policy_kwargs = dict(
            features_extractor_class=RelativePositions,
            # Meta-World: the hand at 0 to 2, the object at 4 to 6, the goal at 36 to 38
            features_extractor_kwargs=dict(pairs=[(0, 4), (4, 36)], scale=10.0),
        )

    :param observation_space: A ``Box`` of shape ``(k,)``
    :param pairs: ``(i, j)`` for the way to the position that begins at entry j, from that which begins at i
    :param size: Entries of a position
    :param scale: What differences are multiplied by, perhaps to make them larger than the positions: gradient descent
        learns first what large inputs tell
    :raises ValueError: If it is another space, there is no pair, a position reaches beyond the observation, or a number is
        out of range
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
                f"pairs: found {pairs!r}, expected pairs of entries of an observation of {n_entries}, at each of which a "
                f"position of size {size} begins"
            )
        super().__init__(observation_space, n_entries + len(pairs) * size)
        self.scale = scale
        begins, ends = (th.tensor([start + k for start in starts for k in range(size)]) for starts in zip(*pairs, strict=True))
        # They move with the policy to its device, and are no part of what it saves
        self.register_buffer("begins", begins, persistent=False)
        self.register_buffer("ends", ends, persistent=False)
        self.begins: th.Tensor
        self.ends: th.Tensor

    def forward(self, observations: th.Tensor) -> th.Tensor:
        """
        :param observations: Shape ``(B, k)``
        :return: Observations and differences, shape ``(B, features_dim)``
        """
        ways = observations.index_select(1, self.ends) - observations.index_select(1, self.begins)
        return th.cat((observations, self.scale * ways), dim=1)
