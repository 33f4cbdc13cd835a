"""Recordings that lose nothing: each episode is on disk when it ends."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sb3_pgfd.demonstrations.arrays import json_copy
from sb3_pgfd.demonstrations.dataset import Demonstrations
from sb3_pgfd.demonstrations.episode import Episode
from sb3_pgfd.demonstrations.errors import DemonstrationsError
from sb3_pgfd.demonstrations.formats import recording_folder
from sb3_pgfd.demonstrations.formats.npz import with_ending, write_npz
from sb3_pgfd.utils.files import refuse_existing, sync, write_whole


class Session:
    """
    An unfinished recording: a folder ``<path>.recording`` beside the file to be written, with one ``.npz`` for each
    finished episode. It is made with the first episode, ``Demonstrations.load`` reads it, :meth:`finish` turns it into
    the file.

    :param path: The file to be written in the end, the ending ``.npz`` is added if it is missing; None: nothing is kept
        on disk
    :param settings: What is recorded and how, as JSON holds it: a recording is resumed with the same settings only. They
        become metadata
    :param resume: Whether to go on with the unfinished recording there, if there is one
    :param overwrite: Whether the file may be replaced; without ``resume`` an unfinished recording may be, too
    :raises FileExistsError: If there is a file or an unfinished recording that may not be replaced
    :raises DemonstrationsError: If the recording to be resumed was begun with other settings, or cannot be read
    """

    episodes: list[Episode]
    """Kept so far, those of a resumed recording included"""
    unfinished: bool
    """Whether there are episodes that :meth:`finish` has not written yet"""

    def __init__(self, path: str | Path | None, settings: Mapping[str, Any], resume: bool = False, overwrite: bool = False):
        self.settings = json_copy(settings)
        self.path = None if path is None else with_ending(Path(path))
        self.folder = None if self.path is None else session_folder(self.path)
        self._overwrite = overwrite
        self.unfinished = False
        self.episodes = []
        self._states: list[Mapping[str, Any]] = []
        if self.path is None or self.folder is None:
            return
        self._refuse_what_is_there(self.path, self.folder, resume)
        if resume and self.folder.exists():
            self._resume(self.folder)

    @property
    def state(self) -> Mapping[str, Any] | None:
        """What :meth:`add` was given with the last episode, as JSON holds it; None: there is none"""
        return self._states[-1] if self._states else None

    def _refuse_what_is_there(self, path: Path, folder: Path, resume: bool) -> None:
        unfinished = folder.exists() or folder.is_symlink()
        if path.exists() and unfinished and resume and not self._overwrite:
            raise FileExistsError(
                f"{path}: found the file and an unfinished recording of it, {folder.name}, expected one of them. A recorder "
                "killed at the very end leaves both: remove the folder if the file is the one you want, or pass "
                "overwrite=True (--force) too, to replace the file by the recording"
            )
        refuse_existing(path, self._overwrite)
        if not unfinished:
            return
        if not recording_folder.recognizes(folder):
            raise FileExistsError(f"{folder}: found something that is no recording, expected nothing: move it away")
        # One that is damaged can be replaced, too
        n_episodes = 0 if resume or self._overwrite else recording_folder.count_episodes(folder)
        if n_episodes:
            raise FileExistsError(
                f"{folder}: found an unfinished recording of {n_episodes} episodes, expected none: pass resume=True "
                "(--resume) to go on with it, or overwrite=True (--force) to begin again without them"
            )

    def _resume(self, folder: Path) -> None:
        found = recording_folder.read_settings(folder)
        for key in (*self.settings, *found):
            if key not in found or key not in self.settings or found[key] != self.settings[key]:
                raise DemonstrationsError(
                    f"{folder}: found a recording with {key}={found.get(key)!r:.200}, expected "
                    f"{key}={self.settings.get(key)!r:.200}: resume with the settings it was begun with, or pass "
                    "overwrite=True (--force) without resume to begin again"
                )
        for episode, state in recording_folder.read_episodes(folder):
            self.episodes.append(episode)
            self._states.append(state)
        self.unfinished = bool(self.episodes)

    def add(self, episode: Episode, state: Mapping[str, Any]) -> None:
        """
        Keep an episode. It is on disk when this returns.

        :param episode: Which has ended
        :param state: What it takes to go on after it when the recording is resumed, as JSON holds it
        :raises DemonstrationsError: If there is something wrong with the episode; it is not kept
        """
        number = len(self.episodes)
        try:
            demonstrations = _one_episode(episode, state)
        except DemonstrationsError as error:
            raise DemonstrationsError(f"recording, episode {number} of those kept: {error}") from None
        if self.folder is not None:
            if not self.unfinished:
                self._begin(self.folder)
            write_npz(demonstrations, recording_folder.episode_file(self.folder, number))
        self.episodes.append(episode)
        self._states.append(demonstrations.metadata[recording_folder.STATE])
        self.unfinished = True

    def _begin(self, folder: Path) -> None:
        """Make the folder, with the episodes of an earlier :meth:`finish` if there was one."""
        replaces = self._overwrite or recording_folder.count_episodes(folder) == 0
        with write_whole(folder, overwrite=replaces, folder=True) as temporary:
            text = recording_folder.settings_text(self.settings)
            (temporary / recording_folder.RECORD).write_text(text, encoding="utf-8")
            for number, (episode, state) in enumerate(zip(self.episodes, self._states, strict=True)):
                write_npz(_one_episode(episode, state), recording_folder.episode_file(temporary, number))

    def discard_last(self) -> None:
        """
        Throw the last episode away, on disk too.

        :raises DemonstrationsError: If there is none, or the file is written
        """
        if not self.unfinished:
            raise DemonstrationsError("recording: found no episode to discard, expected at least one in no file yet")
        if self.folder is not None:
            recording_folder.episode_file(self.folder, len(self.episodes) - 1).unlink()
            sync(self.folder)
        del self.episodes[-1], self._states[-1]
        self.unfinished = bool(self.episodes)

    def finish(self, metadata: Mapping[str, Any]) -> Demonstrations:
        """
        Write the file, whole or not at all, and remove the folder. More episodes may be added afterwards: finishing
        again replaces the file.

        :param metadata: Provenance beyond the settings
        :return: All episodes
        :raises FileExistsError: If somebody else has written the file meanwhile
        :raises DemonstrationsError: If there is no episode, or they do not fit together
        """
        episodes = recording_folder.settle_successes(self.episodes)
        demonstrations = Demonstrations.from_episodes(episodes, {**self.settings, **metadata})
        if self.path is not None:
            write_npz(demonstrations, self.path, self._overwrite)
        if self.folder is not None and self.unfinished:
            # Gone at once: what is left of half a folder would be taken for a recording
            with tempfile.TemporaryDirectory(prefix=f".{self.folder.name}-", suffix=".tmp", dir=self.folder.parent) as trash:
                os.replace(self.folder, Path(trash) / self.folder.name)
        self.unfinished, self._overwrite = False, True
        return demonstrations


def session_folder(path: Path) -> Path:
    """
    :param path: The file to be written
    :return: Where its episodes are until then
    """
    path = with_ending(path)
    return path.with_name(path.name + ".recording")


def _one_episode(episode: Episode, state: Mapping[str, Any]) -> Demonstrations:
    return Demonstrations.from_episodes([episode], {recording_folder.STATE: dict(state)})
