"""Episodes one by one (:class:`Episode`), and one after another in plain arrays (:class:`Transitions`)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

import numpy as np

from sb3_pgfd.demonstrations.arrays import concatenate, freeze, map_observations, owned
from sb3_pgfd.demonstrations.continuity import interruptions
from sb3_pgfd.demonstrations.errors import DemonstrationsError
from sb3_pgfd.demonstrations.validation import Observations, as_dict

T = TypeVar("T", bound="Transitions")


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
    """Whether the task was solved, None: unknown"""
    seed: int | None = None
    """What the environment was reset with, None: unknown"""

    def __len__(self) -> int:
        """:return: T, the number of transitions"""
        return len(self.rewards)


@dataclass(frozen=True, eq=False)
class Transitions:
    """
    Transitions of whole episodes, one episode after another; N is their number. Actions are in environment units,
    observations and rewards are not normalised.

    Readers of files return this and writers take it. :class:`~sb3_pgfd.demonstrations.Demonstrations` checks the arrays.
    """

    observations: Observations
    """s, shape ``(N, *obs_shape)``, or a mapping of such arrays; dtype as recorded"""
    actions: np.ndarray
    """a, shape ``(N, *action_shape)`` for Box, ``(N,)`` for Discrete actions; dtype as recorded"""
    rewards: np.ndarray
    """r, shape ``(N,)``, float32"""
    next_observations: Observations
    """s', as ``observations``; where an episode ends it is the state that was reached, not the next reset's"""
    terminated: np.ndarray
    """Shape ``(N,)``, bool: s' is a terminal state, nothing is bootstrapped from it"""
    truncated: np.ndarray
    """Shape ``(N,)``, bool: the recording was cut after this step (a time limit), s' has a value"""
    episode_lengths: np.ndarray
    """Transitions per episode, shape ``(n_episodes,)``, int64"""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Provenance, as JSON holds it: environment id and kwargs, what produced the actions, seed, versions"""
    source: str | None = None
    """The path or name they were loaded from, if they were"""
    episode_info: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Facts about whole episodes by name, each of shape ``(n_episodes,)``: ``success`` (bool, the task was solved) and
    ``seed`` (int64, what the environment was reset with), where they are known of every episode; ``cut`` (bool, the rows
    jumped after its last step and no flag said so), where there was such a jump"""

    @classmethod
    def from_episodes(cls: type[T], episodes: Sequence[Episode], metadata: Mapping[str, Any] | None = None) -> T:
        """
        :param episodes: Episodes of the same environment; one that is not terminated counts as truncated
        :param metadata: Provenance
        :raises DemonstrationsError: If there is none, or they do not fit together
        """
        if not episodes:
            raise DemonstrationsError("episodes: found none, expected at least one")
        _check_episodes(episodes)
        lengths = np.array([len(episode) for episode in episodes], dtype=np.int64)
        last_rows = np.cumsum(lengths) - 1
        terminated, truncated = np.zeros(lengths.sum(), dtype=bool), np.zeros(lengths.sum(), dtype=bool)
        terminated[last_rows] = [episode.terminated for episode in episodes]
        truncated[last_rows] = ~terminated[last_rows]
        info = {name: [getattr(episode, name) for episode in episodes] for name in ("success", "seed")}
        return cls(
            observations=concatenate([episode.observations for episode in episodes], slice(None, -1)),
            actions=owned(np.concatenate([np.asarray(episode.actions) for episode in episodes])),
            rewards=owned(np.concatenate([np.asarray(episode.rewards, dtype=np.float32) for episode in episodes])),
            next_observations=concatenate([episode.observations for episode in episodes], slice(1, None)),
            terminated=owned(terminated),
            truncated=owned(truncated),
            episode_lengths=lengths,
            metadata=metadata or {},
            episode_info=known_of_all(info),
        )

    @classmethod
    def from_transitions(
        cls: type[T],
        observations: Observations,
        actions: np.ndarray,
        rewards: np.ndarray,
        next_observations: Observations,
        terminated: np.ndarray,
        truncated: np.ndarray,
        metadata: Mapping[str, Any] | None = None,
    ) -> T:
        """
        Rows one after another; an episode ends where either flag is set, and with the last row, which counts as
        truncated if it has neither. The fields of this class describe the parameters.

        :raises DemonstrationsError: If they do not fit together, or there is none
        """
        terminated, truncated = np.array(terminated, dtype=bool), np.array(truncated, dtype=bool)
        if terminated.ndim != 1 or terminated.shape != truncated.shape or len(terminated) == 0:
            found = f"shapes {terminated.shape} and {truncated.shape}"
            raise DemonstrationsError(f"terminated, truncated: found {found}, expected one flag for each of one or more rows")
        truncated[-1] |= not terminated[-1]
        lengths = np.diff(np.flatnonzero(terminated | truncated), prepend=-1)
        flags = owned(terminated), owned(truncated)
        return cls(observations, actions, rewards, next_observations, *flags, lengths, metadata or {})

    def episode(self, number: int) -> Episode:
        """
        :param number: Which, from 0
        :return: The episode as one sequence of T + 1 observations
        :raises DemonstrationsError: If there is none, or a step's next observation is not what the next step begins with
        """
        if not 0 <= number < self.n_episodes:
            raise DemonstrationsError(f"episodes: asked for {number}, found {self.n_episodes} (numbered from 0)")
        start = int(self.episode_starts[number])
        rows = slice(start, start + int(self.episode_lengths[number]))
        before = map_observations(self.observations, lambda array: array[rows])
        after = map_observations(self.next_observations, lambda array: array[rows])
        moved = np.flatnonzero(interruptions(before, after))
        if len(moved):
            raise DemonstrationsError(
                f"observations: episode {number}, step {moved[0] + 1}: found another observation than step {moved[0]} ended "
                "with, expected one sequence of observations"
            )
        success, seed = (self.episode_info.get(name) for name in ("success", "seed"))
        return Episode(
            observations=concatenate([before, map_observations(after, lambda array: array[-1:])]),
            actions=self.actions[rows],
            rewards=self.rewards[rows],
            terminated=bool(self.terminated[rows][-1]),
            success=None if success is None else bool(success[number]),
            seed=None if seed is None else int(seed[number]),
        )

    def __len__(self) -> int:
        """:return: N, the number of transitions"""
        return len(self.rewards)

    @property
    def n_episodes(self) -> int:
        return len(self.episode_lengths)

    @property
    def episode_starts(self) -> np.ndarray:
        """First row of each episode, shape ``(n_episodes,)``, int64"""
        return np.cumsum(self.episode_lengths) - self.episode_lengths

    @property
    def episode_returns(self) -> np.ndarray:
        """Sum of rewards of each episode, undiscounted, shape ``(n_episodes,)``, float64"""
        return np.add.reduceat(self.rewards.astype(np.float64), self.episode_starts)

    @property
    def successes(self) -> np.ndarray | None:
        """Whether each episode solved the task, shape ``(n_episodes,)``, bool; None: unknown"""
        return self.episode_info.get("success")

    def summary(self, keys: Collection[str] = ("mean_return", "success_rate")) -> dict[str, Any]:
        """
        The metadata that sum up all episodes.

        :param keys: Leave out what is not among these
        """
        rate = None if self.successes is None else float(self.successes.mean())
        values = {"mean_return": float(self.episode_returns.mean()), "success_rate": rate}
        return {key: value for key, value in values.items() if key in keys}

    def changed(self: T, **changes: Any) -> T:
        """
        A copy with other values in some fields. It is not validated: the caller answers for it that valid demonstrations
        stay valid. ``dataclasses.replace`` validates.

        :param changes: Values by the names of fields
        """
        copy = object.__new__(type(self))
        for name in (item.name for item in fields(self)):
            value = freeze(name, changes[name]) if name in changes else getattr(self, name)
            object.__setattr__(copy, name, value)
        return copy


def known_of_all(facts: Mapping[str, Sequence[Any]]) -> dict[str, np.ndarray]:
    """:return: The facts about episodes that are known of each of them, which is none where one value is None"""
    return {name: np.array(values) for name, values in facts.items() if None not in values}


def _check_episodes(episodes: Sequence[Episode]) -> None:
    """:raises DemonstrationsError: Unless each has as many rows as it has rewards, shaped as those of the first"""
    shapes: dict[str, tuple[int, ...]] = {}
    for number, episode in enumerate(episodes):
        if len(episode) < 1:
            raise DemonstrationsError(f"episode {number}: found no transition, expected at least one")
        arrays = {**as_dict(episode.observations), "actions": episode.actions}
        for name, array in arrays.items():
            wanted = len(episode) + (name != "actions")
            if len(array) != wanted:
                raise DemonstrationsError(f"{name}: episode {number}: found {len(array)} rows, expected {wanted}")
        found = {name: np.shape(array)[1:] for name, array in arrays.items()}
        shapes = shapes or found
        if found != shapes:
            raise DemonstrationsError(f"episode {number}: found shapes {found} per step, expected {shapes} as in episode 0")
