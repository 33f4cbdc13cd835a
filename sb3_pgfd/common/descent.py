"""Gradient descent."""

from collections.abc import Sequence

import torch as th


def descend(
    optimizer: th.optim.Optimizer,
    outputs: th.Tensor | Sequence[th.Tensor],
    gradients: th.Tensor | Sequence[th.Tensor] | None = None,
    max_grad_norm: float | None = None,
) -> None:
    """
    One step of an optimiser down the gradient of a loss.

    :param optimizer: Whose parameters are changed
    :param outputs: The loss, or functions of these parameters that it is a function of
    :param gradients: Derivatives of the loss with respect to the latter
    :param max_grad_norm: Largest norm of the whole gradient, longer ones are shortened to it
    """
    parameters = optimizer.param_groups[0]["params"]
    # These gradients replace the old ones, which spares adding them to zeros. A shared features extractor has none
    # from the critic
    for parameter, gradient in zip(
        parameters, th.autograd.grad(outputs, parameters, gradients, allow_unused=True), strict=True
    ):
        parameter.grad = gradient
    if max_grad_norm is not None:
        th.nn.utils.clip_grad_norm_(parameters, max_grad_norm)
    optimizer.step()
