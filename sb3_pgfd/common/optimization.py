"""Steps of optimisers, which also run inside of a compiled update."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch as th

_formulas = False


@contextmanager
def as_formulas() -> Iterator[None]:
    """While this is active, :func:`descend` computes Adam's step with tensor operations that can be traced."""
    global _formulas
    _formulas = True
    try:
        yield
    finally:
        _formulas = False


def descend(optimizer: th.optim.Optimizer, loss: th.Tensor) -> None:
    """
    One step down the gradient of a loss, for the optimiser's own parameters.

    :param optimizer: Of some parameters
    :param loss: A number. Parameters that it does not depend on stay as they are
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    gradients = th.autograd.grad(loss, parameters, allow_unused=True)
    if _formulas:
        _adam_step(optimizer, dict(zip(parameters, gradients, strict=True)))
        return
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    optimizer.step()


@th.no_grad()
def _adam_step(optimizer: th.optim.Optimizer, gradients: dict[th.Tensor, th.Tensor | None]) -> None:
    """Adam (Kingma and Ba 2015, arXiv 1412.6980, algorithm 1), with weight decay as torch's Adam or AdamW have it."""
    is_decoupled = isinstance(optimizer, th.optim.AdamW)
    for group in optimizer.param_groups:
        (beta1, beta2), rate, decay = group["betas"], group["lr"], group["weight_decay"]
        for parameter in group["params"]:
            gradient = gradients[parameter]
            if gradient is None:
                continue
            state, theta = optimizer.state[parameter], parameter.detach()
            state["step"].add_(1.0)
            if is_decoupled:
                theta.mul_(1.0 - rate * decay)
            elif decay != 0.0:
                # Not add(theta, alpha=decay): inductor of torch 2.13 fuses it with the product before and forgets alpha
                gradient = gradient + decay * theta
            state["exp_avg"].lerp_(gradient, 1.0 - beta1)
            state["exp_avg_sq"].mul_(beta2).addcmul_(gradient, gradient, value=1.0 - beta2)
            scale = (1.0 - beta2 ** state["step"]).sqrt()
            step_size = rate / (1.0 - beta1 ** state["step"])
            theta.sub_(step_size * state["exp_avg"] / (state["exp_avg_sq"].sqrt() / scale + group["eps"]))


def optimizer_tensors(optimizer: th.optim.Optimizer) -> list[th.Tensor]:
    """:return: What it remembers of all parameters"""
    return [value for state in optimizer.state.values() for value in state.values() if isinstance(value, th.Tensor)]


def can_be_compiled(optimizer: th.optim.Optimizer, device: th.device) -> str | None:
    """:return: Why its step cannot be part of a compiled update; None if it can"""
    if device.type == "cuda":
        fixed = all(group.get("capturable") for group in optimizer.param_groups)
        return None if fixed else f"{type(optimizer).__name__} has no option `capturable`"
    if type(optimizer) not in (th.optim.Adam, th.optim.AdamW):
        return f"its optimiser is {type(optimizer).__name__}, expected Adam or AdamW"
    odd = [name for group in optimizer.param_groups for name in ("amsgrad", "maximize") if group[name]]
    return f"{type(optimizer).__name__} with {odd[0]}=True" if odd else None


def set_group(group: dict[str, Any], rate: float, weight_decay: float, compiled: bool, device: th.device) -> None:
    """
    :param group: Parameter group of an optimiser
    :param rate: Learning rate
    :param weight_decay: lambda_2
    :param compiled: Whether the step is part of a compiled update, which reads the rate from a tensor
    :param device: Of the parameters
    """
    group["weight_decay"] = weight_decay
    if "capturable" in group:
        group["capturable"] = compiled and device.type == "cuda"
    if not compiled:
        group["lr"] = rate
    elif isinstance(group["lr"], th.Tensor) and group["lr"].device.type == device.type:
        group["lr"].fill_(rate)
    else:
        group["lr"] = th.tensor(rate, device=device)
