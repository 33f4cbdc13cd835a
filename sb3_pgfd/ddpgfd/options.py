"""Checks of DDPGfD's options: each message names what was found and what was expected."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from sb3_pgfd.replay.demo_replay_buffer import check_buffer_options

_NOT_NEGATIVE = {
    "n_step_coef": "lambda_1",
    "l2_coef": "lambda_2",
    "action_gradient_coef": "lambda_3",
    "demo_bonus": "eps_D",
    "bc_coef": "weight of the behaviour cloning loss",
    "target_policy_noise": "standard deviation",
    "target_noise_clip": "largest noise",
}


def check_options(options: Mapping[str, Any]) -> None:
    """
    :param options: DDPGfD's attributes by name
    :raises ValueError: If one is out of range
    """
    names = ("n_steps", "gamma", "priority_exponent", "demo_fraction", "optimize_memory_usage")
    check_buffer_options(**{name: options[name] for name in names})
    for name, meaning in _NOT_NEGATIVE.items():
        if not 0.0 <= options[name] < np.inf:
            raise ValueError(f"{name} ({meaning}): found {options[name]}, expected a number >= 0")
    if not 0.0 < options["priority_epsilon"] < np.inf:
        raise ValueError(f"priority_epsilon (eps): found {options['priority_epsilon']}, expected a number > 0")
    exponent = options["importance_exponent"]
    if not callable(exponent) and not 0.0 <= exponent < np.inf:
        raise ValueError(f"importance_exponent (beta): found {exponent}, expected a number >= 0 or a schedule")
    for name, smallest in (("pretrain_steps", 0), ("policy_delay", 1)):
        value = options[name]
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < smallest:
            raise ValueError(f"{name}: found {value!r}, expected a whole number >= {smallest}")
    q_range = options["q_range"]
    if q_range is not None and not (len(q_range) == 2 and q_range[0] < q_range[1]):
        raise ValueError(f"q_range: found {q_range}, expected (smallest, largest) possible return, or None")
