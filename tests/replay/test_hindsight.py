"""Replaced goals: which rows, which goals, rewards and terminations by hand, and what is refused."""

import itertools
import pickle
import warnings
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from goal_line import (
    ACTION_SPACE,
    GOAL_SPACE,
    TOLERANCE,
    GoalLine,
    GoalLineOneByOne,
    GoalLineThatEnds,
    GoalLineThatGoesOn,
    GoalLineUnsaid,
    goal_vec_env,
)
from gymnasium import spaces
from naive_buffer import PickedRows, five_demos, n_step, play, state_buffer
from naive_goals import (
    GoalStep,
    Read,
    add_goal_steps,
    as_read,
    goal_buffer,
    goal_demonstrations,
    under_goal,
)
from stable_baselines3.common.vec_env import SubprocVecEnv, VecFrameStack, VecNormalize

from sb3_pgfd import OptionWarning
from sb3_pgfd.replay import DemoReplayBuffer
from sb3_pgfd.replay.hindsight import GoalRewards, with_goals
from sb3_pgfd.replay.n_step import Rows
from sb3_pgfd.replay.samples import Drawn, NewGoals, read_drawn

# An agent that walks from 0 to 4 and wants to come to 9, which it never does; and one that comes to 3 and ends there
FAR = [GoalStep(t, t + 1, 9.0, 0.0, -1.0, "-") for t in range(4)]
ARRIVES = [GoalStep(t, t + 1, 3.0, 0.0, 0.0 if t == 2 else -1.0, "t" if t == 2 else "-") for t in range(3)]


def filled(steps: list[GoalStep], kind: Any = GoalLine, size: int = 10, **options: Any) -> PickedRows:
    buffer = goal_buffer(size, **{"her_ratio": 1.0, "env": goal_vec_env(kind), "gamma": 0.5, **options})
    for step in steps:
        add_goal_steps(buffer, [step])
    return buffer


def under(buffer: PickedRows, rows: list[int], goals: list[float]) -> Drawn:
    """These rows of the ring under these goals."""
    both = buffer._stores
    drawn = read_drawn(Rows(np.array(rows), 0), buffer.n_steps, both)
    new_goals = NewGoals(np.arange(len(rows)), np.array(goals)[:, None], np.zeros(len(rows), dtype=bool))
    rewards = buffer._goal_rewards
    assert rewards is not None
    return with_goals(drawn, new_goals, both, rewards)


# --- Rewards and terminations ----------------------------------------------------------------------------------------


def test_every_reward_of_the_window_is_computed_again():
    buffer = filled(FAR, n_steps=3)
    # From 0 to 1, 2, 3 with the goal 2: -1, 0, -1. From 3 to 4, where the head is
    drawn = under(buffer, [0, 3], [2.0, 4.0])
    assert drawn.rewards[drawn.window.included].tolist() == [-1.0, 0.0, -1.0, 0.0]
    assert drawn.window.lengths.tolist() == [3, 1]
    assert not drawn.terminated.any()
    # -1 + 0/2 - 1/4
    batch = buffer.read([0] * 200)
    assert {read.n_step_return for read in as_read(batch) if read.desired == 2.0} == {-1.25}


def test_a_window_ends_at_the_goal_if_that_terminates():
    buffer = filled(FAR, GoalLineThatEnds, n_steps=3)
    drawn = under(buffer, [0, 0, 0, 1], [1.0, 2.0, 4.0, 2.0])
    assert drawn.window.lengths.tolist() == [1, 2, 3, 1]
    assert drawn.window.ends.numbers[:, 1].tolist() == [0, 1, 2, 1]
    # After one step, and after k steps
    assert drawn.terminated.T.tolist() == [[True, False, False, True], [True, True, False, True]]
    assert {read.discount for read in as_read(buffer.read([0] * 200)) if read.desired == 2.0} == {0.25}


def test_an_end_at_the_old_goal_does_not_terminate_under_another():
    buffer = filled([*ARRIVES, *ARRIVES], GoalLineThatEnds, n_steps=3)
    drawn = under(buffer, [1, 1, 2, 2], [0.0, 3.0, 0.0, 3.0])
    # The window still ends there, as nothing is known of what follows
    assert drawn.window.lengths.tolist() == [2, 2, 1, 1]
    assert drawn.terminated.T.tolist() == [[False, False, False, True], [False, True, False, True]]


def test_a_failure_terminates_under_every_goal():
    failure = [FAR[0], FAR[1]._replace(event="t")]
    drawn = under(filled(failure, GoalLineThatEnds, n_steps=3), [0, 1], [7.0, 7.0])
    assert drawn.window.lengths.tolist() == [2, 1]
    assert drawn.terminated.T.tolist() == [[False, True], [True, True]]


