"""
The package's own format: a compressed ``.npz`` that NumPy alone opens, without pickle, so it cannot run code.

Members: ``observations``, ``actions``, ``rewards``, ``next_observations``, ``terminated``, ``truncated``,
``episode_lengths`` as in :class:`~sb3_pgfd.demonstrations.Demonstrations`; for Dict observations one member per key,
``observations/<key>``; for facts about whole episodes ``episode_info/<name>``; and ``metadata``, a JSON text with the
provenance and the version of the format.

Version 2 is half as large: in place of ``next_observations`` it has ``final_observations``, what each episode ended with,
since every other next observation is the next row's observation. Where that does not hold, version 1 is written.
"""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from sb3_pgfd.demonstrations.arrays import owned
from sb3_pgfd.demonstrations.dataset import Demonstrations
from sb3_pgfd.demonstrations.errors import DemonstrationsError
from sb3_pgfd.demonstrations.formats import sequences
from sb3_pgfd.demonstrations.formats.content import check_size, starts_with
from sb3_pgfd.demonstrations.validation import Observations
from sb3_pgfd.utils.files import refuse_existing, write_whole

# By what is kept of the next observations
WHOLE, FINAL = 1, 2
_AFTER = {WHOLE: "next_observations", FINAL: "final_observations"}
_FIELDS = ("actions", "rewards", "terminated", "truncated", "episode_lengths")
# The only one that may be text
_METADATA = "metadata"
_EPISODE_INFO = "episode_info"
# Keys of that record which are not provenance
_RESERVED = ("format", "version")


def recognizes(path: Path) -> bool:
    """:param path: Whether this is a zip archive, which an ``.npz`` is"""
    return starts_with(path, b"PK\x03\x04")


def with_ending(path: Path) -> Path:
    """
    :param path: Of a file to write
    :return: The same with the ending ``.npz``, which is added if it is missing
    """
    path = path.expanduser()
    return path if path.suffix == ".npz" else path.with_name(path.name + ".npz")


def write_npz(demonstrations: Demonstrations, path: Path, overwrite: bool = False) -> Path:
    """
    Write to a temporary name beside ``path``, then rename: a crash leaves no half file.

    :param demonstrations: What to write
    :param path: The ending ``.npz`` is added if it is missing
    :param overwrite: Whether an existing file may be replaced
    :return: The path written
    :raises FileExistsError: If there is a file already
    :raises DemonstrationsError: If the metadata use a key that the format needs
    """
    path = with_ending(path)
    refuse_existing(path, overwrite)
    taken = [key for key in _RESERVED if key in demonstrations.metadata]
    if taken:
        raise DemonstrationsError(f"metadata: found the key {taken[0]!r}, expected another name: the file format needs it")
    arrays = {name: getattr(demonstrations, name) for name in _FIELDS}
    final = sequences.final_observations(demonstrations)
    version = WHOLE if final is None else FINAL
    after = demonstrations.next_observations if final is None else final
    for name, value in (("observations", demonstrations.observations), (_AFTER[version], after)):
        arrays.update({name: value} if isinstance(value, np.ndarray) else {f"{name}/{key}": value[key] for key in value})
    arrays.update({f"{_EPISODE_INFO}/{name}": value for name, value in demonstrations.episode_info.items()})
    record = {"format": "sb3-pgfd demonstrations", "version": version, **demonstrations.metadata}
    arrays[_METADATA] = np.array(json.dumps(record))
    with write_whole(path, overwrite) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)
    return path


def read_npz(path: Path) -> Demonstrations:
    """
    :param path: A file written by :func:`write_npz`
    :raises DemonstrationsError: If it is truncated, has other members, or holds Python objects
    """
    arrays = _read_arrays(path)
    missing = [name for name in (*_FIELDS, _METADATA) if name not in arrays]
    if missing:
        raise DemonstrationsError(f"found members {sorted(arrays)}, expected also {missing}")
    version, metadata = _read_metadata(arrays[_METADATA])
    observations, after = _observations(arrays, "observations"), _observations(arrays, _AFTER[version])
    if version == FINAL:
        after = sequences.next_observations(observations, after, arrays["episode_lengths"])
    fields: dict[str, Any] = {name: arrays[name] for name in _FIELDS}
    return Demonstrations(
        observations=observations,
        next_observations=after,
        **fields,
        metadata=metadata,
        episode_info=_by_key(arrays, _EPISODE_INFO),
    )


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        check_size("arrays", sum(member.file_size for member in members), sum(member.compress_size for member in members))
    with np.load(path, allow_pickle=False) as archive:
        for name in archive.files:
            array = archive[name]
            # What is no .npy file comes as bytes
            arrays[name] = owned(array) if isinstance(array, np.ndarray) else array
    return arrays


def _read_metadata(text: np.ndarray) -> tuple[int, dict[str, Any]]:
    """:return: The version, and the provenance"""
    try:
        record = json.loads(str(text[()]))
        version = record.pop("version")
        record.pop("format")
    # SystemError is what NumPy raises for a character that does not exist
    except (ValueError, KeyError, AttributeError, TypeError, IndexError, RecursionError, SystemError) as error:
        raise DemonstrationsError(f"metadata: found no JSON record ({error!r:.80}), expected one") from error
    if version not in (WHOLE, FINAL):
        raise DemonstrationsError(f"found version {version} of the format, expected {WHOLE} or {FINAL}: update sb3-pgfd")
    return int(version), record


def _observations(arrays: dict[str, np.ndarray], name: str) -> Observations:
    observations = arrays[name] if name in arrays else _by_key(arrays, name)
    if isinstance(observations, dict) and not observations:
        raise DemonstrationsError(f"found members {sorted(arrays)}, expected also {name!r}")
    return observations


def _by_key(arrays: dict[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    return {member.removeprefix(f"{name}/"): array for member, array in arrays.items() if member.startswith(f"{name}/")}
