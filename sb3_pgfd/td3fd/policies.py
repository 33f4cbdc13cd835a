"""Policies of TD3fD: those of DDPGfD with other defaults."""

from typing import Any

from gymnasium import spaces
from stable_baselines3.common.type_aliases import Schedule

from sb3_pgfd.ddpgfd import policies as ddpgfd


class TD3fDPolicy(ddpgfd.DDPGfDPolicy):
    """
    Actor and critics of TD3fD: see :class:`~sb3_pgfd.ddpgfd.policies.DDPGfDPolicy`.

    :param observation_space: Observation space
    :param action_space: Action space
    :param lr_schedule: Learning rate schedule
    :param kwargs: See ``DDPGfDPolicy``. By default there are two critics with LayerNorm (RLPD, Ball et al. 2023, arXiv
        2302.02948, section 4.2), two hidden layers of 128 units, and a running mean of the actors
    """

    def __init__(self, observation_space: spaces.Space, action_space: spaces.Box, lr_schedule: Schedule, **kwargs: Any):
        defaults = {"net_arch": [128, 128], "n_critics": 2, "layer_norm": True, "average_actor": 0.002}
        super().__init__(observation_space, action_space, lr_schedule, **{**defaults, **kwargs})


class TD3fDCnnPolicy(TD3fDPolicy, ddpgfd.DDPGfDCnnPolicy):
    """Policy for images: see :class:`TD3fDPolicy`, with SB3's ``NatureCNN`` as features extractor by default."""


class TD3fDMultiInputPolicy(TD3fDPolicy, ddpgfd.DDPGfDMultiInputPolicy):
    """Policy for Dict observations: see :class:`TD3fDPolicy`, with ``CombinedExtractor`` by default."""


MlpPolicy = TD3fDPolicy
CnnPolicy = TD3fDCnnPolicy
MultiInputPolicy = TD3fDMultiInputPolicy
