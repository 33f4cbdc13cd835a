"""n-step returns, read off the same rows as the 1-step transitions: nothing is stored twice."""

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


class NStepWindow(NamedTuple):
    """The rows that follow each sampled row, up to n of them."""

    rows: np.ndarray
    """Shape ``(batch, n_steps)``: the row itself, its successor, ...; entries that are not ``included`` repeat the first"""
    included: np.ndarray
    """Shape ``(batch, n_steps)``, bool: the first k entries of each line, k >= 1"""
    lengths: np.ndarray
    """Shape ``(batch,)``: k, the number of rewards to sum"""
    last_rows: np.ndarray
    """Shape ``(batch,)``: the k-th row, whose next observation is bootstrapped from"""


def n_step_window(
    rows: np.ndarray, n_steps: int, terminated: np.ndarray, truncated: np.ndarray, layout: RowLayout
) -> NStepWindow:
    """
    Follow each row for at most ``n_steps`` transitions of its own episode and environment.

    A window ends at a termination, at a truncation (the end of a demonstration is one of the two) and at the write
    head, behind which older data lie. So every row has a window of at least one transition and none is wasted.

    :param rows: Rows to start from, shape ``(batch,)``
    :param n_steps: n, at least 1
    :param terminated: Whether each stored transition ended its episode, shape ``(n_rows,)``, bool
    :param truncated: Whether it was the last before a time limit, shape ``(n_rows,)``, bool
    :param layout: Where successors lie
    """
    n_demonstrations, n_envs, ring_size, head = layout
    n_rows = n_demonstrations + ring_size
    steps = np.arange(n_steps)
    in_ring = rows >= n_demonstrations
    window = rows[:, None] + steps * np.where(in_ring, n_envs, 1)[:, None]  # (batch, n_steps)
    np.subtract(window, ring_size, out=window, where=window >= n_rows)

    # Behind the end of a window the rows mean nothing, they may even lie outside: "clip" keeps the look-up valid
    before_last = window[:, :-1]
    stops = terminated.take(before_last, mode="clip") | truncated.take(before_last, mode="clip")
    # A last column that always stops, so that argmax finds n_steps - 1 where nothing else does
    stops = np.concatenate((stops, np.ones((len(rows), 1), dtype=bool)), axis=1)
    lengths = stops.argmax(axis=1) + 1
    if head >= 0:
        steps_to_head = (head - (rows - n_demonstrations)) % ring_size // n_envs
        lengths = np.where(in_ring, np.minimum(lengths, steps_to_head + 1), lengths)
    last_rows = window[np.arange(len(rows)), lengths - 1]
    included = steps < lengths[:, None]
    return NStepWindow(np.where(included, window, rows[:, None]), included, lengths, last_rows)


def n_step_return(rewards: np.ndarray, included: np.ndarray, gamma: float) -> np.ndarray:
    """
    R_n = sum_{i < k} gamma^i r_i over the included rewards.

    :param rewards: Shape ``(batch, n_steps)``
    :param included: Shape ``(batch, n_steps)``, bool
    :param gamma: Discount factor
    :return: Shape ``(batch,)``, float32
    """
    discounts = gamma ** np.arange(rewards.shape[1])
    return ((rewards * included) @ discounts).astype(np.float32)
