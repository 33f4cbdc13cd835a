"""Policies of TD3fD: those of DDPGfD with other defaults."""

from typing import Any

from gymnasium import spaces
from stable_baselines3.common.torch_layers import CombinedExtractor, NatureCNN
from stable_baselines3.common.type_aliases import Schedule

from sb3_pgfd.ddpgfd.policies import DDPGfDPolicy


class TD3fDPolicy(DDPGfDPolicy):
    """
    Actor and critics of TD3fD: see :class:`~sb3_pgfd.ddpgfd.policies.DDPGfDPolicy`.

    :param observation_space: Observation space
    :param action_space: Action space
    :param lr_schedule: Learning rate schedule
    :param net_arch: Hidden layers, of both networks or ``dict(pi=..., qf=...)``
    :param n_critics: Number of critics
    :param layer_norm: Whether the critics normalise their hidden layers (RLPD, Ball et al. 2023, arXiv 2302.02948,
        section 4.2)
    :param average_actor: Rate of the running mean of the actors
    :param kwargs: See ``DDPGfDPolicy``
    """

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Box,
        lr_schedule: Schedule,
        net_arch: list[int] | dict[str, list[int]] | None = None,
        n_critics: int = 2,
        layer_norm: bool = True,
        average_actor: float | None = 0.002,
        **kwargs: Any,
    ):
        super().__init__(
            observation_space,
            action_space,
            lr_schedule,
            net_arch=[128, 128] if net_arch is None else net_arch,
            n_critics=n_critics,
            layer_norm=layer_norm,
            average_actor=average_actor,
            **kwargs,
        )


class TD3fDCnnPolicy(TD3fDPolicy):
    """Policy for images: see :class:`TD3fDPolicy`, with SB3's ``NatureCNN`` as features extractor by default."""

    def __init__(self, observation_space: spaces.Space, action_space: spaces.Box, lr_schedule: Schedule, **kwargs: Any):
        kwargs.setdefault("features_extractor_class", NatureCNN)
        super().__init__(observation_space, action_space, lr_schedule, **kwargs)


class TD3fDMultiInputPolicy(TD3fDPolicy):
    """Policy for Dict observations: see :class:`TD3fDPolicy`, with ``CombinedExtractor`` by default."""

    def __init__(self, observation_space: spaces.Space, action_space: spaces.Box, lr_schedule: Schedule, **kwargs: Any):
        kwargs.setdefault("features_extractor_class", CombinedExtractor)
        super().__init__(observation_space, action_space, lr_schedule, **kwargs)


MlpPolicy = TD3fDPolicy
CnnPolicy = TD3fDCnnPolicy
MultiInputPolicy = TD3fDMultiInputPolicy
