"""
D4RL datasets: one HDF5 file with flat arrays, one row for each step.

``observations``, ``actions``, ``rewards``, ``terminals``; perhaps ``timeouts``, ``next_observations`` and ``infos/success``.
"""

from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from sb3_pgfd.demonstrations.arrays import owned
from sb3_pgfd.demonstrations.dataset import Demonstrations
from sb3_pgfd.demonstrations.editing import DoneMeans
from sb3_pgfd.demonstrations.errors import DemonstrationsError
from sb3_pgfd.demonstrations.formats.content import check_size
from sb3_pgfd.demonstrations.formats.hdf5 import Array, Group, is_hdf5, open_file
from sb3_pgfd.demonstrations.formats.successors import shift
from sb3_pgfd.utils.checks import is_whole

_REQUIRED = ("observations", "actions", "rewards", "terminals")
_OPTIONAL = ("timeouts", "next_observations")
_SUCCESS = "infos/success"
_COLUMNS = ("rewards", "terminals", "timeouts", _SUCCESS)


def recognizes(path: Path) -> bool:
    """:param path: Whether this is an HDF5 file; the formats with groups are looked for before"""
    return is_hdf5(path)


def read_d4rl(path: Path, episode_length: int | None = None, done_means: DoneMeans | None = None) -> Demonstrations:
    """
    An episode ends where ``terminals`` or ``timeouts`` is set, and with the last row. Without ``next_observations`` the next
    observation is the following row of the same episode; the last step of an episode has none: it is kept with its own
    observation in place of the next one if it is terminal, as nothing is bootstrapped from a terminal state, and dropped
    otherwise. An episode solved the task if ``infos/success`` is set in one of its steps.

    :param path: An HDF5 file
    :param episode_length: Cut an episode after this many steps too, where a file does not say where its time limits were
    :param done_means: ``"truncated"``: a terminal was a time limit
    :raises DemonstrationsError: If it is damaged, lacks something, or does not say where an episode ends
    :raises ImportError: If h5py is not installed
    """
    with open_file(path) as root:
        opened = _open(root)
        declared = sum(prod(array.shape) * array.dtype.itemsize for array in opened.values())
        check_size("arrays", declared, path.stat().st_size)
        arrays = {name: array.column() if name in _COLUMNS else array.read() for name, array in opened.items()}
    terminated = arrays["terminals"].astype(bool)
    ended = _ends(terminated, arrays.get("timeouts"), episode_length)
    terminated &= done_means != "truncated"
    starts = np.flatnonzero(np.append(True, ended[:-1]))
    solved = np.logical_or.reduceat(arrays[_SUCCESS], starts) if _SUCCESS in arrays else None
    fields: dict[str, Any] = {"actions": owned(arrays["actions"]), "rewards": owned(arrays["rewards"].astype(np.float32))}
    if "next_observations" in arrays:
        fields |= {name: owned(arrays[name]) for name in ("observations", "next_observations")}
        flags = {"terminated": owned(terminated), "truncated": owned(ended & ~terminated)}
        fields |= {**flags, "episode_lengths": np.diff(np.append(starts, len(ended)))}
    else:
        shifted = shift(arrays["observations"], terminated, ended)
        fields = {name: owned(array[shifted.rows]) for name, array in fields.items()} | shifted.fields()
        solved = None if solved is None else solved[shifted.episodes]
    metadata = {"producer": "imported from D4RL"}
    return Demonstrations(**fields, metadata=metadata, episode_info={} if solved is None else {"success": solved})


def _open(root: Group) -> dict[str, Array]:
    """:return: What there is, all of one length"""
    found = root.names()
    missing = [name for name in _REQUIRED if name not in found]
    if missing:
        raise DemonstrationsError(
            f"found an HDF5 file with {sorted(found)[:20]}, expected also {missing} of D4RL, or 'episode_0' of Minari, or "
            "'data/demo_0' of robomimic"
        )
    arrays = {name: root.array(name) for name in (*_REQUIRED, *_OPTIONAL) if name in found}
    if "infos" in found and "success" in root.group("infos"):
        arrays[_SUCCESS] = root.array(_SUCCESS)
    n_steps = len(arrays["rewards"])
    for name, array in arrays.items():
        if len(array) != n_steps:
            raise DemonstrationsError(f"{name}: found {len(array)} rows, expected {n_steps} as of rewards")
    if not n_steps:
        raise DemonstrationsError("found no transition, expected at least one")
    return arrays


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
