"""What the networks of several algorithms have in common."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import ContinuousCritic
from stable_baselines3.common.preprocessing import get_action_dim
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, create_mlp
from stable_baselines3.common.utils import get_parameters_by_name, polyak_update
from torch import nn

# Bound of the uniform distribution that the last layers start from, so that the first actions and values are
# near zero (Lillicrap et al. 2016, arXiv 1509.02971, section 7)
LAST_LAYER_BOUND = 3e-3


def init_last_layer(layers: nn.Sequential | Sequence[nn.Module]) -> None:
    """:param layers: Of which the last linear one is drawn anew, uniform in +-3e-3"""
    last = [layer for layer in layers if isinstance(layer, nn.Linear)][-1]
    nn.init.uniform_(last.weight, -LAST_LAYER_BOUND, LAST_LAYER_BOUND)
    if last.bias is not None:
        nn.init.uniform_(last.bias, -LAST_LAYER_BOUND, LAST_LAYER_BOUND)


def with_dropout(layers: nn.Sequential, probability: float) -> nn.Sequential:
    """
    :param layers: Linear layers, with an activation behind each but the last
    :param probability: With which a hidden unit is left out in training
    :return: The same layers with dropout in front of each linear one but the first
    """
    linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
    dropped = [(nn.Dropout(probability), layer) if layer in linear[1:] else (layer,) for layer in layers]
    return nn.Sequential(*(layer for group in dropped for layer in group))


def fused_if_adam(optimizer_class: type[th.optim.Optimizer], optimizer_kwargs: Mapping[str, Any] | None) -> dict[str, Any]:
    """
    Let Adam update all parameters in one kernel: for small networks the loop over them costs as much as the gradients.

    :param optimizer_class: Any optimiser
    :param optimizer_kwargs: Its arguments
    :return: The same with Adam's fused implementation, unless another implementation is chosen: torch refuses two
    """
    kwargs = dict(optimizer_kwargs or {})
    if optimizer_class in (th.optim.Adam, th.optim.AdamW) and {"fused", "foreach", "differentiable"}.isdisjoint(kwargs):
        kwargs["fused"] = True
    return kwargs


class Critic(ContinuousCritic):
    """
    Q(s, a), one network per critic, with optional LayerNorm.

    :param layer_norm: Whether to normalise the hidden layers, which bounds how far Q can rise outside the data
        (RLPD, Ball et al. 2023, arXiv 2302.02948, section 4.2)
    :param kwargs: See SB3's ``ContinuousCritic``
    """

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Box,
        net_arch: list[int],
        features_extractor: BaseFeaturesExtractor,
        features_dim: int,
        activation_fn: type[nn.Module] = nn.ReLU,
        n_critics: int = 1,
        layer_norm: bool = False,
        **kwargs: Any,
    ):
        # The parent builds no networks of its own
        super().__init__(
            observation_space,
            action_space,
            net_arch,
            features_extractor,
            features_dim,
            activation_fn,
            n_critics=0,
            **kwargs,
        )
        self.n_critics = n_critics
        post_linear: list[type[nn.Module]] = [nn.LayerNorm] if layer_norm else []
        for idx in range(n_critics):
            layers = create_mlp(
                features_dim + get_action_dim(action_space), 1, net_arch, activation_fn, post_linear_modules=post_linear
            )
            init_last_layer(layers)
            q_net = nn.Sequential(*layers)
            self.add_module(f"qf{idx}", q_net)
            self.q_networks.append(q_net)


class TargetNetworks:
    """
    Networks that follow others slowly: theta' <- theta' + tau (theta - theta').

    :param networks: theta
    :param targets: theta', in the same order
    """

    def __init__(self, networks: Sequence[nn.Module], targets: Sequence[nn.Module]):
        # By target, so that a features extractor that actor and critic share moves once
        pairs: dict[th.Tensor, th.Tensor] = {}
        for network, target in zip(networks, targets, strict=True):
            pairs |= zip(target.parameters(), network.parameters(), strict=True)
        self._targets, self._parameters = list(pairs), list(pairs.values())
        # Running mean and variance of batch normalisation are copied, see SB3's issue 996
        self._statistics = [tensor for network in networks for tensor in get_parameters_by_name(network, ["running_"])]
        self._target_statistics = [tensor for network in targets for tensor in get_parameters_by_name(network, ["running_"])]

    @th.no_grad()
    def update(self, tau: float) -> None:
        """:param tau: Share of the way, 1: copy"""
        # One call for all parameters
        th._foreach_lerp_(self._targets, self._parameters, tau)
        polyak_update(self._statistics, self._target_statistics, 1.0)
