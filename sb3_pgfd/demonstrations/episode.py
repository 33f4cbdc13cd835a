"""One episode, and what leads from episodes to the rows of a dataset and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sb3_pgfd.demonstrations.arrays import concatenate, map_observations
from sb3_pgfd.demonstrations.errors import DemonstrationsError
from sb3_pgfd.demonstrations.validation import Observations, as_dict

if TYPE_CHECKING:
    from sb3_pgfd.demonstrations.dataset import Demonstrations


@dataclass(frozen=True)
class Episode:
    """One episode of T transitions, as an environment hands it out."""

    observations: Observations
    """Shape ``(T + 1, *obs_shape)``, or a mapping of such arrays: the reset's, then each step's"""
    actions: np.ndarray
    """Shape ``(T, *action_shape)``, in environment units"""
    rewards: np.ndarray
    """Shape ``(T,)``"""
    terminated: bool
    """Whether the last step reached a terminal state"""
    success: bool | None = None
    """Whether the task was solved, None: nobody said"""
    seed: int | None = None
    """What the environment was reset with, None: unknown"""

    def __len__(self) -> int:
        """:return: T, the number of transitions"""
        return len(self.rewards)


def stack_episodes(episodes: Sequence[Episode]) -> dict[str, Any]:
    """
    :param episodes: Episodes of the same environment
    :return: The fields of a dataset
    :raises DemonstrationsError: If there is none, or they do not fit together
    """
    if not episodes:
        raise DemonstrationsError("episodes: found none, expected at least one")
    lengths = np.array([len(episode) for episode in episodes], dtype=np.int64)
    if lengths.min() < 1:
        raise DemonstrationsError(f"episode {int(lengths.argmin())}: found no transition, expected at least one")
    _check_episodes(episodes)
    last_rows = np.cumsum(lengths) - 1
    terminated, truncated = np.zeros(lengths.sum(), dtype=bool), np.zeros(lengths.sum(), dtype=bool)
    terminated[last_rows] = [episode.terminated for episode in episodes]
    truncated[last_rows] = ~terminated[last_rows]
    info = {name: [getattr(episode, name) for episode in episodes] for name in ("success", "seed")}
    return {
        "observations": concatenate([episode.observations for episode in episodes], slice(None, -1)),
        "actions": np.concatenate([np.asarray(episode.actions) for episode in episodes]),
        "rewards": np.concatenate([np.asarray(episode.rewards, dtype=np.float32) for episode in episodes]),
        "next_observations": concatenate([episode.observations for episode in episodes], slice(1, None)),
        "terminated": terminated,
        "truncated": truncated,
        "episode_lengths": lengths,
        "episode_info": {name: np.array(values) for name, values in info.items() if None not in values},
    }


def take_episode(demonstrations: Demonstrations, number: int) -> Episode:
    """See :meth:`Demonstrations.episode`."""
    if not 0 <= number < demonstrations.n_episodes:
        raise DemonstrationsError(f"episodes: asked for {number}, found {demonstrations.n_episodes} (numbered from 0)")
    start = int(demonstrations.episode_starts[number])
    rows = slice(start, start + int(demonstrations.episode_lengths[number]))
    before = map_observations(demonstrations.observations, lambda array: array[rows])
    after = map_observations(demonstrations.next_observations, lambda array: array[rows])
    _check_sequence(before, after, number)
    success, seed = (demonstrations.episode_info.get(name) for name in ("success", "seed"))
    return Episode(
        observations=concatenate([before, map_observations(after, lambda array: array[-1:])]),
        actions=demonstrations.actions[rows],
        rewards=demonstrations.rewards[rows],
        terminated=bool(demonstrations.terminated[rows][-1]),
        success=None if success is None else bool(success[number]),
        seed=None if seed is None else int(seed[number]),
    )


def _check_episodes(episodes: Sequence[Episode]) -> None:
    """:raises DemonstrationsError: Unless each has as many rows as it has rewards, shaped as those of the first"""
    shapes: dict[str, tuple[int, ...]] = {}
    for number, episode in enumerate(episodes):
        arrays = {**as_dict(episode.observations), "actions": episode.actions}
        for name, array in arrays.items():
            wanted = len(episode) + (name != "actions")
            if len(array) != wanted:
                raise DemonstrationsError(f"{name}: episode {number}: found {len(array)} rows, expected {wanted}")
        found = {name: np.shape(array)[1:] for name, array in arrays.items()}
        shapes = shapes or found
        if found != shapes:
            raise DemonstrationsError(f"episode {number}: found shapes {found} per step, expected {shapes} as in episode 0")


def _check_sequence(before: Observations, after: Observations, number: int) -> None:
    for (name, array), next_array in zip(as_dict(before).items(), as_dict(after).values(), strict=True):
        if len(array) == 1:
            continue
        # By their bytes: -0.0 equals 0.0 and is another number
        begins, reached = (np.ascontiguousarray(rows).view(np.uint8) for rows in (array[1:], next_array[:-1]))
        moved = (begins != reached).reshape(len(begins), -1).any(axis=1)
        if moved.any():
            step = int(moved.argmax())
            raise DemonstrationsError(
                f"{name}: episode {number}, step {step + 1}: found another observation than step {step} ended with, "
                "expected one sequence of observations"
            )
