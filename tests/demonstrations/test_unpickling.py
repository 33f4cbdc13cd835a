"""The unpickler: what it reads, and the walk through a file before anything of it is read."""

import pickle
import pickletools
import tracemalloc
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sb3_pgfd.demonstrations import DemonstrationsError
from sb3_pgfd.demonstrations.formats.pickles import unpickle

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**40), 2**40)
    | st.sampled_from([2**80, -(2**3000), 0, 255, 256, 65536])
    | st.floats(allow_nan=False)
    | st.text(max_size=300)
    | st.binary(max_size=300)
)
HASHABLE = st.integers() | st.text(max_size=5)
VALUES = st.recursive(
    LEAVES,
    lambda value: (
        st.lists(value, max_size=4)
        | st.lists(value, max_size=4).map(tuple)
        | st.dictionaries(HASHABLE, value, max_size=3)
        | st.lists(value, max_size=3).map(deque)
    ),
    max_leaves=12,
)
PROTOCOLS = st.integers(0, pickle.HIGHEST_PROTOCOL)
# Puts the object on top of the stack to a place that the file names
HOSTILE = [b"r\xff\xff\xff\xff", b"p4294967295\n"]


def plain(value: Any) -> bool:
    """Whether this protocol writes it without a call of anything: bytes of protocol 0 and 1 are made by calling ``bytes``."""
    names = {opcode.name for opcode, *_ in pickletools.genops(value)}
    return not names & {"GLOBAL", "STACK_GLOBAL", "INST"}


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(value=VALUES, protocol=PROTOCOLS)
def test_plain_values_are_read_in_every_protocol(value: Any, protocol: int, tmp_path_factory: pytest.TempPathFactory):
    content = pickle.dumps(value, protocol)
    path = tmp_path_factory.getbasetemp() / "plain.pkl"
    path.write_bytes(content)
    if plain(content):
        assert unpickle(path) == value
    assert unpickle(path, trusted=True) == value


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(value=VALUES, protocol=PROTOCOLS, hostile=st.sampled_from(HOSTILE))
def test_a_memo_larger_than_the_file_is_found_behind_anything(
    value: Any, protocol: int, hostile: bytes, tmp_path_factory: pytest.TempPathFactory
):
    path = tmp_path_factory.getbasetemp() / "hostile.pkl"
    path.write_bytes(pickle.dumps(value, protocol)[:-1] + hostile + b".")
    with pytest.raises(DemonstrationsError, match="that numbers an object 4294967295"):
        unpickle(path)


@pytest.mark.parametrize("hostile", HOSTILE)
def test_what_follows_the_end_is_not_looked_at(hostile: bytes, tmp_path: Path):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps([1]) + hostile)
    assert unpickle(tmp_path / "a.pkl") == [1]


@pytest.mark.parametrize("operation", [b"B", b"X", b"\x8e", b"\x96"])
def test_room_is_not_made_for_what_the_file_does_not_hold(operation: bytes, tmp_path: Path):
    # Bytes, text or a bytearray; the length takes four bytes or eight
    (tmp_path / "a.pkl").write_bytes(b"\x80\x05" + operation + b"\xff\xff\xff\x7f\0\0\0\0" + b"text.")
    tracemalloc.start()
    try:
        with pytest.raises(DemonstrationsError, match=r"cannot be read to its end \(ValueError: expected 2147483647 bytes"):
            unpickle(tmp_path / "a.pkl")
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_an_unknown_operation_is_refused(tmp_path: Path):
    (tmp_path / "a.pkl").write_bytes(bytes([0x80, 4, 0xFF, ord(".")]))
    with pytest.raises(DemonstrationsError, match=r"cannot be read to its end .*opcode .* unknown"):
        unpickle(tmp_path / "a.pkl")


@pytest.mark.parametrize("name", ["stable_baselines3.common.buffers", "sb3_pgfd.replay", "imitation.data.types", "numpyro"])
def test_the_remedy_is_named_for_what_users_save(name: str, tmp_path: Path):
    (tmp_path / "a.pkl").write_bytes(b"\x80\x04c" + f"{name}\nThing\n.".encode())
    with pytest.raises(DemonstrationsError, match=f"found a reference to {name}.Thing") as caught:
        unpickle(tmp_path / "a.pkl")
    assert ("pass trusted=True" in str(caught.value)) == (name != "numpyro")


@pytest.mark.parametrize("protocol", range(2, 6))
def test_arrays_are_read_as_they_were(protocol: int, tmp_path: Path):
    for array in (np.arange(6, dtype=">i2").reshape(2, 3), np.asfortranarray(np.eye(3)), np.array(True)):
        (tmp_path / "a.pkl").write_bytes(pickle.dumps([array], protocol))
        (found,) = (np.asarray(value) for value in unpickle(tmp_path / "a.pkl"))
        np.testing.assert_array_equal(found, array)
        assert found.dtype == array.dtype
