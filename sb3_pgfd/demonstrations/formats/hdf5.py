"""
robomimic and D4RL datasets: HDF5 files.

robomimic: groups ``data/demo_k`` with ``actions``, ``rewards``, ``dones`` (T rows), ``obs/<key>`` and perhaps
``next_obs/<key>``; ``data`` has the attribute ``env_args``, a JSON text; ``mask/<name>`` lists names of groups.

D4RL: flat arrays with one row for each step, ``observations``, ``actions``, ``rewards``, ``terminals``; perhaps
``timeouts``, ``next_observations`` and ``infos/success``.

Where next observations are missing, they are as in :mod:`sb3_pgfd.demonstrations.formats.successors`.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sb3_pgfd.demonstrations.arrays import owned
from sb3_pgfd.demonstrations.editing import DoneMeans, ObservationKeys, cut_at_jumps, source_keys
from sb3_pgfd.demonstrations.episode import Transitions
from sb3_pgfd.demonstrations.errors import DemonstrationsError
from sb3_pgfd.demonstrations.formats.checks import (
    EpisodeRows,
    check_present,
    check_size,
    column,
    is_hdf5,
    json_object,
    numeric_array,
    open_hdf5,
)
from sb3_pgfd.demonstrations.formats.successors import check_final_reward, from_steps
from sb3_pgfd.utils.checks import is_whole
from sb3_pgfd.utils.warning import warn_user

_DEMO = re.compile(r"demo_(\d+)")
# What the metadata call what ``env_args`` hold
_ENV_ARGS = {"env_id": "env_name", "env_kwargs": "env_kwargs", "env_type": "type"}
_D4RL = ("observations", "actions", "terminals")


def recognizes_robomimic(path: Path) -> bool:
    """:param path: Whether this is an HDF5 file with groups ``data/demo_k``"""
    if not is_hdf5(path):
        return False
    import h5py

    with open_hdf5(path, checked=False) as file:
        # A link could lead to another file
        is_group = isinstance(file.get("data", getlink=True), h5py.HardLink) and isinstance(file["data"], h5py.Group)
        return is_group and any(_DEMO.fullmatch(name) for name in file["data"])


def read_robomimic(
    path: Path,
    mask: str | None = None,
    observation_keys: ObservationKeys | None = None,
    cut_at_done: bool = False,
    done_means: DoneMeans | None = None,
    final_reward: float | None = None,
) -> Transitions:
    """
    A group is an episode: it counts as terminated if its last ``done`` is set and as truncated otherwise. robomimic sets
    ``dones`` at each step in which the task is solved, at the last step, or both, so those before the last are no ends.
    Success is known if all rewards are 0 or 1, robomimic's sparse reward, and one is 1: an episode with a 1 solved the task.

    IsaacLab writes no ``rewards`` and no ``dones``, but an attribute ``success`` for each episode: the last step of a success
    is then terminal, and its reward is ``final_reward``, by default 1, as in robomimic's sparse tasks.

    :param path: An HDF5 file
    :param mask: Read only the episodes that ``mask/<name>`` lists, e.g. ``"train"``
    :param observation_keys: Read only these keys, see :func:`sb3_pgfd.demonstrations.editing.edit`
    :param cut_at_done: End an episode at the first step whose ``done`` is set
    :param done_means: ``"truncated"``: a ``done`` was a time limit; ``"terminated"``: every episode ends in a terminal state
    :param final_reward: For files without rewards, see :func:`sb3_pgfd.demonstrations.editing.edit`
    :raises DemonstrationsError: If it is damaged or lacks something
    :raises ImportError: If h5py is not installed
    """
    with open_hdf5(path) as file:
        groups = [file["data"][name] for name in _demo_names(file, mask)]
        flags = [name for name in ("rewards", "dones") if all(name in group for group in groups)]
        told = _told_successes(groups) if "rewards" not in flags or "dones" not in flags else None
        if told is None and "rewards" not in flags and groups[0].keys() >= {"actions", "obs"}:
            check_final_reward(final_reward, None)
        lengths = [_episode_length(group, flags, cut_at_done, told is None and final_reward is None) for group in groups]
        rows = _robomimic_rows(groups, lengths, flags, observation_keys)
        arguments = json_object(file["data"].attrs.get("env_args", "{}"), "env_args")
    if "rewards" not in flags and final_reward is None:
        warn_user(
            f"{path.name}: found no rewards. The last step of each episode whose attribute `success` is set gets 1 and all "
            "others 0: pass final_reward to give another number",
        )
    starts = np.cumsum(lengths, dtype=np.int64) - lengths
    ended = np.zeros(sum(lengths), dtype=bool)
    ended[starts - 1] = True
    solved = _solved(rows.arrays.get("rewards"), ended, lengths, told)
    default = np.full(len(ended), final_reward is not None and final_reward > 0) if told is None else np.repeat(told, lengths)
    terminated = _terminal(rows.arrays.get("dones", default), ended, done_means)
    metadata = {ours: arguments[theirs] for ours, theirs in _ENV_ARGS.items() if theirs in arguments}
    after = rows.observations("next_obs") or None
    transitions = from_steps(
        rows.observations("obs"),
        rows.arrays["actions"],
        rows.arrays.get("rewards", 1.0 if final_reward is None else final_reward),
        terminated,
        ended,
        after=after,
        success=None if solved is None else np.logical_or.reduceat(solved, starts),
        metadata={"producer": "imported from robomimic", **metadata},
        reuse=True,
    )
    return transitions if after is None else cut_at_jumps(transitions, path.name, solved)


def _terminal(flags: np.ndarray, ended: np.ndarray, done_means: DoneMeans | None) -> np.ndarray:
    """:return: Whether each step reached a terminal state, by the file's flags unless ``done_means`` says otherwise"""
    if done_means is not None:
        return ended & (done_means == "terminated")
    return ended & flags


