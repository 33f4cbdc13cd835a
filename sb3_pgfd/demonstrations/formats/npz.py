"""
The package's own format: a compressed ``.npz`` that NumPy alone opens, without pickle, so it cannot run code.

Members: ``observations``, ``actions``, ``rewards``, ``next_observations``, ``terminated``, ``truncated``,
``episode_lengths`` as in :class:`~sb3_pgfd.demonstrations.Demonstrations`; for Dict observations one member per key,
``observations/<key>``; and ``metadata``, a JSON text with the provenance and the version of the format.
"""

from __future__ import annotations

import json
import lzma
import os
import struct
import tempfile
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sb3_pgfd.demonstrations.errors import DemonstrationsError
from sb3_pgfd.demonstrations.validation import Observations

if TYPE_CHECKING:
    from sb3_pgfd.demonstrations.dataset import Demonstrations

VERSION = 1
_FIELDS = ("actions", "rewards", "terminated", "truncated", "episode_lengths")
# The only one that may be text
_METADATA = "metadata"
# Keys of that record which are not provenance
_RESERVED = ("format", "version")
# NumPy lets the errors of its zip, decompression and header readers through as they are
_UNREADABLE = (
    ArithmeticError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    lzma.LZMAError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


def write_npz(demonstrations: Demonstrations, path: Path, overwrite: bool = False) -> Path:
    """
    Write to a temporary name beside ``path``, then rename: a crash leaves no half file.

    :param demonstrations: What to write
    :param path: The ending ``.npz`` is added if it is missing
    :param overwrite: Whether an existing file may be replaced
    :return: The path written
    :raises FileExistsError: If there is a file already
    :raises DemonstrationsError: If the metadata use a key that the format needs
    """
    path = path.expanduser()
    path = path if path.suffix == ".npz" else path.with_name(path.name + ".npz")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path}: found a file, expected none: pass overwrite=True to replace it")
    taken = [key for key in _RESERVED if key in demonstrations.metadata]
    if taken:
        raise DemonstrationsError(f"metadata: found the key {taken[0]!r}, expected another name: the file format needs it")
    arrays = {name: getattr(demonstrations, name) for name in _FIELDS}
    for name in ("observations", "next_observations"):
        value = getattr(demonstrations, name)
        arrays.update({name: value} if isinstance(value, np.ndarray) else {f"{name}/{key}": value[key] for key in value})
    record = {"format": "sb3-pgfd demonstrations", "version": VERSION, **demonstrations.metadata}
    arrays[_METADATA] = np.array(json.dumps(record))
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez_compressed(file, **arrays)
        # mkstemp makes the file private; give it the mode a plain open() would have
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    return path


def read_npz(path: Path, source: str | None = None) -> Demonstrations:
    """
    :param path: A file written by :func:`write_npz`
    :param source: What the caller asked for, kept as the dataset's ``source``
    :raises DemonstrationsError: If it is truncated, has other members, or holds Python objects
    """
    from sb3_pgfd.demonstrations.dataset import Demonstrations

    arrays = _read_arrays(path)
    missing = [name for name in (*_FIELDS, _METADATA) if name not in arrays]
    if missing:
        raise DemonstrationsError(f"{path}: found members {sorted(arrays)}, expected also {missing}")
    metadata = _read_metadata(path, arrays.pop(_METADATA))
    try:
        return Demonstrations(
            observations=_observations(path, arrays, "observations"),
            next_observations=_observations(path, arrays, "next_observations"),
            **{name: arrays[name] for name in _FIELDS},
            metadata=metadata,
            source=source or str(path),
        )
    except DemonstrationsError as error:
        raise DemonstrationsError(f"{path}: {error}") from None


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    try:
        with np.load(path, allow_pickle=False) as archive:
            for name in archive.files:
                arrays[name] = archive[name]
    except _UNREADABLE as error:
        raise DemonstrationsError(
            f"{path}: found a file that cannot be read to its end ({type(error).__name__}: {error}), "
            "expected a whole .npz of plain arrays. Copy or record it again"
        ) from error
    for array in arrays.values():
        if isinstance(array, np.ndarray):
            array.flags.writeable = False
    return arrays


def _read_metadata(path: Path, text: np.ndarray) -> dict[str, Any]:
    try:
        record = json.loads(str(text[()]))
        version = record.pop("version")
        record.pop("format")
    # SystemError is what NumPy raises for a character that does not exist
    except (ValueError, KeyError, AttributeError, TypeError, IndexError, RecursionError, SystemError) as error:
        raise DemonstrationsError(f"{path}: metadata: found no JSON record ({error!r:.80}), expected one") from error
    if version != VERSION:
        raise DemonstrationsError(f"{path}: found version {version} of the format, expected {VERSION}: update sb3-pgfd")
    return record


def _observations(path: Path, arrays: dict[str, np.ndarray], name: str) -> Observations:
    if name in arrays:
        return arrays[name]
    by_key = {member.removeprefix(f"{name}/"): array for member, array in arrays.items() if member.startswith(f"{name}/")}
    if not by_key:
        raise DemonstrationsError(f"{path}: found members {sorted(arrays)}, expected also {name!r}")
    return by_key
