"""``sb3-pgfd train --resume`` and ``--seeds``: what a run's folder needs to go on, and how it ends."""

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sb3_pgfd.common.training_state import TrainingStateError, newest_set, read_manifest, sets
from sb3_pgfd.utils.files import write_whole
from sb3_pgfd.utils.run_folders import read_settings, require_trust
from sb3_pgfd.zoo.command_line import CommandError

STATE = "training_state"
"""Folder of the training state in the folder of a run"""
COMMAND = "command.json"
_OPTIONS = "-n, --device, --num-threads, --verbose, --log-interval and -P"


def check_changes(arguments: Sequence[str], prog: str) -> None:
    """Exit with the usage if arguments beside ``--resume`` would make another run of it."""
    parser = argparse.ArgumentParser(prog=f"{prog} --resume RUN_FOLDER", allow_abbrev=False)
    for names in (("-n", "--n-timesteps"), ("--num-threads",), ("--verbose",), ("--log-interval",)):
        parser.add_argument(*names, type=int)
    parser.add_argument("--device")
    parser.add_argument("-P", "--progress", action="store_true")
    rest = parser.parse_known_args(arguments)[1]
    if rest:
        parser.error(f"found {' '.join(rest)}, expected none but {_OPTIONS}: all else is as in the run that goes on")


class Run:
    """
    A run that goes on.

    :param folder: Of the run, as ``train`` printed it
    :param trust: Whether to load the files of another user
    :raises UntrustedFileError: If they are another user's, which are not trusted
    :raises CommandError: If it has no training state that is whole, or its settings are missing
    """

    def __init__(self, folder: Path, trust: bool = False):
        self.folder = folder
        require_trust(sorted(folder.glob(f"{STATE}/*/*.pkl")), trust)
        try:
            self.set = newest_set(folder / STATE)
        except TrainingStateError as error:
            raise CommandError(f"--resume {folder}: {error}") from error
        self.manifest = read_manifest(self.set)
        found = sorted(folder.glob(f"*/{COMMAND}"))
        if not found or not (found[0].parent / "config.yml").is_file():
            raise CommandError(f"--resume {folder}: found no <environment>/{COMMAND} and config.yml, expected those of a run")
        self._settings = found[0].parent

    @property
    def command(self) -> list[str]:
        """The arguments that it was started with, but for ``-i``: its own state has all that came from that model"""
        words: list[str] = json.loads((self._settings / COMMAND).read_text(encoding="utf-8"))
        alone = ("-i", "--trained-agent")
        return [
            word
            for before, word in zip(["", *words], words, strict=False)
            if before not in alone and word not in alone and not word.startswith("--trained-agent=")
        ]

    @property
    def hyperparams(self) -> dict[str, Any]:
        """Its hyperparameters, whatever the files that they came from hold by now"""
        return read_settings(self._settings / "config.yml")

    def cut_logs(self) -> None:
        """Take back what was logged after the state was saved, because it will be logged again."""
        for name, size in self.manifest.get("logs", {}).items():
            path = self.folder / name
            found = path.stat().st_size if path.is_file() else 0
            if found < size:
                print(f"{path}: found {found} bytes, expected {size}: rows of the time before are missing")
            else:
                os.truncate(path, size)


def log_sizes(folder: Path) -> dict[str, int]:
    """:return: Sizes of the logs of training episodes in the folder of a run"""
    return {path.name: path.stat().st_size for path in sorted(folder.glob("*monitor.csv"))}


def make_run_folder(path: str, env_name: str) -> str:
    """
    :param path: That the Zoo found free: ``<log folder>/<algorithm>/<environment>_<number>``
    :param env_name: Name of the environment in folders
    :return: The path, or one with a higher number if another run took it meanwhile. It is made
    """
    parent, name = os.path.split(path)
    os.makedirs(parent, exist_ok=True)
    start, _, number = name.rpartition("_")
    while True:
        try:
            os.mkdir(os.path.join(parent, name))
        except FileExistsError:
            if start != env_name or not number.isdigit():
                raise
            number = str(int(number) + 1)
            name = f"{start}_{number}"
            continue
        os.mkdir(os.path.join(parent, name, env_name))
        return os.path.join(parent, name)


def save_command(folder: str, arguments: Sequence[str]) -> None:
    """:param folder: With the settings of a run"""
    with write_whole(Path(folder, COMMAND), overwrite=True) as temporary:
        temporary.write_text(json.dumps(list(arguments)), encoding="utf-8")


def how_to_go_on(folder: str) -> str:
    """:return: One line for a run that was interrupted"""
    present = sets(Path(folder, STATE))
    if not present:
        return f"no training state of {folder} was saved, start again"
    n_steps = read_manifest(present[0])["num_timesteps"]
    return f"the state after {n_steps} steps is saved; go on with: sb3-pgfd train --resume {folder}"
