"""Whole updates of DDPGfD, against a naive loop over rows."""

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch as th

from sb3_pgfd import DDPGfD, Demonstrations
from sb3_pgfd.demonstrations.dataset import Episode

MakeModel = Callable[..., DDPGfD]
GAMMA = 0.5


class Transition(NamedTuple):
    """A transition as Python numbers, for the naive loop."""

    state: float
    action: float
    reward: float
    next_state: float
    terminated: bool
    last: bool


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


def naive_delta(model: DDPGfD, rows: list[Transition], row: int) -> th.Tensor:
    """Squared errors of one row, summed over the critics: (Q - y_1)^2 + lambda_1 (Q - y_n)^2."""
    delta = th.zeros(())
    for coef, n_steps in ((1.0, 1), (model.n_step_coef, model.n_steps)):
        total, discount, last = naive_return(rows, row, n_steps)
        with th.no_grad():
            next_action = model.actor_target(th.tensor([[last.next_state]]))
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


@pytest.fixture
def make_mixed(make_model: MakeModel, attach: Callable[[DDPGfD], DDPGfD]) -> Callable[..., tuple[DDPGfD, list[Transition]]]:
    """A model with random demonstrations and transitions of its own, and priorities that differ."""

    def _make(**options: Any) -> tuple[DDPGfD, list[Transition]]:
        dataset, rows = random_demonstrations()
        settings: dict[str, Any] = dict(gamma=GAMMA, n_steps=3, n_step_coef=0.5, pretrain_steps=0, learning_rate=1e-2)
        settings |= dict(demonstrations=dataset, action_gradient_coef=2.0, demo_bonus=0.3, priority_exponent=0.7)
        model = make_model(**{**settings, **options})
        rng = np.random.default_rng(1)
        # Each state is where the one before led, but the fourth, as the third transition ends an episode
        states = [0.1, 0.2, 0.3, -0.4, 0.5, 0.6]
        rows += fill_ring(
            model, [(states[t], *rng.uniform(-1, 1, 2).astype(np.float32), states[t + 1], t == 2) for t in range(5)]
        )
        for network in (model.actor, model.critic, model.actor_target, model.critic_target):
            for parameter in network.parameters():
                th.nn.init.normal_(parameter, std=0.5)
        model.buffer.update_priorities(np.arange(len(rows)), rng.uniform(0.1, 3.0, len(rows)))
        return attach(model).learn(0), rows

    return _make


def update(model: DDPGfD, recorder: Any, n: int = 1) -> dict[str, Any]:
    """:return: What is logged of ``n`` updates"""
    model.train(n, model.batch_size)
    model.dump_logs()
    return recorder.rows[-1]


def next_batch(model: DDPGfD) -> tuple[np.ndarray, th.Tensor]:
    """:return: Rows and naive importance weights of the batch that the next update will draw"""
    state = np.random.get_state()
    rows = model.buffer.sample_batch(model.batch_size).indices
    np.random.set_state(state)
    weights = model.buffer.priorities[rows] ** -model.priority_exponent
    return rows, th.tensor(weights / weights.max(), dtype=th.float32)


@pytest.mark.parametrize("n_critics", [1, 2])
@pytest.mark.parametrize("n_steps", [1, 2, 3])
def test_an_update_is_that_of_a_naive_loop_over_its_rows(
    make_mixed: Callable[..., tuple[DDPGfD, list[Transition]]], recorder: Any, n_critics: int, n_steps: int
) -> None:
    # With n = 1 there is no second loss; the naive loop gives it the weight 0
    coef = 0.0 if n_steps == 1 else 0.5
    model, rows = make_mixed(n_steps=n_steps, n_step_coef=coef, policy_kwargs={"n_critics": n_critics})
    actor_before = copy.deepcopy(model.actor)
    batch, weights = next_batch(model)
    deltas = th.stack([naive_delta(model, rows, row) for row in batch])
    loss = (weights * deltas).mean()
    old_priorities = model.buffer.priorities
    gradients = th.autograd.grad(loss, list(model.critic.parameters()))

    logged = update(model, recorder)
    assert logged["train/critic_loss"] == pytest.approx(loss.item(), rel=1e-5)
    for parameter, gradient in zip(model.critic.parameters(), gradients, strict=True):
        assert th.allclose(parameter.grad, gradient, rtol=1e-4, atol=1e-6)  # type: ignore[arg-type]  # grad is set

    expected = old_priorities.copy()
    for row, delta in zip(batch, deltas.detach() / n_critics, strict=True):
        # The critic has made its step, the actor had not
        slope = naive_gradient(actor_before, model.critic, rows[row].state)
        expected[row] = float(delta) + 2.0 * slope**2 + 1e-6 + (0.3 if row < model.buffer.n_demonstrations else 0.0)
    np.testing.assert_allclose(model.buffer.priorities, expected, rtol=1e-4)
    assert logged["train/demo_fraction"] == pytest.approx(np.mean(batch < model.buffer.n_demonstrations))


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize(("bc_coef", "q_filter"), [(0.0, False), (0.7, False), (0.7, True)])
def test_the_actor_descends_the_loss_of_the_docstring(
    make_mixed: Callable[..., tuple[DDPGfD, list[Transition]]],
    recorder: Any,
    normalize: bool,
    bc_coef: float,
    q_filter: bool,
) -> None:
    model, rows = make_mixed(normalize_actor_loss=normalize, bc_coef=bc_coef, q_filter=q_filter)
    actor = copy.deepcopy(model.actor)
    batch, weights = next_batch(model)
    logged = update(model, recorder)

    states = th.tensor([[rows[row].state] for row in batch])
    actions = actor(states)
    (q,) = model.critic(states, actions)
    scale = q.detach().abs().mean() if normalize else 1.0
    q_loss = -(weights[:, None] * q).mean() / scale
    demo_actions = th.tensor([[rows[row].action] for row in batch])
    is_demo = th.tensor(batch < model.buffer.n_demonstrations)[:, None]
    (q_demo,) = model.critic(states, demo_actions)
    kept = is_demo & (q_demo > q) if q_filter else is_demo
    bc_loss = ((actions - demo_actions) ** 2 * kept).sum() / max(int(is_demo.sum()), 1)

    assert logged["train/actor_loss"] == pytest.approx(q_loss.item(), rel=1e-4)
    assert logged.get("train/bc_loss", 0.0) == pytest.approx(bc_loss.item() if bc_coef else 0.0, rel=1e-4)
    expected = th.autograd.grad(q_loss + bc_coef * bc_loss, list(actor.parameters()))
    for parameter, gradient in zip(model.actor.parameters(), expected, strict=True):
        assert th.allclose(parameter.grad, gradient, rtol=1e-4, atol=1e-6)  # type: ignore[arg-type]  # grad is set


@pytest.mark.parametrize(("demo_fraction", "n_demos"), [(0.5, 4), (0.25, 2), (1.0, 8), (0.0, 0)])
def test_a_fixed_share_of_demonstrations_replaces_priorities_and_weights(
    make_mixed: Callable[..., tuple[DDPGfD, list[Transition]]], recorder: Any, demo_fraction: float, n_demos: int
) -> None:
    model, _ = make_mixed(demo_fraction=demo_fraction)
    before = model.buffer.priorities.copy()
    row = update(model, recorder)
    assert row["train/demo_fraction"] == n_demos / 8
    assert row["train/is_weight_mean"] == 1.0
    np.testing.assert_array_equal(model.buffer.priorities, before)
