"""What the buffer draws: by priority, or with a fixed share of demonstrations."""

import math

import numpy as np
import pytest
from naive_buffer import ACTION_SPACE, STATE_SPACE, PickedRows, five_demos, numbers, play, state_buffer
from scipy.stats import chisquare

from sb3_pgfd.replay import SumTree
from sb3_pgfd.replay.samples import draw_by_priority

# --- Priorities ------------------------------------------------------------------------------------------------------


def test_importance_weights_of_three_rows():
    buffer = state_buffer(3, priority_exponent=0.5)
    play(buffer, "---")
    buffer.set_priorities(np.arange(3), np.array([1.0, 4.0, 16.0]))
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
    buffer.set_priorities(np.arange(17), priorities)
    batch = buffer.sample_batch(32, beta)
    probabilities = priorities**alpha / (priorities**alpha).sum()
    weights = (17 * probabilities[buffer.rows(batch.indices)]) ** -beta
    assert numbers(batch.weights) == pytest.approx((weights / weights.max()).tolist(), rel=1e-5)


@pytest.mark.parametrize("alpha", [0.3, 0.5, 1.0, 2.0])
def test_priorities_are_given_back(alpha):
    buffer = state_buffer(4, priority_exponent=alpha)
    play(buffer, "---")
    buffer.set_priorities(np.array([0, 2]), np.array([0.25, 7.0]))
    assert buffer.priorities == pytest.approx([0.25, 1.0, 7.0, 0.0])


def test_all_priorities_are_1_if_alpha_is_0():
    buffer = state_buffer(4, priority_exponent=0.0)
    play(buffer, "---")
    buffer.set_priorities(np.array([0, 2]), np.array([0.25, 7.0]))
    assert buffer.priorities.tolist() == [1.0, 1.0, 1.0, 0.0]


@pytest.mark.parametrize("alpha", [0.3, 1.0])
def test_rows_are_drawn_in_proportion_to_their_priorities(alpha):
    np.random.seed(3)
    buffer = state_buffer(20, n_envs=2, priority_exponent=alpha, demonstrations=five_demos())
    play(buffer, "-" * 4, "-" * 4)
    priorities = np.random.exponential(size=13) + 0.05
    buffer.set_priorities(np.arange(13), priorities)
    # One row of each batch: the rows of a batch are stratified, which a chi-square test does not expect
    draws = buffer.rows(np.array([buffer.sample_batch(1).indices[0] for _ in range(6_000)]))
    expected = priorities**alpha / (priorities**alpha).sum() * 6_000
    assert chisquare(np.bincount(draws, minlength=13), expected).pvalue > 0.001


def test_rows_are_drawn_uniformly_as_long_as_no_priority_is_set():
    np.random.seed(4)
    buffer = state_buffer(20, demonstrations=five_demos())
    play(buffer, "-" * 5)
    assert sorted(buffer.rows(buffer.sample_batch(10).indices)) == list(range(10))
    assert numbers(buffer.sample_batch(10).weights) == [1.0] * 10


def test_new_transitions_get_the_largest_priority_seen_so_far():
    buffer = state_buffer(4, priority_exponent=0.5, demonstrations=five_demos())
    # The ring, which is empty, then the demonstrations
    assert buffer.priorities.tolist() == [0.0] * 4 + [1.0] * 5
    play(buffer, "-")
    buffer.set_priorities([0, 5], np.array([9.0, 0.5]))
    play(buffer, "-")
    assert buffer.priorities == pytest.approx([0.5, 9, 0, 0, 9, 1, 1, 1, 1])
    # It stays the largest when no row has it any longer
    buffer.set_priorities([0, 6], np.array([2.0, 2.0]))
    play(buffer, "-")
    assert buffer.priorities[2] == pytest.approx(9.0)
    assert buffer.max_priority == pytest.approx(9.0)


def test_priorities_can_be_given_as_lists():
    buffer = state_buffer(10)
    play(buffer, "---")
    buffer.update_priorities([0, 2], [4.0, 5.0])  # type: ignore[arg-type]
    np.testing.assert_allclose(buffer.priorities[:3], [4.0, 1.0, 5.0])


@pytest.mark.parametrize("row", [-1, 3])
def test_a_row_that_holds_nothing_gets_no_priority(row):
    buffer = state_buffer(10)
    play(buffer, "---")
    with pytest.raises(IndexError, match=f"found rows {row} to {row} of the ring, expected 0 to 2: "):
        buffer.update_priorities(np.array([row]), np.ones(1))


def test_a_demonstration_that_is_not_there_gets_no_priority():
    buffer = state_buffer(10, demonstrations=five_demos())
    assert buffer.demonstrations.n_rows > 5
    with pytest.raises(IndexError, match="found rows 4 to 5 of the demonstrations, expected 0 to 4: "):
        buffer.update_priorities(np.array([14, 15]), np.ones(2))
    assert buffer.priorities[10:].tolist() == [1.0] * 5


