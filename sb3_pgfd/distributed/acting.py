"""A copy of a policy that acts in a worker, and what it brings back."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch as th
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from sb3_pgfd.common.real_time import Choice


class Result(NamedTuple):
    """Of a step of some environments, the reset of those that ended included."""

    obs: Any
    rewards: np.ndarray
    dones: np.ndarray
    infos: Sequence[dict[str, Any]]
    reset_infos: Sequence[dict[str, Any]]


class Request(NamedTuple):
    """Steps that a worker is to take."""

    sequence: int
    """Of the worker's blocks, counted from 0: each number is asked for once"""
    n_steps: int
    seed: tuple[int, ...]
    """Of the random numbers of these steps, whichever process takes them"""
    learning_starts: int


class Block(NamedTuple):
    """Steps that a worker has taken."""

    sequence: int
    steps: list[tuple[Choice, Result]]


class ActingCopy:
    """
    Chooses actions like a model that learns elsewhere.

    :param model: Of :func:`~sb3_pgfd.common.acting.copy_to_act`
    :param noise: Exploration noise of the worker's environments
    :param n_envs: Environments of this worker
    :param n_envs_of_all: Environments of all workers, whose steps count together
    """

    def __init__(self, model: OffPolicyAlgorithm, noise: ActionNoise | None, n_envs: int, n_envs_of_all: int):
        self._model: Any = model
        self._noise, self._n_envs, self._n_envs_of_all = noise, n_envs, n_envs_of_all

    def collect(self, request: Request, state: Mapping[str, Any], obs: Any, step: Callable[[np.ndarray], Result]) -> Block:
        """
        :param request: Which steps
        :param state: Of :func:`~sb3_pgfd.common.acting.state_to_act`
        :param obs: Of the environments, now
        :param step: Takes a step of the environments
        """
        model = self._model
        self._load(state)
        self._seed(request.seed)
        steps = []
        for _ in range(request.n_steps):
            model._last_obs = obs if state["normalize"] is None else state["normalize"].normalize_obs(obs)
            actions, stored = model._sample_action(request.learning_starts, self._noise, self._n_envs)
            intended = model._policy_actions if model._needs_policy_actions() else None
            result = step(actions)
            obs = result.obs
            steps.append((Choice(actions, stored, intended, model._rollout_metrics.flush()), result))
            model.num_timesteps += self._n_envs_of_all
            if self._noise is not None:
                for index in np.flatnonzero(result.dones).tolist():
                    self._noise.reset(**({"indices": [index]} if self._n_envs > 1 else {}))
        return Block(request.sequence, steps)

    def _load(self, state: Mapping[str, Any]) -> None:
        # Copies, because Ray's memory is read-only
        weights = {name: th.tensor(values) for name, values in state["policy"].items()}
        self._model.policy.load_state_dict(weights, strict=False)
        vars(self._model).update(state["counters"])

    def _seed(self, seed: tuple[int, ...]) -> None:
        numpy, torch, space = np.random.SeedSequence(seed).generate_state(3).tolist()
        np.random.seed(numpy)
        th.manual_seed(torch)
        self._model.action_space.seed(space)
