"""What an update of an off-policy algorithm is, written as a loop over rows."""

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch as th
from small_models import set_priorities

from sb3_pgfd import DDPGfD, Demonstrations
from sb3_pgfd.demonstrations import Episode

GAMMA = 0.5
MIXED: dict[str, Any] = dict(gamma=GAMMA, n_steps=3, n_step_coef=0.5, pretrain_steps=0, learning_rate=1e-2)
PRIORITIES: dict[str, Any] = dict(demo_bonus=0.3, priority_exponent=0.7)


class Transition(NamedTuple):
    """A transition as Python numbers."""

    state: float
    action: float
    reward: float
    next_state: float
    terminated: bool
    last: bool


class Batch(NamedTuple):
    """The batch that the next update will draw."""

    indices: np.ndarray
    rows: list[int]
    """Places in the list of all transitions"""
    weights: th.Tensor
    is_demo: np.ndarray


def random_demonstrations() -> tuple[Demonstrations, list[Transition]]:
    rng = np.random.default_rng(0)
    episodes, rows = [], []
    for length, terminated in ((4, True), (1, False), (3, False)):
        states = rng.uniform(-1, 1, (length + 1, 1)).astype(np.float32)
        actions = rng.uniform(-1, 1, (length, 1)).astype(np.float32)
        rewards = rng.uniform(-1, 1, length).astype(np.float32)
        episodes.append(Episode(states, 2.0 * actions, rewards, terminated))
        for t in range(length):
            last = t == length - 1
            numbers = (float(states[t, 0]), float(actions[t, 0]), float(rewards[t]), float(states[t + 1, 0]))
            rows.append(Transition(*numbers, terminated=last and terminated, last=last))
    return Demonstrations.from_episodes(episodes), rows


def fill_ring(model: DDPGfD, rows: list[tuple[float, float, float, float, bool]]) -> list[Transition]:
    """:param rows: Consecutive transitions: s, a (scaled), r, s', whether s' is terminal"""
    for state, action, reward, next_state, terminated in rows:
        obs, next_obs, scaled = (np.array([[value]], dtype=np.float32) for value in (state, next_state, action))
        model.buffer.add(obs, next_obs, scaled, np.array([reward]), np.array([terminated]), [{}])
    transitions = [Transition(*row, last=row[4]) for row in rows]
    # The write head ends an n-step window like the end of an episode
    return [*transitions[:-1], transitions[-1]._replace(last=True)]


def mix(model: DDPGfD, rows: list[Transition]) -> list[Transition]:
    """
    Give a model with random demonstrations transitions of its own, networks far from zero, and priorities that differ.

    :param rows: The demonstrations
    :return: All transitions, demonstrations first
    """
    rng = np.random.default_rng(1)
    # Each state is where the one before led, but the fourth, as the third transition ends an episode
    states = [0.1, 0.2, 0.3, -0.4, 0.5, 0.6]
    own = [(states[t], *rng.uniform(-1, 1, 2).astype(np.float32), states[t + 1], t == 2) for t in range(5)]
    rows = rows + fill_ring(model, own)
    for network in (model.actor, model.critic, model.actor_target, model.critic_target):
        for parameter in network.parameters():
            th.nn.init.normal_(parameter, std=0.5)
    n_demos = model.buffer.n_demonstrations
    indices = np.append(np.arange(n_demos) + model.buffer.ring.n_rows, np.arange(len(own)))
    set_priorities(model, indices, rng.uniform(0.4, 3.0, len(rows)))
    model.learn(0)
    return rows


def next_batch(model: DDPGfD) -> Batch:
    state = np.random.get_state()
    indices = model.buffer.sample_batch(model.batch_size).indices
    np.random.set_state(state)
    is_demo = indices >= model.buffer.ring.n_rows
    rows = np.where(is_demo, indices - model.buffer.ring.n_rows, indices + model.buffer.n_demonstrations)
    weights = np.ones(len(indices))
    if model.buffer.demo_fraction is None:
        weights = model.buffer.priorities[indices] ** -model.buffer.priority_exponent
    return Batch(indices, rows.tolist(), th.tensor(weights / weights.max(), dtype=th.float32), is_demo)


def naive_return(rows: list[Transition], start: int, n_steps: int) -> tuple[float, float, Transition]:
    """:return: R_k, gamma^k and the transition whose next state is bootstrapped from"""
    total, discount, row = 0.0, 1.0, start
    while True:
        total += discount * rows[row].reward
        discount *= GAMMA
        if rows[row].last or row - start + 1 == n_steps:
            return total, discount, rows[row]
        row += 1


def q_values(critic: Any, state: float, action: th.Tensor) -> list[th.Tensor]:
    return [q[0, 0] for q in critic(th.tensor([[state]]), action.reshape(1, 1))]


def naive_delta(model: DDPGfD, rows: list[Transition], row: int, noise: tuple[float, ...] = (0.0, 0.0)) -> th.Tensor:
    """
    Squared errors of one row, summed over the critics: (Q - y_1)^2 + lambda_1 (Q - y_n)^2.

    :param noise: Added to the target policy's actions in s' and in the state after k steps
    """
    delta = th.zeros(())
    returns = ((1.0, 1), (model.n_step_coef, model.n_steps))
    for (coef, n_steps), added in zip(returns[: len(noise)], noise, strict=True):
        total, discount, last = naive_return(rows, row, n_steps)
        with th.no_grad():
            next_action = (model.actor_target(th.tensor([[last.next_state]])) + added).clamp(-1.0, 1.0)
            next_q = min(q_values(model.critic_target, last.next_state, next_action))
        target = total + discount * (0.0 if last.terminated else next_q)
        for q in q_values(model.critic, rows[row].state, th.tensor(rows[row].action)):
            delta = delta + coef * (q - target) ** 2
    return delta


def naive_gradient(actor: Any, critic: Any, state: float) -> float:
    """grad_a Q(s, pi(s)) by central differences in float64."""
    critic = copy.deepcopy(critic).double()
    with th.no_grad():
        action = actor(th.tensor([[state]])).double()
        above, below = (q_values(critic, state, action + step)[0] for step in (1e-5, -1e-5))
    return float(above - below) / 2e-5


def naive_actor_losses(
    model: DDPGfD, actor: Any, rows: list[Transition], batch: Batch, q_filter: bool, normalize: bool = False
) -> tuple[th.Tensor, th.Tensor]:
    """
    :param actor: The actor before its step; the critics have made theirs
    :return: -mean w_i Q(s_i, pi(s_i)), with ``normalize`` over the mean of |Q|, and the cloning loss
    """
    values, clone, n_demos = [], th.zeros(()), 0
    for row, is_demo in zip(batch.rows, batch.is_demo, strict=True):
        action = actor(th.tensor([[rows[row].state]]))[0, 0]
        values.append(q_values(model.critic, rows[row].state, action)[0])
        if is_demo:
            n_demos += 1
            demo_action = th.tensor(rows[row].action)
            if not q_filter or q_values(model.critic, rows[row].state, demo_action)[0] > values[-1]:
                clone = clone + (action - demo_action) ** 2
    q = th.stack(values)
    scale = q.detach().abs().mean() if normalize else 1.0
    return -(batch.weights * q).mean() / scale, clone / max(n_demos, 1)


def assert_gradients(network: th.nn.Module, expected: Sequence[th.Tensor]) -> None:
    """:param network: Whose last update left its gradients"""
    for parameter, gradient in zip(network.parameters(), expected, strict=True):
        assert parameter.grad is not None
        assert th.allclose(parameter.grad, gradient, rtol=1e-4, atol=1e-6)
