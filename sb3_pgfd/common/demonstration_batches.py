"""Batches of demonstrations: actions for an actor to clone, and returns for a critic to learn."""

from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.type_aliases import PyTorchObs
from stable_baselines3.common.utils import obs_as_tensor
from stable_baselines3.common.vec_env import VecNormalize

from sb3_pgfd.demonstrations import Demonstrations
from sb3_pgfd.demonstrations.arrays import discounted_returns, map_observations


class CloningBatch(NamedTuple):
    """M transitions (s, a) of demonstrations and their rows in the dataset. Actions are as the policy draws them."""

    rows: np.ndarray
    observations: PyTorchObs
    actions: th.Tensor


class DemonstrationBatches:
    """
    Draws batches of demonstrations.

    :param demonstrations: A dataset that fits the policy's spaces
    :param policy: The policy that learns from them
    :param gamma: Discount factor of the returns
    :param env: Wrapper to normalise observations and rewards with, None: none. Observations are normalised with its
        statistics at the time of the draw, rewards with those at the time of the first targets
    """

    def __init__(self, demonstrations: Demonstrations, policy: BasePolicy, gamma: float, env: VecNormalize | None = None):
        self.demonstrations = demonstrations
        self.policy = policy
        self.gamma = gamma
        self.env = env

    def sample(self, batch_size: int) -> CloningBatch:
        """:param batch_size: M, drawn uniformly with replacement"""
        return self.at(np.random.randint(0, len(self.demonstrations), size=batch_size))

    def at(self, rows: np.ndarray) -> CloningBatch:
        """:param rows: Of the dataset, shape ``(M,)``"""
        actions = self.demonstrations.actions[rows]
        if isinstance(self.policy.action_space, (spaces.Discrete, spaces.MultiDiscrete)):
            actions = actions.astype(np.int64)
        else:
            # A squashed distribution draws actions in [-1, 1]
            actions = self.policy.scale_action(actions) if self.policy.squash_output else actions
            actions = actions.reshape(len(rows), -1).astype(np.float32)
        observations = self._observations(self.demonstrations.observations, rows)
        return CloningBatch(rows, observations, th.as_tensor(actions, device=self.policy.device))

    @th.no_grad()
    def value_targets(self, rows: np.ndarray) -> th.Tensor:
        """
        :param rows: Rows of a batch, shape ``(M,)``
        :return: G + gamma^k V(end), shape ``(M,)``: G is the sum of gamma^i r_i over the k steps to the end of the episode,
            and the second term is left out if the episode terminated
        """
        assert isinstance(self.policy, ActorCriticPolicy)
        last_rows, returns, end_discounts = self._columns
        end_observations = self._observations(self.demonstrations.next_observations, last_rows[rows])
        return returns[rows] + end_discounts[rows] * self.policy.predict_values(end_observations).flatten()

    @cached_property
    def _columns(self) -> tuple[np.ndarray, th.Tensor, th.Tensor]:
        """For each row: the last row of its episode, G, and gamma^k (1 - terminated)."""
        lengths, rewards = self.demonstrations.episode_lengths, self.demonstrations.rewards
        if self.env is not None:
            rewards = self.env.normalize_reward(rewards)
        last_rows = np.repeat(np.cumsum(lengths) - 1, lengths)
        steps_to_end = last_rows - np.arange(len(last_rows)) + 1
        returns = discounted_returns(rewards, lengths, self.gamma)
        end_discounts = self.gamma**steps_to_end * ~self.demonstrations.terminated[last_rows]
        first, second = (
            th.as_tensor(array, dtype=th.float32, device=self.policy.device) for array in (returns, end_discounts)
        )
        return last_rows, first, second

    def _observations(self, stored: Any, rows: np.ndarray) -> PyTorchObs:
        taken: Any = map_observations(stored, lambda array: array[rows])
        return obs_as_tensor(taken if self.env is None else self.env.normalize_obs(taken), self.policy.device)


def join_observations(first: Any, second: Any) -> Any:
    """:return: The rows of the second observations below those of the first, both tensors or dicts of tensors"""
    if isinstance(first, dict):
        return {key: join_observations(array, second[key]) for key, array in first.items()}
    # SB3's rollouts store a Discrete observation in a column of its own
    return th.cat([first, second.reshape(-1, *first.shape[1:])])
