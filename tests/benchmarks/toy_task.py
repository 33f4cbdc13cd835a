"""A task for the sparse suite that takes seconds: a point has to reach a goal."""

from dataclasses import replace
from typing import Any

import goal_line
import gymnasium as gym
import point_to_goal

from benchmarks.sparse_suite.tasks import Task


class Breaks(gym.Wrapper):
    """An environment that fails at its 75th step. Evaluations in the tests are shorter, so it fails while the agent learns."""

    def __init__(self, env: gym.Env):
        super().__init__(env)
        self.n_steps = 0

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        self.n_steps += 1
        if self.n_steps == 75:
            raise RuntimeError("the simulator\nbroke")
        return super().step(action)


gym.register("GoalLine-v0", "goal_line:GoalLineThatEnds", max_episode_steps=20)

TOY = Task(
    name="toy",
    env_id="PointToGoal-v0",
    expert=lambda env: point_to_goal.to_goal,
    demos=(2,),
    gamma=0.9,
    q_range=(0.0, 1.0),
    eval_envs=2,
    steps=100,
)
BREAKING = replace(TOY, eval_envs=3, wrapper=Breaks)
TOY_WITH_GOALS = replace(TOY, env_id="GoalLine-v0", expert=lambda env: goal_line.straight, q_range=(-10.0, 0.0), goal=True)
