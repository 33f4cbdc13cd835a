"""A goal environment of the kind that gymnasium-robotics has, small enough to compute everything by hand."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv

TOLERANCE = 0.25
NUMBER = spaces.Box(-np.inf, np.inf, (1,), np.float64)
GOAL_SPACE = spaces.Dict({"observation": NUMBER, "achieved_goal": NUMBER, "desired_goal": NUMBER})
ACTION_SPACE = spaces.Box(-1.0, 1.0, (1,), np.float32)
Observation = dict[str, np.ndarray]


class GoalLine(gym.Env):
    """A point on a line moves by its action. The reward is 0 within 0.25 of the goal, -1 elsewhere."""

    def __init__(self) -> None:
        self.observation_space = GOAL_SPACE
        self.action_space = ACTION_SPACE
        self.position, self.goal = np.zeros(1), np.zeros(1)

    def compute_reward(self, achieved_goal: np.ndarray, desired_goal: np.ndarray, info: Any) -> np.ndarray:
        distance = np.linalg.norm(np.asarray(achieved_goal) - desired_goal, axis=-1)
        return -1.0 * (distance > TOLERANCE)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, dict[str, Any]]:
        super().reset(seed=seed)
        self.position, self.goal = self.np_random.uniform(-2.0, 2.0, size=(2, 1))
        return self._observe(), {}

    def step(self, action: np.ndarray) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        self.position = self.position + np.asarray(action, dtype=np.float64)
        reward = float(self.compute_reward(self.position, self.goal, {}))
        return self._observe(), reward, self._is_over(), False, {"is_success": reward == 0.0}

    def _is_over(self) -> bool:
        return False

    def _observe(self) -> Observation:
        return {"observation": self.position, "achieved_goal": self.position, "desired_goal": self.goal}


class GoalLineThatEnds(GoalLine):
    """The episode is over when the goal is reached. Like the mazes', its test takes one goal at a time."""

    def compute_terminated(self, achieved_goal: np.ndarray, desired_goal: np.ndarray, info: Any) -> bool:
        assert achieved_goal.shape == desired_goal.shape == (1,)
        return bool(np.linalg.norm(achieved_goal - desired_goal) <= TOLERANCE)

    def _is_over(self) -> bool:
        return self.compute_terminated(self.position, self.goal, {})


class GoalLineThatGoesOn(GoalLine):
    """The same question, another answer: like Fetch's."""

    def compute_terminated(self, achieved_goal: np.ndarray, desired_goal: np.ndarray, info: Any) -> bool:
        return False


class GoalLineUnsaid(GoalLine):
    """The method is there, as in gymnasium-robotics' base class, and not written."""

    def compute_terminated(self, achieved_goal: np.ndarray, desired_goal: np.ndarray, info: Any) -> bool:
        raise NotImplementedError


class GoalLineOneByOne(GoalLine):
    """Computes one reward at a time."""

    def compute_reward(self, achieved_goal: np.ndarray, desired_goal: np.ndarray, info: Any) -> np.ndarray:
        return np.asarray(-1.0)


def goal_vec_env(kind: type[GoalLine] = GoalLine, n_envs: int = 1) -> DummyVecEnv:
    """:param kind: Which of the above; episodes end after 10 steps"""
    return DummyVecEnv([lambda: gym.wrappers.TimeLimit(kind(), 10)] * n_envs)


def straight(observation: Observation) -> np.ndarray:
    """A controller that goes to the goal."""
    return np.clip(observation["desired_goal"] - observation["achieved_goal"], -1.0, 1.0).astype(np.float32)
