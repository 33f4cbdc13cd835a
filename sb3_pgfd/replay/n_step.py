"""Rows of both stores, and n-step returns read off them: nothing is stored twice."""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch as th

from sb3_pgfd.replay.device_arrays import DeviceArray
from sb3_pgfd.replay.storage import TransitionStore, frames_column


class Rows(NamedTuple):
    """B rows of both stores."""

    numbers: np.ndarray
    """Row numbers, shape ``(B, ...)``: first rows of the demonstration store, then rows of the ring"""
    n_demos: int
    """How many of the B lines are rows of the demonstration store"""

    def at(self, places: np.ndarray) -> "Rows":
        """:return: Some of the lines; ``places`` are in rising order"""
        return Rows(self.numbers[places], int(places.searchsorted(self.n_demos)))


class Stores(NamedTuple):
    """
    The two stores of a buffer, read together. In the demonstration store the successor of a row is the next row. In the
    ring one step of all environments takes ``n_envs`` consecutive rows, and the row after the last is the first.
    """

    demonstrations: TransitionStore
    ring: TransitionStore
    n_envs: int
    """Environments stepped together"""
    head: int
    """First ring row of the step that was written last, -1 if there is none"""

    @property
    def n_ring_steps(self) -> int:
        """Steps of all environments that the ring holds at most."""
        return self.ring.n_rows // self.n_envs

    def take(self, column: str, rows: Rows) -> np.ndarray:
        """
        :param column: Name of a column
        :param rows: Shape ``(B, ...)``; a row outside a store is read as the store's last
        :return: A copy, shape ``(B, ..., *column_shape)``
        """
        images = self.ring.schema.frames_of(column)
        if images is None:
            return _take(self.demonstrations.columns[column], self.ring.columns[column], rows)
        key, part = images
        numbers = self.take(frames_column(key), rows)[..., part]
        frames = _take(self.demonstrations.frames[key].frames, self.ring.frames[key].frames, Rows(numbers, rows.n_demos))
        return frames.reshape(*rows.numbers.shape, *self.ring.schema.obs_shapes[key])

    def gather(self, column: str, rows: Rows) -> th.Tensor:
        """:return: What :meth:`take` returns, as a tensor where the column is"""
        images, wanted = self.ring.schema.frames_of(column), rows.numbers
        if images is None:
            stored: Any = self.demonstrations.columns[column], self.ring.columns[column]
        else:
            stored = self.demonstrations.frames[images[0]].frames, self.ring.frames[images[0]].frames
            wanted = self.take(frames_column(images[0]), rows)[..., images[1]]
        if not isinstance(stored[0], DeviceArray):
            return th.from_numpy(self.take(column, rows))
        numbers = wanted[: rows.n_demos], wanted[rows.n_demos :]
        parts = [one.gather(of_one) for one, of_one in zip(stored, numbers, strict=True) if len(of_one)]
        return parts[0] if len(parts) == 1 else th.cat(parts)

    def weights(self, rows: Rows) -> np.ndarray:
        """:return: p^alpha of B rows, shape ``(B,)``"""
        return _take(self.demonstrations.tree.weights, self.ring.tree.weights, rows)

    def following(self, rows: Rows, steps: np.ndarray) -> Rows:
        """
        :param rows: Rows that hold a transition, shape ``(B, 1)`` or ``(B,)``
        :param steps: Transitions further on, of the same number of axes
        :return: The rows of the same episode so many transitions later. Behind the end of the episode and behind the
            head they mean nothing, and may lie outside of the store
        """
        stride = np.ones_like(rows.numbers)
        stride[rows.n_demos :] = self.n_envs
        found = rows.numbers + steps * stride
        in_ring = found[rows.n_demos :]
        np.subtract(in_ring, self.ring.n_rows, out=in_ring, where=in_ring >= self.ring.n_rows)
        return Rows(found, rows.n_demos)

    def steps_left(self, rows: Rows) -> np.ndarray:
        """
        :param rows: Rows that hold a transition, shape ``(B,)``
        :return: How many stored transitions of the same episode follow each, shape ``(B,)``: up to the end of the episode
            and, in the ring, to the step that was written last, behind which older data lie
        """
        left = self.take("steps_left", rows)
        if self.head >= 0:
            # Counted from the last row of the head's step, so that the division rounds to the same step for all
            # environments
            to_head = (self.head + self.n_envs - 1 - rows.numbers[rows.n_demos :]) % self.ring.n_rows // self.n_envs
            np.minimum(left[rows.n_demos :], to_head, out=left[rows.n_demos :], casting="unsafe")
        return left

    def ring_rows(self, n_steps: int) -> np.ndarray:
        """:return: Rows of the last steps in the ring, the oldest first, shape ``(n_envs, n_steps)``"""
        steps = (np.arange(1 - n_steps, 1) + self.head // self.n_envs) % (self.ring.n_rows // self.n_envs)
        return steps * self.n_envs + np.arange(self.n_envs)[:, None]

    def last_rows(self, env: int, n_steps: int) -> np.ndarray:
        """:return: Rows of an environment's last steps, as far as the ring still holds them, the oldest first"""
        return self.ring_rows(min(n_steps, self.ring.n_rows // self.n_envs))[env]


def _take(demonstrations: np.ndarray, ring: np.ndarray, rows: Rows) -> np.ndarray:
    numbers, n_demos = rows
    if isinstance(ring, DeviceArray):
        return np.concatenate((demonstrations[numbers[:n_demos]], ring[numbers[n_demos:]]))
    if n_demos == 0:
        return ring.take(numbers, axis=0, mode="clip")
    if n_demos == len(numbers):
        return demonstrations.take(numbers, axis=0, mode="clip")
    taken = np.empty((*numbers.shape, *ring.shape[1:]), dtype=ring.dtype)
    demonstrations.take(numbers[:n_demos], axis=0, out=taken[:n_demos], mode="clip")
    ring.take(numbers[n_demos:], axis=0, out=taken[n_demos:], mode="clip")
    return taken


@dataclass(frozen=True)
class NStepWindow:
    """The rows that follow each of B rows, up to n of them."""

    rows: Rows
    """Shape ``(B, n_steps)``: the row itself, its successor, ...; behind the end they mean nothing"""
    lengths: np.ndarray
    """Shape ``(B,)``: k >= 1, the number of rewards to sum"""

    @cached_property
    def included(self) -> np.ndarray:
        """Shape ``(B, n_steps)``, bool: the first k entries of each line."""
        return np.arange(self.rows.numbers.shape[1]) < self.lengths[:, None]

    @cached_property
    def ends(self) -> Rows:
        """Shape ``(B, 2)``: the first and the k-th rows, whose next observations are s' and the state after k steps."""
        numbers = self.rows.numbers
        last = numbers[np.arange(len(numbers)), self.lengths - 1]
        return Rows(two_columns(numbers[:, 0], last), self.rows.n_demos)


def two_columns(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """:return: Shape ``(B, 2)``; faster than ``np.stack``"""
    columns = np.empty((len(first), 2), dtype=first.dtype)
    columns[:, 0], columns[:, 1] = first, second
    return columns


def n_step_window(rows: Rows, n_steps: int, both: Stores) -> NStepWindow:
    """
    Follow each row for at most ``n_steps`` transitions of its own episode and environment.

    A window ends where an episode does, terminated or truncated, and at the write head, behind which older data lie. So
    every row has a window of at least one transition, and none is wasted.

    :param rows: Rows to start from, shape ``(B,)``
    :param n_steps: n, at least 1
    :param both: Where they lie
    """
    window = both.following(Rows(rows.numbers[:, None], rows.n_demos), np.arange(n_steps)[None, :])  # (B, n_steps)
    return NStepWindow(window, np.minimum(both.steps_left(rows), n_steps - 1) + 1)


@lru_cache
def discount_powers(gamma: float, n_steps: int) -> np.ndarray:
    """:return: gamma^0, ..., gamma^n, shape ``(n + 1,)``, read-only"""
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
