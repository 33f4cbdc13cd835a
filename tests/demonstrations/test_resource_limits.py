"""Small files that ask for much time or memory are refused before they get it."""

import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from hostile_files import crowded_zip, dense_d4rl, incomplete_npz, nested_pickle

from sb3_pgfd import Demonstrations, DemonstrationsError
from sb3_pgfd.demonstrations.formats.checks import physical_memory


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (nested_pickle, "found a pickle of 291 bytes whose lists unfold to more than 18624 elements"),
        (crowded_zip, "found a zip file with 300 entries for 1 members"),
        (incomplete_npz, r"members: found \['observations'\], expected also \['actions', 'rewards'"),
        # A third more than the memory, with the next observations that are made of them
        (
            lambda path: dense_d4rl(path, physical_memory() * 2 // 3),
            "GiB of data, which take 2 times as much while they are read",
        ),
    ],
)
def test_a_small_file_that_asks_for_much_is_refused_at_once(make: Callable[[Path], Path], message: str, tmp_path: Path):
    path = make(tmp_path / "a.file")
    tracemalloc.start()
    start = time.perf_counter()
    with pytest.raises(DemonstrationsError, match=message):
        Demonstrations.load(path, done_means="truncated")
    seconds, (_, peak) = time.perf_counter() - start, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert seconds < 5
    assert peak < 20_000_000
