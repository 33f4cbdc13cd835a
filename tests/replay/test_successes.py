"""The agent's own successful episodes, kept like demonstrations."""

import pickle
from typing import Any

import numpy as np
import pytest
from goal_line import GoalLine, goal_vec_env
from gymnasium import spaces
from naive_buffer import (
    ACTION_SPACE,
    STATE_SPACE,
    PickedRows,
    Step,
    add_steps,
    as_expected,
    five_demos,
    info_of,
    play,
    state_buffer,
)
from naive_goals import Walker, as_read, fractions, goal_buffer, observation, rest_of_episode, under_goal

from sb3_pgfd.replay import DemoReplayBuffer
from sb3_pgfd.replay.n_step import Stores
from sb3_pgfd.replay.storage import Schema, TransitionStore


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
        add_steps(buffer, [step], [info_of(step.event, success if step.event == "t" else None, key=key)])
    return steps


def states(buffer: PickedRows) -> list[float]:
    """States of the demonstrations, in the order of the store."""
    return [row.obs for row in as_expected(buffer.read(range(buffer.n_demonstrations)))]


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
    assert buffer.n_demonstrations == 0


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


def test_kept_episodes_stay_when_the_ring_is_emptied_or_the_buffer_is_pickled():
    buffer = state_buffer(10, keep_successes=True)
    play_episode(buffer, 3, True, 1000)
    play_episode(buffer, 20, False, 2000)
    buffer = pickle.loads(pickle.dumps(buffer))
    buffer.reset()
    play_episode(buffer, 1, True, 5000)
    assert states(buffer) == [1000, 1001, 1002, 5000]
    assert (buffer.n_given, buffer.n_own) == (0, 1)


def test_kept_episodes_get_the_largest_priority_and_the_others_keep_theirs():
    buffer = state_buffer(10, keep_successes=True, demonstrations=five_demos(), priority_exponent=1.0)
    play_episode(buffer, 3, False)
    buffer.set_priorities(np.arange(8), np.arange(1.0, 9.0))
    play_episode(buffer, 2, True, 10)
    expected = [1, 2, 3, 4, 5, *[8, 8], 6, 7, 8, *[8, 8]]
    np.testing.assert_allclose(buffer.priorities_of(range(12)), expected)
    batch = buffer.sample_batch(100)
    assert set(buffer.rows(batch.indices[batch.is_demo.flatten().numpy()])) == set(range(7))


def test_share_and_pretraining_draws_take_them_in():
    np.random.seed(0)
    buffer = state_buffer(10, keep_successes=True, demo_fraction=0.5)
    play_episode(buffer, 4, False)
    assert not buffer.sample_batch(20).is_demo.any()
    play_episode(buffer, 3, True, 10)
    batch = buffer.sample_batch(20)
    assert batch.is_demo.sum() == 10
    assert set(buffer.rows(buffer.sample_batch(50, demos_only=True).indices)) == {0, 1, 2}


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
    columns = buffer.demonstrations.take(np.arange(4))
    for key in ("a", "b"):
        expected = np.stack([o[key][0] for o in observations])
        np.testing.assert_array_equal(columns[f"observations/{key}"][:4], expected[:4])
        np.testing.assert_array_equal(columns[f"next_observations/{key}"][:4], expected[1:])
        assert columns[f"observations/{key}"].dtype == space[key].dtype
    np.testing.assert_array_equal(columns["actions"][:4], actions[:, 0])
    np.testing.assert_array_equal(columns["rewards"][:4], np.arange(4, dtype=np.float32) * np.float32(0.1))


def test_discrete_states_and_actions_are_kept():
    buffer = DemoReplayBuffer(20, spaces.Discrete(9), spaces.Discrete(3), device="cpu", keep_successes=True)
    for state in (2, 3):
        obs, next_obs = np.array([state]), np.array([state + 1])
        buffer.add(obs, next_obs, np.array([[state - 1]]), np.ones(1), np.array([state == 3]), [{"success": state == 3}])
    assert buffer.demonstrations.columns["observations/"][:2].tolist() == [[2], [3]]
    assert buffer.demonstrations.columns["actions"][:2].tolist() == [[1], [2]]


