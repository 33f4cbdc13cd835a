"""Summary of demonstrations in numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces

from sb3_pgfd.demonstrations.dataset import Demonstrations
from sb3_pgfd.demonstrations.environment import recorded_action_space
from sb3_pgfd.demonstrations.inspection.warnings import find_warnings
from sb3_pgfd.demonstrations.validation import as_dict

# Discrete actions are counted up to this many different ones
MAX_COUNTED = 32
# An action is saturated this near to a bound, relative to the range of its component
SATURATION_MARGIN = 0.01

Range = float | list[float]


@dataclass(frozen=True)
class EpisodeSummary:
    """One episode."""

    length: int
    episode_return: float
    success: bool | None
    end: str
    """``"terminated"`` or ``"truncated"``"""


@dataclass(frozen=True)
class ObservationSummary:
    """One array of observations."""

    key: str | None
    """Key in a Dict observation, None: no Dict"""
    shape: tuple[int, ...]
    """Shape per step"""
    dtype: str
    low: Range
    """For a vector one value per component, otherwise (images, single numbers) one value"""
    high: Range


@dataclass(frozen=True)
class ActionSummary:
    """The actions, and where they lie in the action space."""

    shape: tuple[int, ...]
    dtype: str
    low: Range
    """As for observations"""
    high: Range
    counts: dict[str, int] | None
    """How often each discrete action occurs"""
    space: str | None = None
    """Type of the action space, None: unknown, or the actions do not fit it"""
    space_low: list[float | None] | None = None
    """Bounds of each component of a Box, None where it has none"""
    space_high: list[float | None] | None = None
    saturated: list[float | None] | None = None
    """Share of the actions at the bounds, within ``SATURATION_MARGIN`` of the range, for each component of a Box"""
    saturated_overall: float | None = None
    """The same for all bounded components together"""


@dataclass(frozen=True)
class Summary:
    """Result of :func:`summarize`."""

    source: str | None
    env_id: str | None
    producer: str | None
    n_episodes: int
    n_transitions: int
    n_terminated: int
    """Episodes that end in a terminal state; all others are truncated"""
    n_truncated: int
    success_rate: float | None
    lengths: dict[str, float]
    """Over the episodes: ``min``, ``lower_quartile``, ``median``, ``upper_quartile``, ``max``, ``mean`` and ``std``"""
    returns: dict[str, float]
    episodes: list[EpisodeSummary]
    observations: list[ObservationSummary]
    actions: ActionSummary
    warnings: list[str]
    """Each says what was found and what to do about it"""


def summarize(demonstrations: Demonstrations, action_space: spaces.Space | None = None) -> Summary:
    """
    :param demonstrations: Demonstrations to summarise
    :param action_space: Action space of their environment. By default the one in the metadata, or that of the registered
        environment that the metadata name
    """
    space = action_space if action_space is not None else recorded_action_space(demonstrations)
    lengths, returns = demonstrations.episode_lengths, demonstrations.episode_returns
    n_episodes, success_rate = demonstrations.n_episodes, _success_rate(demonstrations)
    texts = {key: str(value) for key, value in demonstrations.metadata.items() if value is not None}
    ends = ["terminated" if end else "truncated" for end in demonstrations.terminated[np.cumsum(lengths) - 1]]
    successes = [None] * n_episodes if demonstrations.successes is None else demonstrations.successes.tolist()
    return Summary(
        source=demonstrations.source,
        env_id=texts.get("env_id"),
        producer=texts.get("producer"),
        n_episodes=n_episodes,
        n_transitions=len(demonstrations),
        n_terminated=ends.count("terminated"),
        n_truncated=ends.count("truncated"),
        success_rate=success_rate,
        lengths=_spread(lengths),
        returns=_spread(returns),
        episodes=[EpisodeSummary(*row) for row in zip(lengths.tolist(), returns.tolist(), successes, ends, strict=True)],
        observations=_summarize_observations(demonstrations),
        actions=_summarize_actions(demonstrations.actions, space),
        warnings=find_warnings(demonstrations, space, success_rate),
    )


def _spread(values: np.ndarray) -> dict[str, float]:
    numbers = [*np.quantile(values, (0.0, 0.25, 0.5, 0.75, 1.0)).tolist(), float(values.mean()), float(values.std())]
    names = ("min", "lower_quartile", "median", "upper_quartile", "max", "mean", "std")
    return dict(zip(names, numbers, strict=True))


def _success_rate(demonstrations: Demonstrations) -> float | None:
    if demonstrations.successes is not None:
        return float(demonstrations.successes.mean())
    rate = demonstrations.metadata.get("success_rate")
    return float(rate) if isinstance(rate, (int, float)) and 0 <= rate <= 1 else None


def _range(*parts: np.ndarray) -> tuple[Range, Range]:
    if parts[0].size == 0:
        return [], []
    axis = 0 if parts[0].ndim == 2 else None
    low = np.min([part.min(axis=axis) for part in parts], axis=0)
    high = np.max([part.max(axis=axis) for part in parts], axis=0)
    return low.astype(float).tolist(), high.astype(float).tolist()


def _summarize_observations(demonstrations: Demonstrations) -> list[ObservationSummary]:
    seen, after = demonstrations.observations, demonstrations.next_observations
    keys: list[str | None] = list(seen) if isinstance(seen, Mapping) else [None]
    arrays = zip(keys, as_dict(seen).values(), as_dict(after).values(), strict=True)
    # What the last step of an episode led to was seen too
    last = np.cumsum(demonstrations.episode_lengths) - 1
    return [
        ObservationSummary(key, array.shape[1:], str(array.dtype), *_range(array, later[last])) for key, array, later in arrays
    ]


def _summarize_actions(actions: np.ndarray, space: spaces.Space | None) -> ActionSummary:
    counts, position = None, {}
    if actions.ndim == 1 and actions.dtype.kind in "iu":
        counted = Counter(actions.tolist())
        counts = {str(action): counted[action] for action in sorted(counted)} if len(counted) <= MAX_COUNTED else None
    if space is not None and actions.shape[1:] == space.shape:
        position = {"space": type(space).__name__, **(_saturation(actions, space) if isinstance(space, spaces.Box) else {})}
    return ActionSummary(actions.shape[1:], str(actions.dtype), *_range(actions), counts, **position)


def _saturation(actions: np.ndarray, space: spaces.Box) -> dict[str, Any]:
    low, high = (bound.ravel().astype(np.float64) for bound in (space.low, space.high))
    rows = actions.reshape(len(actions), -1)
    with np.errstate(invalid="ignore"):
        margin = SATURATION_MARGIN * (high - low)
        shares = ((rows <= low + margin) | (rows >= high - margin)).mean(axis=0)
    bounded = np.isfinite(low) & np.isfinite(high)
    return {
        # JSON has no infinity
        "space_low": [float(bound) if np.isfinite(bound) else None for bound in low],
        "space_high": [float(bound) if np.isfinite(bound) else None for bound in high],
        "saturated": [float(share) if known else None for share, known in zip(shares, bounded, strict=True)],
        "saturated_overall": float(shares[bounded].mean()) if bounded.any() else None,
    }
