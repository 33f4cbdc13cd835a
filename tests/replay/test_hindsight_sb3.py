"""Replaced goals beside SB3's HerReplayBuffer, and under SB3's own algorithms."""

from collections import Counter
from typing import Any

import gymnasium as gym
import gymnasium_robotics
import numpy as np
import pytest
from goal_line import ACTION_SPACE, GOAL_SPACE, GoalLine, GoalLineThatEnds, goal_vec_env, straight
from naive_buffer import PickedRows
from naive_goals import GoalStep, Walker, add_goal_steps, fractions, goal_buffer
from stable_baselines3 import DDPG, SAC, TD3, HerReplayBuffer
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.type_aliases import DictReplayBufferSamples
from stable_baselines3.common.vec_env import VecNormalize

from sb3_pgfd import Demonstrations
from sb3_pgfd.demonstrations import record

gym.register_envs(gymnasium_robotics)

# --- The same transitions in both ------------------------------------------------------------------------------------


def episodes(n_envs: int) -> list[list[GoalStep]]:
    """
    Four episodes per environment, of 12 steps together, so that SB3's buffer, which draws no transition of a running
    episode, draws from all of them.
    """
    numbers, rng = fractions(), np.random.default_rng(0)
    lines = []
    for _ in range(n_envs):
        walker = Walker(numbers, ends_at_goal=False)
        line: list[GoalStep] = []
        for length, last in ((3, "t"), (5, "u"), (1, "u"), (3, "t")):
            line += walker.episode([int(place) for place in rng.integers(-1, 2, size=length)], int(rng.integers(-1, 2)), last)
        lines.append(line)
    return lines


Drawn = tuple[float, ...]


def drawn_by(samples: Any) -> list[Drawn]:
    """Everything that is in a transition."""
    assert isinstance(samples, DictReplayBufferSamples)
    first, then = samples.observations, samples.next_observations
    columns = [observed[key] for observed in (first, then) for key in GOAL_SPACE.spaces]
    columns += [samples.actions, samples.rewards, samples.dones]
    return list(zip(*(column.flatten().tolist() for column in columns), strict=True))


