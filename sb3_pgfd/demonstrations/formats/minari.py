"""
Minari datasets: ``<root>/<namespace>/<name>-v<version>/data`` with ``metadata.json`` and ``main_data.hdf5``, or, for Minari's
other storages, a folder of ``arrow`` or ``parquet`` tables for each episode.

A dataset is read through the ``minari`` library. Where the library is not installed, or the file does not describe its
spaces, HDF5 is read with h5py: groups ``episode_k`` with ``observations`` (T + 1 rows, or a group of such arrays for Dict
observations), ``actions``, ``rewards``, ``terminations``, ``truncations`` (T rows), perhaps ``infos/success`` or
``infos/is_success`` and the attribute ``seed``. No environment that a dataset names is made or imported.
"""

import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from sb3_pgfd.demonstrations.arrays import owned
from sb3_pgfd.demonstrations.editing import ObservationKeys, source_keys
from sb3_pgfd.demonstrations.episode import Transitions, known_of_all
from sb3_pgfd.demonstrations.errors import DemonstrationsError
from sb3_pgfd.demonstrations.formats.checks import (
    EpisodeRows,
    check_present,
    column,
    errors_naming,
    inside,
    is_hdf5,
    json_object,
    numeric_array,
    open_hdf5,
)
from sb3_pgfd.demonstrations.time_limit import with_time_limit
from sb3_pgfd.utils.files import install

PREFIX = "minari:"
DATA_FOLDER = "data"
MAIN_FILE = "main_data.hdf5"
METADATA_FILE = "metadata.json"
OUR_RECORD = "sb3_pgfd"
"""Key of ``metadata.json`` under which the writer keeps the provenance whole"""
# Minari's own grammar: no dots, so no id leads out of the root
NAME = re.compile(r"[-_\w]+?-v\d+")
_ID = re.compile(r"(?:[-_\w][-_\w/]*[-_\w]+/)?[-_\w]+?-v\d+")

_SUCCESS = ("success", "is_success")
_EPISODE = re.compile(r"episode_(\d+)")
# What an episode has a row of for each step, and its dtype; None: as recorded
_COLUMNS = {"actions": None, "rewards": np.float32, "terminations": np.bool_, "truncations": np.bool_}
_SPACES = ("observation_space", "action_space")
_PROVENANCE = ("dataset_id", "algorithm_name", "author", "author_email", "description", "code_permalink")


def datasets_root() -> Path:
    """:return: The folder of all datasets: ``$MINARI_DATASETS_PATH``, or ``~/.minari/datasets``"""
    named = os.environ.get("MINARI_DATASETS_PATH")
    return Path(named) if named is not None else Path.home() / ".minari" / "datasets"


def is_id(text: str) -> bool:
    """:param text: Whether this is the id of a dataset, such as ``D4RL/door/human-v2``"""
    return _ID.fullmatch(text) is not None


def dataset_folder(dataset_id: str, must_exist: bool = False) -> Path:
    """
    :param dataset_id: Such as ``D4RL/door/human-v2``
    :param must_exist: Refuse the id of a dataset that is not on this machine
    :return: Its folder
    :raises DemonstrationsError: If this is no id, or the folder must exist and does not
    """
    if not is_id(dataset_id):
        raise DemonstrationsError(
            f"{dataset_id!r}: found no id of a Minari dataset, expected letters, digits, '-' and '_' that end in a version: "
            "'name-v0' or 'namespace/name-v0'"
        )
    folder = datasets_root() / dataset_id
    if must_exist and not folder.is_dir():
        raise DemonstrationsError(
            f"{PREFIX}{dataset_id}: found no folder {folder}, expected one: 'minari download {dataset_id}' makes it, and "
            "MINARI_DATASETS_PATH says where Minari's datasets are"
        )
    return folder


def data_folder(path: Path) -> Path | None:
    """:return: The folder in a folder, perhaps itself, that holds metadata and arrays; None: this is no Minari dataset"""
    for folder in (path / DATA_FOLDER, path):
        if (folder / MAIN_FILE).is_file():
            return folder
        record = folder / METADATA_FILE
        if record.is_file():
            with record.open("rb") as file:
                if b'"data_format"' in file.read(2**20):
                    return folder
    return None


def recognizes(path: Path) -> bool:
    """:param path: Whether this is a dataset's folder, its ``data`` folder or its HDF5 file"""
    if path.is_dir():
        return data_folder(path) is not None
    if not is_hdf5(path):
        return False
    with open_hdf5(path, checked=False) as file:
        return any(_EPISODE.fullmatch(name) for name in file)


def recognizes_dataset(source: Any) -> bool:
    """:param source: Whether this is a ``minari.MinariDataset``"""
    return hasattr(source, "episode_indices") and hasattr(getattr(source, "storage", None), "data_path")


