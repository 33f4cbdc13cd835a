"""
Minari datasets, written with h5py alone, as the ``minari`` library and its command list and load them.

The arrays lie uncompressed and in one piece, which reads fastest; images are not turned into JPEG, which would change them.
``metadata.json`` keeps the provenance whole under a key of our own, so that nothing is lost on the way there and back.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from sb3_pgfd.demonstrations.dataset import Demonstrations
from sb3_pgfd.demonstrations.episode import Episode
from sb3_pgfd.demonstrations.errors import DemonstrationsError
from sb3_pgfd.demonstrations.formats.minari import OUR_RECORD
from sb3_pgfd.demonstrations.formats.minari_paths import (
    DATA_FOLDER,
    MAIN_FILE,
    METADATA_FILE,
    NAME,
    PREFIX,
    data_folder,
    dataset_folder,
    datasets_root,
    is_id,
)
from sb3_pgfd.demonstrations.formats.minari_spaces import action_space, observation_space
from sb3_pgfd.demonstrations.spaces import space_to_json
from sb3_pgfd.demonstrations.validation import as_dict
from sb3_pgfd.utils.files import refuse_existing, write_whole

NAMESPACE_FILE = "namespace_metadata.json"
# The oldest versions of Minari that read such files: 0.5.4 learned to take images that are no JPEG
_VERSION, _VERSION_WITH_IMAGES = "0.5.2", "0.5.4"
_TEXTS = ("algorithm_name", "description", "code_permalink")
_NAMES = ("author", "author_email")


def write_minari(demonstrations: Demonstrations, target: str | Path, overwrite: bool = False) -> Path:
    """
    Write to a temporary folder beside the dataset's, then rename: a crash leaves no half dataset.

    The spaces are those of the metadata if they fit, and otherwise unbounded ones. If the metadata name an environment that
    is registered here, its specification goes along, and Minari can make the environment.

    :param demonstrations: What to write
    :param target: ``"minari:<id>"`` for a dataset among Minari's own, or the path of its folder, whose name ends in a
        version (``"peg-insert-v0"``)
    :param overwrite: Whether a dataset that is there may be replaced
    :return: The dataset's folder
    :raises FileExistsError: If there is something that may not be replaced
    :raises DemonstrationsError: If the name does not follow Minari's rules, or Minari cannot hold such demonstrations
    :raises ImportError: If h5py is not installed
    """
    try:
        import h5py
    except ImportError as error:
        raise ImportError("writing Minari datasets needs h5py: pip install sb3-pgfd[hdf5]") from error
    folder, dataset_id = _place(target)
    refuse_existing(folder, overwrite)
    if folder.exists() and data_folder(folder) is None:
        raise FileExistsError(f"{folder}: found what is no Minari dataset, expected one to replace: remove it yourself")
    _check_keys(demonstrations)
    # Each is taken twice, so that one that is no sequence is refused before anything is written
    for number in range(demonstrations.n_episodes):
        demonstrations.episode(number)
    record = _record(demonstrations, dataset_id)
    with write_whole(folder, overwrite, folder=True) as temporary:
        data = temporary / DATA_FOLDER
        data.mkdir()
        with h5py.File(data / MAIN_FILE, "w") as file:
            # Before the last step of an episode neither flag is set
            truncated = demonstrations.truncated[np.cumsum(demonstrations.episode_lengths) - 1]
            for number in range(demonstrations.n_episodes):
                _write_episode(file, number, demonstrations.episode(number), truncated[number])
        record["dataset_size"] = round((data / MAIN_FILE).stat().st_size / 1e6, 1)
        (data / METADATA_FILE).write_text(json.dumps(record), encoding="utf-8")
    _name_namespaces(folder, dataset_id)
    return folder


def _place(target: str | Path) -> tuple[Path, str]:
    """:return: The dataset's folder and id"""
    if str(target).startswith(PREFIX):
        dataset_id = str(target).removeprefix(PREFIX)
        return dataset_folder(dataset_id), dataset_id
    folder = Path(os.path.abspath(Path(target).expanduser()))
    if not NAME.fullmatch(folder.name):
        raise DemonstrationsError(
            f"{folder}: found the name {folder.name!r}, expected letters, digits, '-' and '_' that end in a version: 'name-v0'"
        )
    root = datasets_root().resolve()
    resolved = folder.parent.resolve() / folder.name
    # Minari lists a dataset only where its id says that it is
    inner = resolved.relative_to(root).as_posix() if resolved.is_relative_to(root) else ""
    return folder, inner if is_id(inner) else folder.name


