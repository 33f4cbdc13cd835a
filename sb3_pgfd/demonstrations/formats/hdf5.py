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
from sb3_pgfd.demonstrations.editing import DoneMeans, ObservationKeys, source_keys
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
from sb3_pgfd.demonstrations.formats.successors import from_steps
from sb3_pgfd.utils.checks import is_whole

_DEMO = re.compile(r"demo_(\d+)")
# What the metadata call what ``env_args`` hold
_ENV_ARGS = {"env_id": "env_name", "env_kwargs": "env_kwargs", "env_type": "type"}
_D4RL = ("observations", "actions", "rewards", "terminals")


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
) -> Transitions:
    """
    A group is an episode: it counts as terminated if its last ``done`` is set and as truncated otherwise. robomimic sets
    ``dones`` at each step in which the task is solved, at the last step, or both, so those before the last are no ends.
    Success is known if all rewards are 0 or 1, robomimic's sparse reward: an episode with a 1 solved the task.

    :param path: An HDF5 file
    :param mask: Read only the episodes that ``mask/<name>`` lists, e.g. ``"train"``
    :param observation_keys: Read only these keys, see :func:`sb3_pgfd.demonstrations.editing.edit`
    :param cut_at_done: End an episode at the first step whose ``done`` is set
    :param done_means: ``"truncated"``: a ``done`` was a time limit
    :raises DemonstrationsError: If it is damaged or lacks something
    :raises ImportError: If h5py is not installed
    """
    with open_hdf5(path) as file:
        groups = [file["data"][name] for name in _demo_names(file, mask)]
        lengths = [_episode_length(group, cut_at_done) for group in groups]
        rows = _robomimic_rows(groups, lengths, observation_keys)
        arguments = json_object(file["data"].attrs.get("env_args", "{}"), "env_args")
    rewards, ends = rows.arrays["rewards"], np.cumsum(lengths, dtype=np.int64)
    ended = np.zeros(len(rewards), dtype=bool)
    ended[ends - 1] = True
    terminated = ended & rows.arrays["dones"] & (done_means != "truncated")
    solved = np.maximum.reduceat(rewards, np.append(0, ends[:-1])) == 1
    success = solved if np.isin(rewards, (0, 1)).all() else None
    metadata = {ours: arguments[theirs] for ours, theirs in _ENV_ARGS.items() if theirs in arguments}
    return from_steps(
        rows.observations("obs"),
        rows.arrays["actions"],
        rewards,
        terminated,
        ended,
        after=rows.observations("next_obs") or None,
        success=success,
        metadata={"producer": "imported from robomimic", **metadata},
    )


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


def _episode_length(group: Any, cut_at_done: bool) -> int:
    name = group.name[1:]
    advice = ": robomimic's dataset_states_to_obs.py makes such a file from one that a simulator recorded"
    check_present(group, ("actions", "rewards", "dones", "obs"), f"{name}: ", advice)
    dones, n_rewards = column(group, "dones").astype(bool), len(numeric_array(group, "rewards"))
    for what, found in (("dones", len(dones)), ("num_samples", int(group.attrs.get("num_samples", n_rewards)))):
        if found != n_rewards:
            raise DemonstrationsError(f"{name}: found {n_rewards} rewards and {found} {what}, expected as many")
    if not n_rewards:
        raise DemonstrationsError(f"{name}: found no transition, expected at least one")
    return int(dones.argmax()) + 1 if cut_at_done and dones.any() else n_rewards


def _robomimic_rows(groups: Sequence[Any], lengths: Sequence[int], keys: ObservationKeys | None) -> EpisodeRows:
    """:return: ``actions``, ``rewards``, ``dones``, ``obs`` and perhaps ``next_obs``"""
    known: list[str] = []
    groups[0]["obs"].visititems(lambda name, item: known.append(name) if hasattr(item, "shape") else None)
    wanted = source_keys(keys, sorted(known))
    folders = ("obs", "next_obs") if "next_obs" in groups[0] else ("obs",)
    rows, start = EpisodeRows(sum(lengths)), 0
    for group, length in zip(groups, lengths, strict=True):
        n_rows = len(group["rewards"])
        for path, dtype in (("rewards", np.float32), ("dones", np.bool_)):
            rows.put(group.name[1:], path, start, column(group, path)[:length].astype(dtype))
        for path in ("actions", *(f"{folder}/{key}" for folder in folders for key in wanted)):
            array = numeric_array(group, path)
            if len(array) != n_rows:
                raise DemonstrationsError(f"{array.name[1:]}: found {len(array)} rows, expected {n_rows}")
            rows.put(group.name[1:], path, start, array[:length])
        start += length
    return rows


def read_d4rl(path: Path, episode_length: int | None = None, done_means: DoneMeans | None = None) -> Transitions:
    """
    An episode ends where ``terminals`` or ``timeouts`` is set, and with the last row. It solved the task if
    ``infos/success`` is set in one of its steps.

    :param path: An HDF5 file
    :param episode_length: End an episode after this many steps too, where a file does not say where its time limits were
    :param done_means: ``"truncated"``: a terminal was a time limit
    :raises DemonstrationsError: If it is damaged, lacks something, or does not say where an episode ends
    :raises ImportError: If h5py is not installed
    """
    with open_hdf5(path) as file:
        others = " of D4RL, or 'episode_0' of Minari, or 'data/demo_0' of robomimic"
        check_present(file, _D4RL, "HDF5 file: ", others)
        optional = [name for name in ("timeouts", "next_observations", "infos/success") if name in file]
        opened = {name: numeric_array(file, name) for name in (*_D4RL, *optional)}
        n_steps = len(opened["rewards"])
        for name, array in opened.items():
            if len(array) != n_steps:
                raise DemonstrationsError(f"{name}: found {len(array)} rows, expected {n_steps} as of rewards")
        if not n_steps:
            raise DemonstrationsError("found no transition, expected at least one")
        check_size("arrays", sum(array.nbytes for array in opened.values()))
        is_row = ("observations", "actions", "next_observations")
        arrays = {name: owned(array[()]) if name in is_row else column(file, name) for name, array in opened.items()}
    terminated = arrays["terminals"].astype(bool)
    ended = _ends(terminated, arrays.get("timeouts"), episode_length)
    starts = np.flatnonzero(np.append(True, ended[:-1]))
    solved = np.logical_or.reduceat(arrays["infos/success"], starts) if "infos/success" in arrays else None
    return from_steps(
        arrays["observations"],
        arrays["actions"],
        arrays["rewards"],
        terminated & (done_means != "truncated"),
        ended,
        after=arrays.get("next_observations"),
        success=solved,
        metadata={"producer": "imported from D4RL"},
    )


def _ends(terminated: np.ndarray, timeouts: np.ndarray | None, episode_length: int | None) -> np.ndarray:
    """:return: Whether a step is the last of its episode"""
    ended = terminated.copy() if timeouts is None else terminated | timeouts.astype(bool)
    if episode_length is not None:
        if not is_whole(episode_length, 1):
            raise DemonstrationsError(f"found episode_length={episode_length!r}, expected a whole number of steps >= 1")
        row = np.arange(len(ended))
        start = np.maximum.accumulate(np.where(np.append(True, ended[:-1]), row, 0))
        ended |= (row - start + 1) % episode_length == 0
    elif not ended.any():
        missing = "found no timeouts" if timeouts is None else "timeouts: found none set"
        raise DemonstrationsError(
            f"{missing}, and no terminal in {len(ended)} steps, expected to be told where episodes end: name episode_length"
        )
    ended[-1] = True
    return ended
