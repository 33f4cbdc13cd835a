"""Warnings about demonstrations. Each one says what was found and what to do about it."""

from collections.abc import Mapping
from hashlib import blake2b

import numpy as np
from gymnasium import spaces

from sb3_pgfd.demonstrations.continuity import find_jumps
from sb3_pgfd.demonstrations.dataset import Demonstrations
from sb3_pgfd.demonstrations.errors import DemonstrationsError
from sb3_pgfd.demonstrations.time_limit import time_limit
from sb3_pgfd.demonstrations.validation import Locator, as_dict, check_actions, normalised_units

# Largest number of names in a sentence
_MAX_NAMED = 8
# Two groups of returns: smallest share of the smaller group, and smallest difference relative to the returns
_SMALLEST_GROUP, _SMALLEST_DIFFERENCE = 0.2, 0.2
# Shorter episodes have the double length by chance
_MIN_USUAL = 5
# A leap: share of the steps that may be one, ratio to the longest other step, standard deviations,
# and steps that it takes to tell
_FEW_LEAPS, _LEAP, _LEAST_LEAP, _LEAST_STEPS = 0.02, 2.5, 0.2, 50
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
        *continuity_warnings(demonstrations),
        *_action_units(demonstrations.actions, space, Locator(demonstrations.episode_lengths)),
        *_terminated_at_a_limit(demonstrations),
        *_cut(demonstrations.episode_lengths, ~_terminated(demonstrations) & ~_cuts(demonstrations)),
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
            "the last step of each episode while loading: final_reward=1.0 (--option final_reward=1.0)."
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
    found = normalised_units(actions, space)
    return [] if found is None else [found]


def continuity_warnings(demonstrations: Demonstrations) -> list[str]:
    """
    :param demonstrations: Demonstrations to check
    :return: Of ends of episodes that no flag marked, and of those that still seem to be missing
    """
    found = []
    n_cuts = int(_cuts(demonstrations).sum())
    if n_cuts:
        found.append(
            f"{n_cuts} of {demonstrations.n_episodes} episodes were cut as truncated where the rows jumped and no flag ended "
            "the episode. Where the task itself ended, set terminated in the source."
        )
    ended = demonstrations.terminated | demonstrations.truncated
    jumps = find_jumps(demonstrations.observations, demonstrations.next_observations, ended, ordered=True)
    if jumps.any():
        found.append(
            f"{int(jumps.sum())} steps within episodes do not end with the observation that the next step begins with, first "
            f"{Locator(demonstrations.episode_lengths)(int(jumps.argmax()))}: n-step returns and hindsight goals would cross "
            "these jumps. End the episode there: Demonstrations.from_transitions does."
        )
    lengths, counts = np.unique(demonstrations.episode_lengths, return_counts=True)
    usual = lengths[counts.argmax()]
    multiples = np.flatnonzero((demonstrations.episode_lengths % usual == 0) & (demonstrations.episode_lengths > usual))
    if counts.max() >= max(3, 0.8 * demonstrations.n_episodes) and usual >= _MIN_USUAL and len(multiples):
        found.append(
            f"Episodes {_listed([str(number) for number in multiples])} have a multiple of the {usual} steps that the others "
            "have: the flag at an end is probably missing there. Set it, or name the time limit if the format takes it "
            f"(episode_length={usual})."
        )
    return [*found, *_leaps(demonstrations)]


def _leaps(demonstrations: Demonstrations) -> list[str]:
    """Few steps that go much farther than all others: in a file without next observations, a reset that no flag marks."""
    parts = []
    before, after = as_dict(demonstrations.observations), as_dict(demonstrations.next_observations)
    for array, next_array in zip(before.values(), after.values(), strict=True):
        if array.ndim == 2:
            scale = array.std(axis=0, dtype=np.float64)
            parts.append(np.abs(np.subtract(next_array, array, dtype=np.float32)[:, scale > 0]) / scale[scale > 0])
    n_few, n_components = int(_FEW_LEAPS * len(demonstrations)) + 1, sum(part.shape[1] for part in parts)
    if len(demonstrations) < _LEAST_STEPS or not n_components:
        return []
    # A reset moves most components, a collision some
    middle = (n_components - 1) // 2
    distances = np.partition(np.concatenate(parts, axis=1), middle, axis=1)[:, middle]
    order = np.argsort(distances)
    top = distances[order[-n_few - 1 :]]
    gap = int((top[1:] / np.maximum(top[:-1], 1e-12)).argmax()) + 1
    if top[gap] < _LEAST_LEAP or top[gap] < _LEAP * top[gap - 1]:
        return []
    rows = np.sort(order[gap - len(top) :])
    where = Locator(demonstrations.episode_lengths)
    return [
        f"{len(rows)} steps go {top[gap] / max(top[gap - 1], 1e-12):.3g} times as far as any other, as a reset does: "
        f"{_listed([where(int(row)) for row in rows])}. If the flag at an end is missing there, set it, or name the time limit"
        " (episode_length)."
    ]


def _cuts(demonstrations: Demonstrations) -> np.ndarray:
    return demonstrations.episode_info.get("cut", np.zeros(demonstrations.n_episodes, dtype=bool))


def _terminated(demonstrations: Demonstrations) -> np.ndarray:
    return demonstrations.terminated[demonstrations.episode_starts + demonstrations.episode_lengths - 1]


def _time_limit(demonstrations: Demonstrations) -> int | None:
    """Time limit of the environment in the metadata, if it is registered; nothing is imported to find it."""
    env_id, kwargs = demonstrations.metadata.get("env_id"), demonstrations.metadata.get("env_kwargs")
    return time_limit(env_id, kwargs if isinstance(kwargs, Mapping) else {}) if isinstance(env_id, str) else None


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
    if len(cut) and truncated[-1] and lengths[-1] < lengths.max() and len(np.unique(cut[:-1])) <= 1:
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
