"""
LeRobot datasets: a folder with ``meta/info.json`` and tables ``data/chunk-000/*.parquet``, one episode in each (version 2)
or many (version 3); or one such table. A row is a step: ``episode_index``, ``frame_index``, ``action``, ``observation.*``,
and, if they were recorded, ``next.reward``, ``next.done`` and ``next.success``. Videos are read where they are named.

An episode is terminated if ``next.done`` of its last row is set, and ``next.success`` as well where there is that column; of
the rows before, neither is looked at. A table holds no observation after the last step of an episode:
:mod:`~sb3_pgfd.demonstrations.formats.successors` says what becomes of that step.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sb3_pgfd.demonstrations.editing import DoneMeans, ObservationKeys, source_keys
from sb3_pgfd.demonstrations.episode import Transitions
from sb3_pgfd.demonstrations.errors import DemonstrationsError
from sb3_pgfd.demonstrations.formats.checks import (
    LFS_POINTER,
    check_present,
    check_size,
    errors_naming,
    inside,
    json_object,
    one_number,
    refuse_pointer,
    starts_with,
)
from sb3_pgfd.demonstrations.formats.lerobot_videos import is_video, place_columns, read_videos
from sb3_pgfd.demonstrations.formats.successors import check_final_reward, from_steps
from sb3_pgfd.utils.files import install

_MAGIC = b"PAR1"
_INDEX = ("episode_index", "frame_index")
_ACTION, _REWARD, _DONE, _SUCCESS = "action", "next.reward", "next.done", "next.success"
_INFO = Path("meta", "info.json")
# What the metadata of demonstrations take over of it
_PROVENANCE = ("robot_type", "fps", "codebase_version")


def recognizes(path: Path) -> bool:
    """:param path: Whether this is a parquet file, or a folder with LeRobot's record or such files"""
    if path.is_file():
        return starts_with(path, _MAGIC)
    has_record = (path / _INFO).is_file() and b'"codebase_version"' in inside(path, path / _INFO).read_bytes()
    return has_record or any(starts_with(table, _MAGIC, LFS_POINTER) for table in _tables(path))


def read_lerobot(
    path: Path,
    observation_keys: ObservationKeys | None = None,
    done_means: DoneMeans | None = None,
    final_reward: float | None = None,
    columns: Mapping[str, str] | None = None,
    image_size: int | None = None,
) -> Transitions:
    """
    :param path: The folder of a dataset, or one of its tables
    :param observation_keys: Columns to read, ``"observation.state"`` for instance; None: all ``observation.*`` columns of
        numbers. One column alone becomes Box observations, unless it is named. Videos, such as
        ``"observation.images.top"``, have to be named; reading them needs PyAV
    :param done_means: ``"terminated"``: every episode ends in a terminal state, but where ``next.done`` denies it;
        ``"truncated"``: none does
    :param final_reward: For datasets without ``next.reward``: what the last step of each episode gets, the others 0, and
        episodes that ``next.success`` denies success 0 throughout. Demonstrations of a task are successes, so a positive
        one also marks that step as terminated where there is no ``next.done``
    :param columns: What the table calls a column, by the name here: ``{"action": "actions", "observation.state": "state"}``
    :param image_size: Pixels in each direction to shrink the middle of the frames of videos to; None: as they are
    :raises DemonstrationsError: If the tables lack a column, frames are missing, or there is neither ``next.reward`` nor
        ``final_reward``
    :raises ImportError: If pyarrow is not installed
    """
    info, tables = ({}, [path]) if path.is_file() else (_info(path), _tables(path))
    if not tables:
        raise DemonstrationsError(f"found no data/**/*.parquet in {path.name}, expected the tables of a LeRobot dataset")
    if columns is not None and not isinstance(columns, Mapping):
        raise DemonstrationsError(f"found columns={columns!r}, expected a mapping: {{'action': 'actions'}}")
    theirs = dict(columns or {})
    types = _column_types(tables[0])
    check_present(types, theirs.values(), "columns: ")
    types = {name: kind for name, kind in types.items() if name not in theirs.values()}
    types |= {ours: _column_types(tables[0])[name] for ours, name in theirs.items()}
    keys = _observation_columns(types, info, observation_keys)
    if _ACTION not in types:
        advice = ": if another column holds them, name it: columns={'action': 'actions'} "
        check_present(types, [_ACTION], "columns: ", advice)
    optional = [name for name in (_REWARD, _DONE, _SUCCESS) if name in types]
    videos = [key for key in keys if key not in types]
    names = list(dict.fromkeys([*_INDEX, _ACTION, *optional, *(key for key in keys if key not in videos)]))
    found = _read_columns(tables, [theirs.get(name, name) for name in names])
    steps = _in_order({name: found[theirs.get(name, name)] for name in names})
    flags = {name: one_number(name, steps[name]).astype(bool) for name in (_DONE, _SUCCESS) if name in steps}
    ended = np.append(np.diff(steps[_INDEX[0]]) != 0, True)
    observations = {key: _per_step(steps[key]) for key in keys if key not in videos}
    if videos:
        numbers, lengths = np.unique(steps[_INDEX[0]], return_counts=True)
        episodes = [inside(path, table) for table in sorted(path.glob("meta/episodes/**/*.parquet"))]
        places = _read_columns(episodes, place_columns(videos)) if episodes else None
        for key in videos:
            observations[key] = read_videos(path, info, key, numbers, lengths, places, image_size)
    actions = steps[_ACTION]
    given = one_number(_REWARD, steps[_REWARD]) if _REWARD in steps else None
    check_final_reward(final_reward, given)
    rewards: np.ndarray | float = final_reward if final_reward is not None else np.asarray(given)
    return from_steps(
        observations if observation_keys is not None or len(keys) > 1 else observations[keys[0]],
        actions if actions.dtype.kind in "iu" else _per_step(actions),
        rewards,
        _terminal(flags, len(ended), done_means, final_reward),
        ended,
        success=flags[_SUCCESS][ended] if _SUCCESS in flags else None,
        metadata={"producer": "imported from a LeRobot dataset", **{key: info[key] for key in _PROVENANCE if key in info}},
    )


