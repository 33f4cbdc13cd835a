"""Sums of weights, against a plain list."""

import math
from collections.abc import Iterator
from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sb3_pgfd.replay import SumTree, sum_tree

# Around the fan-out of 16, around the largest level that is searched at once (4096), and three levels
SIZES = (1, 15, 16, 17, 4096, 4097, 70_000)
# Sums of whole numbers have no rounding error, whatever their order
WHOLE = st.just(0.0) | st.integers(0, 1000).map(float)
# Twenty orders of magnitude apart: most sums round
ROUGH = st.just(0.0) | st.floats(1e-10, 1e10)


@pytest.fixture(autouse=True, scope="module", params=["NumPy", *(["machine code"] if find_spec("numba") else [])])
def loops(request: pytest.FixtureRequest) -> Iterator[None]:
    """All tests of the tree hold for both implementations of its loops."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "NumPy":
            patch.setattr(sum_tree, "machine_code", lambda: None)
        else:
            assert sum_tree.machine_code() is not None
        yield


def random_weights(size: int) -> np.ndarray:
    """Whole numbers, about half of them 0, the last one positive."""
    weights = np.random.randint(-10, 10, size=size).clip(0).astype(np.float64)
    weights[-1] = 5.0
    return weights


def filled_tree(weights: np.ndarray) -> SumTree:
    tree = SumTree(len(weights))
    tree.update(np.arange(len(weights)), weights)
    return tree


def batches(weight: st.SearchStrategy[float]) -> st.SearchStrategy[tuple[int, list[list[tuple[int, float]]]]]:
    """A size, and some updates of it: lists of index and weight, with repetitions."""

    def of_size(size: int) -> st.SearchStrategy[tuple[int, list[list[tuple[int, float]]]]]:
        # Neighbours too, not only indices far apart
        index = st.integers(0, size - 1) | st.integers(0, min(size, 20) - 1)
        update = st.lists(st.tuples(index, weight), min_size=1, max_size=20)
        return st.tuples(st.just(size), st.lists(update, min_size=1, max_size=4))

    return st.sampled_from(SIZES).flatmap(of_size)


def apply_batches(size: int, updates: list[list[tuple[int, float]]]) -> tuple[SumTree, list[float]]:
    tree, naive = SumTree(size), [0.0] * size
    for update in updates:
        tree.update(np.array([index for index, _ in update]), np.array([weight for _, weight in update]))
        for index, weight in update:
            naive[index] = weight
    return tree, naive


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("spare", [0, 1, 5000])
def test_a_tree_made_from_weights_is_the_updated_one_bit_for_bit(size, spare):
    weights = np.random.default_rng(0).lognormal(sigma=10.0, size=size)
    updated = SumTree(size + spare)
    updated.update(np.arange(size), weights)
    made = SumTree.from_weights(size + spare, weights)
    assert [level.tobytes() for level in made.levels] == [level.tobytes() for level in updated.levels]
    assert made.total == updated.total > 0.0


@settings(deadline=None)
@given(batches(WHOLE))
def test_weights_and_total_are_those_of_a_list(case):
    tree, naive = apply_batches(*case)
    assert tree.weights.tolist() == naive
    assert tree.total == sum(naive)


@settings(deadline=None)
@given(batches(WHOLE))
def test_every_parent_is_the_sum_of_its_16_children(case):
    tree, _ = apply_batches(*case)
    assert len(tree.levels[-1]) <= 4096
    for children, parents in zip(tree.levels, tree.levels[1:], strict=False):
        assert parents.tolist() == [math.fsum(children[16 * i : 16 * i + 16]) for i in range(len(parents))]


@settings(deadline=None)
@given(batches(WHOLE))
def test_find_inverts_the_cumulative_sum(case):
    tree, naive = apply_batches(*case)
    positive = [index for index, weight in enumerate(naive) if weight > 0]
    start, numbers, expected = 0.0, [], []
    for index in positive:
        # The first number that belongs to an index, one in its middle and the last one
        numbers += [start, start + naive[index] / 2, np.nextafter(start + naive[index], 0.0)]
        expected += 3 * [index]
        start += naive[index]
    if positive:
        assert tree.find(np.array(numbers)).tolist() == expected


@pytest.mark.parametrize("size", SIZES)
def test_find_gives_each_index_of_a_full_tree_back(size):
    np.random.seed(size)
    weights = random_weights(size)
    positive = np.flatnonzero(weights)
    first_numbers = np.cumsum(weights)[positive] - weights[positive]
    np.testing.assert_array_equal(filled_tree(weights).find(first_numbers), positive)


@settings(deadline=None)
@given(batches(ROUGH))
def test_find_never_returns_an_index_of_weight_0(case):
    tree, naive = apply_batches(*case)
    if tree.total == 0.0:
        return
    sums = np.cumsum(naive)
    numbers = np.unique(sums[np.flatnonzero(naive)])
    numbers = np.concatenate(([0.0], numbers, np.nextafter(numbers, 0.0), np.nextafter(numbers, np.inf), [2 * tree.total]))
    assert tree.weights[tree.find(numbers)].min() > 0.0
    # A single draw takes another path through the linear algebra library
    assert all(tree.weights[tree.find(numbers[k : k + 1])[0]] > 0.0 for k in range(len(numbers)))


@settings(deadline=None)
@given(batches(ROUGH))
def test_find_is_wrong_by_no_more_than_rounding(case):
    tree, naive = apply_batches(*case)
    if tree.total == 0.0:
        return
    numbers = np.linspace(0.0, tree.total, 50, endpoint=False)
    sums, slack = np.cumsum(naive), 1e-12 * tree.total
    found = tree.find(numbers)
    assert (sums[found] - np.asarray(naive)[found] <= numbers + slack).all()
    assert (numbers <= sums[found] + slack).all()


def test_find_never_returns_an_index_of_weight_0_where_a_parent_exceeds_its_children_by_rounding():
    np.random.seed(0)
    for _ in range(100):
        weights = np.zeros(4097)
        # Parents are summed pairwise, children one after another: in the last bits, these often differ
        weights[1:16] = np.random.exponential(size=15)
        tree = filled_tree(weights)
        assert 1 <= tree.find(np.array([np.nextafter(tree.total, 0.0)]))[0] <= 15


def test_find_never_returns_an_index_of_weight_0_where_the_product_adds_in_another_order():
    # Found by chance: the last column of the product was 1 bit above the one before it
    weights = np.zeros(4097)
    weights[[0, 2, 3]] = 5197932437.19, 3392002155.0, 1.750349521636963
    tree = filled_tree(weights)
    numbers = np.array([tree.total, np.nextafter(tree.total, 0.0), weights[0] + weights[2]])
    assert tree.find(numbers).tolist() == [3, 3, 3]


def test_find_never_returns_an_index_of_weight_0_whatever_the_order_a_library_adds_in(monkeypatch):
    weights = np.zeros(4097)
    weights[[0, 2]] = 3.0, 1.0
    tree = filled_tree(weights)
    assert tree.find(np.array([3.0])).tolist() == [2]
    # A sum of the first two weights that rounds up, so that the second, which is 0, seems to have a share
    rounded = sum_tree._EXCLUSIVE_SUMS.copy()
    rounded[2] *= 1.0 + 2.0**-50
    monkeypatch.setattr(sum_tree, "_EXCLUSIVE_SUMS", rounded)
    assert tree.find(np.array([3.0])).tolist() == [2]


def test_numbers_beyond_the_total_are_taken_for_the_last_positive_index():
    tree = filled_tree(np.array([1.0, 2.0, 0.0]))
    assert tree.find(np.array([2.9, 3.0, np.nextafter(3.0, 4.0)])).tolist() == [1, 1, 1]


@pytest.mark.parametrize("size", SIZES)
def test_levels_are_equal_bit_for_bit_whichever_order_updates_came_in(size):
    np.random.seed(size)
    weights = np.random.exponential(size=size)
    one_update = filled_tree(weights)
    many_updates = filled_tree(np.random.exponential(size=size))
    for indices in np.array_split(np.random.permutation(size), min(size, 40)):
        many_updates.update(indices, weights[indices])
    for level, other in zip(one_update.levels, many_updates.levels, strict=True):
        assert level.tobytes() == other.tobytes()
    assert one_update.total == many_updates.total


def test_rounding_errors_do_not_add_up_over_many_updates():
    np.random.seed(0)
    tree = SumTree(70_000)
    for _ in range(300):
        indices = np.random.randint(0, 70_000, size=256)
        tree.update(indices, np.random.exponential(size=256) * 1e12)
    tree.update(np.arange(70_000), 1.0)
    assert tree.total == 70_000.0


def test_the_last_weight_of_a_repeated_index_counts():
    tree = SumTree(4097)
    tree.update(np.array([3, 4096, 3, 3]), np.array([7.0, 5.0, 9.0, 2.0]))
    assert tree.weights[3] == 2.0
    assert tree.total == 2.0 + 5.0


def test_one_weight_can_be_given_for_all_indices():
    tree = SumTree(17)
    tree.update(np.arange(17), 2.0)
    assert tree.total == 34.0


def test_an_empty_update_changes_nothing():
    tree = filled_tree(np.array([1.0, 2.0]))
    tree.update(np.array([], dtype=np.int64), np.array([]))
    assert tree.weights.tolist() == [1.0, 2.0]


def test_weights_are_read_only():
    tree = filled_tree(np.array([1.0, 2.0]))
    with pytest.raises(ValueError, match="read-only"):
        tree.weights[0] = 5.0


@pytest.mark.parametrize("capacity", [0, -3])
def test_a_capacity_below_1_is_refused(capacity):
    with pytest.raises(ValueError, match=f"capacity={capacity}"):
        SumTree(capacity)


@pytest.mark.parametrize("index", [-1, 17])
def test_an_index_outside_is_refused(index):
    # 17 weights take 17 places, 4097 take 4112: places that pad a level are outside, too
    with pytest.raises(IndexError, match=f"index {index}, expected 0 to 16"):
        SumTree(17).update(np.array([0, index]), 1.0)
    with pytest.raises(IndexError, match="index 4097, expected 0 to 4096"):
        SumTree(4097).update(np.array([4097]), 1.0)


@pytest.mark.parametrize("weight", [-1.0, -1e-300, math.nan, math.inf])
def test_a_weight_that_is_no_weight_is_refused_and_changes_nothing(weight):
    tree = filled_tree(np.array([1.0, 2.0]))
    with pytest.raises(ValueError, match="expected finite and >= 0"):
        tree.update(np.array([0, 1]), np.array([5.0, weight]))
    assert tree.weights.tolist() == [1.0, 2.0]


@pytest.mark.parametrize("size", SIZES)
def test_nothing_can_be_drawn_without_a_positive_weight(size):
    with pytest.raises(ValueError, match="found no positive weight"):
        SumTree(size).find(np.zeros(1))


def test_memory_is_8_bytes_per_weight_and_little_above_them():
    tree = SumTree(1_000_000)
    # 1,000,000 leaves; 62,500 sums, 62,512 with padding; 3,907 sums of those at the top
    assert tree.nbytes == 8 * (1_000_000 + 62_512 + 3_907)
