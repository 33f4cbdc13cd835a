"""HDF5 files that reach elsewhere, have no end, or declare what they do not hold."""

import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hdf5_files import d4rl_arrays, describe_robomimic, minari_arrays, robomimic_arrays, write_arrays

from sb3_pgfd import Demonstrations, DemonstrationsError
from sb3_pgfd.utils.files import install

Change = Callable[[h5py.File], Any]


def other_file(path: Path) -> str:
    """Whatever another file holds must not be read."""
    return str(write_arrays(path.parent / "secret.hdf5", minari_arrays()))


def external_link(file: h5py.File, name: str) -> None:
    del file[name]
    file[name] = h5py.ExternalLink(other_file(Path(file.filename)), name)


def soft_link(file: h5py.File, name: str) -> None:
    file["elsewhere"] = file[name]
    del file[name]
    file[name] = h5py.SoftLink("/elsewhere")


def virtual(file: h5py.File, name: str) -> None:
    dtype, shape = file[name].dtype, file[name].shape
    layout = h5py.VirtualLayout(shape, dtype)
    layout[...] = h5py.VirtualSource(other_file(Path(file.filename)), name, shape, dtype)
    del file[name]
    file.create_virtual_dataset(name, layout)


def external_storage(file: h5py.File, name: str) -> None:
    dtype, shape = file[name].dtype, file[name].shape
    del file[name]
    file.create_dataset(name, shape, dtype, external=[(other_file(Path(file.filename)), 0, h5py.h5f.UNLIMITED)])


def python_objects(file: h5py.File, name: str) -> None:
    n_rows = len(file[name])
    del file[name]
    file.create_dataset(name, data=["1"] * n_rows, dtype=h5py.string_dtype())


def records(file: h5py.File, name: str) -> None:
    n_rows = len(file[name])
    del file[name]
    file[name] = np.zeros(n_rows, dtype=[("a", float), ("b", float)])


def references(file: h5py.File, name: str) -> None:
    n_rows = len(file[name])
    del file[name]
    file.create_dataset(name, (n_rows,), h5py.ref_dtype)


def absurd_size(file: h5py.File, name: str) -> None:
    """Ten thousand million rows of which none is stored."""
    dtype, shape = file[name].dtype, file[name].shape
    del file[name]
    file.create_dataset(name, (10**10, *shape[1:]), dtype, chunks=(1000, *shape[1:]))


def absurd_chunk(file: h5py.File, name: str) -> None:
    """A few rows in a chunk of a gigabyte, compressed to a few bytes."""
    content, shape = file[name][()], file[name].shape
    del file[name]
    options = {"chunks": (2**28, *shape[1:]), "maxshape": (None, *shape[1:]), "compression": "gzip"}
    identifier = file.create_dataset(name, shape, content.dtype, **options).id
    identifier.write_direct_chunk((0,) * len(shape), b"x\x9c\x03\x00\x00\x00\x00\x01")


