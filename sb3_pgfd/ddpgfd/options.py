"""Checks of DDPGfD's options: each message names what was found and what was expected."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from sb3_pgfd.replay.options import check_buffer_options
from sb3_pgfd.utils.checks import check_learning_rate, is_number, is_switch, is_whole

_NOT_NEGATIVE = {
    "n_step_coef": "lambda_1",
    "l2_coef": "lambda_2",
    "action_gradient_coef": "lambda_3",
    "demo_bonus": "eps_D",
    "bc_coef": "weight of the behaviour cloning loss",
    "target_policy_noise": "standard deviation",
    "target_noise_clip": "largest noise",
}
_WHOLE = {"pretrain_steps": 0, "critic_warmup_steps": 0, "policy_delay": 1, "batch_size": 1, "buffer_size": 1}
_SWITCHES = ("relative_priorities", "q_filter", "normalize_actor_loss", "pretrain_clone_only")
_OF_THE_BUFFER = ("n_steps", "gamma", "priority_exponent", "demo_fraction", "her_ratio", "keep_successes")


def check_options(options: Mapping[str, Any]) -> None:
    """
    :param options: DDPGfD's attributes by name
    :raises ValueError: If one is out of range
    """
    check_buffer_options(**{name: options[name] for name in (*_OF_THE_BUFFER, "optimize_memory_usage")})
    for name, meaning in _NOT_NEGATIVE.items():
        if not is_number(options[name], 0.0):
            raise ValueError(f"{name} ({meaning}): found {options[name]!r}, expected a number >= 0")
    for name in _SWITCHES:
        if not is_switch(options[name]):
            raise ValueError(f"{name}: found {options[name]!r}, expected True or False")
    _check_cloning(options)
    epsilon = options["priority_epsilon"]
    if not is_number(epsilon, 0.0) or epsilon == 0.0:
        raise ValueError(f"priority_epsilon (eps): found {epsilon!r}, expected a number > 0")
    if not is_number(options["tau"], 0.0, 1.0):
        raise ValueError(f"tau: found {options['tau']!r}, expected 0 to 1")
    exponent = options["importance_exponent"]
    if not callable(exponent) and not is_number(exponent, 0.0):
        raise ValueError(f"importance_exponent (beta): found {exponent!r}, expected a number >= 0 or a schedule")
    check_learning_rate("actor_learning_rate", options["actor_learning_rate"])
    for name, smallest in _WHOLE.items():
        if not is_whole(options[name], smallest):
            raise ValueError(f"{name}: found {options[name]!r}, expected a whole number >= {smallest}")
    q_range = options["q_range"]
    if q_range is not None and not _is_range(q_range):
        raise ValueError(f"q_range: found {q_range!r}, expected (smallest, largest) possible return, or None")


def _check_cloning(options: Mapping[str, Any]) -> None:
    for name in ("pretrain_clone_only", "critic_warmup_steps"):
        if options[name] and options["bc_coef"] == 0.0:
            raise ValueError(
                f"{name}: found bc_coef={options['bc_coef']!r}, expected a number > 0: "
                "without cloning, the actor would learn nothing meanwhile"
            )


def _is_range(value: Any) -> bool:
    """One side may be open, i.e. infinite."""
    numbers = isinstance(value, (tuple, list)) and all(is_number(bound) or bound in (-np.inf, np.inf) for bound in value)
    return numbers and len(value) == 2 and value[0] < value[1]
