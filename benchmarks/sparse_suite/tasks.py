"""The tasks with sparse rewards: their environments, their experts, and the demonstrations that all methods share."""

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from demos.experts import fetch
from demos.experts.classic_control import push_along
from demos.experts.door import DoorPlanner
from demos.experts.maze import Waypoints
from demos.experts.metaworld import shipped_policy
from demos.experts.worse import Expert, clumsy
from sb3_pgfd.demonstrations import Demonstrations, record
from sb3_pgfd.environments import register
from sb3_pgfd.extractors import RelativePositions
from sb3_pgfd.wrappers import ReportSuccess, SuccessReward
from sb3_pgfd.zoo.command_line import register_environments

# Importing gymnasium-robotics prints a note; this registers its environments without it
register_environments()
register()

DEMONSTRATION_NOISE = 0.1
"""Standard deviation of the expert's action noise, in units of half the action range"""
FIRST_DEMONSTRATION_SEED = 20_000
"""Evaluations start at seed 10,000 or 50,000, learning starts at the seed of the run"""


@dataclass(frozen=True)
class Task:
    """An environment with a sparse reward."""

    name: str
    env_id: str
    expert: Callable[[gym.Env], Expert]
    """Makes the controller that demonstrates"""
    demos: tuple[int, ...]
    """Numbers of demonstrated episodes in the main comparison"""
    gamma: float
    q_range: tuple[float, float] | None
    """Smallest and largest possible return"""
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    wrapper: Callable[[gym.Env], gym.Env] = lambda env: env
    goal: bool = False
    """Whether hindsight can relabel its goals"""
    policy_kwargs: Mapping[str, Any] = field(default_factory=dict)
    """For the networks of all methods; a method's own options override them"""
    expert_plans: bool = False
    """Whether the expert plans whole episodes in its environment, so that it cannot act in others"""
    eval_envs: int = 5
    """Number of environments evaluated side by side: making one costs as much as several episodes"""
    steps: int = 20_000

    @property
    def n_demos(self) -> int:
        """The usual number of demonstrated episodes"""
        return self.demos[0]

    def make_env(self) -> gym.Env:
        """:return: An environment that reports ``is_success``"""
        return self.wrapper(gym.make(self.env_id, **self.env_kwargs))


class ReachingEndsEpisode(gym.Wrapper):
    """An episode that ends before its time limit is a success."""

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """:param action: Action for the environment"""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, reward, terminated, truncated, {**info, "is_success": bool(terminated)}


# Of Meta-World's observations: the vectors from the hand to the object, and from the object to its goal
_HAND_OBJECT_GOAL: Mapping[str, Any] = {
    "features_extractor_class": RelativePositions,
    "features_extractor_kwargs": {"pairs": ((0, 4), (4, 36)), "scale": 10.0},
}

TASKS = {
    task.name: task
    for task in (
        Task(
            name="mountain-car",
            env_id="MountainCarContinuous-v0",
            # It goes the wrong way in a fifth of the steps, as in the packaged demonstrations
            expert=lambda env: clumsy(push_along, share=0.2),
            demos=(1,),
            gamma=0.99,
            q_range=None,
            wrapper=ReachingEndsEpisode,
            eval_envs=50,
        ),
        Task(
            name="maze-medium",
            env_id="PointMaze_Medium-v3",
            env_kwargs={"continuing_task": False},
            expert=Waypoints,
            demos=(5,),
            # Its ways take up to 170 steps, of which a discount of 0.98 would leave 3 %
            gamma=0.99,
            q_range=(0.0, 1.0),
            wrapper=ReportSuccess,
            goal=True,
        ),
        Task(
            name="fetch-push",
            env_id="FetchPush-v4",
            expert=lambda env: fetch.push,
            demos=(10,),
            gamma=0.98,
            q_range=(-50.0, 0.0),
            goal=True,
            # The vectors from the gripper to the block, and from the block to the goal
            policy_kwargs={
                "features_extractor_class": RelativePositions,
                "features_extractor_kwargs": {
                    "pairs": ((("observation", 0), "achieved_goal"), ("achieved_goal", "desired_goal")),
                    "scale": 30.0,
                },
            },
        ),
        Task(
            name="fetch-pick-and-place",
            env_id="FetchPickAndPlace-v4",
            expert=lambda env: fetch.pick_and_place,
            demos=(10,),
            gamma=0.98,
            q_range=(-50.0, 0.0),
            goal=True,
        ),
        Task(
            name="peg-insert-side",
            env_id="SparsePegInsertSide-v3",
            expert=shipped_policy,
            demos=(3, 1),
            gamma=0.98,
            q_range=(0.0, 1.0),
            policy_kwargs=_HAND_OBJECT_GOAL,
        ),
        Task(
            name="assembly",
            env_id="SparseAssembly-v3",
            expert=shipped_policy,
            demos=(3,),
            gamma=0.98,
            q_range=(0.0, 1.0),
            policy_kwargs=_HAND_OBJECT_GOAL,
        ),
        # No setting was chosen on the two last ones
        Task(
            name="pick-place-wall",
            env_id="SparsePickPlaceWall-v3",
            expert=shipped_policy,
            demos=(10,),
            gamma=0.98,
            q_range=(0.0, 1.0),
            policy_kwargs=_HAND_OBJECT_GOAL,
        ),
        Task(
            name="door",
            env_id="AdroitHandDoorSparse-v1",
            expert=DoorPlanner,
            expert_plans=True,
            demos=(10,),
            gamma=0.98,
            q_range=(0.0, 1.0),
            wrapper=lambda env: SuccessReward(env, lambda observation, info: info["success"]),
        ),
    )
}


def demonstrations_of(task: Task, n_episodes: int, folder: Path) -> Demonstrations | None:
    """
    Load the demonstrations of a task. The first call records them into a file that git ignores.

    :param task: Task to demonstrate
    :param n_episodes: Number of episodes
    :param folder: Folder of the file
    :return: The first episodes of a fixed sequence of successes; None for 0 episodes
    """
    if n_episodes == 0:
        return None
    path = folder / f"{task.name}_{n_episodes}.npz"
    if not path.is_file():
        # Two processes that do this at the same time write the same file
        record_first(task, n_episodes).save(path, overwrite=True)
    return Demonstrations.load(path)


def record_first(task: Task, n_episodes: int) -> Demonstrations:
    """
    :param task: Task to demonstrate
    :param n_episodes: Number of episodes
    :return: The first successes of the expert with action noise that do not start at their goal
    """
    with closing(task.make_env()) as env:
        recorded = record(
            task.expert(env),
            env,
            # Some goals are reached by chance
            n_episodes + (2 + n_episodes // 5 if task.goal else 0),
            seed=FIRST_DEMONSTRATION_SEED,
            action_noise=DEMONSTRATION_NOISE,
            successes_only=True,
            producer=f"the expert of {task.name}, with noise (benchmarks/sparse_suite)",
        )
    return recorded.select(np.flatnonzero(_starts_away(recorded))[:n_episodes])


def _starts_away(recorded: Demonstrations) -> np.ndarray:
    """Whether each episode starts away from its goal. An episode that starts at its goal teaches nothing."""
    observations = recorded.observations
    if not isinstance(observations, Mapping):
        return np.ones(recorded.n_episodes, dtype=bool)
    missing = observations["desired_goal"] - observations["achieved_goal"]
    return np.linalg.norm(missing[recorded.episode_starts], axis=1) > 0.05
