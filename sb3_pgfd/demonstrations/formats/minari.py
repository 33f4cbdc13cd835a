"""
Minari datasets: ``<root>/<id>/data`` with ``metadata.json`` and ``main_data.hdf5``.

Groups ``episode_k`` with ``observations`` (T + 1 rows, or a group of such arrays for Dict observations), ``actions``,
``rewards``, ``terminations``, ``truncations`` (T rows), perhaps ``infos/success`` or ``infos/is_success`` and the attribute
``seed``. The HDF5 storage is read with h5py alone; the others, ``arrow`` and ``parquet``, through the ``minari`` library.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from sb3_pgfd.demonstrations.arrays import owned
from sb3_pgfd.demonstrations.dataset import Demonstrations
from sb3_pgfd.demonstrations.editing import ObservationKeys, source_keys
from sb3_pgfd.demonstrations.errors import DemonstrationsError
from sb3_pgfd.demonstrations.formats import minari_library
from sb3_pgfd.demonstrations.formats.content import check_size, inside
from sb3_pgfd.demonstrations.formats.hdf5 import Group, Rows, Stack, is_hdf5, open_file, top_names
from sb3_pgfd.demonstrations.formats.minari_images import Images, is_encoded
from sb3_pgfd.demonstrations.formats.minari_paths import MAIN_FILE, METADATA_FILE, data_folder
from sb3_pgfd.demonstrations.validation import Observations

OUR_RECORD = "sb3_pgfd"
"""Key of ``metadata.json`` under which the writer keeps the provenance whole"""

_EPISODE = re.compile(r"episode_(\d+)")
_SPACES = ("observation_space", "action_space")
_PROVENANCE = ("dataset_id", "algorithm_name", "author", "author_email", "description", "code_permalink")


def recognizes(path: Path) -> bool:
    """:param path: Whether this is a dataset's folder, its ``data`` folder or its HDF5 file"""
    if path.is_dir():
        return data_folder(path) is not None
    return is_hdf5(path) and any(_EPISODE.fullmatch(name) for name in top_names(path))


def read_minari(path: Path, observation_keys: ObservationKeys | None = None) -> Demonstrations:
    """
    Nested Dict observations get keys ``"outer/inner"``. An episode whose last step has neither flag, as in datasets that
    were converted from D4RL, counts as truncated. No environment that the dataset names is made.

    :param path: The folder of a dataset, its ``data`` folder, or its ``main_data.hdf5``
    :param observation_keys: Read these keys of Dict observations alone, see :func:`sb3_pgfd.demonstrations.editing.edit`
    :raises DemonstrationsError: If it is damaged, leads out of its folder, or holds what demonstrations cannot
    :raises ImportError: If h5py, or what another storage or JPEG images need, is not installed
    """
    return _read(path, source_keys(observation_keys))


def recognizes_dataset(source: Any) -> bool:
    """:param source: Whether this is a ``minari.MinariDataset``"""
    return hasattr(source, "episode_indices") and hasattr(getattr(source, "storage", None), "data_path")


def read_dataset(dataset: Any, observation_keys: ObservationKeys | None = None) -> Demonstrations:
    """
    :param dataset: A ``minari.MinariDataset``: its selected episodes are read from where it lies
    :param observation_keys: See :func:`read_minari`
    :raises DemonstrationsError: See :func:`read_minari`
    """
    chosen = [int(number) for number in dataset.episode_indices]
    demonstrations = _read(Path(dataset.storage.data_path), source_keys(observation_keys), chosen)
    metadata = demonstrations.metadata
    return replace(demonstrations, metadata={**metadata, **demonstrations.summary(metadata)})


