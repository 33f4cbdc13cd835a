"""Demonstrations as A2CfD reads them: actions to clone, and what the critic learns about their states."""

from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.type_aliases import PyTorchObs
from stable_baselines3.common.utils import obs_as_tensor
from stable_baselines3.common.vec_env import VecNormalize

from sb3_pgfd.demonstrations import Demonstrations
from sb3_pgfd.demonstrations.arrays import map_observations


class CloningBatch(NamedTuple):
    """M transitions of demonstrations."""

    rows: np.ndarray
    """Which, shape ``(M,)``"""
    observations: PyTorchObs
    """s"""
    actions: th.Tensor
    """a, in environment units, shape ``(M, action_dim)``, or ``(M,)`` for Discrete"""


class ValueTargets(NamedTuple):
    """What the critic learns about the states of M transitions: G + gamma^k V(end), without the latter if terminated."""

    returns: th.Tensor
    """G, sum of gamma^i r_i to the end of the episode, shape ``(M,)``"""
    end_observations: PyTorchObs
    """The state that the episode ended in, M rows"""
    end_discounts: th.Tensor
    """gamma^k (1 - terminated) with the k steps to the end: what that state's value counts, shape ``(M,)``"""


class DemonstrationBatches:
    """
    Draws batches of demonstrations.

    :param demonstrations: Fitting the model's spaces
    :param action_space: The model's
    :param gamma: Discount factor of the returns
    :param device: Where the batches are put
    :param env: Wrapper to normalise observations and rewards with, None: as they are. Observations are normalised with
        its statistics at the time, rewards with those when the first targets are asked for
    """

    def __init__(
        self,
        demonstrations: Demonstrations,
        action_space: spaces.Space,
        gamma: float,
        device: th.device,
        env: VecNormalize | None = None,
    ):
        self.demonstrations = demonstrations
        self.is_choice = isinstance(action_space, (spaces.Discrete, spaces.MultiDiscrete))
        self.gamma = gamma
        self.device = device
        self.env = env

    def sample(self, batch_size: int) -> CloningBatch:
        """:param batch_size: M, drawn uniformly with replacement"""
        rows = np.random.randint(0, len(self.demonstrations), size=batch_size)
        actions = self.demonstrations.actions[rows]
        actions = actions.astype(np.int64) if self.is_choice else actions.reshape(batch_size, -1).astype(np.float32)
        return CloningBatch(
            rows, self._observations(self.demonstrations.observations, rows), th.as_tensor(actions, device=self.device)
        )

    def value_targets(self, rows: np.ndarray) -> ValueTargets:
        """:param rows: Of a batch, shape ``(M,)``"""
        return ValueTargets(
            returns=self._column(self._returns, rows),
            end_observations=self._observations(self.demonstrations.next_observations, self._last_rows[rows]),
            end_discounts=self._column(self._end_discounts, rows),
        )

    @cached_property
    def _returns(self) -> np.ndarray:
        rewards = self.demonstrations.rewards
        if self.env is not None:
            rewards = self.env.normalize_reward(rewards)
        return discounted_returns(rewards, self.demonstrations.episode_lengths, self.gamma)

    @cached_property
    def _last_rows(self) -> np.ndarray:
        """The last row of each row's episode."""
        lengths = self.demonstrations.episode_lengths
        return np.repeat(np.cumsum(lengths) - 1, lengths)

    @cached_property
    def _end_discounts(self) -> np.ndarray:
        steps_to_end = self._last_rows - np.arange(len(self.demonstrations)) + 1
        return self.gamma**steps_to_end * ~self.demonstrations.terminated[self._last_rows]

    def _column(self, values: np.ndarray, rows: np.ndarray) -> th.Tensor:
        return th.as_tensor(values[rows], dtype=th.float32, device=self.device)

    def _observations(self, stored: Any, rows: np.ndarray) -> PyTorchObs:
        taken: Any = map_observations(stored, lambda array: array[rows])
        return obs_as_tensor(taken if self.env is None else self.env.normalize_obs(taken), self.device)


def joined(first: PyTorchObs, second: PyTorchObs) -> PyTorchObs:
    """:return: The rows of the second observations below those of the first"""
    if isinstance(first, dict):
        assert isinstance(second, dict)
        return {key: _joined(array, second[key]) for key, array in first.items()}
    assert isinstance(second, th.Tensor)
    return _joined(first, second)


def _joined(first: th.Tensor, second: th.Tensor) -> th.Tensor:
    # SB3 stores a Discrete observation in a column of its own
    return th.cat([first, second.reshape(-1, *first.shape[1:])])


def discounted_returns(rewards: np.ndarray, episode_lengths: np.ndarray, gamma: float) -> np.ndarray:
    """
    G_t = r_t + gamma G_{t + 1} within each episode.

    :param rewards: Shape ``(N,)``
    :param episode_lengths: Transitions per episode
    :param gamma: Discount factor
    :return: Shape ``(N,)``, float64
    """
    returns = np.zeros(len(rewards))
    ends = set((np.cumsum(episode_lengths) - 1).tolist())
    following = 0.0
    for row in range(len(rewards) - 1, -1, -1):
        following = float(rewards[row]) + (0.0 if row in ends else gamma * following)
        returns[row] = following
    return returns