def _info(folder: Path) -> Mapping[str, Any]:
    path = folder / _INFO
    return json_object(inside(folder, path).read_text(encoding="utf-8"), str(_INFO)) if path.is_file() else {}


def _tables(folder: Path) -> list[Path]:
    return [inside(folder, path) for path in sorted(folder.glob("data/**/*.parquet")) if path.is_file()]


def _observation_columns(types: Mapping[str, Any], info: Mapping[str, Any], keys: ObservationKeys | None) -> list[str]:
    numeric = [name for name, column_type in types.items() if _width(column_type) is not None]
    if keys is None:
        wanted = [name for name in numeric if name == "observation" or name.startswith("observation.")]
        if not wanted:
            raise DemonstrationsError(
                f"found columns {sorted(types)}, expected at least one 'observation.*' of numbers: name another with "
                "observation_keys"
            )
        return wanted
    wanted = source_keys(keys, {*types, *info.get("features", {})})
    others = [name for name in wanted if name not in numeric and not is_video(info, name)]
    if others:
        raise DemonstrationsError(f"observation_keys: {others[0]} holds images or text, expected numbers: some of {numeric}")
    return wanted


def _in_order(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """:return: The columns, episode by episode and frame by frame"""
    episode, frame = (columns[name] for name in _INDEX)
    for name in _INDEX:
        if columns[name].dtype.kind not in "iu" or columns[name].ndim != 1:
            raise DemonstrationsError(f"{name}: found {columns[name].dtype}, expected one whole number for each step")
    order = np.lexsort((frame, episode))
    episode, frame = episode[order], frame[order]
    starts = np.flatnonzero(np.diff(episode, prepend=episode[0] - 1) != 0)
    expected = np.arange(len(frame)) - np.repeat(starts, np.diff(starts, append=len(frame)))
    wrong = np.flatnonzero(frame != expected)
    if len(wrong):
        row = int(wrong[0])
        raise DemonstrationsError(
            f"episode_index {episode[row]}: found frame_index {frame[row]}, expected {expected[row]}: frames are missing or "
            "there twice"
        )
    if (order == np.arange(len(order))).all():
        return columns
    return {name: column[order] for name, column in columns.items()}


def _per_step(column: np.ndarray) -> np.ndarray:
    """LeRobot writes features of shape (1,) as plain numbers."""
    return column.reshape(len(column), 1) if column.ndim == 1 else column


def _terminal(
    flags: Mapping[str, np.ndarray], n_steps: int, done_means: DoneMeans | None, final_reward: float | None
) -> np.ndarray:
    """:return: Whether each step would reach a terminal state, if it is the last of its episode"""
    if done_means == "truncated":
        return np.zeros(n_steps, dtype=bool)
    default = np.full(n_steps, done_means == "terminated" or (final_reward is not None and final_reward > 0))
    done = flags.get(_DONE, default)
    return done & flags[_SUCCESS] if _SUCCESS in flags and done_means != "terminated" else done


def _column_types(path: Path) -> dict[str, Any]:
    """:return: The Arrow type of each column of a parquet file"""
    refuse_pointer(path)
    with errors_naming(path.name), _libraries()[1].ParquetFile(path) as file:
        return {field.name: field.type for field in file.schema_arrow}


def _width(column_type: Any) -> int | None:
    """:return: Bytes of a number, or list of numbers (of no fixed length: of one element); None: of something else"""
    pa, _ = _libraries()
    if isinstance(column_type, pa.BaseExtensionType):
        return _width(column_type.storage_type)
    types = pa.types
    if types.is_list(column_type) or types.is_large_list(column_type) or types.is_fixed_size_list(column_type):
        width = _width(column_type.value_type)
        return width * column_type.list_size if width and types.is_fixed_size_list(column_type) else width
    is_number = types.is_integer(column_type) or types.is_floating(column_type) or types.is_boolean(column_type)
    return max(1, column_type.bit_width // 8) if is_number else None


def _read_columns(paths: Sequence[Path], names: Sequence[str]) -> dict[str, np.ndarray]:
    """:return: Columns of numbers, each of shape ``(N, *shape)``, the files one after the other"""
    pa, pq = _libraries()
    check_size("tables", sum(_declared_bytes(path, names) for path in paths), sum(path.stat().st_size for path in paths))
    parts: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for path in paths:
        with errors_naming(path.name, pa.ArrowException), pq.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read(columns=list(names), use_threads=False)
            for name in names:
                column = table.column(name)
                column.validate(full=True)
                parts[name].extend(_to_numpy(name, chunk) for chunk in column.chunks if len(chunk))
    for name, arrays in parts.items():
        shapes = sorted({array.shape[1:] for array in arrays})
        if len(shapes) != 1:
            raise DemonstrationsError(f"{name}: found shapes {shapes} per step, expected one shape and at least one step")
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}


def _libraries() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ImportError(f"reading LeRobot datasets needs pyarrow: {install('lerobot')}") from error
    return pyarrow, parquet


def _declared_bytes(path: Path, names: Sequence[str]) -> int:
    """:return: What these columns say they take in memory, at least"""
    types = _column_types(path)
    check_present(types, names, f"{path.name}: columns: ")
    widths = {name: _width(types[name]) for name in names}
    for name, width in widths.items():
        if width is None:
            raise DemonstrationsError(f"{path.name}: {name}: found {types[name]}, expected numbers")
    # Not the metadata of row groups and columns: of a damaged file pyarrow may not survive to read them
    with _libraries()[1].ParquetFile(path) as file:
        return sum(filter(None, widths.values())) * file.metadata.num_rows


def _to_numpy(name: str, array: Any) -> np.ndarray:
    pa, _ = _libraries()
    array = array.storage if isinstance(array, pa.ExtensionArray) else array
    if array.null_count:
        raise DemonstrationsError(f"{name}: found {array.null_count} empty values, expected a number for each step")
    if pa.types.is_primitive(array.type):
        return array.to_numpy(zero_copy_only=False)
    lengths = np.unique(array.value_lengths().to_numpy(zero_copy_only=False))
    if len(lengths) > 1:
        raise DemonstrationsError(f"{name}: found lists of {lengths[0]} and of {lengths[1]} values, expected one length")
    values = _to_numpy(name, array.flatten())
    return values.reshape(len(array), int(lengths.sum()), *values.shape[1:])
