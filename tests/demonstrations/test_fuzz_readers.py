"""
Damaged files of every format: whatever is read, the outcome is a dataset or a DemonstrationsError, never another exception,
a hang or a crash. ``FUZZ_EXAMPLES=5000 pytest tests/demonstrations/test_fuzz_readers.py`` looks further.
"""

import faulthandler
import os
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


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """One to four times: bytes flipped, overwritten, cut off, taken out, inserted, or copied from elsewhere in the file."""
    data = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(_DAMAGE))
        start = draw(st.integers(0, max(0, len(data) - 1)))
        stop = min(len(data), start + draw(st.integers(1, 16)))
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
