"""
Damaged files of every format: whatever is read, the outcome is a dataset or a DemonstrationsError, never another exception,
a hang or a crash. ``FUZZ_EXAMPLES=5000 pytest tests/demonstrations/test_fuzz_readers.py`` looks further.

The HDF5 library itself hangs, or reserves all memory, where the structure of a heap is forged: the list of free blocks of a
local heap, the sizes in a global heap, and references to its values. That is for the library to mend, so these bytes stay as
they are here, and no byte of an HDF5 file is moved.
"""

import faulthandler
import os
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fuzz_sources import SOURCES
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sb3_pgfd import Demonstrations, DemonstrationsError

N_EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "130"))
SECONDS_PER_FILE = 60.0
pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


# Flips most often: a file that was cut is refused early
_DAMAGE = ("flip", "flip", "flip", "overwrite", "overwrite", "splice", "remove", "insert", "cut")


def heap_structure(content: bytes) -> set[int]:
    """:return: Places of the bytes of an HDF5 file that hold the structure of a heap, or refer to a value in one"""

    def number(at: int, width: int = 8) -> int:
        return int.from_bytes(content[at : at + width], "little")

    places: set[int] = set()
    for match in re.finditer(b"HEAP\0\0\0\0", content):
        size, address = number(match.start() + 8), number(match.start() + 24)
        places |= {*range(match.start(), match.start() + 32), *range(address, address + size)}
    for match in re.finditer(b"GCOL\1\0\0\0", content):
        start = at = match.start()
        places |= set(range(start, start + 16))
        while (at := at + 16) < start + number(start + 8):
            places |= set(range(at, at + 16))
            if number(at, 2) == 0:
                break
            at += -(-number(at + 8) // 8) * 8
        for reference in re.finditer(re.escape(start.to_bytes(8, "little")), content):
            places |= set(range(reference.start() - 4, reference.start() + 12))
    return places


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """One to four times: bytes flipped, overwritten, cut off, taken out, inserted, or copied from elsewhere in the file."""
    data = bytearray(content)
    is_hdf5 = content.startswith(b"\x89HDF")
    kept = heap_structure(content) if is_hdf5 else set()
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(("flip", "overwrite", "cut") if is_hdf5 else _DAMAGE))
        start = draw(st.integers(0, max(0, len(data) - 1)))
        stop = min(len(data), start + draw(st.integers(1, 16)))
        if kept & set(range(start, stop)) and kind != "cut":
            continue
        if kind == "flip" and data:
            data[start] ^= 1 << draw(st.integers(0, 7))
        elif kind == "overwrite":
            data[start:stop] = draw(st.binary(min_size=stop - start, max_size=stop - start))
        elif kind == "cut":
            del data[start:]
        elif kind == "remove":
            del data[start:stop]
        elif kind == "insert":
            data[start:start] = draw(st.binary(min_size=1, max_size=16))
        elif kind == "splice":
            other = draw(st.integers(0, len(content) - 1))
            data[start:stop] = content[other : other + draw(st.integers(1, 64))]
    return bytes(data)


@pytest.mark.parametrize("name", SOURCES)
def test_a_damaged_file_is_read_or_refused(name: str, tmp_path: Path):
    source = SOURCES[name]
    path = source.make(tmp_path)
    files = [path] if path.is_file() else [file for file in sorted(path.rglob("*")) if file.is_file()]
    valid = {file: file.read_bytes() for file in files}
    assert isinstance(load_or_refuse(path, source.options), Demonstrations)

    @settings(max_examples=N_EXAMPLES, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(file=st.sampled_from(list(valid)), data=st.data())
    def check(file: Path, data: st.DataObject) -> None:
        content = data.draw(damaged(valid[file]))
        file.write_bytes(content)
        outcome = load_or_refuse(path, source.options)
        file.write_bytes(valid[file])
        if isinstance(outcome, Demonstrations):
            assert len(outcome) == outcome.episode_lengths.sum() > 0
        else:
            assert str(outcome).startswith(f"{path}: ")

    check()


def load_or_refuse(path: Path, options: dict[str, Any]) -> Demonstrations | DemonstrationsError:
    faulthandler.dump_traceback_later(SECONDS_PER_FILE, exit=True)
    try:
        return Demonstrations.load(path, **options)
    except DemonstrationsError as error:
        return error
    finally:
        faulthandler.cancel_dump_traceback_later()
