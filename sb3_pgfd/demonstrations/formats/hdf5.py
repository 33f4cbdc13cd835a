"""
HDF5 files, opened without trust: the one place that calls h5py to read.

An HDF5 file can name other files to read from, declare arrays larger than any memory, and hold groups that contain
themselves. Followed are hard links alone, read are plain numbers alone, and every size is checked before memory is made.
h5py's low-level interface is used: a Minari file has thousands of datasets, and what is done for each of them counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from sb3_pgfd.demonstrations.errors import DemonstrationsError
from sb3_pgfd.demonstrations.formats.content import check_size, starts_with
from sb3_pgfd.demonstrations.formats.hdf5_heap import CheckedFile, Heap

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
# What stands in an array for a value of variable length: its length, and where it lies
_REFERENCE_SIZE = 16


def is_hdf5(path: Path) -> bool:
    """:param path: Whether this is an HDF5 file"""
    return starts_with(path, _SIGNATURE)


def top_names(path: Path) -> list[str]:
    """
    :param path: An HDF5 file
    :return: Names of what is at its top
    :raises ImportError: If h5py is not installed
    """
    with open_file(path) as root:
        return root.names()


@contextmanager
def open_file(path: Path) -> Iterator[Group]:
    """
    :param path: An HDF5 file
    :return: Its root, valid inside the ``with`` block
    :raises ImportError: If h5py is not installed
    """
    try:
        import h5py
    except ImportError as error:
        raise ImportError("reading HDF5 files needs h5py: pip install sb3-pgfd[hdf5]") from error
    with CheckedFile(path) as content, h5py.File(content, "r") as file:
        yield Group(file.id, "", Heap(path))


class Group:
    """
    :param identifier: h5py's low-level id
    :param name: Path inside the file, for messages
    :param heap: The file's values of variable length
    """

    __slots__ = ("heap", "identifier", "name")

    def __init__(self, identifier: Any, name: str, heap: Heap):
        self.identifier = identifier
        self.name = name
        self.heap = heap

    def names(self) -> list[str]:
        """:return: Names of what is in it"""
        from h5py import h5g

        # The id of a file iterates over nothing
        return [name.decode() for name in h5g.open(self.identifier, b".")]

    def __contains__(self, name: str) -> bool:
        return self.identifier.links.exists(name.encode()) if name and "/" not in name else False

    def is_group(self, name: str) -> bool:
        """:param name: Of something in it: whether that is a group"""
        from h5py import h5g

        return isinstance(self._open(name), h5g.GroupID)

    def group(self, name: str) -> Group:
        """
        :param name: Of a group in it
        :raises DemonstrationsError: If there is none, or it lies elsewhere
        """
        from h5py import h5g

        identifier = self._open(name)
        if not isinstance(identifier, h5g.GroupID):
            raise DemonstrationsError(f"{self._path(name)}: found an array, expected a group")
        return Group(identifier, self._path(name), self.heap)

    def array(self, path: str, kinds: str = "biuf") -> Array:
        """
        :param path: Of an array of numbers in it, ``"/"`` between the names of groups
        :param kinds: NumPy's letters for the kinds of dtype that are admitted; with ``"O"`` bytes and text of variable length
        :raises DemonstrationsError: If there is none, it lies elsewhere, holds something else, or declares an absurd size
        """
        from h5py import h5d

        *folders, name = path.split("/")
        parent = self
        for folder in folders:
            parent = parent.group(folder)
        identifier = parent._open(name)
        if not isinstance(identifier, h5d.DatasetID):
            raise DemonstrationsError(f"{parent._path(name)}: found a group, expected an array")
        return Array(identifier, parent._path(name), self.heap, kinds)

    def walk(self) -> list[str]:
        """
        :return: The paths of all arrays in it and in its groups
        :raises DemonstrationsError: If a group is reached twice: groups that contain themselves have no end
        """
        from h5py import h5g, h5o

        found: list[str] = []
        seen = set()
        pending = [("", self)]
        while pending:
            prefix, group = pending.pop()
            address = h5o.get_info(group.identifier).addr
            if address in seen:
                raise DemonstrationsError(f"{group.name}: found a group that is linked twice, expected each group once")
            seen.add(address)
            for name in group.names():
                child = group._open(name)
                if isinstance(child, h5g.GroupID):
                    pending.append((f"{prefix}{name}/", Group(child, group._path(name), self.heap)))
                else:
                    found.append(f"{prefix}{name}")
        return sorted(found)

    def text(self, name: str) -> str | None:
        """
        :param name: Of an attribute
        :return: Its text; None: there is none of that name
        :raises DemonstrationsError: If it is no text, or cannot be read
        """
        from h5py import h5a, h5t

        if not h5a.exists(self.identifier, name.encode()):
            return None
        attribute = h5a.open(self.identifier, name.encode())
        kind = attribute.get_type()
        if not isinstance(kind, h5t.TypeStringID) or attribute.shape != ():
            raise DemonstrationsError(f"{self.name}: attribute {name}: found {attribute.dtype}, expected a text")
        if kind.is_variable_str():
            return self.heap.attribute(name).decode()
        check_size(f"{self.name}: attribute {name}", kind.get_size(), self.heap.size)
        value = np.empty((), dtype=attribute.dtype)
        attribute.read(value)
        return bytes(value[()]).decode()

    def whole(self, name: str) -> int | None:
        """
        :param name: Of an attribute
        :return: Its value; None: there is none of that name, or it is not one whole number
        """
        from h5py import h5a, h5t

        if not h5a.exists(self.identifier, name.encode()):
            return None
        attribute = h5a.open(self.identifier, name.encode())
        if not isinstance(attribute.get_type(), h5t.TypeIntegerID) or attribute.shape not in ((), (1,)):
            return None
        value = np.empty(attribute.shape, dtype=attribute.dtype)
        attribute.read(value)
        return int(value.reshape(())[()])

    def _open(self, name: str) -> Any:
        """:return: h5py's id of what a hard link leads to"""
        from h5py import h5l, h5o

        encoded = name.encode()
        if name not in self:
            found = sorted(self.names())[:20]
            raise DemonstrationsError(f"{self.name or 'the top of the file'}: found {found}, expected also {name!r}")
        kind = self.identifier.links.get_info(encoded).type
        if kind != h5l.TYPE_HARD:
            target = "another file" if kind == h5l.TYPE_EXTERNAL else "another place"
            raise DemonstrationsError(
                f"{self._path(name)}: found a link to {target}, expected the data themselves: copy them there "
                "(h5repack and h5copy of the HDF5 tools do)"
            )
        return h5o.open(self.identifier, encoded)

    def _path(self, name: str) -> str:
        return f"{self.name}/{name}" if self.name else name