@pytest.mark.parametrize("kind", [GoalLine, GoalLineThatGoesOn, GoalLineUnsaid])
def test_terminations_stay_as_they_are_if_reaching_a_goal_does_not_terminate(kind):
    drawn = under(filled(ARRIVES, kind, n_steps=3), [0, 1, 2], [1.0, 0.0, 0.0])
    assert drawn.window.lengths.tolist() == [3, 2, 1]
    assert drawn.terminated.T.tolist() == [[False, False, True], [True, True, True]]


def test_a_goal_counts_as_reached_whatever_the_scale_of_rewards_and_their_precision():
    # 0.7 is not a number of float32, in which rewards are stored
    class Paid(GoalLineThatEnds):
        def compute_reward(self, achieved_goal: np.ndarray, desired_goal: np.ndarray, info: Any) -> np.ndarray:
            return 0.7 + super().compute_reward(achieved_goal, desired_goal, info)

    steps = [step._replace(reward=0.7 + step.reward) for step in ARRIVES]
    drawn = under(filled(steps, Paid, n_steps=3), [0, 0, 2], [2.0, 9.0, 9.0])
    assert drawn.terminated.T.tolist() == [[False, False, False], [True, False, False]]


def test_each_goal_comes_with_an_empty_info_of_its_own():
    seen: list[list[dict[str, Any]]] = []

    class Writes(GoalLine):
        def compute_reward(self, achieved_goal: np.ndarray, desired_goal: np.ndarray, info: Any) -> np.ndarray:
            seen.append([dict(one) for one in info])
            for k, one in enumerate(info):
                one["number"] = k
            assert [one["number"] for one in info] == list(range(len(achieved_goal)))
            return super().compute_reward(achieved_goal, desired_goal, info)

    rewards = GoalRewards(goal_vec_env(Writes))
    for n in (3, 5, 2):
        rewards.rewards(np.zeros((n, 1)), np.zeros((n, 1)))
    assert seen == [[{}] * 3, [{}] * 5, [{}] * 2]


# --- Which rows and which goals --------------------------------------------------------------------------------------


def assert_uniform(values: list[float], expected: list[float]) -> None:
    """Each as often as the others, within five standard deviations."""
    found, counts = np.unique(values, return_counts=True)
    assert found.tolist() == expected
    mean = len(values) / len(expected)
    assert np.abs(counts - mean).max() < 5 * np.sqrt(mean)


@pytest.mark.parametrize("n_steps", [1, 4])
def test_goals_are_uniform_from_the_transition_itself_to_the_end_of_the_episode(n_steps):
    np.random.seed(0)
    first = [GoalStep(t, t + 1, 90.0, 0.0, -1.0, "u" if t == 6 else "-") for t in range(7)]
    second = [GoalStep(t, t + 1, 90.0, 0.0, -1.0, "-") for t in range(20, 25)]
    buffer = filled([*first, *second], n_steps=n_steps, size=20)
    assert_uniform([read.desired for read in as_read(buffer.read([2] * 20_000))], [3.0, 4.0, 5.0, 6.0, 7.0])
    assert_uniform([read.desired for read in as_read(buffer.read([6] * 100))], [7.0])
    # The running episode, up to the write head
    assert_uniform([read.desired for read in as_read(buffer.read([8] * 20_000))], [22.0, 23.0, 24.0, 25.0])


def test_the_share_is_spread_over_demonstrations_and_own_transitions_alike():
    np.random.seed(1)
    demonstrations = goal_demonstrations([[*FAR[:3], FAR[3]._replace(event="u")]])
    buffer = filled(FAR, demonstrations=demonstrations, demo_fraction=0.25, her_ratio=0.4)
    replaced = [np.array([read.desired != 9.0 for read in as_read(buffer.sample_batch(20))]) for _ in range(4000)]
    # Exactly so many, each place as often as the others: 0.4 of 4000, the standard deviation is 31
    assert {int(line.sum()) for line in replaced} == {8}
    assert np.abs(np.sum(replaced, axis=0) - 1600).max() < 5 * 31
    is_demo = buffer.sample_batch(20).is_demo.flatten().tolist()
    assert is_demo == [True] * 5 + [False] * 15


