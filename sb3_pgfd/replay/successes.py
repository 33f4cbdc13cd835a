"""The agent's own successful episodes, which become demonstrations."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from sb3_pgfd.demonstrations.recording.session import success_of
from sb3_pgfd.replay.n_step import RowLayout
from sb3_pgfd.replay.storage import TransitionStorage

# A buffer takes in demonstrations by copying what it holds: as seldom that per transition taken in, a hundred are copied
_SHARE_THAT_WAITS = 0.01
# Steps that are searched at first for the beginning of an episode, and each time so many times as many
_FIRST_LOOK, _LOOK_FURTHER = 256, 8


def last_episode(ended: np.ndarray, layout: RowLayout, n_steps: int, env: int) -> np.ndarray:
    """
    :param ended: Whether each stored transition was the last of its episode, shape ``(n_rows,)``, bool
    :param layout: Where successors lie
    :param n_steps: How many steps of all environments the ring holds
    :param env: Which environment
    :return: Rows of the episode that its last step belongs to, in the order of time; without the beginning if that was
        overwritten
    """
    n_looked = _FIRST_LOOK
    while True:
        rows = layout.ring_rows(min(n_looked, n_steps))[env]
        ends_before = np.flatnonzero(ended[rows[:-1]])
        if len(ends_before) > 0:
            return rows[ends_before[-1] + 1 :]
        if n_looked >= n_steps:
            return rows
        n_looked *= _LOOK_FURTHER


class Successes:
    """Those that wait until they are worth a copy of the buffer's arrays, and where the others are."""

    def __init__(self) -> None:
        self._waiting: list[TransitionStorage] = []
        # First row of some, and the row behind their last
        self._kept: list[tuple[int, int]] = []
        # Of each environment: whether the present episode was a success after its first step, before anything was done
        self._was_given: dict[int, bool] = {}

    def collect(
        self, storage: TransitionStorage, layout: RowLayout, n_steps: int, infos: Sequence[dict[str, Any]]
    ) -> TransitionStorage | None:
        """
        Take in the last step, and a copy of each episode that ended with it and was successful. One that was so from its
        first step on, like that of an object which lies at its goal, shows nothing.

        :param storage: Where they lie
        :param layout: Where successors lie
        :param n_steps: How many steps of all environments the ring holds
        :param infos: Of the last step, one per environment
        :return: All that wait, None if they are too few; they wait on until :meth:`keep`
        """
        *before, newest = layout.ring_rows(min(2, n_steps)).T
        begins = storage.ended[before[0]] if before else np.ones(len(newest), dtype=bool)
        ends = storage.ended[newest]
        for env in np.flatnonzero(begins & ~ends).tolist():
            self._was_given[env] = bool(success_of(infos[env]))
        for env in np.flatnonzero(ends).tolist():
            if success_of(infos[env]) and (begins[env] or not self._was_given.get(env)):
                self._waiting.append(storage.take(last_episode(storage.ended, layout, n_steps, env)))

        n_filled = layout.n_demonstrations + n_steps * layout.n_envs
        if not self._waiting or sum(waiting.n_rows for waiting in self._waiting) < _SHARE_THAT_WAITS * n_filled:
            return None
        return TransitionStorage.joined(self._waiting)

    def keep(self, first: int, n_rows: int) -> None:
        """
        What waited is among the demonstrations now.

        :param first: Row of its first transition
        :param n_rows: How many there are
        """
        self._waiting = []
        self._kept.append((first, first + n_rows))

    def mask(self, n_demonstrations: int) -> np.ndarray:
        """:return: Whether each demonstration is one of these, shape ``(n_demonstrations,)``, bool"""
        mask = np.zeros(n_demonstrations, dtype=bool)
        for first, end in self._kept:
            mask[first:end] = True
        return mask
