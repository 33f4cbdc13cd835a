"""What the entries of a yaml mean."""

import re
from collections.abc import Mapping
from typing import Any

from rl_zoo3.exp_manager import ExperimentManager

# YAML 1.1, which PyYAML reads, wants a dot and a sign in an exponent: it takes 1e-3 and 1.5e4 for texts
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")
# Options that may be a schedule: the Zoo's own, and those of our algorithms
_ZOO_SCHEDULES = ("learning_rate", "clip_range", "clip_range_vf", "delta_std")
_SCHEDULES = ("actor_learning_rate", "importance_exponent")


def with_numbers(value: Any) -> Any:
    """
    :param value: Of a yaml
    :return: The same, and texts like ``1e-3`` in it are numbers
    """
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return float(value)
    if isinstance(value, Mapping):
        return {key: with_numbers(item) for key, item in value.items()}
    return [with_numbers(item) for item in value] if isinstance(value, list) else value


def with_schedules(hyperparams: dict[str, Any]) -> dict[str, Any]:
    """
    Make schedules of those that are spelled ``lin_1e-3``.

    :param hyperparams: By name
    :return: The same dict, changed, as the Zoo does it
    :raises ValueError: If a text is no schedule
    """
    for name in (*_ZOO_SCHEDULES, *_SCHEDULES):
        value = hyperparams.get(name)
        if isinstance(value, str) and not _is_schedule(value):
            raise ValueError(f"{name}: found {value!r}, expected a number, or lin_<number> that falls to 0 over the run")
    hyperparams = ExperimentManager._preprocess_schedules(hyperparams)
    for name in _SCHEDULES:
        if isinstance(hyperparams.get(name), str):
            as_rate = ExperimentManager._preprocess_schedules({"learning_rate": hyperparams[name]})
            hyperparams[name] = as_rate["learning_rate"]
    return hyperparams


def _is_schedule(text: str) -> bool:
    name, _, number = text.partition("_")
    try:
        float(number)
    except ValueError:
        return False
    return bool(name)
