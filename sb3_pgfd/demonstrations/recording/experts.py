"""Gymnasium's own scripted experts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np

from sb3_pgfd.demonstrations.errors import DemonstrationsError

Expert = Callable[[Any], Any]


def scripted_expert(env: gym.Env) -> Expert:
    """
    The expert that Gymnasium ships with an environment, to give to :func:`~sb3_pgfd.demonstrations.record`. The walker's
    falls in most episodes: load those with a ``min_return`` of 200 only.

    :param env: Is looked at by the expert for what its observations do not say, whether the actions are continuous
    :return: From an observation to an action
    :raises DemonstrationsError: If Gymnasium has none for it
    """
    # By names: the modules need Box2D, and are loaded if there is such an environment
    for cls in type(env.unwrapped).__mro__:
        make = EXPERTS.get(f"{cls.__module__}:{cls.__qualname__}")
        if make is not None:
            return make(env)
    raise DemonstrationsError(
        f"expert: found {env.spec.id if env.spec else env.unwrapped}, expected an environment that Gymnasium has an expert "
        f"for: {', '.join(name.split(':')[1] for name in EXPERTS)}. Write one as a function (--policy file.py:function)"
    )


def _lunar_lander(env: gym.Env) -> Expert:
    from gymnasium.envs.box2d.lunar_lander import heuristic

    def lunar_lander(observation: np.ndarray) -> Any:
        return heuristic(env, observation)

    return lunar_lander


def _bipedal_walker(env: gym.Env) -> Expert:
    return BipedalWalkerExpert()


class BipedalWalkerExpert:
    """It knows which leg it stands on: :meth:`reset` is called when an episode begins."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        from gymnasium.envs.box2d.bipedal_walker import BipedalWalkerHeuristics

        self._heuristics = BipedalWalkerHeuristics()

    def __call__(self, observation: np.ndarray) -> np.ndarray:
        return self._heuristics.step_heuristic(observation)


EXPERTS: dict[str, Callable[[gym.Env], Expert]] = {
    "gymnasium.envs.box2d.lunar_lander:LunarLander": _lunar_lander,
    "gymnasium.envs.box2d.bipedal_walker:BipedalWalker": _bipedal_walker,
}
"""What makes the expert, by the environment's class"""
