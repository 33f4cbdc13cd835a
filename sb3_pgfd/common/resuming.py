"""What a run has beyond its model: environments, callbacks, pending log values and random generators."""

import time
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from stable_baselines3.common.vec_env import VecEnv

from sb3_pgfd.common.environment_state import (
    generators_of,
    global_generators,
    make_resumable,
    options_of,
    restore_environment,
    save_environment,
    set_generators,
    set_global_generators,
    values_of,
)
from sb3_pgfd.common.stepping import walk_callbacks, watch_processes
from sb3_pgfd.utils.warning import warn_user

_OF_LOGGER = ("name_to_value", "name_to_count", "name_to_excluded")
_OF_CALLBACKS = {"model", "parent", "locals", "globals"}


def make_all_resumable(env: VecEnv | None, callback: Any) -> None:
    """Let the environments of a run, also those of its callbacks, remember their episodes, and be missed when they die."""
    of_callbacks = [inner for _, item in walk_callbacks(callback) for inner in _environments(item).values()]
    for one in (env, *of_callbacks):
        make_resumable(one)
        watch_processes(one)


def _by_class(callback: Any) -> dict[str, BaseCallback]:
    """:return: Callbacks by class, and number in it: others may come or go, as a progress bar does. Lists have no state"""
    found: dict[str, BaseCallback] = {}
    for _, item in walk_callbacks(callback):
        name, number = type(item).__name__, 1
        if not isinstance(item, CallbackList) and not any(item is known for known in found.values()):
            while (place := name if number == 1 else f"{name} {number}") in found:
                number += 1
            found[place] = item
    return found


def _environments(callback: BaseCallback) -> dict[str, VecEnv]:
    return {name: value for name, value in vars(callback).items() if isinstance(value, VecEnv)}


def save_run(model: BaseAlgorithm, callback: Any) -> dict[str, Any]:
    """
    :param model: Between two steps
    :param callback: Of its ``learn()``
    :return: For :func:`restore_run`
    """
    assert model.env is not None
    for _, item in walk_callbacks(callback):
        if hasattr(item, "before_saving"):
            item.before_saving()
    callbacks = {
        place: {
            "values": values_of(item, options_of(item) | _OF_CALLBACKS),
            "envs": {name: save_environment(env) for name, env in _environments(item).items()},
        }
        for place, item in _by_class(callback).items()
    }
    has_logger = getattr(model, "_logger", None) is not None
    return {
        "environment": save_environment(model.env),
        "is_for": (model.observation_space, model.action_space),
        "spaces": _spaces(model),
        "callbacks": callbacks,
        "logger": {name: dict(getattr(model.logger, name)) for name in _OF_LOGGER} if has_logger else {},
        "elapsed": time.time_ns() - model.start_time,
        "generators": global_generators(),
    }


def _spaces(model: BaseAlgorithm) -> dict[str, Any]:
    """:return: Generators of the spaces that the model draws from"""
    return {name: generators_of(_Holder(getattr(model, name))) for name in ("observation_space", "action_space")}


class _Holder:
    """:param space: Of which :func:`generators_of` looks for the generators"""

    def __init__(self, space: Any):
        self.space = space


def score_of(callback: Any) -> float | None:
    """:return: Mean return of the last evaluation, if one of the callbacks evaluates"""
    for _, item in walk_callbacks(callback):
        if len(getattr(item, "evaluations_timesteps", ())) > 0:
            return float(item.last_mean_reward)  # type: ignore[attr-defined]
    return None


def restore_environments(model: BaseAlgorithm, run: dict[str, Any]) -> str | None:
    """
    :return: None, or why the episodes that were running cannot go on
    :raises ValueError: If the environments differ from those of the run
    """
    assert model.env is not None
    return restore_environment(model.env, run["environment"], in_episode=model._last_obs is not None)


def restore_run(model: BaseAlgorithm, run: dict[str, Any], callback: Any) -> None:
    """
    Restore callbacks, pending log values and random generators; the last, because everything else may draw from them. A
    warning names callbacks that are not as they were.

    :param model: With a logger
    :param run: Of :func:`save_run`
    :param callback: Of this ``learn()``; options of callbacks are as they are given now
    """
    present = _by_class(callback)
    missing = sorted(run["callbacks"].keys() - present.keys())
    if missing:
        warn_user(f"resume: found no {', '.join(missing)} in this learn(), so their state is not restored")
    for place in present.keys() & run["callbacks"].keys():
        item, saved = present[place], run["callbacks"][place]
        vars(item).update(saved["values"])
        if hasattr(item, "after_restoring"):
            item.after_restoring()
        for name, env in _environments(item).items():
            problem = restore_environment(env, saved["envs"][name], in_episode=False) if name in saved["envs"] else "it is new"
            if problem is not None:
                warn_user(f"resume: {place}.{name} begins with other random numbers: {problem}")
    for name, values in run["logger"].items():
        getattr(model.logger, name).update(values)
    model.start_time = time.time_ns() - run["elapsed"]
    for name, generators in run["spaces"].items():
        set_generators(_Holder(getattr(model, name)), generators)
    set_global_generators(run["generators"])
