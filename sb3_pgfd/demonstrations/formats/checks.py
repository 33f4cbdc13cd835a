"""
Checks before reading a file: its first bytes, its folder, its size; for HDF5 also its links and arrays.

An HDF5 file can name other files to read from, declare arrays larger than any memory, and hold groups that contain
themselves: :func:`open_hdf5` refuses such a file. It does not check how the HDF5 library stores names and values of variable
length: a file that is forged there can make the library hang or reserve memory, and that is for the library to mend.
"""

import json
import lzma
import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from sb3_pgfd.demonstrations.arrays import owned
from sb3_pgfd.demonstrations.errors import DemonstrationsError
from sb3_pgfd.demonstrations.validation import Observations
from sb3_pgfd.utils.files import install

# What the libraries underneath raise for damaged files
_BUILT_IN = (ArithmeticError, AttributeError, EOFError, LookupError, MemoryError, OSError, RuntimeError, SyntaxError)
_OF_CODECS = (lzma.LZMAError, struct.error, tokenize.TokenError, zipfile.BadZipFile, zlib.error)
UNREADABLE: tuple[type[Exception], ...] = (*_BUILT_IN, SystemError, TypeError, ValueError, *_OF_CODECS)

# Deflate turns at most 1,032 bytes into one (RFC 1951: 258 bytes in 2 bits); other codecs in use stay below
MAX_RATIO = 1100
LFS_POINTER = b"version https://git-lfs"


@contextmanager
def errors_naming(source: str, *others: type[Exception]) -> Iterator[None]:
    """
    :param source: Put in front of the messages of errors in the ``with`` block
    :param others: What a library raises for damaged files beside ``UNREADABLE``
    :raises DemonstrationsError: In place of any error that a damaged file can cause
    """
    try:
        yield
    except DemonstrationsError as error:
        raise DemonstrationsError(f"{source}: {error}") from error.__cause__
    except UNREADABLE + others as error:
        raise DemonstrationsError(
            f"{source}: found a file that cannot be read to its end ({type(error).__name__}: {error!s:.300}), "
            "expected a whole file of plain arrays. Copy or record it again"
        ) from error


def check_present(found: Iterable[str], wanted: Iterable[str], where: str = "", advice: str = "") -> None:
    """:raises DemonstrationsError: If one of the wanted names is missing, between ``where`` and ``advice``"""
    missing = [name for name in wanted if name not in found]
    if missing:
        raise DemonstrationsError(f"{where}found {sorted(found)[:20]}, expected also {missing}{advice}")


def one_number(name: str, array: Any) -> np.ndarray:
    """:return: One number, or an array of one, for each step, in shape ``(n,)``; an ``h5py.Dataset`` is read"""
    if prod(array.shape[1:]) != 1:
        raise DemonstrationsError(f"{name}: found shape {array.shape[1:]}, expected one number for each step")
    return array[()].reshape(len(array))


def json_object(text: Any, name: str) -> dict[str, Any]:
    """:raises DemonstrationsError: If a text is no JSON object; the message begins with the name"""
    try:
        record = json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise DemonstrationsError(f"{name}: found no JSON record ({error!r:.80}), expected one") from error
    if not isinstance(record, dict):
        raise DemonstrationsError(f"{name}: found no JSON record but a {type(record).__name__}, expected one")
    return record


def starts_with(path: Path, *beginnings: bytes) -> bool:
    """:return: Whether a path is a file that starts with some of these bytes"""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(max(map(len, beginnings))).startswith(beginnings)


def explain_pointer(path: Path) -> str | None:
    """:return: How to fetch a file of which only Git LFS's pointer is here, None: this is none"""
    if not starts_with(path, LFS_POINTER):
        return None
    return (
        "found a Git LFS pointer, which holds the address of a file and not the file. Fetch it where the repository was "
        f"cloned: git lfs install; git lfs pull --include {path.name}"
    )


def refuse_pointer(path: Path) -> None:
    """:raises DemonstrationsError: If a file of a dataset was not fetched, see :func:`explain_pointer`"""
    if advice := explain_pointer(path):
        raise DemonstrationsError(f"{path.name}: {advice}")


def inside(folder: Path, path: Path) -> Path:
    """
    :return: The path of a file that belongs to a dataset
    :raises DemonstrationsError: If it lies outside the dataset's folder, by its name or by a link
    """
    if not path.resolve().is_relative_to(folder.resolve()):
        raise DemonstrationsError(f"found {path}, which leads out of {folder}, expected a file in that folder. Copy it there")
    return path


def check_size(name: str, declared: int, stored: int | None = None, copies: int = 1) -> None:
    """
    :param name: What is to be read, for messages
    :param declared: Bytes that it takes in memory
    :param stored: Bytes that it takes on disk, None: unknown
    :param copies: How often they are in memory while they are read
    :raises DemonstrationsError: If so few bytes cannot hold so many, or this machine's memory cannot
    """
    check_ratio(name, declared, declared if stored is None else stored)
    memory = physical_memory()
    if declared * copies > memory:
        times = f", which take {copies} times as much while they are read" if copies > 1 else ""
        raise DemonstrationsError(
            f"{name}: found {declared / 2**30:.1f} GiB of data{times}, expected at most the "
            f"{memory / 2**30:.1f} GiB of this machine. Choose fewer observation keys, or cut the file into parts"
        )


def check_ratio(name: str, declared: int, stored: int) -> None:
    """:raises DemonstrationsError: If so few bytes cannot hold so many, see :func:`check_size`"""
    if declared > stored * MAX_RATIO + 4096:
        raise DemonstrationsError(
            f"{name}: found {stored} bytes that declare {declared}, expected at most {MAX_RATIO} times as many: "
            "the file is damaged or hostile"
        )


