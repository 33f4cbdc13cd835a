"""
The package's own format: a compressed ``.npz`` that NumPy alone opens, without pickle, so it cannot run code.

Members: ``observations``, ``actions``, ``rewards``, ``next_observations``, ``terminated``, ``truncated``,
``episode_lengths`` as in :class:`~sb3_pgfd.demonstrations.episode.Transitions`; for Dict observations one member per key,
``observations/<key>``; for facts about whole episodes ``episode_info/<name>``; and ``metadata``, a JSON text with the
provenance and the version of the format.

Version 2 is half as large: in place of ``next_observations`` it has ``final_observations``, the last observation of each
episode, as every other next observation is the next row's observation. Where that does not hold, version 1 is written.
"""

import json
import zipfile
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from sb3_pgfd.demonstrations.arrays import map_observations, owned
from sb3_pgfd.demonstrations.continuity import find_jumps, interruptions
from sb3_pgfd.demonstrations.episode import Transitions
from sb3_pgfd.demonstrations.errors import DemonstrationsError
from sb3_pgfd.demonstrations.formats import path_dicts
from sb3_pgfd.demonstrations.formats.checks import check_present, check_ratio, check_size, json_object, starts_with
from sb3_pgfd.demonstrations.validation import Observations, as_dict, check_lengths
from sb3_pgfd.utils.files import refuse_existing, write_whole

# By version: the member that holds the next observations
_AFTER = {1: "next_observations", 2: "final_observations"}
_FIELDS = ("actions", "rewards", "terminated", "truncated", "episode_lengths")
# Keys of the metadata record that are not provenance
_RESERVED = ("format", "version")
# The package imitation wrote such files once
_OBJECTS_ADVICE = (
    ". If imitation wrote it: from imitation.data import serialize; "
    "Demonstrations.load(serialize.load(path)).save('demos.npz'). Otherwise open it with np.load(path, allow_pickle=True), if "
    "you trust it, and pass its arrays to Demonstrations.from_transitions"
)


def recognizes(path: Path) -> bool:
    """:param path: Whether this is a zip archive, which an ``.npz`` is"""
    return starts_with(path, b"PK\x03\x04")


def with_ending(path: str | Path) -> Path:
    """:return: The path with the ending ``.npz``, which is added if it is missing"""
    path = Path(path).expanduser()
    return path if path.suffix == ".npz" else path.with_name(path.name + ".npz")


def write_npz(transitions: Transitions, path: str | Path, overwrite: bool = False) -> Path:
    """
    Write to a temporary name beside ``path``, then rename: a crash leaves no half file.

    :param transitions: What to write
    :param path: The ending ``.npz`` is added if it is missing
    :param overwrite: Whether an existing file may be replaced
    :return: The path written
    :raises FileExistsError: If there is a file already
    :raises DemonstrationsError: If the metadata use a key that the format needs, or most steps within episodes do not begin
        where the one before ended
    """
    path = with_ending(path)
    refuse_existing(path, overwrite)
    taken = [key for key in _RESERVED if key in transitions.metadata]
    if taken:
        raise DemonstrationsError(f"metadata: found the key {taken[0]!r}, expected another name: the file format needs it")
    arrays = {name: getattr(transitions, name) for name in _FIELDS}
    final = final_observations(transitions)
    if final is None:
        # What the reader would refuse is not written
        ended = transitions.terminated | transitions.truncated
        find_jumps(transitions.observations, transitions.next_observations, ended)
    version, after = (1, transitions.next_observations) if final is None else (2, final)
    for name, value in (("observations", transitions.observations), (_AFTER[version], after)):
        arrays.update({name: value} if isinstance(value, np.ndarray) else {f"{name}/{key}": value[key] for key in value})
    arrays.update({f"episode_info/{name}": value for name, value in transitions.episode_info.items()})
    record = {"format": "sb3-pgfd demonstrations", "version": version, **transitions.metadata}
    arrays["metadata"] = np.array(json.dumps(record))
    with write_whole(path, overwrite) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)
    return path


def read_npz(path: Path, trusted: bool = False, final_reward: float | None = None) -> Transitions:
    """
    :param path: A file written by :func:`write_npz`, or one with OpenAI-HER's ``acs``, ``obs`` and ``info``
    :param trusted: Whether you wrote the file yourself. Only then Python objects are read, as OpenAI-HER writes them, because
        reading them can run any code that was put there
    :param final_reward: Of OpenAI-HER's, which hold no rewards: what the last step of each episode gets
    :raises DemonstrationsError: If it is truncated, has other members, or holds Python objects
    """
    members = _check_archive(path)
    if members.keys() >= path_dicts.HER:
        return path_dicts.read_her(path, trusted, final_reward)
    objects = [name for name, (_, is_object) in members.items() if is_object]
    if objects:
        raise DemonstrationsError(f"found Python objects in the members {objects}, expected plain arrays{_OBJECTS_ADVICE}")
    check_present(members, (*_FIELDS, "metadata"), "members: ")
    wanted = [name for name in members if name.partition("/")[0] in (*_FIELDS, "metadata", "episode_info", "observations")]
    with np.load(path, allow_pickle=False) as archive:
        version, metadata = _read_metadata(archive["metadata"])
        wanted += [name for name in members if name.partition("/")[0] == _AFTER[version]]
        # Next observations of version 2 are made here
        copies = sum(members[name][0] for name in members if name.startswith("observations")) if version == 2 else 0
        check_size("arrays", sum(members[name][0] for name in wanted) + copies)
        # A member that is no .npy file comes as bytes
        arrays = {name: archive[name] for name in wanted if name != "metadata"}
    arrays = {name: owned(array) if isinstance(array, np.ndarray) else array for name, array in arrays.items()}
    observations, after = _observations(arrays, "observations"), _observations(arrays, _AFTER[version])
    if version == 2:
        after = next_observations(observations, after, arrays["episode_lengths"])
    fields: dict[str, Any] = {name: arrays[name] for name in _FIELDS}
    info = _by_key(arrays, "episode_info")
    return Transitions(observations=observations, next_observations=after, **fields, metadata=metadata, episode_info=info)