def test_pretraining_relabels_demonstrations():
    demonstrations = goal_demonstrations([[*FAR[:3], FAR[3]._replace(event="u")]])
    buffer = filled([], demonstrations=demonstrations, her_ratio=0.5)
    batch = buffer.sample_batch(10, demos_only=True)
    assert sum(read.desired != 9.0 for read in as_read(batch)) == 5
    assert batch.is_demo.all()


def test_goals_that_others_achieved_are_neither_near_nor_cloned():
    np.random.seed(3)
    # The demonstration walks from 10 to 14 and the agent from 0 to 4: neither achieves what the other does
    shown = [step._replace(achieved=step.achieved + 10, next_achieved=step.next_achieved + 10) for step in FAR]
    demonstrations = goal_demonstrations([[*shown[:3], shown[3]._replace(event="u")]])
    goals: dict[float, set[float]] = {0.0: set(), 0.5: set(), 1.0: set()}
    for share, of_agent in goals.items():
        buffer = filled(FAR, demonstrations=demonstrations, demo_fraction=0.5, her_ratio=1.0, her_random_share=share)
        n_cloned = 0
        for _ in range(100):
            batch = buffer.sample_batch(20)
            for read, is_demo in zip(as_read(batch), batch.is_demo.flatten().tolist(), strict=True):
                n_cloned += is_demo
                of_agent |= {read.desired} if read.achieved < 5.0 else set()
                assert read.reward == (0.0 if abs(read.next_achieved - read.desired) <= TOLERANCE else -1.0)
                # A demonstration is cloned towards what it achieved itself, later
                assert not is_demo or read.desired > read.achieved >= 10.0
        # Of 1000 rows of demonstrations; the standard deviation is at most 16
        assert n_cloned == pytest.approx(1000 * (1.0 - share), abs=80)
    own, shown_too = {1.0, 2.0, 3.0, 4.0}, {11.0, 12.0, 13.0, 14.0}
    assert goals == {0.0: own, 0.5: own | shown_too, 1.0: own | shown_too}


@pytest.mark.parametrize(("her_ratio", "batch_size", "expected"), [(0.01, 8, 0), (0.8, 256, 205), (1.0, 7, 7), (0.5, 1, 0)])
def test_the_share_is_rounded(her_ratio, batch_size, expected):
    buffer = filled(FAR, her_ratio=her_ratio)
    assert sum(read.desired != 9.0 for read in as_read(buffer.sample_batch(batch_size))) == expected


def test_priorities_weights_and_indices_are_those_of_the_rows():
    batches = []
    for her_ratio in (0.0, 0.8):
        buffer = filled(FAR, her_ratio=her_ratio, priority_exponent=1.0)
        buffer.set_priorities(np.arange(4), np.array([1.0, 2.0, 3.0, 4.0]))
        np.random.seed(2)
        batches.append(buffer.sample_batch(50, beta=0.7))
    plain, relabelled = batches
    assert relabelled.indices.tolist() == plain.indices.tolist()
    assert th.equal(relabelled.weights, plain.weights)
    assert th.equal(relabelled.actions, plain.actions)


def test_without_it_the_random_numbers_are_those_of_a_buffer_that_knows_nothing_of_goals():
    numbers = []
    for env in (None, goal_vec_env()):
        buffer = filled(FAR, her_ratio=0.0, env=env)
        np.random.seed(3)
        buffer.sample_batch(5)
        buffer.sample(5)
        numbers.append(np.random.random())
    # Each draw of a batch takes as many numbers as there are rows
    np.random.seed(3)
    np.random.random(10)
    assert numbers == [np.random.random()] * 2


# --- What SB3's algorithms read --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [GoalLine, GoalLineThatEnds])
def test_sample_returns_the_n_step_half_of_the_same_batch(kind):
    buffer = filled([*FAR, *ARRIVES], kind, n_steps=3, her_ratio=0.8)
    found = []
    for read in (buffer.sample, lambda size: n_step(buffer.sample_batch(size))):
        np.random.seed(4)
        found.append(read(40))
    for name in ("actions", "dones", "rewards", "discounts"):
        assert th.equal(getattr(found[0], name), getattr(found[1], name)), name
    for name in ("observations", "next_observations"):
        first, second = (getattr(samples, name) for samples in found)
        assert all(th.equal(first[key], second[key]) for key in GOAL_SPACE.spaces), name
    assert found[0].rewards.unique().numel() > 1


