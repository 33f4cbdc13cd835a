"""The point that has to come to a goal, with rewards in another unit."""

import gymnasium as gym
import point_to_goal  # registers the environment

from sb3_pgfd import Demonstrations
from sb3_pgfd.demonstrations import record


def scaled_env(scale: float) -> gym.Env:
    """:param scale: What rewards are multiplied with"""
    return gym.wrappers.TransformReward(gym.make("PointToGoal-v0"), lambda reward: scale * float(reward))


def scaled_demonstrations(scale: float) -> Demonstrations:
    """:param scale: Likewise; the episodes are always the same"""
    return record(point_to_goal.to_goal, scaled_env(scale), 3, seed=0)
