import json
import os
import pickle
import resource
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sb3_pgfd import Demonstrations, DemonstrationsError
from sb3_pgfd.common.resources import packaged_demonstrations

METADATA = {"env_id": "Toy-v0", "env_kwargs": {"size": 2}, "seed": 5, "success_rate": None, "producer": "a test"}


def make(observations: Any, actions: Any = None, **changes: Any) -> Demonstrations:
    fields: dict[str, Any] = {
        "observations": observations,
        "actions": np.array([[0.1], [-0.0], [3e-44]], dtype=np.float32) if actions is None else actions,
        "rewards": np.array([0.1, -1, 1e-30], dtype=np.float32),
        "next_observations": observations,
        "terminated": [False, True, False],
        "truncated": [False, False, True],
        "episode_lengths": [2, 1],
        "metadata": METADATA,
    }
    return Demonstrations(**{**fields, **changes})


IMAGES = np.arange(36, dtype=np.uint8).reshape(3, 2, 2, 3)
BOX = make(np.array([[0.1, 1e300], [2, -0.0], [1 / 3, 5e-324]]))
DATASETS = {
    "box": BOX,
    "box of single precision": make(np.array([0.1, 0.2, 0.3], dtype=np.float32)),
    "images": make(IMAGES),
    "images whose channels were moved": make(np.moveaxis(IMAGES, -1, 1)),
    "bytes in the other order": make(np.array([1, 2, 3], dtype=">f8")),
    "dict": make({"camera": IMAGES, "joint/angle": np.array([0.1, 0.2, 0.3]), "file": np.zeros((3, 1), dtype=np.float32)}),
    "discrete actions": make(np.zeros((3, 1)), actions=np.array([0, 2, 1])),
}
FIELDS = ("observations", "actions", "rewards", "next_observations", "terminated", "truncated", "episode_lengths")


