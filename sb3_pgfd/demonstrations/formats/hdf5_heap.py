"""
What the HDF5 library does not check in a damaged file (found with HDF5 2.0.0).

The names of a group lie in a local heap, whose list of free blocks the library follows without end if it leads back to
itself: :class:`CheckedFile` looks at each such heap on its way to the library. Bytes and text of variable length lie in
global heaps, which can send it in circles too, and the library makes room for whatever length a file declares, up to 4 GiB,
before it looks at the data: :class:`Heap` reads them in its place. See the "HDF5 File Format Specification", III.D "Local
Heaps", III.E "Global Heap" and IV.A.2.m "The Attribute Message".
"""

import io
import mmap
import struct
from pathlib import Path
from typing import Any

from sb3_pgfd.demonstrations.errors import DemonstrationsError

_REFERENCE = struct.Struct("<IQI")
_COLLECTION = struct.Struct("<4sB3xQ")
_OBJECT = struct.Struct("<HHIQ")
_LOCAL_HEAP = struct.Struct("<4sB3xQQQ")
_FREE_BLOCK = struct.Struct("<QQ")
_NO_BLOCK = 1
# Far more than there are names in a group that somebody removed one by one
_MAX_FREE_BLOCKS = 100_000


class CheckedFile(io.FileIO):
    """An HDF5 file as the library reads it, each block from its first byte on."""

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        done = 0
        # The system reads 2 GiB at once at most
        while done < len(view) and (n_bytes := super().readinto(view[done:])):
            done += n_bytes
        view[done:] = bytes(len(view) - done)
        if view[:4] == b"HEAP" and len(view) >= _LOCAL_HEAP.size:
            self._check_free_blocks(*_LOCAL_HEAP.unpack_from(view)[2:])
        return len(view)

    def _check_free_blocks(self, size: int, block: int, start: int) -> None:
        for _ in range(_MAX_FREE_BLOCKS):
            # The library itself refuses a block that leaves the heap
            if block == _NO_BLOCK or block + _FREE_BLOCK.size > size:
                return
            self.seek(start + block)
            content = self.read(_FREE_BLOCK.size)
            if len(content) < _FREE_BLOCK.size:
                return
            block = _FREE_BLOCK.unpack(content)[0]
        raise DemonstrationsError("found a heap whose free blocks have no end, expected a whole file")


class Heap:
    """
    :param path: An HDF5 file
    """

    def __init__(self, path: Path):
        self.path = path
        self.size = path.stat().st_size
        # By the address of their collection and their number in it: address and length
        self._objects: dict[int, dict[int, tuple[int, int]]] = {}
        self._walked = 0

    def read(self, address: int | None, length: int) -> bytes:
        """
        :param address: Of the first byte; None: nowhere
        :param length: Bytes
        :raises DemonstrationsError: If the file has no such bytes
        """
        if address is None or address + length > self.size:
            raise DemonstrationsError(f"found data at {address} in a file of {self.size} bytes, expected a whole file")
        with self.path.open("rb") as file:
            file.seek(address)
            return file.read(length)

    def values(self, name: str, references: bytes) -> list[bytes]:
        """
        :param name: Of the array, for messages
        :param references: Of all values, as they lie in the file
        :raises DemonstrationsError: If they lead nowhere, or declare more than the file holds
        """
        unpacked = list(_REFERENCE.iter_unpack(references))
        declared = sum(length for length, _, _ in unpacked)
        if declared > self.size:
            raise DemonstrationsError(
                f"{name}: found values of {declared} bytes in a file of {self.size}, expected less: it is damaged or hostile"
            )
        return [self._value(name, *reference) for reference in unpacked]

    def attribute(self, name: str) -> bytes:
        """
        :param name: Of an attribute that is there and has a value of variable length; the last of that name is taken
        :return: Its value
        :raises DemonstrationsError: If it is damaged
        """
        encoded = name.encode() + b"\0"
        with self.path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            at = content.rfind(encoded)
            while at >= 9:
                value = _value_at(content[at - 9 : at], at, len(encoded))
                if value is not None and value + _REFERENCE.size <= self.size:
                    return self.values(name, content[value : value + _REFERENCE.size])[0]
                at = content.rfind(encoded, 0, at)
        raise DemonstrationsError(f"{name}: found a damaged attribute, expected a text")

    def _value(self, name: str, length: int, collection: int, number: int) -> bytes:
        if length == 0:
            return b""
        if collection not in self._objects:
            self._objects[collection] = self._walk(name, collection)
        address, found = self._objects[collection].get(number, (0, 0))
        if found != length:
            raise DemonstrationsError(f"{name}: found a value of {found} bytes, expected {length}: the file is damaged")
        return self.read(address, length)

    def _walk(self, name: str, start: int) -> dict[int, tuple[int, int]]:
        """:return: What is in the collection at this address"""
        signature, version, size = _COLLECTION.unpack(self.read(start, _COLLECTION.size))
        self._walked += size
        # Collections do not overlap, so all together are no larger than the file
        if signature != b"GCOL" or version != 1 or self._walked > self.size:
            raise DemonstrationsError(f"{name}: found no heap of values at {start}, expected one: the file is damaged")
        content = self.read(start, size)
        objects: dict[int, tuple[int, int]] = {}
        at = _COLLECTION.size
        while at + _OBJECT.size <= size:
            number, _, _, length = _OBJECT.unpack_from(content, at)
            at += _OBJECT.size
            # Number 0 is the free space at the end
            if number == 0:
                break
            if at + length > size:
                raise DemonstrationsError(f"{name}: found a value that leaves its heap, expected a whole file")
            objects[number] = start + at, length
            at += -(-length // 8) * 8
        return objects


def _value_at(before: bytes, name_at: int, name_size: int) -> int | None:
    """
    :param before: The 9 bytes before the name of an attribute: its version and three sizes, in version 3 also the encoding
    :param name_at: Address of the name
    :param name_size: Its size, with the zero at its end
    :return: Address of the value, None: this is no attribute
    """
    for header, versions, block in ((before[1:], (1, 2), 8), (before[:8], (3,), 1)):
        version, sizes = header[0], struct.unpack("<HHH", header[2:])
        if version in versions and sizes[0] == name_size:
            # Version 1 fills each part up to 8 bytes
            block = block if version == 1 else 1
            return name_at + sum(-(-size // block) * block for size in sizes)
    return None
