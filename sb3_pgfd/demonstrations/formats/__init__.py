"""
The file formats demonstrations are read from, one module each.

To add one: write a module with a reader ``(path, **options) -> Demonstrations``, and name it in ``FORMATS`` with the
bytes its files begin with. Nothing else needs to know of it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sb3_pgfd.common.resources import packaged_demonstrations
from sb3_pgfd.demonstrations.errors import DemonstrationsError
from sb3_pgfd.demonstrations.formats.npz import read_npz
from sb3_pgfd.demonstrations.formats.pickled_tuples import read_pickled_tuples

if TYPE_CHECKING:
    from sb3_pgfd.demonstrations.dataset import Demonstrations


@dataclass(frozen=True)
class Format:
    """A file format, told by its first bytes, not by its ending."""

    name: str
    magic: tuple[bytes, ...]
    read: Callable[..., Demonstrations]


FORMATS = (
    Format("sb3-pgfd .npz", (b"PK\x03\x04",), read_npz),
    Format(
        "pickled list of (s, a, r, s', done) tuples", (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"), read_pickled_tuples
    ),
)


def read(source: str | Path, **options: Any) -> Demonstrations:
    """
    :param source: Path of a file, or the name of packaged demonstrations
    :param options: Passed to the format's reader, e.g. ``done_means`` for pickled tuples
    :raises DemonstrationsError: If there is no such file, no reader knows it, or the reader refuses it
    """
    path = find(source)
    format_ = detect(path)
    known = [name for name in inspect.signature(format_.read).parameters if name not in ("path", "source")]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise DemonstrationsError(f"{path}: found option {unknown[0]!r}, but {format_.name} knows only {known}")
    return format_.read(path, source=str(source), **options)


def find(source: str | Path) -> Path:
    """
    :param source: Path of a file, or the name of packaged demonstrations
    :return: Path of a file that exists
    :raises DemonstrationsError: If there is none
    """
    if not isinstance(source, (str, Path)):
        raise DemonstrationsError(f"demonstrations: found {source!r}, expected a path, a name or Demonstrations")
    path = Path(source).expanduser()
    if path.is_file():
        return path
    packaged = packaged_demonstrations()
    if str(source) in packaged:
        return packaged[str(source)]
    found = "a folder" if path.is_dir() else "no such file"
    raise DemonstrationsError(
        f"{source}: found {found}, expected a file or the name of packaged demonstrations: {', '.join(packaged) or 'none'}"
    )


def detect(path: Path) -> Format:
    """
    :param path: A file
    :raises DemonstrationsError: If it is empty or begins like no known format
    """
    with path.open("rb") as file:
        start = file.read(8)
    for format_ in FORMATS:
        if start.startswith(format_.magic):
            return format_
    readable = ", ".join(format_.name for format_ in FORMATS)
    found = "an empty file" if not start else f"a file that begins with {start!r}"
    raise DemonstrationsError(f"{path}: found {found}, expected one of: {readable}")