def read_minari(path: Path, observation_keys: ObservationKeys | None = None) -> Transitions:
    """
    Nested Dict observations get keys ``"outer/inner"``. An episode whose last step has neither flag, as in datasets that
    were converted from D4RL, counts as truncated.

    :param path: The folder of a dataset, its ``data`` folder, or its ``main_data.hdf5``
    :param observation_keys: Keep only these keys of Dict observations, see
        :func:`sb3_pgfd.demonstrations.editing.edit`
    :raises DemonstrationsError: If it is damaged, leads out of its folder, or holds what demonstrations cannot
    :raises ImportError: If h5py is not installed, or minari for other storages and encoded images
    """
    return _read(path, observation_keys)


def read_dataset(dataset: Any, observation_keys: ObservationKeys | None = None) -> Transitions:
    """
    :param dataset: A ``minari.MinariDataset``: its selected episodes are read from its folder
    :param observation_keys: See :func:`read_minari`
    :raises DemonstrationsError: See :func:`read_minari`
    """
    chosen = [int(number) for number in dataset.episode_indices]
    transitions = _read(Path(dataset.storage.data_path), observation_keys, chosen)
    metadata = transitions.metadata
    return transitions.changed(metadata={**metadata, **transitions.summary(metadata)})


def _read(path: Path, keys: ObservationKeys | None, chosen: list[int] | None = None) -> Transitions:
    is_file = path.is_file()
    folder = path.resolve().parent if is_file else data_folder(path)
    if folder is None:
        raise DemonstrationsError(f"found a folder without {MAIN_FILE} and {METADATA_FILE}, expected a Minari dataset")
    # What lies beside a file of another name does not belong to it
    is_alone = is_file and path.name != MAIN_FILE
    for file in () if is_alone else folder.rglob("*"):
        inside(folder if is_file else path, file)
    about = folder / METADATA_FILE
    has_record = about.is_file() and not is_alone
    record = json_object(about.read_text(encoding="utf-8"), METADATA_FILE) if has_record else {}
    described = {name: json_object(record[name], f"{METADATA_FILE}: {name}") for name in _SPACES if name in record}
    data_format = record.get("data_format", "hdf5")
    if data_format not in ("hdf5", "arrow", "parquet"):
        raise DemonstrationsError(f"found data_format {data_format!r}, expected one of ['hdf5', 'arrow', 'parquet']")
    if data_format == "hdf5":
        with open_hdf5(path if is_file else folder / MAIN_FILE) as file:
            # To learn spaces that are not described, the library would make the environment that the file names
            has_library = "data_format" in record and len(described) == len(_SPACES) and _storage_class() is not None
            fields = _read_library(folder, keys, chosen) if has_library else _read_hdf5(file, keys, chosen)
    else:
        _check_tables(folder, data_format, described)
        fields = _read_library(folder, keys, chosen)
    return Transitions(**fields, metadata=_metadata(record, described))


def _metadata(record: dict[str, Any], described: dict[str, Any]) -> dict[str, Any]:
    ours = record.get(OUR_RECORD)
    if isinstance(ours, dict) and isinstance(ours.get("metadata"), dict):
        return ours["metadata"]
    metadata = {"producer": "imported from Minari", **{name: record[name] for name in _PROVENANCE if name in record}}
    specification = json_object(record["env_spec"], "env_spec") if record.get("env_spec") is not None else {}
    if "id" in specification:
        env_id, kwargs, limit = specification["id"], specification.get("kwargs") or {}, specification.get("max_episode_steps")
        is_known = isinstance(env_id, str) and isinstance(kwargs, dict)
        metadata |= {"env_id": env_id, "env_kwargs": with_time_limit(env_id, kwargs, limit) if is_known else kwargs}
    return {**metadata, **described}


def _storage_class() -> Any:
    """:return: ``MinariStorage``, None: the library is not installed"""
    with suppress(ImportError):
        from minari.dataset.minari_storage import MinariStorage

        return MinariStorage
    return None


def _read_hdf5(file: Any, keys: ObservationKeys | None, chosen: list[int] | None) -> dict[str, Any]:
    """Read a checked HDF5 file without the library."""
    numbers = sorted(int(match[1]) for match in map(_EPISODE.fullmatch, file) if match) if chosen is None else chosen
    lengths = [len(numeric_array(file, f"episode_{number}/rewards")) for number in numbers]
    seeds = [file[f"episode_{number}"].attrs.get("seed") for number in numbers]
    seeds = [int(seed) if isinstance(seed, np.integer) else None for seed in seeds]
    return _fields(numbers, lengths, seeds, (_episode(file[f"episode_{number}"]) for number in numbers), keys)


def _episode(group: Any) -> dict[str, Any]:
    infos = group.get("infos", {})
    told = {name: column(infos, name) for name in _SUCCESS if name in infos}
    return {**{name: _nested(item) for name, item in group.items() if name != "infos"}, "infos": told}


