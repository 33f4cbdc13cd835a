"""The six tasks with sparse rewards: environments, experts, and what a method has to know of each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import suite_paths  # noqa: F401  # makes `experts` importable
from experts import fetch
from experts.classic_control import push_along
from experts.maze import Waypoints
from experts.metaworld import shipped_policy
from experts.worse import Expert, clumsy

from sb3_pgfd.environments import register
from sb3_pgfd.extractors import RelativePositions
from sb3_pgfd.wrappers import ReportSuccess
from sb3_pgfd.zoo.environments import register_environments

# In silence, which importing gymnasium-robotics is not
register_environments()
register()


@dataclass(frozen=True)
class Task:
    """An environment with a sparse reward."""

    name: str
    env_id: str
    expert: Callable[[gym.Env], Expert]
    """Makes the controller that demonstrates"""
    n_demos: int
    gamma: float
    q_range: tuple[float, float] | None
    """Smallest and largest possible return"""
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    wrapper: Callable[[gym.Env], gym.Env] = lambda env: env
    goal: bool = False
    """Whether hindsight can relabel its goals"""
    hindsight: bool = False
    """Whether ``her_ratio`` counts: where objects are carried, replaced goals slow DDPGfD (docs/decisions.md)"""
    policy_kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Of the networks of all methods, unless a method has its own"""
    eval_envs: int = 5
    """Environments that are evaluated side by side: making one costs as much as several episodes"""
    steps: int = 30_000

    def make_env(self) -> gym.Env:
        """:return: An environment that tells ``is_success``"""
        return self.wrapper(gym.make(self.env_id, **self.env_kwargs))


class ReachingEndsEpisode(gym.Wrapper):
    """An episode that ends before its time limit is a success."""

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """:param action: For the environment"""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, reward, terminated, truncated, {**info, "is_success": bool(terminated)}


TASKS = {
    task.name: task
    for task in (
        Task(
            name="mountain-car",
            env_id="MountainCarContinuous-v0",
            # The wrong way in a fifth of the steps, as in the packaged demonstrations
            expert=lambda env: clumsy(push_along, share=0.2),
            n_demos=1,
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
            n_demos=5,
            gamma=0.98,
            q_range=(0.0, 1.0),
            wrapper=ReportSuccess,
            goal=True,
            hindsight=True,
        ),
        Task(
            name="fetch-push",
            env_id="FetchPush-v4",
            expert=lambda env: fetch.push,
            n_demos=10,
            gamma=0.98,
            q_range=(-50.0, 0.0),
            goal=True,
            hindsight=True,
        ),
        Task(
            name="fetch-pick-and-place",
            env_id="FetchPickAndPlace-v4",
            expert=lambda env: fetch.pick_and_place,
            n_demos=10,
            gamma=0.98,
            q_range=(-50.0, 0.0),
            goal=True,
        ),
        Task(
            name="peg-insert-side",
            env_id="SparsePegInsertSide-v3",
            expert=shipped_policy,
            n_demos=10,
            gamma=0.98,
            q_range=(0.0, 1.0),
            # The ways from the hand to the peg, and from the peg to the hole
            policy_kwargs={
                "features_extractor_class": RelativePositions,
                "features_extractor_kwargs": {"pairs": ((0, 4), (4, 36)), "scale": 10.0},
            },
        ),
        Task(
            name="assembly",
            env_id="SparseAssembly-v3",
            expert=shipped_policy,
            n_demos=10,
            gamma=0.98,
            q_range=(0.0, 1.0),
        ),
    )
}
