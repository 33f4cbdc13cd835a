"""The packaged demonstrations of Fetch and PointMaze with Dict observations, and flattened: both are learned from."""

from collections.abc import Mapping
from contextlib import closing
from typing import Any

import gymnasium as gym
import gymnasium_robotics
import numpy as np
import pytest
from gymnasium.wrappers import FlattenObservation
from packaged_physics import start_tolerance

from sb3_pgfd import A2CfD, DDPGfD, Demonstrations
from sb3_pgfd.demonstrations.environment import recorded_env

gym.register_envs(gymnasium_robotics)

NAMES = ("FetchReach-v4", "FetchPush-v4", "FetchPickAndPlace-v4", "PointMaze_UMaze-v3", "PointMaze_Medium-v3")
SMALL = {"net_arch": [16]}
ALGORITHMS: dict[type[DDPGfD] | type[A2CfD], dict[str, Any]] = {
    DDPGfD: {"learning_starts": 10, "buffer_size": 1000, "batch_size": 16},
    A2CfD: {"n_steps": 8},
}


def make_env(name: str) -> gym.Env:
    return recorded_env(Demonstrations.load(name))


@pytest.mark.parametrize("name", NAMES)
def test_all_episodes_are_successes(name: str):
    demonstrations = Demonstrations.load(name)
    assert demonstrations.successes is not None
    assert demonstrations.successes.all()
    assert demonstrations.metadata["success_rate"] == 1.0


@pytest.mark.parametrize("name", NAMES)
def test_no_episode_begins_at_its_goal(name: str):
    demonstrations = Demonstrations.load(name)
    assert isinstance(demonstrations.observations, Mapping)
    first = {key: array[demonstrations.episode_starts] for key, array in demonstrations.observations.items()}
    assert np.linalg.norm(first["desired_goal"] - first["achieved_goal"], axis=1).min() > 0.05


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("PointMaze")])
def test_a_maze_ends_at_the_goal(name: str):
    demonstrations = Demonstrations.load(name)
    assert demonstrations.metadata["env_kwargs"]["continuing_task"] is False
    assert demonstrations.terminated.sum() == demonstrations.n_episodes
    assert demonstrations.episode_returns.tolist() == [1.0] * demonstrations.n_episodes


@pytest.mark.parametrize("name", NAMES)
def test_flattened_demonstrations_are_what_gymnasium_shows_flattened(name: str):
    whole, flat = Demonstrations.load(name), Demonstrations.load(name, flatten_observations=True)
    with closing(make_env(name)) as inner, closing(FlattenObservation(inner)) as env:
        flat.check_spaces(env.observation_space, env.action_space)
        assert isinstance(flat.observations, np.ndarray)
        for number in range(3):
            start, _ = env.reset(seed=int(flat.episode_info["seed"][number]))
            recorded = flat.observations[flat.episode_starts[number]]
            np.testing.assert_allclose(recorded, start, atol=start_tolerance(name))
        assert isinstance(whole.observations, Mapping)
        for row in (0, len(whole) - 1):
            step = {key: array[row] for key, array in whole.observations.items()}
            np.testing.assert_array_equal(flat.observations[row], gym.spaces.flatten(inner.observation_space, step))


@pytest.mark.parametrize("name", ["FetchReach-v4", "PointMaze_UMaze-v3"])
@pytest.mark.parametrize("flat", [False, True], ids=["dict", "flat"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_they_are_learned_from(algorithm: Any, flat: bool, name: str):
    env = FlattenObservation(make_env(name)) if flat else make_env(name)
    model = algorithm(
        "MlpPolicy" if flat else "MultiInputPolicy",
        env,
        demonstrations=Demonstrations.load(name, flatten_observations=flat),
        pretrain_steps=5,
        policy_kwargs=SMALL,
        seed=0,
        **ALGORITHMS[algorithm],
    )
    model.learn(64)
    assert model.num_timesteps == 64
    observation, _ = env.reset(seed=1)
    action, _ = model.predict(observation, deterministic=True)
    assert env.action_space.contains(action)
