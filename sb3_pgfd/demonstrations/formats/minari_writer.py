"""
Writing Minari datasets with h5py; the ``minari`` library loads them.

Images are not turned into JPEG, which would change them. ``metadata.json`` keeps the provenance whole under a key of our own,
so that nothing is lost on the way there and back.
"""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from sb3_pgfd.demonstrations.episode import Episode, Transitions
from sb3_pgfd.demonstrations.errors import DemonstrationsError
from sb3_pgfd.demonstrations.formats import minari
from sb3_pgfd.demonstrations.spaces import space_from_json, space_to_json
from sb3_pgfd.demonstrations.time_limit import time_limit
from sb3_pgfd.demonstrations.validation import Locator, check_actions, check_observations
from sb3_pgfd.utils.files import install, refuse_existing, write_whole

# The oldest version of Minari that reads images that are no JPEG
_VERSION = "0.5.4"
_TEXTS = ("algorithm_name", "description", "code_permalink")
_NAMES = ("author", "author_email")
# Discrete spaces count with int64; values of a wider range are no choices
_MAX_CHOICES = 2**31


def write_minari(transitions: Transitions, target: str | Path, overwrite: bool = False) -> Path:
    """
    Write to a temporary folder beside the dataset's, then rename: a crash leaves no half dataset.

    The spaces are those of the metadata if they fit, and otherwise unbounded ones. If the metadata name an environment that
    is registered here, its specification goes along, and Minari can make the environment.

    :param transitions: What to write
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
        raise ImportError(f"writing Minari datasets needs h5py: {install('hdf5')}") from error
    folder, dataset_id = _place(target)
    refuse_existing(folder, overwrite)
    if folder.exists() and minari.data_folder(folder) is None:
        raise FileExistsError(f"{folder}: found what is no Minari dataset, expected one to replace: remove it yourself")
    _check_keys(transitions.observations)
    # One that is no sequence is refused before anything is written
    episodes = [transitions.episode(number) for number in range(transitions.n_episodes)]
    described = {"observation_space": _observation_space(transitions), "action_space": _action_space(transitions)}
    with write_whole(folder, overwrite, folder=True) as temporary:
        data = temporary / minari.DATA_FOLDER
        data.mkdir()
        with h5py.File(data / minari.MAIN_FILE, "w", track_order=True) as file:
            truncated = transitions.truncated[np.cumsum(transitions.episode_lengths) - 1]
            for number, episode in enumerate(episodes):
                _write_episode(file.create_group(f"episode_{number}"), number, episode, truncated[number])
        record = {
            "total_episodes": len(episodes),
            "total_steps": len(transitions),
            "data_format": "hdf5",
            "jpeg_encoding": False,
            **{name: json.dumps(space_to_json(space, in_full=True)) for name, space in described.items()},
            "dataset_size": round((data / minari.MAIN_FILE).stat().st_size / 1e6, 1),
            **_about(transitions.metadata, dataset_id),
        }
        (data / minari.METADATA_FILE).write_text(json.dumps(record), encoding="utf-8")
    # A folder of datasets is known as a namespace by a file in it
    for parent in folder.parents[: dataset_id.count("/")]:
        if not (parent / "namespace_metadata.json").exists():
            with write_whole(parent / "namespace_metadata.json") as temporary:
                temporary.write_text("{}", encoding="utf-8")
    return folder


def _place(target: str | Path) -> tuple[Path, str]:
    """:return: The dataset's folder and id"""
    if str(target).startswith(minari.PREFIX):
        dataset_id = str(target).removeprefix(minari.PREFIX)
        return minari.dataset_folder(dataset_id), dataset_id
    folder = Path(os.path.abspath(Path(target).expanduser()))
    if not minari.NAME.fullmatch(folder.name):
        raise DemonstrationsError(
            f"{folder}: found the name {folder.name!r}, expected letters, digits, '-' and '_' that end in a version: 'name-v0'"
        )
    root = minari.datasets_root().resolve()
    resolved = folder.parent.resolve() / folder.name
    # Minari lists a dataset only where its id says that it is
    inner = resolved.relative_to(root).as_posix() if resolved.is_relative_to(root) else ""
    return folder, inner if minari.is_id(inner) else folder.name


def _check_keys(observations: Any) -> None:
    """A key is written as a path; two keys may not be the same place, nor one inside the other."""
    keys = list(observations) if isinstance(observations, Mapping) else []
    for key in keys:
        inner = next((other for other in keys if other.startswith(f"{key}/")), None)
        if inner is not None:
            raise DemonstrationsError(f"observations: found the keys {key!r} and {inner!r}, expected no key inside another")
        # A lone half of a surrogate pair cannot be encoded
        plain = key.encode(errors="replace").decode() == key
        if not plain or "\0" in key or {"", ".", "_index_0"} & set(key.split("/")):
            raise DemonstrationsError(
                f"observations: found the key {key!r}, expected one that HDF5 and Minari can hold: rename it"
            )


