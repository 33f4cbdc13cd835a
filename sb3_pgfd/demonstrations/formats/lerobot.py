"""
LeRobot datasets: a folder with ``meta/info.json`` and tables ``data/chunk-000/*.parquet``, one episode in each (version 2)
or many (version 3); or one such table. A row is a step: ``episode_index``, ``frame_index``, ``action``, ``observation.*``,
and, if they were recorded, ``next.reward``, ``next.done`` and ``next.success``. Images and videos are not read.

An episode is terminated if ``next.done`` of its last row is set, and ``next.success`` as well where there is that column; of
the rows before, neither is looked at. A table holds no observation after the last step of an episode:
:mod:`~sb3_pgfd.demonstrations.formats.successors` says what becomes of that step.
"""

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sb3_pgfd.demonstrations.dataset import Demonstrations
from sb3_pgfd.demonstrations.editing import DoneMeans, ObservationKeys, source_keys
from sb3_pgfd.demonstrations.errors import DemonstrationsError
from sb3_pgfd.demonstrations.formats.content import inside, starts_with
from sb3_pgfd.demonstrations.formats.final_reward import check_final_reward, rewards_at_ends
from sb3_pgfd.demonstrations.formats.parquet import MAGIC, column_types, names_column, read_columns, width
from sb3_pgfd.demonstrations.formats.successors import Shifted, shift
from sb3_pgfd.demonstrations.validation import Observations

_INDEX = ("episode_index", "frame_index")
_ACTION, _REWARD, _DONE, _SUCCESS = "action", "next.reward", "next.done", "next.success"
_INFO = Path("meta", "info.json")
# What the metadata of demonstrations take over of it
_PROVENANCE = ("robot_type", "fps", "codebase_version")


def recognizes(path: Path) -> bool:
    """:param path: Whether this is a parquet file, or a folder with LeRobot's record or tables"""
    if path.is_file():
        return starts_with(path, MAGIC)
    if (path / _INFO).is_file() and b'"codebase_version"' in inside(path, path / _INFO).read_bytes():
        return True
    # One is enough: another library's folder may hold thousands
    return any(names_column(table, _INDEX[0]) for table in _tables(path)[:1])


def read_lerobot(
    path: Path,
    observation_keys: ObservationKeys | None = None,
    done_means: DoneMeans | None = None,
    final_reward: float | None = None,
) -> Demonstrations:
    """
    :param path: The folder of a dataset, or one of its tables
    :param observation_keys: Columns to read, ``"observation.state"`` for instance; None: all ``observation.*`` columns of
        numbers. One column alone becomes Box observations, unless it is named
    :param done_means: ``"terminated"``: every episode ends in a terminal state, but where ``next.done`` denies it;
        ``"truncated"``: none does
    :param final_reward: For datasets without ``next.reward``: what the last step of each episode gets, the others 0, and
        episodes that ``next.success`` denies success 0 throughout. Demonstrations of a task are successes, so a positive
        one also marks that step as terminated where there is no ``next.done``
    :raises DemonstrationsError: If the tables lack a column, frames are missing, or there is neither ``next.reward`` nor
        ``final_reward``
    :raises ImportError: If pyarrow is not installed
    """
    info, tables = ({}, [path]) if path.is_file() else (_info(path), _tables(path))
    if not tables:
        raise DemonstrationsError(f"found no data/**/*.parquet in {path.name}, expected the tables of a LeRobot dataset")
    types = column_types(tables[0])
    keys = _observation_columns(types, info, source_keys(observation_keys))
    optional = [name for name in (_REWARD, _DONE, _SUCCESS) if name in types]
    check_final_reward(final_reward, _REWARD in types)
    columns = _in_order(read_columns(tables, list(dict.fromkeys([*_INDEX, _ACTION, *optional, *keys]))))
    ended = np.append(np.diff(columns[_INDEX[0]]) != 0, True)
    observations = _observations(columns, keys, as_dict=observation_keys is not None)
    steps = shift(observations, _terminal(columns, done_means, final_reward), ended)
    success = _flags(columns, _SUCCESS)
    successes = None if success is None else success[ended][steps.episodes]
    return Demonstrations(
        **steps.fields(),
        actions=_per_step(columns[_ACTION], scalar=columns[_ACTION].dtype.kind in "iu")[steps.rows],
        rewards=_rewards(columns, steps, final_reward, successes),
        metadata={"producer": "imported from a LeRobot dataset", **{key: info[key] for key in _PROVENANCE if key in info}},
        episode_info={} if successes is None else {"success": successes},
    )


