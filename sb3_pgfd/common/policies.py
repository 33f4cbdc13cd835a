"""Parts of networks, and target networks."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch as th
from stable_baselines3.common.utils import get_parameters_by_name, polyak_update
from torch import nn

# Bound of the uniform distribution that the last layers start from, so that the first actions and values are
# near zero (Lillicrap et al. 2016, arXiv 1509.02971, section 7)
LAST_LAYER_BOUND = 3e-3


def init_last_layer(layers: nn.Module | Sequence[nn.Module]) -> None:
    """
    Draw the weights of the last linear layer anew, uniform in +-3e-3.

    :param layers: A network
    """
    found = layers.modules() if isinstance(layers, nn.Module) else layers
    last = [layer for layer in found if isinstance(layer, nn.Linear)][-1]
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


def with_layer_norm(layers: nn.Module) -> nn.Sequential:
    """
    :param layers: Linear layers of a critic, with an activation behind each but the last
    :return: The same layers with LayerNorm behind each linear one but the last, which bounds how far Q can rise outside
        the data (RLPD, Ball et al. 2023, arXiv 2302.02948, section 4.2)
    """
    linear = [layer for layer in layers.children() if isinstance(layer, nn.Linear)]
    normed = [(layer, nn.LayerNorm(layer.out_features)) if layer in linear[:-1] else (layer,) for layer in layers.children()]
    return nn.Sequential(*(layer for group in normed for layer in group))


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


def check_precision(precision: str) -> None:
    """:raises ValueError: If it is none that :func:`matmul_precision` takes, or torch is too old"""
    if precision not in ("float32", "bf16"):
        raise ValueError(f'precision: found {precision!r}, expected "float32" or "bf16"')
    if precision == "bf16" and not hasattr(th.backends.mkldnn, "matmul"):
        raise ValueError(f"precision: found bf16 and torch {th.__version__}, expected torch 2.9 or later")


@contextmanager
def matmul_precision(precision: str, device: th.device) -> Iterator[None]:
    """
    :param precision: "float32", or "bf16": matrix products take the first 8 bits of each number and add up in float32
    :param device: Where
    """
    if precision == "float32":
        yield
    elif device.type == "cuda":
        # Cached weights would be read when a CUDA graph is captured, and not be made again when it runs
        with th.autocast("cuda", th.bfloat16, cache_enabled=False):
            yield
    else:
        backend: Any = th.backends.mkldnn
        present = backend.matmul.fp32_precision
        backend.matmul.fp32_precision = precision
        try:
            yield
        finally:
            backend.matmul.fp32_precision = present


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
    def update(self, tau: float | th.Tensor) -> None:
        """:param tau: Share of the way, 1: copy"""
        # One call for all parameters
        if isinstance(tau, th.Tensor):
            steps = th._foreach_sub(self._parameters, self._targets)
            th._foreach_mul_(steps, tau)
            th._foreach_add_(self._targets, steps)
        else:
            th._foreach_lerp_(self._targets, self._parameters, tau)
        polyak_update(self._statistics, self._target_statistics, 1.0)
