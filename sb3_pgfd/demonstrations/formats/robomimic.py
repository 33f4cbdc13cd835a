"""
robomimic datasets: one HDF5 file with the groups ``data/demo_k``.

Each has ``actions``, ``rewards``, ``dones`` (T rows), ``obs/<key>`` and perhaps ``next_obs/<key>``; ``data`` has the
attribute ``env_args``, a JSON text; ``mask/<name>`` lists the names of some of the groups.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from sb3_pgfd.demonstrations.arrays import owned
from sb3_pgfd.demonstrations.dataset import Demonstrations
from sb3_pgfd.demonstrations.editing import DoneMeans, ObservationKeys, source_keys
from sb3_pgfd.demonstrations.errors import DemonstrationsError
from sb3_pgfd.demonstrations.formats.content import check_size
from sb3_pgfd.demonstrations.formats.hdf5 import Group, Stack, is_hdf5, open_file
from sb3_pgfd.demonstrations.formats.successors import shift

_DEMO = re.compile(r"demo_(\d+)")


def recognizes(path: Path) -> bool:
    """:param path: Whether this is an HDF5 file with groups ``data/demo_k``"""
    if not is_hdf5(path):
        return False
    with open_file(path) as root:
        if "data" not in root or not root.is_group("data"):
            return False
        return any(_DEMO.fullmatch(name) for name in root.group("data").names())


def read_robomimic(
    path: Path,
    mask: str | None = None,
    observation_keys: ObservationKeys | None = None,
    cut_at_done: bool = False,
    done_means: DoneMeans | None = None,
) -> Demonstrations:
    """
    A group is an episode: it counts as terminated if its last ``done`` is set and as truncated otherwise. robomimic sets
    ``dones`` at each step in which the task is solved, at the last step, or both, so that those before the last are no
    ends. Success is known if all rewards are 0 or 1, robomimic's sparse reward: an episode with a 1 solved the task.
    Without ``next_obs`` the next observations are as in :mod:`sb3_pgfd.demonstrations.formats.successors`.

    :param path: An HDF5 file
    :param mask: Read the episodes that ``mask/<name>`` lists alone, e.g. ``"train"``
    :param observation_keys: Read these keys alone, see :func:`sb3_pgfd.demonstrations.editing.edit`
    :param cut_at_done: End an episode at the first step whose ``done`` is set
    :param done_means: ``"truncated"``: a ``done`` was a time limit
    :raises DemonstrationsError: If it is damaged or lacks something
    :raises ImportError: If h5py is not installed
    """
    with open_file(path) as root:
        data = root.group("data")
        names = _names(root, data, mask)
        steps = [_read_steps(data.group(name), cut_at_done) for name in names]
        arrays = _read_arrays(data, names, steps, source_keys(observation_keys), path.stat().st_size)
        metadata = _metadata(data.text("env_args"))
    rewards = np.concatenate([step.rewards for step in steps])
    lengths = np.array([len(step.rewards) for step in steps])
    ended = np.zeros(len(rewards), dtype=bool)
    ended[np.cumsum(lengths) - 1] = True
    terminated = ended & np.concatenate([step.dones for step in steps]) & (done_means != "truncated")
    solved = np.maximum.reduceat(rewards, np.cumsum(lengths) - lengths) == 1
    fields: dict[str, Any] = {"rewards": owned(rewards.astype(np.float32)), "actions": arrays.pop("actions")}
    if "next_observations" in arrays:
        flags = {"terminated": owned(terminated), "truncated": owned(ended & ~terminated)}
        fields |= {**arrays, **flags, "episode_lengths": lengths}
    else:
        shifted = shift(arrays["observations"], terminated, ended)
        fields = {name: owned(array[shifted.rows]) for name, array in fields.items()} | shifted.fields()
        solved = solved[shifted.episodes]
    is_sparse = np.isin(rewards, (0, 1)).all()
    return Demonstrations(**fields, metadata=metadata, episode_info={"success": solved} if is_sparse else {})


@dataclass(frozen=True)
class _Steps:
    """What a group has one number of for each step."""

    rewards: np.ndarray
    dones: np.ndarray
    n_rows: int
    """Rows in the file, of which there may be more than are used"""


def _names(root: Group, data: Group, mask: str | None) -> list[str]:
    """:return: The groups to read, by their numbers"""
    found = data.names()
    if mask is not None:
        masks = root.group("mask") if "mask" in root else None
        if masks is None or mask not in masks:
            known = "no masks" if masks is None else f"the masks {sorted(masks.names())}"
            raise DemonstrationsError(f"mask: found {known}, expected {mask!r} among them")
        listed = masks.array(mask, "SO")
        values = listed.values(is_text=True) if listed.dtype.kind == "O" else listed.read().reshape(-1).tolist()
        found = [value.decode() for value in values]
    numbers = {name: int(match[1]) for name in found if (match := _DEMO.fullmatch(name))}
    if not numbers or (mask is not None and len(numbers) < len(found)):
        raise DemonstrationsError(f"{mask or 'data'}: found {sorted(found)[:20]}, expected names of episodes: 'demo_0'")
    return sorted(numbers, key=numbers.__getitem__)


def _read_steps(group: Group, cut_at_done: bool) -> _Steps:
    missing = [name for name in ("actions", "rewards", "dones", "obs") if name not in group]
    if missing:
        raise DemonstrationsError(
            f"{group.name}: found {sorted(group.names())}, expected also {missing}: robomimic's dataset_states_to_obs.py "
            "makes such a file from one that a simulator recorded"
        )
    rewards, dones = group.array("rewards").column(), group.array("dones").column().astype(bool)
    n_rows = len(rewards)
    for name, found in (("dones", len(dones)), ("num_samples", group.whole("num_samples"))):
        if found not in (None, n_rows):
            raise DemonstrationsError(f"{group.name}: found {n_rows} rewards and {found} {name}, expected as many")
    if not n_rows:
        raise DemonstrationsError(f"{group.name}: found no transition, expected at least one")
    n_used = int(dones.argmax()) + 1 if cut_at_done and dones.any() else n_rows
    return _Steps(rewards[:n_used], dones[:n_used], n_rows)


def _read_arrays(
    data: Group, names: Sequence[str], steps: Sequence[_Steps], keys: list[str] | None, file_size: int
) -> dict[str, Any]:
    """:return: Actions, observations, and next observations if there are any"""
    first = data.group(names[0])
    known = first.group("obs").walk()
    wanted = known if keys is None else keys
    missing = [key for key in wanted if key not in known]
    if missing or not wanted:
        raise DemonstrationsError(f"observation_keys: found {missing or 'none'}, expected some of {known}")
    folders = ("obs", "next_obs") if "next_obs" in first else ("obs",)
    opened = {path: first.array(path) for path in ("actions", *(f"{folder}/{key}" for folder in folders for key in wanted))}
    n_steps = sum(len(step.rewards) for step in steps)
    declared = sum(n_steps * prod(array.shape[1:]) * array.dtype.itemsize for array in opened.values())
    check_size("observations and actions", declared, file_size)
    stacks = {path: Stack(array, n_steps) for path, array in opened.items()}
    start = 0
    for name, step in zip(names, steps, strict=True):
        group = data.group(name)
        for path, stack in stacks.items():
            stack.put(start, group.array(path), step.n_rows, len(step.rewards))
        start += len(step.rewards)
    fields = {"obs": "observations", "next_obs": "next_observations"}
    arrays: dict[str, Any] = {
        fields[folder]: {key: owned(stacks[f"{folder}/{key}"].rows) for key in wanted} for folder in folders
    }
    return {"actions": owned(stacks["actions"].rows), **arrays}


def _metadata(text: str | None) -> dict[str, Any]:
    metadata = {"producer": "imported from robomimic"}
    arguments = json.loads(text) if text is not None else {}
    if not isinstance(arguments, dict):
        raise DemonstrationsError(f"env_args: found a JSON {type(arguments).__name__}, expected an object")
    names = {"env_id": "env_name", "env_kwargs": "env_kwargs", "env_type": "type"}
    return metadata | {ours: arguments[theirs] for ours, theirs in names.items() if theirs in arguments}
