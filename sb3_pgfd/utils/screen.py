"""Drawing where there is no screen."""

import os
import sys
from ctypes.util import find_library


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
