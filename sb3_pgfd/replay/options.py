"""Checks of the buffer's options: each message names what was found and what was expected."""

from sb3_pgfd.common.checks import is_number, is_whole


def check_buffer_options(
    n_steps: int, gamma: float, priority_exponent: float, demo_fraction: float | None, optimize_memory_usage: bool
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
    if optimize_memory_usage:
        raise ValueError(
            "optimize_memory_usage: found True, expected False: it keeps no next observations, "
            "which demonstrations and n-step returns need"
        )