def test_a_priority_whose_power_is_infinite_is_refused():
    buffer = state_buffer(10, priority_exponent=2.0)
    play(buffer, "-")
    with np.errstate(over="ignore"), pytest.raises(ValueError, match=r"found 1e\+300, whose power alpha=2.0 is infinite"):
        buffer.set_priorities(np.array([0]), np.array([1e300]))
    assert (buffer.priorities[0], buffer.max_priority) == (1.0, 1.0)


def test_the_last_priority_of_a_repeated_row_counts():
    buffer = state_buffer(4)
    play(buffer, "----")
    buffer.set_priorities(np.array([2, 1, 2, 2]), np.array([8.0, 5.0, 6.0, 3.0]))
    assert buffer.priorities == pytest.approx([1.0, 5.0, 3.0, 1.0])
    assert buffer.max_priority == 8.0


@pytest.mark.parametrize(
    ("errors", "message"),
    [([2.0, math.nan], "from nan to nan"), ([2.0, -0.5], "from -0.5 to 2.0"), ([2.0, math.inf], "from 2.0 to inf")],
)
@pytest.mark.parametrize("relative_priorities", [False, True])
def test_an_error_that_is_no_number_of_at_least_0_is_refused_by_name(errors, message, relative_priorities):
    buffer = state_buffer(4, relative_priorities=relative_priorities)
    play(buffer, "----")
    with pytest.raises(ValueError, match=f"found errors {message}, expected finite numbers >= 0"):
        buffer.set_priorities(np.array([0, 1]), np.array(errors))
    assert buffer.priorities.tolist() == [1.0] * 4
    assert (buffer.max_priority, buffer._mean_error.count) == (1.0, 0)


def test_demos_only_draws_demonstrations_in_proportion_to_their_priorities():
    np.random.seed(5)
    buffer = state_buffer(20, priority_exponent=1.0, demonstrations=five_demos())
    play(buffer, "-" * 10)
    buffer.set_priorities(np.arange(5), np.array([1.0, 2.0, 3.0, 4.0, 5.0]))
    draws = buffer.rows(np.array([buffer.sample_batch(1, demos_only=True).indices[0] for _ in range(3000)]))
    # Shares of 15, times 3000
    assert chisquare(np.bincount(draws, minlength=5), [200, 400, 600, 800, 1000]).pvalue > 0.001
    batch = buffer.sample_batch(4, demos_only=True)
    assert batch.is_demo.all()
    # Importance weights follow the priorities here, too: p_min / p_i with alpha = beta = 1
    priorities = buffer.rows(batch.indices) + 1.0
    assert numbers(batch.weights) == pytest.approx((priorities.min() / priorities).tolist())


# --- What a priority is made of --------------------------------------------------------------------------------------


def test_a_priority_is_the_error_with_eps_and_for_demonstrations_with_eps_d():
    buffer = state_buffer(4, demonstrations=five_demos(), priority_epsilon=0.125, demo_bonus=2.0, priority_exponent=0.5)
    play(buffer, "--")
    # Rows 1 and 4 are demonstrations: 3 + 1/8 + 2 and 0 + 1/8 + 2; rows 5 and 6 are the agent's: 0.5 + 1/8 and 0 + 1/8
    given = buffer.set_priorities([1, 5, 4, 6], np.array([3.0, 0.5, 0.0, 0.0]))
    assert given.tolist() == [5.125, 0.625, 2.125, 0.125]
    assert buffer.priorities == pytest.approx([0.625, 0.125, 0, 0, 1, 5.125, 1, 1, 2.125])
    assert buffer.max_priority == 5.125


def test_constants_have_their_documented_defaults():
    buffer = PickedRows(4, STATE_SPACE, ACTION_SPACE, device="cpu", demonstrations=five_demos())
    play(buffer, "-")
    assert buffer.set_priorities([0, 5], np.array([0.0, 0.0])).tolist() == pytest.approx([1.000001, 0.000001], rel=1e-12)


# --- Stratified draws over both stores -------------------------------------------------------------------------------


def trees(weights: list[float], n_demos: int) -> tuple[SumTree, SumTree]:
    return tuple(SumTree.from_weights(len(part), np.array(part)) for part in (weights[:n_demos], weights[n_demos:]))  # type: ignore[return-value]


def drawn_rows(n_draws: int, demonstrations: SumTree, ring: SumTree) -> np.ndarray:
    """:return: The rows of the demonstrations, and behind them those of the ring"""
    (rows, n_demos), _ = draw_by_priority(1, n_draws, demonstrations, ring)
    return rows + demonstrations.capacity * (np.arange(len(rows)) >= n_demos)


