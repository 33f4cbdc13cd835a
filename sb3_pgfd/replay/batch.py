"""What is drawn from the buffer."""

from typing import NamedTuple

import numpy as np
import torch as th
from stable_baselines3.common.type_aliases import DictReplayBufferSamples, ReplayBufferSamples

Samples = ReplayBufferSamples | DictReplayBufferSamples
TorchObs = th.Tensor | dict[str, th.Tensor]


class DemoBatch(NamedTuple):
    """
    B transitions with their 1-step and n-step returns, as DDPGfD uses them. Fields of 2 B rows hold the 1-step returns
    first, then the n-step returns of the same transitions: both targets are computed in one pass.
    """

    observations: TorchObs
    """s, B rows"""
    actions: th.Tensor
    """a, shape ``(B, action_dim)``, scaled to [-1, 1]"""
    next_observations: TorchObs
    """s' and the state after k <= n steps, 2 B rows"""
    rewards: th.Tensor
    """r and R_n, shape ``(2 B, 1)``"""
    bootstrap: th.Tensor
    """gamma^k (1 - terminated), what the next state's value counts, shape ``(2 B, 1)``"""
    weights: th.Tensor
    """w_i = (N P(i))^-beta over the batch's largest, shape ``(B, 1)``"""
    is_demo: th.Tensor
    """Whether the transition is a demonstration, shape ``(B, 1)``, bool"""
    indices: np.ndarray
    """Rows in the buffer, shape ``(B,)``, int64"""
    terminated: np.ndarray
    """Whether the next state is terminal, shape ``(2 B,)``, bool"""
    discounts: np.ndarray
    """gamma and gamma^k with the k that was really summed, shape ``(2 B,)``, float64"""

    @property
    def one_step(self) -> Samples:
        """(s, a, s', terminated, r, gamma)"""
        return self._returns(slice(None, len(self.indices)))

    @property
    def n_step(self) -> Samples:
        """The same (s, a) with the state after k steps, whether it is terminal, R_n, gamma^k"""
        return self._returns(slice(len(self.indices), None))

    def _returns(self, rows: slice) -> Samples:
        dones, discounts = (th.as_tensor(array[rows, None]).to(self.rewards) for array in (self.terminated, self.discounts))
        if isinstance(self.observations, dict):
            assert isinstance(self.next_observations, dict)
            next_observations = {key: value[rows] for key, value in self.next_observations.items()}
            return DictReplayBufferSamples(
                self.observations, self.actions, next_observations, dones, self.rewards[rows], discounts
            )
        assert isinstance(self.next_observations, th.Tensor)
        return ReplayBufferSamples(
            self.observations, self.actions, self.next_observations[rows], dones, self.rewards[rows], discounts
        )