def _info(folder: Path) -> Mapping[str, Any]:
    path = folder / _INFO
    if not path.is_file():
        return {}
    try:
        record = json.loads(inside(folder, path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DemonstrationsError(f"{_INFO}: found no JSON record ({error!r:.80}), expected one") from error
    if not isinstance(record, dict):
        raise DemonstrationsError(f"{_INFO}: found {type(record).__name__}, expected a JSON record")
    return record


def _tables(folder: Path) -> list[Path]:
    return [inside(folder, path) for path in sorted(folder.glob("data/**/*.parquet")) if path.is_file()]


def _observation_columns(types: Mapping[str, Any], info: Mapping[str, Any], wanted: Sequence[str] | None) -> list[str]:
    numeric = [name for name, column_type in types.items() if width(column_type) is not None]
    if wanted is None:
        wanted = [name for name in numeric if name == "observation" or name.startswith("observation.")]
        if not wanted:
            raise DemonstrationsError(f"found columns {sorted(types)}, expected at least one 'observation.*' of numbers")
    for name in wanted:
        if name in numeric:
            continue
        if name in types or name in info.get("features", {}):
            raise DemonstrationsError(f"observation_keys: {name} holds images or text, expected numbers: some of {numeric}")
        raise DemonstrationsError(f"observation_keys: found no column {name!r}, expected some of {numeric}")
    return list(wanted)


def _in_order(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """:return: The columns, episode by episode and frame by frame"""
    episode, frame = (columns[name] for name in _INDEX)
    for name in _INDEX:
        if columns[name].dtype.kind not in "iu" or columns[name].ndim != 1:
            raise DemonstrationsError(f"{name}: found {columns[name].dtype}, expected one whole number for each step")
    if len(frame) == 0:
        raise DemonstrationsError("found tables without rows, expected at least one step")
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


def _observations(columns: Mapping[str, np.ndarray], keys: Sequence[str], as_dict: bool) -> Observations:
    arrays = {key: _per_step(columns[key]) for key in keys}
    return arrays if as_dict or len(arrays) > 1 else next(iter(arrays.values()))


def _per_step(column: np.ndarray, scalar: bool = False) -> np.ndarray:
    """LeRobot writes features of shape (1,) as plain numbers."""
    return column.reshape(len(column), 1) if column.ndim == 1 and not scalar else column


def _flags(columns: Mapping[str, np.ndarray], name: str) -> np.ndarray | None:
    return _one_number(columns, name).astype(bool) if name in columns else None


def _one_number(columns: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    column = columns[name]
    if column[0].size != 1:
        raise DemonstrationsError(f"{name}: found shape {column.shape[1:]}, expected one number for each step")
    return column.reshape(len(column))


def _terminal(columns: Mapping[str, np.ndarray], done_means: DoneMeans | None, final_reward: float | None) -> np.ndarray:
    """:return: Whether each step would reach a terminal state, if it is the last of its episode"""
    n_steps = len(columns[_INDEX[0]])
    if done_means == "truncated":
        return np.zeros(n_steps, dtype=bool)
    done, success = _flags(columns, _DONE), _flags(columns, _SUCCESS)
    if done is None:
        done = np.full(n_steps, done_means == "terminated" or (final_reward is not None and final_reward > 0))
    return done if success is None or done_means == "terminated" else done & success


def _rewards(
    columns: Mapping[str, np.ndarray], steps: Shifted, final_reward: float | None, successes: np.ndarray | None
) -> np.ndarray:
    if final_reward is not None:
        return rewards_at_ends(steps.episode_lengths, final_reward, successes)
    rewards = _one_number(columns, _REWARD)
    if rewards.any() and not rewards[steps.rows].any():
        warnings.warn(
            "The only rewards that are not 0 belong to last steps of episodes. These steps were dropped, as they are not "
            "terminal and what was observed after them is not in the file. If they reached the goal, pass "
            "done_means='terminated'",
            stacklevel=2,
        )
    return rewards[steps.rows]
