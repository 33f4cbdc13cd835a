"""Warnings about demonstrations. Each one says what was found and what to do about it."""

from collections.abc import Mapping
from hashlib import blake2b

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from sb3_pgfd.demonstrations.dataset import Demonstrations
from sb3_pgfd.demonstrations.errors import DemonstrationsError
from sb3_pgfd.demonstrations.validation import Locator, as_dict, check_actions

# Rounding error of scaled actions
_SLACK = 1e-4
# Largest number of names in a sentence
_MAX_NAMED = 8
# Two groups of returns: smallest share of the smaller group, and smallest difference relative to the returns
_SMALLEST_GROUP, _SMALLEST_DIFFERENCE = 0.2, 0.2
# Some episodes that share the longest length point to a time limit, except among short ones, where it is chance
_SHORT = 20


def find_warnings(demonstrations: Demonstrations, space: spaces.Space | None, success_rate: float | None) -> list[str]:
    """
    :param demonstrations: Demonstrations to check
    :param space: Action space of the environment, None if unknown
    :param success_rate: Share of successful episodes, None if unknown
    """
    return [
        *_too_little(demonstrations, success_rate),
        *_action_units(demonstrations.actions, space, Locator(demonstrations.episode_lengths)),
        *_terminated_at_a_limit(demonstrations),
        *_cut(demonstrations.episode_lengths, ~_terminated(demonstrations)),
        *_returns(demonstrations.episode_returns),
        *_constants(demonstrations),
        *_duplicates(demonstrations),
    ]


