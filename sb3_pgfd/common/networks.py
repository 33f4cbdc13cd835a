"""What the networks of all algorithms begin with."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch as th
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


def fused_if_adam(optimizer_class: type[th.optim.Optimizer], optimizer_kwargs: Mapping[str, Any] | None) -> dict[str, Any]:
    """
    One kernel for all parameters: for small networks the loop over them costs as much as the gradients.

    :param optimizer_class: Any optimiser
    :param optimizer_kwargs: Its arguments
    :return: The arguments, with Adam's fused implementation unless another one is chosen: torch refuses two
    """
    kwargs = dict(optimizer_kwargs or {})
    if optimizer_class in (th.optim.Adam, th.optim.AdamW) and {"fused", "foreach", "differentiable"}.isdisjoint(kwargs):
        kwargs["fused"] = True
    return kwargs
