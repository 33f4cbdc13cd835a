"""What the buffer keeps, and for how long."""

import numpy as np
import pytest
from naive_buffer import as_expected, box, demo_steps, demonstrations, expected_rows, five_demos, one_step, play, state_buffer

from sb3_pgfd.replay import DemoReplayBuffer

DEMO_EVENTS = ("--t", "-u")


def add_state(buffer: DemoReplayBuffer, state: np.ndarray, done: bool, info: dict[str, bool]) -> None:
    buffer.add(state, state, np.zeros((1, 1), np.float32), np.zeros(1), np.array([done]), [info])


def test_demonstrations_are_never_overwritten():
    buffer = state_buffer(4, n_envs=2, demonstrations=five_demos(), n_steps=3, gamma=0.5)
    before = as_expected(buffer.read(range(5)))
    # Five times around the ring of two steps
    histories = play(buffer, "-" * 10, "--t-------")
    assert as_expected(buffer.read(range(5))) == before
    expected = expected_rows(demo_steps(*DEMO_EVENTS), histories, ring_steps=2, n_steps=3, gamma=0.5)
    np.testing.assert_allclose(before, [expected[row] for row in range(5)])
    assert (buffer.n_demonstrations, buffer.n_own, buffer.ring.n_rows) == (5, 4, 4)


def test_the_batch_tells_demonstrations_apart():
    buffer = state_buffer(4, demonstrations=demonstrations(demo_steps("-t")))
    play(buffer, "--")
    assert buffer.read([0, 1, 2, 3]).is_demo.flatten().tolist() == [True, True, False, False]


@pytest.mark.parametrize(("buffer_size", "expected"), [(7, 6), (6, 6), (2, 3)])
def test_capacity_is_rounded_to_whole_steps_and_never_to_none(buffer_size, expected):
    assert state_buffer(buffer_size, n_envs=3).ring.n_rows == expected


def test_reset_forgets_all_but_the_demonstrations():
    buffer = state_buffer(10, demonstrations=five_demos())
    play(buffer, "-----")
    buffer.set_priorities(np.arange(5), np.array([2.0, 3.0, 4.0, 5.0, 6.0]))
    buffer.reset()
    assert (buffer.n_filled, buffer.n_own, buffer.pos, buffer.full) == (5, 0, 0, False)
    np.testing.assert_allclose(buffer.priorities, [0.0] * 10 + [2.0, 3.0, 4.0, 5.0, 6.0])
    assert buffer.sample_batch(50).is_demo.all()


def test_what_is_given_can_be_changed_afterwards():
    buffer = state_buffer(3)
    state = np.ones((1, 1), np.float32)
    add_state(buffer, state, done=False, info={})
    state[:] = 7.0
    assert box(buffer.read([0]).observations).tolist() == [[1.0]]


def test_what_is_sampled_can_be_changed_without_changing_the_buffer():
    buffer = state_buffer(3)
    add_state(buffer, np.ones((1, 1), np.float32), done=False, info={})
    batch = buffer.sample_batch(1)
    for tensor in (box(batch.observations), box(batch.next_observations), batch.actions, batch.rewards):
        tensor.fill_(9.0)
    ring = buffer.ring.columns
    assert ring["observations/"][0] == ring["next_observations/"][0] == 1.0
    assert ring["actions"][0] == ring["rewards"][0] == 0.0


@pytest.mark.parametrize(("handle_timeout_termination", "expected"), [(True, [0.0, 1.0, 0.0]), (False, [0.0, 1.0, 1.0])])
def test_a_time_limit_is_no_terminal_state_unless_that_is_asked_for(handle_timeout_termination, expected):
    buffer = state_buffer(3, handle_timeout_termination=handle_timeout_termination)
    play(buffer, "-tu")
    assert one_step(buffer.read([0, 1, 2])).dones.flatten().tolist() == expected


def test_an_end_without_word_of_a_time_limit_is_a_terminal_state():
    buffer = state_buffer(3)
    for info in ({}, {"TimeLimit.truncated": False}):
        add_state(buffer, np.zeros((1, 1), np.float32), done=True, info=info)
    add_state(buffer, np.zeros((1, 1), np.float32), done=True, info={"TimeLimit.truncated": True})
    assert buffer.read([0, 1, 2]).terminated.flatten().tolist() == [True, True, False]
