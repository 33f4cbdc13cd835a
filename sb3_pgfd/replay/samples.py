"""Drawing rows from both stores, and reading what they hold."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.type_aliases import DictReplayBufferSamples, ReplayBufferSamples

from sb3_pgfd.demonstrations.validation import Observations
from sb3_pgfd.replay.n_step import NStepWindow, Stores, n_step_window
from sb3_pgfd.replay.storage import BOX_KEY, DemonstrationStore, Schema
from sb3_pgfd.replay.sum_tree import SumTree

Samples = ReplayBufferSamples | DictReplayBufferSamples
TorchObs = th.Tensor | dict[str, th.Tensor]
DESIRED = "desired_goal"


class DemoBatch(NamedTuple):
    """
    B transitions with their 1-step and n-step returns. Columns are the K kinds of return: r and R_n, or r alone if
    ``n_steps`` is 1. Both targets are computed in one pass of the networks.
    """

    observations: TorchObs
    """s, B rows"""
    actions: th.Tensor
    """a, shape ``(B, action_dim)``, scaled to [-1, 1]"""
    next_observations: TorchObs
    """K B rows: for each transition s', then the state after k <= n steps"""
    rewards: th.Tensor
    """r and R_n, shape ``(B, K)``"""
    bootstrap: th.Tensor
    """What the value of the next state counts: gamma (1 - terminated) and gamma^k (1 - terminated_n), shape ``(B, K)``"""
    weights: th.Tensor
    """w_i = (N P(i))^-beta over the batch's largest, shape ``(B, 1)``"""
    is_demo: th.Tensor
    """Whether the transition lies in the demonstration store, shape ``(B, 1)``, bool"""
    indices: np.ndarray
    """Which rows, for :meth:`DemoReplayBuffer.update_priorities`, shape ``(B,)``, int64: rows of the ring, and rows of the
    demonstration store plus the number of rows of the ring"""
    terminated: np.ndarray
    """Whether the next state is terminal, shape ``(B, K)``, bool"""
    discounts: np.ndarray
    """gamma and gamma^k with the k that was really summed, shape ``(B, K)``, float64"""


class NewGoals(NamedTuple):
    """Goals that take the place of those that the transitions were made with."""

    places: np.ndarray
    """Which of the drawn transitions, in rising order, shape ``(m,)``"""
    goals: np.ndarray
    """Shape ``(m, *goal_shape)``"""


class Drawn(NamedTuple):
    """B transitions and what follows them, raw."""

    rows: np.ndarray
    """Shape ``(B,)``: first rows of the demonstration store, then rows of the ring"""
    n_demos: int
    """How many of them are rows of the demonstration store"""
    window: NStepWindow
    """What follows each"""
    rewards: np.ndarray
    """Rewards of the window, shape ``(B, n_steps)``; where they are not included they mean nothing"""
    terminated: np.ndarray
    """Whether s' and the state after k steps are terminal, shape ``(B, 2)``, bool"""
    new_goals: NewGoals | None = None
    """What to put in place of desired goals"""

    @property
    def next_rows(self) -> np.ndarray:
        """Rows whose next observations are s' and the state after k steps, shape ``(B, 2)``."""
        return np.stack((self.rows, self.window.last_rows), axis=1)

    @property
    def lengths(self) -> np.ndarray:
        """Numbers of rewards that are summed, 1 and k, shape ``(B, 2)``."""
        return np.stack((np.ones_like(self.window.lengths), self.window.lengths), axis=1)


def read_drawn(rows: np.ndarray, n_demos: int, n_steps: int, both: Stores) -> Drawn:
    """
    :param rows: Which transitions, shape ``(B,)``
    :param n_demos: The first so many are rows of the demonstration store
    :param n_steps: n of the n-step return
    :param both: Where they lie
    """
    window = n_step_window(rows, n_demos, n_steps, both)
    terminated = both.take("terminated", np.stack((rows, window.last_rows), axis=1), n_demos)
    return Drawn(rows, n_demos, window, both.take("rewards", window.rows, n_demos), terminated)


def read_observations(
    column: Callable[[str], str], rows: np.ndarray, drawn: Drawn, both: Stores, schema: Schema
) -> Observations:
    """
    :param column: Name of a column by the key of the observation
    :param rows: Shape ``(B,)`` or ``(B, K)``
    :param drawn: With the new goals, if there are any
    :param both: Where the rows lie
    :param schema: Of the buffer
    :return: Raw observations, B or K B rows: one array, or one per key
    """
    taken = {}
    for key, shape in schema.obs_shapes.items():
        array = both.take(column(key), rows, drawn.n_demos)
        if drawn.new_goals is not None and key == DESIRED:
            places, goals = drawn.new_goals
            array[places] = goals if rows.ndim == 1 else goals[:, None]
        taken[key] = array.reshape(-1, *shape)
    return taken if isinstance(schema.observation_space, spaces.Dict) else taken[BOX_KEY]


def draw_by_priority(batch_size: int, demonstrations: SumTree, ring: SumTree | None) -> tuple[np.ndarray, int]:
    """
    Draw rows in proportion to their weights, stratified over both stores: one from each of B equal shares of the total.

    :param batch_size: B
    :param demonstrations: Weights of the demonstration store
    :param ring: Weights of the ring, None: draw demonstrations only
    :return: Rows, first of the demonstrations, then of the ring, shape ``(B,)``, and how many are the former
    """
    total_demos = demonstrations.total
    total = total_demos if ring is None else total_demos + ring.total
    points = (np.arange(batch_size) + np.random.random(batch_size)) * (total / batch_size)
    n_demos = batch_size if ring is None else int(points.searchsorted(total_demos))
    if n_demos == batch_size:
        return demonstrations.find(points), n_demos
    assert ring is not None
    own = ring.find(points[n_demos:] - total_demos)
    return (own, 0) if n_demos == 0 else (np.concatenate((demonstrations.find(points[:n_demos]), own)), n_demos)


def draw_by_share(
    batch_size: int, demo_fraction: float, demonstrations: DemonstrationStore, n_own: int
) -> tuple[np.ndarray, int]:
    """
    Draw a fixed share of demonstrations, and uniformly otherwise.

    :param batch_size: B
    :param demo_fraction: Share of demonstrations, as far as there are both kinds
    :param demonstrations: The demonstration store
    :param n_own: Rows of the ring that may be drawn
    :return: As :func:`draw_by_priority`
    """
    n_demos = batch_size if n_own == 0 else round(demo_fraction * batch_size) if demonstrations.n_live else 0
    rows = demonstrations.draw_uniformly(n_demos)
    if n_demos < batch_size:
        rows = np.concatenate((rows, np.random.randint(0, n_own, size=batch_size - n_demos)))
    return rows, n_demos
