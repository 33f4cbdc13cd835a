"""Checks of the buffer's options."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces

from sb3_pgfd.utils.checks import is_number, is_switch, is_whole
from sb3_pgfd.utils.memory import GIB, total_memory
from sb3_pgfd.utils.warning import OptionWarning, warn_user


def _is_share(value: Any) -> bool:
    return is_number(value, 0.0, 1.0)


def _is_not_negative(value: Any) -> bool:
    return is_number(value, 0.0)


def _is_positive_whole(value: Any) -> bool:
    return is_whole(value, 1)


def _is_device(value: Any) -> bool:
    if value is None:
        return True
    try:
        return isinstance(value, str) and th.device(value).type in ("cpu", "cuda")
    except RuntimeError:
        return False


# Of each option its meaning, a check, and what is expected
OPTIONS: dict[str, tuple[str, Callable[[Any], bool], str]] = {
    "optimize_memory_usage": ("", lambda value: value is False, "False: it keeps no next observations"),
    "handle_timeout_termination": ("", is_switch, "True or False"),
    "demo_fraction": (" (share)", lambda value: value is None or _is_share(value), "0 to 1, or None: priorities decide"),
    "n_steps": ("", _is_positive_whole, "a whole number >= 1"),
    "gamma": (" (discount factor)", _is_share, "0 to 1"),
    "priority_exponent": (" (alpha)", _is_not_negative, "a number >= 0"),
    "priority_epsilon": (" (eps)", lambda value: _is_not_negative(value) and value > 0.0, "a number > 0"),
    "demo_bonus": (" (eps_D)", _is_not_negative, "a number >= 0"),
    "relative_priorities": ("", is_switch, "True or False"),
    "her_ratio": (" (share of each batch)", _is_share, "0 to 1"),
    "her_skip_reached": ("", is_switch, "True or False"),
    "her_random_share": (" (share of the replaced goals)", _is_share, "0 to 1"),
    "keep_successes": ("", is_switch, "True or False"),
    "max_success_transitions": ("", _is_positive_whole, "a whole number >= 1"),
    "denoise_successes": ("", is_switch, "True or False"),
    "frame_stack": (" (frames in an image)", _is_positive_whole, "a whole number >= 1"),
    "storage_device": ("", _is_device, '"cuda", "cpu", or None'),
}


def check_options(options: Mapping[str, Any]) -> None:
    """
    :param options: All options of the buffer by name; other names are not looked at
    :raises ValueError: If one is out of range
    """
    for name, (meaning, is_valid, expected) in OPTIONS.items():
        if not is_valid(options[name]):
            raise ValueError(f"{name}{meaning}: found {options[name]!r}, expected {expected}")
    eps, alpha = options["priority_epsilon"], options["priority_exponent"]
    # A transition of weight 0 would never be drawn
    if eps**alpha == 0.0:
        raise ValueError(f"priority_exponent (alpha): found {alpha}, expected a smaller one: {eps}^alpha rounds to 0")


def check_action_range(action_space: spaces.Space) -> None:
    """
    :param action_space: The environment's
    :raises ValueError: If a component of a Box cannot be scaled to [-1, 1], as SB3 does it: its bounds are infinite or
        equal, and NaN would be stored, or it holds whole numbers, and 0 would be
    """
    if not isinstance(action_space, spaces.Box):
        return
    if not np.issubdtype(action_space.dtype, np.floating):
        raise ValueError(
            f"action_space: found {action_space}, expected floats: actions are scaled to [-1, 1]. Round them by a wrapper"
        )
    low, high = action_space.low.astype(np.float64), action_space.high.astype(np.float64)
    bad = np.argwhere(~np.isfinite(high - low) | (high <= low))
    if len(bad) > 0:
        place = tuple(int(index) for index in bad[0])
        raise ValueError(
            f"action_space: found component {list(place)} with low={low[place]:g} and high={high[place]:g}, expected "
            "finite bounds with low < high: actions are scaled to [-1, 1]. Leave a component that cannot move out of the "
            "action by a wrapper, and rescale infinite ones (gymnasium.wrappers.RescaleAction)"
        )


def usable_storage(storage_device: str | None, device: th.device) -> str | None:
    """
    :param storage_device: Where observations are to be stored
    :param device: Of the networks
    :return: The same; None, with a warning, if the networks would not find them there, as on a machine without a GPU
    """
    if storage_device is None or th.device(storage_device).type == "cpu" or device.type == "cuda":
        return storage_device
    warn_user(
        f"storage_device: found {storage_device!r} and networks on {device}, expected both on the GPU: observations are "
        "stored in the CPU's memory",
        OptionWarning,
    )
    return None


def warn_of_other_gamma(gamma: float, caller: Any) -> None:
    """
    :param gamma: Of the buffer
    :param caller: The algorithm that draws from it
    """
    expected = getattr(caller, "gamma", None)
    if is_number(expected) and expected != gamma:
        warn_user(
            f"gamma: found {gamma} in the replay buffer, expected {expected} as in {type(caller).__name__}: the buffer's "
            f"counts in n-step returns. Pass it in replay_buffer_kwargs=dict(..., gamma={expected})",
            OptionWarning,
        )


def warn_of_memory(n_rows: int, row_nbytes: float) -> None:
    """
    :param n_rows: Transitions that a buffer may hold
    :param row_nbytes: Memory of each
    """
    needed, total = n_rows * row_nbytes, total_memory()
    if needed > total:
        warn_user(
            f"buffer_size: found {n_rows:,} transitions, which take {needed / GIB:,.1f} GiB when the buffer is full, expected "
            f"at most {int(total / row_nbytes):,}, as there are {total / GIB:,.1f} GiB of memory",
            OptionWarning,
        )
