"""The agent's own successful episodes, kept like demonstrations."""

import pickle
from typing import Any

import numpy as np
import pytest
from goal_line import GoalLine, goal_vec_env
from gymnasium import spaces
from naive_buffer import Step, add_steps, as_expected, five_demos, play, state_buffer
from naive_goals import Walker, as_read, fractions, goal_buffer, observation, rest_of_episode, under_goal
from naive_successes import info_of

from sb3_pgfd.replay import DemoReplayBuffer
from sb3_pgfd.replay.n_step import RowLayout
from sb3_pgfd.replay.successes import last_episode


def play_episode(buffer: DemoReplayBuffer, length: int, success: Any, first: int = 0, key: str = "is_success") -> list[Step]:
    """
    :param buffer: Of one environment
    :param length: Steps of the episode
    :param success: What its last info says
    :param first: Number of its first transition
    :return: Its transitions
    """
    steps = [Step.numbered(first + t, "t" if t == length - 1 else "-") for t in range(length)]
    for step in steps:
        add_steps(buffer, [step], [info_of(step.event, success if step.event == "t" else None, key)])
    return steps


def n_waiting(buffer: DemoReplayBuffer) -> int:
    return sum(waiting.n_rows for waiting in buffer._successes._waiting)


@pytest.mark.parametrize("key", ["is_success", "success"])
@pytest.mark.parametrize(
    ("success", "kept"), [(True, 4), (1.0, 4), (np.True_, 4), (False, 0), (0.0, 0), (np.False_, 0), (None, 0)]
)
def test_an_episode_is_kept_if_its_last_info_says_so(key, success, kept):
    buffer = state_buffer(20, keep_successes=True)
    play_episode(buffer, 4, success, key=key)
    assert (buffer.n_demonstrations, buffer.size(), buffer.n_filled) == (kept, 4, kept + 4)
    assert buffer.kept_successes.tolist() == [True] * kept


def test_a_success_on_the_way_counts_for_nothing():
    buffer = state_buffer(20, keep_successes=True)
    steps = [Step.numbered(t, event) for t, event in enumerate("--t")]
    for step, success in zip(steps, (True, True, False), strict=True):
        add_steps(buffer, [step], [info_of(step.event, success)])
    assert buffer.n_demonstrations == 0


def test_nothing_is_kept_unless_asked():
    buffer = state_buffer(20)
    play_episode(buffer, 4, True)
    assert (buffer.n_demonstrations, n_waiting(buffer)) == (0, 0)


def test_the_copy_stays_when_the_ring_is_overwritten_bit_for_bit():
    buffer = state_buffer(5, n_steps=3, keep_successes=True, demonstrations=five_demos())
    play_episode(buffer, 4, True)
    kept = as_expected(buffer.read(range(5, 9)))
    assert kept == as_expected(buffer.read(range(9, 13))), "the ring holds them too"
    for first in (100, 200, 300):
        play_episode(buffer, 4, False, first)
    assert as_expected(buffer.read(range(5, 9))) == kept
    assert buffer.kept_successes.tolist() == [False] * 5 + [True] * 4


def test_an_episode_longer_than_the_ring_is_kept_without_its_beginning():
    buffer = state_buffer(5, keep_successes=True)
    steps = play_episode(buffer, 8, True)
    assert [row.obs for row in as_expected(buffer.read(range(5)))] == [step.obs for step in steps[3:]]
    assert buffer.n_demonstrations == 5


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        # Of an object that lies at its goal from the beginning, and of one that was pushed away and back
        ([True, True, True], False),
        ([True, False, True], False),
        ([False, True, True], True),
        ([None, None, True], True),
        # A single step may well be an achievement
        ([True], True),
    ],
)
def test_what_was_a_success_before_anything_was_done_is_not_kept(told: list[bool | None], kept: bool):
    buffer = state_buffer(20, keep_successes=True)
    for first in (0, 100):
        for t, success in enumerate(told):
            event = "t" if t == len(told) - 1 else "-"
            add_steps(buffer, [Step.numbered(first + t, event)], [info_of(event, success)])
    assert buffer.n_demonstrations == (2 * len(told) if kept else 0)


def test_what_was_before_an_interruption_is_not_kept():
    buffer = state_buffer(20, keep_successes=True)
    # Another learn() begins with a reset: the third transition does not go on where the second stopped
    for step in (Step.numbered(0, "-"), Step.numbered(1, "i"), Step.numbered(10, "-"), Step.numbered(11, "u")):
        add_steps(buffer, [step], [info_of(step.event, step.event == "u")])
    assert [row.obs for row in as_expected(buffer.read(range(buffer.n_demonstrations)))] == [10.0, 11.0]
    # A time limit is no end of the task
    assert not as_expected(buffer.read([1]))[0].terminated


