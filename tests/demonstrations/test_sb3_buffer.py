"""SB3's replay buffers, filled by hand and by its algorithms."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from replay_buffers import ACTIONS, OBSERVATIONS, add, filled, learn_with_her
from stable_baselines3 import DQN, SAC
from stable_baselines3.common.buffers import DictReplayBuffer, NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from toy_dataset import box, make

from sb3_pgfd import Demonstrations, DemonstrationsError

# What a step may end with: nothing, a terminal state, a time limit
ENDS = st.sampled_from(["", "", "", "terminated", "truncated"])


@pytest.mark.parametrize("kind", [ReplayBuffer, NStepReplayBuffer])
def test_a_buffer_becomes_episodes(kind: type[ReplayBuffer]):
    buffer = kind(100, OBSERVATIONS, ACTIONS, device="cpu")
    for step, end in enumerate(["", "terminated", "", "", "truncated", ""]):
        add(buffer, step, step + 1, (0.0, 0.0), [end], reward=step)
    demonstrations = Demonstrations.load(buffer)
    assert box(demonstrations.observations)[:, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert box(demonstrations.next_observations)[:, 0].tolist() == [1, 2, 3, 4, 5, 6]
    assert demonstrations.rewards.tolist() == [0, 1, 2, 3, 4, 5]
    assert demonstrations.terminated.tolist() == [False, True, False, False, False, False]
    # The last episode is not over: what it reached is known and has a value
    assert demonstrations.truncated.tolist() == [False, False, False, False, True, True]
    assert demonstrations.episode_lengths.tolist() == [2, 3, 1]
    assert demonstrations.metadata["producer"] == f"imported from a {kind.__name__}"
    assert demonstrations.source == f"{kind.__name__} in memory"


def test_actions_come_back_to_their_bounds():
    actions = Demonstrations.load(filled([""], action=(-1.0, 1.0))).actions
    assert actions.tolist() == [[-2, 10]]
    assert Demonstrations.load(filled([""], action=(0.5, -0.5))).actions.tolist() == [[1, 2.5]]
    assert actions.dtype == np.float32


def test_actions_never_leave_their_bounds():
    space = spaces.Box(np.full(50, -0.1, np.float32), np.linspace(0.1, 0.7, 50, dtype=np.float32))
    for sign in (-1, 1):
        actions = Demonstrations.load(filled([""], action=np.full(50, sign, np.float32), space=space)).actions
        assert space.contains(actions[0])


def test_actions_that_were_not_scaled_are_told():
    buffer = filled([""], action=(-2.0, 7.0))
    assert Demonstrations.load(buffer, scaled_actions=False).actions.tolist() == [[-2, 7]]
    with pytest.raises(
        DemonstrationsError, match=r"found an action of 7, expected all in \[-1, 1\] .* pass scaled_actions=False"
    ):
        Demonstrations.load(buffer)


def test_whether_actions_were_scaled_is_yes_or_no():
    with pytest.raises(DemonstrationsError, match="found scaled_actions='no', expected True or False"):
        Demonstrations.load(filled([""]), scaled_actions="no")


def test_actions_without_bounds_cannot_be_scaled():
    buffer = filled([""], space=spaces.Box(-np.inf, np.inf, (2,)))
    assert Demonstrations.load(buffer, scaled_actions=False).actions.tolist() == [[0, 0]]
    with pytest.raises(DemonstrationsError, match=r"found actions without bounds .*: pass scaled_actions=False"):
        Demonstrations.load(buffer)


@pytest.mark.parametrize(
    ("space", "stored", "expected"),
    [
        (spaces.Discrete(5), 3, 3),
        (spaces.Discrete(5, start=-1), -1, -1),
        (spaces.MultiDiscrete([3, 4]), (2, 3), [2, 3]),
        (spaces.MultiBinary(3), (1, 0, 1), [1, 0, 1]),
        (spaces.Box(0, 4, (2, 2), np.float32), (-1.0, 0.0, 0.5, 1.0), [[0, 2], [3, 4]]),
    ],
)
def test_actions_have_the_shape_of_their_space(space: spaces.Space, stored: Any, expected: Any):
    actions = Demonstrations.load(filled(["", "terminated"], action=stored, space=space)).actions
    assert actions.tolist() == [expected] * 2
    assert space.contains(actions[0])


def test_discrete_observations_have_no_axis():
    buffer = ReplayBuffer(10, spaces.Discrete(5), ACTIONS, device="cpu", n_envs=2)
    for step in range(2):
        before, after = np.array([step, 4]), np.array([step + 1, 4])
        buffer.add(before, after, np.zeros((2, 2)), np.zeros(2), np.zeros(2), [{}, {}])
    demonstrations = Demonstrations.load(buffer)
    assert box(demonstrations.observations).tolist() == [0, 1, 4, 4]
    assert box(demonstrations.next_observations).tolist() == [1, 2, 4, 4]


def test_an_interrupted_episode_is_truncated():
    buffer = filled(["", ""])
    # learn() was called again: the environment was reset without a flag
    add(buffer, 0, 1, (0.0, 0.0), [""])
    add(buffer, 1, 2, (0.0, 0.0), ["terminated"])
    demonstrations = Demonstrations.load(buffer)
    assert demonstrations.episode_lengths.tolist() == [2, 2]
    assert demonstrations.truncated.tolist() == [False, True, False, False]
    assert demonstrations.terminated.tolist() == [False, False, False, True]


def test_without_the_flag_of_time_limits_done_is_terminal():
    buffer = filled(["", "truncated"], handle_timeout_termination=False)
    assert Demonstrations.load(buffer).terminated.tolist() == [False, True]
    assert Demonstrations.load(buffer, done_means="truncated").truncated.tolist() == [False, True]


def test_a_full_ring_begins_with_the_oldest_step():
    demonstrations = Demonstrations.load(filled(["", "", "terminated", "", ""], size=4))
    # The first episode has lost its first step
    assert box(demonstrations.observations)[:, 0].tolist() == [1, 2, 3, 4]
    assert demonstrations.episode_lengths.tolist() == [2, 2]


Steps = list[tuple[float, float, str]]


def naive(streams: list[Steps], size: int) -> list[Steps]:
    """Episodes of ``(observation, next observation, end)``, cut one step after the other."""
    episodes = []
    for stream in streams:
        kept = stream[-size:]
        episode: Steps = []
        for k, (before, after, end) in enumerate(kept):
            episode.append((before, after, end or "truncated"))
            if end or k + 1 == len(kept) or kept[k + 1][0] != after:
                episodes.append([(b, a, "") for b, a, _ in episode[:-1]] + episode[-1:])
                episode = []
    return episodes


@settings(max_examples=80, deadline=None, derandomize=True, database=None)
@given(data=st.data(), n_envs=st.integers(1, 3), size=st.integers(1, 6), n_steps=st.integers(1, 14))
def test_every_environment_is_read_in_the_order_of_time(data: st.DataObject, n_envs: int, size: int, n_steps: int):
    buffer = ReplayBuffer(size * n_envs, OBSERVATIONS, ACTIONS, device="cpu", n_envs=n_envs)
    streams: list[Steps] = [[] for _ in range(n_envs)]
    state, fresh = np.zeros(n_envs), 0
    for _ in range(n_steps):
        ends = [data.draw(ENDS) for _ in range(n_envs)]
        fresh += n_envs
        after = fresh + np.arange(n_envs, dtype=float)
        buffer.add(
            state[:, None],
            after[:, None],
            np.zeros((n_envs, 2)),
            after,
            np.array([bool(end) for end in ends]),
            [{"TimeLimit.truncated": end == "truncated"} for end in ends],
        )
        for k, end in enumerate(ends):
            streams[k].append((state[k], after[k], end))
        interrupted = data.draw(st.integers(0, 9)) == 0
        fresh += n_envs
        state = np.where([interrupted or bool(end) for end in ends], fresh + np.arange(n_envs), after)
    demonstrations = Demonstrations.load(buffer)
    expected = naive(streams, size)
    flags = np.where(demonstrations.terminated, "terminated", np.where(demonstrations.truncated, "truncated", ""))
    columns = box(demonstrations.observations)[:, 0], box(demonstrations.next_observations)[:, 0], flags
    assert list(zip(*(column.tolist() for column in columns), strict=True)) == [
        step for episode in expected for step in episode
    ]
    assert demonstrations.rewards.tolist() == [after for episode in expected for _, after, _ in episode]
    assert demonstrations.episode_lengths.tolist() == [len(episode) for episode in expected]


@pytest.fixture(scope="module")
def sac() -> SAC:
    """60 steps of Pendulum in two environments, with normalised observations and rewards."""
    env = DummyVecEnv([lambda: gym.make("Pendulum-v1", max_episode_steps=12)] * 2)
    policy = {"net_arch": [4]}
    model = SAC(
        "MlpPolicy", VecNormalize(env), learning_starts=10, buffer_size=1000, policy_kwargs=policy, device="cpu", seed=0
    )
    return model.learn(40).learn(20)


def test_what_sac_collected_fits_its_environment(sac: SAC):
    demonstrations = Demonstrations.load(sac.replay_buffer)
    assert demonstrations.episode_lengths.tolist() == [12, 8, 10] * 2
    assert not demonstrations.terminated.any()
    env: Any = gym.make("Pendulum-v1").unwrapped
    demonstrations.check_spaces(env.observation_space, env.action_space)
    # The equations of the environment lead from each observation to the next one, so all three are in its units
    for row in range(len(demonstrations)):
        cos, sin, speed = box(demonstrations.observations)[row]
        env.reset()
        env.state = np.array([np.arctan2(sin, cos), speed])
        reached, reward, *_ = env.step(demonstrations.actions[row])
        np.testing.assert_allclose(box(demonstrations.next_observations)[row], reached, atol=1e-5)
        np.testing.assert_allclose(demonstrations.rewards[row], reward, rtol=1e-4)
    for number in range(demonstrations.n_episodes):
        assert len(demonstrations.episode(number)) == demonstrations.episode_lengths[number]


def test_what_dqn_collected_has_whole_numbers_for_actions():
    model = DQN("MlpPolicy", "CartPole-v1", learning_starts=1000, policy_kwargs={"net_arch": [4]}, device="cpu", seed=0)
    demonstrations = Demonstrations.load(model.learn(52).replay_buffer)
    assert demonstrations.actions.shape == (52,)
    assert set(demonstrations.actions.tolist()) == {0, 1}
    assert demonstrations.terminated.any()


def test_goals_are_read_as_dict_observations():
    buffer: Any = learn_with_her().replay_buffer
    demonstrations = Demonstrations.load(buffer)
    assert list(demonstrations.observations) == ["achieved_goal", "desired_goal", "observation"]
    np.testing.assert_array_equal(demonstrations.observations["achieved_goal"], buffer.observations["achieved_goal"][:23, 0])
    assert len(demonstrations) == 23
    assert demonstrations.episode_lengths.max() <= 5


def test_dict_observations_are_interrupted_by_any_key():
    space = spaces.Dict({"a": OBSERVATIONS, "b": spaces.Discrete(9)})
    buffer = DictReplayBuffer(10, space, ACTIONS, device="cpu")
    for before, after in (((0.0, 0), (1.0, 1)), ((1.0, 1), (2.0, 2)), ((2.0, 5), (3.0, 6))):
        first, second = ({"a": np.array([[a]]), "b": np.array([b])} for a, b in (before, after))
        buffer.add(first, second, np.zeros((1, 2)), np.zeros(1), np.zeros(1), [{}])
    demonstrations = Demonstrations.load(buffer)
    assert demonstrations.episode_lengths.tolist() == [2, 1]
    assert demonstrations.observations["b"].tolist() == [0, 1, 5]


def test_an_empty_buffer_is_refused():
    with pytest.raises(DemonstrationsError, match="ReplayBuffer in memory: found an empty replay buffer"):
        Demonstrations.load(filled([]))


def test_a_buffer_without_next_observations_is_refused():
    buffer = filled(["", ""], optimize_memory_usage=True, handle_timeout_termination=False)
    with pytest.raises(DemonstrationsError, match="found a buffer with optimize_memory_usage=True, expected one without"):
        Demonstrations.load(buffer)


class KnowsItself:
    def to_demonstrations(self) -> Demonstrations:
        return make()


def test_an_object_that_makes_demonstrations_is_asked_for_them():
    assert Demonstrations.load(KnowsItself()).rewards.tolist() == [1, 2, 3, 4, 5]
    assert Demonstrations.load(KnowsItself(), n_episodes=1).rewards.tolist() == [1, 2]
    with pytest.raises(DemonstrationsError, match="found scaled_actions=False, expected none: a KnowsItself knows its units"):
        Demonstrations.load(KnowsItself(), scaled_actions=False)
