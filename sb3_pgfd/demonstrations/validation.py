"""Checks that name the field, the episode, the step, the value found and the value wanted."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from gymnasium import spaces

from sb3_pgfd.demonstrations.errors import DemonstrationsError

Observations = np.ndarray | Mapping[str, np.ndarray]

# Actions may leave their bounds by a rounding error of the controller's own scaling, relative to the range
ACTION_TOLERANCE = 1e-4

# The lowest and the highest action of a space
_BOUNDS: dict[type[spaces.Space], Callable[[Any], tuple[Any, Any]]] = {
    spaces.Box: lambda space: (space.low, space.high),
    spaces.Discrete: lambda space: (space.start, space.start + space.n - 1),
    spaces.MultiDiscrete: lambda space: (space.start, space.start + space.nvec - 1),
    spaces.MultiBinary: lambda space: (0, 1),
}


def as_dict(observations: Observations, name: str = "observations") -> dict[str, np.ndarray]:
    """:return: Box or Dict observations as ``{name: array}`` or ``{"name[key]": array}``; the name is for messages"""
    if isinstance(observations, Mapping):
        return {f"{name}[{key!r}]": array for key, array in observations.items()}
    return {name: observations}


class Locator:
    """Turns a row into words: its episode and its step in it."""

    def __init__(self, episode_lengths: np.ndarray):
        self.ends = np.cumsum(episode_lengths)

    def __call__(self, row: int) -> str:
        episode = int(np.searchsorted(self.ends, row, side="right"))
        start = int(self.ends[episode - 1]) if episode else 0
        return f"episode {episode}, step {row - start}"


def check_lengths(arrays: Mapping[str, np.ndarray], episode_lengths: np.ndarray) -> None:
    """:raises DemonstrationsError: Unless there is a transition, and all fields have as many as the episodes together"""
    if episode_lengths.ndim != 1 or len(episode_lengths) == 0:
        raise DemonstrationsError("demonstrations: found no episode, expected at least one with one transition")
    if not np.issubdtype(episode_lengths.dtype, np.integer) or episode_lengths.min() < 1:
        raise DemonstrationsError(f"episode_lengths: found {episode_lengths.tolist()}, expected whole numbers >= 1")
    # Python's integers, as lengths from a damaged file may overflow a sum of 64 bits
    n_transitions = sum(episode_lengths.tolist())
    for name, array in arrays.items():
        if array.ndim == 0 or len(array) != n_transitions:
            found = "a single number" if array.ndim == 0 else f"{len(array)} rows"
            raise DemonstrationsError(f"{name}: found {found}, expected {n_transitions}, the sum of the episode lengths")


def check_finite(arrays: Mapping[str, np.ndarray], locate: Locator) -> None:
    """:raises DemonstrationsError: If a field of numbers holds NaN or infinity"""
    for name, array in arrays.items():
        with np.errstate(over="ignore", invalid="ignore"):
            if array.dtype.kind != "f" or np.isfinite(array.sum()):
                continue
        bad = ~np.isfinite(array.reshape(len(array), -1))
        if bad.any():
            row, component = (int(i[0]) for i in np.nonzero(bad))
            value = array.reshape(len(array), -1)[row, component]
            raise DemonstrationsError(
                f"{name}: {locate(row)}, component {component}: found {value}, expected a finite number "
                f"({int(bad.sum())} such values in all). Drop or repair these episodes"
            )


def check_episode_ends(terminated: np.ndarray, truncated: np.ndarray, episode_lengths: np.ndarray) -> None:
    """:raises DemonstrationsError: Unless exactly the last step of every episode is terminated or truncated"""
    expected = np.zeros(len(terminated), dtype=bool)
    expected[np.cumsum(episode_lengths) - 1] = True
    wrong = np.nonzero((terminated | truncated) != expected)[0]
    if len(wrong):
        row = int(wrong[0])
        where = Locator(episode_lengths)(row)
        found, advice = "the end of an episode before its last step, expected it there only", "Split the episode at this step"
        if expected[row]:
            where, found = f"{where}, the last of its episode", "neither, expected one of them"
            advice = "Set truncated where a recording stops before the task does"
        raise DemonstrationsError(f"terminated, truncated: {where}: found {found}. {advice}")


def check_observations(observations: Observations, space: spaces.Space, field: str = "observations") -> None:
    """
    :param observations: Observations of a dataset
    :param space: The model's observation space
    :param field: Name of the field, for messages
    :raises DemonstrationsError: If keys, shapes or dtypes do not fit
    """
    if isinstance(space, spaces.Dict) != isinstance(observations, Mapping):
        found = f"a dict with keys {sorted(observations)}" if isinstance(observations, Mapping) else "one array"
        raise DemonstrationsError(f"{field}: found {found}, expected {space}{_how_to_join(observations, space)}")
    subspaces = space.spaces if isinstance(space, spaces.Dict) else {}
    if isinstance(observations, Mapping) and set(observations) != set(subspaces):
        raise DemonstrationsError(f"{field}: found keys {sorted(observations)}, expected {sorted(subspaces)}")
    for key, (name, array) in zip(observations if subspaces else [""], as_dict(observations, field).items(), strict=True):
        _check_array(name, array, subspaces.get(key, space))


def _how_to_join(observations: Observations, space: spaces.Space) -> str:
    """Advice for an environment whose Dict observations are flattened, as the RL Zoo's wrapper does it."""
    if not isinstance(observations, Mapping) or not isinstance(space, spaces.Box):
        return ""
    size = sum(int(np.prod(array.shape[1:])) for array in observations.values())
    if space.shape != (size,):
        return ""
    return (
        ". Together the keys have this size: load them flattened, Demonstrations.load(source, flatten_observations=True), in "
        "the RL Zoo's yaml `demonstrations: {source: ..., flatten_observations: true}`"
    )