def test_environments_keep_their_own_episodes():
    buffer = state_buffer(30, n_envs=3, keep_successes=True)
    lines = ("-t--t", "--u--", "----t")
    successes = {(0, 1): True, (0, 4): False, (1, 2): True, (2, 4): True}
    for t in range(5):
        steps = [Step.numbered(t, line[t], 100 * e) for e, line in enumerate(lines)]
        add_steps(buffer, steps, [info_of(step.event, successes.get((e, t))) for e, step in enumerate(steps)])
    states = [row.obs for row in as_expected(buffer.read(range(buffer.n_demonstrations)))]
    assert states == [0.0, 1.0, 100.0, 101.0, 102.0, 200.0, 201.0, 202.0, 203.0, 204.0]


def test_episodes_wait_until_they_are_a_hundredth_of_what_is_stored():
    buffer = state_buffer(1000, keep_successes=True)
    play_episode(buffer, 700, False)
    waiting = []
    for k in range(4):
        play_episode(buffer, 2, True, 1000 + 10 * k)
        waiting.append((buffer.n_demonstrations, n_waiting(buffer)))
    # 8 of 708 are enough, 6 of 706 are not
    assert waiting == [(0, 2), (0, 4), (0, 6), (8, 0)]
    assert [row.obs for row in as_expected(buffer.read(range(8)))] == [1000, 1001, 1010, 1011, 1020, 1021, 1030, 1031]


def test_what_waits_is_not_lost_when_the_ring_is_emptied_or_the_buffer_is_pickled():
    buffer = state_buffer(1000, keep_successes=True)
    play_episode(buffer, 700, False)
    play_episode(buffer, 3, True, 1000)
    # Overwritten, while it waits
    play_episode(buffer, 1000, False, 2000)
    buffer = pickle.loads(pickle.dumps(buffer))
    buffer.reset()
    play_episode(buffer, 1, True, 5000)
    assert [row.obs for row in as_expected(buffer.read(range(buffer.n_demonstrations)))] == [1000, 1001, 1002, 5000]
    assert n_waiting(buffer) == 0


def test_kept_episodes_get_the_largest_priority_and_the_others_keep_theirs():
    buffer = state_buffer(10, keep_successes=True, demonstrations=five_demos(), priority_exponent=1.0)
    play_episode(buffer, 3, False)
    buffer.update_priorities(np.arange(8), np.arange(1.0, 9.0))
    play_episode(buffer, 2, True, 10)
    expected = [1, 2, 3, 4, 5, *[8, 8], 6, 7, 8, *[8, 8], *[0] * 5]
    np.testing.assert_allclose(buffer.priorities, expected)
    batch = buffer.sample_batch(100)
    assert set(batch.indices[batch.is_demo.flatten().numpy()]) == set(range(7))


def test_share_and_pretraining_draws_take_them_in():
    np.random.seed(0)
    buffer = state_buffer(10, keep_successes=True, demo_fraction=0.5)
    play_episode(buffer, 4, False)
    assert not buffer.sample_batch(20).is_demo.any()
    play_episode(buffer, 3, True, 10)
    batch = buffer.sample_batch(20)
    assert batch.is_demo.sum() == 10
    assert set(buffer.sample_batch(50, demos_only=True).indices) == {0, 1, 2}


def test_every_key_of_an_observation_is_kept():
    space = spaces.Dict({"a": spaces.Box(-9.0, 9.0, (2,)), "b": spaces.Box(0, 255, (3, 4, 4), np.uint8)})
    buffer = DemoReplayBuffer(20, space, spaces.Box(-2.0, 2.0, (2,)), device="cpu", n_envs=2, keep_successes=True)
    rng = np.random.default_rng(0)
    observations: list[Any] = [
        {"a": rng.uniform(-9, 9, (2, 2)).astype(np.float32), "b": rng.integers(0, 255, (2, 3, 4, 4)).astype(np.uint8)}
        for _ in range(5)
    ]
    actions = rng.uniform(-1, 1, (4, 2, 2)).astype(np.float32)
    for t in range(4):
        done = np.array([t == 3, False])
        infos = [{"is_success": t == 3}, {"is_success": True}]
        buffer.add(observations[t], observations[t + 1], actions[t], np.full(2, 0.1 * t), done, infos)
    assert buffer.n_demonstrations == 4
    for key in ("a", "b"):
        np.testing.assert_array_equal(buffer.storage.observations[key][:4], np.stack([o[key][0] for o in observations[:4]]))
        np.testing.assert_array_equal(
            buffer.storage.next_observations[key][:4], np.stack([o[key][0] for o in observations[1:]])
        )
        assert buffer.storage.observations[key].dtype == space[key].dtype
    np.testing.assert_array_equal(buffer.storage.actions[:4], actions[:, 0])
    np.testing.assert_array_equal(buffer.storage.rewards[:4], np.arange(4, dtype=np.float32) * np.float32(0.1))


