import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.box2d.bipedal_walker import BipedalWalkerHeuristics
from gymnasium.envs.box2d.lunar_lander import heuristic
from toy_dataset import box
from toy_walk import Walk

from sb3_pgfd import DemonstrationsError
from sb3_pgfd.demonstrations import record
from sb3_pgfd.demonstrations.recording.policy import scripted_expert


@pytest.mark.parametrize("continuous", [False, True])
def test_the_lander_lands(continuous: bool):
    env = gym.make("LunarLander-v3", continuous=continuous)
    demonstrations = record(scripted_expert(env), env, 10)
    # The environment counts as solved at 200
    assert demonstrations.episode_returns.mean() > 200
    demonstrations.check_spaces(env.observation_space, env.action_space)
    expected = [heuristic(env, observation) for observation in box(demonstrations.observations)]
    np.testing.assert_allclose(demonstrations.actions, expected, rtol=1e-6)


def test_the_lander_with_another_id_is_known():
    env = gym.make("LunarLanderContinuous-v3")
    assert scripted_expert(env)(np.zeros(8, dtype=np.float32)).shape == (2,)


def test_the_walker_walks_and_begins_each_episode_anew():
    env = gym.make("BipedalWalker-v3")
    # The first one goes all the way, the second one falls on its way
    demonstrations = record(scripted_expert(env), env, 2)
    assert demonstrations.episode_returns[0] > 250
    for number in range(2):
        episode, walker = demonstrations.episode(number), BipedalWalkerHeuristics()
        expected = [walker.step_heuristic(observation).copy() for observation in box(episode.observations)[:-1]]
        np.testing.assert_allclose(episode.actions, expected, rtol=1e-6)


@pytest.mark.parametrize("env", [Walk(), gym.make("Pendulum-v1")])
def test_an_environment_without_an_expert_is_refused(env: gym.Env):
    expected = r"expert: found .*, expected an environment that Gymnasium has an expert for: LunarLander, BipedalWalker"
    with pytest.raises(DemonstrationsError, match=expected):
        scripted_expert(env)
