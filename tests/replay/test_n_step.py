"""n-step returns: by hand, against SB3's own n-step buffer, and through the buffer's layout."""

from typing import Any

import numpy as np
import pytest
from naive_buffer import (
    ACTION_SPACE,
    STATE_SPACE,
    Step,
    add_steps,
    as_expected,
    box,
    demonstrations,
    n_step,
    numbers,
    play,
    state_buffer,
)
from stable_baselines3.common.buffers import NStepReplayBuffer

from sb3_pgfd.replay.n_step import Rows, Stores, discount_powers, n_step_return, n_step_window
from sb3_pgfd.replay.storage import RUNNING, Schema, TransitionStore

# States are named by naive_buffer.play(): environment e is in state 100 e + t at time t, and reaches 100 e + t + 1, or
# 100 e + t + 1.5 where its episode ends


def n_step_fields(buffer: Any, rows: list[int]) -> list[tuple[float, float, float, float]]:
    """R_n, the state after k steps, whether it is terminal, gamma^k"""
    samples = n_step(buffer.read(rows))
    columns = (samples.rewards, samples.next_observations, samples.dones, samples.discounts)
    return list(zip(*map(numbers, columns), strict=True))


def episode(events: str, first_state: int, rewards: list[float]) -> list[Step]:
    steps = [Step.numbered(t, event, first_state) for t, event in enumerate(events)]
    return [step._replace(reward=reward) for step, reward in zip(steps, rewards, strict=True)]


def test_a_full_window_sums_n_discounted_rewards():
    buffer = state_buffer(10, n_steps=3, gamma=0.5)
    play(buffer, "-----", rewards=[1, 2, 4, 8, 16])
    # 1 + 2/2 + 4/4 = 3, then the value of state 3 counts 1/8
    assert n_step_fields(buffer, [0]) == [(3.0, 3.0, 0.0, 0.125)]


def test_a_termination_in_the_window_ends_the_sum_and_the_bootstrap():
    buffer = state_buffer(10, n_steps=3, gamma=0.5)
    play(buffer, "-t---", rewards=[1, 2, 4, 8, 16])
    # Row 0: 1 + 2/2 = 2 over k = 2 steps. Row 1: its own reward, k = 1. Row 2: 4 + 8/2 + 16/4 = 12, k = 3
    assert n_step_fields(buffer, [0, 1, 2]) == [(2.0, 2.5, 1.0, 0.25), (2.0, 2.5, 1.0, 0.5), (12.0, 5.0, 0.0, 0.125)]
    assert buffer.read([0, 1, 2]).bootstrap.tolist() == [[0.5, 0.0], [0.0, 0.0], [0.5, 0.125]]


def test_a_truncation_in_the_window_ends_the_sum_but_not_the_bootstrap():
    buffer = state_buffer(10, n_steps=3, gamma=0.5)
    play(buffer, "-u---", rewards=[1, 2, 4, 8, 16])
    # The same sums as with a termination, but the last state's value counts gamma^k
    assert n_step_fields(buffer, [0, 1]) == [(2.0, 2.5, 0.0, 0.25), (2.0, 2.5, 0.0, 0.5)]
    assert buffer.read([0, 1]).bootstrap.tolist() == [[0.5, 0.25], [0.5, 0.5]]


def test_windows_end_at_the_head_of_a_partly_filled_ring():
    buffer = state_buffer(10, n_steps=3, gamma=0.5)
    play(buffer, "----", rewards=[1, 2, 4, 8])
    # Row 1: 2 + 4/2 + 8/4 = 6. Row 2: 4 + 8/2 = 8, k = 2. Row 3: 8, k = 1; rows 4 and 5 are empty
    assert n_step_fields(buffer, [1, 2, 3]) == [(6.0, 4.0, 0.0, 0.125), (8.0, 4.0, 0.0, 0.25), (8.0, 4.0, 0.0, 0.5)]


