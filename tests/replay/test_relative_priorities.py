"""Priorities in units of the agent's mean error, which mean the same at any reward scale."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from naive_buffer import PickedRows, Step, add_steps, five_demos, info_of, play, state_buffer

from sb3_pgfd.replay.priorities import RunningMean, agent_mean

# --- The mean of a batch ---------------------------------------------------------------------------------------------


def test_the_mean_of_a_batch_is_what_a_pencil_says() -> None:
    # Priorities 1, 2 and 4 gave the weights 1, 1/2 and 1/4; the demonstration does not count
    errors, weights = np.array([6.0, 4.0, 8.0, 100.0]), np.array([1.0, 0.5, 0.25, 1.0])
    is_demo = np.array([False, False, False, True])
    # (6 + 4 / 2 + 8 / 4) / (1 + 1/2 + 1/4)
    assert agent_mean(errors, weights, is_demo) == pytest.approx(40 / 7)


def test_where_there_are_demonstrations_only_their_mean_is_taken() -> None:
    # (2 + 8 / 2) / (1 + 1/2)
    assert agent_mean(np.array([2.0, 8.0]), np.array([1.0, 0.5]), np.array([True, True])) == pytest.approx(4.0)


@given(
    counts=st.lists(st.integers(1, 6), min_size=1, max_size=8),
    errors=st.lists(st.floats(0.0, 100.0), min_size=8, max_size=8),
    is_demo=st.lists(st.booleans(), min_size=8, max_size=8),
)
def test_the_mean_is_that_of_the_agents_transitions_however_often_each_is_drawn(
    counts: list[int], errors: list[float], is_demo: list[bool]
) -> None:
    # A batch in which each transition is as often as its priority says, so that every expectation is exact
    n = len(counts)
    drawn = np.repeat(np.arange(n), counts)
    all_errors, all_demos, weights = np.array(errors[:n]), np.array(is_demo[:n]), min(counts) / np.array(counts)
    counted = all_demos.all() | ~all_demos
    found = agent_mean(all_errors[drawn], weights[drawn], all_demos[drawn])
    assert found == pytest.approx(all_errors[counted].mean(), rel=1e-9, abs=1e-12)


def test_the_mean_is_that_of_the_agents_transitions_in_what_the_buffer_draws() -> None:
    buffer = state_buffer(300, demonstrations=five_demos(), priority_exponent=0.7)
    play(buffer, "-" * 300)
    np.random.seed(0)
    # Large where it is drawn often, so that a plain mean would be far off
    errors = np.random.exponential(size=305) ** 2
    buffer.set_priorities(np.arange(305), errors + 0.01)
    batch = buffer.sample_batch(20_000)
    drawn, is_demo = errors[buffer.rows(batch.indices)], batch.is_demo.flatten().numpy()
    assert agent_mean(drawn, batch.weights.flatten().numpy(), is_demo) == pytest.approx(errors[5:].mean(), rel=0.05)
    assert drawn[~is_demo].mean() > 1.5 * errors[5:].mean()


def test_the_running_mean_is_one_of_all_numbers_and_then_exponential() -> None:
    mean = RunningMean(window=2)
    # 4; (4 + 2) / 2; then half of the old and half of the new: (3 + 7) / 2, (5 + 0) / 2
    assert [mean.update(value) for value in (4.0, 2.0, 7.0, 0.0)] == [4.0, 3.0, 5.0, 2.5]
    assert RunningMean().update(0.0) > 0.0, "one divides by it"


# --- The buffer ------------------------------------------------------------------------------------------------------


def relative_buffer() -> PickedRows:
    """Five demonstrations and three transitions of the agent."""
    options = {"priority_epsilon": 0.5, "demo_bonus": 2.0, "priority_exponent": 1.0}
    buffer = state_buffer(4, demonstrations=five_demos(), relative_priorities=True, **options)
    play(buffer, "---")
    return buffer


def test_errors_count_in_units_of_the_running_mean() -> None:
    buffer = relative_buffer()
    # All weights are 1 yet, so the agent's mean is (2 + 4 + 6) / 3 = 4: 100 / 4 + 0.5 + 2, 2 / 4 + 0.5, ...
    first = buffer.set_priorities([0, 5, 6, 7], np.array([100.0, 2.0, 4.0, 6.0]))
    assert first.tolist() == [27.5, 1.0, 1.5, 2.0]
    assert buffer.priorities_of([0, 5, 6, 7]).tolist() == [27.5, 1.0, 1.5, 2.0]
    # Rows 5 and 7 were drawn by 1 and 2: (2 + 8 / 2) / (1 + 1/2) = 4, so the mean of both is 4 as well
    assert buffer.set_priorities([5, 7], np.array([2.0, 8.0])).tolist() == [1.0, 2.5]
    # Row 6 alone, 16: the mean of 4, 4 and 16 is 8. Whichever place it has in the batch, the demonstration does not count
    for order in ([0, 1], [1, 0]):
        copy = pickle.loads(pickle.dumps(buffer))
        found = copy.set_priorities(np.array([6, 0])[order], np.array([16.0, 80.0])[order])
        assert found.tolist() == np.array([2.5, 12.5])[order].tolist()
        assert (copy._mean_error.mean, copy._mean_error.count) == (8.0, 3)


def test_in_pretraining_the_mean_is_that_of_demonstrations() -> None:
    buffer = relative_buffer()
    # (1 + 3) / 2 = 2
    assert buffer.set_priorities([0, 1], np.array([1.0, 3.0])).tolist() == [3.0, 4.0]


def test_errors_of_0_are_no_divergence() -> None:
    buffer = relative_buffer()
    assert buffer.set_priorities([0, 5], np.zeros(2)).tolist() == [2.5, 0.5]


def test_without_it_nothing_is_averaged() -> None:
    buffer = state_buffer(4, demonstrations=five_demos())
    play(buffer, "---")
    assert buffer.set_priorities([0, 5], np.array([8.0, 2.0])).tolist() == [8.0, 2.0]
    assert buffer._mean_error.count == 0


def test_a_success_that_was_dropped_since_it_was_drawn_does_not_spoil_the_mean() -> None:
    buffer = state_buffer(20, keep_successes=True, max_success_transitions=2, relative_priorities=True)

    def succeed(first: int, length: int) -> None:
        for t in range(length):
            event = "t" if t == length - 1 else "-"
            add_steps(buffer, [Step.numbered(first + t, event)], [info_of(event, event == "t")])

    succeed(0, 2)
    indices = np.concatenate((buffer.indices([0, 1]), [0]))
    succeed(10, 1)
    assert buffer.n_demonstrations == 1
    # The first success is gone, its second row is empty; the mean is that of the ring's row
    assert buffer.update_priorities(indices, np.array([1.0, 2.0, 4.0])).tolist() == [0.25, 0.5, 1.0]
    assert buffer._mean_error.mean == 4.0
    assert np.isfinite(buffer.priorities).all()


@given(scale=st.floats(1e-6, 1e6), errors=st.lists(st.floats(1e-3, 1e3), min_size=6, max_size=6), n_demos=st.integers(1, 5))
def test_another_unit_of_reward_leaves_priorities_as_they_are_but_not_with_a_constant_bonus(
    scale: float, errors: list[float], n_demos: int
) -> None:
    def found(relative_priorities: bool, unit: float) -> np.ndarray:
        """Q and rewards are in another unit, so squared errors are by the square of it."""
        options = {"demo_bonus": 1.0, "priority_epsilon": 1e-6, "relative_priorities": relative_priorities}
        buffer = state_buffer(6, demonstrations=five_demos(), **options)
        play(buffer, "-" * 5)
        rows = [*range(n_demos), *range(5, 11 - n_demos)]
        return buffer.set_priorities(rows, unit**2 * np.array(errors))

    np.testing.assert_allclose(found(True, scale), found(True, 1.0), rtol=1e-9)
    if scale < 1e-4:
        # Errors of at most 1e3 are at most 1e-5 now, beside a bonus of 1
        small, constant = found(False, scale), found(False, 1.0)
        shares = [values[:n_demos].sum() / values.sum() for values in (small, constant)]
        assert shares[0] > 0.99
        assert shares[0] >= shares[1]
