"""Drawing without a screen, and progress bars on it."""

import os
import sys
from collections.abc import Callable, Iterable
from ctypes.util import find_library
from typing import TypeVar

Item = TypeVar("Item")


def has_screen() -> bool:
    """
    :return: Whether windows can be shown; known on Linux only, and taken for granted elsewhere
    """
    if not sys.platform.startswith("linux"):
        return True
    # SDL can draw on a console, too
    driver = os.environ.get("SDL_VIDEODRIVER", "dummy")
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")) or driver not in ("dummy", "offscreen")


def draw_without_screen() -> None:
    """
    Let MuJoCo and SDL draw pictures where there is no screen, unless the user has said how. To be called before any
    environment is imported: MuJoCo reads the variable then.
    """
    if has_screen():
        return
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    # Importing mujoco fails if it is told to use a library that is not there
    for backend, library in (("egl", "EGL"), ("osmesa", "OSMesa")):
        if "MUJOCO_GL" not in os.environ and find_library(library):
            os.environ["MUJOCO_GL"] = backend


def progress(
    items: Iterable[Item], visible: bool, description: str, unit: str, total: int | None = None, initial: int = 0
) -> Iterable[Item]:
    """
    :param items: What is gone through
    :param visible: Whether to show a bar
    :param description: In front of the bar
    :param unit: Name of an item
    :param total: How many there are, if they do not know it themselves
    :param initial: How many of these are done already
    :return: The same items
    :raises ImportError: If the bar's libraries are not installed
    """
    if not visible:
        return items
    try:
        from tqdm.rich import tqdm
    except ImportError as error:
        raise ImportError("The progress bar needs tqdm and rich: pip install sb3-pgfd[progress]") from error
    bar: Callable[..., Iterable[Item]] = tqdm
    return bar(items, desc=description, unit=unit, total=total, initial=initial)
