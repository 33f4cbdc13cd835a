"""Whole updates of DDPGfD, against a naive loop over rows."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch as th
from naive_update import (
    MIXED,
    PRIORITIES,
    Transition,
    assert_gradients,
    mix,
    naive_actor_losses,
    naive_delta,
    naive_gradient,
    next_batch,
    random_demonstrations,
)
from two_transitions import update

from sb3_pgfd import DDPGfD

MakeMixed = Callable[..., tuple[DDPGfD, list[Transition]]]


@pytest.fixture
def make_mixed(make_model: Callable[..., DDPGfD], attach: Callable[[DDPGfD], DDPGfD]) -> MakeMixed:
    """A model with random demonstrations and transitions of its own, and all of these."""

    def _make(buffer: dict[str, Any] | None = None, **options: Any) -> tuple[DDPGfD, list[Transition]]:
        dataset, rows = random_demonstrations()
        settings = {**MIXED, "demonstrations": dataset, "action_gradient_coef": 2.0, **options}
        model = attach(make_model(replay_buffer_kwargs={**PRIORITIES, **(buffer or {})}, **settings))
        return model, mix(model, rows)

    return _make


@pytest.mark.parametrize("n_critics", [1, 2])
@pytest.mark.parametrize("n_steps", [1, 2, 3])
def test_an_update_is_that_of_a_naive_loop_over_its_rows(
    make_mixed: MakeMixed, recorder: Any, n_critics: int, n_steps: int
) -> None:
    # With n = 1 there is no second loss; the naive loop gives it the weight 0
    coef = 0.0 if n_steps == 1 else 0.5
    model, rows = make_mixed(n_steps=n_steps, n_step_coef=coef, policy_kwargs={"n_critics": n_critics})
    actor_before = copy.deepcopy(model.actor)
    batch = next_batch(model)
    deltas = th.stack([naive_delta(model, rows, row) for row in batch.rows])
    loss = (batch.weights * deltas).mean()
    gradients = th.autograd.grad(loss, list(model.critic.parameters()))
    expected = model.buffer.priorities

    logged = update(model, recorder)
    assert logged["train/critic_loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert_gradients(model.critic, gradients)
    for row, index, is_demo, delta in zip(batch.rows, batch.indices, batch.is_demo, deltas.detach(), strict=True):
        # The critic has made its step, the actor had not
        slope = naive_gradient(actor_before, model.critic, rows[row].state)
        expected[index] = float(delta) / n_critics + 2.0 * slope**2 + 1e-6 + (0.3 if is_demo else 0.0)
    np.testing.assert_allclose(model.buffer.priorities, expected, rtol=1e-4)
    assert logged["train/demo_fraction"] == pytest.approx(np.mean(batch.is_demo))


@pytest.mark.parametrize(("bc_coef", "q_filter"), [(0.0, False), (0.7, False), (0.7, True)])
def test_the_actor_descends_the_loss_of_the_docstring(
    make_mixed: MakeMixed, recorder: Any, bc_coef: float, q_filter: bool
) -> None:
    model, rows = make_mixed(bc_coef=bc_coef, q_filter=q_filter)
    actor, batch = copy.deepcopy(model.actor), next_batch(model)
    logged = update(model, recorder)
    q_loss, bc_loss = naive_actor_losses(model, actor, rows, batch, q_filter)
    assert logged["train/actor_loss"] == pytest.approx(q_loss.item(), rel=1e-4)
    assert logged.get("train/bc_loss", 0.0) == pytest.approx(bc_loss.item() if bc_coef else 0.0, rel=1e-4)
    assert_gradients(model.actor, th.autograd.grad(q_loss + bc_coef * bc_loss, list(actor.parameters())))


@pytest.mark.parametrize(("demo_fraction", "n_demos"), [(0.5, 4), (0.25, 2), (1.0, 8), (0.0, 0)])
def test_a_fixed_share_of_demonstrations_replaces_priorities_and_weights(
    make_mixed: MakeMixed, recorder: Any, demo_fraction: float, n_demos: int
) -> None:
    model, _ = make_mixed(buffer={"demo_fraction": demo_fraction})
    before = model.buffer.priorities
    row = update(model, recorder)
    assert row["train/demo_fraction"] == n_demos / 8
    assert row["train/is_weight_mean"] == 1.0
    np.testing.assert_array_equal(model.buffer.priorities, before)
