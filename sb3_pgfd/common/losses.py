"""Losses of the off-policy algorithms, as functions of tensors. B is the batch size; columns have shape ``(B, 1)``."""

from collections.abc import Callable, Sequence
from math import comb, log, pi
from typing import Any

import torch as th

from sb3_pgfd.replay import DemoBatch

QFunction = Callable[[Any, th.Tensor], th.Tensor]
"""Q(s, a) as a column, of observations and actions"""


def smallest(q_values: Sequence[th.Tensor]) -> th.Tensor:
    """
    :param q_values: Of each critic that counts, columns
    :return: The smallest of the critics' values, a column (TD3, Fujimoto et al. 2018, arXiv 1802.09477, equation 10)
    """
    if len(q_values) == 1:
        return q_values[0]
    return th.cat(tuple(q_values), dim=1).min(dim=1, keepdim=True).values


def smallest_shares(n_critics: int, n_picked: int) -> list[float]:
    """
    :param n_critics: Number of critics
    :param n_picked: How many of them are picked at random
    :return: Probability that the smallest value, the second smallest, ... is the smallest of those that are picked. With it
        an action's value is the mean of its targets over all random choices, and does not change from one call to the next
    """
    return [comb(n_critics - 1 - rank, n_picked - 1) / comb(n_critics, n_picked) for rank in range(n_critics)]


def clone_weight(q: th.Tensor, q_clone: th.Tensor, temperature: float | None) -> th.Tensor:
    """
    :param q: Q(s, a) of the policy's action
    :param q_clone: Q(s, b) of the clone's
    :param temperature: T of the soft choice, exp(Q / T) over the sum of both (IBRL, Hu et al. 2023, arXiv 2311.02198); None:
        the larger one is chosen
    :return: Probability of the clone's action, of the same shape
    """
    return (q_clone > q).to(q.dtype) if temperature is None else th.sigmoid((q_clone - q) / temperature)


def td_targets(
    rewards: th.Tensor, bootstrap: th.Tensor, next_q: th.Tensor, q_range: tuple[float, float] | None = None
) -> th.Tensor:
    """
    y_k = R_k + gamma^k (1 - terminated) Q'(s_k, pi'(s_k)), for 1-step and n-step returns alike.

    :param rewards: R_k, one column per kind of return, shape ``(B, K)``
    :param bootstrap: gamma^k (1 - terminated), shape ``(B, K)``
    :param next_q: Q'(s_k, pi'(s_k)) of the K B next states, shape ``(K B, 1)``
    :param q_range: Smallest and largest possible return: targets are clipped to it (Andrychowicz et al. 2017, arXiv
        1707.01495, appendix A)
    :return: Shape ``(B, K)``
    """
    targets = th.addcmul(rewards, bootstrap, next_q.view_as(rewards))
    return targets if q_range is None else targets.clamp(*q_range)


def smoothed(actions: th.Tensor, noise: float, clip: float) -> th.Tensor:
    """
    Target policy smoothing (TD3, section 5.3).

    :param actions: Of the target policy, scaled to [-1, 1]
    :param noise: Standard deviation of the noise that is added
    :param clip: Its largest absolute value
    :return: Actions in [-1, 1]
    """
    return (actions + th.randn_like(actions).mul_(noise).clamp_(-clip, clip)).clamp_(-1.0, 1.0)


def squashed_log_prob(noise: th.Tensor, log_std: th.Tensor, unsquashed: th.Tensor) -> th.Tensor:
    """
    log pi(a) of a = tanh(u) with u = mean + std * noise (SAC, Haarnoja et al. 2018, arXiv 1801.01290, appendix C). The factor
    1 - tanh(u)^2 is computed as 4 / (e^u + e^-u)^2, which does not lose its digits where tanh(u) rounds to 1.

    :param noise: Of a standard normal distribution, shape ``(B, action_dim)``
    :param log_std: Logarithm of the standard deviation, likewise
    :param unsquashed: u, likewise
    :return: A column
    """
    of_normal = -0.5 * noise.square() - log_std - 0.5 * log(2.0 * pi)
    log_slope = 2.0 * (log(2.0) - unsquashed - th.nn.functional.softplus(-2.0 * unsquashed))
    return (of_normal - log_slope).sum(dim=1, keepdim=True)


