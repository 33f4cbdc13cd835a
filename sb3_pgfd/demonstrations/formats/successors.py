"""
Next observations and rewards for sources that lack them.

Next observations: a source may hold one observation per step, and none after the last. The following row of the same
episode is the next observation. The last step of an episode has no following row. If it is terminal it is kept with its own
observation in place of the next one, which nothing reads: a terminal state is not bootstrapped from. Otherwise it is dropped
and the step before it, whose next observation is known, ends the episode as truncated; an episode of one such step vanishes.

Rewards: the caller names one for the end of each episode, as demonstrations of a task are successes.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from sb3_pgfd.demonstrations.arrays import map_observations, owned
from sb3_pgfd.demonstrations.editing import rewards_at_ends
from sb3_pgfd.demonstrations.episode import Transitions
from sb3_pgfd.demonstrations.errors import DemonstrationsError
from sb3_pgfd.demonstrations.validation import Observations
from sb3_pgfd.utils.checks import is_number
from sb3_pgfd.utils.warning import warn_user

# Rows that are moved at a time
_CHUNK = 4096


def from_steps(
    observations: Observations,
    actions: np.ndarray,
    rewards: np.ndarray | float,
    terminated: np.ndarray,
    ended: np.ndarray,
    after: Observations | None = None,
    success: np.ndarray | None = None,
    metadata: Mapping[str, Any] | None = None,
    reuse: bool = False,
) -> Transitions:
    """
    :param observations: One for each of N steps, episode by episode; a mapping of arrays if there are keys
    :param actions: Of each step
    :param rewards: Of each step, or the number for the last step that is kept of each episode, see :func:`rewards_at_ends`
    :param terminated: Whether the step reached a terminal state, shape ``(N,)``, bool; read where an episode ends
    :param ended: Whether the step is the last of its episode, shape ``(N,)``, bool; the last row counts as such
    :param after: Next observations, None: the source has none
    :param success: Whether each episode solved the task, None: unknown
    :param metadata: Provenance
    :param reuse: Whether the arrays of observations may be changed, which saves a copy of them
    :raises DemonstrationsError: If no row is left
    """
    ended = np.array(ended, dtype=bool)
    ended[-1:] = True
    terminated = ended & terminated
    rows = ended == terminated if after is None else np.ones_like(ended)
    if not rows.any():
        raise DemonstrationsError(
            f"observations: found {len(ended)} steps without a known next observation, expected at least one with it: "
            "the last step of an episode that is not terminal is dropped"
        )

    def kept(array: np.ndarray) -> np.ndarray:
        return owned(array if rows.all() else array[rows])

    if after is None:
        following = np.flatnonzero(rows)
        following[~terminated[rows]] += 1
        after = map_observations(observations, lambda array: owned(array[following]))
    episodes, lengths = np.unique((np.cumsum(ended) - ended)[rows], return_counts=True)
    last = np.zeros(int(lengths.sum()), dtype=bool)
    last[np.cumsum(lengths) - 1] = True
    success = None if success is None else success[episodes]
    if isinstance(rewards, np.ndarray) and rewards.any() and not rewards[rows].any():
        warn_user(
            "The only rewards that are not 0 belong to last steps of episodes. These steps were dropped, as they are not "
            "terminal and what was observed after them is not in the file. If they reached the goal, pass "
            "done_means='terminated'",
        )
    return Transitions(
        observations=map_observations(observations, lambda array: _compacted(array, rows) if reuse else kept(array)),
        actions=kept(actions),
        rewards=kept(rewards) if isinstance(rewards, np.ndarray) else rewards_at_ends(lengths, rewards, success),
        next_observations=after,
        terminated=kept(terminated),
        truncated=owned(last & ~terminated[rows]),
        episode_lengths=lengths,
        metadata=metadata or {},
        episode_info={} if success is None else {"success": success},
    )


def _compacted(array: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """:return: These rows of an array that nobody else needs, moved to its beginning"""
    if rows.all():
        return owned(array)
    array.flags.writeable = True
    n_kept = 0
    for start in range(0, len(array), _CHUNK):
        part = array[start : start + _CHUNK][rows[start : start + _CHUNK]]
        array[n_kept : n_kept + len(part)] = part
        n_kept += len(part)
    return owned(array[:n_kept])


def check_final_reward(final_reward: float | None, rewards: Any) -> None:
    """
    :param final_reward: What the caller asks for
    :param rewards: Of the source, None: it holds none
    :raises DemonstrationsError: Unless exactly one of both says what the rewards are; rewards that are all 0 do not
    """
    if final_reward is None and rewards is None:
        raise DemonstrationsError(
            "rewards: found none, expected one for each step: pass final_reward=1.0 to reward the last step of each episode "
            "with 1 and all others with 0"
        )
    if final_reward is not None and not is_number(final_reward):
        raise DemonstrationsError(f"found final_reward={final_reward!r}, expected a number")
    if final_reward is not None and rewards is not None and np.any(rewards):
        raise DemonstrationsError(f"found final_reward={final_reward} for a source that holds rewards, expected none: omit it")
