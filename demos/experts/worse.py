"""Experts that are made worse on purpose: demonstrations need not be perfect, and slips show how to recover."""

from collections.abc import Callable
from typing import Any

import numpy as np

Expert = Callable[[Any], np.ndarray]
"""From an observation to an action; if it has a method ``reset``, that is called when an episode begins"""


def clumsy(expert: Expert, share: float, seed: int = 0) -> Expert:
    """
    :param expert: A controller
    :param share: Share of the steps in which it does the opposite
    :param seed: Which steps
    :return: A worse controller
    """
    rng = np.random.default_rng(seed)

    def act(observation: Any) -> np.ndarray:
        return expert(observation) * (-1.0 if rng.random() < share else 1.0)

    return act


class Coarse:
    """
    Gaussian noise on the actions, which then come in steps: few different numbers make small files.

    :param expert: A controller of actions in [-1, 1]
    :param noise: Standard deviation
    :param step: Between two actions
    :param seed: Of the noise
    """

    def __init__(self, expert: Expert, noise: float, step: float, seed: int = 0):
        self.expert, self.noise, self.step = expert, noise, step
        self._rng = np.random.default_rng(seed)

    def reset(self) -> None:
        """An episode begins."""
        reset = getattr(self.expert, "reset", None)
        if callable(reset):
            reset()

    def __call__(self, observation: Any) -> np.ndarray:
        """
        :param observation: Of the environment
        :return: An action in [-1, 1]
        """
        action = self.expert(observation)
        action = action + self.noise * self._rng.standard_normal(action.shape)
        return np.clip(np.round(action / self.step) * self.step, -1.0, 1.0).astype(np.float32)
