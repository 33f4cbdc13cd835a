"""How the packaged demonstrations are made: which expert, how often, and how much worse on purpose."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import gymnasium_robotics
import numpy as np

from demos.experts import fetch
from demos.experts.classic_control import pump_and_catch, push_along
from demos.experts.maze import Waypoints
from demos.experts.metaworld import shipped_policy
from demos.experts.reacher import reach_with_arm
from demos.experts.walker import Walker
from demos.experts.worse import Coarse, Expert, clumsy
from sb3_pgfd.demonstrations import Demonstrations
from sb3_pgfd.demonstrations.recording.policy import scripted_expert
from sb3_pgfd.environments import register

gym.register_envs(gymnasium_robotics)
# Without importing Meta-World: only who makes its demonstrations needs it
register()


@dataclass(frozen=True)
class Recipe:
    name: str
    env_id: str
    expert: Callable[[gym.Env], Expert]
    """Makes the controller"""
    n_episodes: int
    action_noise: float
    producer: str
    worsen: Callable[[Expert], Expert] = lambda expert: expert
    """What makes it worse, besides the noise"""
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    """Of the first episode"""
    successes_only: bool = False
    n_recorded: int | None = None
    """Episodes to choose from, None: they are all kept"""
    worth: Callable[[Demonstrations], np.ndarray] | None = None
    """Of each episode that was recorded: the best are kept, in the order in which they were recorded"""
    observation_bits: int | None = None
    """Significant ones that are kept, None: all"""
    chaotic: bool = False
    """Whether differences in the last bits of the physics grow to other episodes"""
    physics: str | None = None
    """The package that simulates bodies, whose version decides those last bits; None: NumPy alone"""


def way_to_go(demonstrations: Demonstrations) -> np.ndarray:
    """
    :param demonstrations: With goals in their observations
    :return: 1 for each episode that begins away from its goal, 0 for one that is solved by chance and teaches nothing
    """
    observations = demonstrations.observations
    assert isinstance(observations, Mapping)
    missing = (observations["desired_goal"] - observations["achieved_goal"])[demonstrations.episode_starts]
    return (np.linalg.norm(missing, axis=1) > 0.05).astype(float)


NOISE = "with noise (demos/make_demos.py)"
WAYPOINTS = f"scripted: waypoints for the gripper, {NOISE}"
SHIPPED = f"scripted: Meta-World's own policy, {NOISE}"
PATH = f"scripted: shortest path through the cells and a PD controller, {NOISE}"

RECIPES = (
    Recipe(
        name="Pendulum-v1",
        env_id="Pendulum-v1",
        expert=lambda env: pump_and_catch,
        n_episodes=5,
        action_noise=0.8,
        producer=f"scripted: energy pumping and a PD controller, {NOISE}",
    ),
    Recipe(
        name="Pendulum-v1-20",
        env_id="Pendulum-v1",
        expert=lambda env: pump_and_catch,
        n_episodes=20,
        action_noise=0.3,
        producer=f"scripted: energy pumping and a PD controller, {NOISE}",
    ),
    Recipe(
        name="LunarLanderContinuous-v3",
        env_id="LunarLanderContinuous-v3",
        expert=scripted_expert,
        n_episodes=20,
        action_noise=0.1,
        producer=f"scripted: Gymnasium's own heuristic, {NOISE}",
        chaotic=True,
        physics="box2d",
    ),
    Recipe(
        name="MountainCarContinuous-v0",
        env_id="MountainCarContinuous-v0",
        expert=lambda env: push_along,
        worsen=lambda expert: clumsy(expert, share=0.2),
        n_episodes=3,
        action_noise=0.1,
        producer="scripted: full throttle along the speed, the wrong way in a fifth of the steps (demos/make_demos.py)",
    ),
    Recipe(
        name="FetchReach-v4",
        env_id="FetchReach-v4",
        expert=lambda env: fetch.reach,
        n_episodes=10,
        action_noise=0.1,
        producer=WAYPOINTS,
        successes_only=True,
        n_recorded=12,
        worth=way_to_go,
        physics="mujoco",
    ),
    Recipe(
        name="FetchPush-v4",
        env_id="FetchPush-v4",
        expert=lambda env: fetch.push,
        n_episodes=20,
        action_noise=0.1,
        producer=WAYPOINTS,
        successes_only=True,
        n_recorded=25,
        worth=way_to_go,
        chaotic=True,
        physics="mujoco",
    ),
    Recipe(
        name="FetchPickAndPlace-v4",
        env_id="FetchPickAndPlace-v4",
        expert=lambda env: fetch.pick_and_place,
        n_episodes=20,
        action_noise=0.1,
        producer=WAYPOINTS,
        successes_only=True,
        n_recorded=25,
        worth=way_to_go,
        chaotic=True,
        physics="mujoco",
    ),
    Recipe(
        name="Reacher-v5",
        env_id="Reacher-v5",
        expert=lambda env: reach_with_arm,
        n_episodes=20,
        # Twice as much would cost more than a quarter of the return: the torques are in the reward
        action_noise=0.05,
        producer=f"scripted: inverse kinematics and a PD controller, {NOISE}",
        physics="mujoco",
    ),
    Recipe(
        name="BipedalWalker-v3",
        env_id="BipedalWalker-v3",
        expert=lambda env: Walker(),
        # Noise of 0.03 makes it fall in one of ten episodes, of 0.1 in nearly all
        worsen=lambda expert: Coarse(expert, noise=0.02, step=1 / 128),
        n_episodes=20,
        action_noise=0.0,
        producer="scripted: Gymnasium's heuristic with other gains, with noise of 0.02 and actions in steps of 1/128; "
        "observations are rounded to 14 bits (demos/make_demos.py)",
        # This environment goes on with the same Box2D world, so an episode depends on those before: only when none is left
        # out can they be played back. From this seed on 20 in a row are good
        seed=700,
        observation_bits=14,
        chaotic=True,
        physics="box2d",
    ),
    Recipe(
        name="PointMaze_UMaze-v3",
        env_id="PointMaze_UMaze-v3",
        env_kwargs={"continuing_task": False},
        expert=Waypoints,
        n_episodes=10,
        action_noise=0.1,
        producer=PATH,
        successes_only=True,
        physics="mujoco",
    ),
    Recipe(
        name="PointMaze_Medium-v3",
        env_id="PointMaze_Medium-v3",
        env_kwargs={"continuing_task": False},
        expert=Waypoints,
        n_episodes=10,
        action_noise=0.1,
        producer=PATH,
        successes_only=True,
        physics="mujoco",
    ),
    Recipe(
        name="SparsePegInsertSide-v3",
        env_id="SparsePegInsertSide-v3",
        expert=shipped_policy,
        n_episodes=10,
        action_noise=0.1,
        producer=SHIPPED,
        successes_only=True,
        chaotic=True,
        physics="mujoco",
    ),
    Recipe(
        name="SparseAssembly-v3",
        env_id="SparseAssembly-v3",
        expert=shipped_policy,
        n_episodes=10,
        action_noise=0.1,
        producer=SHIPPED,
        successes_only=True,
        chaotic=True,
        physics="mujoco",
    ),
)