def _told_successes(groups: Sequence[Any]) -> np.ndarray | None:
    """:return: IsaacLab's attribute ``success`` of each episode; None unless all have it"""
    told = [group.attrs.get("success") for group in groups]
    if any(not isinstance(value, (bool, np.bool_, int, np.integer)) for value in told):
        return None
    return np.array(told, dtype=bool)


def _solved(
    rewards: np.ndarray | None, ended: np.ndarray, lengths: Sequence[int], told: np.ndarray | None
) -> np.ndarray | None:
    """:return: Whether the task was solved at each step, None: unknown"""
    if told is not None:
        return ended & np.repeat(told, lengths)
    # Rewards that are all 0 say nothing of success
    if rewards is None or not np.isin(rewards, (0, 1)).all() or not rewards.any():
        return None
    return rewards == 1


def _demo_names(file: Any, mask: str | None) -> list[str]:
    """:return: The groups to read, by their numbers"""
    found = list(file["data"])
    if mask is not None:
        masks = sorted(file.get("mask", ()))
        if mask not in masks:
            known = f"the masks {masks}" if masks else "no masks"
            raise DemonstrationsError(f"mask: found {known}, expected {mask!r} among them")
        listed = [name.decode() for name in file["mask"][mask][()].reshape(-1).tolist()]
        found = [name for name in listed if name in found]
        if len(found) < len(listed):
            raise DemonstrationsError(f"{mask}: found {sorted(listed)[:20]}, expected names of episodes of this file")
    numbered = {name: int(match[1]) for name in found if (match := _DEMO.fullmatch(name))}
    if not numbered:
        raise DemonstrationsError(f"{mask or 'data'}: found {sorted(found)[:20]}, expected names of episodes: 'demo_0'")
    return sorted(numbered, key=numbered.__getitem__)


def _episode_length(group: Any, flags: Sequence[str], cut_at_done: bool, need_flags: bool) -> int:
    name = group.name[1:]
    advice = ": robomimic's dataset_states_to_obs.py makes such a file from one that a simulator recorded"
    check_present(group, ("actions", *(("rewards", "dones") if need_flags else ()), "obs"), f"{name}: ", advice)
    counts = {flag: len(numeric_array(group, flag)) for flag in flags} or {"actions": len(numeric_array(group, "actions"))}
    what, n_rows = next(iter(counts.items()))
    counts["num_samples"] = int(group.attrs.get("num_samples", n_rows))
    for other, found in counts.items():
        if found != n_rows:
            raise DemonstrationsError(f"{name}: found {n_rows} {what} and {found} {other}, expected as many")
    if not n_rows:
        raise DemonstrationsError(f"{name}: found no transition, expected at least one")
    dones = column(group, "dones").astype(bool) if "dones" in flags else np.zeros(1, dtype=bool)
    return int(dones.argmax()) + 1 if cut_at_done and dones.any() else n_rows