def _about(metadata: Mapping[str, Any], dataset_id: str) -> dict[str, Any]:
    """:return: What ``metadata.json`` says about the dataset beside its sizes and spaces"""
    ours = {"version": 1, "metadata": dict(metadata)}
    record = {"dataset_id": dataset_id, "minari_version": _VERSION, minari.OUR_RECORD: ours}
    texts = {"algorithm_name": metadata.get("producer"), **{name: metadata[name] for name in _TEXTS if name in metadata}}
    record |= {name: text for name, text in texts.items() if isinstance(text, str)}
    for name in _NAMES:
        names = [metadata.get(name)] if isinstance(metadata.get(name), str) else metadata.get(name)
        if isinstance(names, list) and all(isinstance(part, str) for part in names):
            record[name] = sorted(set(names))
    env_id, kwargs = metadata.get("env_id"), metadata.get("env_kwargs") or {}
    # An id with a colon would make Gymnasium import the module before it
    if isinstance(env_id, str) and ":" not in env_id and env_id in gym.registry and isinstance(kwargs, Mapping):
        registered = gym.registry[env_id]
        given = {**registered.kwargs, **kwargs}
        limit = time_limit(env_id, given)
        given.pop("max_episode_steps", None)
        # An environment may be registered with what JSON does not know
        with suppress(TypeError, ValueError):
            spec = replace(registered, kwargs=given, max_episode_steps=limit)
            record["env_spec"] = spec.to_json()
    return record


def _write_episode(group: Any, number: int, episode: Episode, truncated: bool) -> None:
    n_steps = len(episode)
    last = np.arange(n_steps) == n_steps - 1
    seed = {} if episode.seed is None else {"seed": episode.seed}
    group.attrs.update({"id": number, "total_steps": n_steps, **seed})
    arrays = {"actions": episode.actions, "rewards": episode.rewards}
    arrays |= {"terminations": last & episode.terminated, "truncations": last & truncated}
    if episode.success is not None:
        # As an environment reports it with each observation; in between it is not known here
        arrays["infos/success"] = np.append(np.zeros(n_steps, dtype=bool), episode.success)
    observations = episode.observations if isinstance(episode.observations, Mapping) else {"": episode.observations}
    arrays |= {f"observations/{key}".rstrip("/"): array for key, array in observations.items()}
    for name, array in arrays.items():
        group.create_dataset(name, data=array)


def _observation_space(transitions: Transitions) -> spaces.Space:
    """:return: The space of the metadata if it fits; otherwise an unbounded one, with all values of uint8 for images"""
    # They may have been edited since they were recorded
    with suppress(DemonstrationsError):
        recorded = space_from_json(transitions.metadata.get("observation_space"))
        check_observations(transitions.observations, _flatten(recorded))
        return recorded
    before, after = transitions.observations, transitions.next_observations
    if not isinstance(before, Mapping) or not isinstance(after, Mapping):
        return _infer(before, after)
    return _nest({key: _infer(before[key], after[key]) for key in before})


def _nest(flat: Mapping[str, spaces.Space]) -> spaces.Dict:
    """The inverse of :func:`_flatten`."""
    outer: dict[str, dict[str, spaces.Space]] = {}
    for key, space in flat.items():
        name, _, rest = key.partition("/")
        outer.setdefault(name, {})[rest] = space
    return spaces.Dict({name: inner[""] if "" in inner else _nest(inner) for name, inner in outer.items()})


def _action_space(transitions: Transitions) -> spaces.Space:
    """:return: The space of the metadata if it fits; otherwise the choices that occur of whole numbers, or an unbounded one"""
    with suppress(DemonstrationsError):
        recorded = space_from_json(transitions.metadata.get("action_space"))
        check_actions(transitions.actions, recorded, Locator(transitions.episode_lengths))
        return recorded
    actions = transitions.actions
    if actions.dtype.kind in "iu" and actions.ndim == 2 and actions.size:
        # Python's integers, as the distance may overflow the dtype
        starts, ends = np.minimum(actions.min(axis=0).astype(object), 0), actions.max(axis=0).astype(object)
        if (ends - starts).max() < _MAX_CHOICES:
            return spaces.MultiDiscrete((ends - starts + 1).astype(np.int64), start=starts.astype(np.int64))
    return _infer(actions)


def _infer(*arrays: Any) -> spaces.Space:
    """:return: The space of one array for each step"""
    shape, dtype = arrays[0].shape[1:], arrays[0].dtype.newbyteorder("=")
    if dtype.kind in "iu" and shape == ():
        start, end = min(0, *(int(array.min()) for array in arrays)), max(int(array.max()) for array in arrays)
        if end - start < _MAX_CHOICES:
            return spaces.Discrete(end - start + 1, start=start)
    bounds = {"f": (-np.inf, np.inf), "b": (False, True)}
    low, high = bounds[dtype.kind] if dtype.kind in bounds else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    return spaces.Box(np.full(shape, low, dtype), np.full(shape, high, dtype), shape, dtype.type)


def _flatten(space: spaces.Space) -> spaces.Space:
    """As observations are, with keys ``"outer/inner"``."""
    if not isinstance(space, spaces.Dict):
        return space
    flat: dict[str, spaces.Space] = {}
    for key, value in space.spaces.items():
        part = _flatten(value)
        flat |= {f"{key}/{name}": leaf for name, leaf in part.spaces.items()} if isinstance(part, spaces.Dict) else {key: part}
    return spaces.Dict(flat)
