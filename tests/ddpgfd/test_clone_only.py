"""Pretraining in which the actor does nothing but clone."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch as th

from sb3_pgfd import DDPGfD

MakeModel = Callable[..., DDPGfD]
OPTIONS: dict[str, Any] = dict(pretrain_steps=0, bc_coef=0.7, learning_rate=1e-2, l2_coef=0.1, batch_size=16)


@pytest.fixture
def make_ready(make_model: MakeModel) -> MakeModel:
    """A model that has not learned, whose networks are far from zero; those of two models are the same."""

    def _make(**options: Any) -> DDPGfD:
        model = make_model(**{**OPTIONS, **options}).learn(0)
        th.manual_seed(1)
        for network in (model.actor, model.critic, model.actor_target, model.critic_target):
            for parameter in network.parameters():
                th.nn.init.normal_(parameter, std=0.5)
        return model

    return _make


def same(first: th.nn.Module, second: th.nn.Module) -> bool:
    others = second.state_dict()
    return all(th.equal(value, others[name]) for name, value in first.state_dict().items())


@pytest.mark.parametrize("q_filter", [False, True])
def test_an_update_of_the_actor_is_that_of_the_cloning_loss_alone(make_ready: MakeModel, q_filter: bool) -> None:
    model = make_ready(pretrain_clone_only=True, q_filter=q_filter)
    state = np.random.get_state()
    batch = model.buffer.sample_batch(16, demos_only=True)
    np.random.set_state(state)
    actor = copy.deepcopy(model.actor)
    optimizer = th.optim.Adam(actor.parameters(), lr=1e-2, weight_decay=0.1)
    for _ in range(2):
        loss = 0.7 * ((actor(batch.observations) - batch.actions) ** 2).sum(dim=1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        np.random.set_state(state)
        # So that the same batch is drawn again
        model.buffer.update_priorities(np.arange(model.buffer.n_demonstrations), np.ones(model.buffer.n_demonstrations))
        model.train(1, 16, demos_only=True)
    for found, expected in zip(model.actor.parameters(), actor.parameters(), strict=True):
        assert th.allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_the_critic_learns_and_priorities_are_written_as_ever(make_ready: MakeModel) -> None:
    cloning, plain = (make_ready(pretrain_clone_only=switch) for switch in (True, False))
    for model in (cloning, plain):
        np.random.seed(2)
        model.train(1, 16, demos_only=True)
    assert same(cloning.critic, plain.critic)
    np.testing.assert_array_equal(cloning.buffer.priorities, plain.buffer.priorities)
    assert len(set(cloning.buffer.priorities[: cloning.buffer.n_demonstrations])) > 5
    assert not same(cloning.actor, plain.actor)


def test_behind_pretraining_the_policy_gradient_is_back(make_ready: MakeModel) -> None:
    cloning, plain = (make_ready(pretrain_clone_only=switch) for switch in (True, False))
    for model in (cloning, plain):
        np.random.seed(2)
        model.train(3, 16)
    assert same(cloning.policy, plain.policy)


class Watched(DDPGfD):
    """Notes of each update of the actor whether it is to clone only, and how large the gradient is."""

    noted: list[tuple[bool, float]]

    def _update_actor(self, batch: Any, actions: th.Tensor, *args: Any, **kwargs: Any) -> None:
        clone_only = args[2]
        actions.register_hook(lambda gradient: self.noted.append((clone_only, float(gradient.abs().sum()))))
        super()._update_actor(batch, actions, *args, **kwargs)


def noted_updates(make_model: MakeModel, **options: Any) -> list[tuple[bool, float]]:
    # Cloning that weighs next to nothing leaves the policy gradient to be seen
    model = make_model(algorithm=Watched, bc_coef=1e-30, pretrain_steps=4, learning_starts=2, **options)
    assert isinstance(model, Watched)
    model.noted = []
    model.learn(8)
    return model.noted


def test_learn_clones_only_before_its_first_step(make_model: MakeModel) -> None:
    noted = noted_updates(make_model, pretrain_clone_only=True)
    assert [clones for clones, _ in noted] == [True] * 4 + [False] * 6
    assert all((size < 1e-20) == clones for clones, size in noted)


def test_the_actor_goes_on_cloning_while_the_critic_warms_up(make_model: MakeModel) -> None:
    noted = noted_updates(make_model, critic_warmup_steps=5)
    # Pretraining follows Q as before. Updates come after steps 3 to 8, those after steps 3 and 4 are too early
    assert [clones for clones, _ in noted] == [False] * 4 + [True] * 2 + [False] * 4
    assert all((size < 1e-20) == clones for clones, size in noted)


def test_the_warm_up_is_over_when_a_small_buffer_is_full(make_model: MakeModel) -> None:
    noted = noted_updates(make_model, critic_warmup_steps=100, buffer_size=6)
    assert [clones for clones, _ in noted] == [False] * 4 + [True] * 3 + [False] * 3


def test_without_demonstrations_there_is_no_warm_up(make_model: MakeModel) -> None:
    noted = noted_updates(make_model, critic_warmup_steps=100, demonstrations=None)
    assert [clones for clones, _ in noted] == [False] * 6


@pytest.mark.parametrize("critic_warmup_steps", [0, 1000])
def test_the_q_filter_waits_as_long(make_model: MakeModel, critic_warmup_steps: int) -> None:
    options: dict[str, Any] = dict(pretrain_steps=0, bc_coef=1.0, demo_fraction=1.0, q_filter=True)
    options |= dict(learning_rate=0.0, l2_coef=0.0)
    model = make_model(critic_warmup_steps=critic_warmup_steps, **options).learn(0)
    # A critic that prefers no action to any other
    with th.no_grad():
        for parameter in model.critic.parameters():
            parameter.zero_()
    model.train(1, 16)
    assert (model._metrics.flush()["bc_loss"] > 0.0) == (critic_warmup_steps > 0)


def test_the_value_of_the_policy_is_still_logged(
    make_model: MakeModel, attach: Callable[[DDPGfD], DDPGfD], recorder: Any
) -> None:
    attach(make_model(pretrain_clone_only=True, bc_coef=1.0, pretrain_steps=50)).learn(0)
    assert any(value != 0.0 for value in recorder.column("pretrain/actor_loss"))
