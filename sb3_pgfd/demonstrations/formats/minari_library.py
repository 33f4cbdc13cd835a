"""Minari's storages beside HDF5, ``arrow`` and ``parquet``, read through the ``minari`` library."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sb3_pgfd.demonstrations.arrays import owned
from sb3_pgfd.demonstrations.episode import Episode, stack_episodes
from sb3_pgfd.demonstrations.errors import DemonstrationsError
from sb3_pgfd.demonstrations.formats.content import inside
from sb3_pgfd.demonstrations.validation import Observations

_FORMATS = ("arrow", "parquet")
SUCCESS = ("success", "is_success")
"""Where the infos of an episode may say whether the task was solved"""


def read(whole: Path, folder: Path, record: Mapping[str, Any], episodes: Sequence[int] | None) -> dict[str, Any]:
    """
    :param whole: What the user named: nothing outside it is read
    :param folder: The dataset's ``data`` folder
    :param record: Its ``metadata.json``
    :param episodes: Numbers of episodes, None: all
    :return: The fields of a dataset
    :raises DemonstrationsError: If it is damaged, or the library would have to make its environment
    :raises ImportError: If minari or pyarrow is not installed
    """
    storage_format = record.get("data_format")
    if storage_format not in _FORMATS:
        raise DemonstrationsError(f"found data_format {storage_format!r}, expected one of {['hdf5', *_FORMATS]}")
    missing = [name for name in ("observation_space", "action_space") if name not in record]
    if missing:
        # To learn its spaces the library would make the environment that the file names, and so run what it names
        raise DemonstrationsError(f"metadata.json: found no {missing[0]}, expected one: make the dataset again with it")
    try:
        from minari.dataset.minari_storage import MinariStorage
        from PIL.Image import DecompressionBombError
        from pyarrow import ArrowException
        from pyarrow import dataset as tables
    except ImportError as error:
        raise ImportError(f"reading Minari's {storage_format} storage needs minari: pip install sb3-pgfd[minari]") from error
    for file in folder.rglob("*"):
        inside(whole, file)
    try:
        storage = MinariStorage.read(folder)
        names = (path.name for path in folder.iterdir())
        numbers = sorted(int(name) for name in names if name.isdecimal()) if episodes is None else list(episodes)
        if not numbers:
            raise DemonstrationsError("found no episode, expected at least one")
        for number in numbers:
            _check_tables(tables, folder / str(number), storage_format)
        return _fields(storage, numbers)
    # The library checks with assertions
    except (AssertionError, ArrowException, DecompressionBombError) as error:
        raise DemonstrationsError(f"found a dataset that minari cannot read ({error!r:.200}), expected a whole one") from error


def _check_tables(tables: Any, folder: Path, storage_format: str) -> None:
    """The library does not ask pyarrow whether a table is sound, and one that is not can crash it."""
    files = [str(file) for file in folder.iterdir() if not file.name.startswith(("_", ".", "metadata.json"))]
    for batch in tables.dataset(files, format=storage_format).to_batches():
        batch.validate(full=True)


def _fields(storage: Any, numbers: Sequence[int]) -> dict[str, Any]:
    found = list(_episodes(storage, numbers))
    fields = stack_episodes([episode for episode, _ in found])
    for name in ("terminated", "truncated"):
        fields[name] = owned(np.concatenate([flags[name] for _, flags in found]))
    return fields


def _episodes(storage: Any, numbers: Sequence[int]) -> Iterator[tuple[Episode, dict[str, np.ndarray]]]:
    """:return: Each episode, with its flags step by step"""
    described = storage.get_episode_metadata(numbers)
    for number, record, about in zip(numbers, storage.get_episodes(numbers), described, strict=True):
        terminated, truncated = (np.asarray(record[name], dtype=bool) for name in ("terminations", "truncations"))
        # The library takes a table's first batch for the whole episode
        if not len(terminated) == len(truncated) == len(record["rewards"]) == about.get("total_steps", len(terminated)) > 0:
            raise DemonstrationsError(f"episode {number}: found {len(record['rewards'])} steps, expected {about}")
        truncated[-1] |= not terminated[-1]
        episode = Episode(
            observations=_flatten(record["observations"]),
            actions=np.asarray(record["actions"]),
            rewards=np.asarray(record["rewards"]),
            terminated=bool(terminated[-1]),
            success=_success(record["infos"]),
        )
        seed = about.get("seed")
        yield (
            replace(episode, seed=seed if isinstance(seed, int) else None),
            {"terminated": terminated, "truncated": truncated},
        )


def _flatten(observations: Any, prefix: str = "") -> Observations:
    if isinstance(observations, tuple):
        raise DemonstrationsError("observations: found a Tuple, expected one array or a Dict of arrays")
    if not isinstance(observations, Mapping):
        return np.asarray(observations)
    flat: dict[str, np.ndarray] = {}
    for key, value in observations.items():
        part = _flatten(value, f"{prefix}{key}/")
        flat |= part if isinstance(part, Mapping) else {f"{prefix}{key}": part}
    return flat


def _success(infos: Any) -> bool | None:
    for name in SUCCESS:
        if isinstance(infos, Mapping) and len(infos.get(name, ())):
            return bool(infos[name][-1])
    return None