def _check_keys(demonstrations: Demonstrations) -> None:
    """A key is written as a path; two keys may not be the same place, nor one inside the other."""
    keys = list(demonstrations.observations) if isinstance(demonstrations.observations, Mapping) else []
    for key in keys:
        parts = key.split("/")
        inside = next((other for other in keys if other.startswith(f"{key}/")), None)
        if inside is not None:
            raise DemonstrationsError(f"observations: found the keys {key!r} and {inside!r}, expected no key inside another")
        # A lone half of a surrogate pair cannot be encoded
        plain = key.encode(errors="replace").decode() == key
        if not plain or "\0" in key or {"", ".", "_index_0"} & set(parts):
            raise DemonstrationsError(
                f"observations: found the key {key!r}, expected one that HDF5 and Minari can hold: rename it"
            )


def _record(demonstrations: Demonstrations, dataset_id: str) -> dict[str, Any]:
    """:return: The content of ``metadata.json``, without the size of the file"""
    metadata = demonstrations.metadata
    has_images = any(array.dtype == np.uint8 and array.ndim > 2 for array in as_dict(demonstrations.observations).values())
    record: dict[str, Any] = {
        "dataset_id": dataset_id,
        "minari_version": _VERSION_WITH_IMAGES if has_images else _VERSION,
        "total_episodes": demonstrations.n_episodes,
        "total_steps": len(demonstrations),
        "data_format": "hdf5",
        "jpeg_encoding": False,
        "observation_space": json.dumps(space_to_json(observation_space(demonstrations))),
        "action_space": json.dumps(space_to_json(action_space(demonstrations))),
        OUR_RECORD: {"version": 1, "metadata": dict(metadata)},
    }
    if isinstance(metadata.get("producer"), str):
        record["algorithm_name"] = metadata["producer"]
    record |= {name: metadata[name] for name in _TEXTS if isinstance(metadata.get(name), str)}
    for name in _NAMES:
        names = [metadata.get(name)] if isinstance(metadata.get(name), str) else metadata.get(name)
        if isinstance(names, list) and all(isinstance(part, str) for part in names):
            record[name] = names
    specification = _env_spec(metadata)
    return record if specification is None else {**record, "env_spec": specification}


def _env_spec(metadata: Mapping[str, Any]) -> str | None:
    env_id, kwargs = metadata.get("env_id"), metadata.get("env_kwargs") or {}
    # An id with a colon would make Gymnasium import the module before it
    if not isinstance(env_id, str) or ":" in env_id or env_id not in gym.registry or not isinstance(kwargs, Mapping):
        return None
    registered = gym.registry[env_id]
    try:
        return replace(registered, kwargs={**registered.kwargs, **kwargs}).to_json()
    # An environment may be registered with what JSON does not know
    except (TypeError, ValueError):
        return None


def _write_episode(file: Any, number: int, episode: Episode, truncated: bool) -> None:
    n_steps = len(episode)
    group = file.create_group(f"episode_{number}")
    group.attrs.update({"id": number, "total_steps": n_steps})
    arrays = {"actions": episode.actions, "rewards": episode.rewards}
    for name, at_end in (("terminations", episode.terminated), ("truncations", truncated)):
        arrays[name] = np.zeros(n_steps, dtype=bool)
        arrays[name][-1] = at_end
    if isinstance(episode.observations, Mapping):
        arrays |= {f"observations/{key}": array for key, array in episode.observations.items()}
    else:
        arrays["observations"] = episode.observations
    if episode.success is not None:
        # As an environment reports it with each observation; in between it is not known here
        solved = np.zeros(n_steps + 1, dtype=bool)
        solved[-1] = episode.success
        arrays["infos/success"] = solved
    for name, array in arrays.items():
        group.create_dataset(name, data=array)
    if episode.seed is not None:
        group.attrs["seed"] = episode.seed


def _name_namespaces(folder: Path, dataset_id: str) -> None:
    """A folder of datasets is known as a namespace by a file in it."""
    for parent in folder.parents[: dataset_id.count("/")]:
        if not (parent / NAMESPACE_FILE).exists():
            with write_whole(parent / NAMESPACE_FILE) as temporary:
                temporary.write_text("{}", encoding="utf-8")
