"""LeRobot datasets as they lie on disk, written with pyarrow."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

INFO = {
    "codebase_version": "v3.0",
    "robot_type": "so100",
    "fps": 30,
    "features": {"observation.images.top": {"dtype": "video", "shape": [480, 640, 3]}},
}
FLOATS = pa.list_(pa.float32(), 2)


def steps(lengths: Sequence[int], first_episode: int = 0, **changes: Any) -> dict[str, Any]:
    """
    The columns of a table: ``observation.state`` is (100 episode + frame, 7), ``action`` (episode, frame), the last step has
    the reward 1 and is done. None leaves a column out.
    """
    episode = np.repeat(np.arange(first_episode, first_episode + len(lengths)), lengths)
    frame = np.concatenate([np.arange(length) for length in lengths])
    last = frame == np.repeat(lengths, lengths) - 1
    columns = {
        "observation.state": pa.array([[100 * e + f, 7] for e, f in zip(episode, frame, strict=True)], FLOATS),
        "action": pa.array(list(zip(episode, frame, strict=True)), FLOATS),
        "timestamp": pa.array(frame / 30, pa.float32()),
        "frame_index": pa.array(frame, pa.int64()),
        "episode_index": pa.array(episode, pa.int64()),
        "index": pa.array(np.arange(len(frame)), pa.int64()),
        "task_index": pa.array(np.zeros(len(frame)), pa.int64()),
        "next.reward": pa.array(last, pa.float32()),
        "next.done": pa.array(last, pa.bool_()),
        **changes,
    }
    return {name: column for name, column in columns.items() if column is not None}


def write_table(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, **options)
    return path


def write_dataset(folder: Path, tables: dict[str, dict[str, Any]], info: Any = INFO) -> Path:
    """:param tables: Columns by the name of the file under ``data/``"""
    for name, columns in tables.items():
        write_table(folder / "data" / name, columns)
    if info is not None:
        (folder / "meta").mkdir(parents=True)
        (folder / "meta" / "info.json").write_text(info if isinstance(info, str) else json.dumps(info))
    return folder


def one_table(folder: Path, **changes: Any) -> Path:
    return write_table(folder / "a.parquet", steps([3, 2], **changes))


VERSION_2 = {f"chunk-000/episode_{k:06d}.parquet": steps([length], k) for k, length in enumerate((3, 2))}
VERSION_3 = {"chunk-000/file-000.parquet": steps([3, 2])}
IMAGES = pa.array([{"bytes": b"\x89PNG", "path": "a.png"}] * 5)