def _read(path: Path, keys: list[str] | None, episodes: Sequence[int] | None = None) -> Demonstrations:
    is_file = path.is_file()
    folder = path.resolve().parent if is_file else data_folder(path)
    if folder is None:
        raise DemonstrationsError(f"found a folder without {MAIN_FILE} and {METADATA_FILE}, expected a Minari dataset")
    whole = folder if is_file else path
    # A file by another name has nothing to do with what lies beside it
    record = {} if is_file and path.name != MAIN_FILE else _read_record(inside(whole, folder / METADATA_FILE))
    described = {name: _read_json(record[name], name) for name in _SPACES if name in record}
    if is_file or record.get("data_format", "hdf5") == "hdf5":
        file = path if is_file else inside(whole, folder / MAIN_FILE)
        fields = _read_hdf5(file, keys, episodes, described.get("observation_space"))
    else:
        fields = minari_library.read(whole, folder, record, episodes)
    return Demonstrations(**fields, metadata=_metadata(record, described))


def _read_record(path: Path) -> dict[str, Any]:
    record = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if not isinstance(record, dict):
        raise DemonstrationsError(f"{METADATA_FILE}: found a {type(record).__name__}, expected a JSON object")
    return record


def _read_json(text: Any, name: str) -> Any:
    if not isinstance(text, str):
        raise DemonstrationsError(f"{METADATA_FILE}: {name}: found a {type(text).__name__}, expected a JSON text")
    return json.loads(text)


def _metadata(record: dict[str, Any], described: dict[str, Any]) -> dict[str, Any]:
    ours = record.get(OUR_RECORD)
    if isinstance(ours, dict) and isinstance(ours.get("metadata"), dict):
        return ours["metadata"]
    metadata = {"producer": "imported from Minari", **{name: record[name] for name in _PROVENANCE if name in record}}
    specification = _read_json(record["env_spec"], "env_spec") if record.get("env_spec") is not None else {}
    if isinstance(specification, dict) and "id" in specification:
        metadata |= {"env_id": specification["id"], "env_kwargs": specification.get("kwargs") or {}}
    return {**metadata, **described}


def _read_hdf5(file: Path, keys: list[str] | None, episodes: Sequence[int] | None, space: Any) -> dict[str, Any]:
    """
    :param file: ``main_data.hdf5``
    :param keys: Of Dict observations, None: all
    :param episodes: Numbers of episodes, None: all
    :param space: The observation space as the metadata describe it, None: they do not
    :return: The fields of a dataset
    """
    with open_file(file) as root:
        if episodes is None:
            episodes = sorted(int(match[1]) for match in map(_EPISODE.fullmatch, root.names()) if match)
        if not episodes:
            raise DemonstrationsError("found no episode, expected at least one group 'episode_0'")
        fields = _read_steps(root, episodes)
        lengths = fields["episode_lengths"]
        paths = _observation_paths(root.group(f"episode_{episodes[0]}"), keys, space)
        return {**fields, **_read_arrays(root, episodes, lengths.tolist(), paths, file.stat().st_size)}


def _read_steps(root: Group, episodes: Sequence[int]) -> dict[str, Any]:
    """:return: What there is one number of for each step, or for each episode"""
    columns: dict[str, list[np.ndarray]] = {"rewards": [], "terminations": [], "truncations": []}
    seeds: list[int | None] = []
    successes: list[bool | None] = []
    for number in episodes:
        group = root.group(f"episode_{number}")
        for name, parts in columns.items():
            parts.append(group.array(name).column())
        _check_length(group, *(parts[-1] for parts in columns.values()))
        seeds.append(group.whole("seed"))
        # Known of every episode or of none
        successes.append(_success(group) if None not in successes else None)
    terminated, truncated = (np.concatenate(columns[name]).astype(bool) for name in ("terminations", "truncations"))
    lengths = np.array([len(rewards) for rewards in columns["rewards"]])
    last = np.cumsum(lengths) - 1
    truncated[last] |= ~terminated[last]
    info: dict[str, Sequence[Any]] = {"seed": seeds, "success": successes}
    return {
        "rewards": owned(np.concatenate(columns["rewards"]).astype(np.float32)),
        "terminated": owned(terminated),
        "truncated": owned(truncated),
        "episode_lengths": lengths,
        "episode_info": {name: np.array(values) for name, values in info.items() if None not in values},
    }


