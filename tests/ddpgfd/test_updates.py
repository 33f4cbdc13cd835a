"""Whole updates of DDPGfD, against numbers computed by hand."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch as th
from small_models import WatchedBuffer, demo_priorities, set_priorities
from two_transitions import LINEAR, seed_that_draws_both_rows, set_networks, set_weights, two_transitions, update

from sb3_pgfd import DDPGfD

MakeModel = Callable[..., DDPGfD]


@pytest.fixture
def make_linear(make_model: MakeModel, attach: Callable[[DDPGfD], DDPGfD]) -> MakeModel:
    """A model on the two transitions, see ``two_transitions.py``; ``buffer`` are options of its replay buffer."""

    def _make(terminated: bool = True, buffer: dict[str, Any] | None = None, **options: Any) -> DDPGfD:
        net = {"net_arch": [], **options.pop("policy_kwargs", {})}
        buffer_kwargs = {"priority_exponent": 1.0, **(buffer or {})}
        settings = {**LINEAR, "demonstrations": two_transitions(terminated), **options}
        model = make_model(policy_kwargs=net, replay_buffer_kwargs=buffer_kwargs, **settings)
        set_networks(model)
        return attach(model).learn(0)

    return _make


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
    assert ("train/critic_loss_n_step" in row) == ("n_steps" not in without)


@pytest.mark.parametrize(
    ("beta", "weight"),
    # Priorities 1 and 4: w = (1/4)^beta for the second row, 1 for the first
    [(1.0, 0.25), (0.5, 0.5), (0.0, 1.0), (lambda remaining: remaining, 0.5)],
)
def test_importance_weights_scale_the_rows_of_both_losses(
    make_linear: MakeModel, recorder: Any, beta: Any, weight: float
) -> None:
    model = make_linear(importance_exponent=beta, buffer={"demo_bonus": 0.25})
    model._current_progress_remaining = 0.5
    set_priorities(model, model.buffer.ring.n_rows + np.arange(2), np.array([1.0, 4.0]))
    seed_that_draws_both_rows(model)
    row = update(model, recorder)
    assert row["train/critic_loss"] == pytest.approx((8.6875 + weight * 37.5) / 2)
    assert row["train/is_weight_mean"] == pytest.approx((1.0 + weight) / 2)
    # Q(s, pi(s)) = 2 s + 1 = 2 and 0
    assert row["train/actor_loss"] == pytest.approx(-2.0 / 2)


def test_priorities_of_two_transitions_are_what_a_pencil_says(make_linear: MakeModel, recorder: Any) -> None:
    model = make_linear(action_gradient_coef=0.5, buffer={"priority_epsilon": 0.25, "demo_bonus": 7.0})
    row = update(model, recorder)
    # delta^2 + 0.5 * 3^2 + 0.25 + 7
    expected = [8.6875 + 11.75, 37.5 + 11.75]
    np.testing.assert_allclose(demo_priorities(model), expected, rtol=1e-5)
    assert row["train/priority_max"] == pytest.approx(expected[1])
    assert row["train/priority_mean"] == pytest.approx(sum(expected) / 2)


def test_possible_returns_limit_the_targets(make_linear: MakeModel, recorder: Any) -> None:
    # The targets 0.75, 2; 2, 2 become 0.75, 1.5; 1.5, 1.5
    row = update(make_linear(q_range=(0.0, 1.5)), recorder)
    assert row["train/critic_loss"] == pytest.approx((2.75**2 + 0.5 * 2.0**2 + 1.5 * 4.5**2) / 2)


def test_the_smallest_of_the_target_critics_counts_and_priorities_take_their_mean_error(
    make_linear: MakeModel, recorder: Any
) -> None:
    model = make_linear(terminated=False, n_steps=1, policy_kwargs={"n_critics": 2}, buffer={"demo_bonus": 0.0})
    # Q'(s', 0) is -0.5 and 0.25 by the first, 0.5 and -0.25 by the second
    set_weights(model.critic_target.q_networks[1], [-1.0, 1.0])
    set_weights(model.critic.q_networks[1], [0.0, 0.0])
    row = update(model, recorder)
    # y = 1 + 0.5 * -0.5 = 0.75 and 2 + 0.5 * -0.25 = 1.875; the second critic says 0
    delta = [2.75**2 + 0.75**2, 4.875**2 + 1.875**2]
    assert row["train/critic_loss"] == pytest.approx(sum(delta) / 2)
    # grad_a Q of the first critic is 3
    np.testing.assert_allclose(demo_priorities(model), np.array(delta) / 2 + 9.0 + 1e-6, rtol=1e-5)


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


def test_a_call_with_many_updates_draws_some_batches_at_a_time(make_model: MakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model(replay_buffer_class=WatchedBuffer, pretrain_steps=0).learn(0)
    assert isinstance(model.buffer, WatchedBuffer)
    model.train(45, 8)
    assert [len(rows) for rows in model.buffer.drawn] == [20 * 8, 20 * 8, 5 * 8]
    assert model._n_updates == 45
    # Room for 3 batches, as for images
    monkeypatch.setattr("sb3_pgfd.common.off_policy_algorithm.MAX_DRAWN_BYTES", 3.5 * 8 * model.buffer.schema.row_nbytes)
    model.train(7, 8)
    assert [len(rows) for rows in model.buffer.drawn[3:]] == [3 * 8, 3 * 8, 8]


def test_batches_of_one_draw_are_what_single_ones_are(make_model: MakeModel) -> None:
    model = make_model(pretrain_steps=0).learn(40)
    buffer = model.buffer
    buffer.update_priorities(np.arange(40), np.linspace(0.1, 4.0, 40))
    together = buffer.sample_batches(3, 16, beta=0.7)
    for batch in together.split(3):
        # The largest weight of each batch is 1, and each has the rows that its indices name
        assert batch.weights.max() == 1.0
        priorities = buffer.priorities[batch.indices]
        expected = (priorities.min() / priorities) ** (0.7 * buffer.priority_exponent)
        np.testing.assert_allclose(batch.weights.flatten().numpy(), expected, rtol=1e-5)
        is_demo = batch.indices >= buffer.ring.n_rows
        assert batch.is_demo.flatten().tolist() == is_demo.tolist()
        for store, rows, places in (
            (buffer.demonstrations, batch.indices[is_demo] - buffer.ring.n_rows, is_demo),
            (buffer.ring, batch.indices[~is_demo], ~is_demo),
        ):
            columns = store.take(rows)
            np.testing.assert_array_equal(batch.actions.numpy()[places], columns["actions"])
            np.testing.assert_array_equal(batch.observations.numpy()[places], columns["observations/"])  # type: ignore[union-attr]
            following = batch.next_observations.view(16, 2, -1).numpy()[places, 0]  # type: ignore[union-attr]
            np.testing.assert_array_equal(following, columns["next_observations/"])
