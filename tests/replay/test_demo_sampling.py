"""What the buffer draws: by priority, or with a fixed share of demonstrations."""

import math

import numpy as np
import pytest
from naive_buffer import (
    five_demos,
    numbers,
    play,
    state_buffer,
)
from scipy.stats import chisquare

# --- Priorities ------------------------------------------------------------------------------------------------------


def test_importance_weights_of_three_rows():
    buffer = state_buffer(3, priority_exponent=0.5)
    play(buffer, "---")
    buffer.update_priorities(np.arange(3), np.array([1.0, 4.0, 16.0]))
    # p^0.5 = 1, 2, 4, so P = 1/7, 2/7, 4/7 and N P = 3/7, 6/7, 12/7
    # beta = 1: (N P)^-1 = 7/3, 7/6, 7/12, over the largest: 1, 1/2, 1/4. beta = 0.5: their square roots
    assert numbers(buffer.read([0, 1, 2], beta=1.0).weights) == pytest.approx([1.0, 0.5, 0.25])
    assert numbers(buffer.read([0, 1, 2], beta=0.5).weights) == pytest.approx([1.0, math.sqrt(0.5), 0.5])
    assert numbers(buffer.read([0, 1, 2], beta=0.0).weights) == [1.0, 1.0, 1.0]
    # The largest is the batch's own: 7/6 and 7/12 over 7/6
    assert numbers(buffer.read([1, 2, 1], beta=1.0).weights) == pytest.approx([1.0, 0.5, 1.0])


@pytest.mark.parametrize("beta", [0.0, 0.4, 1.0, 1.5])
@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_importance_weights_follow_the_formula(alpha, beta):
    np.random.seed(0)
    buffer = state_buffer(20, priority_exponent=alpha, demonstrations=five_demos())
    play(buffer, "-" * 12)
    priorities = np.random.exponential(size=17) + 0.01
    buffer.update_priorities(np.arange(17), priorities)
    batch = buffer.sample_batch(32, beta)
    probabilities = priorities**alpha / (priorities**alpha).sum()
    weights = (17 * probabilities[batch.indices]) ** -beta
    assert numbers(batch.weights) == pytest.approx((weights / weights.max()).tolist(), rel=1e-5)


@pytest.mark.parametrize("alpha", [0.3, 0.5, 1.0, 2.0])
def test_priorities_are_given_back(alpha):
    buffer = state_buffer(4, priority_exponent=alpha)
    play(buffer, "---")
    buffer.update_priorities(np.array([0, 2]), np.array([0.25, 7.0]))
    assert buffer.priorities == pytest.approx([0.25, 1.0, 7.0, 0.0])


def test_all_priorities_are_1_if_alpha_is_0():
    buffer = state_buffer(4, priority_exponent=0.0)
    play(buffer, "---")
    buffer.update_priorities(np.array([0, 2]), np.array([0.25, 7.0]))
    assert buffer.priorities.tolist() == [1.0, 1.0, 1.0, 0.0]


@pytest.mark.parametrize("alpha", [0.3, 1.0])
def test_rows_are_drawn_in_proportion_to_their_priorities(alpha):
    np.random.seed(3)
    buffer = state_buffer(20, n_envs=2, priority_exponent=alpha, demonstrations=five_demos())
    play(buffer, "-" * 4, "-" * 4)
    priorities = np.random.exponential(size=13) + 0.05
    buffer.update_priorities(np.arange(13), priorities)
    # One row of each batch: the rows of a batch are stratified, which a chi-square test does not expect
    draws = [buffer.sample_batch(1).indices[0] for _ in range(15_000)]
    expected = priorities**alpha / (priorities**alpha).sum() * 15_000
    assert chisquare(np.bincount(draws, minlength=13), expected).pvalue > 0.001


def test_rows_are_drawn_uniformly_as_long_as_no_priority_is_set():
    np.random.seed(4)
    buffer = state_buffer(20, demonstrations=five_demos())
    play(buffer, "-" * 5)
    assert sorted(buffer.sample_batch(10).indices) == list(range(10))
    assert numbers(buffer.sample_batch(10).weights) == [1.0] * 10


def test_new_transitions_get_the_largest_priority_seen_so_far():
    buffer = state_buffer(4, priority_exponent=0.5, demonstrations=five_demos())
    assert buffer.priorities.tolist() == [1.0] * 5 + [0.0] * 4
    play(buffer, "-")
    buffer.update_priorities(np.array([0, 5]), np.array([9.0, 0.5]))
    play(buffer, "-")
    assert buffer.priorities == pytest.approx([9, 1, 1, 1, 1, 0.5, 9, 0, 0])
    # It stays the largest when no row has it any longer
    buffer.update_priorities(np.array([0, 6]), np.array([2.0, 2.0]))
    play(buffer, "-")
    assert buffer.priorities[7] == pytest.approx(9.0)
    assert buffer.max_priority == 9.0


def test_priorities_can_be_given_as_lists():
    buffer = state_buffer(10)
    play(buffer, "---")
    buffer.update_priorities([0, 2], [4.0, 5.0])  # type: ignore[arg-type]
    np.testing.assert_allclose(buffer.priorities[:3], [4.0, 1.0, 5.0])


