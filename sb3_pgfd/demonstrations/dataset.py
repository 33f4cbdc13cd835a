"""Demonstrations in memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

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

    def __post_init__(self) -> None:
        for name in ("observations", "next_observations"):
            object.__setattr__(self, name, _frozen_observations(getattr(self, name), name))
        for name, dtype in (
            ("actions", None),
            ("rewards", np.float32),
            ("terminated", np.bool_),
            ("truncated", np.bool_),
            ("episode_lengths", np.int64),
        ):
            object.__setattr__(self, name, _frozen(getattr(self, name), dtype, name))
        object.__setattr__(self, "metadata", _json_copy(self.metadata))
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

    def __repr__(self) -> str:
        origin = self.metadata.get("env_id", "unknown environment")
        return (
            f"Demonstrations({self.n_episodes} episodes, {len(self)} transitions, "
            f"mean return {self.episode_returns.mean():.1f}, {origin})"
        )

    @classmethod
    def load(cls, source: str | Path | Demonstrations, **options: Any) -> Demonstrations:
        """
        Read demonstrations. The format is told by the content of the file.

        :param source: A path, the name of packaged demonstrations (e.g. ``"Pendulum-v1"``), or demonstrations, which
            are returned as they are
        :param options: What the format needs to be told, see :mod:`sb3_pgfd.demonstrations.formats`
        :raises DemonstrationsError: If there is no such source or it cannot be read
        """
        from sb3_pgfd.demonstrations.formats import read

        return source if isinstance(source, Demonstrations) else read(source, **options)

    @classmethod
    def from_episodes(cls, episodes: Sequence[Episode], metadata: Mapping[str, Any] | None = None) -> Demonstrations:
        """
        :param episodes: Episodes of the same environment; one that is not terminated counts as truncated
        :param metadata: Provenance
        :raises DemonstrationsError: If there is none, or they do not fit together
        """
        if not episodes:
            raise DemonstrationsError("episodes: found none, expected at least one")
        lengths = np.array([len(episode.rewards) for episode in episodes], dtype=np.int64)
        if lengths.min() < 1:
            raise DemonstrationsError(f"episode {int(lengths.argmin())}: found no transition, expected at least one")
        _check_episodes(episodes)
        terminated = np.zeros(lengths.sum(), dtype=bool)
        terminated[np.cumsum(lengths) - 1] = [episode.terminated for episode in episodes]
        truncated = np.zeros_like(terminated)
        truncated[np.cumsum(lengths) - 1] = [not episode.terminated for episode in episodes]
        return cls(
            observations=_concatenate([episode.observations for episode in episodes], slice(None, -1)),
            actions=np.concatenate([np.asarray(episode.actions) for episode in episodes]),
            rewards=np.concatenate([np.asarray(episode.rewards, dtype=np.float32) for episode in episodes]),
            next_observations=_concatenate([episode.observations for episode in episodes], slice(1, None)),
            terminated=terminated,
            truncated=truncated,
            episode_lengths=lengths,
            metadata=metadata or {},
        )

    @classmethod
    def record(
        cls, policy: Policy | Callable[[Any], Any], env: gym.Env | str, n_episodes: int, **options: Any
    ) -> Demonstrations:
        """Collect episodes from a policy, see :func:`sb3_pgfd.demonstrations.recording.record`."""
        from sb3_pgfd.demonstrations.recording import record

        return record(policy, env, n_episodes, **options)

    def save(self, path: str | Path, overwrite: bool = False) -> Path:
        """
        Write a compressed ``.npz``, see :mod:`sb3_pgfd.demonstrations.formats.npz`.

        :param path: The ending ``.npz`` is added if it is missing
        :param overwrite: Whether an existing file may be replaced
        :return: The path written
        :raises FileExistsError: If there is a file already
        """
        from sb3_pgfd.demonstrations.formats.npz import write_npz

        return write_npz(self, Path(path), overwrite)

    def select(self, episodes: int | Sequence[int]) -> Demonstrations:
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
        selected = {name: getattr(self, name)[rows] for name in ("actions", "rewards", "terminated", "truncated")}
        return replace(
            self,
            observations=_map(self.observations, lambda array: array[rows]),
            next_observations=_map(self.next_observations, lambda array: array[rows]),
            episode_lengths=self.episode_lengths[numbers],
            **selected,
        )

    def rescale_actions(self, low: Any, high: Any) -> Demonstrations:
        """
        Map actions recorded in [-1, 1] to environment units.

        :param low: Lower bound of the environment's actions, a number or shape ``(action_dim,)``
        :param high: Upper bound
        :raises DemonstrationsError: If an action lies outside [-1, 1]: it is in environment units already; or the bounds
            do not fit the actions
        """
        if self.actions.dtype.kind != "f":
            raise DemonstrationsError(f"rescale_actions: found actions of dtype {self.actions.dtype}, expected floats")
        low, high = np.asarray(low, dtype=self.actions.dtype), np.asarray(high, dtype=self.actions.dtype)
        action_shape = self.actions.shape[1:]
        for name, bound in (("low", low), ("high", high)):
            if bound.shape not in ((), action_shape):
                raise DemonstrationsError(f"rescale_actions: found {name} of shape {bound.shape}, expected {action_shape}")
        if not (low < high).all():
            raise DemonstrationsError(f"rescale_actions: found low={low}, high={high}, expected low below high")
        largest = float(np.abs(self.actions).max())
        if largest > 1 + 1e-4:
            raise DemonstrationsError(
                f"rescale_actions: found an action of {largest:g}, expected all in [-1, 1]: "
                "these actions are not normalised, leave out the rescaling"
            )
        return replace(self, actions=low + (self.actions + 1) / 2 * (high - low))

    def fit_to_spaces(self, observation_space: spaces.Space, action_space: spaces.Space) -> Demonstrations:
        """
        These demonstrations as a model sees them: SB3 wraps an environment whose images have their channels last, so
        that the model's come first; recorded images follow.

        :raises DemonstrationsError: If they do not belong to such an environment, see :meth:`check_spaces`
        """
        fitted = replace(
            self,
            observations=_channels_first(self.observations, observation_space),
            next_observations=_channels_first(self.next_observations, observation_space),
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


def _frozen(array: Any, dtype: Any, name: str) -> np.ndarray:
    """A read-only array; one that is read-only already is not copied, unless it is a view of somebody else's memory."""
    try:
        array = np.asarray(array)
    except ValueError:
        raise DemonstrationsError(f"{name}: found rows of different shapes, expected one shape") from None
    if array.dtype.kind not in "biuf":
        raise DemonstrationsError(f"{name}: found dtype {array.dtype}, expected {'bool' if dtype is np.bool_ else 'numbers'}")
    if dtype is np.int64 and array.dtype.kind not in "iu" and array.size:
        raise DemonstrationsError(f"{name}: found dtype {array.dtype}, expected whole numbers")
    shared = array.flags.writeable or array.base is not None
    copy = np.array(array, dtype=dtype) if shared else array.astype(dtype or array.dtype, copy=False)
    copy.flags.writeable = False
    return copy


