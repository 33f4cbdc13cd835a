"""Damaged, hostile and contradictory files of the package's own format."""

import json
import os
import pickle
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from npz_files import BOX, FIELDS, valid_bytes, with_members

from sb3_pgfd import Demonstrations, DemonstrationsError
from sb3_pgfd.utils.files import packaged_demonstrations


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
        (b"", "found an empty file, expected one of: sb3-pgfd .npz, pickled"),
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
    with pytest.raises(DemonstrationsError, match=r"members: found \['readme.txt'\], expected also \['actions'"):
        Demonstrations.load(tmp_path / "a.npz")


@pytest.mark.parametrize("name", [*FIELDS, "metadata"])
def test_a_missing_member_is_named(name: str, tmp_path: Path):
    with pytest.raises(DemonstrationsError, match=rf"members: found .*, expected also .*'{name}'"):
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
    with pytest.raises(DemonstrationsError, match=r"found Python objects in the members"):
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


@pytest.mark.parametrize("version", [0, 3, "1", None, [1]])
def test_another_version_is_refused(version: Any, tmp_path: Path):
    record = json.dumps({"format": "sb3-pgfd demonstrations", "version": version})
    with pytest.raises(DemonstrationsError, match=r"found version .* of the format, expected 1 or 2: update sb3-pgfd"):
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
    with pytest.raises(DemonstrationsError, match=r"found a folder with"):
        Demonstrations.load(tmp_path)


@pytest.mark.parametrize("option", ["scaled_actions", "path"])
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
    with pytest.raises(DemonstrationsError, match=r"cannot be read to its end|that declare|Python objects|expected also"):
        Demonstrations.load(tmp_path / "a.npz")


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damaged_compression_is_refused(compression: int, tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", compression) as archive:
        archive.writestr("actions.npy", np.random.default_rng(0).bytes(500))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[60:300] = bytes(240)
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(DemonstrationsError, match=r"cannot be read to its end|that declare|Python objects|expected also"):
        Demonstrations.load(tmp_path / "a.npz")
