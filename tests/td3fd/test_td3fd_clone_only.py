"""Pretraining and warm-up, in which the actor does nothing but clone."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from add_at import AddAt
from gymnasium import spaces
from small_models import demo_priorities, set_priorities
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.noise import NormalActionNoise

from sb3_pgfd import Demonstrations, TD3fD

MakeModel = Callable[..., TD3fD]
OPTIONS: dict[str, Any] = dict(pretrain_steps=0, bc_coef=0.7, learning_rate=1e-2, l2_coef=0.1, batch_size=16, policy_delay=1)
OPTIONS["replay_buffer_kwargs"] = {"demo_fraction": None}


@pytest.fixture
def make_ready(make_model: MakeModel) -> MakeModel:
    """A model that has not learned, whose networks are far from zero; those of two models are the same."""

    def _make(**options: Any) -> TD3fD:
        model = make_model(**{**OPTIONS, **options}).learn(0)
        th.manual_seed(1)
        for network in (model.actor, model.critic, model.actor_target, model.critic_target):
            for parameter in network.parameters():
                th.nn.init.normal_(parameter, std=0.5)
        return model

    return _make


@pytest.mark.parametrize("q_filter", [False, True])
def test_an_update_of_the_actor_is_that_of_the_cloning_loss_alone(make_ready: MakeModel, q_filter: bool) -> None:
    model = make_ready(q_filter=q_filter)
    rows = model.buffer.ring.n_rows + np.arange(model.buffer.n_demonstrations)
    state = np.random.get_state()
    batch = model.buffer.sample_batch(16, demos_only=True)
    actor = copy.deepcopy(model.actor)
    optimizer = th.optim.Adam(actor.parameters(), lr=1e-2, weight_decay=0.1)
    for _ in range(2):
        loss = 0.7 * ((actor(batch.observations) - batch.actions) ** 2).sum(dim=1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        # So that the same batch is drawn again
        np.random.set_state(state)
        set_priorities(model, rows, np.full(len(rows), 2.0))
        model.train(1, 16, demos_only=True)
    for found, expected in zip(model.actor.parameters(), actor.parameters(), strict=True):
        assert th.allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_the_critic_learns_and_priorities_are_written_as_ever(make_ready: MakeModel) -> None:
    # Without cloning nothing is cloned only
    cloning, plain = (make_ready(bc_coef=coef) for coef in (0.7, 0.0))
    for model in (cloning, plain):
        np.random.seed(2)
        th.manual_seed(2)
        model.train(1, 16, demos_only=True)
    found, expected = cloning.critic.state_dict(), plain.critic.state_dict()
    assert all(th.equal(value, expected[name]) for name, value in found.items())
    np.testing.assert_array_equal(demo_priorities(cloning), demo_priorities(plain))
    assert len(set(demo_priorities(cloning))) > 5


class Watched(TD3fD):
    """Notes how large the actor's gradient is after each update."""

    noted: list[float]

    def train(self, *args: Any, **kwargs: Any) -> None:
        super().train(*args, **kwargs)
        self.noted.append(sum(float(p.grad.abs().sum()) for p in self.actor.parameters() if p.grad is not None))


def clones_only(make_model: MakeModel, n_steps: int = 8, callback: Any = None, **options: Any) -> list[bool]:
    """:return: Of each update whether its actor did nothing but clone"""
    # Cloning that weighs next to nothing leaves the policy gradient to be seen
    settings: dict[str, Any] = dict(bc_coef=1e-30, pretrain_steps=4, learning_starts=2, policy_delay=1)
    model = make_model(algorithm=Watched, **{**settings, **options})
    assert isinstance(model, Watched)
    model.noted = []
    model.learn(n_steps, callback)
    return [size < 1e-20 for size in model.noted]


def test_learn_clones_only_before_its_first_step(make_model: MakeModel) -> None:
    assert clones_only(make_model) == [True] * 4 + [False] * 6


def test_without_cloning_the_actor_follows_q_from_the_first_update_on(make_model: MakeModel) -> None:
    assert clones_only(make_model, bc_coef=0.0, critic_warmup_steps=100) == [False] * 10


def test_the_actor_goes_on_cloning_while_the_critic_warms_up(make_model: MakeModel) -> None:
    # Updates come after steps 3 to 8, those after steps 3 and 4 are too early
    assert clones_only(make_model, critic_warmup_steps=5) == [True] * 4 + [True] * 2 + [False] * 4