@pytest.mark.parametrize("size", [15, 17, 4096, 4097, 70_000])
@pytest.mark.parametrize("n_draws", [1, 7, 256])
def test_one_row_is_drawn_from_every_equal_share_of_both_stores(size, n_draws):
    np.random.seed(0)
    weights = np.random.randint(-10, 10, size=size).clip(0).astype(np.float64)
    weights[-1] = 5.0
    demonstrations, ring = trees(weights.tolist(), size // 3)
    indices = drawn_rows(n_draws, demonstrations, ring)
    sums, share = np.cumsum(weights), weights.sum() / n_draws
    # Draw k lies between k and k + 1 shares: so does a part of what belongs to its index
    assert (sums[indices] > np.arange(n_draws) * share).all()
    assert (sums[indices] - weights[indices] < np.arange(1, n_draws + 1) * share).all()


@pytest.mark.parametrize("rank", range(3))
@pytest.mark.parametrize("n_demos", [1, 2, 3])
def test_each_stratified_draw_follows_the_weights_of_its_share(rank, n_demos):
    np.random.seed(2)
    # Shares of 2.5: [0, 2.5), [2.5, 5), [5, 7.5), and [7.5, 10) for the last row alone; rows end at 1, 3, 6, 10
    stores = trees([1.0, 2.0, 3.0, 4.0], n_demos)
    expected = np.array([[1.0, 1.5, 0, 0], [0, 0.5, 2.0, 0], [0, 0, 1.0, 1.5]])[rank] / 2.5
    counts = np.bincount([drawn_rows(4, *stores)[rank] for _ in range(5000)], minlength=4)
    assert (counts[expected == 0] == 0).all()
    assert chisquare(counts[expected > 0], 5000 * expected[expected > 0]).pvalue > 0.001


def test_equal_weights_are_drawn_once_each():
    assert drawn_rows(64, *trees([1.0] * 64, 10)).tolist() == list(range(64))


def test_draws_follow_the_weights_of_both_stores():
    np.random.seed(1)
    weights = np.zeros(70_000)
    positive = np.sort(np.random.permutation(70_000)[:40])
    weights[positive] = np.random.exponential(size=40) + 0.05
    demonstrations, ring = trees(weights.tolist(), 30_000)
    # The draws of one call are stratified, which a chi-square test does not expect: one from each
    draws = np.array([drawn_rows(1, demonstrations, ring)[0] for _ in range(30_000)])
    counts = np.bincount(draws, minlength=70_000)
    assert counts.sum() == counts[positive].sum()
    assert chisquare(counts[positive], weights[positive] / weights.sum() * 30_000).pvalue > 0.001


@pytest.mark.parametrize(("weights", "drawn"), [([0.0, 0.0, 1.0, 0.0, 3.0], {2, 4}), ([1.0, 3.0, 0.0, 0.0, 0.0], {0, 1})])
def test_a_store_of_weight_0_is_never_drawn_from(weights, drawn):
    np.random.seed(0)
    assert set(drawn_rows(1000, *trees(weights, 2))) == drawn


def test_demonstrations_alone_are_drawn_from_their_own_total():
    np.random.seed(0)
    (rows, n_demos), _ = draw_by_priority(1, 1000, trees([1.0, 0.0, 3.0, 1000.0], 3)[0], None)
    assert (set(rows), n_demos) == ({0, 2}, 1000)


# --- A fixed share of demonstrations ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("demo_fraction", "expected"), [(0.0, 0), (0.25, 4), (0.5, 8), (1.0, 16)])
def test_each_batch_has_exactly_the_share_of_demonstrations_asked_for(demo_fraction, expected):
    np.random.seed(6)
    buffer = state_buffer(20, demo_fraction=demo_fraction, demonstrations=five_demos())
    play(buffer, "-" * 3)
    for _ in range(20):
        batch = buffer.sample_batch(16, beta=1.0)
        assert int(batch.is_demo.sum()) == expected
        assert buffer.rows(batch.indices).max() < 8


def test_a_fixed_share_is_drawn_uniformly_with_weights_of_1_whatever_the_priorities():
    np.random.seed(7)
    buffer = state_buffer(20, demo_fraction=0.25, n_envs=2, demonstrations=five_demos())
    play(buffer, "-" * 3, "-" * 3)
    buffer.set_priorities(np.arange(11), np.arange(1.0, 12.0) ** 3)
    batch = buffer.sample_batch(40_000, beta=1.0)
    assert numbers(batch.weights) == [1.0] * 40_000
    # 10,000 draws of 5 demonstrations, 30,000 of the 3 x 2 other rows
    assert chisquare(np.bincount(buffer.rows(batch.indices)), [2000] * 5 + [5000] * 6).pvalue > 0.001


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
