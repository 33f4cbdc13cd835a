"""The RL Zoo's subprocesses, which would not know this package's algorithms."""

import argparse
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sb3_pgfd.zoo.replacing import replaced

# What the Zoo starts, and the module that does the same with everything registered. `enjoy.py` is in the folder of the
# Zoo's sources only, and `python` need not be this interpreter
_OURS = {
    ("python", "-m", "rl_zoo3.record_video"): "sb3_pgfd.record_video",
    ("python", "enjoy.py"): "sb3_pgfd.enjoy",
}


@contextmanager
def our_subprocesses(options: argparse.Namespace) -> Iterator[None]:
    """
    While the block runs, ``subprocess.call`` starts this package's ``record_video`` and ``enjoy`` in place of the Zoo's.
    The same is done once only. All other commands are left alone.

    :param options: With ``gym_packages``, which the subprocesses import too
    """
    call = subprocess.call
    done: list[Any] = []

    def call_ours(command: Any, *positional: Any, **keywords: Any) -> int:
        ours = _ours(command, options.gym_packages)
        # The Zoo films a checkpoint once for each of its files, and it may have a buffer and statistics, too
        if ours != command and ours in done:
            return 0
        done.append(ours)
        return call(ours, *positional, **keywords)

    with replaced(subprocess, "call", call_ours):
        yield


def _ours(command: Any, packages: Sequence[str]) -> Any:
    for zoos, module in _OURS.items():
        if isinstance(command, (list, tuple)) and tuple(command[: len(zoos)]) == zoos:
            imported = ["--gym-packages", *packages] if packages else []
            return [sys.executable, "-m", module, *command[len(zoos) :], *imported]
    return command
