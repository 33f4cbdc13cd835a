"""TD3fD keeps its own successes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from goal_line import GoalLine, goal_vec_env, straight
from point_to_goal import to_goal
from small_models import demo_priorities, demo_rows, own_priorities
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from sb3_pgfd import Demonstrations, TD3fD
from sb3_pgfd.demonstrations import record

MakeModel = Callable[..., TD3fD]
# A cloned policy that is successful at once
CLONING: dict[str, Any] = {"pretrain_steps": 100, "policy_delay": 1, "learning_rate": 1e-2}


def own_successes(model: TD3fD) -> set[tuple[float, ...]]:
    """:return: States of the successful episodes that the ring holds whole"""
    episodes = model.buffer.to_demonstrations(agent_only=True)
    found = [episodes.episode(k) for k in range(episodes.n_episodes)]
    return {tuple(np.asarray(episode.observations)[:, 0].tolist()) for episode in found if episode.rewards[-1] == 1.0}


@pytest.mark.parametrize("n_envs", [1, 3])
def test_every_success_is_kept_once(make_model: MakeModel, demonstrations: Demonstrations, n_envs: int) -> None:
    model = make_model(env=make_vec_env("PointToGoal-v0", n_envs), **CLONING).learn(120)
    n_given, kept = len(demonstrations), model.buffer.kept_successes
    assert kept.tolist() == [False] * n_given + [True] * (model.buffer.n_demonstrations - n_given)
    assert model.buffer.n_given == n_given
    stored = model.buffer.to_demonstrations()
    # After the given ones, and before the ring's
    last = (demo_rows(model, "steps_left") == 0).sum()
    found = [tuple(np.asarray(stored.episode(k).observations)[:, 0].tolist()) for k in range(demonstrations.n_episodes, last)]
    assert len(found) >= 3
    assert sorted(found) == sorted(own_successes(model))
    assert demo_rows(model, "terminated").sum() == last


def test_without_demonstrations_there_are_some_after_the_first_success(make_model: MakeModel, tmp_path: Path) -> None:
    # Exploration reaches the goal by itself
    noise = NormalActionNoise(np.full(1, 0.8), np.full(1, 0.3))
    model = make_model(demonstrations=None, action_noise=noise).learn(100)
    assert model.buffer.n_demonstrations > 10
    assert model.buffer.kept_successes.all()
    assert model.buffer.n_given == 0
    assert model.demonstrations is None
    assert model._metrics.flush()["bc_loss"] > 0.0
    model.save(tmp_path / "model")
    # It was not begun with demonstrations, so that it needs none to go on
    loaded = TD3fD.load(tmp_path / "model", env=gym.make("PointToGoal-v0"), device="cpu")
    assert loaded.learn(20).buffer.n_own == 20


def test_a_model_that_had_demonstrations_still_asks_for_them(make_model: MakeModel, tmp_path: Path) -> None:
    make_model(**CLONING).learn(40).save(tmp_path / "model")
    loaded = TD3fD.load(tmp_path / "model", env=gym.make("PointToGoal-v0"), device="cpu")
    with pytest.raises(ValueError, match="found no demonstrations, but this model learned from"):
        loaded.learn(10)


@pytest.mark.parametrize("keep", [False, True])
def test_a_loaded_buffer_does_as_the_model_says(make_model: MakeModel, tmp_path: Path, keep: bool) -> None:
    model = make_model(**CLONING).learn(60)
    n_kept = int(model.buffer.kept_successes.sum())
    assert n_kept > 0
    model.save_replay_buffer(tmp_path / "buffer")
    other = make_model(**CLONING, replay_buffer_kwargs={} if keep else {"keep_successes": False})
    other.load_replay_buffer(tmp_path / "buffer")
    assert other.buffer.keep_successes == keep
    assert int(other.buffer.kept_successes.sum()) == n_kept
    other.learn(60)
    assert (int(other.buffer.kept_successes.sum()) > n_kept) == keep
    assert len(other.buffer.kept_successes) == other.buffer.n_demonstrations


def test_nothing_changes_where_nobody_succeeds(make_model: MakeModel) -> None:
    states = []
    for keep in (False, True):
        model = make_model(replay_buffer_kwargs={"keep_successes": keep}, action_noise=None, learning_rate=1e-4).learn(60)
        assert not model.buffer.kept_successes.any()
        states.append(model.policy.state_dict())
    assert all(th.equal(value, states[1][name]) for name, value in states[0].items())


def test_statistics_of_observations_count_each_step_once(make_model: MakeModel, demonstrations: Demonstrations) -> None:
    env = VecNormalize(DummyVecEnv([lambda: gym.make("PointToGoal-v0")]))
    model = make_model(env=env, **CLONING).learn(60)
    assert model.buffer.kept_successes.any()
    assert isinstance(env.obs_rms, RunningMeanStd)
    # One observation more is that of the reset
    assert env.obs_rms.count == pytest.approx(len(demonstrations) + 1 + 60, abs=1e-3)


def test_it_goes_with_replaced_goals_and_relative_priorities(make_model: MakeModel) -> None:
    walks = record(straight, gym.wrappers.TimeLimit(GoalLine(), 10), 3)
    buffer: dict[str, Any] = dict(demo_fraction=None, her_ratio=0.5, relative_priorities=True)
    env = goal_vec_env(GoalLine, 2)
    model = make_model("MultiInputPolicy", env, demonstrations=walks, n_steps=3, replay_buffer_kwargs=buffer)
    # The goal may be where the agent is
    model.learn(400)
    assert model.buffer.kept_successes.any()
    assert all(bool(value.isfinite().all()) for value in model.policy.state_dict().values())
    n_demos = model.buffer.n_demonstrations
    assert (own_priorities(model) > 0.0).all()
    assert (demo_priorities(model)[:n_demos] > 0.0).all()
    assert np.count_nonzero(model.buffer.priorities) == n_demos + model.buffer.n_own


def test_the_oldest_successes_give_way(make_model: MakeModel, demonstrations: Demonstrations) -> None:
    model = make_model(**CLONING, replay_buffer_kwargs={"max_success_transitions": 40}).learn(200)
    assert 20 <= int(model.buffer.kept_successes.sum()) <= 40
    assert model.buffer.n_given == len(demonstrations)


def test_more_demonstrations_lie_behind_the_successes(make_model: MakeModel) -> None:
    model = make_model(**CLONING).learn(60)
    before = model.buffer.kept_successes
    more = record(to_goal, "PointToGoal-v0", 1)
    model.add_demonstrations(more)
    assert model.buffer.kept_successes.tolist() == [*before.tolist(), *[False] * len(more)]


def test_cloning_takes_successes_without_exploration_noise(make_model: MakeModel) -> None:
    noise = NormalActionNoise(np.zeros(1), np.full(1, 0.4))
    buffer = {"denoise_successes": True, "demo_fraction": 1.0}
    options: dict[str, Any] = {**CLONING, "learning_rate": 1e-2, "action_noise": noise, "replay_buffer_kwargs": buffer}
    model = make_model(**options).learn(0)
    # The policy stays as it is from now on
    model.lr_schedule = model.actor_lr_schedule = lambda _: 0.0
    model.l2_coef = 0.0
    model.learn(60)
    store, rows = model.buffer.demonstrations, np.flatnonzero(model.buffer.kept_successes)
    assert len(rows) > 10
    with th.no_grad():
        meant = model.actor(th.as_tensor(store.columns["observations/"][rows]))
    np.testing.assert_allclose(store.columns["intended_actions"][rows], meant, atol=1e-6)
    assert np.abs(store.columns["actions"][rows] - meant.numpy()).mean() > 0.1
    # Only given demonstrations are away from what the policy does
    model._metrics.flush()
    state = np.random.get_state()
    batch = model.buffer.sample_batch(200)
    np.random.set_state(state)
    model.train(1, 200)
    with th.no_grad():
        distances = (model.actor(batch.observations) - batch.actions).square().sum(dim=1).numpy()
    is_given = ~model.buffer.kept_successes[batch.indices - model.buffer.ring.n_rows]
    assert model._metrics.flush()["bc_loss"] == pytest.approx((distances * is_given).sum() / 200, rel=1e-4, abs=1e-9)
