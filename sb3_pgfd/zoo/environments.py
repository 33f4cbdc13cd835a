"""Environments that the commands know without being told."""

import difflib
import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Sequence
from contextlib import suppress

import gymnasium as gym

from sb3_pgfd.environments import metaworld
from sb3_pgfd.zoo.errors import INSTALL_ROBOTICS, CommandError

_ROBOTICS = re.compile(r"(Adroit|AntMaze|Fetch|FrankaKitchen|HandManipulate|HandReach|PointMaze)")
# Raised on import if it is not installed, or mujoco is not
_BROKEN = (ImportError, gym.error.Error)


def register_environments() -> None:
    """Register the environments of gymnasium-robotics and our tasks of Meta-World, if installed. It may be called again."""
    # A broken installation matters to its own environments only
    with suppress(*_BROKEN):
        _import_robotics()
    if importlib.util.find_spec("metaworld") is not None:
        metaworld.register()


def _import_robotics() -> None:
    with suppress(ImportError):
        # On import the package prints a note about rarely used environments, into every command's output
        importlib.import_module("farama_notifications").notifications.pop("gymnasium_robotics", None)
    import gymnasium_robotics

    gym.register_envs(gymnasium_robotics)


def require_installed(env_id: object) -> None:
    """:raises ImportError: If an environment is one of gymnasium-robotics or Meta-World, which is not installed or broken"""
    if not isinstance(env_id, str) or env_id in gym.registry:
        return
    if env_id in metaworld.TASKS:
        library = f"a task of Meta-World, which is not installed: {metaworld.INSTALL_BENCHMARK}"
        raise ImportError(f"{env_id}: found no such environment, it is {library}")
    if _ROBOTICS.match(env_id):
        try:
            _import_robotics()
        except _BROKEN as error:
            library = f"one of gymnasium-robotics, which cannot be imported ({error}): {INSTALL_ROBOTICS}"
            raise ImportError(f"{env_id}: found no such environment, it looks like {library}") from error


def require_registered(env_id: str, packages: Sequence[str] = ()) -> None:
    """
    :param packages: Import them first: they may register it
    :raises ImportError, CommandError: If there is no such environment, see also :func:`require_installed`
    """
    for package in packages:
        importlib.import_module(package)
    # `module:Env-v0` imports that module when the environment is made
    if env_id in gym.registry or ":" in env_id:
        return
    require_installed(env_id)
    close = difflib.get_close_matches(env_id, gym.registry, n=1)
    meant = f", perhaps {close[0]}" if close else ""
    raise CommandError(
        f"--env {env_id}: found no such environment, expected one that is registered{meant}; --gym-packages imports packages "
        "that register others"
    )


def find_in_current_folder() -> None:
    """Make modules in the current folder importable, as ``python -m`` does. An installed command does not."""
    if not {"", os.getcwd()} & set(sys.path):
        sys.path.insert(0, os.getcwd())
