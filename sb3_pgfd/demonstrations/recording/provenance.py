"""Where recorded episodes come from, for the metadata."""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import stable_baselines3 as sb3
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec

from sb3_pgfd.demonstrations.episode import Episode
from sb3_pgfd.demonstrations.spaces import space_to_json


def describe_env(env: gym.Env) -> dict[str, Any]:
    """
    :param env: What is recorded from
    :return: Its id, the arguments it was made with and its spaces, to be settings of a recording
    :raises DemonstrationsError: If a space is of another kind than demonstrations can have
    """
    made = describe_spec(env.spec) if env.spec else {"env_id": type(env.unwrapped).__name__, "env_kwargs": {}}
    return {**made, **describe_spaces(env.observation_space, env.action_space)}


def describe_spec(spec: EnvSpec) -> dict[str, Any]:
    """:param spec: Of an environment that was made by its id"""
    # How it is watched does not change what is recorded
    return {"env_id": spec.id, "env_kwargs": {key: value for key, value in spec.kwargs.items() if key != "render_mode"}}


def describe_spaces(observation_space: spaces.Space, action_space: spaces.Space) -> dict[str, Any]:
    """
    :param observation_space: Of the observations as they are recorded
    :param action_space: Of the environment
    """
    return {"observation_space": space_to_json(observation_space), "action_space": space_to_json(action_space)}


def describe_episodes(episodes: Sequence[Episode]) -> dict[str, Any]:
    """
    :param episodes: All that were kept
    :return: How good they are and what they were recorded with, to be metadata of the finished recording
    """
    successes = [episode.success for episode in episodes]
    return {
        # An environment may report successes alone
        "success_rate": None if set(successes) == {None} else float(np.mean([bool(success) for success in successes])),
        "mean_return": float(np.mean([episode.rewards.sum() for episode in episodes])),
        "versions": {"gymnasium": gym.__version__, "numpy": np.__version__, "stable_baselines3": sb3.__version__},
    }
