"""
Choosing, splitting and merging episodes; other actions, flags or observations.

What is made of valid demonstrations is valid, so nothing here validates them again.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from sb3_pgfd.demonstrations import stacking
from sb3_pgfd.demonstrations.arrays import concatenate, map_observations, owned, unscaled
from sb3_pgfd.demonstrations.continuity import find_jumps
from sb3_pgfd.demonstrations.episode import T, Transitions
from sb3_pgfd.demonstrations.errors import DemonstrationsError
from sb3_pgfd.demonstrations.validation import ACTION_TOLERANCE, Locator, as_dict, check_finite, units_hint
from sb3_pgfd.utils.checks import is_number, is_whole
from sb3_pgfd.utils.warning import warn_user

DoneMeans = Literal["truncated", "terminated"]
ObservationKeys = str | Sequence[str] | Mapping[str, str]

_ROWS = ("actions", "rewards", "terminated", "truncated")


def edit(
    demonstrations: T,
    *,
    observation_keys: ObservationKeys | None = None,
    flatten_observations: bool = False,
    action_low: Any = None,
    action_high: Any = None,
    recorded_low: Any = -1.0,
    recorded_high: Any = 1.0,
    done_means: DoneMeans | None = None,
    final_reward: float | None = None,
    successful_only: bool = False,
    min_return: float | None = None,
    n_episodes: int | None = None,
    seed: int | None = None,
    stack_frames: int = 1,
) -> T:
    """
    The options of :meth:`~sb3_pgfd.demonstrations.Demonstrations.load`, in this order.

    :param demonstrations: What to start from
    :param observation_keys: Of Dict observations: one key, whose array becomes the whole observation; several to keep;
        or ``{new name: name in the source}``
    :param flatten_observations: Join the keys to one vector, in the order they are named here, or in that of the recorded
        space if they are not
    :param action_low: The environment's lower action bound, if the actions were recorded between other bounds
    :param action_high: Its upper action bound
    :param recorded_low: The lower bound that they were recorded with
    :param recorded_high: The upper one
    :param done_means: ``"truncated"``: what the source calls terminal or done was a time limit; ``"terminated"``: all ends of
        the source are terminal states, which it does not tell itself
    :param final_reward: For sources without rewards, or with rewards that are all 0: what the last step of each episode gets,
        the others 0; episodes that are known to have failed get 0 throughout
    :param successful_only: Keep episodes that solved the task
    :param min_return: Keep episodes with this return or more
    :param n_episodes: Keep this many of those: the first ones, or random ones if there is a ``seed``
    :param seed: Of the random choice
    :param stack_frames: Frames per observation, see :func:`sb3_pgfd.demonstrations.stacking.stack_frames`
    :raises DemonstrationsError: If there is no such key, action, flag or episode
    """
    if (action_low is None) != (action_high is None):
        raise DemonstrationsError("found only one of action_low and action_high, expected both or none")
    if observation_keys is not None or flatten_observations:
        demonstrations = choose_observations(demonstrations, observation_keys, flatten_observations)
    if action_low is not None:
        demonstrations = rescale_actions(demonstrations, action_low, action_high, recorded_low, recorded_high)
    elif (np.ndim(recorded_low), recorded_low, np.ndim(recorded_high), recorded_high) != (0, -1.0, 0, 1.0):
        raise DemonstrationsError("found recorded_low or recorded_high, expected also action_low and action_high to map to")
    demonstrations = mark_ends(demonstrations, done_means)
    if final_reward is not None:
        demonstrations = reward_ends(demonstrations, final_reward)
    return stacking.stack_frames(pick(demonstrations, successful_only, min_return, n_episodes, seed), stack_frames)


def mark_ends(demonstrations: T, done_means: DoneMeans | None) -> T:
    """
    :param demonstrations: Of a source that tells terminal states from time limits
    :param done_means: ``"truncated"``: it does so wrongly, all ends are truncated; None: as they are
    :raises DemonstrationsError: If it is something else, or would make a terminal state of a time limit
    """
    if done_means not in (None, "truncated", "terminated"):
        raise DemonstrationsError(f"found done_means={done_means!r}, expected 'truncated' or 'terminated'")
    if done_means == "terminated" and demonstrations.truncated.any():
        raise DemonstrationsError(
            f"found done_means='terminated' for a source that calls {int(demonstrations.truncated.sum())} of "
            f"{demonstrations.n_episodes} ends truncated, expected one that does not tell terminal states from time limits: "
            "leave it out, or set terminated in the source"
        )
    if done_means != "truncated" or not demonstrations.terminated.any():
        return demonstrations
    ended = owned(demonstrations.terminated | demonstrations.truncated)
    return demonstrations.changed(terminated=np.zeros_like(ended), truncated=ended)


def cut_at_jumps(transitions: T, source: str = "demonstrations", solved: np.ndarray | None = None, ordered: bool = False) -> T:
    """
    End an episode as truncated where the next row does not begin where it ended: a jump inside an episode would be in n-step
    returns and hindsight goals. A warning says how many cuts were made.

    :param transitions: Validated, or by a reader
    :param source: Its name, for the warning
    :param solved: Whether the task was solved at each step, if that is known: then success is known of the parts too
    :param ordered: The rows are known to be in the order of time, as those of a replay buffer
    :raises DemonstrationsError: If most rows jump
    """
    ended = transitions.terminated | transitions.truncated
    jumps = find_jumps(transitions.observations, transitions.next_observations, ended, ordered)
    if not jumps.any():
        return transitions
    ends = np.flatnonzero(ended | jumps)
    lengths = np.diff(ends, prepend=-1)
    whole = np.repeat(np.arange(transitions.n_episodes), transitions.episode_lengths)[ends]
    # Of the other facts nobody knows to which part they belong
    info = {name: array[whole] for name, array in transitions.episode_info.items() if name not in ("success", "seed")}
    info["cut"] = info.get("cut", False) & ~jumps[ends] | jumps[ends]
    lost = [name for name in ("success", "seed") if name in transitions.episode_info]
    if solved is not None and "success" in lost:
        lost.remove("success")
        info["success"] = np.logical_or.reduceat(solved, ends - lengths + 1)
    row, n_cuts = int(jumps.argmax()), int(jumps.sum())
    places = "1 place" if n_cuts == 1 else f"{n_cuts} places"
    warn_user(
        f"{source}: found {places} where the next row does not begin with the observation that a step ended with, first after "
        f"row {row} ({Locator(transitions.episode_lengths)(row)}), though no flag ends the episode there. Cut there as "
        f"truncated: of {transitions.n_episodes} episodes {len(lengths)} were made. Where the task itself ended, set "
        f"terminated in the source{f'. Of these episodes is no longer known: {chr(44).join(lost)}' if lost else ''}",
    )
    return transitions.changed(
        truncated=owned(transitions.truncated | jumps), episode_lengths=owned(lengths), episode_info=info
    )


def rewards_at_ends(lengths: np.ndarray, final_reward: float, successes: np.ndarray | None = None) -> np.ndarray:
    """
    :param lengths: Steps per episode
    :param final_reward: For the last step of each; the others get 0
    :param successes: Whether each episode solved the task, if that is known: those that did not get 0
    :return: Of all steps, float32
    """
    rewards = np.zeros(int(lengths.sum()), dtype=np.float32)
    rewards[np.cumsum(lengths) - 1] = final_reward if successes is None else np.where(successes, final_reward, 0.0)
    return owned(rewards)


def reward_ends(demonstrations: T, final_reward: float) -> T:
    """See :func:`edit`."""
    if not is_number(final_reward):
        raise DemonstrationsError(f"found final_reward={final_reward!r}, expected a number")
    rewards = rewards_at_ends(demonstrations.episode_lengths, final_reward, demonstrations.successes)
    # A reader of a source without rewards has made these already
    if demonstrations.rewards.any() and not np.array_equal(demonstrations.rewards, rewards):
        raise DemonstrationsError(f"found final_reward={final_reward} for a source that holds rewards, expected none: omit it")
    return demonstrations.changed(rewards=rewards)


def source_keys(observation_keys: ObservationKeys | None, known: Collection[str]) -> list[str]:
    """
    :return: What the keys chosen for :func:`edit` are called in the source, whose keys are ``known``
    :raises DemonstrationsError: If one is not known, or there is none
    """
    if isinstance(observation_keys, Mapping):
        observation_keys = list(observation_keys.values())
    if isinstance(observation_keys, str):
        observation_keys = [observation_keys]
    if observation_keys is not None and not isinstance(observation_keys, Collection):
        raise DemonstrationsError(
            f"observation_keys: found {observation_keys!r}, expected a name, or a list or mapping of names"
        )
    wanted = list(known if observation_keys is None else observation_keys)
    missing = [key for key in wanted if key not in known]
    if missing or not wanted:
        raise DemonstrationsError(f"observation_keys: found {missing or 'none'}, expected some of {sorted(known)}")
    return wanted


def choose_observations(demonstrations: T, observation_keys: ObservationKeys | None = None, flatten: bool = False) -> T:
    """See :func:`edit`."""
    chosen: dict[str, Any] = {}
    if not isinstance(demonstrations.observations, Mapping):
        raise DemonstrationsError("observations: found one array, expected a dict of arrays to choose keys from")
    wanted = source_keys(observation_keys, demonstrations.observations)
    if flatten and observation_keys is None:
        wanted = _in_order_of_space(wanted, demonstrations.metadata)
    for field in ("observations", "next_observations"):
        arrays = getattr(demonstrations, field)
        if flatten or isinstance(observation_keys, str):
            rows = [arrays[key].reshape(len(demonstrations), -1) for key in wanted]
            chosen[field] = owned(np.concatenate(rows, axis=1)) if flatten else arrays[wanted[0]]
        else:
            names = observation_keys if isinstance(observation_keys, Mapping) else wanted
            chosen[field] = {name: arrays[key] for name, key in zip(names, wanted, strict=True)}
    # It describes what was recorded
    return demonstrations.changed(**chosen, metadata=_without(demonstrations.metadata, "observation_space"))


def _in_order_of_space(keys: list[str], metadata: Mapping[str, Any]) -> list[str]:
    """:return: The keys in the order of their space, in which ``gymnasium.wrappers.FlattenObservation`` joins them"""
    named = _names(metadata.get("observation_space"))
    if sorted(named) == sorted(keys):
        return named
    if len(keys) > 1:
        warn_user(
            f"flatten_observations: found no word on the order of the keys in the environment, so they are joined in "
            f"alphabetical order: {', '.join(keys)}. Name them in observation_keys if the environment joins them otherwise",
        )
    return keys


def _names(space: Any, prefix: str = "") -> list[str]:
    """:return: The keys that a space in the metadata names, those of a nested one as ``"outer/inner"``"""
    inner = space.get("subspaces") if isinstance(space, Mapping) else None
    if not isinstance(inner, Mapping):
        return [prefix.rstrip("/")]
    return [name for key, value in inner.items() for name in _names(value, f"{prefix}{key}/")]


def _without(metadata: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in metadata.items() if key != name}


def rescale_actions(demonstrations: T, low: Any, high: Any, recorded_low: Any = -1.0, recorded_high: Any = 1.0) -> T:
    """
    Map actions from the bounds they were recorded with to those of the environment that a model acts in.

    :param low: Lower bound of the environment's actions, a number or shape ``(action_dim,)``
    :param high: Upper bound
    :param recorded_low: Lower bound of the recorded actions
    :param recorded_high: Upper bound
    :raises DemonstrationsError: If an action lies outside the recorded bounds, or the bounds do not fit the actions
    """
    actions = demonstrations.actions
    if actions.dtype.kind != "f":
        raise DemonstrationsError(f"rescale_actions: found actions of dtype {actions.dtype}, expected floats")
    bounds = {"low": low, "high": high, "recorded_low": recorded_low, "recorded_high": recorded_high}
    low, high, first, last = (_bound(name, value, actions) for name, value in bounds.items())
    for prefix, (lower, upper) in (("", (low, high)), ("recorded_", (first, last))):
        if not (lower < upper).all():
            found = f"{prefix}low={lower}, {prefix}high={upper}"
            raise DemonstrationsError(f"rescale_actions: found {found}, expected {prefix}low below {prefix}high")
    slack = ACTION_TOLERANCE * (last - first)
    outside = (actions < first - slack) | (actions > last + slack)
    if outside.any():
        value = float(actions[np.unravel_index(int(np.where(outside, np.abs(actions), 0).argmax()), actions.shape)])
        raise DemonstrationsError(
            f"rescale_actions: found an action of {value:g}, expected all in [{_shown(first)}, {_shown(last)}]: "
            f"they were not recorded between these bounds. If they are between {_shown(low)} and {_shown(high)} already, "
            f"leave out action_low and action_high. "
            f"{units_hint(low, high)}"
        )
    with np.errstate(over="ignore", invalid="ignore"):
        rescaled = unscaled(2 * (actions - first) / (last - first) - 1, low, high)
    check_finite({"actions": rescaled}, Locator(demonstrations.episode_lengths))
    # Its bounds are those that were recorded
    return demonstrations.changed(actions=owned(rescaled), metadata=_without(demonstrations.metadata, "action_space"))


def _shown(bound: np.ndarray) -> str:
    return f"{np.ravel(bound)[0]:g}" if np.unique(bound).size == 1 else str(bound.tolist())


def _bound(name: str, value: Any, actions: np.ndarray) -> np.ndarray:
    try:
        bound = np.asarray(value, dtype=actions.dtype)
    except (TypeError, ValueError):
        raise DemonstrationsError(f"rescale_actions: found {name}={value!r}, expected numbers") from None
    if bound.shape not in ((), actions.shape[1:]):
        raise DemonstrationsError(f"rescale_actions: found {name} of shape {bound.shape}, expected {actions.shape[1:]}")
    return bound


def select(demonstrations: T, episodes: int | Sequence[int] | np.ndarray) -> T:
    """
    :param episodes: The first so many, or the numbers of the ones to keep, in that order, or whether to keep each
    :return: These episodes alone
    :raises DemonstrationsError: If there are not as many
    """
    wanted = np.arange(episodes) if isinstance(episodes, (int, np.integer)) else np.asarray(episodes)
    if wanted.dtype == bool and wanted.shape == (demonstrations.n_episodes,):
        wanted = np.flatnonzero(wanted)
    if wanted.size and wanted.dtype.kind not in "iu":
        raise DemonstrationsError(
            f"episodes: found {episodes}, expected whole numbers, or True or False for each of {demonstrations.n_episodes}"
        )
    numbers = wanted.tolist()
    if not numbers or min(numbers) < 0 or max(numbers) >= demonstrations.n_episodes:
        raise DemonstrationsError(f"episodes: asked for {episodes}, found {demonstrations.n_episodes} (numbered from 0)")
    starts, lengths = demonstrations.episode_starts, demonstrations.episode_lengths
    rows = np.concatenate([np.arange(starts[k], starts[k] + lengths[k]) for k in numbers])
    arrays = {
        name: map_observations(getattr(demonstrations, name), lambda array: owned(array[rows]))
        for name in (*_ROWS, "observations", "next_observations")
    }
    info = {name: array[numbers] for name, array in demonstrations.episode_info.items()}
    chosen = demonstrations.changed(**arrays, episode_lengths=lengths[numbers], episode_info=info)
    metadata = demonstrations.metadata
    return chosen.changed(metadata={**metadata, **chosen.summary(metadata)})


def pick(
    demonstrations: T,
    successful_only: bool = False,
    min_return: float | None = None,
    n_episodes: int | None = None,
    seed: int | None = None,
) -> T:
    """See :func:`edit`."""
    # YAML reads 1e-3 as a text
    if min_return is not None and not is_number(min_return):
        raise DemonstrationsError(f"found min_return={min_return!r}, expected a number")
    for name, value, low in (("n_episodes", n_episodes, 1), ("seed", seed, 0)):
        if value is not None and not is_whole(value, low):
            raise DemonstrationsError(f"found {name}={value!r}, expected a whole number of at least {low}")
    keep = np.ones(demonstrations.n_episodes, dtype=bool)
    if successful_only:
        if demonstrations.successes is None:
            raise DemonstrationsError("successful_only: found no word on success in this source, expected one: use min_return")
        keep &= demonstrations.successes
    if min_return is not None:
        keep &= reaches(demonstrations.episode_returns, min_return)
    numbers = np.flatnonzero(keep)
    wanted = len(numbers) if n_episodes is None else n_episodes
    if wanted > len(numbers) or len(numbers) == 0:
        best = f", the best return is {demonstrations.episode_returns.max():g}" if min_return is not None else ""
        raise DemonstrationsError(
            f"episodes: found {len(numbers)} of {demonstrations.n_episodes} to choose from{best}, "
            f"expected {'at least 1' if n_episodes is None else n_episodes}"
        )
    if seed is not None:
        numbers = np.sort(np.random.default_rng(seed).permutation(numbers)[:wanted])
    if wanted == demonstrations.n_episodes:
        return demonstrations
    return select(demonstrations, numbers[:wanted])


def reaches(episode_return: Any, min_return: float) -> Any:
    """:return: Whether a return, or each, is as large, up to the rounding of rewards to float32"""
    return episode_return >= min_return - 1e-6 * abs(min_return)


def split(demonstrations: T, n_first: int, seed: int | None = None) -> tuple[T, T]:
    """
    :param demonstrations: At least two episodes
    :param n_first: Episodes in the first part
    :param seed: Choose them at random; None: the first ones
    :return: Two parts, each episode in one of them
    :raises DemonstrationsError: If a part would be empty
    """
    n = demonstrations.n_episodes
    if not 0 < n_first < n:
        raise DemonstrationsError(f"split: found {n_first} of {n} episodes for the first part, expected 1 to {n - 1}")
    order = np.arange(n) if seed is None else np.random.default_rng(seed).permutation(n)
    return select(demonstrations, np.sort(order[:n_first])), select(demonstrations, np.sort(order[n_first:]))


def merge(parts: Sequence[T], warns: bool = True) -> T:
    """
    :param parts: Demonstrations of one environment
    :param warns: Whether to warn if they name different environments or action spaces
    :return: Their episodes, one part after the other. Of the metadata it keeps what all parts agree on; of ``episode_info``
        what all parts have
    :raises DemonstrationsError: If their observations or actions differ in keys or shapes, or their images in scale
    """
    if not parts:
        raise DemonstrationsError("merge: found nothing, expected at least one part")
    if len(parts) == 1:
        return parts[0]
    expected = _shapes(parts[0])
    for number, part in enumerate(parts):
        if _shapes(part) != expected:
            name, first = (item.source or f"part {place}" for item, place in ((part, number), (parts[0], 0)))
            raise DemonstrationsError(f"merge: {name}: found shapes {_shapes(part)} per step, expected {expected} of {first}")
    _check_scales(parts)
    if warns:
        _warn_of_others(parts)
    arrays = {
        name: concatenate([getattr(part, name) for part in parts])
        for name in (*_ROWS, "episode_lengths", "observations", "next_observations")
    }
    known = set.intersection(*(set(part.episode_info) for part in parts))
    info = {name: np.concatenate([part.episode_info[name] for part in parts]) for name in known}
    if any("cut" in part.episode_info for part in parts):
        # Without a word, there was no jump
        info["cut"] = np.concatenate([part.episode_info.get("cut", np.zeros(part.n_episodes, bool)) for part in parts])
    named = set.intersection(*(set(part.metadata) for part in parts))
    agreed = {name: parts[0].metadata[name] for name in parts[0].metadata if name in named}
    agreed = {name: value for name, value in agreed.items() if all(part.metadata[name] == value for part in parts)}
    merged = parts[0].changed(**arrays, metadata=agreed, source=None, episode_info=info)
    return merged.changed(metadata={**agreed, **merged.summary(named)})


def _shapes(part: Transitions) -> dict[str, tuple[int, ...]]:
    return {name: array.shape[1:] for name, array in _arrays(part).items()}


def _arrays(part: Transitions) -> dict[str, np.ndarray]:
    return {**as_dict(part.observations), "actions": part.actions}


def _check_scales(parts: Sequence[Transitions]) -> None:
    """:raises DemonstrationsError: If some images are bytes up to 255, and others floats up to 1"""
    for name, first in _arrays(parts[0]).items():
        dtypes = {str(_arrays(part)[name].dtype) for part in parts}
        if first.ndim == 4 and "uint8" in dtypes and any(dtype.startswith("float") for dtype in dtypes):
            raise DemonstrationsError(f"merge: {name}: found images of {sorted(dtypes)}, expected one of both")


def _warn_of_others(parts: Sequence[Transitions]) -> None:
    advice = {
        "env_id": "environments",
        "action_space": "action spaces, and converts nothing: if their units differ, load each part with action_low and "
        "action_high first",
    }
    for name, text in advice.items():
        named = [part.metadata[name] for part in parts if name in part.metadata]
        other = next((value for value in named if value != named[0]), None)
        if other is not None:
            shown = f"{named[0]} and {other}, " if name == "env_id" else ""
            warn_user(f"merge: found {shown}different {text}")