def test_the_warm_up_is_over_when_a_small_buffer_is_full(make_model: MakeModel) -> None:
    assert clones_only(make_model, critic_warmup_steps=100, buffer_size=6) == [True] * 4 + [True] * 3 + [False] * 3


def test_a_model_that_is_loaded_without_its_buffer_does_not_warm_up_again(
    make_model: MakeModel, demonstrations: Demonstrations, tmp_path: Path
) -> None:
    make_model(critic_warmup_steps=5, learning_starts=2).learn(8).save(tmp_path / "model")
    loaded = TD3fD.load(tmp_path / "model", gym.make("PointToGoal-v0"), demonstrations=demonstrations, device="cpu")
    assert loaded.buffer.n_own == 0
    assert not loaded._clones_only(demos_only=False)
    # One that was saved too early does
    make_model(critic_warmup_steps=50, learning_starts=2).learn(8).save(tmp_path / "early")
    early = TD3fD.load(tmp_path / "early", gym.make("PointToGoal-v0"), demonstrations=demonstrations, device="cpu")
    assert early._clones_only(demos_only=False)


def test_own_successes_are_no_reason_to_warm_up(make_model: MakeModel) -> None:
    # Exploration reaches the goal by itself. As long as successes counted as demonstrations, the actor cloned only from
    # the first success to step 200
    noise = NormalActionNoise(np.full(1, 0.8), np.full(1, 0.3))
    options: dict[str, Any] = dict(demonstrations=None, critic_warmup_steps=200, action_noise=noise, learning_starts=10)
    successes: list[int] = []

    def note(local: dict[str, Any], _: Any) -> bool:
        successes.append(local["self"].buffer.n_demonstrations)
        return True

    assert clones_only(make_model, n_steps=120, callback=note, **options) == [False] * 110
    assert 0 < successes[60] < successes[-1]


def test_demonstrations_that_come_during_the_warm_up_are(make_model: MakeModel, demonstrations: Demonstrations) -> None:
    found = clones_only(make_model, callback=AddAt(demonstrations, 5), demonstrations=None, critic_warmup_steps=7)
    # Updates after steps 3 to 8: without demonstrations, then with them, then after the warm-up
    assert found == [False] * 2 + [True] * 2 + [False] * 2


@pytest.mark.parametrize("critic_warmup_steps", [0, 1000])
def test_the_q_filter_waits_as_long(make_model: MakeModel, critic_warmup_steps: int) -> None:
    options: dict[str, Any] = dict(pretrain_steps=0, policy_delay=1, q_filter=True, learning_rate=0.0, l2_coef=0.0)
    options["replay_buffer_kwargs"] = {"demo_fraction": 1.0}
    model = make_model(critic_warmup_steps=critic_warmup_steps, **options).learn(0)
    # Critics that prefer no action to any other
    with th.no_grad():
        for parameter in model.critic.parameters():
            parameter.zero_()
    model.train(1, 16)
    assert (model._metrics.flush()["bc_loss"] > 0.0) == (critic_warmup_steps > 0)


def test_the_value_of_the_policy_is_still_logged(
    make_model: MakeModel, attach: Callable[[TD3fD], TD3fD], recorder: Any
) -> None:
    attach(make_model(pretrain_steps=50)).learn(0)
    assert any(value != 0.0 for value in recorder.column("pretrain/actor_loss"))


def test_transitions_of_another_agent_are_no_warm_up(make_model: MakeModel) -> None:
    """The critic has learned from none of them when learning begins."""

    other = ReplayBuffer(50, spaces.Box(-1.0, 1.0, (1,)), spaces.Box(-2.0, 2.0, (1,)), device="cpu")
    for _ in range(40):
        other.add(np.zeros((1, 1)), np.zeros((1, 1)), np.zeros((1, 1)), np.zeros(1), np.zeros(1), [{}])
    model = make_model(critic_warmup_steps=5, learning_starts=2, pretrain_steps=4, policy_delay=1)
    model.buffer.add_replay_buffer(other)
    model.learn(3)
    assert model._clones_only(demos_only=False)
    model.learn(5, reset_num_timesteps=False)
    assert not model._clones_only(demos_only=False)