def _frozen_observations(observations: Observations, name: str) -> Observations:
    if isinstance(observations, Mapping):
        # In the order of their names, as the two observations of a transition are compared one by one
        return MappingProxyType({key: _frozen(observations[key], None, f"{name}[{key!r}]") for key in sorted(observations)})
    return _frozen(observations, None, name)


def _json_copy(metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    """A copy through JSON, so that it reads the same before and after it was in a file."""
    try:
        return MappingProxyType(json.loads(json.dumps(dict(metadata), default=str)))
    except (TypeError, ValueError, RecursionError) as error:
        raise DemonstrationsError(
            f"metadata: found what JSON cannot hold ({error}), expected names and plain values"
        ) from None


def _check_episodes(episodes: Sequence[Episode]) -> None:
    """:raises DemonstrationsError: Unless each has as many rows as it has rewards, shaped as those of the first"""
    shapes: dict[str, tuple[int, ...]] = {}
    for number, episode in enumerate(episodes):
        arrays = {**as_dict(episode.observations), "actions": episode.actions}
        for name, array in arrays.items():
            wanted = len(episode.rewards) + (name != "actions")
            if len(array) != wanted:
                raise DemonstrationsError(f"{name}: episode {number}: found {len(array)} rows, expected {wanted}")
        found = {name: np.shape(array)[1:] for name, array in arrays.items()}
        shapes = shapes or found
        if found != shapes:
            raise DemonstrationsError(f"episode {number}: found shapes {found} per step, expected {shapes} as in episode 0")


def _map(observations: Observations, function: Callable[[np.ndarray], np.ndarray]) -> Observations:
    if isinstance(observations, Mapping):
        return {key: function(array) for key, array in observations.items()}
    return function(observations)


def _concatenate(parts: Sequence[Observations], rows: slice) -> Observations:
    first = parts[0]
    if isinstance(first, Mapping):
        return {key: np.concatenate([np.asarray(part[key])[rows] for part in parts]) for key in first}
    return np.concatenate([np.asarray(part)[rows] for part in parts])


def _channels_first(observations: Observations, space: spaces.Space) -> Observations:
    if isinstance(space, spaces.Dict) and isinstance(observations, Mapping):
        return {key: _channels_first_array(array, space.spaces.get(key)) for key, array in observations.items()}
    return observations if isinstance(observations, Mapping) else _channels_first_array(observations, space)


def _channels_first_array(array: np.ndarray, space: spaces.Space | None) -> np.ndarray:
    shape = None if space is None else space.shape
    if shape is None or len(shape) != 3 or array.shape[1:] == shape or array.shape[1:] != (*shape[1:], shape[0]):
        return array
    return np.moveaxis(array, -1, 1)
