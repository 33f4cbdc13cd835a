"""Warnings that name the user's line."""

import contextlib
import os
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path

# How many of their functions are between the user's line and a warning differs from case to case
_PACKAGES = ("sb3_pgfd", "stable_baselines3", "sb3_contrib", "gymnasium", "torch")


class OptionWarning(UserWarning):
    """An option that has no effect, or another one than it seems, or demonstrations that such an option needs."""


def _files() -> tuple[str, ...]:
    """:return: What the names of their files begin with"""
    specs = [find_spec(package) for package in _PACKAGES]
    folders = [f"{Path(spec.origin).parent}{os.sep}" for spec in specs if spec is not None and spec.origin is not None]
    # Decorators that are context managers call functions from there
    return (*folders, contextlib.__file__)


_INSIDE = _files()


def warn_user(text: str, category: type[Warning] = UserWarning) -> None:
    """
    Warn at the line outside this package and the libraries below it that led here, e.g. the user's call of ``learn()``.

    :param text: What was found, what was expected and how to mend it
    :param category: Of the warning
    """
    frame, level = sys._getframe(1), 2
    while frame.f_code.co_filename.startswith(_INSIDE) and frame.f_back is not None:
        frame, level = frame.f_back, level + 1
    warnings.warn(text, category, stacklevel=level)
