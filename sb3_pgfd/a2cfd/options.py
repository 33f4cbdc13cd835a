"""Checks of A2CfD's options: each message names what was found and what was expected."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from sb3_pgfd.utils.checks import check_learning_rate, is_number, is_whole


def check_options(options: Mapping[str, Any]) -> None:
    """
    :param options: A2CfD's attributes by name
    :raises ValueError: If one is out of range
    """
    for name, meaning in (("gamma", "discount factor"), ("gae_lambda", "lambda of GAE"), ("bc_decay", "lambda_1")):
        if not is_number(options[name], 0.0, 1.0):
            raise ValueError(f"{name} ({meaning}): found {options[name]!r}, expected 0 to 1")
    for name, meaning in (("ent_coef", "weight of the entropy"), ("bc_coef", "lambda_0"), ("rms_prop_eps", "epsilon")):
        if not is_number(options[name], 0.0):
            raise ValueError(f"{name} ({meaning}): found {options[name]!r}, expected a number >= 0")
    if not is_number(options["max_grad_norm"], 0.0) or options["max_grad_norm"] == 0:
        raise ValueError(f"max_grad_norm: found {options['max_grad_norm']!r}, expected a number > 0")
    for name, smallest in (("n_steps", 1), ("pretrain_steps", 0), ("critic_warmup_steps", 0), ("demo_batch_size", 1)):
        if not is_whole(options[name], smallest):
            raise ValueError(f"{name}: found {options[name]!r}, expected a whole number >= {smallest}")
    for name in ("normalize_advantage", "use_rms_prop"):
        if not isinstance(options[name], (bool, np.bool_)):
            raise ValueError(f"{name}: found {options[name]!r}, expected True or False")
    check_learning_rates(options)


def check_learning_rates(options: Mapping[str, Any]) -> None:
    """
    :param options: A2CfD's attributes by name
    :raises ValueError: If a learning rate is out of range
    """
    rate = options["learning_rate"]
    if not callable(rate) and not is_number(rate, 0.0):
        raise ValueError(f"learning_rate: found {rate!r}, expected a number >= 0 or a schedule")
    check_learning_rate("actor_learning_rate", options["actor_learning_rate"])
    rate = options["pretrain_learning_rate"]
    if rate is not None and not is_number(rate, 0.0):
        raise ValueError(f"pretrain_learning_rate: found {rate!r}, expected a number >= 0, or None: as in learning")
