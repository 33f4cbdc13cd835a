"""
Where demonstrations are read from and written to, one module for each kind of file.

A reader returns plain arrays, :class:`~sb3_pgfd.demonstrations.episode.Transitions`, and knows nothing of the dataset made
of them. To add a format, write a module with ``recognizes(source) -> bool``, which goes by the content, and a reader
``(source, **options) -> Transitions``, and name them in ``FILES`` or ``OBJECTS``. A reader raises ``DemonstrationsError``
without the file's name, which is put in front of it, and may let the errors of its library through. It may take one of the
options of :func:`~sb3_pgfd.demonstrations.editing.edit`: ``observation_keys`` to read less, which are chosen afterwards in any
case, or ``done_means``, which it alone applies then.
"""

import inspect
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from sb3_pgfd.demonstrations.editing import DoneMeans
from sb3_pgfd.demonstrations.episode import Transitions
from sb3_pgfd.demonstrations.errors import DemonstrationsError
from sb3_pgfd.demonstrations.formats import (
    foreign,
    hdf5,
    in_memory,
    lerobot,
    minari,
    minari_writer,
    npz,
    pickles,
    recording_folder,
)
from sb3_pgfd.demonstrations.formats.checks import UNREADABLE, errors_naming, is_hdf5
from sb3_pgfd.utils.files import near, packaged_demonstrations

__all__ = ["FILES", "OBJECTS", "UNREADABLE", "Format", "check_options", "errors_naming", "locate", "read", "write"]


@dataclass(frozen=True)
class Format:
    """A kind of source, told by its content."""

    name: str
    recognizes: Callable[[Any], bool]
    read: Callable[..., Transitions]


FILES: tuple[Format, ...] = (
    Format("sb3-pgfd .npz", npz.recognizes, npz.read_npz),
    Format(
        "pickled (s, a, r, s', done) tuples, transition dicts, path dicts, or SB3 replay buffer",
        pickles.recognizes,
        pickles.read_pickle,
    ),
    Format("unfinished recording", recording_folder.recognizes, recording_folder.read_recording),
    Format("Minari dataset", minari.recognizes, minari.read_minari),
    # Any other folder of parquet files
    Format("LeRobot parquet", lerobot.recognizes, lerobot.read_lerobot),
    Format("robomimic .hdf5", hdf5.recognizes_robomimic, hdf5.read_robomimic),
    # Any other HDF5 file
    Format("D4RL .hdf5", is_hdf5, hdf5.read_d4rl),
)
"""Recognised by a path that exists"""

OBJECTS: tuple[Format, ...] = (
    Format("SB3 replay buffer", in_memory.recognizes_buffer, in_memory.read_buffer),
    Format("trajectories of imitation", in_memory.recognizes_trajectories, in_memory.read_trajectories),
    Format("Minari dataset", minari.recognizes_dataset, minari.read_dataset),
)
"""Recognised by an object in memory"""


def locate(source: Any) -> tuple[str, Any]:
    """
    :param source: An object in memory, the path of a file or folder, the name of packaged demonstrations, or the id of a
        Minari dataset on this machine, perhaps with ``"minari:"`` before it
    :return: The name of a source for messages, and a path that exists or the object itself
    :raises DemonstrationsError: If it is a path, a name or an id, and there is no such thing
    """
    if not isinstance(source, (str, os.PathLike)):
        return f"{type(source).__name__} in memory", source
    name, path = str(source), Path(source).expanduser()
    if path.is_file() or path.is_dir():
        return name, path
    packaged = packaged_demonstrations()
    if name in packaged:
        return name, packaged[name]
    if name.startswith(minari.PREFIX):
        return name, minari.dataset_folder(name.removeprefix(minari.PREFIX), must_exist=True)
    if minari.is_id(name) and minari.dataset_folder(name).is_dir():
        return name, minari.dataset_folder(name)
    raise DemonstrationsError(
        f"{source}: found no such file, expected a file, a folder, the id of a Minari dataset, or the name of packaged "
        f"demonstrations: {', '.join(packaged) or 'none'}{near(path, packaged)}"
    )


def read(target: Any, options: Mapping[str, Any], common: Collection[str]) -> tuple[Transitions, dict[str, Any]]:
    """
    :param target: By :func:`locate`
    :param options: Of the format, and of editing
    :param common: Names of those of editing, which every format may be given
    :return: The arrays, and the options of editing that are left to apply
    :raises DemonstrationsError: If no reader knows the source, or the reader refuses it
    """
    if isinstance(target, Path) and target.is_file() and (advice := foreign.explain(target)):
        raise DemonstrationsError(advice)
    formats = FILES if isinstance(target, Path) else OBJECTS
    format_ = next((format_ for format_ in formats if format_.recognizes(target)), None)
    if format_ is None:
        names = [format_.name for format_ in formats]
        known = names if isinstance(target, Path) else ["a path", "a name", "Demonstrations", "a list of these", *names]
        arrays = "" if isinstance(target, Path) else ". Demonstrations.from_episodes() and from_transitions() take arrays"
        raise DemonstrationsError(f"found {_describe(target)}, expected one of: {', '.join(known)}{arrays}")
    own = list(inspect.signature(format_.read).parameters)[1:]
    check_options(options, [*own, *common], format_.name)
    found = format_.read(target, **{key: value for key, value in options.items() if key in own})
    left = {key: options[key] for key in common if key in options}
    if "done_means" in own and left.get("done_means") in get_args(DoneMeans):
        # The reader knows which ends the source calls done
        del left["done_means"]
    return found, left


def write(
    transitions: Transitions, path: str | Path, overwrite: bool = False, format: Literal["npz", "minari"] | None = None
) -> Path:
    """
    Write a compressed ``.npz``, or a Minari dataset, which ``minari.load_dataset`` loads.

    :param path: Of the file, whose ending ``.npz`` is added if it is missing; or of the dataset's folder, whose name ends
        in a version (``"peg-insert-v0"``); ``"minari:<id>"`` is a dataset where Minari keeps its own
    :param overwrite: Whether what is there may be replaced
    :param format: Which of the two; None: ``"minari"`` if the path is such an id, and otherwise ``"npz"``
    :return: The path written
    :raises FileExistsError: If there is something already
    :raises DemonstrationsError: If the format cannot hold these demonstrations
    """
    format = format or ("minari" if str(path).startswith(minari.PREFIX) else "npz")
    if format not in ("npz", "minari"):
        raise DemonstrationsError(f"save: found format={format!r}, expected 'npz' or 'minari'")
    return (npz.write_npz if format == "npz" else minari_writer.write_minari)(transitions, path, overwrite)


def check_options(options: Mapping[str, Any], known: Collection[str], what: str) -> None:
    """:raises DemonstrationsError: If there is an option that is not known"""
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise DemonstrationsError(f"found option {unknown[0]!r}, but {what} knows only {sorted(set(known))}")


def _describe(target: Any) -> str:
    if isinstance(target, (list, tuple)):
        kinds = sorted({type(item).__name__ for item in target})
        return f"a {type(target).__name__} of {', '.join(kinds)}" if kinds else f"an empty {type(target).__name__}"
    if not isinstance(target, Path):
        return f"an object of type {type(target).__name__}"
    if target.is_dir():
        return f"a folder with {sorted(path.name for path in target.iterdir())[:8]}"
    with target.open("rb") as file:
        start = file.read(8)
    return f"a file that begins with {start!r}" if start else "an empty file"
