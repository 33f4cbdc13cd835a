"""How far each row is from the end of its episode."""

import numpy as np

from sb3_pgfd.replay.n_step import RowLayout

# Of a row whose episode goes on at the write head. Such a row is bounded by the head
_RUNNING = np.iinfo(np.int32).max


class EpisodeEnds:
    """
    How many transitions of its own episode follow each row. Reading takes O(1) per row; a step of the environments takes
    O(1) too on average, as the rows of an episode are written once, when the first step after it is stored: only then is
    it known whether the episode was interrupted.

    :param ended: Whether each stored transition was the last of its episode, shape ``(n_rows,)``, bool
    :param layout: Where successors lie
    :param n_steps: How many steps of all environments the ring holds
    """

    def __init__(self, ended: np.ndarray, layout: RowLayout, n_steps: int):
        self._following = np.full(len(ended), _RUNNING, dtype=np.int32)
        demonstrations = slice(0, layout.n_demonstrations)
        self._following[demonstrations] = _until_end(ended[demonstrations])
        ring = layout.ring_rows(n_steps)
        self._following[ring] = _until_end(ended[ring])
        # Rows of each environment's running episode, shape (n_envs,)
        self._n_running = (self._following[ring] == _RUNNING).sum(axis=1)

    @property
    def nbytes(self) -> int:
        """Memory in bytes."""
        return self._following.nbytes

    def add_step(self, ended: np.ndarray, layout: RowLayout) -> None:
        """
        Take in the step of all environments at the head.

        :param ended: As above; final for the step before
        :param layout: Where successors lie
        """
        n_demonstrations, n_envs, ring_size, head = layout
        environments = np.arange(n_envs)
        previous = (head - n_envs) % ring_size + environments
        for i in np.flatnonzero(ended[n_demonstrations + previous]):
            back = np.arange(self._n_running[i])
            self._following[n_demonstrations + (previous[i] - back * n_envs) % ring_size] = back
            self._n_running[i] = 0
        self._following[n_demonstrations + head + environments] = _RUNNING
        self._n_running = np.minimum(self._n_running + 1, ring_size // n_envs)

    def steps_left(self, rows: np.ndarray, layout: RowLayout) -> np.ndarray:
        """
        :param rows: Rows that hold a transition, shape ``(n,)``
        :param layout: Where successors lie
        :return: How many stored transitions of the same episode follow each, shape ``(n,)``, int
        """
        return layout.up_to_head(rows, self._following.take(rows))


def _until_end(ended: np.ndarray) -> np.ndarray:
    """
    :param ended: Shape ``(..., n)``, bool, in the order of time
    :return: Steps from each place to the next that ended, shape ``(..., n)``, int32
    """
    places = np.arange(ended.shape[-1], dtype=np.int32)
    ends = np.where(ended, places, _RUNNING)[..., ::-1]
    next_end = np.minimum.accumulate(ends, axis=-1)[..., ::-1]
    return np.where(next_end == _RUNNING, _RUNNING, next_end - places)
