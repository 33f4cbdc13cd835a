"""
Policies of A2CfD: SB3's ``ActorCriticPolicy`` with an actor and a critic that share nothing, each with its own optimiser,
and for continuous actions a Gaussian whose mean stays within the bounds and whose standard deviation depends on the state.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.distributions import DiagGaussianDistribution, Distribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.preprocessing import get_action_dim
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, CombinedExtractor, FlattenExtractor, NatureCNN
from stable_baselines3.common.type_aliases import Schedule
from torch import nn
from torch.distributions import Normal

from sb3_pgfd.common.policies import fused_if_adam, init_last_layer
from sb3_pgfd.utils.checks import is_number

_LOG_SQRT_TWO_PI = 0.5 * math.log(2.0 * math.pi)


class Gaussian(Normal):
    """
    torch's ``Normal``, which need not take the logarithm of a sigma that was given by it.

    :param mean: mu
    :param log_std: log sigma, of the same shape
    """

    def __init__(self, mean: th.Tensor, log_std: th.Tensor):
        super().__init__(mean, log_std.exp())
        self.log_scale = log_std

    def log_prob(self, value: th.Tensor) -> th.Tensor:
        # Finds NaN in what was drawn
        if self._validate_args:
            self._validate_sample(value)
        deviation = (value - self.loc) / self.scale
        return th.addcmul(-_LOG_SQRT_TWO_PI - self.log_scale, deviation, deviation, value=-0.5)

    def entropy(self) -> th.Tensor:
        return self.log_scale + (0.5 + _LOG_SQRT_TWO_PI)


class A2CfDPolicy(ActorCriticPolicy):
    """
    Actor and critic of A2CfD.

    For Box actions the actor puts out mu and log sigma of a Gaussian over the action in environment units:
    mu = c + h tanh(x), sigma = h exp(l), where c and h are centre and half width of the action's bounds and l lies between
    ``log_std_min`` and ``log_std_max``. What the environment gets is clipped to the bounds, as everywhere in SB3; the
    log-probability is that of the action before clipping, which is the one that is stored.

    :param observation_space: Observation space
    :param action_space: Box of floats with finite bounds, Discrete, MultiDiscrete or MultiBinary
    :param lr_schedule: Learning rate schedule
    :param net_arch: Hidden layers, of both networks or ``dict(pi=..., vf=...)``; by default one of 128 units
    :param activation_fn: Activation function
    :param use_sde: Not supported, ``sigma`` depends on the state anyway
    :param log_std_min: Smallest log sigma, in units of the half width h
    :param log_std_max: Largest log sigma; training starts in the middle of both
    :param features_extractor_class: Features extractor, one for each network
    :param features_extractor_kwargs: Its arguments
    :param normalize_images: Whether to divide images by 255
    :param optimizer_class: Optimiser, one for each network
    :param optimizer_kwargs: Its arguments besides the learning rate
    :raises ValueError: If the actions have no finite bounds or no floats, or the range of log sigma is empty
    """

    actor_optimizer: th.optim.Optimizer
    critic_optimizer: th.optim.Optimizer
    action_net: nn.Linear
    value_net: nn.Linear
    output_center: th.Tensor
    output_width: th.Tensor

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Schedule,
        net_arch: list[int] | dict[str, list[int]] | None = None,
        activation_fn: type[nn.Module] = nn.ReLU,
        use_sde: bool = False,
        log_std_min: float = -3.0,
        log_std_max: float = 1.0,
        features_extractor_class: type[BaseFeaturesExtractor] = FlattenExtractor,
        features_extractor_kwargs: dict[str, Any] | None = None,
        normalize_images: bool = True,
        optimizer_class: type[th.optim.Optimizer] = th.optim.Adam,
        optimizer_kwargs: dict[str, Any] | None = None,
    ):
        if use_sde:
            raise ValueError("use_sde: found True, expected False: the standard deviation depends on the state anyway")
        if not (is_number(log_std_min) and is_number(log_std_max) and log_std_min < log_std_max):
            raise ValueError(f"log_std_min, log_std_max: found {log_std_min!r}, {log_std_max!r}, expected min < max")
        check_action_space(action_space)
        # Read by _build(), which the parent's constructor calls
        self.log_std_min = log_std_min
        self.log_std_max = log_std_max
        if net_arch is None:
            net_arch = [] if features_extractor_class is NatureCNN else [128]
        super().__init__(
            observation_space,
            action_space,
            lr_schedule,
            net_arch=net_arch,
            activation_fn=activation_fn,
            ortho_init=False,
            features_extractor_class=features_extractor_class,
            # SB3 adds to it for images that are normalised already
            features_extractor_kwargs=dict(features_extractor_kwargs or {}),
            # That one has nothing to learn, so nothing is shared but the time it takes
            share_features_extractor=features_extractor_class is FlattenExtractor,
            normalize_images=normalize_images,
            optimizer_class=optimizer_class,
            optimizer_kwargs=fused_if_adam(optimizer_class, optimizer_kwargs),
        )

    @property
    def actor_modules(self) -> list[nn.Module]:
        """pi, from the observation to the distribution."""
        return [self.pi_features_extractor, self.mlp_extractor.policy_net, self.action_net]

    @property
    def critic_modules(self) -> list[nn.Module]:
        """V, from the observation to the value."""
        return [self.vf_features_extractor, self.mlp_extractor.value_net, self.value_net]

    def _build(self, lr_schedule: Schedule) -> None:
        self._build_mlp_extractor()
        n_outputs = self.mlp_extractor.latent_dim_pi
        if isinstance(self.action_space, spaces.Box):
            self.action_net = nn.Linear(n_outputs, 2 * get_action_dim(self.action_space))
            self._register_output_range(self.action_space)
        else:
            action_net = self.action_dist.proba_distribution_net(latent_dim=n_outputs)
            assert isinstance(action_net, nn.Linear)
            self.action_net = action_net
        self.value_net = nn.Linear(self.mlp_extractor.latent_dim_vf, 1)
        init_last_layer([self.action_net])
        init_last_layer([self.value_net])
        make_optimizer: Callable[..., th.optim.Optimizer] = self.optimizer_class
        for name, modules in (("actor", self.actor_modules), ("critic", self.critic_modules)):
            parameters = [parameter for module in modules for parameter in module.parameters()]
            setattr(self, f"{name}_optimizer", make_optimizer(parameters, lr=lr_schedule(1), **self.optimizer_kwargs))

    def _register_output_range(self, action_space: spaces.Box) -> None:
        """Centre and half width of mu, then of log sigma, component by component."""
        low, high = action_space.low.flatten().astype(np.float64), action_space.high.flatten().astype(np.float64)
        middle, half = (self.log_std_max + self.log_std_min) / 2, (self.log_std_max - self.log_std_min) / 2
        scale = (high - low) / 2
        center = np.concatenate([(high + low) / 2, middle + np.log(scale)])
        width = np.concatenate([scale, np.full_like(scale, half)])
        self.register_buffer("output_center", th.as_tensor(center, dtype=th.float32), persistent=False)
        self.register_buffer("output_width", th.as_tensor(width, dtype=th.float32), persistent=False)

    def _get_action_dist_from_latent(self, latent_pi: th.Tensor) -> Distribution:
        if not isinstance(self.action_dist, DiagGaussianDistribution):
            return super()._get_action_dist_from_latent(latent_pi)
        # One operation for mean and log sigma: on small networks each costs as much as a layer
        outputs = th.addcmul(self.output_center, self.output_width, self.action_net(latent_pi).tanh())
        mean, log_std = outputs.chunk(2, dim=-1)
        self.action_dist.distribution = Gaussian(mean, log_std)
        return self.action_dist

    @property
    def relative_std(self) -> th.Tensor:
        """sigma of the last distribution over the half width of the bounds, shape ``(B, action_dim)``."""
        assert isinstance(self.action_dist, DiagGaussianDistribution)
        return self.action_dist.distribution.stddev.detach() / self.output_width[: self.action_dist.action_dim]

    def _get_constructor_parameters(self) -> dict[str, Any]:
        data = super()._get_constructor_parameters()
        for name in ("ortho_init", "log_std_init", "squash_output", "full_std", "use_expln"):
            del data[name]
        return {**data, "log_std_min": self.log_std_min, "log_std_max": self.log_std_max}


def check_action_space(action_space: spaces.Space) -> None:
    """
    :param action_space: The environment's
    :raises ValueError: If a Box has no finite range or whole numbers (a rollout would store other actions than were
        drawn), or if actions are counted from another number than 0, as SB3 does
    """
    if isinstance(action_space, spaces.Box):
        width = action_space.high.astype(np.float64) - action_space.low.astype(np.float64)
        if not (np.isfinite(width) & (width > 0.0)).all():
            raise ValueError(f"action_space: found {action_space}, expected finite bounds: rescale the actions by a wrapper")
        if not np.issubdtype(action_space.dtype, np.floating):
            raise ValueError(f"action_space: found {action_space}, expected floats: round them by a wrapper")
    elif isinstance(action_space, (spaces.Discrete, spaces.MultiDiscrete)) and np.any(action_space.start):
        raise ValueError(f"action_space: found {action_space}, expected choices from 0: shift the actions by a wrapper")


class A2CfDCnnPolicy(A2CfDPolicy):
    """Policy for images: see :class:`A2CfDPolicy`, with SB3's ``NatureCNN`` as features extractor by default."""

    def __init__(self, observation_space: spaces.Space, action_space: spaces.Space, lr_schedule: Schedule, **kwargs: Any):
        kwargs.setdefault("features_extractor_class", NatureCNN)
        super().__init__(observation_space, action_space, lr_schedule, **kwargs)


class A2CfDMultiInputPolicy(A2CfDPolicy):
    """Policy for Dict observations: see :class:`A2CfDPolicy`, with ``CombinedExtractor`` by default."""

    def __init__(self, observation_space: spaces.Space, action_space: spaces.Space, lr_schedule: Schedule, **kwargs: Any):
        kwargs.setdefault("features_extractor_class", CombinedExtractor)
        super().__init__(observation_space, action_space, lr_schedule, **kwargs)


MlpPolicy = A2CfDPolicy
CnnPolicy = A2CfDCnnPolicy
MultiInputPolicy = A2CfDMultiInputPolicy
