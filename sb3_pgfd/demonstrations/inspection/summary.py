"""What demonstrations hold, in numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from gymnasium import spaces

from sb3_pgfd.demonstrations.dataset import Demonstrations
from sb3_pgfd.demonstrations.environment import recorded_action_space
from sb3_pgfd.demonstrations.inspection.findings import find_warnings, fits

# Vectors of more components are summed up by one range
MAX_COMPONENTS = 30
# An action is saturated this near a bound, relative to the range of its component
SATURATION_MARGIN = 0.01
# Of so many different discrete actions each is counted
MAX_COUNTED = 32

Range = float | list[float]


@dataclass(frozen=True)
class Spread:
    """How one number per episode is spread."""

    min: float
    lower_quartile: float
    median: float
    upper_quartile: float
    max: float
    mean: float
    std: float


@dataclass(frozen=True)
class EpisodeSummary:
    """One episode."""

    length: int
    episode_return: float
    success: bool | None
    """None: unknown"""
    end: str
    """``"terminated"`` or ``"truncated"``"""


@dataclass(frozen=True)
class ObservationSummary:
    """One array of observations."""

    key: str | None
    """Of a Dict observation, else None"""
    shape: tuple[int, ...]
    """Per step"""
    dtype: str
    low: Range
    """Of each component of a vector of at most ``MAX_COMPONENTS``, else of all together"""
    high: Range


@dataclass(frozen=True)
class ActionSummary:
    """The actions, and how they lie in the action space."""

    shape: tuple[int, ...]
    """Per step"""
    dtype: str
    low: Range
    """As for observations"""
    high: Range
    space: str | None
    """Type of the action space, None: unknown, or the actions do not fit it"""
    space_low: list[float | None] | None
    """Bounds of each component of a Box, where it has one"""
    space_high: list[float | None] | None
    saturated: list[float | None] | None
    """Of each component of a Box: share of the actions at its bounds, within ``SATURATION_MARGIN`` of its range"""
    saturated_overall: float | None
    """The same of all bounded components together"""
    counts: dict[str, int] | None
    """How often each discrete action was taken"""


@dataclass(frozen=True)
class Summary:
    """What :func:`summarize` finds."""

    source: str | None
    env_id: str | None
    producer: str | None
    n_episodes: int
    n_transitions: int
    n_terminated: int
    """Episodes that end in a terminal state; all others were cut"""
    n_truncated: int
    success_rate: float | None
    lengths: Spread
    returns: Spread
    episodes: list[EpisodeSummary]
    observations: list[ObservationSummary]
    actions: ActionSummary
    warnings: list[str]
    """Each says what was found and what to do about it"""

    def to_json(self) -> dict[str, Any]:
        """:return: Plain values, by the names of the fields"""
        return asdict(self)


def summarize(demonstrations: Demonstrations, action_space: spaces.Space | None = None) -> Summary:
    """
    :param demonstrations: What to look at
    :param action_space: Of their environment. By default what the metadata say, or what the environment that they name
        has, if it is registered
    """
    space = action_space if action_space is not None else recorded_action_space(demonstrations)
    metadata, lengths = demonstrations.metadata, demonstrations.episode_lengths
    last_rows = demonstrations.episode_starts + lengths - 1
    n_terminated = int(demonstrations.terminated[last_rows].sum())
    return Summary(
        source=demonstrations.source,
        env_id=_text(metadata.get("env_id")),
        producer=_text(metadata.get("producer")),
        n_episodes=demonstrations.n_episodes,
        n_transitions=len(demonstrations),
        n_terminated=n_terminated,
        n_truncated=demonstrations.n_episodes - n_terminated,
        success_rate=_success_rate(demonstrations),
        lengths=_spread(lengths),
        returns=_spread(demonstrations.episode_returns),
        episodes=_episodes(demonstrations),
        observations=_observations(demonstrations),
        actions=_actions(demonstrations.actions, space),
        warnings=find_warnings(demonstrations, space, _success_rate(demonstrations)),
    )


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _success_rate(demonstrations: Demonstrations) -> float | None:
    if demonstrations.successes is not None:
        return float(demonstrations.successes.mean())
    rate = demonstrations.metadata.get("success_rate")
    return float(rate) if isinstance(rate, (int, float)) and 0 <= rate <= 1 else None


def _spread(values: np.ndarray) -> Spread:
    low, lower, median, upper, high = (float(value) for value in np.quantile(values, (0.0, 0.25, 0.5, 0.75, 1.0)))
    return Spread(low, lower, median, upper, high, float(values.mean()), float(values.std()))


def _episodes(demonstrations: Demonstrations) -> list[EpisodeSummary]:
    ends = demonstrations.terminated[demonstrations.episode_starts + demonstrations.episode_lengths - 1].tolist()
    n_episodes = demonstrations.n_episodes
    successes = [None] * n_episodes if demonstrations.successes is None else demonstrations.successes.tolist()
    rows = zip(demonstrations.episode_lengths.tolist(), demonstrations.episode_returns.tolist(), successes, ends, strict=True)
    return [
        EpisodeSummary(length, episode_return, success, "terminated" if terminated else "truncated")
        for length, episode_return, success, terminated in rows
    ]


def _observations(demonstrations: Demonstrations) -> list[ObservationSummary]:
    observations = demonstrations.observations
    arrays = observations.items() if isinstance(observations, Mapping) else ((None, observations),)
    return [ObservationSummary(key, array.shape[1:], str(array.dtype), *_range(array)) for key, array in arrays]


def _range(array: np.ndarray) -> tuple[Range, Range]:
    by_component = array.ndim == 2 and array.shape[1] <= MAX_COMPONENTS
    if array.size == 0:
        return [], []
    if by_component:
        return [float(value) for value in array.min(axis=0)], [float(value) for value in array.max(axis=0)]
    return float(array.min()), float(array.max())


def _actions(actions: np.ndarray, space: spaces.Space | None) -> ActionSummary:
    low, high = _range(actions)
    counts = None
    if actions.ndim == 1 and actions.dtype.kind in "iu":
        counted = Counter(actions.tolist())
        counts = {str(action): counted[action] for action in sorted(counted)} if len(counted) <= MAX_COUNTED else None
    known: dict[str, Any] = {"space": None if space is None or not fits(actions, space) else type(space).__name__}
    known.update(dict.fromkeys(("space_low", "space_high", "saturated", "saturated_overall")))
    if known["space"] and isinstance(space, spaces.Box):
        known.update(_saturation(actions, space))
    return ActionSummary(actions.shape[1:], str(actions.dtype), low, high, counts=counts, **known)


def _saturation(actions: np.ndarray, space: spaces.Box) -> dict[str, Any]:
    low, high = (bound.ravel().astype(np.float64) for bound in (space.low, space.high))
    rows = actions.reshape(len(actions), -1)
    with np.errstate(invalid="ignore"):
        margin = SATURATION_MARGIN * (high - low)
        at_bounds = (rows <= low + margin) | (rows >= high - margin)
    bounded = np.isfinite(low) & np.isfinite(high)
    shares = at_bounds.mean(axis=0)
    return {
        "space_low": _finite(low),
        "space_high": _finite(high),
        "saturated": [float(share) if known else None for share, known in zip(shares, bounded, strict=True)],
        "saturated_overall": float(shares[bounded].mean()) if bounded.any() else None,
    }


def _finite(bounds: np.ndarray) -> list[float | None]:
    """JSON has no infinity."""
    return [float(bound) if np.isfinite(bound) else None for bound in bounds]