def test_windows_run_through_the_end_of_the_array_and_end_at_the_head_of_a_full_ring():
    buffer = state_buffer(5, n_steps=3, gamma=0.5)
    play(buffer, "-------", rewards=[1, 2, 4, 8, 16, 32, 64])
    # Times in the rows: 5, 6, 2, 3, 4. Row 3: 8 + 16/2 + 32/4 = 24. Row 4: 16 + 32/2 + 64/4 = 48, to state 7
    # Row 0: 32 + 64/2 = 64, k = 2. Row 1, the head: 64, k = 1, not time 2 of row 2. Row 2: 4 + 8/2 + 16/4 = 12
    assert n_step_fields(buffer, [3, 4, 0, 1, 2]) == [
        (24.0, 6.0, 0.0, 0.125),
        (48.0, 7.0, 0.0, 0.125),
        (64.0, 7.0, 0.0, 0.25),
        (64.0, 7.0, 0.0, 0.5),
        (12.0, 5.0, 0.0, 0.125),
    ]


def test_the_head_lies_in_the_last_row_when_a_ring_has_just_filled():
    buffer = state_buffer(3, n_steps=3, gamma=0.5)
    play(buffer, "---", rewards=[1, 2, 4])
    # Row 2 is the newest: 4, k = 1. Row 1: 2 + 4/2 = 4, k = 2
    assert n_step_fields(buffer, [2, 1]) == [(4.0, 3.0, 0.0, 0.5), (4.0, 3.0, 0.0, 0.25)]


@pytest.mark.parametrize("n_steps", [4, 7, 50])
def test_n_may_exceed_the_ring(n_steps):
    buffer = state_buffer(4, n_steps=n_steps, gamma=0.5)
    play(buffer, "------", rewards=[1, 2, 4, 8, 16, 32])
    # Times in the rows: 4, 5, 2, 3. Row 2: 4 + 8/2 + 16/4 + 32/8 = 16, k = 4. Row 1, the head: 32, k = 1
    assert n_step_fields(buffer, [2, 1]) == [(16.0, 6.0, 0.0, 0.0625), (32.0, 6.0, 0.0, 0.5)]


def test_windows_never_cross_environments():
    buffer = state_buffer(12, n_envs=3, n_steps=3, gamma=0.5)
    # A step of the three takes rows 0 to 2, 3 to 5, ...
    play(buffer, "----", "-t--", "--u-", rewards=[1, 2, 4, 8])
    assert n_step_fields(buffer, [0, 1, 2, 3, 4, 5]) == [
        (3.0, 3.0, 0.0, 0.125),  # 1 + 2/2 + 4/4, environment 0
        (2.0, 102.5, 1.0, 0.25),  # 1 + 2/2, environment 1
        (3.0, 203.5, 0.0, 0.125),  # 1 + 2/2 + 4/4, environment 2
        (6.0, 4.0, 0.0, 0.125),  # 2 + 4/2 + 8/4
        (2.0, 102.5, 1.0, 0.5),  # 2
        (4.0, 203.5, 0.0, 0.25),  # 2 + 4/2
    ]


def test_windows_of_several_environments_wrap_around():
    # Capacity 10 is rounded to three steps of the three environments; demonstrations are rows 0 and 1
    demos = demonstrations([episode("-t", 1000, [1, 1])])
    buffer = state_buffer(10, n_envs=3, n_steps=3, gamma=0.5, demonstrations=demos)
    assert buffer.ring.n_rows == 9
    play(buffer, "-----", "-----", "-----", rewards=[1, 2, 4, 8, 16])
    # Times: 3 in rows 2 to 4, 4 in rows 5 to 7, 2 in rows 8 to 10
    # 4 + 8/2 + 16/4 = 12; 8 + 16/2 = 16, k = 2; 16, k = 1
    assert n_step_fields(buffer, [8, 10]) == [(12.0, 5.0, 0.0, 0.125), (12.0, 205.0, 0.0, 0.125)]
    assert n_step_fields(buffer, [3, 7]) == [(16.0, 105.0, 0.0, 0.25), (16.0, 205.0, 0.0, 0.5)]


