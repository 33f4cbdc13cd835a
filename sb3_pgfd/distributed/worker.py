"""Environments in a process of Ray."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_pgfd.common.environment_state import make_resumable
from sb3_pgfd.distributed.acting import ActingCopy, Block, Request, Result


class LostEpisodesError(Exception):
    """Ray has made the worker anew, and its environments know nothing of the episodes that were running."""


class Start(NamedTuple):
    """How a worker begins its episodes."""

    life: int
    """Number of the beginning, at least 1"""
    seeds: list[int | None]
    options: list[dict[str, Any]]
    attributes: Sequence[Mapping[str, Any]]
    """What was set in each environment; only for new ones"""
    resumable: bool
    """Whether the environments remember their episodes"""


class EnvWorker:
    """
    Some environments, stepped one after the other. Ray makes it anew if its process or node dies: then its life is 0.

    :param env_fns: Make the environments
    """

    def __init__(self, env_fns: Sequence[Callable[[], gym.Env]]):
        self.envs = DummyVecEnv(list(env_fns))
        self._life = 0
        self._obs: Any = None
        self._copy: ActingCopy | None = None

    def begin(self, life: int) -> tuple[gym.Space, gym.Space]:
        """:return: Spaces of observations and actions"""
        self._life = life
        return self.envs.observation_space, self.envs.action_space

    def reset(self, start: Start) -> tuple[Any, Sequence[dict[str, Any]]]:
        """:return: The first observations, and the infos of the reset"""
        if start.resumable:
            make_resumable(self.envs)
        if self._life == 0:
            for env, attributes in zip(self.envs.envs, start.attributes, strict=True):
                for name, value in attributes.items():
                    setattr(env, name, value)
        self.envs._seeds, self.envs._options = list(start.seeds), list(start.options)
        self._life, self._copy = start.life, None
        self._obs = self.envs.reset()
        return self._obs, self.envs.reset_infos

    def step(self, life: int, actions: np.ndarray) -> Result:
        """
        :param life: In which the actions were chosen
        :param actions: One for each environment
        :raises LostEpisodesError: If it is another life. No step is taken then
        """
        self._check(life)
        self._obs, rewards, dones, infos = self.envs.step(actions)
        return Result(self._obs, rewards, dones, infos, list(self.envs.reset_infos))

    def call(self, life: int, method: str, indices: Sequence[int], *args: Any, **kwargs: Any) -> Any:
        """:return: What a method of ``VecEnv`` gives for some of the environments"""
        self._check(life)
        return getattr(self.envs, method)(*args, indices=list(indices), **kwargs)

    def make_resumable(self, life: int) -> None:
        """Let the environments remember their episodes."""
        self._check(life)
        make_resumable(self.envs)

    def copy_policy(self, life: int, model: Any, noise: Any, n_envs: int, n_envs_of_all: int) -> None:
        """Choose the actions of :meth:`collect` like a model from now on, see :class:`ActingCopy`."""
        self._check(life)
        # Ray's memory is shared, and read-only
        self._copy = ActingCopy(deepcopy(model), noise, n_envs, n_envs_of_all)

    def collect(self, life: int, request: Request, state: Mapping[str, Any]) -> Block:
        """
        Take some steps with the copy of the policy.

        :param life: In which they are to be taken
        :param request: How many, and of which number
        :param state: Weights of the policy
        :raises LostEpisodesError: If it is another life. No step is taken then
        """
        self._check(life)
        assert self._copy is not None
        return self._copy.collect(request, state, self._obs, lambda actions: self.step(life, actions))

    def close(self) -> None:
        """Close the environments."""
        self.envs.close()

    def _check(self, life: int) -> None:
        if life != self._life:
            raise LostEpisodesError(f"found a worker in its life {self._life}, expected {life}")