@pytest.mark.parametrize("n_envs", [1, 3])
def test_it_draws_what_sb3_draws_and_as_often(n_envs):
    np.random.seed(0)
    env = goal_vec_env(GoalLine, n_envs)
    lines = episodes(n_envs)
    sb3 = HerReplayBuffer(12 * n_envs, GOAL_SPACE, ACTION_SPACE, env=env, device="cpu", n_envs=n_envs, n_sampled_goal=4)
    ours = goal_buffer(12 * n_envs, n_envs=n_envs, n_steps=1, her_ratio=sb3.her_ratio, env=env)
    for steps in zip(*lines, strict=True):
        for buffer in (sb3, ours):
            add_goal_steps(buffer, list(steps))
    n_drawn = 100_000
    counts = [Counter(drawn_by(buffer.sample(1000))) for buffer in (sb3, ours) for _ in range(n_drawn // 1000)]
    half = len(counts) // 2
    of_sb3, of_ours = (sum(part, Counter()) for part in (counts[:half], counts[half:]))
    # Each of the 12 transitions of an environment with its own goal and with each from there on: n (n + 1) / 2 per episode
    n_kinds = n_envs * (12 + sum(n * (n + 1) // 2 for n in (3, 5, 1, 3)))
    assert len(of_sb3) == n_kinds
    assert of_ours.keys() == of_sb3.keys()
    for kind, count in of_ours.items():
        assert abs(count - of_sb3[kind]) < 6 * np.sqrt(count + of_sb3[kind]), kind
    assert {kind[-1] for kind in of_ours} == {0.0, 1.0}
    assert {kind[-2] for kind in of_ours} == {0.0, -1.0}


# --- SB3's algorithms on it ------------------------------------------------------------------------------------------


def learned(algorithm: Any, env: Any, demonstrations: Demonstrations | str, **options: Any) -> Any:
    buffer_options = {"demonstrations": demonstrations, "demo_fraction": 0.5, "her_ratio": 0.8, "env": env, **options}
    model = algorithm(
        "MultiInputPolicy",
        env,
        buffer_size=500,
        learning_starts=20,
        batch_size=32,
        train_freq=4,
        replay_buffer_class=PickedRows,
        replay_buffer_kwargs=buffer_options,
        policy_kwargs={"net_arch": [16]},
        seed=0,
        device="cpu",
    )
    before = {name: value.clone() for name, value in model.policy.state_dict().items()}
    model.learn(150)
    after = model.policy.state_dict()
    assert any(not value.equal(after[name]) for name, value in before.items())
    assert all(value.isfinite().all() for value in after.values())
    return model


def n_replaced(model: Any) -> int:
    """How many of 200 transitions have another goal than the one they were made with."""
    buffer = model.replay_buffer
    rows = np.random.randint(0, buffer.n_filled, size=200)
    desired = buffer.read_n_step(rows).observations["desired_goal"].numpy()
    stores = (buffer.demonstrations, buffer.ring)
    stored = np.concatenate([store.columns["observations/desired_goal"][: store.size] for store in stores])
    return int((desired != stored[rows]).any(axis=1).sum())


@pytest.fixture(scope="module")
def line_demonstrations() -> Demonstrations:
    return record(straight, gym.wrappers.TimeLimit(GoalLineThatEnds(), 10), 3)


@pytest.mark.parametrize("algorithm", [SAC, TD3, DDPG])
@pytest.mark.parametrize("n_steps", [1, 3])
def test_algorithms_learn_from_replaced_goals(algorithm, n_steps, line_demonstrations):
    model = learned(algorithm, goal_vec_env(GoalLineThatEnds, 2), line_demonstrations, n_steps=n_steps)
    assert n_replaced(model) == 160


def test_sac_learns_from_replaced_goals_that_are_normalised(line_demonstrations):
    env = VecNormalize(goal_vec_env(GoalLineThatEnds), norm_reward=True)
    model = learned(SAC, env, line_demonstrations)
    assert n_replaced(model) == 160
    assert env.obs_rms["desired_goal"].count > 100


def test_a_buffer_of_sac_is_saved_without_its_environment(line_demonstrations, tmp_path):
    env = goal_vec_env(GoalLineThatEnds)
    model = learned(SAC, env, line_demonstrations)
    model.save_replay_buffer(tmp_path / "buffer.pkl")
    model.load_replay_buffer(tmp_path / "buffer.pkl")
    with pytest.raises(ValueError, match="found no environment"):
        model.learn(50)
    model.replay_buffer.set_env(env)
    model.learn(50)
    assert n_replaced(model) == 160


def test_sac_is_saved_with_the_buffer_s_arguments_or_without(line_demonstrations, tmp_path):
    env = goal_vec_env(GoalLineThatEnds)
    model = learned(SAC, env, line_demonstrations)
    model.save(tmp_path / "with")
    assert n_replaced(SAC.load(tmp_path / "with", env=env).learn(50)) == 160
    model.save(tmp_path / "without", exclude=["replay_buffer_kwargs"])
    loaded = SAC.load(tmp_path / "without", env=env, replay_buffer_kwargs=model.replay_buffer_kwargs)
    assert n_replaced(loaded.learn(50)) == 160


@pytest.mark.parametrize(
    ("env_id", "env_kwargs"),
    [("FetchReach-v4", {}), ("PointMaze_UMaze-v3", {"continuing_task": False})],
)
def test_sac_learns_in_gymnasium_robotics(env_id, env_kwargs):
    env = make_vec_env(env_id, env_kwargs=env_kwargs, seed=0)
    model = learned(SAC, env, env_id, her_ratio=1.0)
    np.random.seed(0)
    samples = model.replay_buffer.sample(2000)
    reached = np.linalg.norm(samples.next_observations["achieved_goal"] - samples.observations["desired_goal"], axis=1)
    is_maze = env_id.startswith("PointMaze")
    reached = (reached <= (0.45 if is_maze else 0.05)).astype(int)
    assert 0 < reached.sum() < 2000
    # The environment's own rewards: 1 and 0, or 0 and -1; a maze is over at its goal, Fetch never is
    assert samples.rewards.flatten().tolist() == (reached - (not is_maze)).tolist()
    assert samples.dones.flatten().tolist() == (reached & is_maze).tolist()
