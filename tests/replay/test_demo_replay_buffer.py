"""The buffer: what it stores and gives back."""

import math
import tracemalloc
from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_buffer import (
    ACTION_SPACE,
    STATE_SPACE,
    as_expected,
    demo_steps,
    demonstrations,
    expected_rows,
    five_demos,
    n_step,
    play,
    state_buffer,
)
from stable_baselines3.common.type_aliases import ReplayBufferSamples

from sb3_pgfd.replay import DemoReplayBuffer

# --- Against a model of Python lists ---------------------------------------------------------------------------------

EVENTS = st.sampled_from("----tui")
DEMO_LINES = st.lists(
    st.tuples(st.text(alphabet="-", max_size=5), st.sampled_from("tu")).map("".join),
    max_size=3,
)


@st.composite
def histories_of_events(draw: st.DrawFn, min_length: int = 0) -> tuple[str, ...]:
    """One line of events per environment, all of the same length."""
    n_envs, length = draw(st.integers(1, 3)), draw(st.integers(min_length, 25))
    return tuple(draw(st.text(alphabet=EVENTS, min_size=length, max_size=length)) for _ in range(n_envs))


@settings(max_examples=200, deadline=None)
@given(
    events=histories_of_events(),
    buffer_size=st.integers(1, 40),
    demo_events=DEMO_LINES,
    n_steps=st.integers(1, 12),
    gamma=st.sampled_from([0.0, 0.5, 0.99, 1.0]),
)
def test_every_row_holds_what_a_list_of_episodes_holds(events, buffer_size, demo_events, n_steps, gamma):
    episodes = demo_steps(*demo_events)
    options = {"demonstrations": demonstrations(episodes)} if episodes else {}
    buffer = state_buffer(buffer_size, n_envs=len(events), n_steps=n_steps, gamma=gamma, **options)
    histories = play(buffer, *events)
    expected = expected_rows(episodes, histories, buffer.buffer_size, n_steps, gamma)
    assert buffer.n_filled == len(expected)
    assert sorted(expected) == list(range(len(expected)))
    if expected:
        found = as_expected(buffer.read(sorted(expected)))
        for row, values in zip(sorted(expected), found, strict=True):
            assert values == pytest.approx(expected[row], rel=1e-5, abs=1e-5), row


@settings(max_examples=50, deadline=None)
@given(events=histories_of_events(min_length=1), demo_events=DEMO_LINES, n_steps=st.integers(1, 6))
def test_sample_gives_the_n_step_part_of_the_batch(events, demo_events, n_steps):
    options = {"demonstrations": demonstrations(demo_steps(*demo_events))} if demo_events else {}
    buffer = state_buffer(20, n_envs=len(events), n_steps=n_steps, **options)
    play(buffer, *events)
    rows = np.arange(buffer.n_filled)
    samples = buffer.read_n_step(rows)
    assert isinstance(samples, ReplayBufferSamples)
    for name, expected in n_step(buffer.read(rows))._asdict().items():
        found = getattr(samples, name)
        assert (found is None) == (name == "discounts" and n_steps == 1)
        assert found is None or th.equal(found, expected), name


# --- Memory ----------------------------------------------------------------------------------------------------------


def test_a_row_takes_the_bytes_of_its_transition_and_of_one_priority():
    # Four observations in single precision, twice; two actions; a reward; a flag; the steps left; a priority in double
    row = 2 * 4 * 4 + 2 * 4 + 4 + 1 + 4 + 8
    tracemalloc.start()
    buffer = DemoReplayBuffer(100_000, spaces.Box(-1, 1, (4,)), spaces.Box(-1, 1, (2,)), device="cpu", n_envs=4, n_steps=5)
    allocated, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # Above the leaves there are 1/16 + 1/256 + ... = 1/15 sums per row, 8/15 of a byte
    assert row <= buffer.nbytes / 100_000 < row + 0.6
    # The cumulative sums of the tree's top do not grow with the buffer: 4097 numbers at most
    assert allocated < buffer.nbytes + 8 * 4097 + 20_000


