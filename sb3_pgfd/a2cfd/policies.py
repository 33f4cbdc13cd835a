"""
Policies of A2CfD: SB3's ``ActorCriticPolicy`` with separate networks for actor and critic. For continuous actions the mean
stays within the bounds and the standard deviation depends on the state.
"""

import math
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.distributions import DiagGaussianDistribution, Distribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, CombinedExtractor, FlattenExtractor, NatureCNN
from stable_baselines3.common.type_aliases import Schedule
from torch import nn

from sb3_pgfd.common.policies import fused_if_adam, init_last_layer
from sb3_pgfd.utils.checks import is_number


class A2CfDPolicy(ActorCriticPolicy):
    """
    Actor and critic of A2CfD.

    For Box actions the actor's outputs x and y give a Gaussian over the action in environment units:
    mu = c + h tanh(x) and sigma = h exp(m + d tanh(y)), where c and h are centre and half width of the action's bounds and
    m and d those of the range of log sigma. The environment gets the action clipped to its bounds, as everywhere in SB3;
    stored is the action before clipping with its log-probability. With ``use_sde`` it is SB3's gSDE instead.

    The optimiser has two groups of parameters, "actor" and "critic", each with its own learning rate.

    :param observation_space: Observation space
    :param action_space: Box of floats with finite bounds, Discrete, MultiDiscrete or MultiBinary
    :param lr_schedule: Learning rate schedule
    :param net_arch: Hidden layers, of both networks or ``dict(pi=..., vf=...)``; by default one of 128 units
    :param activation_fn: Activation function
    :param ortho_init: Whether to initialise all layers orthogonally, as SB3 does. Otherwise torch's initialisation is used,
        and the last layers start uniform in +-3e-3
    :param use_sde: Whether to explore by generalised state-dependent exploration (gSDE)
    :param log_std_init: log sigma at the start, in units of the half width h; by default in the middle of its range. With
        ``use_sde`` it is SB3's argument, by default 0
    :param log_std_min: Smallest log sigma, in units of h
    :param log_std_max: Largest log sigma, in units of h
    :param features_extractor_class: Features extractor, by default SB3's for the kind of observation
    :param features_extractor_kwargs: Its arguments
    :param share_features_extractor: Whether actor and critic share one features extractor. It learns from both losses at the
        critic's learning rate
    :param optimizer_class: Optimiser
    :param optimizer_kwargs: Its arguments besides the learning rate
    :param kwargs: Further arguments of ``ActorCriticPolicy``
    :raises ValueError: If the actions cannot be drawn, or log sigma has no range or starts outside it
    """

    action_net: nn.Linear
    output_center: th.Tensor
    output_width: th.Tensor
    default_extractor: ClassVar[type[BaseFeaturesExtractor]] = FlattenExtractor

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Schedule,
        net_arch: list[int] | dict[str, list[int]] | None = None,
        activation_fn: type[nn.Module] = nn.ReLU,
        ortho_init: bool = False,
        use_sde: bool = False,
        log_std_init: float | None = None,
        log_std_min: float = -3.0,
        log_std_max: float = 1.0,
        features_extractor_class: type[BaseFeaturesExtractor] | None = None,
        features_extractor_kwargs: dict[str, Any] | None = None,
        share_features_extractor: bool = False,
        optimizer_class: type[th.optim.Optimizer] = th.optim.Adam,
        optimizer_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ):
        if not (is_number(log_std_min) and is_number(log_std_max) and log_std_min < log_std_max):
            raise ValueError(f"log_std_min, log_std_max: found {log_std_min!r}, {log_std_max!r}, expected min < max")
        if log_std_init is None:
            log_std_init = 0.0 if use_sde else (log_std_min + log_std_max) / 2
        elif not use_sde and not (is_number(log_std_init) and log_std_min < log_std_init < log_std_max):
            expected = f"a number between log_std_min = {log_std_min:g} and log_std_max = {log_std_max:g}"
            raise ValueError(f"log_std_init: found {log_std_init!r}, expected {expected}")
        check_action_space(action_space)
        # The parent's constructor calls _build(), which reads these
        self.log_std_min, self.log_std_max = log_std_min, log_std_max
        features_extractor_class = features_extractor_class or self.default_extractor
        if net_arch is None:
            net_arch = [] if features_extractor_class is NatureCNN else [128]
        # FlattenExtractor has no parameters: sharing it saves time and changes nothing
        share_features_extractor = share_features_extractor or features_extractor_class is FlattenExtractor
        # SB3 adds to this dict for images that are already normalised
        features_extractor_kwargs = dict(features_extractor_kwargs or {})
        super().__init__(
            observation_space,
            action_space,
            lr_schedule,
            net_arch=net_arch,
            activation_fn=activation_fn,
            ortho_init=ortho_init,
            use_sde=use_sde,
            log_std_init=log_std_init,
            features_extractor_class=features_extractor_class,
            features_extractor_kwargs=features_extractor_kwargs,
            share_features_extractor=share_features_extractor,
            optimizer_class=optimizer_class,
            optimizer_kwargs=fused_if_adam(optimizer_class, optimizer_kwargs),
            **kwargs,
        )

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        if isinstance(self.action_dist, DiagGaussianDistribution):
            # SB3's log sigma is one vector for all states; here it is the second half of the actor's outputs
            del self.log_std
            self.action_net = nn.Linear(self.mlp_extractor.latent_dim_pi, 2 * self.action_dist.action_dim)
        if self.ortho_init:
            # SB3's gain, again because this layer may be new
            self.action_net.apply(partial(self.init_weights, gain=0.01))
        else:
            init_last_layer([self.action_net])
            init_last_layer([self.value_net])
        if isinstance(self.action_space, spaces.Box) and not self.use_sde:
            self._set_output_range(self.action_space)
        # An extractor of the user's own need not have a part for the critic alone
        value_layers = getattr(self.mlp_extractor, "value_net", self.mlp_extractor)
        of_critic = [p for module in (self.vf_features_extractor, value_layers, self.value_net) for p in module.parameters()]
        known = {id(parameter) for parameter in of_critic}
        of_actor = [parameter for parameter in self.parameters() if id(parameter) not in known]
        groups = [{"name": "actor", "params": of_actor}, {"name": "critic", "params": of_critic}]
        make_optimizer: Any = self.optimizer_class
        self.optimizer = make_optimizer(groups, lr=lr_schedule(1), **self.optimizer_kwargs)

    def _set_output_range(self, action_space: spaces.Box) -> None:
        """c and m, then h and d of each component, and the bias of y that log sigma starts from."""
        low, high = action_space.low.flatten().astype(np.float64), action_space.high.flatten().astype(np.float64)
        middle, half = (self.log_std_max + self.log_std_min) / 2, (self.log_std_max - self.log_std_min) / 2
        scale = (high - low) / 2
        center = np.concatenate([(high + low) / 2, middle + np.log(scale)])
        width = np.concatenate([scale, np.full_like(scale, half)])
        self.register_buffer("output_center", th.as_tensor(center, dtype=th.float32), persistent=False)
        self.register_buffer("output_width", th.as_tensor(width, dtype=th.float32), persistent=False)
        with th.no_grad():
            self.action_net.bias[len(scale) :] += math.atanh((self.log_std_init - middle) / half)

    def _get_action_dist_from_latent(self, latent_pi: th.Tensor) -> Distribution:
        if not isinstance(self.action_dist, DiagGaussianDistribution):
            return super()._get_action_dist_from_latent(latent_pi)
        outputs = th.addcmul(self.output_center, self.output_width, self.action_net(latent_pi).tanh())
        mean, log_std = outputs.chunk(2, dim=-1)
        return self.action_dist.proba_distribution(mean, log_std)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        # SB3 forgets the third
        names = ("log_std_min", "log_std_max", "share_features_extractor")
        return {**super()._get_constructor_parameters(), **{name: getattr(self, name) for name in names}}