def test_new_goals_and_their_rewards_are_normalised_like_the_stored_ones():
    env = VecNormalize(goal_vec_env(), clip_obs=100.0, clip_reward=100.0)
    env.obs_rms["desired_goal"].mean, env.obs_rms["desired_goal"].var = np.array([5.0]), np.array([4.0])
    env.ret_rms.var = np.array(25.0)
    buffer = filled(FAR, env=env, n_steps=3)
    for found, raw in zip(as_read(buffer.read([0] * 50, env=env)), [0] * 50, strict=True):
        goal = found.desired * np.sqrt(4.0 + env.epsilon) + 5.0
        assert goal == pytest.approx(round(goal), abs=1e-5)
        expected: Read = under_goal(FAR[raw:], round(goal), 3, 0.5, False, norm=np.sqrt(25.0 + env.epsilon))
        assert found.n_step_return == pytest.approx(expected.n_step_return)
        assert found.reward == pytest.approx(expected.reward)
        assert found.next_desired == found.n_step_desired == found.desired


def test_what_is_stored_and_given_back_keeps_its_goals():
    buffer = filled([*FAR, *ARRIVES], GoalLineThatEnds)
    before = pickle.dumps(buffer.ring)
    for _ in range(20):
        buffer.sample_batch(20)
        buffer.sample(20)
    assert pickle.dumps(buffer.ring) == before
    observations = buffer.to_demonstrations().observations
    assert isinstance(observations, Mapping)
    assert observations["desired_goal"].flatten().tolist() == [9.0] * 4 + [3.0] * 3


def test_environments_in_other_processes_are_asked():
    env = SubprocVecEnv([GoalLineThatEnds, GoalLineThatEnds], start_method="fork")
    try:
        rewards = GoalRewards(env)
        assert rewards.rewards(np.array([[1.0], [2.0]]), np.array([[1.1], [1.1]])).tolist() == [0.0, -1.0]
        assert rewards.terminal_reward(np.array([1.0])) == 0.0
        assert goal_buffer(4, her_ratio=0.5, env=env).her_ratio == 0.5
    finally:
        env.close()


def test_one_in_another_process_that_leaves_the_question_open_is_told_to_answer():
    # The error ends its process, where an environment of this one only raises it
    env = SubprocVecEnv([GoalLineUnsaid], start_method="fork")
    try:
        with pytest.raises(ValueError, match=r"compute_terminated: found that it ended.*return False if episodes go on"):
            GoalRewards(env).terminal_reward(np.array([1.0]))
    finally:
        # There is nobody left to be told to close
        env.processes[0].join()
        env.remotes[0].close()


# --- Saving ----------------------------------------------------------------------------------------------------------


def test_a_pickled_buffer_needs_its_environment_back():
    buffer = filled(FAR, GoalLineThatEnds, n_steps=2)
    copy = pickle.loads(pickle.dumps(buffer))
    assert copy.her_ratio == 1.0
    for read in (copy.sample, copy.sample_batch):
        with pytest.raises(ValueError, match=r"found no environment, expected one for her_ratio=1.0: .* set_env\(env\)"):
            read(4)
    copy.set_env(goal_vec_env(GoalLineThatEnds))
    batches = []
    for target in (buffer, copy):
        np.random.seed(5)
        batches.append(as_read(target.sample_batch(30)))
    assert batches[0] == batches[1]


def test_another_environment_is_asked_anew():
    buffer = filled(ARRIVES, GoalLineThatEnds)
    assert not under(buffer, [2], [0.0]).terminated.any()
    buffer.set_env(goal_vec_env(GoalLineThatGoesOn))
    assert under(buffer, [2], [0.0]).terminated.all()


# --- Refusals --------------------------------------------------------------------------------------------------------


def dict_space(**subspaces: spaces.Space) -> spaces.Dict:
    return spaces.Dict(subspaces)


NUMBER = spaces.Box(-1, 1, (1,))


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (NUMBER, r"found the observation space Box.*, expected a Dict with observation, achieved_goal, desired_goal"),
        (dict_space(observation=NUMBER, goal=NUMBER), r"found .* a Dict with \['goal', 'observation'\], expected a Dict with"),
        (
            dict_space(observation=NUMBER, achieved_goal=NUMBER, desired_goal=spaces.Box(-1, 1, (2,))),
            r"found achieved goals of shape \(1,\), expected \(2,\) like desired goals",
        ),
    ],
)
def test_a_space_without_goals_is_refused(space, message):
    with pytest.raises(ValueError, match=message):
        DemoReplayBuffer(10, space, ACTION_SPACE, her_ratio=0.5, env=goal_vec_env())