# --- Options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"n_steps": 1.5}, "n_steps: found 1.5, expected a whole number >= 1"),
        ({"max_success_transitions": 0}, "max_success_transitions: found 0, expected a whole number >= 1"),
        ({"gamma": math.nan}, "gamma .*: found nan, expected 0 to 1"),
        ({"her_ratio": "0.5"}, "her_ratio .*: found '0.5', expected 0 to 1"),
        ({"demo_fraction": -0.1}, "demo_fraction .*: found -0.1, expected 0 to 1, or None"),
        ({"priority_exponent": -0.1}, r"priority_exponent \(alpha\): found -0.1, expected a number >= 0"),
        ({"priority_exponent": 60, "priority_epsilon": 1e-6}, "priority_exponent .*: found 60, .* 1e-06.alpha rounds to 0"),
        ({"priority_epsilon": 0.0}, r"priority_epsilon \(eps\): found 0.0, expected a number > 0"),
        ({"demo_bonus": True}, r"demo_bonus \(eps_D\): found True, expected a number >= 0"),
        ({"keep_successes": "no"}, "keep_successes: found 'no', expected True or False"),
        ({"optimize_memory_usage": True}, "optimize_memory_usage: found True, expected False: it keeps no next"),
    ],
)
def test_an_option_out_of_range_is_refused_by_name(option, message):
    with pytest.raises(ValueError, match=message):
        state_buffer(4, **option)


@pytest.mark.parametrize(
    ("low", "high", "component"),
    [
        ([-1.0, 2.0], [1.0, 2.0], r"\[1\] with low=2 and high=2"),
        ([-np.inf, -1.0], [1.0, 1.0], r"\[0\] with low=-inf and high=1"),
    ],
)
def test_an_action_that_cannot_be_scaled_is_refused_by_name(low, high, component):
    space = spaces.Box(np.array(low, dtype=np.float32), np.array(high, dtype=np.float32))
    with pytest.raises(ValueError, match=f"action_space: found component {component}, expected finite bounds with low < high"):
        DemoReplayBuffer(4, STATE_SPACE, space, device="cpu")


def test_options_can_be_changed_afterwards():
    buffer = state_buffer(10, n_steps=1, demonstrations=five_demos())
    play(buffer, "-----", rewards=[1, 2, 4, 8, 16])
    buffer.configure(n_steps=3, gamma=0.5, demo_fraction=0.25, demo_bonus=2.0, priority_exponent=0.3)
    batch = buffer.read([5])
    # 1 + 2/2 + 4/4
    assert batch.rewards.tolist() == [[1.0, 3.0]]
    assert buffer.sample_batch(8).is_demo.sum() == 2
    assert buffer.set_priorities([0, 5], [1.0, 1.0]).tolist() == [3.0, 1.0]
    # What is not named stays
    assert (buffer.her_ratio, buffer.keep_successes, buffer.priority_epsilon) == (0.0, False, 1e-30)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"gamma": 0.5, "n_steps": 0}, ValueError, "n_steps: found 0"),
        ({"gamma": 0.5, "priority_exponent": 0.6}, ValueError, "priority_exponent: found 0.3 in the buffer, expected 0.6"),
        ({"gamma": 0.5, "demo_bonas": 1.0}, TypeError, "unknown argument 'demo_bonas', did you mean 'demo_bonus'"),
        ({"gamma": 0.5, "buffer_size": 7}, TypeError, "unknown argument 'buffer_size'"),
    ],
)
def test_options_that_cannot_be_changed_are_refused_and_none_is_set(options, error, message):
    buffer = state_buffer(10)
    with pytest.raises(error, match=message):
        buffer.configure(**options)
    assert (buffer.gamma, buffer.n_steps) == (0.99, 1)


def test_options_of_a_subclass_can_be_changed_too():
    class Tuned(DemoReplayBuffer):
        def __init__(self, *args: Any, knob: int = 1, **options: Any):
            super().__init__(*args, **options)
            self.knob = knob

    buffer = Tuned(4, STATE_SPACE, ACTION_SPACE, device="cpu", knob=2)
    buffer.configure(knob=3, n_steps=2)
    assert (buffer.knob, buffer.n_steps) == (3, 2)


@pytest.mark.parametrize("options", [{}, {"demo_fraction": 0.5}])
def test_nothing_can_be_sampled_from_an_empty_buffer(options):
    buffer = DemoReplayBuffer(4, STATE_SPACE, ACTION_SPACE, device="cpu", **options)
    for sample in (buffer.sample, buffer.sample_batch):
        with pytest.raises(ValueError, match="found an empty buffer"):
            sample(4)


@pytest.mark.parametrize("options", [{}, {"demo_fraction": 0.5}])
def test_demonstrations_cannot_be_sampled_if_there_are_none(options):
    buffer = DemoReplayBuffer(4, STATE_SPACE, ACTION_SPACE, device="cpu", **options)
    play(buffer, "--")
    with pytest.raises(ValueError, match="expected at least one"):
        buffer.sample_batch(4, demos_only=True)
