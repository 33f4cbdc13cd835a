"""What the buffer holds, as demonstrations."""

import itertools
import pickle
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_buffer import (
    ACTION_SPACE,
    STATE_SPACE,
    Step,
    demo_steps,
    demonstrations,
    fill_like,
    five_demos,
    play,
    single_episode,
    state_buffer,
)
from stable_baselines3 import DQN, SAC
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from sb3_pgfd import Demonstrations, DemonstrationsError
from sb3_pgfd.demonstrations.validation import Observations
from sb3_pgfd.replay import DemoReplayBuffer


def as_steps(dataset: Demonstrations) -> list[list[Step]]:
    """:return: The episodes as the transitions that :func:`naive_buffer.play` adds; what is truncated ends with "u" """
    observations, next_observations = dataset.observations, dataset.next_observations
    assert isinstance(observations, np.ndarray)
    assert isinstance(next_observations, np.ndarray)
    events = np.where(dataset.terminated, "t", np.where(dataset.truncated, "u", "-")).tolist()
    numbers = (observations[:, 0], dataset.actions[:, 0], dataset.rewards, next_observations[:, 0])
    columns = [*(column.tolist() for column in numbers), events]
    steps = [Step(*row) for row in zip(*columns, strict=True)]
    return [
        steps[start : start + length] for start, length in zip(dataset.episode_starts, dataset.episode_lengths, strict=True)
    ]


def cut(history: list[Step]) -> list[list[Step]]:
    """:param history: Transitions of one environment. Interrupted and unfinished episodes count as truncated"""
    episodes: list[list[Step]] = [[]]
    for step in history:
        episodes[-1].append(step._replace(event="u") if step.event == "i" else step)
        if step.event != "-":
            episodes.append([])
    if episodes[-1]:
        episodes[-1][-1] = episodes[-1][-1]._replace(event="u")
    return [steps for steps in episodes if steps]


LINE = st.text(alphabet=st.sampled_from("---tui"), min_size=12, max_size=12)


@settings(max_examples=100, deadline=None)
@given(lines=st.lists(LINE, min_size=1, max_size=3), length=st.integers(1, 12), ring_steps=st.integers(1, 15))
def test_each_environment_gives_its_episodes_in_the_order_of_time(lines, length, ring_steps):
    episodes = demo_steps("--t", "-u")
    n_envs = len(lines)
    buffer = state_buffer(ring_steps * n_envs, n_envs=n_envs, demonstrations=demonstrations(episodes[:1]))
    histories = play(buffer, *[line[:length] for line in lines])
    buffer.add_demonstrations(demonstrations(episodes[1:]))
    own = [steps for history in histories for steps in cut(history[-ring_steps:])]
    assert as_steps(buffer.to_demonstrations()) == episodes + own
    assert as_steps(buffer.to_demonstrations(agent_only=True)) == own
    assert as_steps(pickle.loads(pickle.dumps(buffer)).to_demonstrations()) == episodes + own


def test_demonstrations_alone_come_back_as_they_were():
    dataset = five_demos()
    returned = state_buffer(4, demonstrations=dataset).to_demonstrations()
    assert as_steps(returned) == as_steps(dataset)
    assert returned.episode_lengths.tolist() == [3, 2]


@pytest.mark.parametrize("agent_only", [False, True])
def test_an_empty_buffer_is_refused(agent_only):
    buffer = state_buffer(4, demonstrations=five_demos() if agent_only else None)
    with pytest.raises(DemonstrationsError, match="found no transition in the replay buffer, expected at least one"):
        buffer.to_demonstrations(agent_only)


def test_they_do_not_change_when_the_buffer_does():
    buffer = state_buffer(2)
    play(buffer, "--")
    dataset = buffer.to_demonstrations()
    before = as_steps(dataset)
    play(buffer, "tt")
    assert as_steps(dataset) == before


# --- Spaces ----------------------------------------------------------------------------------------------------------


def test_actions_come_back_in_environment_units_and_within_the_bounds():
    space = spaces.Box(np.array([[-2.0, 0.0]]), np.array([[0.1, 10.0]]), dtype=np.float64)
    actions = np.array([[[-2.0, 0.0]], [[-0.5, 7.5]], [[0.1, 10.0]]])
    buffer = DemoReplayBuffer(
        4, STATE_SPACE, space, device="cpu", demonstrations=single_episode(np.zeros((4, 1), np.float32), actions)
    )
    found = buffer.to_demonstrations().actions
    np.testing.assert_allclose(found, actions, atol=1e-6)
    assert (found >= space.low).all()
    assert (found <= space.high).all()