def squared_errors(q_values: Sequence[th.Tensor], targets: th.Tensor) -> th.Tensor:
    """
    :param q_values: Q(s, a) of each critic, columns
    :param targets: y_1 and y_n, shape ``(B, K)``
    :return: (Q - y)^2 summed over the critics, shape ``(B, K)``
    """
    if len(q_values) == 1:
        return (q_values[0] - targets).square()
    return (th.stack(tuple(q_values)) - targets).square().sum(dim=0)


def action_gradient(q: QFunction, observations: Any, actions: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
    """
    grad_a Q(s, a) per row. No gradient of the critic's weights is made.

    :param q: Q
    :param observations: s
    :param actions: Where to take it, pi(s), shape ``(B, action_dim)``; not differentiated further
    :return: Q(s, a), a column, and g = grad_a Q(s, a), shape ``(B, action_dim)``
    """
    actions = actions.detach().requires_grad_()
    q_values = q(observations, actions)
    (gradient,) = th.autograd.grad(q_values, actions, th.ones_like(q_values))
    return q_values.detach(), gradient


def policy_gradient_loss(actions: th.Tensor, gradient: th.Tensor, weights: th.Tensor) -> th.Tensor:
    """
    A loss with the gradient of -mean(w_i Q(s_i, pi(s_i))) with respect to the actor's weights: by the chain rule that is
    -mean(w_i g_i d pi(s_i)), the deterministic policy gradient (Silver et al. 2014, equation 9).

    :param actions: pi(s), with its graph, shape ``(B, action_dim)``
    :param gradient: g_i = grad_a Q(s_i, a) at a = pi(s_i), shape ``(B, action_dim)``, a constant
    :param weights: w_i, a column
    """
    return (actions * (weights * gradient)).sum() * (-1.0 / len(actions))


def mean_size(q_values: th.Tensor) -> th.Tensor:
    """:return: Mean |Q| of the batch, positive: the unit of Q in which a weight of cloning means the same at any scale"""
    return q_values.abs().mean().clamp(min=1e-8)


@th.no_grad()
def prefers(q: QFunction, observations: Any, actions: th.Tensor, q_other: th.Tensor) -> th.Tensor:
    """
    The Q-filter (Nair et al. 2018, arXiv 1709.10089, equation 3).

    :param q: Q
    :param observations: s
    :param actions: a, shape ``(B, action_dim)``
    :param q_other: Q(s, b) of other actions, a column
    :return: Whether Q(s, a) > Q(s, b), a column, bool
    """
    return q(observations, actions) > q_other


def behavior_cloning_loss(actions: th.Tensor, demo_actions: th.Tensor, mask: th.Tensor, is_demo: th.Tensor) -> th.Tensor:
    """
    Sum over kept demonstrations of |pi(s) - a|^2, over the number of demonstrations in the batch (Nair et al. 2018,
    arXiv 1709.10089, equations 1 and 3).

    :param actions: pi(s), with its graph, shape ``(B, action_dim)``
    :param demo_actions: a, shape ``(B, action_dim)``
    :param mask: Which rows are cloned, a column, bool
    :param is_demo: Which rows are demonstrations, before the Q-filter, a column, bool
    """
    distances = (actions - demo_actions).square().sum(dim=1, keepdim=True)
    return (distances * mask).sum() / is_demo.sum().clamp(min=1)


def batch_metrics(batch: DemoBatch, errors: th.Tensor, q_values: th.Tensor) -> dict[str, th.Tensor]:
    """
    :param batch: B transitions
    :param errors: (Q - y_1)^2 and (Q - y_n)^2, shape ``(B, K)``
    :param q_values: Q(s, a), a column
    :return: What every update logs the means of, by name
    """
    metrics = {"q_mean": q_values.detach(), "demo_fraction": batch.is_demo, "is_weight_mean": batch.weights}
    if errors.shape[1] > 1:
        metrics["critic_loss_n_step"] = batch.weights * errors[:, 1:].detach()
    return metrics
