"""The losses of A2CfD, as functions of tensors. B is the number of transitions, M of demonstrations."""

import torch as th
from torch.nn import functional as F


def policy_gradient_loss(log_prob: th.Tensor, advantages: th.Tensor) -> th.Tensor:
    """
    -mean(A log pi(a | s)) (Mnih et al. 2016, arXiv 1602.01783, section 4).

    :param log_prob: log pi(a | s), shape ``(B,)``
    :param advantages: A, shape ``(B,)``, taken as constants
    """
    return -(advantages * log_prob).mean()


def value_loss(values: th.Tensor, returns: th.Tensor) -> th.Tensor:
    """
    Huber loss: quadratic within 1 of the target, linear outside (Huber 1964; torch's smooth L1).

    :param values: V(s), shape ``(B,)``
    :param returns: What is bootstrapped or summed, shape ``(B,)``, taken as constants
    """
    return F.smooth_l1_loss(values, returns)


def cloning_loss(log_prob: th.Tensor) -> th.Tensor:
    """
    -mean(log pi(a | s)) over demonstrations: maximum likelihood.

    :param log_prob: log pi(a | s) of demonstrations, shape ``(M,)``
    """
    return -log_prob.mean()


def demonstration_weight(bc_coef: float, bc_decay: float, iteration: int, advantages: th.Tensor) -> th.Tensor:
    """
    w = lambda_0 lambda_1^k max A, the weight of a demonstration in the place of its advantage (DAPG, Rajeswaran et al.
    2018, arXiv 1709.10087, equation 4).

    :param bc_coef: lambda_0
    :param bc_decay: lambda_1
    :param iteration: k, the number of updates of the actor so far
    :param advantages: A of the agent's own transitions, shape ``(B,)``. A batch without a positive one counts 0
    """
    return advantages.max().clamp(min=0.0) * (bc_coef * bc_decay**iteration)


def normalized(advantages: th.Tensor) -> th.Tensor:
    """
    :param advantages: Shape ``(B,)``; a single one is left as it is, for it has no standard deviation
    :return: With mean 0 and standard deviation 1
    """
    if len(advantages) < 2:
        return advantages
    return (advantages - advantages.mean()) / (advantages.std() + 1e-8)