def test_discrete_states_and_actions_are_kept():
    buffer = DemoReplayBuffer(20, spaces.Discrete(9), spaces.Discrete(3), device="cpu", keep_successes=True)
    for state in (2, 3):
        obs, next_obs = np.array([state]), np.array([state + 1])
        buffer.add(obs, next_obs, np.array([[state - 1]]), np.ones(1), np.array([state == 3]), [{"success": state == 3}])
    assert buffer.storage.observations[""][:2].tolist() == [[2], [3]]
    assert buffer.storage.actions[:2].tolist() == [[1], [2]]


def test_it_goes_with_replaced_goals():
    np.random.seed(1)
    rng = np.random.default_rng(2)
    buffer = goal_buffer(40, n_envs=2, n_steps=3, gamma=0.5, her_ratio=1.0, keep_successes=True, env=goal_vec_env(GoalLine, 2))
    numbers = fractions()
    walkers = [Walker(numbers, ends_at_goal=False) for _ in range(2)]
    histories: list[list[Any]] = [[], []]
    kept: list[list[Any]] = []
    for _ in range(60):
        places, goals, events = rng.integers(-1, 2, 2).tolist(), rng.integers(-1, 2, 2).tolist(), rng.choice(list("-----u"), 2)
        steps = [walker.step(*choices) for walker, *choices in zip(walkers, places, goals, events, strict=True)]
        desired = [step.desired for step in steps]
        buffer.add(
            observation([step.achieved for step in steps], desired),
            observation([step.next_achieved for step in steps], desired),
            np.array([[step.action] for step in steps], dtype=np.float32),
            np.array([step.reward for step in steps]),
            np.array([step.event == "u" for step in steps]),
            [info_of(step.event, step.reward == 0.0) for step in steps],
        )
        for history, step in zip(histories, steps, strict=True):
            history.append(step)
            if step.event == "u" and step.reward == 0.0:
                before = [t for t, one in enumerate(history[:-1]) if one.event == "u"]
                kept.append(history[max(before[-1] + 1 if before else 0, len(history) - 20) :])
        rests = [rest_of_episode(steps, k) for steps in kept for k in range(len(steps))]
        n_kept = len(rests)
        assert buffer.n_demonstrations == n_kept
        read = as_read(buffer.read(range(buffer.n_filled)))[:n_kept]
        for found, rest in zip(read, rests, strict=True):
            assert found.desired in [step.next_achieved for step in rest]
            expected = under_goal(rest, found.desired, n_steps=3, gamma=0.5, ends_at_goal=False)
            np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert n_kept > 10


def test_what_is_off_draws_the_same_numbers():
    draws = []
    for keep in (False, True):
        buffer = state_buffer(30, demonstrations=five_demos(), keep_successes=keep)
        play(buffer, "--t--u---")
        np.random.seed(3)
        draws.append(buffer.sample_batch(20).indices.tolist())
    # No info says that there was a success
    assert draws[0] == draws[1]


@pytest.mark.parametrize("n_steps", [1, 255, 256, 257, 2047, 2048, 2049, 9999])
def test_the_beginning_of_an_episode_is_found_however_long_it_is(n_steps):
    layout = RowLayout(n_demonstrations=7, n_envs=2, ring_size=20_000, head=2 * 1234)
    # The episode of the second environment began so many steps ago, which may be before the ring's first row
    row_of = lambda back: 7 + (2 * (1234 - back)) % 20_000 + 1  # noqa: E731  # shorter than a function
    ended = np.zeros(20_007, dtype=bool)
    ended[[row_of(0), row_of(n_steps), row_of(9_999)]] = True
    found = last_episode(ended, layout, 10_000, env=1)
    assert found.tolist() == [row_of(back) for back in range(min(n_steps, 9_999) - 1, -1, -1)]
    # In a ring that is not full there is nothing before its first step
    assert len(last_episode(np.zeros(20_007, dtype=bool), layout, 1235, env=1)) == 1235


def test_a_buffer_pickled_before_there_were_such_options_goes_on():
    buffer = state_buffer(20, demonstrations=five_demos())
    play(buffer, "--t-")
    state = buffer.__getstate__()
    for name in ("her_ratio", "keep_successes", "_successes", "_goal_rewards", "_episode_ends"):
        del state[name]
    loaded = DemoReplayBuffer.__new__(type(buffer))
    loaded.__setstate__(state)
    add_steps(loaded, [Step.numbered(4, "t")])
    assert loaded.sample_batch(20).is_demo.any()
    assert not loaded.kept_successes.any()
    assert not loaded.keep_successes


def test_other_values_are_refused():
    with pytest.raises(ValueError, match="keep_successes: found 'no', expected True or False"):
        state_buffer(20, keep_successes="no")
