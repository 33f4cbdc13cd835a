"""
Next observations for sources that hold one observation per step, and none after the last.

The following row of the same episode is the next observation. The last step of an episode has no following row. If it is
terminal it is kept with its own observation in place of the next one, which nothing reads: a terminal state is not
bootstrapped from. Otherwise it is dropped and the step before it, whose next observation is known, ends the episode as
truncated; an episode of one such step vanishes.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from sb3_pgfd.demonstrations.arrays import map_observations, owned
from sb3_pgfd.demonstrations.errors import DemonstrationsError
from sb3_pgfd.demonstrations.validation import Observations


@dataclass(frozen=True)
class Shifted:
    """What is left of N rows, M of them."""

    rows: np.ndarray
    """Which rows were kept, shape ``(N,)``, bool: for actions, rewards and the like"""
    observations: Observations
    """Of the kept rows, shape ``(M, *obs_shape)``, or a mapping of such arrays"""
    next_observations: Observations
    """As ``observations``"""
    terminated: np.ndarray
    """Shape ``(M,)``, bool"""
    truncated: np.ndarray
    """Shape ``(M,)``, bool: where an episode ends without being terminated"""
    episodes: np.ndarray
    """Numbers of the episodes that have a row left, ascending, int64: for facts about whole episodes"""
    episode_lengths: np.ndarray
    """Kept rows of each of these"""

    def fields(self) -> dict[str, Any]:
        """:return: The fields of a dataset that this knows"""
        names = ("observations", "next_observations", "terminated", "truncated", "episode_lengths")
        return {name: getattr(self, name) for name in names}


def shift(observations: Observations, terminated: np.ndarray, ended: np.ndarray) -> Shifted:
    """
    :param observations: One for each of N steps, episode by episode; a mapping of arrays if there are keys
    :param terminated: Whether the step reached a terminal state, shape ``(N,)``, bool; read where an episode ends
    :param ended: Whether the step is the last of its episode, shape ``(N,)``, bool; the last row counts as such
    :raises DemonstrationsError: If no row is left
    """
    ended = np.array(ended, dtype=bool)
    ended[-1:] = True
    rows = ~ended | terminated
    if not rows.any():
        raise DemonstrationsError(
            f"observations: found {len(ended)} steps without a known next observation, expected at least one with it: "
            "the last step of an episode that is not terminal is dropped"
        )
    episode = np.cumsum(ended) - ended
    episodes, lengths = np.unique(episode[rows], return_counts=True)
    last = np.zeros(int(lengths.sum()), dtype=bool)
    last[np.cumsum(lengths) - 1] = True
    is_terminal = (ended & terminated)[rows]
    following = np.flatnonzero(rows)
    following[~is_terminal] += 1
    return Shifted(
        rows=rows,
        observations=map_observations(observations, lambda array: array if rows.all() else owned(array[rows])),
        next_observations=map_observations(observations, lambda array: owned(array[following])),
        terminated=owned(is_terminal),
        truncated=owned(last & ~is_terminal),
        episodes=episodes,
        episode_lengths=lengths,
    )
