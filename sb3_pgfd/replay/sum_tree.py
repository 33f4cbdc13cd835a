"""Sampling in proportion to priorities, in O(log n)."""

from functools import lru_cache
from typing import Any

import numpy as np

FAN_OUT = 16
# A level this small is searched at once with a cumulative sum, which is cheaper than gathering down to a single root.
MAX_TOP_SIZE = 4096
# _EXCLUSIVE_SUMS @ children gives [0, w_0, w_0 + w_1, ..., sum of all]: several times faster than `cumsum` of short rows
_EXCLUSIVE_SUMS = np.tril(np.ones((FAN_OUT + 1, FAN_OUT)), k=-1)
# A product may add up each column in another order, so sums of the same weights differ by up to 15 roundings
_BELOW_ALL_ROUNDINGS = 1.0 - 2.0**-48


@lru_cache
def machine_code() -> Any:
    """:return: The loops in machine code, None: numba is not installed. It is imported when the first tree is used"""
    try:
        from sb3_pgfd.replay import sum_tree_loops
    except (ImportError, RuntimeError):
        # A RuntimeError: numba finds no folder that it may write its cache to
        return None
    return sum_tree_loops


class SumTree:
    """
    Sums of non-negative weights, arranged so that drawing an index in proportion to its weight and changing weights
    both cost O(log n) vectorised NumPy operations (Schaul et al. 2016, arXiv 1511.05952, appendix B.2.1).

    ``levels[0]`` holds the weights (the leaves), ``levels[k + 1][i]`` the sum of the 16 entries
    ``levels[k][16 * i : 16 * (i + 1)]``. The topmost level is not reduced to one root: it is searched whole.

    A parent is always recomputed from its children, never corrected by a difference, so that rounding errors do not
    add up over millions of updates.

    :param capacity: Number of weights, all 0 at first
    :raises ValueError: If ``capacity`` is not positive
    """

    def __init__(self, capacity: int):
        if capacity < 1:
            raise ValueError(f"SumTree: found capacity={capacity}, expected at least 1")
        self.capacity = capacity
        self.levels: list[np.ndarray] = []
        size = capacity
        while True:
            is_top = size <= MAX_TOP_SIZE
            padded = size if is_top else -(-size // FAN_OUT) * FAN_OUT
            self.levels.append(np.zeros(padded, dtype=np.float64))
            if is_top:
                break
            size = padded // FAN_OUT
        # [0, w_0, w_0 + w_1, ...] of the top level, rebuilt at the first draw after a change
        self._top_sums = np.zeros(len(self.levels[-1]) + 1)
        self._top_changed = False

    @classmethod
    def from_weights(cls, capacity: int, weights: np.ndarray) -> "SumTree":
        """
        The tree that :meth:`update` would make, bit for bit, in less memory.

        :param capacity: Number of weights
        :param weights: The first of them, the others are 0; finite and not negative
        """
        tree = cls(capacity)
        tree.levels[0][: len(weights)] = weights
        for children, parents in zip(tree.levels, tree.levels[1:], strict=False):
            blocks = children.reshape(-1, FAN_OUT)
            blocks.sum(axis=1, out=parents[: len(blocks)])
        tree._top_changed = True
        return tree

    @property
    def weights(self) -> np.ndarray:
        """The weights, shape ``(capacity,)``, float64: a read-only view."""
        view = self.levels[0][: self.capacity]
        view.flags.writeable = False
        return view

    @property
    def total(self) -> float:
        """The sum of all weights."""
        return float(self._top_exclusive_sums()[-1])

    @property
    def nbytes(self) -> int:
        """Memory of all levels in bytes: 8 per weight, and about a fifteenth of that for the sums above."""
        return sum(level.nbytes for level in self.levels)

    def update(self, indices: np.ndarray, weights: np.ndarray | float, check: bool = True) -> None:
        """
        Set some weights. Where an index is repeated, its last weight counts.

        :param indices: Integers in ``[0, capacity)``, shape ``(n,)``
        :param weights: Finite and not negative, shape ``(n,)``, or one number for all
        :param check: Whether to check both. A caller who did saves a third of the time of a small update
        :raises IndexError: If an index lies outside
        :raises ValueError: If a weight is negative, infinite or not a number
        """
        indices = np.asarray(indices, dtype=np.int64)
        weights = np.asarray(weights, dtype=np.float64)
        if indices.size == 0:
            return
        if check:
            self._check(indices, weights)
        self.levels[0][indices] = weights
        for children, parents in zip(self.levels, self.levels[1:], strict=False):
            indices = indices // FAN_OUT
            if (loops := machine_code()) is not None:
                loops.sum_blocks(children, parents, indices)
            else:
                parents[indices] = np.add.reduce(children.reshape(-1, FAN_OUT).take(indices, axis=0), axis=1)
        self._top_changed = True

    def _check(self, indices: np.ndarray, weights: np.ndarray) -> None:
        low, high = indices.min(), indices.max()
        if low < 0 or high >= self.capacity:
            raise IndexError(f"SumTree: found index {low if low < 0 else high}, expected 0 to {self.capacity - 1}")
        # One comparison catches negative numbers and NaN, the other infinity
        if not (weights.min() >= 0.0 and weights.max() < np.inf):
            raise ValueError(f"SumTree: found weights from {weights.min()} to {weights.max()}, expected finite and >= 0")

    def find(self, prefix_sums: np.ndarray) -> np.ndarray:
        """
        The inverse of the cumulative sum: for each number x the index i with
        ``sum(weights[:i]) <= x < sum(weights[:i + 1])``. An index of weight 0 is never returned.

        :param prefix_sums: Numbers in ``[0, total)``, shape ``(n,)``. What lies above by a rounding error is taken
            for the last index of positive weight.
        :return: Indices, shape ``(n,)``, int64
        :raises ValueError: If all weights are 0
        """
        indices = self._descend(prefix_sums)
        if machine_code() is not None:
            return indices
        # The last bits of a sum can put a number beside an interval: then once more, with an eye on each weight
        if np.count_nonzero(self.levels[0].take(indices)) < len(indices):
            indices = self._descend(prefix_sums, skip_zeros=True)
        return indices

    def _descend(self, prefix_sums: np.ndarray, skip_zeros: bool = False) -> np.ndarray:
        top = self._top_exclusive_sums()
        if not top[-1] > 0.0:
            raise ValueError("SumTree: found no positive weight, expected at least one: nothing can be drawn")
        rest = np.minimum(prefix_sums, top[-1] * _BELOW_ALL_ROUNDINGS)
        if (loops := machine_code()) is not None:
            indices = np.empty(len(rest), dtype=np.int64)
            loops.find_in_sums(top, rest, indices)
            for level in self.levels[-2::-1]:
                loops.find_in_blocks(level, rest, indices)
            return indices
        indices = top[1:].searchsorted(rest, side="right")
        rest = rest - top.take(indices)

        columns = np.arange(len(rest))
        for level in self.levels[-2::-1]:
            # One child a row, so that all n draws lie side by side in memory
            children = level.reshape(-1, FAN_OUT).take(indices, axis=0).T  # (16, n)
            sums = _EXCLUSIVE_SUMS @ children  # (17, n)
            if skip_zeros:
                rest = np.minimum(rest, sums[-1] * _BELOW_ALL_ROUNDINGS)
                child = ((sums[1:] > rest) & (children > 0.0)).argmax(axis=0)
            else:
                # Counted in single bytes, at most 15
                child = np.add.reduce((sums[1:-1] <= rest).view(np.int8), axis=0, dtype=np.int8).astype(np.intp)
            rest = rest - sums[child, columns]
            indices = indices * FAN_OUT + child
        return indices

    def _top_exclusive_sums(self) -> np.ndarray:
        if self._top_changed:
            if (loops := machine_code()) is not None:
                loops.cumulate(self.levels[-1], self._top_sums)
            else:
                np.cumsum(self.levels[-1], out=self._top_sums[1:])
            self._top_changed = False
        return self._top_sums
