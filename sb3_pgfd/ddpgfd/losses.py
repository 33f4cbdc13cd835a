"""The losses of DDPGfD, as functions of tensors. B is the batch size; columns have shape ``(B, 1)``."""

from collections.abc import Sequence
from typing import Any

import torch as th
from stable_baselines3.common.type_aliases import TensorDict

from sb3_pgfd.ddpgfd.policies import Critic


def td_target(
    rewards: th.Tensor, bootstrap: th.Tensor, next_q: th.Tensor, q_range: tuple[float, float] | None = None
) -> th.Tensor:
    """
    y = R_k + gamma^k (1 - terminated) Q'(s_k, pi'(s_k)), for 1-step and n-step returns alike.

    :param rewards: R_k, a column
    :param bootstrap: gamma^k (1 - terminated), a column
    :param next_q: Q'(s_k, pi'(s_k)), a column
    :param q_range: Smallest and largest return that is possible: targets are clipped to it
    """
    target = th.addcmul(rewards, bootstrap, next_q)
    return target if q_range is None else target.clamp(*q_range)


def smoothed(actions: th.Tensor, noise: float, clip: float) -> th.Tensor:
    """
    :param actions: Of the target policy, scaled to [-1, 1]
    :param noise: Standard deviation of what is added (Fujimoto et al. 2018, arXiv 1802.09477, section 5.3)
    :param clip: Its largest absolute value
    :return: Actions in [-1, 1]
    """
    return (actions + th.randn_like(actions).mul_(noise).clamp_(-clip, clip)).clamp_(-1.0, 1.0)


def squared_errors(q_values: Sequence[th.Tensor], targets: th.Tensor) -> th.Tensor:
    """
    :param q_values: Q(s, a) of each critic, columns
    :param targets: One column per kind of return, y_1 and y_n, shape ``(B, n_returns)``
    :return: (Q - y)^2 summed over the critics, shape ``(B, n_returns)``
    """
    if len(q_values) == 1:
        return (q_values[0] - targets).square()
    return (th.stack(tuple(q_values)) - targets).square().sum(dim=0)


def action_gradient(critic: Critic, observations: th.Tensor | TensorDict, actions: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
    """
    grad_a Q(s, a) per row, of the first critic, without any gradient of the critic's weights.

    :param critic: Q
    :param observations: s
    :param actions: Where to take it, pi(s), shape ``(B, action_dim)``; not differentiated further
    :return: Q(s, a), a column, and g = grad_a Q(s, a), shape ``(B, action_dim)``
    """
    actions = actions.detach().requires_grad_()
    q_values = critic.q1_forward(observations, actions)  # type: ignore[arg-type]  # SB3 types Dict observations as tensors
    (gradient,) = th.autograd.grad(q_values, actions, th.ones_like(q_values))
    return q_values.detach(), gradient


def policy_gradient(gradient: th.Tensor, weights: th.Tensor) -> th.Tensor:
    """
    The gradient of the loss -mean(w_i Q(s_i, pi(s_i))) with respect to the actions pi(s_i). Carried on through pi it is
    the deterministic policy gradient (Silver et al. 2014, equation 9; Lillicrap et al. 2016, equation 6), and no
    gradient of the critic's weights is ever made.

    :param gradient: g_i = grad_a Q(s_i, a) at a = pi(s_i), shape ``(B, action_dim)``
    :param weights: w_i, a column
    :return: -w_i g_i / B, shape ``(B, action_dim)``
    """
    return weights * gradient * (-1.0 / len(gradient))


@th.no_grad()
def prefers(critic: Critic, observations: Any, actions: th.Tensor, others: th.Tensor) -> th.Tensor:
    """
    The Q-filter (Nair et al. 2018, arXiv 1709.10089, equation 3).

    :param critic: Q
    :param observations: s
    :param actions: a, shape ``(B, action_dim)``
    :param others: b, likewise
    :return: Whether Q(s, a) > Q(s, b), of the first critic, a column, bool
    """
    return critic.q1_forward(observations, actions) > critic.q1_forward(observations, others)


def behavior_cloning_loss(actions: th.Tensor, demo_actions: th.Tensor, mask: th.Tensor, n_demos: th.Tensor) -> th.Tensor:
    """
    sum over kept demonstrations of |pi(s) - a|^2, over the number of demonstrations in the batch (Nair et al. 2018,
    arXiv 1709.10089, equations 1 and 3).

    :param actions: pi(s), with its graph, shape ``(B, action_dim)``
    :param demo_actions: a, shape ``(B, action_dim)``
    :param mask: Which rows count, a column, bool
    :param n_demos: Number of demonstrations in the batch, before the Q-filter
    """
    distances = (actions - demo_actions).square().sum(dim=1, keepdim=True)
    return (distances * mask).sum() / n_demos.clamp(min=1)


def transition_errors(td_errors: th.Tensor, gradient: th.Tensor, action_gradient_coef: float) -> th.Tensor:
    """
    delta_i^2 + lambda_3 |grad_a Q(s_i, a_i)|^2, what of a priority is the networks' own (Vecerik et al. 2017, section 3).

    :param td_errors: delta_i^2, a column
    :param gradient: grad_a Q(s_i, pi(s_i)), shape ``(B, action_dim)``
    :param action_gradient_coef: lambda_3
    :return: A column
    """
    squared_norm = th.linalg.vecdot(gradient, gradient)[:, None]
    return td_errors.add(squared_norm, alpha=action_gradient_coef)


def priorities(errors: th.Tensor, is_demo: th.Tensor, epsilon: float, demo_bonus: float) -> th.Tensor:
    """
    p_i = delta_i^2 + lambda_3 |grad_a Q(s_i, a_i)|^2 + eps + eps_D [i is a demonstration] (Vecerik et al. 2017,
    section 3).

    :param errors: delta_i^2 + lambda_3 |grad_a Q(s_i, a_i)|^2, a column, perhaps in units of its mean
    :param is_demo: Whether i is a demonstration, a column, bool
    :param epsilon: eps
    :param demo_bonus: eps_D
    :return: p_i, a column
    """
    return errors.add(is_demo, alpha=demo_bonus).add_(epsilon)


def agent_mean(errors: th.Tensor, weights: th.Tensor, is_demo: th.Tensor) -> th.Tensor:
    """
    The mean over all of the agent's transitions, estimated from a batch that was drawn by priority: with beta = 1 the
    importance weights make up for that, with less those of high priority count more.

    :param errors: Of the batch, a column
    :param weights: w_i, a column
    :param is_demo: Whether i is a demonstration, a column, bool; if all are, as in pretraining, the mean is over these
    :return: A number
    """
    own = weights * ~is_demo
    total = own.sum()
    if total == 0.0:
        own, total = weights, weights.sum()
    return (own * errors).sum() / total
