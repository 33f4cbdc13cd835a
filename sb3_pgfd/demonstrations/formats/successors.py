"""
Next observations and rewards for sources that lack them.

Next observations: a source may hold one observation per step, and none after the last. The following row of the same
episode is the next observation. The last step of an episode has no following row. If it is terminal it is kept with its own
observation in place of the next one, which nothing reads: a terminal state is not bootstrapped from. Otherwise it is dropped
and the step before it, whose next observation is known, ends the episode as truncated; an episode of one such step vanishes.

Rewards: the caller names one for the end of each episode, as demonstrations of a task are successes.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from sb3_pgfd.demonstrations.arrays import map_observations, owned
from sb3_pgfd.demonstrations.errors import DemonstrationsError
from sb3_pgfd.demonstrations.validation import Observations
from sb3_pgfd.utils.checks import is_number


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


def check_final_reward(final_reward: float | None, has_rewards: bool) -> None:
    """
    :param final_reward: What the caller asks for
    :param has_rewards: Whether the source holds rewards
    :raises DemonstrationsError: Unless exactly one of both says what the rewards are
    """
    if final_reward is None and not has_rewards:
        raise DemonstrationsError(
            "rewards: found none, expected one for each step: pass final_reward=1.0 to reward the last step of each episode "
            "with 1 and all others with 0"
        )
    if final_reward is not None and has_rewards:
        raise DemonstrationsError(f"found final_reward={final_reward} for a source that holds rewards, expected none: omit it")
    if final_reward is not None and not is_number(final_reward):
        raise DemonstrationsError(f"found final_reward={final_reward!r}, expected a number")


def rewards_at_ends(lengths: np.ndarray, final_reward: float, successes: np.ndarray | None = None) -> np.ndarray:
    """
    :param lengths: Steps per episode
    :param final_reward: For the last step of each; the others get 0
    :param successes: Whether each episode solved the task, if that is known: those that did not get 0
    :return: Of all steps, float32
    """
    rewards = np.zeros(int(lengths.sum()), dtype=np.float32)
    rewards[np.cumsum(lengths) - 1] = final_reward if successes is None else np.where(successes, final_reward, 0.0)
    return owned(rewards)
