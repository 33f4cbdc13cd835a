"""Gradient descent."""

from collections.abc import Sequence

import torch as th
from stable_baselines3.common.policies import BaseModel


def descend(network: BaseModel, outputs: th.Tensor | Sequence[th.Tensor], gradients: th.Tensor | Sequence[th.Tensor]) -> None:
    """
    One step of a network's optimiser down the gradient of a loss.

    :param network: Whose parameters are changed
    :param outputs: Functions of its parameters
    :param gradients: Derivatives of the loss with respect to these
    """
    parameters = network.optimizer.param_groups[0]["params"]
    # These gradients replace the old ones, which spares adding them to zeros. A shared features extractor has none
    # from the critic
    for parameter, gradient in zip(
        parameters, th.autograd.grad(outputs, parameters, gradients, allow_unused=True), strict=True
    ):
        parameter.grad = gradient
    network.optimizer.step()
