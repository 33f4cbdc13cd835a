"""Several critics, on a GPU as one batched product for each layer."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch as th
from stable_baselines3.common.policies import ContinuousCritic
from torch import nn

from sb3_pgfd.common.images import TakesFeatures

# Of single numbers, and without weights
_ACTIVATIONS = (nn.ReLU, nn.LeakyReLU, nn.ELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Softplus, nn.Sigmoid, nn.Tanh)


class Critics(TakesFeatures, ContinuousCritic):
    """
    SB3's ``ContinuousCritic``, whose networks are multiplied together where that is faster. They stay networks with weights of
    their own, so that files, optimisers and subclasses need not know.
    """

    batched_on: tuple[str, ...] = ("cuda",)
    """
    Types of devices with one batched product for each layer. On a GPU the number of kernels counts. On a CPU the copy of the
    weights costs more than it saves, see ``docs/decisions.md``
    """

    @cached_property
    def _are_alike(self) -> bool:
        return are_alike(self.q_networks)

    def forward(self, obs: Any, actions: th.Tensor, picked: th.Tensor | None = None) -> tuple[th.Tensor, ...]:
        """
        :param obs: s
        :param actions: a
        :param picked: Numbers of the critics that are asked, None: all
        :return: Q(s, a) of each of them, columns. They train their features extractor, also one that the actor uses
        """
        inputs = th.cat((self.extract_features(obs, self.features_extractor), actions), dim=1)
        if self._are_alike and actions.device.type in self.batched_on:
            values = batched(self.q_networks, inputs).unbind()
        elif self._are_alike and picked is not None:
            return batched(self.q_networks, inputs, picked).unbind()
        else:
            values = tuple(q_net(inputs) for q_net in self.q_networks)
        return values if picked is None else th.cat(values, dim=1).index_select(1, picked).split(1, dim=1)


def are_alike(networks: Sequence[nn.Module]) -> bool:
    """:return: Whether :func:`batched` can compute them"""
    return len(networks) > 1 and all(_layers(network) == _layers(networks[0]) is not None for network in networks)


def _layers(network: nn.Module) -> list[Any] | None:
    """:return: The kinds of its layers, None: there is one that is not batched"""
    kinds: list[Any] = []
    for layer in network.children():
        if isinstance(layer, nn.Linear) and layer.bias is not None:
            kinds.append((layer.in_features, layer.out_features))
        elif isinstance(layer, nn.LayerNorm) and layer.elementwise_affine and layer.bias is not None:
            kinds.append((layer.normalized_shape, layer.eps))
        elif type(layer) in _ACTIVATIONS:
            kinds.append(repr(layer))
        else:
            return None
    return kinds if isinstance(network, nn.Sequential) else None


def batched(networks: Sequence[nn.Module], inputs: th.Tensor, picked: th.Tensor | None = None) -> th.Tensor:
    """
    :param networks: Networks with the same layers, see :func:`are_alike`
    :param inputs: Of all of them, shape ``(B, n_inputs)``
    :param picked: Numbers of n of the networks, None: all
    :return: Shape ``(n, B, n_outputs)``
    """
    by_layer = list(zip(*(network.parameters() for network in networks), strict=True))
    if picked is None:
        n = len(networks)
        # All weights in one copy, those of a layer side by side
        copied = th.cat([parameter.flatten() for parameters in by_layer for parameter in parameters])
        weights = iter(copied.split([n * parameters[0].numel() for parameters in by_layer]))
    else:
        n = len(picked)
        weights = iter([th.stack(parameters).index_select(0, picked) for parameters in by_layer])
    x = inputs.expand(n, *inputs.shape)
    for layer in networks[0].children():
        if isinstance(layer, nn.Linear):
            weight = next(weights).view(n, layer.out_features, layer.in_features)
            x = th.baddbmm(next(weights).view(n, 1, -1), x, weight.mT)
        elif isinstance(layer, nn.LayerNorm):
            scale, shift = next(weights).view(n, 1, -1), next(weights).view(n, 1, -1)
            x = th.addcmul(shift, nn.functional.layer_norm(x, layer.normalized_shape, eps=layer.eps), scale)
        else:
            x = layer(x)
    return x