KEYED_SPACE = spaces.Dict({"place": spaces.Box(-1, 9, (2,)), "k": spaces.Discrete(9)})
KEYED: dict[str, Any] = {"place": np.arange(6, dtype=np.float32).reshape(3, 2), "k": np.arange(3)}


@pytest.mark.parametrize(
    ("observation_space", "action_space", "observations", "actions"),
    [
        (spaces.Discrete(7), spaces.Discrete(3), np.array([4, 5, 6]), np.array([0, 2])),
        (KEYED_SPACE, spaces.Discrete(3), KEYED, np.array([1, 2])),
        (spaces.MultiDiscrete([3, 4]), spaces.MultiBinary(2), np.ones((3, 2), np.int64), np.eye(2, dtype=np.int8)),
        (spaces.Box(0, 255, (1, 4, 4), np.uint8), ACTION_SPACE, np.ones((3, 1, 4, 4), np.uint8), np.array([[1.0], [-1.0]])),
    ],
)
@pytest.mark.parametrize("n_envs", [1, 2])
def test_all_spaces_come_back_in_shape(observation_space, action_space, observations, actions, n_envs):
    dataset = single_episode(observations, actions, terminated=False)
    buffer = DemoReplayBuffer(6, observation_space, action_space, device="cpu", n_envs=n_envs, demonstrations=dataset)
    fill_like(buffer, 4)
    returned = buffer.to_demonstrations()
    # It checks shapes, dtypes and bounds
    returned.check_spaces(observation_space, action_space)
    assert len(returned) == 2 + (4 if n_envs == 1 else 6)
    for found, expected in zip(parts(returned.observations), parts(dataset.observations), strict=True):
        np.testing.assert_array_equal(found[:2], expected)
    np.testing.assert_array_equal(returned.actions[:2], dataset.actions)
    again = DemoReplayBuffer(6, observation_space, action_space, device="cpu", demonstrations=returned)
    np.testing.assert_array_equal(again.demonstrations.columns["actions"][:2], buffer.demonstrations.columns["actions"][:2])


def parts(observations: Observations) -> list[np.ndarray]:
    return [observations] if isinstance(observations, np.ndarray) else [observations[key] for key in sorted(observations)]


# --- Under SB3's own algorithms --------------------------------------------------------------------------------------


class Logged(gym.Wrapper):
    """Keeps everything that happens."""

    def __init__(self, env: gym.Env):
        super().__init__(env)
        self.log: list[tuple[Any, ...]] = []

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        self.last, info = self.env.reset(**options)
        return self.last, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        result = self.env.step(action)
        self.log.append((self.last, np.array(action), *result[:4]))
        self.last = result[0]
        return result


@pytest.mark.parametrize(("algorithm", "env_id"), [(SAC, "Pendulum-v1"), (DQN, "CartPole-v1")])
@pytest.mark.parametrize("normalized", [False, True])
def test_it_is_what_happened_in_the_environments(algorithm, env_id, normalized):
    logged = [Logged(gym.make(env_id)) for _ in range(2)]
    env: Any = DummyVecEnv([lambda: logged[0], lambda: logged[1]])
    env = VecNormalize(env) if normalized else env
    model = algorithm(
        "MlpPolicy",
        env,
        learning_starts=1000,
        train_freq=1,
        replay_buffer_class=DemoReplayBuffer,
        policy_kwargs={"net_arch": [8]},
        seed=0,
        device="cpu",
    )
    # The second call resets the environments, which interrupts their episodes
    assert isinstance(model, OffPolicyAlgorithm)
    model.learn(440).learn(30)
    assert isinstance(model.replay_buffer, DemoReplayBuffer)
    found = model.replay_buffer.to_demonstrations()
    log = list(itertools.chain(*(wrapped.log for wrapped in logged)))
    columns = [np.array(column) for column in zip(*log, strict=True)]
    names = ("observations", "actions", "next_observations", "rewards", "terminated")
    for name, expected in zip(names, columns, strict=False):
        # SB3 takes the last observation of an episode back from VecNormalize by arithmetic
        np.testing.assert_allclose(getattr(found, name), expected, rtol=1e-5, atol=1e-7, err_msg=name)
    cuts = np.zeros(470, dtype=bool)
    cuts[[219, 234, 454, 469]] = True
    np.testing.assert_array_equal(found.truncated, (columns[5] | cuts) & ~columns[4])
