"""LeRobot datasets that are refused, and what the error says."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lerobot_dataset import FLOATS, IMAGES, VERSION_3, one_table, steps, write_dataset, write_table

from sb3_pgfd import Demonstrations, DemonstrationsError


def test_a_dataset_without_tables_is_refused(tmp_path: Path):
    with pytest.raises(DemonstrationsError, match=r"found no data/\*\*/\*.parquet in demo"):
        Demonstrations.load(write_dataset(tmp_path / "demo", {}))


def test_a_folder_of_other_tables_is_refused(tmp_path: Path):
    write_table(tmp_path / "data" / "a.parquet", {"price": pa.array([1.0])})
    with pytest.raises(DemonstrationsError, match=r"found columns \['price'\], expected at least one 'observation"):
        Demonstrations.load(tmp_path)


def test_a_dataset_of_such_episodes_alone_is_refused(tmp_path: Path):
    path = write_table(tmp_path / "a.parquet", steps([1, 1]))
    with pytest.raises(DemonstrationsError, match="found 2 steps without a known next observation"):
        Demonstrations.load(path, done_means="truncated")


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("observation.image", "observation.image holds images or text, expected numbers: some of "),
        ("observation.stat", r"found \['observation.stat'\], expected some of \['action', .*'observation.state'"),
    ],
)
def test_a_column_that_cannot_be_read_is_named(key: str, message: str, tmp_path: Path):
    path = write_dataset(tmp_path / "demo", {"a.parquet": steps([3, 2], **{"observation.image": IMAGES})})
    with pytest.raises(DemonstrationsError, match=f"demo: observation_keys: {message}"):
        Demonstrations.load(path, observation_keys=key)
    with pytest.raises(DemonstrationsError, match=r"found no videos/chunk-000/.*, expected the video of episode 0"):
        Demonstrations.load(path, observation_keys="observation.images.top")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"next.reward": None}, "rewards: found none, expected one for each step: pass final_reward=1.0"),
        ({"action": None}, r"columns: found \[.*\], expected also \['action'\]"),
        ({"episode_index": None}, r"columns: found \[.*\], expected also \['episode_index'\]"),
        ({"observation.state": None}, r"found columns \['action', .*\], expected at least one 'observation.\*' of numbers"),
        ({"frame_index": pa.array([0, 1, 3, 0, 1])}, "episode_index 0: found frame_index 3, expected 2: frames are missing"),
        ({"frame_index": pa.array([0, 1, 2, 0, 0])}, "episode_index 1: found frame_index 0, expected 1"),
        ({"frame_index": pa.array([0, 1, 2, 1, 2])}, "episode_index 1: found frame_index 1, expected 0"),
        ({"frame_index": pa.array([0, 1.0, 2, 0, 1])}, "frame_index: found float64, expected one whole number"),
        ({"episode_index": pa.array([[0]] * 5)}, "episode_index: found int64, expected one whole number"),
        ({"observation.state": pa.array([[1.0]] * 4 + [[1.0, 2.0]])}, "found lists of 1 and of 2 values, expected one length"),
        ({"action": pa.array([[1.0, 2.0]] * 4 + [None], FLOATS)}, "action: found 1 empty values"),
        ({"action": pa.array([[1.0, 2.0]] * 4 + [[1.0, None]], FLOATS)}, "action: found 1 empty values"),
        (
            {"action": pa.array([[1.0, 2.0]] * 4 + [[np.nan, 1.0]], FLOATS)},
            "actions: episode 1, step 1, component 0: found nan",
        ),
        ({"next.reward": pa.array([[1.0, 2.0]] * 5)}, r"next.reward: found shape \(2,\), expected one number for each step"),
        ({"action": pa.array(["left"] * 5)}, "action: found string, expected numbers"),
    ],
)
def test_what_does_not_fit_is_named(changes: Any, message: str, tmp_path: Path):
    with pytest.raises(DemonstrationsError, match=f"a.parquet: .*{message}"):
        Demonstrations.load(one_table(tmp_path, **changes))


@pytest.mark.parametrize(
    ("final_reward", "message"),
    [
        ("1", "found final_reward='1', expected a number"),
        (np.nan, "found final_reward=nan, expected a number"),
    ],
)
def test_a_final_reward_is_a_number(final_reward: Any, message: str, tmp_path: Path):
    with pytest.raises(DemonstrationsError, match=message):
        Demonstrations.load(one_table(tmp_path, **{"next.reward": None}), final_reward=final_reward)


def test_a_final_reward_does_not_replace_rewards(tmp_path: Path):
    with pytest.raises(DemonstrationsError, match=r"found final_reward=1\.0 for a source that holds rewards"):
        Demonstrations.load(one_table(tmp_path), final_reward=1.0)


def test_tables_of_different_columns_are_refused(tmp_path: Path):
    tables = {"a.parquet": steps([3]), "b.parquet": steps([2], 1, action=None)}
    with pytest.raises(DemonstrationsError, match=r"b.parquet: columns: found \[.*\], expected also \['action'\]"):
        Demonstrations.load(write_dataset(tmp_path / "demo", tables))
    wide = pa.array([[1.0, 2.0, 3.0]] * 2, pa.list_(pa.float32(), 3))
    tables["b.parquet"] = steps([2], 1, action=wide)
    with pytest.raises(DemonstrationsError, match=r"action: found shapes \[\(2,\), \(3,\)\] per step, expected one shape"):
        Demonstrations.load(write_dataset(tmp_path / "other", tables))


@pytest.mark.parametrize(
    "text", ['{"codebase_version"', '["codebase_version"]', '"codebase_version"', "[" * 100_000 + '"codebase_version"']
)
def test_a_record_that_is_none_is_refused(text: str, tmp_path: Path):
    with pytest.raises(DemonstrationsError, match=r"info.json: found .*, expected"):
        Demonstrations.load(write_dataset(tmp_path / "demo", VERSION_3, text))


@pytest.mark.parametrize("name", ["data/file-000.parquet", "meta/info.json"])
def test_a_link_out_of_the_folder_is_refused(name: str, tmp_path: Path):
    folder = write_dataset(tmp_path / "demo", {"file-000.parquet": steps([3])})
    (folder / name).rename(tmp_path / "elsewhere")
    (folder / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DemonstrationsError, match=r"which leads out of .*demo, expected a file in that folder"):
        Demonstrations.load(folder)


@pytest.mark.parametrize(("memory", "fits"), [(185, True), (184, False)])
def test_a_table_that_declares_more_than_memory_is_refused(
    memory: int, fits: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    # 5 steps: 2 floats of state, 2 of action, 2 indices of 8 bytes, a reward of 4 and a flag of 1
    monkeypatch.setattr("sb3_pgfd.demonstrations.formats.checks.physical_memory", lambda: memory)
    path = one_table(tmp_path)
    if fits:
        assert len(Demonstrations.load(path)) == 5
    else:
        with pytest.raises(DemonstrationsError, match=r"tables: found .* of data, expected at most the"):
            Demonstrations.load(path)


class TouchesAFile:
    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


def test_a_pickled_extension_type_is_not_executed(tmp_path: Path):
    """Older versions of pyarrow unpickled this (CVE-2023-47248)."""
    marker = tmp_path / "marker"
    hostile = {
        b"ARROW:extension:name": b"arrow.py_extension_type",
        b"ARROW:extension:metadata": pickle.dumps(TouchesAFile(marker)),
    }
    columns = steps([3, 2])
    fields = [pa.field(name, column.type, metadata=hostile if name == "action" else None) for name, column in columns.items()]
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_arrays(list(columns.values()), schema=pa.schema(fields)), path)
    assert hostile.items() <= dict(pq.read_schema(path).field("action").metadata).items()
    assert Demonstrations.load(path).n_episodes == 2
    assert not marker.exists()
