"""The time limit of an environment, which is not among its own arguments, but among those of ``gymnasium.make``."""

from collections.abc import Mapping
from typing import Any

import gymnasium as gym


def with_time_limit(env_id: str, env_kwargs: Mapping[str, Any], limit: int | None) -> dict[str, Any]:
    """
    :param env_id: Id of the environment
    :param env_kwargs: Its own arguments
    :param limit: Its time limit, None: it has none
    :return: What makes it again: with ``max_episode_steps`` where the registered limit is another one; -1 stands for none
    """
    registered = gym.registry.get(env_id)
    if registered is None or limit == registered.max_episode_steps:
        return dict(env_kwargs)
    return {**env_kwargs, "max_episode_steps": -1 if limit is None else limit}


def time_limit(env_id: str, env_kwargs: Mapping[str, Any]) -> int | None:
    """
    :param env_id: Id of the environment
    :param env_kwargs: Arguments of ``gymnasium.make``
    :return: Steps until an episode is truncated, None: for ever, or the environment is not registered
    """
    registered, limit = gym.registry.get(env_id), env_kwargs.get("max_episode_steps")
    if limit is None and registered is not None:
        limit = registered.max_episode_steps
    return None if limit == -1 else limit
