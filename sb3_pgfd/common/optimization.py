"""Steps of optimisers, which also run inside of a compiled update."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch as th
from stable_baselines3.common.utils import LinearSchedule

FALLING_RATE = LinearSchedule(1e-3, 0.0, 1.0)
"""A learning rate that falls to 0: with a constant one single evaluations still jump at the end of a run"""

_formulas = False


@contextmanager
def without_denormals() -> Iterator[None]:
    """
    Let numbers below 1e-38 be 0 on a CPU, where products with them take many times as long. Adam's means of gradients that
    have been 0 for some thousand updates, as those of a unit that has died, come to lie there, and learning slows down.
    """
    was_on = bool(th.tensor(1e-40).mul(1.0) == 0.0)
    th.set_flush_denormal(True)
    try:
        yield
    finally:
        th.set_flush_denormal(was_on)


@contextmanager
def as_formulas() -> Iterator[None]:
    """While this is active, :func:`descend` computes an optimiser's step with tensor operations that can be traced."""
    global _formulas
    _formulas = True
    try:
        yield
    finally:
        _formulas = False


def descend(optimizer: th.optim.Optimizer, loss: th.Tensor, max_grad_norm: float | None = None) -> None:
    """
    One step down the gradient of a loss, for the optimiser's own parameters.

    :param optimizer: Of some parameters
    :param loss: A number. Parameters that it does not depend on stay as they are
    :param max_grad_norm: Largest norm of the gradient, of each group of parameters by itself; None: any
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"] if parameter.requires_grad]
    gradients = th.autograd.grad(loss, parameters, allow_unused=True)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    if max_grad_norm is not None:
        for group in optimizer.param_groups:
            # One norm for each tensor: inductor has no kernel for those of a list
            th.nn.utils.clip_grad_norm_(group["params"], max_grad_norm, foreach=False if _formulas else None)
    if _formulas:
        _step_of_formulas(optimizer)
    else:
        optimizer.step()


@th.no_grad()
def _step_of_formulas(optimizer: th.optim.Optimizer) -> None:
    """A step of Adam or RMSprop, with weight decay as torch has it."""
    is_decoupled = isinstance(optimizer, th.optim.AdamW)
    step = _rms_prop_step if isinstance(optimizer, th.optim.RMSprop) else _adam_step
    for group in optimizer.param_groups:
        decay = group["weight_decay"]
        for parameter in group["params"]:
            gradient = parameter.grad
            if gradient is None:
                continue
            state, theta = optimizer.state[parameter], parameter.detach()
            state["step"].add_(1.0)
            if is_decoupled:
                theta.mul_(1.0 - group["lr"] * decay)
            elif decay != 0.0:
                # Not add(theta, alpha=decay): inductor of torch 2.13 fuses it with the product before and forgets alpha
                gradient = gradient + decay * theta
            theta.sub_(step(group, state, gradient))


def _adam_step(group: dict[str, Any], state: dict[str, th.Tensor], gradient: th.Tensor) -> th.Tensor:
    """Kingma and Ba 2015, arXiv 1412.6980, algorithm 1."""
    beta1, beta2 = group["betas"]
    state["exp_avg"].lerp_(gradient, 1.0 - beta1)
    state["exp_avg_sq"].mul_(beta2).addcmul_(gradient, gradient, value=1.0 - beta2)
    scale = (1.0 - beta2 ** state["step"]).sqrt()
    step_size = group["lr"] / (1.0 - beta1 ** state["step"])
    return step_size * state["exp_avg"] / (state["exp_avg_sq"].sqrt() / scale + group["eps"])


def _rms_prop_step(group: dict[str, Any], state: dict[str, th.Tensor], gradient: th.Tensor) -> th.Tensor:
    """Tieleman and Hinton 2012, lecture 6.5 of "Neural Networks for Machine Learning"."""
    state["square_avg"].mul_(group["alpha"]).addcmul_(gradient, gradient, value=1.0 - group["alpha"])
    return group["lr"] * gradient / (state["square_avg"].sqrt() + group["eps"])


def optimizer_tensors(optimizer: th.optim.Optimizer) -> list[th.Tensor]:
    """:return: What it remembers of all parameters"""
    return [value for state in optimizer.state.values() for value in state.values() if isinstance(value, th.Tensor)]


def can_be_compiled(optimizer: th.optim.Optimizer, device: th.device) -> str | None:
    """:return: Why its step cannot be part of a compiled update; None if it can"""
    if device.type == "cuda":
        fixed = all(group.get("capturable") for group in optimizer.param_groups)
        return None if fixed else f"{type(optimizer).__name__} has no option `capturable`"
    if type(optimizer) not in (th.optim.Adam, th.optim.AdamW, th.optim.RMSprop):
        return f"its optimiser is {type(optimizer).__name__}, expected Adam, AdamW or RMSprop"
    options = ("amsgrad", "maximize", "foreach", "centered", "momentum")
    odd = [f"{name}={group[name]}" for group in optimizer.param_groups for name in options if group.get(name)]
    return f"{type(optimizer).__name__} with {odd[0]}" if odd else None


class LearningRates:
    """
    Sets the learning rates and the weight decay of optimisers.

    :param compiled: Whether their steps are part of a compiled update, which reads the rate from a tensor
    :param device: Of the parameters
    """

    def __init__(self, compiled: bool, device: th.device):
        self._compiled = compiled
        self._device = device
        # By optimiser and number of the group: another dict is there when an optimiser has been loaded
        self._tensors: dict[tuple[int, int], tuple[th.Tensor, float]] = {}

    def __reduce__(self) -> str:
        raise TypeError("the tensors of an optimiser are of their process: they are made anew")

    def set(
        self,
        optimizer: th.optim.Optimizer,
        rate: float,
        weight_decay: float | None = None,
        of_groups: Mapping[str, float] | None = None,
    ) -> None:
        """
        :param optimizer: Any
        :param rate: Learning rate
        :param weight_decay: lambda_2, None: as it is
        :param of_groups: Learning rates of groups of parameters that have one of their own, by their ``name``
        """
        for group in optimizer.param_groups:
            if weight_decay is not None:
                group["weight_decay"] = weight_decay
            if "capturable" in group:
                group["capturable"] = self._compiled and self._device.type == "cuda"
        # An optimiser that cannot be compiled need not take a tensor
        as_tensors = self._compiled and can_be_compiled(optimizer, self._device) is None
        for number, group in enumerate(optimizer.param_groups):
            of_group = (of_groups or {}).get(group.get("name", ""), rate)
            group["lr"] = self._tensor((id(optimizer), number), of_group) if as_tensors else of_group

    def _tensor(self, key: tuple[int, int], rate: float) -> th.Tensor:
        tensor, present = self._tensors.get(key) or (th.tensor(rate, device=self._device), rate)
        if present != rate:
            tensor.fill_(rate)
        self._tensors[key] = tensor, rate
        return tensor
