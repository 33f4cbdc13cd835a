"""The package's own files: what is written and read back."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from full_disk import files_of_at_most
from npz_files import BOX, FIELDS, IMAGES, METADATA, make

from sb3_pgfd import Demonstrations, DemonstrationsError

DATASETS = {
    "box": BOX,
    "box of single precision": make(np.array([0.1, 0.2, 0.3], dtype=np.float32)),
    "images": make(IMAGES),
    "images whose channels were moved": make(np.moveaxis(IMAGES, -1, 1)),
    "bytes in the other order": make(np.array([1, 2, 3], dtype=">f8")),
    "dict": make({"camera": IMAGES, "joint/angle": np.array([0.1, 0.2, 0.3]), "file": np.zeros((3, 1), dtype=np.float32)}),
    "discrete actions": make(np.zeros((3, 1)), actions=np.array([0, 2, 1])),
}


def bits(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    return {key: bits(array) for key, array in value.items()}


@pytest.mark.parametrize("original", DATASETS.values(), ids=DATASETS.keys())
def test_a_file_keeps_every_bit(original: Demonstrations, tmp_path: Path):
    restored = Demonstrations.load(original.save(tmp_path / "a.npz"))
    for name in FIELDS:
        assert bits(getattr(restored, name)) == bits(getattr(original, name))
    assert dict(restored.metadata) == METADATA


def test_what_is_loaded_cannot_be_written_to(tmp_path: Path):
    restored = Demonstrations.load(BOX.save(tmp_path / "a.npz"))
    with pytest.raises(ValueError, match="read-only"):
        restored.actions[0] = 0


def test_numpy_alone_reads_a_file(tmp_path: Path):
    with np.load(DATASETS["dict"].save(tmp_path / "a.npz"), allow_pickle=False) as archive:
        assert archive["rewards"].tolist() == BOX.rewards.tolist()
        assert archive["observations/camera"].dtype == np.uint8
        assert archive["final_observations/joint/angle"].tolist() == [0.3, 0.3]
        record = json.loads(str(archive["metadata"]))
    assert record == {"format": "sb3-pgfd demonstrations", "version": 2, **METADATA}


@pytest.mark.parametrize("as_type", [str, Path])
def test_the_source_is_kept(as_type: Any, tmp_path: Path):
    path = BOX.save(tmp_path / "a.npz")
    assert BOX.source is None
    assert Demonstrations.load(as_type(path)).source == str(path)
    assert Demonstrations.load("Pendulum-v1").source == "Pendulum-v1"


@pytest.mark.parametrize(
    ("asked", "written"), [("a", "a.npz"), ("a.npz", "a.npz"), ("v1.2", "v1.2.npz"), ("b/c/a", "b/c/a.npz")]
)
def test_the_ending_and_the_folder_are_added(asked: str, written: str, tmp_path: Path):
    assert BOX.save(str(tmp_path / asked)) == tmp_path / written
    assert len(Demonstrations.load(tmp_path / written)) == 3


def test_the_home_folder_is_found_in_both_directions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert BOX.save("~/a.npz") == tmp_path / "a.npz"
    assert len(Demonstrations.load("~/a.npz")) == 3


def test_a_file_is_told_by_its_content(tmp_path: Path):
    path = BOX.save(tmp_path / "a.npz").rename(tmp_path / "a.pkl")
    assert len(Demonstrations.load(path)) == 3


def test_a_file_is_replaced_only_if_asked_to(tmp_path: Path):
    path = BOX.save(tmp_path / "a.npz")
    content = path.read_bytes()
    with pytest.raises(FileExistsError, match=r"\(in Python overwrite=True\)"):
        DATASETS["images"].save(tmp_path / "a")
    assert path.read_bytes() == content
    DATASETS["images"].save(tmp_path / "a", overwrite=True)
    assert bits(Demonstrations.load(path).observations) == bits(IMAGES)


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o000, 0o666)])
def test_the_mode_of_a_file_obeys_the_umask(umask: int, mode: int, tmp_path: Path):
    before = os.umask(umask)
    try:
        path = BOX.save(tmp_path / "a.npz")
    finally:
        during = os.umask(before)
    assert path.stat().st_mode & 0o777 == mode
    assert during == umask


@pytest.mark.parametrize("n_bytes", [0, 10, 20_000])
def test_a_write_that_fails_leaves_nothing(n_bytes: int, tmp_path: Path):
    large = make(np.random.default_rng(0).random((3, 5000)))
    with files_of_at_most(n_bytes), pytest.raises(OSError, match="too large"):
        large.save(tmp_path / "a.npz")
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_fails_keeps_the_file_that_was_there(tmp_path: Path):
    path = BOX.save(tmp_path / "a.npz")
    content = path.read_bytes()
    with files_of_at_most(20_000), pytest.raises(OSError, match="too large"):
        make(np.random.default_rng(0).random((3, 5000))).save(path, overwrite=True)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == content


def test_a_folder_is_not_replaced(tmp_path: Path):
    (tmp_path / "a.npz").mkdir()
    with pytest.raises(OSError, match="directory"):
        BOX.save(tmp_path / "a.npz", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


@pytest.mark.parametrize("key", ["version", "format"])
def test_metadata_may_not_use_the_keys_of_the_format(key: str, tmp_path: Path):
    # Such a file could not be read again
    with pytest.raises(DemonstrationsError, match=f"metadata: found the key '{key}', expected another name"):
        make(BOX.observations, metadata={key: 7}).save(tmp_path / "a.npz")
    assert list(tmp_path.iterdir()) == []
