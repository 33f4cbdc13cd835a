"""The buffer: what it stores and gives back."""

import math
import tracemalloc

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
    for name, expected in buffer.read(rows).n_step._asdict().items():
        assert th.equal(getattr(samples, name), expected), name


# --- Memory ----------------------------------------------------------------------------------------------------------


def test_a_row_takes_the_bytes_of_its_transition_and_of_one_priority():
    # Four observations in single precision, twice; two actions; a reward; two flags; a priority in double precision
    row = 2 * 4 * 4 + 2 * 4 + 4 + 2 + 8
    tracemalloc.start()
    buffer = DemoReplayBuffer(100_000, spaces.Box(-1, 1, (4,)), spaces.Box(-1, 1, (2,)), device="cpu", n_envs=4, n_steps=5)
    allocated, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # Above the leaves there are 1/16 + 1/256 + ... = 1/15 sums per row, 8/15 of a byte
    assert row <= buffer.nbytes / 100_000 < row + 0.6
    # The cumulative sums of the tree's top do not grow with the buffer: 4097 numbers at most
    assert allocated < buffer.nbytes + 8 * 4097 + 20_000


# --- Wrong options ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"n_steps": 0}, "n_steps: found 0"),
        ({"n_steps": 1.5}, "n_steps: found 1.5"),
        ({"n_steps": True}, "n_steps: found True"),
        ({"gamma": 1.1}, "gamma: found 1.1"),
        ({"gamma": math.nan}, "gamma: found nan"),
        ({"priority_exponent": -0.1}, "priority_exponent .*: found -0.1"),
        ({"demo_fraction": 1.5}, "demo_fraction: found 1.5"),
        ({"demo_fraction": -0.1}, "demo_fraction: found -0.1"),
        ({"optimize_memory_usage": True}, "optimize_memory_usage: found True"),
    ],
)
def test_an_option_out_of_range_is_refused_by_name(option, message):
    with pytest.raises(ValueError, match=message):
        state_buffer(4, **option)


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
