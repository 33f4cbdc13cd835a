"""Checks of numbers and switches. YAML reads ``1e-3`` as a string, which must be refused with a clear message."""

from typing import Any

import numpy as np


def is_number(value: Any, low: float = -np.inf, high: float = np.inf) -> bool:
    """:return: Whether it is a finite number in [low, high]"""
    return (
        isinstance(value, (int, float, np.number))
        and not isinstance(value, bool)
        and bool(np.isfinite(value) and low <= value <= high)
    )


def check_learning_rate(name: str, rate: Any) -> None:
    """:raises ValueError: Unless it is a number >= 0, a schedule, or None"""
    if rate is not None and not callable(rate) and not is_number(rate, 0.0):
        raise ValueError(f"{name}: found {rate!r}, expected a number >= 0, a schedule or None")


def is_switch(value: Any) -> bool:
    """:return: Whether it is True or False. A string like ``"no"`` would count as True"""
    return isinstance(value, (bool, np.bool_))


def is_whole(value: Any, low: int) -> bool:
    """:return: Whether it is a whole number of at least ``low``"""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and bool(value >= low)
