"""A task with choices for actions."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

CHOICES: list[spaces.Space] = [spaces.Discrete(3), spaces.MultiDiscrete([2, 3]), spaces.MultiBinary(2)]


class PickZero(gym.Env):
    """Pays 0.1 times the share of choices that are 0, in episodes of 3 to 9 steps that end in both ways."""

    observation_space = spaces.Box(0.0, 1.0, (2,))

    def __init__(self, action_space: spaces.Space):
        self.action_space = action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.time, self.length = 0, int(self.np_random.integers(3, 10))
        return self._observe(0.0), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action)
        self.time += 1
        share = float(np.mean(np.equal(action, 0)))
        over = self.time == self.length
        return self._observe(share), 0.1 * share, over and self.length > 5, over and self.length <= 5, {}

    def _observe(self, share: float) -> np.ndarray:
        return np.array([self.time / 10, share], dtype=np.float32)


def pick_zero(action_space: spaces.Space, n_envs: int = 1) -> VecEnv:
    return DummyVecEnv([lambda: PickZero(action_space)] * n_envs)


def always(action_space: spaces.Space, choice: int) -> Any:
    """:return: The action that makes each of its choices this one, as the environment takes it"""
    if isinstance(action_space, spaces.Discrete):
        return choice
    return np.full(action_space.shape, choice, dtype=action_space.dtype)
