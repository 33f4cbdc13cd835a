"""n-step returns, read off the same rows as the 1-step transitions: nothing is stored twice."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np


class RowLayout(NamedTuple):
    """
    Where the successor of a row lies. Rows ``[0, n_demonstrations)`` hold demonstrations, one episode after another;
    the rows behind them are a ring in which one step of all environments takes ``n_envs`` consecutive rows.
    """

    n_demonstrations: int
    """Rows of demonstrations in front of the ring"""
    n_envs: int
    """Environments stepped together"""
    ring_size: int
    """Rows of the ring, a multiple of ``n_envs``"""
    head: int
    """First ring row (counted within the ring) of the step that was written last, -1 if there is none"""

    def following(self, rows: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """
        :param rows: Rows that hold a transition
        :param steps: How many transitions further on, broadcast against ``rows``
        :return: The row of the same demonstration, or environment, so many transitions later; behind the end of the
            episode and behind the head it means nothing, and may lie outside of the storage
        """
        n_demonstrations, n_envs, ring_size, _ = self
        found = rows + steps * np.where(rows >= n_demonstrations, n_envs, 1)
        np.subtract(found, ring_size, out=found, where=found >= n_demonstrations + ring_size)
        return found

    def up_to_head(self, rows: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """
        :param rows: Rows that hold a transition, shape ``(n,)``
        :param steps: How many transitions further on, shape ``(n,)``
        :return: The same, but in the ring not beyond the step that was written last: older data lie behind it
        """
        n_demonstrations, n_envs, ring_size, head = self
        if head < 0:
            return steps
        # Counted from the last row of the head's step, so that the division rounds to the same step for all environments
        steps_to_head = (head + n_envs - 1 - (rows - n_demonstrations)) % ring_size // n_envs
        return np.where(rows >= n_demonstrations, np.minimum(steps, steps_to_head), steps)

    def ring_rows(self, n_steps: int) -> np.ndarray:
        """
        :param n_steps: How many steps of all environments the ring holds
        :return: Their rows, the oldest first, shape ``(n_envs, n_steps)``
        """
        n_demonstrations, n_envs, ring_size, head = self
        steps = (np.arange(1 - n_steps, 1) + head // n_envs) % (ring_size // n_envs)
        return n_demonstrations + steps * n_envs + np.arange(n_envs)[:, None]


class NStepWindow(NamedTuple):
    """The rows that follow each sampled row, up to n of them."""

    rows: np.ndarray
    """Shape ``(batch, n_steps)``: the row itself, its successor, ...; behind the end they mean nothing, and may lie
    outside of the storage"""
    included: np.ndarray
    """Shape ``(batch, n_steps)``, bool: the first k entries of each line, k >= 1"""
    lengths: np.ndarray
    """Shape ``(batch,)``: k, the number of rewards to sum"""
    last_rows: np.ndarray
    """Shape ``(batch,)``: the k-th row, whose next observation is bootstrapped from"""


def n_step_window(rows: np.ndarray, n_steps: int, ended: np.ndarray, layout: RowLayout) -> NStepWindow:
    """
    Follow each row for at most ``n_steps`` transitions of its own episode and environment.

    A window ends where an episode does, terminated or truncated (every demonstration ends with one of the two), and at
    the write head, behind which older data lie. So every row has a window of at least one transition, none is wasted.

    :param rows: Rows to start from, shape ``(batch,)``
    :param n_steps: n, at least 1
    :param ended: Whether each stored transition was the last of its episode, shape ``(n_rows,)``, bool
    :param layout: Where successors lie
    """
    window = layout.following(rows[:, None], np.arange(n_steps))  # (batch, n_steps)

    # "clip": see NStepWindow.rows
    stops = ended.take(window, mode="clip")
    stops[:, -1] = True
    lengths = layout.up_to_head(rows, stops.argmax(axis=1)) + 1
    last_rows = window.ravel().take(np.arange(len(rows)) * n_steps + lengths - 1)
    return NStepWindow(window, np.arange(n_steps) < lengths[:, None], lengths, last_rows)


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

    :param rewards: Shape ``(batch, n_steps)``
    :param included: Shape ``(batch, n_steps)``, bool
    :param gamma: Discount factor
    :return: Shape ``(batch,)``, float64
    """
    return (rewards * included) @ discount_powers(gamma, rewards.shape[1])[:-1]
