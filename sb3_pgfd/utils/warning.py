"""Warnings that name the user's line."""

import os
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path

# How many of their functions are between the user's line and a warning differs from case to case
_PACKAGES = ("sb3_pgfd", "stable_baselines3", "gymnasium")


class OptionWarning(UserWarning):
    """An option that has no effect, or another one than it seems, or demonstrations that such an option needs."""


def _folder_of(package: str) -> str:
    spec = find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return f"{Path(spec.origin).parent}{os.sep}"


_INSIDE = tuple(_folder_of(package) for package in _PACKAGES)


def warn_user(text: str, category: type[Warning] = UserWarning) -> None:
    """
    Warn at the line outside this package, SB3 and Gymnasium that led here, e.g. the user's call of ``learn()``.

    :param text: What was found, what was expected and how to mend it
    :param category: Of the warning
    """
    frame, level = sys._getframe(1), 2
    while frame.f_code.co_filename.startswith(_INSIDE) and frame.f_back is not None:
        frame, level = frame.f_back, level + 1
    warnings.warn(text, category, stacklevel=level)
