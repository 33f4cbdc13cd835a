"""Training of the clone that TD3fD's proposals come from."""

from copy import deepcopy
from typing import Any

import numpy as np
import torch as th

from sb3_pgfd.common.demonstration_batches import DemonstrationBatches
from sb3_pgfd.common.optimization import descend
from sb3_pgfd.demonstrations import Demonstrations
from sb3_pgfd.td3fd.policies import TD3fDPolicy

# One episode in so many is held out
_HELD_OUT = 5
_N_EVALUATIONS = 50
# More tell hardly more, and images take memory
_MAX_HELD_OUT_ROWS = 1000


class CloneTraining:
    """
    Least squares on the demonstrations' actions, with a learning rate that falls to 0. From five demonstrations on every
    fifth is held out, and the clone with the smallest error on these is kept.

    :param policy: The policy whose clone to train
    :param batches: Of the demonstrations
    :param n_updates: How many updates will be made
    :param batch_size: Transitions for each
    :param learning_rate: Of the first update
    """

    def __init__(
        self, policy: TD3fDPolicy, batches: DemonstrationBatches, n_updates: int, batch_size: int, learning_rate: float
    ):
        self._policy, self._batches = policy, batches
        self._n_updates, self._batch_size, self._learning_rate = n_updates, batch_size, learning_rate
        lengths = batches.demonstrations.episode_lengths
        held_out = np.random.permutation(len(lengths))[: len(lengths) // _HELD_OUT]
        is_held_out = np.isin(np.arange(len(lengths)), held_out).repeat(lengths)
        self.rows = np.flatnonzero(~is_held_out)
        rows = np.flatnonzero(is_held_out)
        self.held_out_rows = rows[:: -(-len(rows) // _MAX_HELD_OUT_ROWS) or 1]
        self.n_updates = 0
        self.best: tuple[float, int, dict[str, Any]] | None = None
        """Smallest error on held-out demonstrations, after how many updates, and the weights"""
        self._losses: list[th.Tensor] = []
        self._held_out_loss = 0.0

    @property
    def demonstrations(self) -> Demonstrations:
        """What is cloned"""
        return self._batches.demonstrations

    def update(self) -> None:
        """One step of the clone's optimiser."""
        clone = self._policy.clone
        rate = self._learning_rate * (1.0 - self.n_updates / self._n_updates)
        for group in clone.optimizer.param_groups:
            group["lr"] = rate
        clone.set_training_mode(True)
        batch = self._batches.at(self.rows[np.random.randint(0, len(self.rows), size=self._batch_size)])
        loss = self._loss(self._policy.shifted(batch.observations), batch.actions)
        descend(clone.optimizer, loss)
        clone.set_training_mode(False)
        self.n_updates += 1
        self._losses.append(loss.detach())
        if self.n_updates % max(self._n_updates // _N_EVALUATIONS, 1) == 0 or self.n_updates == self._n_updates:
            self._evaluate()

    def _loss(self, observations: Any, actions: th.Tensor) -> th.Tensor:
        return th.nn.functional.mse_loss(self._policy.clone(observations), actions)

    @th.no_grad()
    def _evaluate(self) -> None:
        if len(self.held_out_rows) == 0:
            return
        batch = self._batches.at(self.held_out_rows)
        self._held_out_loss = float(self._loss(batch.observations, batch.actions))
        if self.best is None or self._held_out_loss < self.best[0]:
            self.best = self._held_out_loss, self.n_updates, deepcopy(self._policy.clone.state_dict())

    def logs(self) -> dict[str, float]:
        """:return: Mean squared errors since the last time"""
        found = {"clone_loss": float(th.stack(self._losses).mean())} if self._losses else {}
        self._losses = []
        return {**found, "clone_held_out_loss": self._held_out_loss} if len(self.held_out_rows) else found

    def finish(self) -> str:
        """
        Keep the best clone. From now on it proposes actions.

        :return: What was kept
        """
        self._policy.clone_is_trained.fill_(True)
        if self.best is None:
            return f"a clone after {self.n_updates:,} updates: no demonstration was held out, as there are fewer than five"
        error, n_updates, weights = self.best
        self._policy.clone.load_state_dict(weights)
        return (
            f"a clone after {n_updates:,} of {self.n_updates:,} updates, which had the smallest squared error on held-out "
            f"demonstrations, {error:.3g}"
        )
