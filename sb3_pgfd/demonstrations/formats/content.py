"""What is looked at before a file is read: how it begins, where it lies, how much it claims to hold."""

import os
from pathlib import Path

from sb3_pgfd.demonstrations.errors import DemonstrationsError

# Deflate turns at most 1,032 bytes into one (RFC 1951: 258 bytes in 2 bits); other codecs in use stay below
MAX_RATIO = 1100


def starts_with(path: Path, *beginnings: bytes) -> bool:
    """
    :param path: A file or folder that exists
    :param beginnings: Of files of one format
    :return: Whether it is a file with one of these first bytes
    """
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(max(map(len, beginnings))).startswith(beginnings)


def inside(folder: Path, path: Path) -> Path:
    """
    :param folder: The folder of a dataset
    :param path: A file that its content names
    :return: The file
    :raises DemonstrationsError: If it lies elsewhere, by its name or by a link: a dataset may not read what is not its own
    """
    if not path.resolve().is_relative_to(folder.resolve()):
        raise DemonstrationsError(f"found {path}, which leads out of {folder}, expected a file in that folder. Copy it there")
    return path


def check_size(name: str, declared: int, stored: int) -> None:
    """
    :param name: What is to be read, for messages
    :param declared: Bytes it says it has in memory
    :param stored: Bytes it has on disk
    :raises DemonstrationsError: If that cannot be, or would not fit into this machine
    """
    if declared > stored * MAX_RATIO + 4096:
        raise DemonstrationsError(
            f"{name}: found {stored} bytes that declare {declared}, expected at most {MAX_RATIO} times as many: "
            "the file is damaged or hostile"
        )
    memory = physical_memory()
    if declared > memory:
        raise DemonstrationsError(
            f"{name}: found {declared / 2**30:.1f} GiB of data, expected at most the "
            f"{memory / 2**30:.1f} GiB of this machine. Choose fewer observation keys, or cut the file into parts"
        )


def physical_memory() -> int:
    """:return: Bytes of memory of this machine; where the system does not say, 64 GiB"""
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return 2**36