def _nested(item: Any) -> Any:
    """:return: An array, or a dict of what is in a group"""
    if hasattr(item, "items"):
        found = {name: _nested(child) for name, child in item.items()}
        return tuple(found.values()) if "_index_0" in found else found
    # Images are JPEG files: rows of bytes if all are of one length, values of variable length otherwise
    is_jpeg = item.dtype == np.uint8 and item.ndim == 2 and item[:1].tobytes().startswith(b"\xff\xd8\xff")
    if item.dtype.kind == "O" or is_jpeg:
        kind = "JPEG files" if is_jpeg else f"values of type {item.dtype}"
        raise DemonstrationsError(
            f"{item.name[1:]}: found {kind}, expected numbers: encoded images are read through minari "
            f"({install('minari')}) from a dataset that describes its spaces"
        )
    return item[()]


def _check_tables(folder: Path, data_format: str, described: Mapping[str, Any]) -> None:
    """The library does not ask pyarrow whether a table is sound, and one that is not can crash it."""
    check_present(described, _SPACES, f"{METADATA_FILE}: ", ": make the dataset again with these")
    if _storage_class() is None or find_spec("pyarrow") is None:
        raise ImportError(f"reading Minari's {data_format} storage needs minari: {install('minari')}")
    from pyarrow import ArrowException
    from pyarrow import dataset as tables

    with errors_naming("tables", ArrowException):
        for episode in (item for item in folder.iterdir() if item.is_dir()):
            files = [str(file) for file in episode.iterdir() if not file.name.startswith(("_", ".", METADATA_FILE))]
            for batch in tables.dataset(files, format=data_format).to_batches():
                batch.validate(full=True)


def _read_library(folder: Path, keys: ObservationKeys | None, chosen: list[int] | None) -> dict[str, Any]:
    # Pillow refuses images of more than 179 million pixels; the library checks with assertions
    from PIL.Image import DecompressionBombError

    with errors_naming("minari", AssertionError, DecompressionBombError):
        storage = _storage_class().read(folder)
        numbers = list(range(storage.total_episodes)) if chosen is None else chosen
        about = list(storage.get_episode_metadata(numbers))
        lengths, seeds = [int(record["total_steps"]) for record in about], [record.get("seed") for record in about]
        return _fields(numbers, lengths, seeds, storage.get_episodes(numbers), keys)


def _fields(
    numbers: list[int], lengths: list[int], seeds: list[Any], episodes: Iterable[Any], keys: ObservationKeys | None
) -> dict[str, Any]:
    """:return: The fields of transitions, but the metadata"""
    if not numbers:
        raise DemonstrationsError("found no episode, expected at least one")
    rows, start = EpisodeRows(sum(lengths)), 0
    successes: list[bool | None] = []
    for number, length, record in zip(numbers, lengths, episodes, strict=True):
        if length < 1:
            raise DemonstrationsError(f"episode_{number}: found no transition, expected at least one")
        check_present(record, ("observations", *_COLUMNS), f"episode_{number}: ")
        for name, dtype in _COLUMNS.items():
            array = _array(record[name], length, f"episode_{number}/{name}")
            array = array if dtype is None else array.reshape(length).astype(dtype)
            rows.put(f"episode_{number}", name, start, array)
        found = _flatten(record["observations"])
        # One array alone has no key to choose
        for key in found if "" in found else source_keys(keys, found):
            name = f"observations/{key}".rstrip("/")
            array = _array(found[key], length + 1, f"episode_{number}/{name}")
            rows.put(f"episode_{number}", name, start, array[:-1])
            rows.put(f"episode_{number}", f"next_{name}", start, array[1:])
        infos = record.get("infos") or {}
        successes.append(next((bool(infos[name][-1]) for name in _SUCCESS if len(infos.get(name, ()))), None))
        start += length
    terminated, truncated = rows.arrays["terminations"], rows.arrays["truncations"]
    last = np.cumsum(lengths) - 1
    truncated[last] |= ~terminated[last]
    return {
        "observations": rows.observations("observations"),
        "next_observations": rows.observations("next_observations"),
        "actions": owned(rows.arrays["actions"]),
        "rewards": owned(rows.arrays["rewards"]),
        "terminated": owned(terminated),
        "truncated": owned(truncated),
        "episode_lengths": np.array(lengths),
        "episode_info": known_of_all({"success": successes, "seed": seeds}),
    }


def _array(values: Any, length: int, name: str) -> np.ndarray:
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise DemonstrationsError(f"{name}: found values of type {array.dtype}, expected numbers")
    if array.ndim == 0 or len(array) != length:
        found = f"{len(array)} rows" if array.ndim else "a single value"
        raise DemonstrationsError(f"{name}: found {found}, expected {length}")
    return array


def _flatten(observations: Any, prefix: str = "") -> dict[str, Any]:
    """:return: Arrays by ``"outer/inner"``; one array alone has the key ``""``"""
    if isinstance(observations, tuple):
        raise DemonstrationsError("observations: found a Tuple, expected one array or a Dict of arrays")
    if not isinstance(observations, Mapping):
        return {prefix[:-1]: observations}
    parts = [_flatten(value, f"{prefix}{key}/") for key, value in observations.items()]
    return {key: array for part in parts for key, array in part.items()}