@pytest.mark.parametrize("bound", [1000, 9])
def test_it_goes_with_replaced_goals(bound):
    np.random.seed(1)
    rng = np.random.default_rng(2)
    options: dict[str, Any] = {"n_steps": 3, "gamma": 0.5, "her_ratio": 1.0, "max_success_transitions": bound}
    buffer = goal_buffer(40, n_envs=2, keep_successes=True, env=goal_vec_env(GoalLine, 2), **options)
    numbers = fractions()
    walkers = [Walker(numbers, ends_at_goal=False) for _ in range(2)]
    histories: list[list[Any]] = [[], []]
    kept: list[list[Any]] = []
    n_kept_ever = 0
    for _ in range(80):
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
                episode = history[max(before[-1] + 1 if before else 0, len(history) - 20) :]
                # Not what was a success in its first step
                if len(episode) == 1 or episode[0].reward < 0.0:
                    kept.append(episode)
                    n_kept_ever += len(episode)
                while sum(map(len, kept)) > bound:
                    kept.pop(0)
        # The store has its own order: rows of dropped episodes are used again
        rests = [rest_of_episode(steps, k) for steps in kept for k in range(len(steps))]
        by_start = {(rest[0].achieved, rest[0].next_achieved): rest for rest in rests}
        assert buffer.n_demonstrations == len(rests) == len(by_start)
        read = as_read(buffer.read(range(buffer.n_filled)))[: len(rests)]
        for found in read:
            rest = by_start.pop((found.achieved, found.next_achieved))
            assert found.desired in [step.next_achieved for step in rest]
            expected = under_goal(rest, found.desired, n_steps=3, gamma=0.5, ends_at_goal=False)
            np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert n_kept_ever > 10


def test_what_is_off_draws_the_same_numbers():
    draws = []
    for keep in (False, True):
        buffer = state_buffer(30, demonstrations=five_demos(), keep_successes=keep)
        play(buffer, "--t--u---")
        np.random.seed(3)
        draws.append(buffer.sample_batch(20).indices.tolist())
    # No info says that there was a success
    assert draws[0] == draws[1]


# --- The rows of an episode ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_steps", [1, 2, 3, 4, 5, 6, 99])
@pytest.mark.parametrize("env", [0, 1])
def test_the_last_rows_of_an_environment_go_backwards_through_the_ring(n_steps, env):
    # Five steps of two environments, the last written at rows 2 and 3: before it lie rows 0 and 1, then 8 and 9
    schema = Schema(STATE_SPACE, ACTION_SPACE)
    both = Stores(TransitionStore(schema, 1), TransitionStore(schema, 10), n_envs=2, head=2)
    expected = [4, 6, 8, 0, 2][-n_steps:]
    assert both.last_rows(env, n_steps).tolist() == [row + env for row in expected]


# --- The bound -------------------------------------------------------------------------------------------------------


def bounded(bound: int, **options: Any) -> PickedRows:
    """Five given demonstrations in rows 0 to 4."""
    return state_buffer(20, keep_successes=True, max_success_transitions=bound, demonstrations=five_demos(), **options)


GIVEN = [10_000, 10_001, 10_002, 10_003, 10_004]


def test_the_oldest_successes_go_first_and_their_rows_are_used_again():
    buffer = bounded(6)
    play_episode(buffer, 3, True, 100)
    play_episode(buffer, 2, True, 200)
    assert states(buffer) == [*GIVEN, 100, 101, 102, 200, 201]
    # Two more make seven: the first episode goes, and its rows 5 and 6 are the new one's
    play_episode(buffer, 2, True, 300)
    assert states(buffer) == [*GIVEN, 300, 301, 200, 201]
    assert buffer.demonstrations.live_rows.tolist() == [0, 1, 2, 3, 4, 5, 6, 8, 9]
    # Row 7 is free yet and takes one transition; two do not fit there and go behind all others
    play_episode(buffer, 1, True, 400)
    assert states(buffer) == [*GIVEN, 300, 301, 400, 200, 201]
    play_episode(buffer, 2, True, 500)
    assert states(buffer) == [*GIVEN, 300, 301, 400, 500, 501]
    assert buffer.demonstrations.size == 10
    # All at once: the rows 5 to 9 make room for the first five of six, and one more row is taken
    play_episode(buffer, 6, True, 600)
    assert states(buffer) == [*GIVEN, 600, 601, 602, 603, 604, 605]
    assert buffer.kept_successes.tolist() == [False] * 5 + [True] * 6
    assert (buffer.n_given, buffer.n_demonstrations, buffer.demonstrations.size) == (5, 11, 11)


