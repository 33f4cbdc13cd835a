"""Checks of numbers and switches. YAML reads ``1e-3`` as a string, which must be refused with a clear message."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

SAVE_FORMAT = 2
"""Number of the format of saved models and replay buffers"""


def is_number(value: Any, low: float = -np.inf, high: float = np.inf) -> bool:
    """:return: Whether it is a finite number in [low, high]"""
    return (
        isinstance(value, (int, float, np.number))
        and not isinstance(value, bool)
        and bool(np.isfinite(value) and low <= value <= high)
    )


def check_learning_rate(name: str, rate: Any, required: bool = False) -> None:
    """:raises ValueError: Unless it is a number >= 0, a schedule, or None where it is not required"""
    if (rate is not None or required) and not callable(rate) and not is_number(rate, 0.0):
        wanted = "a number >= 0 or a schedule" if required else "a number >= 0, a schedule or None"
        raise ValueError(f"{name}: found {rate!r}, expected {wanted}")


def is_switch(value: Any) -> bool:
    """:return: Whether it is True or False. A string like ``"no"`` would count as True"""
    return isinstance(value, (bool, np.bool_))


def is_whole(value: Any, low: int) -> bool:
    """:return: Whether it is a whole number of at least ``low``"""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and bool(value >= low)


def is_range(value: Any) -> bool:
    """:return: Whether it is (smallest, largest); one side may be infinite"""
    numbers = isinstance(value, (tuple, list)) and all(is_number(bound) or bound in (-np.inf, np.inf) for bound in value)
    return numbers and len(value) == 2 and value[0] < value[1]


def check_not_negative(options: Mapping[str, Any], names: Mapping[str, str]) -> None:
    """
    :param options: By name
    :param names: Which to check, and the symbol or meaning of each
    :raises ValueError: If one is not a number >= 0
    """
    for name, meaning in names.items():
        if not is_number(options[name], 0.0):
            raise ValueError(f"{name} ({meaning}): found {options[name]!r}, expected a number >= 0")


def check_whole(options: Mapping[str, Any], smallest: Mapping[str, int]) -> None:
    """
    :param options: By name
    :param smallest: Which to check, and the smallest number allowed
    :raises ValueError: If one is not a whole number of at least that
    """
    for name, least in smallest.items():
        if not is_whole(options[name], least):
            raise ValueError(f"{name}: found {options[name]!r}, expected a whole number >= {least}")


def check_switches(options: Mapping[str, Any], names: Iterable[str]) -> None:
    """
    :param options: By name
    :param names: Which to check
    :raises ValueError: If one is neither True nor False
    """
    for name in names:
        if not is_switch(options[name]):
            raise ValueError(f"{name}: found {options[name]!r}, expected True or False")


def check_save_format(kind: str, found: Any) -> None:
    """
    :param kind: What was saved
    :param found: Number of its format
    :raises ValueError: If this version cannot read it
    """
    if found != SAVE_FORMAT:
        raise ValueError(
            f"found a {kind} of save format {found!r}, expected {SAVE_FORMAT}: it was saved by another version of sb3-pgfd. "
            "Load it with that version, or train again with this one; demonstration files can be read by both"
        )
