"""
Where demonstrations are read from, one module for each format.

To add one: write a module with ``recognizes(source) -> bool``, which goes by the content, and a reader
``(source, **options) -> Demonstrations``, and name them in ``FILES`` or ``OBJECTS``. A reader raises
``DemonstrationsError`` without the file's name, which is put in front here, and may let the errors of its library
through. It may take one of the common options (``observation_keys``, ``done_means``) to read less; they are applied
here in any case.
"""

from __future__ import annotations

import inspect
import lzma
import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sb3_pgfd.demonstrations.dataset import Demonstrations
from sb3_pgfd.demonstrations.editing import edit
from sb3_pgfd.demonstrations.errors import DemonstrationsError
from sb3_pgfd.demonstrations.formats import (
    d4rl,
    imitation,
    lerobot,
    minari,
    minari_paths,
    minari_writer,
    npz,
    pickles,
    recording_folder,
    robomimic,
    sb3_buffer,
)
from sb3_pgfd.utils.files import packaged_demonstrations


@dataclass(frozen=True)
class Format:
    """A kind of source, told by its content."""

    name: str
    recognizes: Callable[[Any], bool]
    read: Callable[..., Demonstrations]


FILES: tuple[Format, ...] = (
    Format("sb3-pgfd .npz", npz.recognizes, npz.read_npz),
    Format("pickled list of (s, a, r, s', done) tuples or SB3 replay buffer", pickles.recognizes, pickles.read_pickle),
    Format("LeRobot parquet", lerobot.recognizes, lerobot.read_lerobot),
    Format("unfinished recording", recording_folder.recognizes, recording_folder.read_recording),
    Format("Minari dataset", minari.recognizes, minari.read_minari),
    Format("robomimic .hdf5", robomimic.recognizes, robomimic.read_robomimic),
    # Takes any HDF5 file, so it comes after the others that are
    Format("D4RL .hdf5", d4rl.recognizes, d4rl.read_d4rl),
)
"""Recognised by a path that exists"""

OBJECTS: tuple[Format, ...] = (
    Format("SB3 replay buffer", sb3_buffer.recognizes, sb3_buffer.read_buffer),
    Format("trajectories of imitation", imitation.recognizes, imitation.read_trajectories),
    Format("Minari dataset", minari.recognizes_dataset, minari.read_dataset),
)
"""Recognised by an object in memory"""

# What the libraries underneath raise for damaged files
UNREADABLE = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    SystemError,
    TypeError,
    ValueError,
    lzma.LZMAError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


def read(source: Any, **options: Any) -> Demonstrations:
    """
    See :meth:`Demonstrations.load`.

    :raises DemonstrationsError: If there is no such source, no reader knows it, or the reader refuses it
    """
    if isinstance(source, Demonstrations):
        return edit(source, **_known(options, [_keywords(edit)], "demonstrations in memory"))
    if isinstance(source, (str, os.PathLike)):
        name, target, formats = str(source), find(source), FILES
    else:
        name, target, formats = f"{type(source).__name__} in memory", source, OBJECTS
    try:
        format_ = detect(target, formats)
        own, common = _keywords(format_.read), _keywords(edit)
        _known(options, [own, common], format_.name)
        demonstrations = format_.read(target, **{key: value for key, value in options.items() if key in own})
        demonstrations = edit(demonstrations, **{key: value for key, value in options.items() if key in common})
    except DemonstrationsError as error:
        raise DemonstrationsError(f"{name}: {error}") from error.__cause__
    except UNREADABLE as error:
        raise DemonstrationsError(
            f"{name}: found a file that cannot be read to its end ({type(error).__name__}: {error}), expected a whole file of "
            "plain arrays. Copy or record it again"
        ) from error
    return replace(demonstrations, source=name)


def write(demonstrations: Demonstrations, path: str | Path, overwrite: bool = False, name: str | None = None) -> Path:
    """
    See :meth:`Demonstrations.save`.

    :raises DemonstrationsError: If there is no such format, or it cannot hold these demonstrations
    """
    name = name or ("minari" if str(path).startswith(minari_paths.PREFIX) else "npz")
    if name == "minari":
        return minari_writer.write_minari(demonstrations, path, overwrite)
    if name == "npz":
        return npz.write_npz(demonstrations, Path(path), overwrite)
    raise DemonstrationsError(f"save: found format={name!r}, expected 'npz' or 'minari'")


def _keywords(function: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(function).parameters)[1:]


def _known(options: dict[str, Any], known: list[list[str]], what: str) -> dict[str, Any]:
    names = [name for part in known for name in part]
    unknown = sorted(set(options) - set(names))
    if unknown:
        raise DemonstrationsError(f"found option {unknown[0]!r}, but {what} knows only {sorted(set(names))}")
    return options


def find(source: str | os.PathLike[str]) -> Path:
    """
    :param source: Path of a file or folder, the name of packaged demonstrations, or the id of a Minari dataset on this
        machine, perhaps with ``"minari:"`` before it
    :return: A path that exists
    :raises DemonstrationsError: If there is none
    """
    path = Path(source).expanduser()
    if path.is_file() or path.is_dir():
        return path
    packaged = packaged_demonstrations()
    if str(source) in packaged:
        return packaged[str(source)]
    name = str(source)
    if name.startswith(minari_paths.PREFIX):
        return minari_paths.find_dataset(name.removeprefix(minari_paths.PREFIX))
    if minari_paths.is_id(name) and minari_paths.dataset_folder(name).is_dir():
        return minari_paths.dataset_folder(name)
    raise DemonstrationsError(
        f"{source}: found no such file, expected a file, a folder, the id of a Minari dataset, or the name of packaged "
        f"demonstrations: {', '.join(packaged) or 'none'}"
    )


def detect(target: Any, formats: tuple[Format, ...] = FILES) -> Format:
    """
    :param target: A path that exists, or an object in memory
    :param formats: To choose from
    :raises DemonstrationsError: If it is none of them
    """
    for format_ in formats:
        if format_.recognizes(target):
            return format_
    names = [format_.name for format_ in formats]
    known = names if isinstance(target, Path) else ["a path", "a name", "Demonstrations", *names]
    raise DemonstrationsError(f"found {_describe(target)}, expected one of: {', '.join(known)}")


def _describe(target: Any) -> str:
    if not isinstance(target, Path):
        return f"an object of type {type(target).__name__}"
    if target.is_dir():
        return f"a folder with {sorted(path.name for path in target.iterdir())[:8]}"
    with target.open("rb") as file:
        start = file.read(8)
    return f"a file that begins with {start!r}" if start else "an empty file"