def bits(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    return {key: bits(array) for key, array in value.items()}


def valid_bytes() -> bytes:
    """Of a stored file: compression would hide most of the damage that can be done to it."""
    members = BytesIO()
    record = json.dumps({"format": "sb3-pgfd demonstrations", "version": 1, **METADATA})
    np.savez(members, metadata=np.array(record), **{name: getattr(BOX, name) for name in FIELDS})
    return members.getvalue()


def with_members(path: Path, **changes: Any) -> Path:
    """A valid file with other members; None leaves one out."""
    with np.load(BytesIO(valid_bytes())) as archive:
        members = {**archive, **changes}
    np.savez(path, **{name: array for name, array in members.items() if array is not None})
    return path


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
        assert archive["next_observations/joint/angle"].tolist() == [0.1, 0.2, 0.3]
        record = json.loads(str(archive["metadata"]))
    assert record == {"format": "sb3-pgfd demonstrations", "version": 1, **METADATA}


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
    with pytest.raises(FileExistsError, match="pass overwrite=True"):
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


@contextmanager
def files_of_at_most(n_bytes: int) -> Iterator[None]:
    """The kernel refuses to let a file grow further, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


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


def test_a_truncated_file_is_refused_wherever_it_is_cut(tmp_path: Path):
    path = tmp_path / "cut.npz"
    content = BOX.save(tmp_path / "a.npz").read_bytes()
    for length in np.linspace(0, len(content) - 1, 40).astype(int):
        path.write_bytes(content[:length])
        with pytest.raises(DemonstrationsError, match=r"cut.npz: found"):
            Demonstrations.load(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "found an empty file, expected one of: sb3-pgfd .npz, pickled list of"),
        (np.random.default_rng(0).bytes(1000), "found a file that begins with"),
        (b"PK\x03\x04" + np.random.default_rng(0).bytes(1000), "found a file that cannot be read to its end"),
        (b"state,action\n0,1\n", "found a file that begins with b'state,ac'"),
    ],
)
def test_what_is_no_such_file_is_refused(content: bytes, message: str, tmp_path: Path):
    path = tmp_path / "a.npz"
    path.write_bytes(content)
    with pytest.raises(DemonstrationsError, match=message):
        Demonstrations.load(path)


def test_a_zip_of_other_things_is_refused(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(DemonstrationsError, match=r"found members \['readme.txt'\], expected also \['actions'"):
        Demonstrations.load(tmp_path / "a.npz")


@pytest.mark.parametrize("name", [*FIELDS, "metadata"])
def test_a_missing_member_is_named(name: str, tmp_path: Path):
    with pytest.raises(DemonstrationsError, match=rf"found members .*, expected also .*'{name}'"):
        Demonstrations.load(with_members(tmp_path / "a.npz", **{name: None}))


class TouchesAFile:
    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("member", ["observations", "actions", "metadata", "anything"])
def test_pickles_inside_are_not_executed(member: str, tmp_path: Path):
    path, marker = tmp_path / "a.npz", tmp_path / "marker"
    with_members(path, **{member: np.array([TouchesAFile(marker)], dtype=object)})
    with pytest.raises(DemonstrationsError, match="allow_pickle=False"):
        Demonstrations.load(path)
    assert not marker.exists()
    # The payload is a live one
    with np.load(path, allow_pickle=True) as archive:
        assert member in archive
        assert archive[member].dtype == object
    assert marker.exists()


@pytest.mark.parametrize(
    "text",
    [
        "not JSON",
        "[]",
        "5",
        "null",
        "{}",
        json.dumps({"version": 1}),
        json.dumps({"format": "sb3-pgfd demonstrations"}),
        "[" * 100_000,
        b"\xff",
        np.array([1.5, 2.5]),
        # A code point that does not exist
        np.array(0x7FFFFFFF, dtype=np.uint32).view("<U1"),
    ],
    ids=range(11),
)
def test_metadata_that_are_no_record_are_refused(text: Any, tmp_path: Path):
    with pytest.raises(DemonstrationsError, match=r"a.npz: metadata: found no JSON record"):
        Demonstrations.load(with_members(tmp_path / "a.npz", metadata=np.asarray(text)))


@pytest.mark.parametrize("version", [0, 2, "1", None, [1]])
def test_another_version_is_refused(version: Any, tmp_path: Path):
    record = json.dumps({"format": "sb3-pgfd demonstrations", "version": version})
    with pytest.raises(DemonstrationsError, match=r"found version .* of the format, expected 1: update sb3-pgfd"):
        Demonstrations.load(with_members(tmp_path / "a.npz", metadata=np.array(record)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rewards": np.array([1, np.nan, 2])}, "rewards: episode 0, step 1, component 0: found nan"),
        ({"episode_lengths": np.array([3, 3])}, "observations: found 3 rows, expected 6"),
        ({"actions": np.array(["a", "b", "c"])}, "actions: found dtype <U1, expected numbers"),
        ({"observations": None, "observations/a": np.zeros(3)}, "next_observations: found"),
    ],
)
def test_fields_that_contradict_each_other_are_refused(changes: dict[str, Any], message: str, tmp_path: Path):
    with pytest.raises(DemonstrationsError, match=f"a.npz: {message}"):
        Demonstrations.load(with_members(tmp_path / "a.npz", **changes))


def test_a_missing_file_lists_the_packaged_names(tmp_path: Path):
    names = ", ".join(packaged_demonstrations())
    with pytest.raises(DemonstrationsError, match=f"Pendulum-v9: found no such file, expected .*: {names}"):
        Demonstrations.load("Pendulum-v9")
    with pytest.raises(DemonstrationsError, match=r"missing.npz: found no such file"):
        Demonstrations.load(tmp_path / "missing.npz")


def test_a_folder_is_refused(tmp_path: Path):
    with pytest.raises(DemonstrationsError, match="found a folder with"):
        Demonstrations.load(tmp_path)


@pytest.mark.parametrize("option", ["trusted", "path"])
def test_an_unknown_option_is_named(option: str, tmp_path: Path):
    path = BOX.save(tmp_path / "a.npz")
    with pytest.raises(DemonstrationsError, match=rf"found option '{option}', but sb3-pgfd .npz knows only \['action_high'"):
        Demonstrations.load(path, **{option: "truncated"})


VALID = valid_bytes()
DAMAGE = st.lists(st.tuples(st.integers(0, len(VALID) - 1), st.integers(0, 255)), min_size=1, max_size=4)


def load_or_refuse(path: Path, content: bytes) -> Demonstrations | DemonstrationsError:
    path.write_bytes(content)
    try:
        return Demonstrations.load(path)
    except DemonstrationsError as error:
        return error


def check_outcome(path: Path, content: bytes) -> None:
    outcome = load_or_refuse(path, content)
    if isinstance(outcome, DemonstrationsError):
        assert str(path) in str(outcome)
    else:
        assert len(pickle.loads(pickle.dumps(outcome))) == len(outcome)


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(damage=DAMAGE)
def test_a_damaged_file_is_read_or_refused(damage: list[tuple[int, int]], tmp_path_factory: pytest.TempPathFactory):
    content = bytearray(VALID)
    for position, value in damage:
        content[position] = value
    check_outcome(tmp_path_factory.getbasetemp() / "damaged.npz", bytes(content))


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(data=st.data())
def test_a_file_whose_checksums_hide_the_damage_is_read_or_refused(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
):
    # Without right checksums the damage would not come as far as NumPy's reader
    damaged = BytesIO()
    with zipfile.ZipFile(BytesIO(VALID)) as source, zipfile.ZipFile(damaged, "w") as target:
        hit = data.draw(st.sampled_from(source.namelist()))
        for name in source.namelist():
            content = bytearray(source.read(name))
            if name == hit:
                for position, value in data.draw(st.lists(st.tuples(st.integers(0, 127), st.integers(0, 255)), max_size=4)):
                    content[position] = value
            target.writestr(name, bytes(content))
    check_outcome(tmp_path_factory.getbasetemp() / "hidden.npz", damaged.getvalue())


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f4', 'fortran_order': False, 'shape': (%s,), }" % 10**30,
        "{'descr': '<f4', 'fortran_order': False, 'shape': (True,), }",
        "{'descr': ('<f4', -1), 'fortran_order': False, 'shape': (3,), }",
        "{'descr': [('a', '|O')], 'fortran_order': False, 'shape': (3,), }",
        "{[]: 1}",
        "(",
        "-" * 3000 + "1",
    ],
)
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_member_with_a_wrong_header_is_refused(header: str, compression: int, tmp_path: Path):
    text = header.encode() + b"\n"
    with zipfile.ZipFile(tmp_path / "a.npz", "w", compression) as archive:
        archive.writestr("actions.npy", b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(12))
    with pytest.raises(DemonstrationsError, match="found a file that cannot be read to its end"):
        Demonstrations.load(tmp_path / "a.npz")


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damaged_compression_is_refused(compression: int, tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", compression) as archive:
        archive.writestr("actions.npy", np.random.default_rng(0).bytes(500))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[60:300] = bytes(240)
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(DemonstrationsError, match="found a file that cannot be read to its end"):
        Demonstrations.load(tmp_path / "a.npz")