def test_demonstrations_end_at_their_own_tails():
    demos = demonstrations([episode("--t", 0, [1, 2, 4]), episode("-u", 50, [8, 16])])
    buffer = state_buffer(10, n_steps=3, gamma=0.5, demonstrations=demos)
    # Row 0: 1 + 2/2 + 4/4. Row 1: 2 + 4/2, k = 2. Row 2: 4. Row 3, the next episode: 8 + 16/2. Row 4: 16
    expected = [(3.0, 3.5, 1.0, 0.125), (4.0, 3.5, 1.0, 0.25), (4.0, 3.5, 1.0, 0.5)]
    expected += [(16.0, 52.5, 0.0, 0.25), (16.0, 52.5, 0.0, 0.5)]
    assert n_step_fields(buffer, [0, 1, 2, 3, 4]) == expected
    # The last demonstration does not run into the ring, nor does the ring's end come back to the demonstrations
    play(buffer, "------------", rewards=[100] * 12)
    assert n_step_fields(buffer, [0, 1, 2, 3, 4]) == expected
    # Times 10 and 11 lie in rows 5 and 6, time 9 in the last row: 100 + 100/2 + 100/4 = 175
    assert n_step_fields(buffer, [14]) == [(175.0, 12.0, 0.0, 0.125)]


def test_demonstrations_do_not_depend_on_the_rings_head():
    demos = demonstrations([episode("-----t", 0, [1] * 6)])
    buffer = state_buffer(2, n_steps=6, gamma=1.0, demonstrations=demos)
    for t in range(5):
        add_steps(buffer, [Step.numbered(t, "-")])
        assert [fields[0] for fields in n_step_fields(buffer, [0, 1, 2, 3, 4, 5])] == [6, 5, 4, 3, 2, 1]


def test_one_step_returns_are_the_plain_transitions():
    buffer = state_buffer(6, n_steps=1, gamma=0.9, demonstrations=demonstrations([episode("-t", 0, [3, 5])]))
    play(buffer, "-t-u--i-", rewards=[1, 2, 3, 4, 5, 6, 7, 8])
    for row in as_expected(buffer.read(np.arange(8))):
        assert row.n_step_return == row.reward
        assert row.n_step_next_obs == row.next_obs
        assert row.n_step_terminated == row.terminated
        assert row.discount == pytest.approx(0.9)


def test_an_interrupted_episode_does_not_run_into_the_next_one():
    buffer = state_buffer(10, n_envs=2, n_steps=3, gamma=0.5)
    # As when learn() is called again, or a loaded buffer is filled on: the environments are reset, no flag tells so
    play(buffer, "-i---", "--i--", rewards=[1, 2, 4, 8, 16])
    # Environment 0: 1 + 2/2, to its state 2.5, which has a value; then 4 + 8/2 + 16/4. Environment 1: 1 + 2/2 + 4/4
    assert n_step_fields(buffer, [0, 2, 4]) == [(2.0, 2.5, 0.0, 0.25), (2.0, 2.5, 0.0, 0.5), (12.0, 5.0, 0.0, 0.125)]
    assert n_step_fields(buffer, [1, 3]) == [(3.0, 103.5, 0.0, 0.125), (4.0, 103.5, 0.0, 0.25)]


@pytest.mark.parametrize("event", ["t", "u"])
def test_an_episode_that_ends_in_the_next_ones_first_state_is_over_all_the_same(event):
    buffer = state_buffer(10, n_steps=3, gamma=0.5)
    add_steps(buffer, [Step(0.0, 0.0, 1.0, 0.0, event)])
    add_steps(buffer, [Step(0.0, 0.0, 2.0, 0.0, "-")])
    assert n_step_fields(buffer, [0, 1]) == [(1.0, 0.0, float(event == "t"), 0.5), (2.0, 0.0, 0.0, 0.5)]


