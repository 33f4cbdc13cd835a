"""A small environment to record from."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces


class Walk(gym.Env):
    """Three steps along a line. It writes every observation to the same array, and scales its action in place."""

    def __init__(self, terminates: bool = False, success_key: str | None = None, bound: float = 2.0):
        self.observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
        self.action_space = spaces.Box(-bound, bound, (1,), np.float32)
        self.terminates, self.success_key = terminates, success_key
        self.observation = np.zeros(2, dtype=np.float32)
        self.n_resets = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.n_resets += 1
        self.observation[:] = seed, 0
        return self.observation, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        reward = float(action[0])
        action *= 0
        self.observation[1] += 1
        over = bool(self.observation[1] == 3)
        return self.observation, reward, over and self.terminates, over and not self.terminates, self.info(over)

    def info(self, over: bool) -> dict[str, Any]:
        # Every second episode succeeds
        return {self.success_key: over and self.n_resets % 2 == 0} if self.success_key else {}


class ReportsSuccessesAlone(Walk):
    def info(self, over: bool) -> dict[str, Any]:
        return {"is_success": True} if over and self.n_resets % 2 == 0 else {}


def half(observation: Any) -> np.ndarray:
    return np.array([0.5], dtype=np.float32)
