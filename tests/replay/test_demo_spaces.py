"""Observations and actions of all kinds, raw in the buffer, normalised in the samples."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from naive_buffer import (
    ACTION_SPACE,
    STATE_SPACE,
    PickedRows,
    as_expected,
    box,
    fill_like,
    five_demos,
    n_step,
    numbers,
    one_step,
    play,
    single_episode,
    state_buffer,
)
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.type_aliases import DictReplayBufferSamples
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from sb3_pgfd.demonstrations import DemonstrationsError
from sb3_pgfd.replay import DemoReplayBuffer

# --- Spaces ----------------------------------------------------------------------------------------------------------


def test_dict_observations_are_stored_and_sampled_by_key():
    space = spaces.Dict(
        {"place": spaces.Box(-1, 1, (2,)), "image": spaces.Box(0, 255, (3, 4, 5), np.uint8), "k": spaces.Discrete(9)}
    )
    observations = {
        "place": np.array([[0, 0], [1, 1], [2, 2]], dtype=np.float32),
        "image": np.stack([np.full((3, 4, 5), k, dtype=np.uint8) for k in range(3)]),
        "k": np.arange(3),
    }
    demos = single_episode(observations, np.zeros((2, 1), dtype=np.float32))
    buffer = PickedRows(8, space, ACTION_SPACE, device="cpu", n_envs=2, n_steps=2, demonstrations=demos)
    fill_like(buffer, 3)
    batch = buffer.read([0, 1, 2])
    assert isinstance(batch.observations, dict)
    assert {key: (tuple(value.shape), value.dtype) for key, value in batch.observations.items()} == {
        "place": ((3, 2), th.float32),
        "image": ((3, 3, 4, 5), th.uint8),
        "k": ((3, 1), th.int64),
    }
    assert batch.observations["k"][:2].tolist() == [[0], [1]]
    for part, expected in ((one_step(batch), [1, 2]), (n_step(batch), [2, 2])):
        assert isinstance(part, DictReplayBufferSamples)
        assert part.next_observations["image"][:2, 0, 0, 0].tolist() == expected
        assert part.next_observations["k"][:2].flatten().tolist() == expected
    assert isinstance(buffer.sample(3), DictReplayBufferSamples)


def test_images_are_stored_raw_in_their_own_dtype():
    space = spaces.Box(0, 255, (1, 4, 4), np.uint8)
    buffer = PickedRows(10, space, ACTION_SPACE, device="cpu")
    image = np.full((1, 1, 4, 4), 200, dtype=np.uint8)
    buffer.add(image, image + 1, np.zeros((1, 1)), np.zeros(1), np.zeros(1), [{}])
    assert buffer.ring.frames[""].frames.dtype == np.uint8
    batch = buffer.read([0])
    assert box(batch.observations).dtype == th.uint8
    assert box(batch.observations).unique().tolist() == [200]
    assert box(batch.next_observations).unique().tolist() == [201]


def test_demonstrations_with_channels_last_are_fitted_to_a_space_with_channels_first():
    channels_last = np.arange(3 * 4 * 5 * 3, dtype=np.uint8).reshape(3, 4, 5, 3)
    demos = single_episode(channels_last, np.zeros((2, 1), dtype=np.float32))
    buffer = PickedRows(4, spaces.Box(0, 255, (3, 4, 5), np.uint8), ACTION_SPACE, device="cpu", demonstrations=demos)
    batch = buffer.read([0, 1])
    np.testing.assert_array_equal(box(batch.observations).numpy(), channels_last[:2].transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(box(one_step(batch).next_observations).numpy(), channels_last[1:].transpose(0, 3, 1, 2))


@pytest.mark.parametrize("n_envs", [1, 3])
def test_discrete_observations_and_actions_are_columns_of_whole_numbers(n_envs):
    demos = single_episode(np.array([4, 5, 6]), np.array([0, 2]))
    options: dict[str, Any] = {"device": "cpu", "n_envs": n_envs, "demonstrations": demos}
    buffer = PickedRows(9, spaces.Discrete(7), spaces.Discrete(3), **options)
    states = np.arange(n_envs)
    buffer.add(states, states + 1, states[:, None] % 3, np.zeros(n_envs), np.zeros(n_envs), [{}] * n_envs)
    batch = buffer.read([0, 1, 1 + n_envs])
    assert box(batch.observations).tolist() == [[4], [5], [n_envs - 1]]
    assert box(one_step(batch).next_observations).tolist() == [[5], [6], [n_envs]]
    assert batch.actions.tolist() == [[0], [2], [(n_envs - 1) % 3]]
    assert box(batch.observations).dtype == batch.actions.dtype == th.int64


def test_actions_of_demonstrations_are_scaled_to_the_unit_range():
    space = spaces.Box(np.array([-2.0, 0.0], dtype=np.float32), np.array([2.0, 10.0], dtype=np.float32))
    # The last lies outside by the rounding error that validation lets pass
    actions = np.array([[-2.0, 0.0], [1.0, 7.5], [2.0, 10.0], [2.0001, -0.0001]], dtype=np.float32)
    demos = single_episode(np.zeros((5, 1), dtype=np.float32), actions)
    buffer = PickedRows(4, STATE_SPACE, space, device="cpu", demonstrations=demos)
    assert buffer.read([0, 1, 2, 3]).actions.tolist() == [[-1, -1], [0.5, 0.5], [1, 1], [1, -1]]


def test_actions_of_the_agent_are_stored_as_they_come():
    buffer = PickedRows(4, STATE_SPACE, spaces.Box(-2.0, 2.0, (1,)), device="cpu")
    state = np.zeros((1, 1))
    buffer.add(state, state, np.array([[0.75]]), np.zeros(1), np.zeros(1), [{}])
    assert numbers(buffer.read([0]).actions) == [0.75]


def test_actions_in_double_precision_are_stored_in_single_precision():
    space = spaces.Box(-1.0, 1.0, (2, 3), np.float64)
    demos = single_episode(np.zeros((2, 1), dtype=np.float32), np.full((1, 2, 3), 0.25))
    buffer = PickedRows(4, STATE_SPACE, space, device="cpu", demonstrations=demos)
    actions = buffer.read([0]).actions
    assert actions.dtype == th.float32
    assert actions.tolist() == [[0.25] * 6]


def test_demonstrations_of_another_space_are_refused():
    demos = five_demos()
    with pytest.raises(DemonstrationsError, match=r"observations: found shape \(1,\) per step, expected \(2,\)"):
        DemoReplayBuffer(4, spaces.Box(-1, 1, (2,)), ACTION_SPACE, demonstrations=demos)
    with pytest.raises(DemonstrationsError, match="actions"):
        DemoReplayBuffer(4, STATE_SPACE, spaces.Box(-1, 1, (3,)), demonstrations=demos)
    with pytest.raises(DemonstrationsError, match=r"expected a value in \[-0.5, 0.5\]"):
        DemoReplayBuffer(4, STATE_SPACE, spaces.Box(-0.5, 0.5, (1,)), demonstrations=demos)


# --- VecNormalize ----------------------------------------------------------------------------------------------------


class Corridor(gym.Env):
    """The spaces of a :func:`state_buffer`, for wrappers that ask for an environment."""

    observation_space: spaces.Space = STATE_SPACE
    action_space = ACTION_SPACE


class DictCorridor(Corridor):
    observation_space = spaces.Dict({"place": STATE_SPACE, "goal": STATE_SPACE})


def test_observations_and_each_reward_are_normalised_before_they_are_summed():
    env = VecNormalize(DummyVecEnv([Corridor]), clip_obs=3.0, clip_reward=1.0, epsilon=0.0)
    assert isinstance(env.obs_rms, RunningMeanStd)
    env.obs_rms.mean, env.obs_rms.var = np.array([1.0]), np.array([4.0])
    env.ret_rms.var = np.array(4.0)
    buffer = state_buffer(10, n_steps=3, gamma=0.5)
    play(buffer, "-" * 9, rewards=[1, 4, 6, 1, 1, 1, 1, 1, 1])
    batch = buffer.read([0, 8], env=env)
    # Rewards 1, 4, 6 over 2 are 0.5, 2, 3, clipped 0.5, 1, 1: 0.5 + 1/2 + 1/4 = 1.25. Clipping the sum would give 1
    assert numbers(one_step(batch).rewards) == [0.5, 0.5]
    assert numbers(n_step(batch).rewards) == [1.25, 0.5]
    # (0 - 1) / 2 and (8 - 1) / 2 = 3.5, clipped; next states 1 and 9; after three steps state 3, at the head 9
    assert numbers(one_step(batch).observations) == [-0.5, 3.0]
    assert numbers(one_step(batch).next_observations) == [0.0, 3.0]
    assert numbers(n_step(batch).next_observations) == [1.0, 3.0]
    samples = buffer.read_n_step([0, 8], env=env)
    assert numbers(samples.rewards) == [1.25, 0.5]
    assert numbers(samples.observations) == [-0.5, 3.0]
    # Nothing of it is kept
    assert [row.reward for row in as_expected(buffer.read([0, 1]))] == [1.0, 4.0]
    assert [row.obs for row in as_expected(buffer.read([0, 8]))] == [0.0, 8.0]


def test_demonstrations_are_normalised_like_the_rest():
    env = VecNormalize(DummyVecEnv([Corridor]), norm_reward=False, clip_obs=1e6, epsilon=0.0)
    assert isinstance(env.obs_rms, RunningMeanStd)
    env.obs_rms.mean, env.obs_rms.var = np.array([10_000.0]), np.array([0.25])
    buffer = state_buffer(4, demonstrations=five_demos())
    # (10_000 - 10_000) / 0.5, (10_001 - 10_000) / 0.5
    assert numbers(buffer.read([0, 1], env=env).observations) == [0.0, 2.0]


def test_only_the_keys_asked_for_are_normalised():
    env = VecNormalize(DummyVecEnv([DictCorridor]), norm_obs_keys=["place"], clip_obs=100.0, epsilon=0.0)
    assert isinstance(env.obs_rms, dict)
    env.obs_rms["place"].mean, env.obs_rms["place"].var = np.array([1.0]), np.array([4.0])
    buffer = PickedRows(4, DictCorridor.observation_space, ACTION_SPACE, device="cpu")
    state = {"place": np.array([[5.0]]), "goal": np.array([[5.0]])}
    buffer.add(state, state, np.zeros((1, 1)), np.zeros(1), np.zeros(1), [{}])
    observations = buffer.read([0], env=env).observations
    assert isinstance(observations, dict)
    # (5 - 1) / 2
    assert {key: value.item() for key, value in observations.items()} == {"place": 2.0, "goal": 5.0}
