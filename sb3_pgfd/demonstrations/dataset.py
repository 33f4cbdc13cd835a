"""Demonstrations in memory."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from gymnasium import spaces

from sb3_pgfd.demonstrations import editing, formats, stacking
from sb3_pgfd.demonstrations.arrays import channels_first, freeze
from sb3_pgfd.demonstrations.episode import Transitions
from sb3_pgfd.demonstrations.errors import DemonstrationsError
from sb3_pgfd.demonstrations.validation import (
    Locator,
    as_dict,
    check_actions,
    check_episode_ends,
    check_finite,
    check_lengths,
    check_observations,
)

_EDITS = tuple(inspect.signature(editing.edit).parameters)[1:]
_CHOICE = tuple(inspect.signature(editing.pick).parameters)[1:]


@dataclass(frozen=True, eq=False)
class Demonstrations(Transitions):
    """
    An immutable set of episodes, one after another. :class:`~sb3_pgfd.demonstrations.episode.Transitions` describes the
    fields.

    The arrays are validated once, when demonstrations are made of them. What is made of demonstrations, such as a part or
    a merged set, is not validated again.

    :raises DemonstrationsError: If the fields contradict each other, hold NaN or infinity, or there is no transition
    """

    def __post_init__(self) -> None:
        for item in fields(self):
            object.__setattr__(self, item.name, freeze(item.name, getattr(self, item.name)))
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
        # Read-only views of dicts cannot be pickled; unpickled demonstrations are validated
        values = (getattr(self, item.name) for item in fields(self))
        return type(self), tuple(dict(value) if isinstance(value, Mapping) else value for value in values)

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
            (``"minari:D4RL/door/human-v2"``), demonstrations, an SB3 replay buffer, or trajectories of ``imitation``. A list
            of paths, names, ids or demonstrations is merged
        :param options: What to make of them, see :func:`sb3_pgfd.demonstrations.editing.edit`: ``n_episodes``,
            ``seed``, ``min_return``, ``successful_only``, ``action_low``, ``action_high``, ``done_means``,
            ``final_reward``, ``observation_keys``, ``flatten_observations``, ``stack_frames``; and what the format
            needs to be told
        :raises DemonstrationsError: If there is no such source or it cannot be read
        :raises ImportError: If the format needs a library that is not installed
        """
        if isinstance(source, (list, tuple)) and source and all(isinstance(item, _SOURCES) for item in source):
            return cls._load_several(source, options)
        if isinstance(source, Demonstrations):
            formats.check_options(options, _EDITS, "demonstrations in memory")
            return editing.edit(source, **options)
        name, target = formats.locate(source)
        with formats.errors_naming(name):
            found, edits = formats.read(target, options, _EDITS)
            # A replay buffer may make demonstrations of itself
            demonstrations = found if isinstance(found, Demonstrations) else editing.cut_at_jumps(cls(**vars(found)), name)
            edited = editing.edit(demonstrations, **edits)
        return edited.changed(source=name)

    @classmethod
    def _load_several(cls, sources: Sequence[Any], options: Mapping[str, Any]) -> Demonstrations:
        """Episodes are chosen from all sources together; other options hold for each source."""
        choice = {name: options[name] for name in _CHOICE if name in options}
        parts = [cls.load(item, **{key: value for key, value in options.items() if key not in choice}) for item in sources]
        names = dict.fromkeys(part.source or "a dataset in memory" for part in parts)
        return editing.pick(cls.merge(parts), **choice).changed(source=" + ".join(names))

    @classmethod
    def from_transitions(cls, *fields: Any, **named: Any) -> Demonstrations:
        """
        cf ``Transitions``. An episode also ends, as truncated, where the next row begins with another observation than a row
        ended with; a warning says so.

        :raises DemonstrationsError: If they do not fit together, there is none, or most rows jump
        """
        return editing.cut_at_jumps(super().from_transitions(*fields, **named))

    save = formats.write
    select = editing.select
    rescale_actions = editing.rescale_actions
    stack_frames = stacking.stack_frames
    merge = staticmethod(editing.merge)

    def fit_to_spaces(self, observation_space: spaces.Space, action_space: spaces.Space) -> Demonstrations:
        """
        These demonstrations as a model sees them. SB3 wraps an environment whose images have their channels last, so that
        the model's come first; recorded images follow.

        :raises DemonstrationsError: If they do not belong to such an environment, see :meth:`check_spaces`
        """
        fitted = self.changed(
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


# What a list of sources may hold
_SOURCES = (str, os.PathLike, Demonstrations)
