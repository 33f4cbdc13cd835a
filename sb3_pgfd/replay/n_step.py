"""n-step returns, read off the same rows as the 1-step transitions: nothing is stored twice."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from sb3_pgfd.replay.storage import Columns


class Stores(NamedTuple):
    """
    A view of the two stores of a buffer, valid until one of them grows. Rows are given as one array whose first
    ``n_demos`` lines are rows of the demonstration store and whose other lines are rows of the ring.

    In the demonstration store the successor of a row is the next row. In the ring one step of all environments takes
    ``n_envs`` consecutive rows, and the row after the last is the first.
    """

    demonstrations: Columns
    ring: Columns
    n_envs: int
    """Environments stepped together"""
    n_ring_rows: int
    """Rows of the ring, a multiple of ``n_envs``"""
    head: int
    """First ring row of the step that was written last, -1 if there is none"""

    def take(self, column: str, rows: np.ndarray, n_demos: int) -> np.ndarray:
        """
        :param column: Name of a column
        :param rows: Shape ``(B, ...)``; a row outside a store is read as the store's last
        :param n_demos: Lines that are rows of the demonstration store
        :return: A copy, shape ``(B, ..., *column_shape)``
        """
        demonstrations, ring = self.demonstrations[column], self.ring[column]
        if n_demos == 0:
            return ring.take(rows, axis=0, mode="clip")
        if n_demos == len(rows):
            return demonstrations.take(rows, axis=0, mode="clip")
        taken = np.empty((*rows.shape, *ring.shape[1:]), dtype=ring.dtype)
        demonstrations.take(rows[:n_demos], axis=0, out=taken[:n_demos], mode="clip")
        ring.take(rows[n_demos:], axis=0, out=taken[n_demos:], mode="clip")
        return taken

    def following(self, rows: np.ndarray, n_demos: int, steps: np.ndarray) -> np.ndarray:
        """
        :param rows: Rows that hold a transition, shape ``(B, 1)`` or ``(B,)``
        :param n_demos: Lines that are rows of the demonstration store
        :param steps: Transitions further on, of the same number of axes
        :return: The row of the same episode so many transitions later. Behind the end of the episode and behind the
            head it means nothing, and may lie outside of the store
        """
        stride = np.ones_like(rows)
        stride[n_demos:] = self.n_envs
        found = rows + steps * stride
        in_ring = found[n_demos:]
        np.subtract(in_ring, self.n_ring_rows, out=in_ring, where=in_ring >= self.n_ring_rows)
        return found

    def up_to_head(self, rows: np.ndarray, n_demos: int, steps: np.ndarray) -> np.ndarray:
        """
        :param rows: Rows that hold a transition, shape ``(B,)``
        :param n_demos: Lines that are rows of the demonstration store
        :param steps: Transitions further on, shape ``(B,)``; those of the ring are changed in place
        :return: The same, but in the ring not beyond the step that was written last: older data lie behind it
        """
        if self.head >= 0:
            # Counted from the last row of the head's step, so that the division rounds to the same step for all
            # environments
            steps_to_head = (self.head + self.n_envs - 1 - rows[n_demos:]) % self.n_ring_rows // self.n_envs
            np.minimum(steps[n_demos:], steps_to_head, out=steps[n_demos:])
        return steps

    def ring_rows(self, n_steps: int) -> np.ndarray:
        """
        :param n_steps: How many steps of all environments
        :return: Rows of the last steps in the ring, the oldest first, shape ``(n_envs, n_steps)``
        """
        steps = (np.arange(1 - n_steps, 1) + self.head // self.n_envs) % (self.n_ring_rows // self.n_envs)
        return steps * self.n_envs + np.arange(self.n_envs)[:, None]

    def step_rows(self, back: int) -> np.ndarray:
        """:return: Rows of the step so many before the last, shape ``(n_envs,)``"""
        return (self.head - back * self.n_envs) % self.n_ring_rows + np.arange(self.n_envs)

    def last_rows(self, env: int, n_steps: int) -> np.ndarray:
        """:return: Rows of an environment's last steps, as far as the ring still holds them, the oldest first"""
        return self.ring_rows(min(n_steps, self.n_ring_rows // self.n_envs))[env]


class NStepWindow(NamedTuple):
    """The rows that follow each sampled row, up to n of them."""

    rows: np.ndarray
    """Shape ``(B, n_steps)``: the row itself, its successor, ...; behind the end they mean nothing"""
    included: np.ndarray
    """Shape ``(B, n_steps)``, bool: the first k entries of each line, k >= 1"""
    lengths: np.ndarray
    """Shape ``(B,)``: k, the number of rewards to sum"""
    last_rows: np.ndarray
    """Shape ``(B,)``: the k-th row, whose next observation is bootstrapped from"""


def n_step_window(rows: np.ndarray, n_demos: int, n_steps: int, both: Stores) -> NStepWindow:
    """
    Follow each row for at most ``n_steps`` transitions of its own episode and environment.

    A window ends where an episode does, terminated or truncated, and at the write head, behind which older data lie. So
    every row has a window of at least one transition, and none is wasted.

    :param rows: Rows to start from, shape ``(B,)``
    :param n_demos: The first so many are rows of the demonstration store
    :param n_steps: n, at least 1
    :param both: Where they lie
    """
    steps = np.arange(n_steps)
    window = both.following(rows[:, None], n_demos, steps[None, :])  # (B, n_steps)
    stops = both.take("ended", window, n_demos)
    stops[:, -1] = True
    lengths = both.up_to_head(rows, n_demos, stops.argmax(axis=1)) + 1
    last_rows = window.ravel().take(np.arange(len(rows)) * n_steps + lengths - 1)
    return NStepWindow(window, steps < lengths[:, None], lengths, last_rows)


@lru_cache
def discount_powers(gamma: float, n_steps: int) -> np.ndarray:
    """
    :param gamma: Discount factor
    :param n_steps: n
    :return: gamma^0, ..., gamma^n, shape ``(n + 1,)``, read-only
    """
    powers = gamma ** np.arange(n_steps + 1, dtype=np.float64)
    powers.flags.writeable = False
    return powers


def n_step_return(rewards: np.ndarray, included: np.ndarray, gamma: float) -> np.ndarray:
    """
    R_n = sum_{i < k} gamma^i r_i over the included rewards.

    :param rewards: Shape ``(B, n_steps)``
    :param included: Shape ``(B, n_steps)``, bool
    :param gamma: Discount factor
    :return: Shape ``(B,)``, float64
    """
    return (rewards * included) @ discount_powers(gamma, rewards.shape[1])[:-1]