@pytest.mark.parametrize("row", [-1, 3])
def test_a_row_that_holds_nothing_gets_no_priority(row):
    buffer = state_buffer(10)
    play(buffer, "---")
    with pytest.raises(IndexError, match=f"found rows {row} to {row}, expected 0 to 2 "):
        buffer.update_priorities(np.array([row]), np.ones(1))


def test_a_priority_whose_power_is_infinite_is_refused():
    buffer = state_buffer(10, priority_exponent=2.0)
    play(buffer, "-")
    with np.errstate(over="ignore"), pytest.raises(ValueError, match="found values from 1e\\+300 to 1e\\+300"):
        buffer.update_priorities(np.array([0]), np.array([1e300]))


def test_the_last_priority_of_a_repeated_row_counts():
    buffer = state_buffer(4)
    play(buffer, "----")
    buffer.update_priorities(np.array([2, 1, 2, 2]), np.array([8.0, 5.0, 6.0, 3.0]))
    assert buffer.priorities == pytest.approx([1.0, 5.0, 3.0, 1.0])
    assert buffer.max_priority == 8.0


@pytest.mark.parametrize(
    ("priorities", "message"),
    [
        ([2.0, math.nan], "from nan to nan"),
        ([2.0, -0.5], "from -0.5 to 2.0"),
        ([2.0, 0.0], "from 0.0 to 2.0"),
        ([2.0, math.inf], "from 2.0 to inf"),
    ],
)
def test_a_priority_that_is_no_positive_number_is_refused_by_name(priorities, message):
    buffer = state_buffer(4)
    play(buffer, "----")
    with pytest.raises(ValueError, match=message):
        buffer.update_priorities(np.array([0, 1]), np.array(priorities))
    assert buffer.priorities.tolist() == [1.0] * 4
    assert buffer.max_priority == 1.0


def test_demos_only_draws_demonstrations_in_proportion_to_their_priorities():
    np.random.seed(5)
    buffer = state_buffer(20, priority_exponent=1.0, demonstrations=five_demos())
    play(buffer, "-" * 10)
    buffer.update_priorities(np.arange(5), np.array([1.0, 2.0, 3.0, 4.0, 5.0]))
    draws = [buffer.sample_batch(1, demos_only=True).indices[0] for _ in range(3000)]
    # Shares of 15, times 3000
    assert chisquare(np.bincount(draws, minlength=5), [200, 400, 600, 800, 1000]).pvalue > 0.001
    batch = buffer.sample_batch(4, demos_only=True)
    assert batch.is_demo.all()
    # Importance weights follow the priorities here, too: p_min / p_i with alpha = beta = 1
    priorities = batch.indices + 1.0
    assert numbers(batch.weights) == pytest.approx((priorities.min() / priorities).tolist())


# --- A fixed share of demonstrations ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("demo_fraction", "expected"), [(0.0, 0), (0.25, 4), (0.5, 8), (1.0, 16)])
def test_each_batch_has_exactly_the_share_of_demonstrations_asked_for(demo_fraction, expected):
    np.random.seed(6)
    buffer = state_buffer(20, demo_fraction=demo_fraction, demonstrations=five_demos())
    play(buffer, "-" * 3)
    for _ in range(20):
        batch = buffer.sample_batch(16, beta=1.0)
        assert int(batch.is_demo.sum()) == expected
        assert batch.indices.max() < 8


def test_a_fixed_share_is_drawn_uniformly_with_weights_of_1_whatever_the_priorities():
    np.random.seed(7)
    buffer = state_buffer(20, demo_fraction=0.25, n_envs=2, demonstrations=five_demos())
    play(buffer, "-" * 3, "-" * 3)
    buffer.update_priorities(np.arange(11), np.arange(1.0, 12.0) ** 3)
    batch = buffer.sample_batch(40_000, beta=1.0)
    assert numbers(batch.weights) == [1.0] * 40_000
    # 10,000 draws of 5 demonstrations, 30,000 of the 3 x 2 other rows
    assert chisquare(np.bincount(batch.indices), [2000] * 5 + [5000] * 6).pvalue > 0.001


def test_a_fixed_share_is_all_demonstrations_as_long_as_there_is_nothing_else():
    buffer = state_buffer(20, demo_fraction=0.25, demonstrations=five_demos())
    assert buffer.sample_batch(16).is_demo.flatten().tolist() == [True] * 16


@pytest.mark.parametrize("demo_fraction", [0.25, 1.0])
def test_a_fixed_share_is_none_if_there_are_no_demonstrations(demo_fraction):
    buffer = state_buffer(20, demo_fraction=demo_fraction)
    play(buffer, "---")
    assert buffer.sample_batch(16).is_demo.flatten().tolist() == [False] * 16


def test_demos_only_overrules_a_fixed_share():
    buffer = state_buffer(20, demo_fraction=0.25, demonstrations=five_demos())
    play(buffer, "---")
    assert buffer.sample_batch(16, demos_only=True).is_demo.flatten().tolist() == [True] * 16