def _check_archive(path: Path) -> dict[str, tuple[int, bool]]:
    """:return: Of each member, the bytes that it takes in memory, and whether it holds Python objects. No value is read"""
    found: dict[str, tuple[int, bool]] = {}
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        stored, places = sum(entry.compress_size for entry in entries), {entry.header_offset for entry in entries}
        if len(places) < len(entries) or len(set(archive.namelist())) < len(entries) or stored > path.stat().st_size:
            raise DemonstrationsError(
                f"found a zip file with {len(entries)} entries for {len(places)} members, expected as many"
            )
        check_ratio("arrays", sum(entry.file_size for entry in entries), stored)
        for entry in entries:
            n_bytes, is_object = entry.file_size, False
            with archive.open(entry) as file:
                if file.read(len(npy.MAGIC_PREFIX)) == npy.MAGIC_PREFIX:
                    file.seek(0)
                    read = npy.read_array_header_1_0 if npy.read_magic(file)[0] == 1 else npy.read_array_header_2_0
                    shape, _, dtype = read(file)
                    n_bytes, is_object = prod(shape) * dtype.itemsize, dtype.hasobject
            check_ratio(entry.filename, n_bytes, entry.compress_size)
            found[entry.filename.removesuffix(".npy")] = n_bytes, is_object
    return found


def _read_metadata(text: np.ndarray) -> tuple[int, dict[str, Any]]:
    """:return: The version, and the provenance"""
    try:
        record = json_object(str(text[()]), "metadata")
        version, _ = record.pop("version"), record.pop("format")
    # SystemError is what NumPy raises for a character that does not exist
    except (KeyError, TypeError, IndexError, SystemError) as error:
        raise DemonstrationsError(f"metadata: found no JSON record ({error!r:.80}), expected one") from error
    if version not in (1, 2):
        raise DemonstrationsError(f"found version {version} of the format, expected 1 or 2: update sb3-pgfd")
    return int(version), record


def _observations(arrays: dict[str, np.ndarray], name: str) -> Observations:
    if not (by_key := _by_key(arrays, name)):
        check_present(arrays, [name], "members: ")
    return arrays.get(name, by_key)


def _by_key(arrays: dict[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    return {member.removeprefix(f"{name}/"): array for member, array in arrays.items() if member.startswith(f"{name}/")}


def final_observations(transitions: Transitions) -> Observations | None:
    """
    :param transitions: To be written
    :return: The last observation of each episode, shape ``(n_episodes, *obs_shape)``, or a mapping of such arrays. None if
        a next observation differs from the one that the next step begins with, bit by bit: then all of them are needed
    """
    ends = np.cumsum(transitions.episode_lengths)
    moved = interruptions(transitions.observations, transitions.next_observations)
    moved[ends[:-1] - 1] = False
    return None if moved.any() else map_observations(transitions.next_observations, lambda array: array[ends - 1])


def next_observations(observations: Observations, final: Observations, episode_lengths: np.ndarray) -> Observations:
    """
    :param observations: Shape ``(N, *obs_shape)``, or a mapping of such arrays
    :param final: By :func:`final_observations`
    :param episode_lengths: Transitions per episode
    :raises DemonstrationsError: If they do not fit together
    """
    check_lengths(as_dict(observations), episode_lengths)
    last_rows = np.cumsum(episode_lengths) - 1

    def shifted(name: str, array: np.ndarray, last: np.ndarray) -> np.ndarray:
        shape = (len(episode_lengths), *array.shape[1:])
        if last.shape != shape or last.dtype != array.dtype:
            found = f"shape {last.shape} and dtype {last.dtype}"
            raise DemonstrationsError(f"{name}: found {found}, expected {shape} and {array.dtype} as in observations")
        result = np.empty_like(array)
        result[:-1] = array[1:]
        result[last_rows] = last
        return owned(result)

    before, after = as_dict(observations, "final_observations"), as_dict(final, "final_observations")
    if list(before) != list(after):
        raise DemonstrationsError(f"final_observations: found {list(after)}, expected {list(before)}")
    arrays = [shifted(name, array, after[name]) for name, array in before.items()]
    return dict(zip(observations, arrays, strict=True)) if isinstance(observations, Mapping) else arrays[0]