def test_given_demonstrations_and_interventions_are_never_dropped():
    buffer = bounded(4)
    for first, event in ((50, "-"), (51, "t")):
        add_steps(buffer, [Step.numbered(first, event)], [info_of(event, None, taken=0.5)])
    play_episode(buffer, 3, True, 100)
    buffer.add_demonstrations(five_demos())
    for first in (200, 300, 400):
        play_episode(buffer, 4, True, first)
    # The first success lay in rows 7 to 9, where four have no place
    assert states(buffer) == [*GIVEN, 50, 51, *GIVEN, 400, 401, 402, 403]
    assert buffer.kept_successes.tolist() == [False] * 12 + [True] * 4
    assert (buffer.n_given, buffer.n_demonstrations) == (10, 16)


def test_an_episode_longer_than_the_bound_is_not_kept_and_drops_nothing():
    buffer = bounded(4)
    play_episode(buffer, 3, True, 100)
    play_episode(buffer, 5, True, 200)
    assert states(buffer) == [*GIVEN, 100, 101, 102]
    play_episode(buffer, 4, True, 300)
    assert states(buffer) == [*GIVEN, 300, 301, 302, 303]


@pytest.mark.parametrize("demo_fraction", [None, 0.5])
def test_dropped_rows_are_not_drawn(demo_fraction):
    np.random.seed(0)
    buffer = bounded(4, demo_fraction=demo_fraction)
    play_episode(buffer, 4, True, 100)
    buffer.set_priorities(range(5, 9), np.full(4, 1e6))
    play_episode(buffer, 1, True, 200)
    assert buffer.demonstrations.live_rows.tolist() == [0, 1, 2, 3, 4, 5]
    for demos_only in (False, True):
        (rows, n_demos), _ = buffer._draw(1, 200, demos_only)
        assert set(rows[:n_demos]) == {0, 1, 2, 3, 4, 5}


def test_priorities_of_rows_dropped_since_they_were_drawn_do_not_bring_them_back():
    buffer = bounded(4)
    play_episode(buffer, 4, True, 100)
    drawn = buffer.indices([8, 0])
    play_episode(buffer, 1, True, 200)
    assert buffer.update_priorities(drawn, np.array([50.0, 3.0])).tolist() == [50.0, 3.0]
    assert buffer.priorities[drawn].tolist() == pytest.approx([0.0, 3.0])
    assert buffer.demonstrations.live_rows.tolist() == [0, 1, 2, 3, 4, 5]
    assert buffer.demonstrations.tree.total == pytest.approx(3.0**0.3 + 5)


def test_a_buffer_with_free_rows_is_pickled_and_given_back_without_them():
    buffer = bounded(4)
    play_episode(buffer, 4, True, 100)
    play_episode(buffer, 1, True, 200)
    copy = pickle.loads(pickle.dumps(buffer))
    for one in (buffer, copy):
        assert states(one) == [*GIVEN, 200]
        returned = one.to_demonstrations().observations
        assert isinstance(returned, np.ndarray)
        assert returned[:6].flatten().tolist() == [*GIVEN, 200]
        # Rows 6 to 8 are free
        play_episode(one, 3, True, 300)
        assert states(one) == [*GIVEN, 200, 300, 301, 302]


