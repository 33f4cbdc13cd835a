"""Checks of what the buffer is given: each message names what was found and what was expected."""

import numpy as np

from sb3_pgfd.utils.checks import is_number, is_switch, is_whole


def check_buffer_options(
    n_steps: int,
    gamma: float,
    priority_exponent: float,
    demo_fraction: float | None,
    her_ratio: float,
    keep_successes: bool,
    optimize_memory_usage: bool,
) -> None:
    """:raises ValueError: If one is out of range, naming what was found and expected"""
    if not is_whole(n_steps, 1):
        raise ValueError(f"n_steps: found {n_steps!r}, expected a whole number >= 1")
    if not is_number(gamma, 0.0, 1.0):
        raise ValueError(f"gamma: found {gamma!r}, expected 0 to 1")
    if not is_number(priority_exponent, 0.0):
        raise ValueError(f"priority_exponent (alpha): found {priority_exponent!r}, expected a number >= 0")
    if demo_fraction is not None and not is_number(demo_fraction, 0.0, 1.0):
        raise ValueError(f"demo_fraction: found {demo_fraction!r}, expected 0 to 1, or None to let priorities decide")
    if not is_number(her_ratio, 0.0, 1.0):
        raise ValueError(f"her_ratio: found {her_ratio!r}, expected 0 to 1, the share of each batch whose goal is replaced")
    if not is_switch(keep_successes):
        raise ValueError(f"keep_successes: found {keep_successes!r}, expected True or False")
    if optimize_memory_usage:
        raise ValueError(
            "optimize_memory_usage: found True, expected False: it keeps no next observations, "
            "which demonstrations and n-step returns need"
        )


def check_priorities(indices: np.ndarray, priorities: np.ndarray, n_filled: int, priority_exponent: float) -> None:
    """
    :raises IndexError: If a row holds nothing
    :raises ValueError: If a priority is not a positive number, or so large that p^alpha is none
    """
    first, last = indices.min(), indices.max()
    if first < 0 or last >= n_filled:
        raise IndexError(f"indices: found rows {first} to {last}, expected 0 to {n_filled - 1} that hold transitions")
    smallest, largest = priorities.min(), priorities.max()
    if not (smallest > 0.0 and largest**priority_exponent < np.inf):
        raise ValueError(
            f"priorities: found values from {smallest} to {largest}, expected positive numbers: "
            "the critic has diverged, lower the learning rate or the reward scale"
        )