class Array:
    """
    An array that is safe to read.

    :param identifier: h5py's low-level id
    :param name: Path inside the file, for messages
    :param heap: The file's values of variable length
    :param kinds: See :meth:`Group.array`
    :raises DemonstrationsError: If it is not
    """

    __slots__ = ("dtype", "heap", "identifier", "name", "shape")

    def __init__(self, identifier: Any, name: str, heap: Heap, kinds: str = "biuf"):
        self.identifier = identifier
        self.name = name
        self.heap = heap
        shape = identifier.shape
        if not shape:
            raise DemonstrationsError(f"{name}: found a single value, expected an array")
        self.shape: tuple[int, ...] = shape
        self.dtype: np.dtype = identifier.dtype
        if self.dtype.kind not in kinds:
            raise DemonstrationsError(f"{name}: found values of type {self.dtype}, expected numbers")
        self._check_storage()

    def __len__(self) -> int:
        return self.shape[0]

    def read(self) -> np.ndarray:
        """:return: All of it"""
        rows = np.empty(self.shape, self.dtype)
        self.read_into(rows)
        return rows

    def column(self) -> np.ndarray:
        """
        :return: Its values, shape ``(n,)``
        :raises DemonstrationsError: If there is more than one in a row
        """
        if self.shape not in ((len(self),), (len(self), 1)):
            raise DemonstrationsError(f"{self.name}: found shape {self.shape}, expected one number for each step")
        return self.read().reshape(len(self))

    def read_into(self, rows: np.ndarray) -> None:
        """:param rows: To be filled with as many rows, from the first; contiguous, of the array's dtype"""
        from h5py import h5s

        if len(rows) == len(self):
            self.identifier.read(h5s.ALL, h5s.ALL, rows)
        elif len(rows):
            space = self.identifier.get_space()
            space.select_hyperslab((0,) * rows.ndim, rows.shape)
            self.identifier.read(h5s.create_simple(rows.shape), space, rows)

    def values(self, is_text: bool = False) -> list[bytes]:
        """
        :param is_text: Whether they must be text; otherwise they must be bytes
        :return: Of a column of values of variable length, each of them
        :raises DemonstrationsError: If they are something else or cannot be had
        """
        import h5py

        is_right = h5py.check_string_dtype(self.dtype) if is_text else h5py.check_vlen_dtype(self.dtype) == np.uint8
        if len(self.shape) != 1 or not is_right:
            expected = "text" if is_text else "numbers"
            raise DemonstrationsError(f"{self.name}: found values of type {self.dtype}, expected {expected}")
        return self.heap.values(self.name, self._references())

    def _references(self) -> bytes:
        """As they lie in the file: HDF5 itself would follow them."""
        from h5py import h5d

        settings = self.identifier.get_create_plist()
        layout = settings.get_layout()
        if layout == h5d.CONTIGUOUS:
            return self.heap.read(self.identifier.get_offset(), len(self) * _REFERENCE_SIZE)
        if layout != h5d.CHUNKED or settings.get_nfilters():
            raise DemonstrationsError(f"{self.name}: found compressed references to values, expected plain ones")
        step = settings.get_chunk()[0]
        parts = []
        for start in range(0, len(self), step):
            chunk = self.identifier.get_chunk_info_by_coord((start,))
            parts.append(self.heap.read(chunk.byte_offset, min(step, len(self) - start) * _REFERENCE_SIZE))
        return b"".join(parts)

    def _check_storage(self) -> None:
        from h5py import h5d

        settings = self.identifier.get_create_plist()
        layout = settings.get_layout()
        # Virtual datasets and contiguous ones can lie in other files
        if layout == h5d.VIRTUAL or (layout == h5d.CONTIGUOUS and settings.get_external_count()):
            raise DemonstrationsError(
                f"{self.name}: found an array whose values lie in another file, expected them in this one. Copy them there"
            )
        item = _REFERENCE_SIZE if self.dtype.kind == "O" else self.dtype.itemsize
        stored = self.identifier.get_storage_size()
        # Python's integers: the product of damaged sizes may overflow 64 bits
        check_size(self.name, prod(self.shape) * item, stored)
        # A chunk is read as a whole, if one was written
        if layout == h5d.CHUNKED and stored:
            check_size(f"{self.name}: chunk", prod(settings.get_chunk()) * item, stored)