REFUSED: dict[str, tuple[Callable[[h5py.File, str], None], str]] = {
    "external link": (external_link, "found a link to another file, expected the data themselves"),
    "soft link": (soft_link, "found a link to another place, expected the data themselves"),
    "virtual dataset": (virtual, "found an array whose values lie in another file"),
    "external storage": (external_storage, "found an array whose values lie in another file"),
    "text": (python_objects, "found values of type object, expected numbers"),
    "records": (records, "found values of type .*'a'.*, expected numbers"),
    "references": (references, "found values of type object, expected numbers"),
    "absurd size": (absurd_size, "found [0-9]+ bytes that declare"),
    "absurd chunk": (absurd_chunk, "chunk: found 8 bytes that declare"),
}
LAYOUTS = {
    "Minari": (minari_arrays, "episode_1/actions"),
    "D4RL": (d4rl_arrays, "rewards"),
    "robomimic": (robomimic_arrays, "data/demo_2/obs/joints"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_not_plain_numbers_of_this_file_is_refused(kind: str, layout: str, tmp_path: Path):
    (arrays, name), (change, message) = LAYOUTS[layout], REFUSED[kind]
    path = write_arrays(tmp_path / "a.hdf5", arrays(), lambda file: change(file, name))
    with pytest.raises(DemonstrationsError, match=f"a.hdf5: {name}.*{message}"):
        Demonstrations.load(path)


@pytest.mark.parametrize(
    ("link", "arrays", "group"),
    [(external_link, minari_arrays, "episode_1"), (soft_link, robomimic_arrays, "data/demo_2/obs")],
)
def test_a_group_that_lies_elsewhere_is_refused(link: Any, arrays: Any, group: str, tmp_path: Path):
    path = write_arrays(tmp_path / "a.hdf5", arrays(), lambda file: link(file, group))
    with pytest.raises(DemonstrationsError, match=f"{group}: found a link to another"):
        Demonstrations.load(path)


def absurd_everywhere(file: h5py.File) -> None:
    for name in ("observations", "actions", "rewards", "terminals"):
        absurd_size(file, name)


def many_links(file: h5py.File) -> None:
    """A thousand names for one array."""
    del file["episode_0/observations"]
    array = file.create_dataset("episode_0/observations/0", data=np.zeros((3, 2**15)), compression="gzip")
    for number in range(1, 1000):
        file[f"episode_0/observations/{number}"] = array


@pytest.mark.parametrize(
    ("arrays", "change"), [(d4rl_arrays, absurd_everywhere), (minari_arrays, many_links)], ids=["declared", "linked"]
)
def test_sizes_are_refused_before_memory_is_made(arrays: Any, change: Change, tmp_path: Path):
    path = write_arrays(tmp_path / "a.hdf5", arrays(), change)
    tracemalloc.start()
    start = time.perf_counter()
    try:
        with pytest.raises(DemonstrationsError, match="bytes that declare"):
            Demonstrations.load(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2**24
    assert time.perf_counter() - start < 10


def test_a_group_that_contains_itself_is_refused(tmp_path: Path):
    def change(file: h5py.File) -> None:
        del file["episode_0/observations"]
        outer = file.create_group("episode_0/observations")
        outer["joints"] = np.zeros((3, 1))
        inner = outer.create_group("inner")
        for number in range(20):
            inner[f"again_{number}"] = outer

    path = write_arrays(tmp_path / "a.hdf5", minari_arrays(), change)
    with pytest.raises(DemonstrationsError, match="found a group that is linked twice, expected each group once"):
        Demonstrations.load(path)


def test_groups_nested_very_deeply_do_no_harm(tmp_path: Path):
    def change(file: h5py.File) -> None:
        del file["episode_0/observations"], file["episode_1/observations"]
        for episode, n_rows in ((0, 3), (1, 4)):
            group = file.create_group(f"episode_{episode}/observations")
            for _ in range(300):
                group = group.create_group("a")
            group["x"] = np.zeros((n_rows, 1))

    path = write_arrays(tmp_path / "a.hdf5", minari_arrays(), change)
    demonstrations = Demonstrations.load(path)
    assert list(demonstrations.observations) == ["a/" * 300 + "x"]


@pytest.mark.parametrize(
    ("arrays", "describe"), [(minari_arrays, None), (robomimic_arrays, describe_robomimic), (d4rl_arrays, None)]
)
def test_a_file_that_was_cut_is_refused(arrays: Any, describe: Any, tmp_path: Path):
    path = write_arrays(tmp_path / "a.hdf5", arrays(), describe)
    content = path.read_bytes()
    for length in np.linspace(1, len(content) - 1, 15).astype(int):
        path.write_bytes(content[:length])
        with pytest.raises(DemonstrationsError, match="found"):
            Demonstrations.load(path)


def test_without_h5py_the_error_names_the_extra(tmp_path: Path):
    path = write_arrays(tmp_path / "a.hdf5", d4rl_arrays())
    code = f"""
import sys
sys.modules["h5py"] = None
from sb3_pgfd import Demonstrations
pendulum = Demonstrations.load("Pendulum-v1")
for attempt in (lambda: Demonstrations.load({str(path)!r}), lambda: pendulum.save("a-v0", format="minari")):
    try:
        attempt()
    except ImportError as error:
        print(error)
"""
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert outcome.stdout.splitlines() == [
        f"reading HDF5 files needs h5py: {install('hdf5')}",
        f"writing Minari datasets needs h5py: {install('hdf5')}",
    ]
    assert [item.name for item in tmp_path.iterdir()] == ["a.hdf5"]


def test_flags_of_which_none_was_ever_written_are_read(tmp_path: Path):
    """HDF5 stores nothing then, and the fill value is what they are."""

    def unwritten(file: h5py.File) -> None:
        del file["timeouts"]
        file.create_dataset("timeouts", (20_000,), bool)

    step = np.arange(20_000)
    arrays = {"observations": step[:, None].astype(float), "actions": np.zeros((20_000, 1)), "rewards": np.ones(20_000)}
    arrays |= {"terminals": step % 100 == 99, "timeouts": step == 0}
    read = Demonstrations.load(write_arrays(tmp_path / "a.hdf5", arrays, unwritten))
    assert (read.n_episodes, read.truncated.sum()) == (200, 0)