def test_a_smaller_bound_holds_from_the_next_success_on():
    buffer = bounded(100)
    for first in (100, 200, 300):
        play_episode(buffer, 3, True, first)
    buffer.configure(max_success_transitions=5)
    play_episode(buffer, 2, True, 400)
    assert sorted(states(buffer)) == [300, 301, 302, 400, 401, *GIVEN]


# --- Actions without exploration noise --------------------------------------------------------------------------------


def play_noisy(buffer: PickedRows, last: Any, n_steps: int = 4, taken_at: int = -1, without: int = -1) -> None:
    """
    Add an episode of the actions 0.5 + t / 64 that the policy meant to be -0.25 - t / 64.

    :param last: Whether it is a success
    :param taken_at: Step in which somebody took over, with the action 0.75
    :param without: Step for which the algorithm gives no action
    """
    for t in range(n_steps):
        info = info_of("-", last if t == n_steps - 1 else None, taken=0.75 if t == taken_at else None)
        if t != without:
            info["policy_action"] = np.array([-0.25 - t / 64], dtype=np.float32)
        step = Step.numbered(t, "t" if t == n_steps - 1 else "-")._replace(action=0.5 + t / 64)
        add_steps(buffer, [step], [info])


EXECUTED = [0.5, 0.515625, 0.53125, 0.546875]
MEANT = [-0.25, -0.265625, -0.28125, -0.296875]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, MEANT),
        # The intervention is kept by itself, before the success
        ({"taken_at": 1}, [0.75, MEANT[0], 0.75, *MEANT[2:]]),
        ({"without": 2}, EXECUTED),
    ],
)
def test_kept_successes_have_the_actions_without_noise(options: dict[str, int], expected: list[float]) -> None:
    buffer = state_buffer(20, keep_successes=True, denoise_successes=True, demonstrations=five_demos())
    play_noisy(buffer, False)
    play_noisy(buffer, True, **options)
    given, kept = range(5), range(5, 5 + len(expected))
    ring = range(5 + len(expected), 5 + len(expected) + 8)
    batch = buffer.read([*given, *kept, *ring])
    assert batch.intended_actions is not None
    found, executed = batch.intended_actions[:, 0].tolist(), batch.actions[:, 0].tolist()
    assert found[:5] == executed[:5]
    assert found[5 : 5 + len(expected)] == expected
    # Nothing of the ring is cloned
    assert found[5 + len(expected) :] == executed[5 + len(expected) :]
    # Critics learn from what was executed
    assert not set(executed) & set(MEANT)


def test_they_stay_with_the_buffer_and_follow_the_order_of_several_batches():
    buffer = state_buffer(20, keep_successes=True, denoise_successes=True, demo_fraction=0.5)
    play_noisy(buffer, False)
    play_noisy(buffer, True)
    loaded = pickle.loads(pickle.dumps(buffer))
    meant = dict(zip(EXECUTED, MEANT, strict=True))
    for batch in loaded.sample_batches(3, 8).split(3):
        for executed, intended, is_demo in zip(batch.actions, batch.intended_actions, batch.is_demo, strict=True):
            assert float(intended) == (meant[float(executed)] if is_demo else float(executed))
        assert batch.is_demo.sum() == 4


def test_a_batch_has_none_unless_asked():
    buffer = state_buffer(20, keep_successes=True)
    play_noisy(buffer, True)
    assert buffer.sample_batch(4).intended_actions is None
    assert all(batch.intended_actions is None for batch in buffer.sample_batches(2, 4).split(2))


def test_a_success_whose_beginning_was_overwritten_has_those_of_its_rest():
    buffer = state_buffer(3, keep_successes=True, denoise_successes=True)
    play_noisy(buffer, True)
    batch = buffer.read(range(3))
    assert batch.intended_actions is not None
    assert batch.intended_actions[:, 0].tolist() == MEANT[1:]


def test_actions_of_an_episode_without_end_are_kept_as_long_as_the_ring_holds_it():
    buffer = state_buffer(20, keep_successes=True)
    for number in range(100):
        add_steps(buffer, [Step.numbered(number, "-")], [{"policy_action": np.zeros(1)}])
    assert len(buffer._own_episodes._running[0].intended) == 20
