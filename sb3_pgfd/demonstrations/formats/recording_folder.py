"""
An unfinished recording: a folder with ``recording.json``, which holds what the recorder was asked for, and one ``.npz``
file for each finished episode, ``episode_00000.npz`` and so on. Each is a demonstrations file of its own; ``recorder`` in
its metadata is what the recorder needs to go on after it.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sb3_pgfd.demonstrations.episode import Episode, Transitions
from sb3_pgfd.demonstrations.errors import DemonstrationsError
from sb3_pgfd.demonstrations.formats import npz
from sb3_pgfd.demonstrations.formats.checks import errors_naming, inside, json_object, starts_with

VERSION = 1
RECORD = "recording.json"
STATE = "recorder"
_BEGINNING = '{"format": "sb3-pgfd recording", '
# Keys of the record which are no settings
_RESERVED = ("format", "version")

State = Mapping[str, Any]


def recognizes(path: Path) -> bool:
    """:param path: Whether this is a folder with our record in it"""
    return starts_with(path / RECORD, _BEGINNING.encode())


def read_recording(path: Path) -> Transitions:
    """
    :param path: The folder of an unfinished recording
    :return: Its finished episodes, in the order they were recorded
    :raises DemonstrationsError: If there is none, one is missing, or one cannot be read
    """
    settings, kept = read_settings(path), read_episodes(path)
    if not kept:
        raise DemonstrationsError("found no finished episode in this recording, expected at least one")
    return Transitions.from_episodes(settle_successes([episode for episode, _ in kept]), settings)


def settings_text(settings: Mapping[str, Any]) -> str:
    """:return: The text of ``recording.json`` for what the recorder was asked for"""
    return json.dumps({"format": "sb3-pgfd recording", "version": VERSION, **settings})


def read_settings(folder: Path) -> dict[str, Any]:
    """:raises DemonstrationsError: If there is no such record, or it is of another version"""
    path = inside(folder, folder / RECORD)
    record = json_object(path.read_text(encoding="utf-8"), RECORD)
    if record.get("version") != VERSION:
        raise DemonstrationsError(
            f"{RECORD}: found version {record.get('version')} of the format, expected {VERSION}: update sb3-pgfd"
        )
    return {key: value for key, value in record.items() if key not in _RESERVED}


def read_episodes(folder: Path) -> list[tuple[Episode, State]]:
    """:return: The episodes in order, each with what the recorder needs to go on after it"""
    kept = []
    for number in range(count_episodes(folder)):
        path = inside(folder, episode_file(folder, number))
        with errors_naming(str(path)):
            found = npz.read_npz(path) if npz.recognizes(path) else None
            if found is None or found.n_episodes != 1 or STATE not in found.metadata:
                raise DemonstrationsError("found no episode of a recording, expected one")
            kept.append((found.episode(0), found.metadata[STATE]))
    return kept


def count_episodes(folder: Path) -> int:
    """:raises DemonstrationsError: If an episode is missing between two others; the folder itself may be"""
    # Hidden names are left by a recorder that was killed while it wrote
    names = {path.name for path in folder.glob("*") if re.fullmatch(r"episode_\d{5,}\.npz", path.name)}
    for number in range(len(names)):
        if episode_file(folder, number).name not in names:
            found = f"{len(names)} episodes, {episode_file(folder, number).name} not among them"
            raise DemonstrationsError(f"found {found}, expected all up to the last one: copy the missing file there")
    return len(names)


def episode_file(folder: Path, number: int) -> Path:
    """:return: The path of an episode of an unfinished recording; numbers begin with 0"""
    return folder / f"episode_{number:05d}.npz"


def settle_successes(episodes: Sequence[Episode]) -> list[Episode]:
    """An environment may report successes alone: if one episode says whether it was a success, saying nothing is a failure."""
    if all(episode.success is None for episode in episodes):
        return list(episodes)
    return [replace(episode, success=bool(episode.success)) for episode in episodes]
