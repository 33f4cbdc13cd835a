"""The buffer under the algorithms of SB3 and sb3-contrib, which know nothing of it."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from sb3_contrib import TQC, CrossQ
from stable_baselines3 import DDPG, DQN, SAC, TD3
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.type_aliases import DictReplayBufferSamples, ReplayBufferSamples
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from sb3_pgfd import Demonstrations
from sb3_pgfd.demonstrations import record
from sb3_pgfd.replay import DemoReplayBuffer

CONTINUOUS = (SAC, TD3, DDPG, TQC, CrossQ)


class PendulumByKeys(gym.ObservationWrapper):
    """Pendulum with a Dict observation."""

    def __init__(self, env: gym.Env):
        super().__init__(env)
        low, high = np.array([-1.0, -1.0], dtype=np.float32), np.array([1.0, 1.0], dtype=np.float32)
        self.observation_space = spaces.Dict({"angle": spaces.Box(low, high), "velocity": spaces.Box(-8.0, 8.0, (1,))})

    def observation(self, observation: np.ndarray) -> dict[str, np.ndarray]:
        return {"angle": observation[:2], "velocity": observation[2:]}


def swing_up(observation: np.ndarray) -> np.ndarray:
    return 2.0 * np.sign(observation[2:])


def balance(observation: np.ndarray) -> int:
    return int(observation[2] + observation[3] > 0.0)


@pytest.fixture(scope="module")
def pendulum_demos() -> Demonstrations:
    return record(swing_up, "Pendulum-v1", 1)


@pytest.fixture(scope="module")
def cartpole_demos() -> Demonstrations:
    return record(balance, "CartPole-v1", 1)


def small_model(
    algorithm: Callable[..., OffPolicyAlgorithm], env: Any, demos: Demonstrations, policy: str = "MlpPolicy", **options: Any
) -> OffPolicyAlgorithm:
    buffer_options = {"demonstrations": demos, "demo_fraction": 0.5, "n_steps": 3, **options}
    return algorithm(
        policy,
        env,
        buffer_size=1000,
        learning_starts=20,
        batch_size=16,
        train_freq=4,
        replay_buffer_class=DemoReplayBuffer,
        replay_buffer_kwargs=buffer_options,
        policy_kwargs={"net_arch": [8]},
        seed=0,
        device="cpu",
    )


def buffer_of(model: OffPolicyAlgorithm) -> DemoReplayBuffer:
    assert isinstance(model.replay_buffer, DemoReplayBuffer)
    return model.replay_buffer


def assert_it_learns(model: OffPolicyAlgorithm, n_steps: int = 160) -> None:
    # DQN copies to its target network every ten thousand steps only
    trained = {name: value for name, value in model.policy.named_parameters() if "target" not in name}
    before = {name: value.clone() for name, value in trained.items()}
    model.learn(n_steps)
    assert all(bool(th.isfinite(value).all()) for value in trained.values())
    assert [name for name, value in trained.items() if th.equal(value, before[name])] == []


def assert_it_samples_n_step_returns(model: OffPolicyAlgorithm, sample_type: type) -> None:
    """The gamma of the buffer is 0.99 and n is 3: no return is over fewer than one step or more than three."""
    samples = buffer_of(model).sample(256)
    assert type(samples) is sample_type
    assert samples.discounts is not None
    assert samples.discounts.shape == samples.rewards.shape == samples.dones.shape == (256, 1)
    assert samples.discounts.max() <= 0.99
    assert samples.discounts.min() == pytest.approx(0.99**3)


@pytest.mark.parametrize("algorithm", CONTINUOUS)
def test_continuous_algorithms_learn_from_it(algorithm, pendulum_demos):
    model = small_model(algorithm, "Pendulum-v1", pendulum_demos)
    assert_it_learns(model)
    assert_it_samples_n_step_returns(model, ReplayBufferSamples)
    assert buffer_of(model).n_demonstrations == 200
    assert buffer_of(model).size() == 160


def test_dqn_learns_from_demonstrations_of_discrete_actions(cartpole_demos):
    model = small_model(DQN, "CartPole-v1", cartpole_demos)
    assert_it_learns(model, 300)
    assert_it_samples_n_step_returns(model, ReplayBufferSamples)
    assert set(buffer_of(model).sample(256).actions.flatten().tolist()) == {0, 1}


@pytest.mark.parametrize("algorithm", [SAC, TD3])
def test_algorithms_learn_when_priorities_decide(algorithm, pendulum_demos):
    model = small_model(algorithm, "Pendulum-v1", pendulum_demos, demo_fraction=None)
    assert_it_learns(model)
    assert_it_samples_n_step_returns(model, ReplayBufferSamples)
    # Nobody updates them: 360 equal priorities, 200 of them demonstrations
    priorities = buffer_of(model).priorities
    assert priorities[:160].tolist() == [1.0] * 160
    assert priorities[1000:].tolist() == [1.0] * 200
    assert int(buffer_of(model).sample_batch(360).is_demo.sum()) == 200


def test_algorithms_learn_from_four_environments(pendulum_demos):
    model = small_model(SAC, make_vec_env("Pendulum-v1", 4), pendulum_demos)
    assert_it_learns(model, 240)
    assert_it_samples_n_step_returns(model, ReplayBufferSamples)
    buffer = buffer_of(model)
    assert (buffer.n_demonstrations, buffer.n_own) == (200, 240)
    # Rows 0 to 3 are the four environments' first step, and each goes on four rows further
    ring = buffer.ring.columns
    np.testing.assert_array_equal(ring["next_observations/"][:236], ring["observations/"][4:240])


def test_sac_learns_from_dict_observations():
    env = PendulumByKeys(gym.make("Pendulum-v1"))
    demos = record(lambda observation: 2.0 * np.sign(observation["velocity"]), env, 1)
    model = small_model(SAC, env, demos, "MultiInputPolicy")
    assert_it_learns(model)
    assert_it_samples_n_step_returns(model, DictReplayBufferSamples)


def test_sac_learns_from_normalised_observations(pendulum_demos):
    env = VecNormalize(make_vec_env("Pendulum-v1"), clip_obs=1.0)
    model = small_model(SAC, env, pendulum_demos)
    assert_it_learns(model)
    observations = buffer_of(model).sample(256, env).observations
    assert isinstance(observations, th.Tensor)
    assert observations.abs().max() == 1.0
    # Stored raw: the velocity leaves [-1, 1]
    assert np.abs(buffer_of(model).ring.columns["observations/"]).max() > 1.0


def test_demonstrations_stay_when_the_ring_has_wrapped_around(pendulum_demos):
    model = SAC(
        "MlpPolicy",
        "Pendulum-v1",
        buffer_size=50,
        learning_starts=1000,
        replay_buffer_class=DemoReplayBuffer,
        replay_buffer_kwargs={"demonstrations": pendulum_demos},
        device="cpu",
    )
    model.learn(130)
    buffer = buffer_of(model)
    assert buffer.full
    columns = buffer.demonstrations.columns
    np.testing.assert_array_equal(columns["observations/"][:200], pendulum_demos.observations)
    np.testing.assert_array_equal(columns["rewards"][:200], pendulum_demos.rewards)
    # Torques of 2 and -2 are the bounds
    np.testing.assert_array_equal(columns["actions"][:200], pendulum_demos.actions / 2.0)


def test_returns_do_not_run_into_the_next_call_of_learn(pendulum_demos):
    model = small_model(SAC, "Pendulum-v1", pendulum_demos)
    for reset_num_timesteps in (True, True, False):
        model.learn(32, reset_num_timesteps=reset_num_timesteps)
    # Row 31 of the ring is the last before a reset in the middle of an episode, row 63 is not
    assert np.flatnonzero(buffer_of(model).ring.columns["steps_left"][:96] == 0).tolist() == [31]


@pytest.mark.parametrize("demo_fraction", [0.5, None])
def test_a_saved_buffer_is_the_same_after_loading(tmp_path, pendulum_demos, demo_fraction):
    model = small_model(SAC, "Pendulum-v1", pendulum_demos, demo_fraction=demo_fraction)
    model.learn(60)
    buffer_of(model).update_priorities(np.append(np.arange(60), np.arange(1000, 1200)), np.linspace(0.1, 5.0, 260))
    model.save_replay_buffer(tmp_path / "buffer.pkl")
    other = small_model(SAC, "Pendulum-v1", pendulum_demos)
    other.load_replay_buffer(tmp_path / "buffer.pkl")
    batches = []
    for buffer in (buffer_of(model), buffer_of(other)):
        np.random.seed(1)
        batches.append(buffer.sample_batch(64))
    assert batches[0].indices.tolist() == batches[1].indices.tolist()
    for name in ("observations", "actions", "next_observations", "rewards", "bootstrap", "weights", "is_demo"):
        assert th.equal(getattr(batches[0], name), getattr(batches[1], name)), name
    assert_it_learns(other, 40)
    assert buffer_of(other).size() == 100


def test_packaged_demonstrations_can_be_named():
    model = small_model(SAC, "Pendulum-v1", Demonstrations.load("Pendulum-v1"), demonstrations="Pendulum-v1")
    assert buffer_of(model).n_demonstrations == len(Demonstrations.load("Pendulum-v1"))
    assert_it_learns(model, 60)


def test_time_limits_of_an_environment_are_told_apart_from_terminal_states(pendulum_demos):
    env = DummyVecEnv([lambda: gym.make("Pendulum-v1", max_episode_steps=10)])
    model = small_model(SAC, env, pendulum_demos)
    model.learn(44)
    ring = buffer_of(model).ring.columns
    assert np.flatnonzero(ring["steps_left"][:44] == 0).tolist() == [9, 19, 29, 39]
    assert not ring["terminated"].any()