def check_actions(actions: np.ndarray, space: spaces.Space, locate: Locator) -> None:
    """
    :param actions: Actions of a dataset, in environment units
    :param space: The model's action space
    :param locate: Names a row
    :raises DemonstrationsError: If shape, dtype or bounds do not fit
    """
    _check_array("actions", actions, space)
    bounds = next((bounds for kind, bounds in _BOUNDS.items() if isinstance(space, kind)), None)
    if bounds is None:
        return
    low, high = bounds(space)
    # A component that is bounded on one side only has no range
    slack = np.where(np.isfinite(high - low), ACTION_TOLERANCE * (high - low), 0) if isinstance(space, spaces.Box) else 0
    outside = (actions < low - slack) | (actions > high + slack)
    if outside.any():
        first = np.unravel_index(int(outside.argmax()), outside.shape)
        value, component = actions[first], first[1:]
        wanted = f"[{np.broadcast_to(low, outside.shape)[first]}, {np.broadcast_to(high, outside.shape)[first]}]"
        raise DemonstrationsError(
            f"actions: {locate(int(first[0]))}{f', component {component[0]}' if component else ''}: found {value}, "
            f"expected a value in {wanted} ({int(outside.sum())} such values in all). "
            f"{units_hint(low, high)}"
        )


def units_hint(low: Any, high: Any) -> str:
    """:return: How to bring actions to the bounds of an environment, whichever of the two has other units"""
    low, high = (
        np.unique(bound).tolist() if np.unique(bound).size == 1 else np.ravel(bound).tolist() for bound in (low, high)
    )
    low, high = (bound[0] if len(bound) == 1 else bound for bound in (low, high))
    return (
        f"Demonstrations hold actions in the units of the environment that the model acts in. If these were recorded between "
        f"other bounds, in an environment with or without RescaleAction, name those bounds and these: "
        f"load(source, recorded_low=..., recorded_high=..., action_low={low}, action_high={high}); without them, the recorded "
        "bounds are -1 and 1"
    )


def normalised_units(actions: np.ndarray, space: spaces.Space) -> str | None:
    """:return: A warning if actions never leave [-1, 1] in a space that is larger, None: they do, or it is not"""
    if not isinstance(space, spaces.Box) or actions.shape[1:] != space.shape:
        return None
    if np.abs(actions).max(initial=0.0) > 1.0 + ACTION_TOLERANCE:
        return None
    wide = (space.low < -1.0 - ACTION_TOLERANCE) | (space.high > 1.0 + ACTION_TOLERANCE)
    larger = np.isfinite(space.low) & np.isfinite(space.high) & wide
    if not larger.any():
        return None
    low, high = float(space.low[larger].min()), float(space.high[larger].max())
    return (
        f"The actions never leave [-1, 1], but the environment takes them from {low:g} to {high:g}: they may have been "
        "recorded in normalised units. If so, give the bounds (action_low, action_high; --action-low, --action-high)."
    )


def _check_array(name: str, array: np.ndarray, space: spaces.Space) -> None:
    if array.shape[1:] != space.shape:
        raise DemonstrationsError(f"{name}: found shape {array.shape[1:]} per step, expected {space.shape} of {space}")
    # float64 for float32 is fine, float for an image or an index is not
    if space.dtype is not None and not np.can_cast(array.dtype, space.dtype, casting="same_kind"):
        raise DemonstrationsError(f"{name}: found dtype {array.dtype}, expected {space.dtype} of {space}")
