"""A small world: a point that has to come to a goal, with five kinds of observations, and how it is watched."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.logger import KVWriter

GOAL = 0.8
SPACES: dict[str, spaces.Space] = {
    "box": spaces.Box(-1.0, 1.0, (1,)),
    "dict": spaces.Dict({"position": spaces.Box(-1.0, 1.0, (1,)), "goal": spaces.Box(-1.0, 1.0, (1,))}),
    "matrix": spaces.Box(-1.0, 1.0, (2, 3)),
    "image": spaces.Box(0, 255, (36, 36, 1), np.uint8),
    "dict_image": spaces.Dict({"position": spaces.Box(-1.0, 1.0, (1,)), "image": spaces.Box(0, 255, (36, 36, 1), np.uint8)}),
}


class PointToGoal(gym.Env):
    """A point moves by 0.05 of its action, of at most 2; the reward is 1 within 0.1 of the goal, which ends the episode."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012  # typed by gymnasium

    def __init__(self, view: str = "box", render_mode: str | None = None):
        self.render_mode = render_mode
        self.view = view
        self.observation_space = SPACES[view]
        self.action_space = spaces.Box(-2.0, 2.0, (1,))
        self.position = np.zeros(1, dtype=np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.position = self.np_random.uniform(-0.9, 0.0, size=1).astype(np.float32)
        return self._observe(), {}

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.position = np.clip(self.position + 0.05 * np.asarray(action, dtype=np.float32), -1.0, 1.0)
        success = bool(abs(self.position[0] - GOAL) < 0.1)
        return self._observe(), float(success), success, False, {"is_success": success}

    def _observe(self) -> Any:
        image = np.zeros((36, 36, 1), dtype=np.uint8)
        image[:, : int(18 * (self.position[0] + 1.0))] = 255
        return {
            "box": self.position.copy(),
            "dict": {"position": self.position.copy(), "goal": np.full(1, GOAL, dtype=np.float32)},
            "matrix": np.full((2, 3), self.position[0], dtype=np.float32),
            "image": image,
            "dict_image": {"position": self.position.copy(), "image": image},
        }[self.view]


gym.register("PointToGoal-v0", lambda **kwargs: PointToGoal(**kwargs), max_episode_steps=20)


def to_goal(observation: Any) -> np.ndarray:
    """A controller that needs no observation: the goal lies on the right."""
    return np.full(1, 1.9, dtype=np.float32)


class Recorder(KVWriter):
    """Keeps what is logged, one dict per dump."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        self.rows.append({**key_values, "step": step})

    def close(self) -> None:
        pass

    def column(self, name: str) -> list[Any]:
        return [row[name] for row in self.rows if name in row]
