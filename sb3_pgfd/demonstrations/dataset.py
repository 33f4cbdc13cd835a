"""Demonstrations in memory."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from sb3_pgfd.demonstrations.arrays import (
    channels_first,
    frozen,
    frozen_mapping,
    frozen_observations,
    json_copy,
    map_observations,
    owned,
)
from sb3_pgfd.demonstrations.episode import Episode, stack_episodes, take_episode
from sb3_pgfd.demonstrations.errors import DemonstrationsError
from sb3_pgfd.demonstrations.validation import (
    Locator,
    Observations,
    as_dict,
    check_actions,
    check_episode_ends,
    check_finite,
    check_lengths,
    check_observations,
)

if TYPE_CHECKING:
    from sb3_pgfd.demonstrations.recording import Policy

EPISODE_INFO = {"success": np.bool_, "seed": np.int64}
"""What is known of whole episodes, and its dtype"""


@dataclass(frozen=True, eq=False)
class Demonstrations:
    """
    An immutable set of episodes in environment units: actions are not rescaled, observations and rewards are not
    normalised. Transitions lie one after another, episode by episode; N is their number.

    :raises DemonstrationsError: If the fields contradict each other, hold NaN or infinity, or there is no transition
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
    ``seed`` (int64, what the environment was reset with), where they are known of every episode"""

    def __post_init__(self) -> None:
        for name in ("observations", "next_observations"):
            object.__setattr__(self, name, frozen_observations(getattr(self, name), name))
        for name, dtype in (
            ("actions", None),
            ("rewards", np.float32),
            ("terminated", np.bool_),
            ("truncated", np.bool_),
            ("episode_lengths", np.int64),
        ):
            object.__setattr__(self, name, frozen(getattr(self, name), dtype, name))
        object.__setattr__(self, "metadata", json_copy(self.metadata))
        object.__setattr__(self, "episode_info", frozen_mapping(self.episode_info, "episode_info", EPISODE_INFO))
        self._validate()

    def _validate(self) -> None:
        first, second = as_dict(self.observations), as_dict(self.next_observations, "next_observations")
        if not first or [f"next_{name}" for name in first] != list(second):
            raise DemonstrationsError(f"next_observations: found {list(second)}, expected one for each of {list(first)}")
        numbers = {**first, "actions": self.actions, "rewards": self.rewards, **second}
        flags = {"terminated": self.terminated, "truncated": self.truncated}
        check_lengths({**numbers, **flags}, self.episode_lengths)
        for name in ("rewards", *flags):
            if getattr(self, name).ndim != 1:
                raise DemonstrationsError(f"{name}: found shape {getattr(self, name).shape}, expected ({len(self)},)")
        for (name, array), (next_name, next_array) in zip(first.items(), second.items(), strict=True):
            if array.shape != next_array.shape:
                raise DemonstrationsError(f"{next_name}: found shape {next_array.shape}, expected {array.shape} of {name}")
        for name, array in self.episode_info.items():
            if array.shape != (self.n_episodes,):
                raise DemonstrationsError(
                    f"episode_info[{name!r}]: found shape {array.shape}, expected ({self.n_episodes},), one for each episode"
                )
        check_finite(numbers, Locator(self.episode_lengths))
        check_episode_ends(self.terminated, self.truncated, self.episode_lengths)

    def __reduce__(self) -> tuple[Any, ...]:
        # Read-only views of dicts cannot be pickled; unpickled demonstrations are validated again
        values = (getattr(self, item.name) for item in fields(self))
        return type(self), tuple(dict(value) if isinstance(value, Mapping) else value for value in values)

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
        """Whether each episode solved the task, shape ``(n_episodes,)``, bool; None: nobody said"""
        return self.episode_info.get("success")

    def summary(self, keys: Collection[str] = ("mean_return", "success_rate")) -> dict[str, Any]:
        """
        What the metadata say of all episodes together.

        :param keys: Leave out what is not among these
        """
        rate = None if self.successes is None else float(self.successes.mean())
        values = {"mean_return": float(self.episode_returns.mean()), "success_rate": rate}
        return {key: value for key, value in values.items() if key in keys}

    def __repr__(self) -> str:
        origin = self.metadata.get("env_id", "unknown environment")
        return (
            f"Demonstrations({self.n_episodes} episodes, {len(self)} transitions, "
            f"mean return {self.episode_returns.mean():.1f}, {origin})"
        )

    @classmethod
    def load(cls, source: Any, **options: Any) -> Demonstrations:
        """
        Read demonstrations. The format is told by the content, not by the name: docs/formats.md lists them.

        :param source: A path, the name of packaged demonstrations (``"Pendulum-v1"``), the id of a Minari dataset
            (``"minari:D4RL/door/human-v2"``), demonstrations, an SB3 replay buffer, or trajectories of ``imitation``
        :param options: What to make of them, see :func:`sb3_pgfd.demonstrations.editing.edit`: ``n_episodes``,
            ``seed``, ``min_return``, ``successful_only``, ``action_low``, ``action_high``, ``done_means``,
            ``observation_keys``, ``flatten_observations``; and what the format needs to be told
        :raises DemonstrationsError: If there is no such source or it cannot be read
        :raises ImportError: If the format needs a library that is not installed
        """
        from sb3_pgfd.demonstrations.formats import read

        return read(source, **options)

    @classmethod
    def from_episodes(cls, episodes: Sequence[Episode], metadata: Mapping[str, Any] | None = None) -> Demonstrations:
        """
        :param episodes: Episodes of the same environment; one that is not terminated counts as truncated
        :param metadata: Provenance
        :raises DemonstrationsError: If there is none, or they do not fit together
        """
        return cls(**stack_episodes(episodes), metadata=metadata or {})

    @classmethod
    def from_transitions(
        cls,
        observations: Observations,
        actions: np.ndarray,
        rewards: np.ndarray,
        next_observations: Observations,
        terminated: np.ndarray,
        truncated: np.ndarray,
        metadata: Mapping[str, Any] | None = None,
    ) -> Demonstrations:
        """
        Rows one after another; an episode ends where either flag is set, and with the last row, which counts as
        truncated if it has neither. See the fields of this class for what the parameters are.

        :raises DemonstrationsError: If they do not fit together, or there is none
        """
        terminated, truncated = np.array(terminated, dtype=bool), np.array(truncated, dtype=bool)
        if terminated.ndim != 1 or terminated.shape != truncated.shape or len(terminated) == 0:
            found = f"shapes {terminated.shape} and {truncated.shape}"
            raise DemonstrationsError(f"terminated, truncated: found {found}, expected one flag for each of one or more rows")
        truncated[-1] |= not terminated[-1]
        ends = np.flatnonzero(terminated | truncated)
        return cls(
            observations=observations,
            actions=actions,
            rewards=rewards,
            next_observations=next_observations,
            terminated=owned(terminated),
            truncated=owned(truncated),
            episode_lengths=np.diff(ends, prepend=-1),
            metadata=metadata or {},
        )

    @classmethod
    def merge(cls, parts: Sequence[Demonstrations]) -> Demonstrations:
        """
        :param parts: Demonstrations of one environment
        :return: Their episodes, one part after the other. Of the metadata it keeps what all parts agree on; of
            ``episode_info`` what all parts have
        :raises DemonstrationsError: If their observations or actions differ in keys or shapes
        """
        from sb3_pgfd.demonstrations.editing import merge

        return merge(parts)

    @classmethod
    def record(
        cls, policy: Policy | Callable[[Any], Any], env: gym.Env | str, n_episodes: int, **options: Any
    ) -> Demonstrations:
        """Collect episodes from a policy, see :func:`sb3_pgfd.demonstrations.recording.record`."""
        from sb3_pgfd.demonstrations.recording import record

        return record(policy, env, n_episodes, **options)

    def save(self, path: str | Path, overwrite: bool = False, format: Literal["npz", "minari"] | None = None) -> Path:
        """
        Write a compressed ``.npz``, or a dataset of Minari's, which ``minari.load_dataset`` loads.

        :param path: Of the file, whose ending ``.npz`` is added if it is missing; or of the dataset's folder, whose name ends
            in a version (``"peg-insert-v0"``); ``"minari:<id>"`` is a dataset where Minari keeps its own
        :param overwrite: Whether what is there may be replaced
        :param format: Which of the two; None: ``"minari"`` if the path is such an id, and otherwise ``"npz"``
        :return: The path written
        :raises FileExistsError: If there is something already
        :raises DemonstrationsError: If the format cannot hold these demonstrations
        """
        from sb3_pgfd.demonstrations.formats import write

        return write(self, path, overwrite, format)

    def select(self, episodes: int | Sequence[int] | np.ndarray) -> Demonstrations:
        """
        :param episodes: The first so many, or the numbers of the ones to keep, in that order
        :return: These episodes alone
        :raises DemonstrationsError: If there are not as many
        """
        numbers = list(range(episodes)) if isinstance(episodes, (int, np.integer)) else [int(number) for number in episodes]
        if not numbers or min(numbers) < 0 or max(numbers) >= self.n_episodes:
            raise DemonstrationsError(f"episodes: asked for {episodes}, found {self.n_episodes} (numbered from 0)")
        starts = self.episode_starts
        rows = np.concatenate([np.arange(starts[k], starts[k] + self.episode_lengths[k]) for k in numbers])
        flat = ("actions", "rewards", "terminated", "truncated")
        selected: dict[str, Any] = {name: owned(getattr(self, name)[rows]) for name in flat}
        chosen = replace(
            self,
            observations=map_observations(self.observations, lambda array: owned(array[rows])),
            next_observations=map_observations(self.next_observations, lambda array: owned(array[rows])),
            episode_lengths=self.episode_lengths[numbers],
            episode_info={name: array[numbers] for name, array in self.episode_info.items()},
            **selected,
        )
        return replace(chosen, metadata={**self.metadata, **chosen.summary(self.metadata)})

    def episode(self, number: int) -> Episode:
        """
        :param number: Which, from 0
        :return: The episode as one sequence of T + 1 observations
        :raises DemonstrationsError: If there is none, or a step's next observation is not what the next step begins with
        """
        return take_episode(self, number)

    def rescale_actions(self, low: Any, high: Any) -> Demonstrations:
        """
        Map actions recorded in [-1, 1] to environment units.

        :param low: Lower bound of the environment's actions, a number or shape ``(action_dim,)``
        :param high: Upper bound
        :raises DemonstrationsError: If an action lies outside [-1, 1]: it is in environment units already; or the bounds
            do not fit the actions
        """
        from sb3_pgfd.demonstrations.editing import rescale_actions

        return rescale_actions(self, low, high)

    def fit_to_spaces(self, observation_space: spaces.Space, action_space: spaces.Space) -> Demonstrations:
        """
        These demonstrations as a model sees them: SB3 wraps an environment whose images have their channels last, so
        that the model's come first; recorded images follow.

        :raises DemonstrationsError: If they do not belong to such an environment, see :meth:`check_spaces`
        """
        fitted = replace(
            self,
            observations=channels_first(self.observations, observation_space),
            next_observations=channels_first(self.next_observations, observation_space),
        )
        fitted.check_spaces(observation_space, action_space)
        return fitted

    def check_spaces(self, observation_space: spaces.Space, action_space: spaces.Space) -> None:
        """
        :param observation_space: The model's observation space
        :param action_space: The model's action space
        :raises DemonstrationsError: If shapes, dtypes or the actions' bounds do not fit
        """
        try:
            check_observations(self.observations, observation_space)
            check_observations(self.next_observations, observation_space, "next_observations")
            check_actions(self.actions, action_space, Locator(self.episode_lengths))
        except DemonstrationsError as error:
            origin = self.metadata.get("env_id")
            hint = f" These demonstrations were recorded in {origin}." if origin else ""
            raise DemonstrationsError(f"{error}.{hint}") from None