def test_gamma_0_looks_at_one_reward_and_gamma_1_at_all():
    for gamma, expected in ((0.0, (1.0, 3.0, 0.0, 0.0)), (1.0, (7.0, 3.0, 0.0, 1.0))):
        buffer = state_buffer(10, n_steps=3, gamma=gamma)
        play(buffer, "---", rewards=[1, 2, 4])
        assert n_step_fields(buffer, [0]) == [expected]


@pytest.mark.parametrize("n_transitions", [1, 7, 12, 31])
@pytest.mark.parametrize("n_steps", [1, 3, 20])
def test_returns_are_those_of_sb3(n_transitions, n_steps):
    np.random.seed(n_transitions)
    sb3_buffer = NStepReplayBuffer(12, STATE_SPACE, ACTION_SPACE, device="cpu", n_steps=n_steps, gamma=0.95)
    buffer = state_buffer(12, n_steps=n_steps, gamma=0.95)
    events = "".join(np.random.choice(list("----tu"), size=n_transitions))
    rewards = np.random.normal(size=n_transitions).tolist()
    for target in (buffer, sb3_buffer):
        play(target, events, rewards=rewards)
    rows = np.arange(sb3_buffer.size())
    found, expected = n_step(buffer.read(rows)), sb3_buffer._get_samples(rows)
    assert numbers(found.observations) == numbers(expected.observations)
    assert numbers(found.actions) == numbers(expected.actions)
    assert numbers(found.next_observations) == numbers(expected.next_observations)
    assert numbers(found.dones) == numbers(expected.dones)
    assert numbers(found.rewards) == pytest.approx(numbers(expected.rewards), rel=1e-5, abs=1e-6)
    assert numbers(found.discounts) == pytest.approx(numbers(expected.discounts), rel=1e-5)


def test_a_window_holds_its_rows_up_to_the_last():
    # A demonstration in rows 0 and 1; a ring of three steps of two environments, last written at its rows 2 and 3
    schema = Schema(STATE_SPACE, ACTION_SPACE)
    demos, ring = TransitionStore(schema, 2), TransitionStore(schema, 6)
    demos.columns["steps_left"][:] = [1, 0]
    ring.columns["steps_left"][:] = [2, RUNNING, 1, RUNNING, 0, RUNNING]
    window = n_step_window(Rows(np.array([0, 1, 4, 5]), 1), 3, Stores(demos, ring, n_envs=2, head=2))
    assert window.lengths.tolist() == [2, 2, 1, 3]
    assert window.ends.numbers.tolist() == [[0, 1], [1, 3], [4, 4], [5, 3]]
    assert window.included.sum(axis=1).tolist() == [2, 2, 1, 3]
    assert [line[:k].tolist() for line, k in zip(window.rows.numbers, window.lengths, strict=True)] == [
        [0, 1],
        [1, 3],
        [4],
        [5, 1, 3],
    ]


def test_discounts_are_powers_of_gamma_and_cannot_be_changed():
    powers = discount_powers(0.5, 3)
    assert powers.tolist() == [1.0, 0.5, 0.25, 0.125]
    with pytest.raises(ValueError, match="read-only"):
        powers[0] = 2.0


def test_rewards_outside_of_the_window_count_nothing():
    rewards = np.array([[1.0, 2.0, 4.0], [1.0, 2.0, 4.0]])
    included = np.array([[True, True, False], [True, False, False]])
    # 1 + 2/2, and 1
    assert n_step_return(rewards, included, 0.5).tolist() == [2.0, 1.0]


def test_the_last_state_is_the_one_reached_not_the_next_reset():
    buffer = state_buffer(10, n_steps=2)
    play(buffer, "t-")
    assert box(buffer.read([0]).next_observations).flatten().tolist() == [1.5, 1.5]