def two_groups(values: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """
    Split values at the largest gap that leaves a fifth of them, and at least two, on both sides. They form two groups if
    the means differ by more than 3.7 + 60 / n standard deviations within the groups: in simulations, at most about 1 % of
    the samples of 5 to 500 normal, uniform or exponential values do so. Groups that differ by less than a fifth of the
    largest value count as one.

    :param values: Shape ``(n,)``
    :return: The lower and the upper group in ascending order; None if there is one group, or too few values to tell
    """
    ordered, n = np.sort(values), len(values)
    smallest = max(2, int(np.ceil(_SMALLEST_GROUP * n)))
    sizes = np.arange(smallest, n - smallest + 1)
    if len(sizes) == 0:
        return None
    size = int(sizes[(ordered[sizes] - ordered[sizes - 1]).argmax()])
    lower, upper = ordered[:size], ordered[size:]
    difference = upper.mean() - lower.mean()
    within = np.sqrt((((lower - lower.mean()) ** 2).sum() + ((upper - upper.mean()) ** 2).sum()) / (n - 2))
    apart = difference > (3.7 + 60.0 / n) * within and difference > _SMALLEST_DIFFERENCE * np.abs(ordered).max()
    return (lower, upper) if apart else None


def _too_little(demonstrations: Demonstrations, success_rate: float | None) -> list[str]:
    found = []
    if demonstrations.n_episodes == 1:
        found.append("There is only one episode: it shows one start and one way. Record more, from different starts.")
    if not demonstrations.rewards.any():
        found.append(
            "All rewards are 0: nothing tells good actions from bad ones. Record the rewards of the environment, or reward "
            "the last step of each success before you train on them."
        )
    if success_rate == 0.0:
        found.append("No episode is a success: learners imitate the failures. Record some that solve the task.")
    return found


def _action_units(actions: np.ndarray, space: spaces.Space | None, locate: Locator) -> list[str]:
    if space is None:
        return []
    try:
        check_actions(actions, space, locate)
    except DemonstrationsError as error:
        return [f"The actions do not fit the action space of the environment. {error}."]
    if not isinstance(space, spaces.Box) or np.abs(actions).max(initial=0.0) > 1.0 + _SLACK:
        return []
    larger = np.isfinite(space.low) & np.isfinite(space.high) & ((space.low < -1.0 - _SLACK) | (space.high > 1.0 + _SLACK))
    if not larger.any():
        return []
    low, high = float(space.low[larger].min()), float(space.high[larger].max())
    return [
        f"The actions never leave [-1, 1], but the environment takes them from {low:g} to {high:g}: they may have been "
        "recorded in normalised units. If so, give the bounds (--action-low, --action-high)."
    ]


def _terminated(demonstrations: Demonstrations) -> np.ndarray:
    return demonstrations.terminated[demonstrations.episode_starts + demonstrations.episode_lengths - 1]


def _time_limit(demonstrations: Demonstrations) -> object:
    """Time limit of the environment in the metadata, if it is registered; nothing is imported to find it."""
    env_id, kwargs = demonstrations.metadata.get("env_id"), demonstrations.metadata.get("env_kwargs")
    spec = gym.registry.get(env_id) if isinstance(env_id, str) else None
    limit = kwargs.get("max_episode_steps") if isinstance(kwargs, Mapping) else None
    return spec.max_episode_steps if spec and limit is None else limit


def _terminated_at_a_limit(demonstrations: Demonstrations) -> list[str]:
    terminated_lengths, longest = (
        demonstrations.episode_lengths[_terminated(demonstrations)],
        demonstrations.episode_lengths.max(),
    )
    n, n_longest = len(terminated_lengths), int((terminated_lengths == longest).sum())
    known = n_longest > 0 and longest == _time_limit(demonstrations)
    all_of_them = n_longest == n > 1 and longest > 1
    if not (known or all_of_them or (n_longest >= max(3, 0.2 * n) and longest >= _SHORT)):
        return []
    what = "the time limit of the environment" if known else "which looks like a time limit"
    # The option changes every episode
    mend = 'pass done_means="truncated" (--done-means truncated)' if n_longest == n else "set truncated in the recording"
    return [
        f"{n_longest} of {n} terminated episodes end after exactly {longest} steps, {what}. A time limit is no terminal "
        f"state: {mend}, otherwise learners take their last states for worthless."
    ]


def _cut(lengths: np.ndarray, truncated: np.ndarray) -> list[str]:
    """A time limit gives most truncated episodes the same length, which is the longest."""
    cut = lengths[truncated]
    if truncated[-1] and lengths[-1] < lengths.max() and len(np.unique(cut[:-1])) <= 1:
        return [
            f"The last episode stops after {lengths[-1]} steps, before any end or time limit: the source probably ended in "
            f"the middle of it. It is marked truncated; leave it out if it is a fragment (--episodes {len(lengths) - 1})."
        ]
    if len(cut) < 2 or np.unique(cut, return_counts=True)[1].max() > len(cut) / 2:
        return []
    return [
        f"{len(cut)} episodes are truncated at different lengths ({cut.min()} to {cut.max()} steps), so not by a time limit: "
        "either someone stopped the recording, or these are terminal states (solved, or the robot fell) with the wrong "
        "flag. Then set terminated where they were recorded."
    ]


def _returns(returns: np.ndarray) -> list[str]:
    groups = two_groups(returns)
    if groups is None:
        return []
    lower, upper = groups
    return [
        f"The returns fall into two groups, {len(lower)} episodes around {lower.mean():.4g} and {len(upper)} around "
        f"{upper.mean():.4g}: failures, or two ways to solve the task. Look at the worse ones, and leave them out if they "
        f"are failures (--min-return {(lower[-1] + upper[0]) / 2:.4g})."
    ]


def _constants(demonstrations: Demonstrations) -> list[str]:
    if len(demonstrations) < 2:
        return []
    dead = "A dead sensor, or something that these episodes do not vary: learners cannot tell what other values mean."
    found = []
    for field, sentence in (
        ("actions", "Nothing is learned about other values: check the recording."),
        ("observations", dead),
    ):
        arrays = as_dict(getattr(demonstrations, field), field)
        names = [name for key, array in arrays.items() for name in _constant_components(key, array)]
        if names:
            found.append(f"Constant in all steps: {_listed(names)}. {sentence}")
    return found


def _constant_components(name: str, array: np.ndarray) -> list[str]:
    """Images are checked as a whole, because many of their pixels never change."""
    if array.ndim == 2:
        return [f"{name}[{int(index)}]" for index in np.flatnonzero(array.min(axis=0) == array.max(axis=0))]
    return [name] if array.size and array.min() == array.max() else []


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return ", ".join(names[:_MAX_NAMED]) + more


def _duplicates(demonstrations: Demonstrations) -> list[str]:
    arrays = (*as_dict(demonstrations.observations).values(), demonstrations.actions, demonstrations.rewards)
    first: dict[bytes, int] = {}
    copies = []
    for number, rows in enumerate(np.split(np.arange(len(demonstrations)), demonstrations.episode_starts[1:])):
        digest = blake2b()
        for array in arrays:
            digest.update(np.ascontiguousarray(array[rows[0] : rows[-1] + 1]).data)
        original = first.setdefault(digest.digest(), number)
        if original != number:
            copies.append(f"{number} of {original}")
    if not copies:
        return []
    return [
        f"Episodes that are copies of others: {_listed(copies)} (numbered from 0). They add nothing: record with other seeds, "
        "or leave them out."
    ]
