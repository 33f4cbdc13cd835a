"""Drawing without a screen, and progress bars on it."""

import os
import sys
from collections.abc import Callable, Iterable
from ctypes.util import find_library
from importlib.util import find_spec
from typing import TypeVar

from sb3_pgfd.utils.files import install

Item = TypeVar("Item")


def has_screen() -> bool:
    """
    :return: Whether windows can be shown; outside Linux always True
    """
    if not sys.platform.startswith("linux"):
        return True
    # SDL can also draw on a console
    driver = os.environ.get("SDL_VIDEODRIVER", "dummy")
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")) or driver not in ("dummy", "offscreen")


def draw_without_screen() -> None:
    """
    Let MuJoCo and SDL draw pictures without a screen, unless the user has set the variables. Call it before any environment
    is imported, because MuJoCo reads its variable then.
    """
    if has_screen():
        return
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    # Importing mujoco fails if the variable names a missing library
    for backend, library in (("egl", "EGL"), ("osmesa", "OSMesa")):
        if "MUJOCO_GL" not in os.environ and find_library(library):
            os.environ["MUJOCO_GL"] = backend


def can_show_progress() -> bool:
    """:return: Whether standard output is a terminal and the libraries of :func:`progress` are installed"""
    return sys.stdout.isatty() and all(find_spec(name) is not None for name in ("tqdm", "rich"))


def progress(
    items: Iterable[Item], visible: bool, description: str, unit: str, total: int | None = None, initial: int = 0
) -> Iterable[Item]:
    """
    :param items: Items to iterate over
    :param visible: Whether to show a bar
    :param description: Text in front of the bar
    :param unit: Name of an item
    :param total: Number of items, if they have no length
    :param initial: Number of items that are done already
    :return: The same items
    :raises ImportError: If the bar's libraries are not installed
    """
    if not visible:
        return items
    try:
        from tqdm.rich import tqdm
    except ImportError as error:
        raise ImportError(f"The progress bar needs tqdm and rich: {install('progress')}") from error
    bar: Callable[..., Iterable[Item]] = tqdm
    return bar(items, desc=description, unit=unit, total=total, initial=initial)