def _check_length(group: Group, rewards: np.ndarray, *flags: np.ndarray) -> None:
    for name, column in zip(("terminations", "truncations"), flags, strict=True):
        if len(column) != len(rewards):
            raise DemonstrationsError(f"{group.name}: found {len(rewards)} rewards and {len(column)} {name}, expected as many")
    if not len(rewards):
        raise DemonstrationsError(f"{group.name}: found no transition, expected at least one")


def _success(group: Group) -> bool | None:
    if "infos" not in group:
        return None
    infos = group.group("infos")
    for name in minari_library.SUCCESS:
        if name in infos:
            values = infos.array(name).column()
            return bool(values[-1]) if len(values) else None
    return None


def _observation_paths(first: Group, keys: list[str] | None, space: Any) -> dict[str | None, tuple[str, Any]]:
    """:return: By key, None if there is one array: its path in an episode, and the shape that the metadata describe"""
    shapes = _shapes(space)
    if not first.is_group("observations"):
        return {None: ("observations", shapes.get(""))}
    found = first.group("observations").walk()
    if any("_index_0" in path.split("/") for path in found):
        raise DemonstrationsError("observations: found a Tuple, expected one array or a Dict of arrays")
    wanted = found if keys is None else keys
    missing = [key for key in wanted if key not in found]
    if missing or not wanted:
        raise DemonstrationsError(f"observation_keys: found {missing or 'none'}, expected some of {found}")
    return {key: (f"observations/{key}", shapes.get(key)) for key in wanted}


def _shapes(space: Any, prefix: str = "") -> dict[str, tuple[int, ...]]:
    """:return: The shapes that a described space gives, by key"""
    if not isinstance(space, dict):
        return {}
    if isinstance(space.get("subspaces"), dict):
        parts = [_shapes(part, f"{prefix}/{key}" if prefix else key) for key, part in space["subspaces"].items()]
        return {key: shape for part in parts for key, shape in part.items()}
    shape = space.get("shape")
    return {prefix: tuple(shape)} if isinstance(shape, list) and all(isinstance(size, int) for size in shape) else {}


def _open_observations(group: Group, path: str, shape: tuple[int, ...] | None) -> Rows:
    array = group.array(path, "biufO")
    return Images(array, shape) if is_encoded(array, shape) else array


def _read_arrays(
    root: Group, episodes: Sequence[int], lengths: list[int], paths: dict[str | None, tuple[str, Any]], file_size: int
) -> dict[str, Any]:
    first = root.group(f"episode_{episodes[0]}")
    n_steps = sum(lengths)
    opened = {key: _open_observations(first, *path) for key, path in paths.items()}
    arrays = [*opened.values(), *opened.values(), first.array("actions")]
    declared = sum((n_steps + 1) * prod(array.shape[1:]) * array.dtype.itemsize for array in arrays)
    check_size("observations and actions", declared, file_size)
    actions = Stack(arrays[-1], n_steps)
    # One row more: the last observation of an episode is overwritten by the first one of the next
    before = {key: Stack(array, n_steps + 1) for key, array in opened.items()}
    after = {key: np.empty((n_steps, *array.shape[1:]), array.dtype) for key, array in opened.items()}
    del opened, arrays
    start = 0
    for number, length in zip(episodes, lengths, strict=True):
        group = root.group(f"episode_{number}")
        actions.put(start, group.array("actions"), length)
        for key, path in paths.items():
            before[key].put(start, _open_observations(group, *path), length + 1)
            after[key][start : start + length] = before[key].rows[start + 1 : start + length + 1]
        start += length
    for stack in before.values():
        stack.rows.resize((n_steps, *stack.rows.shape[1:]), refcheck=False)
    return {
        "actions": owned(actions.rows),
        "observations": _join({key: stack.rows for key, stack in before.items()}),
        "next_observations": _join(after),
    }


def _join(arrays: dict[str | None, np.ndarray]) -> Observations:
    return owned(arrays[None]) if None in arrays else {str(key): owned(array) for key, array in arrays.items()}
