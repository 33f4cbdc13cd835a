"""An environment whose rewards and ends are written down beforehand, for numbers computed by hand."""

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces

ACTIONS = spaces.Box(-1.0, 1.0, (1,))


class Clockwork(gym.Env):
    """
    Whatever is done, step t of an episode leads from the state t to t + 1 and gives the t-th reward.

    :param rewards: Of an episode, which ends with the last one
    :param terminated: Whether its end is one, or a time limit
    :param action_space: Of which any action will do
    """

    observation_space = spaces.Box(-100.0, 100.0, (1,))

    def __init__(self, rewards: Sequence[float], terminated: bool = True, action_space: spaces.Space = ACTIONS):
        self.rewards, self.terminated = rewards, terminated
        self.action_space = action_space
        self.time = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.time = 0
        return self._observe(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), action
        reward = self.rewards[self.time]
        self.time += 1
        over = self.time == len(self.rewards)
        return self._observe(), reward, over and self.terminated, over and not self.terminated, {}

    def _observe(self) -> np.ndarray:
        return np.full(1, self.time, dtype=np.float32)


def clockwork(*args: Any, **kwargs: Any) -> Callable[[], Clockwork]:
    """:return: Makes such an environment"""
    return lambda: Clockwork(*args, **kwargs)


def set_linear(layer: th.nn.Module, weight: float, bias: float) -> None:
    """:param layer: Whose every output becomes ``weight`` times the sum of its inputs plus ``bias``"""
    assert isinstance(layer, th.nn.Linear)
    th.nn.init.constant_(layer.weight, weight)
    th.nn.init.constant_(layer.bias, bias)
