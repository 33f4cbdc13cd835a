"""DDPGfD with replaced goals: what reaches the buffer, in real environments, and that it helps."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import gymnasium_robotics
import numpy as np
import pytest
import torch as th
from goal_line import GoalLine, GoalLineThatEnds, goal_vec_env, straight
from small_models import demo_rows, own_rows
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecNormalize

from sb3_pgfd import DDPGfD, Demonstrations
from sb3_pgfd.demonstrations import record

gym.register_envs(gymnasium_robotics)

MakeModel = Callable[..., DDPGfD]


@pytest.fixture(scope="module")
def straight_walks() -> Demonstrations:
    return record(straight, gym.wrappers.TimeLimit(GoalLineThatEnds(), 10), 3)


@pytest.fixture
def make_goal_model(make_model: MakeModel, straight_walks: Demonstrations) -> MakeModel:
    """``make_goal_model(env, **options)``: a small model that replaces goals."""

    def _make_goal_model(env: Any = None, **options: Any) -> DDPGfD:
        options = {"demonstrations": straight_walks, **options}
        options["replay_buffer_kwargs"] = {"her_ratio": 0.8, **options.get("replay_buffer_kwargs", {})}
        return make_model("MultiInputPolicy", goal_vec_env(GoalLineThatEnds) if env is None else env, **options)

    return _make_goal_model


def n_replaced(model: DDPGfD, batch_size: int = 100, **options: Any) -> int:
    """How many goals of a batch are none that an episode was made with."""
    observations = model.buffer.sample_batch(batch_size, **options).observations
    assert isinstance(observations, dict)
    original = np.concatenate([rows(model, "observations/desired_goal") for rows in (demo_rows, own_rows)])
    return sum(goal not in original for goal in observations["desired_goal"].numpy())


@pytest.mark.parametrize(
    "options", [{}, {"replay_buffer_kwargs": {"demo_fraction": 0.5}}, {"n_steps": 1}, {"demonstrations": None}]
)
def test_it_learns_from_replaced_goals(make_goal_model, options):
    model = make_goal_model(**options)
    before = {name: value.clone() for name, value in model.policy.state_dict().items()}
    model.learn(60)
    after = model.policy.state_dict()
    assert all(value.isfinite().all() for value in after.values())
    for name in ("actor.", "critic."):
        assert any(not th.equal(after[key], before[key]) for key in after if key.startswith(name))
    assert n_replaced(model) == 80


def test_pretraining_is_on_replaced_goals_too(make_goal_model):
    model = make_goal_model()
    model.learn(0)
    assert model._n_updates == 5
    assert model.buffer.n_own == 0
    assert n_replaced(model, demos_only=True) == 80


def test_goals_are_replaced_in_several_normalised_environments(make_goal_model):
    env = VecNormalize(goal_vec_env(GoalLineThatEnds, 3))
    model = make_goal_model(env).learn(90)
    assert n_replaced(model) == 80
    assert all(value.isfinite().all() for value in model.policy.state_dict().values())


def test_a_loaded_model_replaces_goals_like_before(make_goal_model, straight_walks, tmp_path: Path):
    model = make_goal_model().learn(40)
    model.save(tmp_path / "model")
    model.save_replay_buffer(tmp_path / "buffer")
    # To predict, it needs neither demonstrations nor an environment
    without = DDPGfD.load(tmp_path / "model", device="cpu")
    assert without.replay_buffer_kwargs == {"her_ratio": 0.8}
    assert without.predict(GoalLine().reset()[0])[0].shape == (1,)
    with_demonstrations = DDPGfD.load(tmp_path / "model", env=goal_vec_env(), device="cpu", demonstrations=straight_walks)
    changed = {"her_ratio": 0.3}
    with_buffer = DDPGfD.load(tmp_path / "model", env=goal_vec_env(), device="cpu", replay_buffer_kwargs=changed)
    with_buffer.load_replay_buffer(tmp_path / "buffer")
    without.set_env(goal_vec_env())
    without.load_replay_buffer(tmp_path / "buffer")
    for loaded, expected in ((with_demonstrations, 80), (with_buffer, 30), (without, 80)):
        assert n_replaced(loaded.learn(20)) == expected


def test_a_buffer_loaded_before_the_environment_gets_it_with_the_model(make_goal_model, tmp_path: Path):
    model = make_goal_model().learn(40)
    model.save(tmp_path / "model")
    model.save_replay_buffer(tmp_path / "buffer")
    loaded = DDPGfD.load(tmp_path / "model", device="cpu")
    loaded.load_replay_buffer(tmp_path / "buffer")
    with pytest.raises(ValueError, match=r"found no environment, expected one for her_ratio=0\.8"):
        loaded.train(1, 8)
    loaded.set_env(goal_vec_env())
    assert n_replaced(loaded.learn(20)) == 80


def test_a_buffer_of_a_model_that_replaced_no_goals_is_taken(make_goal_model, make_model, tmp_path: Path):
    make_goal_model(replay_buffer_kwargs={"her_ratio": 0.0}).learn(40).save_replay_buffer(tmp_path / "buffer")
    model = make_goal_model()
    model.load_replay_buffer(tmp_path / "buffer")
    assert n_replaced(model.learn(20)) == 80
    # And the other way round, also where the model was not told anything
    model.save_replay_buffer(tmp_path / "buffer")
    other = make_model("MultiInputPolicy", goal_vec_env(GoalLineThatEnds), demonstrations=None)
    other.load_replay_buffer(tmp_path / "buffer")
    assert n_replaced(other.learn(20)) == 0


def test_another_environment_is_asked_from_then_on(make_goal_model):
    model = make_goal_model().learn(40)
    rewards = model.buffer._goal_rewards
    assert rewards is not None
    assert rewards.terminal_reward(np.zeros(1)) == 0.0
    model.set_env(goal_vec_env(GoalLine))
    rewards = model.buffer._goal_rewards
    assert rewards is not None
    assert rewards.terminal_reward(np.zeros(1)) is None


def test_an_environment_without_goals_is_refused(make_model):
    with pytest.raises(
        ValueError, match=r"her_ratio > 0: found the observation space Box.*, expected a Dict with observation"
    ):
        make_model(replay_buffer_kwargs={"her_ratio": 0.5})


@pytest.mark.parametrize(
    ("env_id", "env_kwargs", "largest"),
    [("FetchReach-v4", {}, 0.0), ("PointMaze_UMaze-v3", {"continuing_task": False}, 1.0)],
)
def test_it_learns_in_gymnasium_robotics(make_goal_model, env_id, env_kwargs, largest):
    env = make_vec_env(env_id, env_kwargs=env_kwargs, seed=0)
    model = make_goal_model(env, demonstrations=env_id, bc_coef=1.0, n_steps=5, replay_buffer_kwargs={"demo_fraction": 0.5})
    model.learn(120)
    assert all(value.isfinite().all() for value in model.policy.state_dict().values())
    batch = model.buffer.sample_batch(500)
    (rewards, returns), (terminated, over) = batch.rewards.numpy().T, batch.terminated.T
    assert rewards.min() == largest - 1.0
    assert rewards.max() == largest
    # Over where the goal is reached, and only there: in the maze
    np.testing.assert_array_equal(terminated, (rewards == largest) & (largest == 1.0))
    assert (over.sum() > terminated.sum()) == (largest == 1.0)
    # Then the reward is the last of the window
    np.testing.assert_allclose(returns[over], batch.discounts[:, 1][over] / 0.99, rtol=1e-5)


class FarGoal(GoalLineThatEnds):
    """The goal is five or six steps away, on one of two sides: in ten steps, chance does not get there."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.position = np.zeros(1)
        self.goal = self.np_random.choice([-1.0, 1.0], size=1) * self.np_random.uniform(5.0, 6.0, size=1)
        return self._observe(), {}


@pytest.mark.slow
def test_goals_that_chance_hardly_reaches_are_learned_from_those_that_it_does(make_goal_model):
    options = dict(n_steps=3, batch_size=64, gamma=0.95, q_range=(-20.0, 0.0), buffer_size=2000, learning_starts=100)
    buffer = {"priority_exponent": 0.0, "her_ratio": 0.8}
    net = {"policy_kwargs": {"net_arch": [32, 32]}, "replay_buffer_kwargs": buffer}
    model = make_goal_model(goal_vec_env(FarGoal), demonstrations=None, action_noise=0.2, **net, **options).learn(1500)
    # At most one of ten episodes of random actions
    assert np.count_nonzero(own_rows(model, "rewards")[:100] == 0.0) <= 1
    env = goal_vec_env(FarGoal)
    env.seed(7)
    _, lengths = evaluate_policy(model, env, 20, return_episode_rewards=True, warn=False)
    assert (np.array(lengths) < 10).all()