def _robomimic_rows(
    groups: Sequence[Any], lengths: Sequence[int], flags: Sequence[str], keys: ObservationKeys | None
) -> EpisodeRows:
    """:return: ``actions``, ``obs`` and perhaps ``rewards``, ``dones`` and ``next_obs``"""
    known: list[str] = []
    groups[0]["obs"].visititems(lambda name, item: known.append(name) if hasattr(item, "shape") else None)
    wanted = source_keys(keys, sorted(known))
    folders = ("obs", "next_obs") if "next_obs" in groups[0] else ("obs",)
    rows, start = EpisodeRows(sum(lengths), copies=1 if "next_obs" in folders else 2), 0
    for group, length in zip(groups, lengths, strict=True):
        n_rows = len(group[flags[0] if flags else "actions"])
        for path in flags:
            dtype = np.float32 if path == "rewards" else np.bool_
            rows.put(group.name[1:], path, start, column(group, path)[:length].astype(dtype))
        for path in ("actions", *(f"{folder}/{key}" for folder in folders for key in wanted)):
            array = numeric_array(group, path)
            if len(array) != n_rows:
                raise DemonstrationsError(f"{array.name[1:]}: found {len(array)} rows, expected {n_rows}")
            rows.put(group.name[1:], path, start, array[:length])
        start += length
    return rows


def read_d4rl(
    path: Path,
    episode_length: int | None = None,
    done_means: DoneMeans | None = None,
    final_reward: float | None = None,
) -> Transitions:
    """
    An episode ends where ``terminals`` or ``timeouts`` is set, and with the last row. It solved the task if
    ``infos/success`` is set in one of its steps. Where ``next_observations`` say so, it also ends at a jump.

    :param path: An HDF5 file
    :param episode_length: End an episode after this many steps too, where a file does not say where its time limits were
    :param done_means: ``"truncated"``: a terminal was a time limit; ``"terminated"``: every end, also that of
        the file, is a terminal state
    :param final_reward: For files without rewards, see :func:`sb3_pgfd.demonstrations.editing.edit`
    :raises DemonstrationsError: If it is damaged, lacks something, or does not say where an episode ends
    :raises ImportError: If h5py is not installed
    """
    with open_hdf5(path) as file:
        arrays = _d4rl_arrays(file, final_reward)
    terminated, after = arrays["terminals"].astype(bool), arrays.get("next_observations")
    ended = _ends(terminated, arrays.get("timeouts"), episode_length, after is not None)
    solved = arrays.get("infos/success")
    starts = np.flatnonzero(np.append(True, ended[:-1]))
    transitions = from_steps(
        arrays["observations"],
        arrays["actions"],
        arrays.get("rewards", final_reward or 0.0),
        _terminal(terminated, ended, done_means),
        ended,
        after=after,
        success=None if solved is None else np.logical_or.reduceat(solved, starts),
        metadata={"producer": "imported from D4RL"},
        reuse=True,
    )
    return transitions if after is None else cut_at_jumps(transitions, path.name, solved)


def _d4rl_arrays(file: Any, final_reward: float | None) -> dict[str, np.ndarray]:
    others = " of D4RL, or 'episode_0' of Minari, or 'data/demo_0' of robomimic"
    check_present(file, _D4RL, "HDF5 file: ", others)
    check_final_reward(final_reward, np.zeros(1) if "rewards" in file else None)
    optional = [name for name in ("rewards", "timeouts", "next_observations", "infos/success") if name in file]
    opened = {name: numeric_array(file, name) for name in (*_D4RL, *optional)}
    n_steps = len(opened["terminals"])
    for name, array in opened.items():
        if len(array) != n_steps:
            raise DemonstrationsError(f"{name}: found {len(array)} rows, expected {n_steps} as of terminals")
    if not n_steps:
        raise DemonstrationsError("found no transition, expected at least one")
    # Next observations that are not in the file are a copy
    check_size("arrays", sum(array.nbytes for array in opened.values()), copies=1 if "next_observations" in opened else 2)
    is_row = ("observations", "actions", "next_observations")
    return {name: owned(array[()]) if name in is_row else column(file, name) for name, array in opened.items()}


def _ends(terminated: np.ndarray, timeouts: np.ndarray | None, episode_length: int | None, shows_jumps: bool) -> np.ndarray:
    """:return: Whether a step is the last of its episode"""
    ended = terminated.copy() if timeouts is None else terminated | timeouts.astype(bool)
    if episode_length is not None:
        if not is_whole(episode_length, 1):
            raise DemonstrationsError(f"found episode_length={episode_length!r}, expected a whole number of steps >= 1")
        row = np.arange(len(ended))
        start = np.maximum.accumulate(np.where(np.append(True, ended[:-1]), row, 0))
        ended |= (row - start + 1) % episode_length == 0
    elif not shows_jumps and (timeouts is None or not ended.any()):
        missing = "found no timeouts and no next_observations" if timeouts is None else "timeouts: found none set"
        raise DemonstrationsError(
            f"{missing}, and {int(terminated.sum())} terminals in {len(ended)} steps, expected to be told where time limits "
            "end episodes: pass episode_length, the environment's time limit (--option episode_length=1000). If every episode "
            "ends in a terminal state, pass a number larger than the longest"
        )
    ended[-1] = True
    return ended
