"""Whole updates of DDPGfD, against numbers computed by hand."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch as th

from sb3_pgfd import DDPGfD, Demonstrations
from sb3_pgfd.demonstrations.dataset import Episode

MakeModel = Callable[..., DDPGfD]
GAMMA = 0.5

# Two transitions whose numbers can be followed by hand. Actions have bounds of 2: scaled they are 0.5 and -1
STATES, ACTIONS, REWARDS = [[0.5], [-0.5], [0.25]], [[1.0], [-2.0]], [1.0, 2.0]


def two_transitions(terminated: bool) -> Demonstrations:
    states, actions = np.array(STATES, dtype=np.float32), np.array(ACTIONS, dtype=np.float32)
    return Demonstrations.from_episodes([Episode(states, actions, np.array(REWARDS), terminated)])


def set_linear(network: th.nn.Module, weights: list[float], bias: float = 0.0) -> None:
    linear = next(layer for layer in network.children() if isinstance(layer, th.nn.Linear))
    with th.no_grad():
        linear.weight.copy_(th.tensor([weights]))
        linear.bias.fill_(bias)


@pytest.fixture
def make_linear(make_model: MakeModel, attach: Callable[[DDPGfD], DDPGfD]) -> MakeModel:
    """
    A model on the two transitions with Q(s, a) = 2 s + 3 a + 1, Q'(s, a) = s + a and pi(s) = pi'(s) = 0, whose
    parameters hardly move.
    """

    def _make(terminated: bool = True, **options: Any) -> DDPGfD:
        net = {"net_arch": [], **options.pop("policy_kwargs", {})}
        settings: dict[str, Any] = dict(learning_rate=1e-12, l2_coef=0.0, pretrain_steps=0, batch_size=2)
        settings |= dict(gamma=GAMMA, n_steps=2, n_step_coef=0.5, priority_exponent=1.0)
        settings |= dict(demonstrations=two_transitions(terminated))
        model = make_model(policy_kwargs=net, **{**settings, **options})
        for critic, critic_target in zip(model.critic.q_networks, model.critic_target.q_networks, strict=True):
            set_linear(critic, [2.0, 3.0], 1.0)
            set_linear(critic_target, [1.0, 1.0])
        set_linear(model.actor.mu, [0.0])
        set_linear(model.actor_target.mu, [0.0])
        return attach(model).learn(0)

    return _make


def update(model: DDPGfD, recorder: Any, n: int = 1) -> dict[str, Any]:
    """:return: What is logged of ``n`` updates"""
    model.train(n, model.batch_size)
    model.dump_logs()
    return recorder.rows[-1]


def seed_that_draws_both_rows(model: DDPGfD) -> None:
    for seed in range(100):
        np.random.seed(seed)
        if set(model.buffer.sample_batch(2).indices) == {0, 1}:
            np.random.seed(seed)
            return
    raise AssertionError("no seed draws both rows")


@pytest.mark.parametrize(
    ("terminated", "delta_0", "delta_1", "n_step_loss"),
    [
        # Q = 2 * 0.5 + 3 * 0.5 + 1 = 3.5 and 2 * -0.5 + 3 * -1 + 1 = -3. Targets of the first row: y_1 = 1 + 0.5 * -0.5,
        # y_2 = 1 + 0.5 * 2 (+ 0.25 * 0.25 if the end was only a time limit); of the second: 2 (+ 0.5 * 0.25), twice
        (True, (3.5 - 0.75) ** 2 + 0.5 * (3.5 - 2.0) ** 2, 1.5 * (-3.0 - 2.0) ** 2, (2.25 + 25.0) / 2),
        (
            False,
            (3.5 - 0.75) ** 2 + 0.5 * (3.5 - 2.0625) ** 2,
            1.5 * (-3.0 - 2.125) ** 2,
            ((3.5 - 2.0625) ** 2 + (-3.0 - 2.125) ** 2) / 2,
        ),
    ],
)
def test_the_critic_loss_of_two_transitions_is_what_a_pencil_says(
    make_linear: MakeModel, recorder: Any, terminated: bool, delta_0: float, delta_1: float, n_step_loss: float
) -> None:
    row = update(make_linear(terminated), recorder)
    assert row["train/critic_loss"] == pytest.approx((delta_0 + delta_1) / 2)
    # Without lambda_1, so that it compares with the 1-step part
    assert row["train/critic_loss_n_step"] == pytest.approx(n_step_loss)
    assert row["train/q_mean"] == pytest.approx((3.5 - 3.0) / 2)


@pytest.mark.parametrize("without", [{"n_steps": 1}, {"n_step_coef": 0.0}])
def test_without_n_step_loss_only_the_1_step_error_counts(
    make_linear: MakeModel, recorder: Any, without: dict[str, Any]
) -> None:
    row = update(make_linear(**without), recorder)
    assert row["train/critic_loss"] == pytest.approx((2.75**2 + 5.0**2) / 2)
    assert "train/critic_loss_n_step" not in row


@pytest.mark.parametrize(
    ("beta", "weight"),
    # Priorities 1 and 4: w = (1/4)^beta for the second row, 1 for the first
    [(1.0, 0.25), (0.5, 0.5), (0.0, 1.0), (lambda remaining: remaining, 0.5)],
)
def test_importance_weights_scale_the_rows_of_both_losses(
    make_linear: MakeModel, recorder: Any, beta: Any, weight: float
) -> None:
    model = make_linear(importance_exponent=beta)
    model._current_progress_remaining = 0.5
    model.buffer.update_priorities(np.arange(2), np.array([1.0, 4.0]))
    seed_that_draws_both_rows(model)
    row = update(model, recorder)
    assert row["train/critic_loss"] == pytest.approx((8.6875 + weight * 37.5) / 2)
    assert row["train/is_weight_mean"] == pytest.approx((1.0 + weight) / 2)
    # Q(s, pi(s)) = 2 s + 1 = 2 and 0
    assert row["train/actor_loss"] == pytest.approx(-2.0 / 2)


def test_priorities_of_two_transitions_are_what_a_pencil_says(make_linear: MakeModel, recorder: Any) -> None:
    model = make_linear(action_gradient_coef=0.5, priority_epsilon=0.25, demo_bonus=7.0)
    row = update(model, recorder)
    # delta^2 + 0.5 * 3^2 + 0.25 + 7
    expected = [8.6875 + 11.75, 37.5 + 11.75]
    np.testing.assert_allclose(model.buffer.priorities[:2], expected, rtol=1e-5)
    assert row["train/priority_max"] == pytest.approx(expected[1])
    assert row["train/priority_mean"] == pytest.approx(sum(expected) / 2)


def test_possible_returns_limit_the_targets(make_linear: MakeModel, recorder: Any) -> None:
    # The targets 0.75, 2; 2, 2 become 0.75, 1.5; 1.5, 1.5
    row = update(make_linear(q_range=(0.0, 1.5)), recorder)
    assert row["train/critic_loss"] == pytest.approx((2.75**2 + 0.5 * 2.0**2 + 1.5 * 4.5**2) / 2)


def test_the_smallest_of_the_target_critics_counts_and_priorities_take_their_mean_error(
    make_linear: MakeModel, recorder: Any
) -> None:
    model = make_linear(terminated=False, n_steps=1, policy_kwargs={"n_critics": 2}, demo_bonus=0.0)
    # Q'(s', 0) is -0.5 and 0.25 by the first, 0.5 and -0.25 by the second
    set_linear(model.critic_target.q_networks[1], [-1.0, 1.0])
    set_linear(model.critic.q_networks[1], [0.0, 0.0])
    row = update(model, recorder)
    # y = 1 + 0.5 * -0.5 = 0.75 and 2 + 0.5 * -0.25 = 1.875; the second critic says 0
    delta = [2.75**2 + 0.75**2, 4.875**2 + 1.875**2]
    assert row["train/critic_loss"] == pytest.approx(sum(delta) / 2)
    # grad_a Q of the first critic is 3
    np.testing.assert_allclose(model.buffer.priorities[:2], np.array(delta) / 2 + 9.0 + 1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("noise", "clip", "low", "high"), [(0.0, 0.5, 0.0, 0.0), (1e6, 0.25, 0.25, 0.25), (1e6, 5.0, 1.0, 1.0)]
)
def test_target_policy_noise_is_clipped_and_stays_in_the_action_space(
    make_linear: MakeModel, noise: float, clip: float, low: float, high: float
) -> None:
    model = make_linear(target_policy_noise=noise, target_noise_clip=clip)
    # Q'(0, a) = a
    next_q = model._next_q_values(th.zeros(200, 1)).abs()
    assert float(next_q.min()) == pytest.approx(low)
    assert float(next_q.max()) == pytest.approx(high)


def test_target_policy_noise_has_the_given_standard_deviation(make_linear: MakeModel) -> None:
    next_q = make_linear(target_policy_noise=0.1)._next_q_values(th.zeros(20_000, 1))
    assert float(next_q.std()) == pytest.approx(0.1, rel=0.03)
    assert float(next_q.mean()) == pytest.approx(0.0, abs=0.003)


@pytest.mark.parametrize(
    # pi = 0, so the distances are 0.25 and 1; Q rises with a, so it prefers a = 0.5 to pi, but not a = -1
    ("q_filter", "expected"),
    [(False, (0.25 + 1.0) / 2), (True, 0.25 / 2)],
)
def test_the_q_filter_clones_only_what_q_prefers_to_the_policy(
    make_linear: MakeModel, recorder: Any, q_filter: bool, expected: float
) -> None:
    row = update(make_linear(bc_coef=2.0, q_filter=q_filter), recorder)
    assert row["train/bc_loss"] == pytest.approx(expected)


def test_pretraining_clones_all_demonstrations_as_its_critic_knows_nothing_else(make_linear: MakeModel, recorder: Any) -> None:
    model = make_linear(bc_coef=2.0, q_filter=True)
    model.train(1, model.batch_size, demos_only=True)
    assert model._pretrain_logs()["bc_loss"] == pytest.approx((0.25 + 1.0) / 2)


def test_cloning_leaves_the_agents_own_transitions_alone(make_linear: MakeModel, recorder: Any) -> None:
    model = make_linear(bc_coef=1.0, demonstrations=None)
    state, action = np.array([[0.5]], dtype=np.float32), np.ones((1, 1), dtype=np.float32)
    for _ in range(3):
        model.buffer.add(state, state / 2, action, np.zeros(1), np.zeros(1, dtype=bool), [{}])
    assert update(model, recorder)["train/bc_loss"] == 0.0


def test_l2_pulls_parameters_to_zero(make_linear: MakeModel) -> None:
    # A step of plain gradient descent is theta <- theta - lr (gradient + lambda_2 theta)
    weights = []
    for l2_coef in (0.0, 0.5):
        model = make_linear(l2_coef=l2_coef, learning_rate=0.01, policy_kwargs={"optimizer_class": th.optim.SGD})
        model.train(1, 2)
        weights.append(th.cat([parameter.detach().flatten() for parameter in model.critic.parameters()]))
    start = th.tensor([2.0, 3.0, 1.0])
    assert th.allclose(weights[1], weights[0] - 0.01 * 0.5 * start, atol=1e-6)