def check_action_space(action_space: spaces.Space) -> None:
    """
    :param action_space: The environment's
    :raises ValueError: If a component of a Box has no width or no bounds, if a Box holds whole numbers (a rollout would
        store other actions than were drawn), or if choices are not counted from 0 in one axis, as SB3 has them
    """
    if isinstance(action_space, spaces.Box):
        width = action_space.high.astype(np.float64) - action_space.low.astype(np.float64)
        if not np.isfinite(width).all():
            raise ValueError(f"action_space: found {action_space}, expected finite bounds: rescale the actions by a wrapper")
        for index in np.argwhere(width <= 0.0).tolist():
            component = f"component {', '.join(map(str, index))}"
            raise ValueError(f"action_space: found low == high for {component} of {action_space}: remove it by a wrapper")
        if not np.issubdtype(action_space.dtype, np.floating):
            raise ValueError(f"action_space: found {action_space}, expected floats: round them by a wrapper")
    elif isinstance(action_space, spaces.MultiDiscrete) and action_space.nvec.ndim > 1:
        raise ValueError(
            f"action_space: found MultiDiscrete({action_space.nvec.tolist()}), expected one axis of choices: flatten the "
            "actions by a wrapper"
        )
    elif isinstance(action_space, (spaces.Discrete, spaces.MultiDiscrete)) and np.any(action_space.start):
        raise ValueError(f"action_space: found {action_space}, expected choices from 0: shift the actions by a wrapper")


class CnnPolicy(A2CfDPolicy):
    """Policy for images: see :class:`A2CfDPolicy`."""

    default_extractor = NatureCNN


class MultiInputPolicy(A2CfDPolicy):
    """Policy for Dict observations: see :class:`A2CfDPolicy`."""

    default_extractor = CombinedExtractor


MlpPolicy = A2CfDPolicy