def physical_memory() -> int:
    """:return: Bytes of memory of this machine or container; where the system does not say, 64 GiB"""
    known = hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if known else 2**36
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.is_file() else ""
    return min(machine, int(text)) if text.isdigit() else machine


def is_hdf5(path: Path) -> bool:
    return starts_with(path, b"\x89HDF\r\n\x1a\n")


@contextmanager
def open_hdf5(path: Path, checked: bool = True) -> Iterator[Any]:
    """
    :param path: An HDF5 file
    :param checked: Whether to check all links and arrays; without, look at names only
    :return: An ``h5py.File``, open inside the ``with`` block
    :raises DemonstrationsError: If the file leads to others, has no end, or declares more than it can hold
    :raises ImportError: If h5py is not installed
    """
    try:
        import h5py
    except ImportError as error:
        raise ImportError(f"reading HDF5 files needs h5py: {install('hdf5')}") from error
    refuse_pointer(path)
    with h5py.File(path, "r") as file:
        if checked:
            check_ratio("arrays", _check_content(file), path.stat().st_size)
        yield file


def _check_content(file: Any) -> int:
    """:return: Bytes that all arrays declare. Their values are not read"""
    import h5py

    seen, pending, declared = {file}, [("", file)], 0
    while pending:
        prefix, group = pending.pop()
        for name in group:
            path = f"{prefix}{name}"
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                target = "another file" if isinstance(link, h5py.ExternalLink) else "another place"
                raise DemonstrationsError(
                    f"{path}: found a link to {target}, expected the data themselves: copy them there (h5repack and h5copy "
                    "of the HDF5 tools do)"
                )
            item = group[name]
            if isinstance(item, h5py.Dataset):
                declared += _check_array(path, item)
            elif isinstance(item, h5py.Group):
                # A group that contains itself has no end
                if item in seen:
                    raise DemonstrationsError(f"{path}: found a group that is linked twice, expected each group once")
                seen.add(item)
                pending.append((f"{path}/", item))
    return declared


def _check_array(path: str, array: Any) -> int:
    if array.is_virtual or array.external:
        raise DemonstrationsError(
            f"{path}: found an array whose values lie in another file, expected them in this one. Copy them there"
        )
    size, stored = array.dtype.itemsize, array.id.get_storage_size()
    declared = prod(array.shape or ()) * size
    # Of flags of which none was ever set, nothing may be stored: then the size of the file is the limit
    check_ratio(path, declared, stored or array.file.id.get_filesize())
    if stored:
        # A chunk is read as a whole
        check_ratio(f"{path}: chunk", prod(array.chunks or ()) * size, stored)
    return declared


def numeric_array(group: Any, path: str) -> Any:
    """
    :return: An ``h5py.Dataset`` of a group of a checked file
    :raises DemonstrationsError: If there is none at the path, or it does not hold numbers
    """
    import h5py

    full = f"{group.name}/{path}".lstrip("/")
    outer, _, name = path.rpartition("/")
    parent = group.get(outer) if outer else group
    check_present(parent if isinstance(parent, h5py.Group) else (), [name], f"{full.rpartition('/')[0] or 'file'}: ")
    array = parent[name]
    if not isinstance(array, h5py.Dataset):
        raise DemonstrationsError(f"{full}: found a group, expected an array")
    if array.dtype.kind not in "biuf":
        raise DemonstrationsError(f"{full}: found values of type {array.dtype}, expected numbers")
    if not array.shape:
        raise DemonstrationsError(f"{full}: found a single value, expected an array")
    return array


def column(group: Any, path: str) -> np.ndarray:
    """:return: An array with one number for each step, shape ``(n,)``; otherwise as :func:`numeric_array`"""
    array = numeric_array(group, path)
    return one_number(array.name[1:], array)


class EpisodeRows:
    """
    Arrays of the steps of many episodes, filled episode by episode. Each array is made once, at its final size: a list of
    parts would take twice the memory.

    :param n_rows: Steps of all episodes together
    :param copies: How often they are in memory while they are read
    """

    def __init__(self, n_rows: int, copies: int = 1):
        self.n_rows, self._copies = n_rows, copies
        self.arrays: dict[str, np.ndarray] = {}
        self._size = 0

    def observations(self, name: str) -> Observations:
        """:return: The array of this name, or the arrays ``name/key`` by their keys"""
        if name in self.arrays:
            return owned(self.arrays[name])
        found = {path[len(name) + 1 :]: array for path, array in self.arrays.items() if path.startswith(f"{name}/")}
        return {key: owned(array) for key, array in found.items()}

    def put(self, episode: str, name: str, start: int, rows: Any) -> None:
        """
        Copy rows of an episode into an array, from row ``start`` on.

        :raises DemonstrationsError: If they differ from the first episode's in shape or dtype, or do not fit into memory
        """
        if name not in self.arrays:
            self._size += self.n_rows * prod(rows.shape[1:]) * rows.dtype.itemsize
            check_size("arrays", self._size, copies=self._copies)
            self.arrays[name] = np.empty((self.n_rows, *rows.shape[1:]), rows.dtype)
        array = self.arrays[name]
        if rows.shape[1:] != array.shape[1:] or rows.dtype != array.dtype:
            raise DemonstrationsError(
                f"{episode}/{name}: found {rows.dtype} of shape {rows.shape[1:]} per step, expected {array.dtype} of shape "
                f"{array.shape[1:]} as in the first episode"
            )
        array[start : start + len(rows)] = rows