class Rows(Protocol):
    """What an :class:`Array` is to those who read it in order."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype

    def __len__(self) -> int: ...

    def read_into(self, rows: np.ndarray) -> None:
        """:param rows: To be filled with as many rows, from the first"""


class Stack:
    """
    The same array of many groups, one after another in memory that is made once.

    :param first: The array of the first group: shape per row and dtype are as in this one
    :param n_rows: Rows of all together
    """

    def __init__(self, first: Rows, n_rows: int):
        self.first = first.name
        self.rows = np.empty((n_rows, *first.shape[1:]), first.dtype)

    def put(self, start: int, array: Rows, length: int, n_used: int | None = None) -> None:
        """
        :param start: First row to fill
        :param array: Of a group
        :param length: Rows that it must have
        :param n_used: How many of them to read, from the first; None: all
        :raises DemonstrationsError: If it is of another length, shape or dtype
        """
        if len(array) != length:
            raise DemonstrationsError(f"{array.name}: found {len(array)} rows, expected {length}")
        shape, dtype = self.rows.shape[1:], self.rows.dtype
        if array.shape[1:] != shape or array.dtype != dtype:
            raise DemonstrationsError(
                f"{array.name}: found {array.dtype} of shape {array.shape[1:]} per step, expected {dtype} of shape {shape} "
                f"as in {self.first}"
            )
        array.read_into(self.rows[start : start + (length if n_used is None else n_used)])