@pytest.mark.parametrize(
    ("env", "message"),
    [
        (None, "found env=None, expected the VecEnv that is learned from"),
        ("CartPole-v1", "found env=CartPole-v1, expected the VecEnv"),
    ],
)
def test_an_environment_that_is_no_vec_env_is_refused(env, message):
    with pytest.raises(ValueError, match=message):
        goal_buffer(10, her_ratio=0.5, env=env)
    buffer = filled(FAR)
    with pytest.raises(ValueError, match=message):
        buffer.set_env(env)
    assert len(as_read(buffer.sample_batch(3))) == 3


class NoReward(gym.Wrapper):
    """Hides what it wraps."""

    def get_wrapper_attr(self, name: str) -> Any:
        if name == "compute_reward":
            raise AttributeError(name)
        return super().get_wrapper_attr(name)


def test_an_environment_without_compute_reward_is_refused():
    env = goal_vec_env()
    env.envs = [NoReward(env.envs[0])]
    with pytest.raises(ValueError, match="found an environment without compute_reward"):
        goal_buffer(10, her_ratio=0.5, env=env)


def test_rewards_one_at_a_time_are_refused():
    buffer = filled(FAR, GoalLineOneByOne)
    with pytest.raises(ValueError, match=r"compute_reward: found shape \(\) for 3 goals, expected \(3,\)"):
        buffer.sample(3)


def test_an_empty_buffer_is_refused_as_ever():
    with pytest.raises(ValueError, match="found an empty buffer"):
        goal_buffer(10, her_ratio=0.5, env=goal_vec_env()).sample(4)


def test_other_buffers_need_no_environment():
    buffer = state_buffer(10, demonstrations=five_demos())
    play(buffer, "---")
    assert buffer.her_ratio == 0.0
    buffer.sample(4)


# --- Goals that are reached already -----------------------------------------------------------------------------------


def test_a_goal_that_is_reached_already_is_left_out():
    # It waits twice at 0, goes to 1 and stays there
    places = [0.0, 0.0, 0.1, 1.0, 1.1]
    steps = [GoalStep(here, there, 9.0, 0.0, -1.0, "-") for here, there in itertools.pairwise(places)]
    found = {}
    for skip in (False, True):
        batch = filled(steps, her_skip_reached=skip).read([0, 1, 2, 3] * 100)
        found[skip] = {(read.achieved, read.desired) for read in as_read(batch)}
    later = {(places[t], goal) for t in range(4) for goal in places[t + 1 :]}
    assert found[False] == later
    # Within the tolerance of 0.25; those that have none keep their own goal
    far = {(here, goal) for here, goal in later if abs(here - goal) > TOLERANCE}
    assert far == {(0.0, 1.0), (0.0, 1.1), (0.1, 1.0), (0.1, 1.1)}
    assert found[True] == far | {(0.0, 9.0), (1.0, 9.0)}


def test_nothing_is_replaced_where_all_goals_are_reached():
    steps = [GoalStep(0.0, 0.0, 9.0, 0.0, -1.0, "-") for _ in range(3)]
    batch = filled(steps, her_skip_reached=True).read([0, 1, 2])
    assert {(read.desired, read.reward) for read in as_read(batch)} == {(9.0, -1.0)}


# --- Where goals and rewards are others than the environment's ------------------------------------------------------------


def test_stacked_goals_are_refused():
    with pytest.raises(ValueError, match="found VecFrameStack, which stacks goals too, expected none"):
        goal_buffer(10, her_ratio=0.5, env=VecFrameStack(goal_vec_env(GoalLine), 2))


def test_rewards_that_compute_reward_does_not_give_are_named_once():
    # Walks to 1 and 2, whose rewards are -1, but a wrapper has made them 0 and 1
    other = [GoalStep(0, 1, 9.0, 0.0, 0.0, "-"), GoalStep(1, 2, 9.0, 0.0, 1.0, "-"), GoalStep(2, 3, 9.0, 0.0, -1.0, "-")]
    buffer = filled(other)
    with pytest.warns(OptionWarning, match=r"reward of [01] where compute_reward gives -1, 2 such in 3 own transitions"):
        buffer.read([0, 1, 2])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        buffer.read([0, 1, 2])
        filled(FAR).read([0, 1, 2])


def test_own_rewards_are_compared_also_behind_pretraining():
    right = [GoalStep(0, 1, 9.0, 0.0, -1.0, "-"), GoalStep(1, 2, 9.0, 0.0, -1.0, "t")]
    buffer = filled([], demonstrations=goal_demonstrations([right]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        buffer.read([0, 1])
    add_goal_steps(buffer, [GoalStep(0, 1, 9.0, 0.0, 1.0, "-")])
    with pytest.warns(OptionWarning, match=r"1 such in 1 own transitions"):
        buffer.read([0, 2])
