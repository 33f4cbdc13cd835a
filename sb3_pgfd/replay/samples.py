"""Drawing rows from both stores, and reading what they hold."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.type_aliases import DictReplayBufferSamples, ReplayBufferSamples
from stable_baselines3.common.vec_env import VecNormalize

from sb3_pgfd.replay.n_step import (
    NStepWindow,
    Rows,
    Stores,
    discount_powers,
    n_step_return,
    n_step_window,
    two_columns,
)
from sb3_pgfd.replay.priorities import importance_weights
from sb3_pgfd.replay.storage import BOX_KEY, DemonstrationStore, next_obs_column, obs_column
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

    def to(self, device: th.device) -> "DemoBatch":
        """:return: The same with its tensors on a device"""

        def moved(value: Any) -> Any:
            if isinstance(value, dict):
                return {key: moved(tensor) for key, tensor in value.items()}
            return value.to(device) if isinstance(value, th.Tensor) else value

        return DemoBatch(*map(moved, self))


class NewGoals(NamedTuple):
    """Goals that take the place of those that the transitions were made with."""

    places: np.ndarray
    """Which of the drawn transitions, in rising order, shape ``(m,)``"""
    goals: np.ndarray
    """Shape ``(m, *goal_shape)``"""


class Drawn(NamedTuple):
    """B transitions and what follows them, raw."""

    rows: Rows
    """Shape ``(B,)``"""
    window: NStepWindow
    """What follows each"""
    rewards: np.ndarray
    """Rewards of the window, shape ``(B, n_steps)``; where they are not included they mean nothing"""
    terminated: np.ndarray
    """Whether s' and the state after k steps are terminal, shape ``(B, 2)``, bool"""
    new_goals: NewGoals | None = None
    """What to put in place of desired goals"""


def read_drawn(rows: Rows, n_steps: int, both: Stores) -> Drawn:
    """
    :param rows: Which transitions, shape ``(B,)``
    :param n_steps: n of the n-step return
    :param both: Where they lie
    """
    window = n_step_window(rows, n_steps, both)
    return Drawn(rows, window, both.take("rewards", window.rows), both.take("terminated", window.ends))


def read_batch(drawn: Drawn, both: Stores, kinds: slice, gamma: float, beta: float, env: VecNormalize | None) -> DemoBatch:
    """
    :param drawn: With the new goals, if there are any
    :param both: Where the rows lie
    :param kinds: Which of r and R_n
    :param gamma: Discount factor
    :param beta: Exponent of the importance weights
    :param env: Wrapper to normalise observations and rewards with
    :return: In memory of the CPU
    """
    rows, window = drawn.rows, drawn.window
    rewards = drawn.rewards if env is None else env.normalize_reward(drawn.rewards)
    returns = two_columns(rewards[:, 0], n_step_return(rewards, window.included, gamma))[:, kinds]
    lengths = two_columns(np.ones_like(window.lengths), window.lengths)[:, kinds]
    discounts = discount_powers(gamma, rewards.shape[1]).take(lengths)
    terminated = drawn.terminated[:, kinds]
    indices = rows.numbers.copy()
    indices[: rows.n_demos] += both.ring.n_rows
    next_rows = Rows(window.ends.numbers[:, kinds], rows.n_demos)
    return DemoBatch(
        observations=_observations(obs_column, rows, drawn.new_goals, both, env),
        actions=th.from_numpy(both.take("actions", rows)),
        next_observations=_observations(next_obs_column, next_rows, drawn.new_goals, both, env),
        rewards=_float(returns),
        bootstrap=_float(discounts * ~terminated),
        weights=_float(importance_weights(both.weights(rows), beta)[:, None]),
        is_demo=th.from_numpy((np.arange(len(indices)) < rows.n_demos)[:, None]),
        indices=indices,
        terminated=terminated,
        discounts=discounts,
    )


def _float(array: np.ndarray) -> th.Tensor:
    return th.from_numpy(array.astype(np.float32))


def _observations(
    column: Callable[[str], str], rows: Rows, new_goals: NewGoals | None, both: Stores, env: VecNormalize | None
) -> TorchObs:
    """
    :param column: Name of a column by the key of the observation
    :param rows: Shape ``(B,)`` or ``(B, K)``
    :return: Normalised observations, B or K B rows
    """
    schema = both.ring.schema
    taken: dict[str, np.ndarray] = {}
    for key, shape in schema.obs_shapes.items():
        array = both.take(column(key), rows)
        if new_goals is not None and key == DESIRED:
            places, goals = new_goals
            array[places] = goals if rows.numbers.ndim == 1 else goals[:, None]
        taken[key] = array.reshape(-1, *shape)
    if not isinstance(schema.observation_space, spaces.Dict):
        array = taken[BOX_KEY]
        return th.from_numpy(array if env is None else env.normalize_obs(array))
    normalized: Any = taken if env is None else env.normalize_obs(taken)
    return {key: th.from_numpy(array) for key, array in normalized.items()}


def draw_by_priority(batch_size: int, demonstrations: SumTree, ring: SumTree | None) -> Rows:
    """
    Draw rows in proportion to their weights, stratified over both stores: one from each of B equal shares of the total.

    :param batch_size: B
    :param demonstrations: Weights of the demonstration store
    :param ring: Weights of the ring, None: draw demonstrations only
    """
    total_demos = demonstrations.total
    total = total_demos if ring is None else total_demos + ring.total
    points = (np.arange(batch_size) + np.random.random(batch_size)) * (total / batch_size)
    n_demos = batch_size if ring is None else int(points.searchsorted(total_demos))
    if n_demos == batch_size:
        return Rows(demonstrations.find(points), n_demos)
    assert ring is not None
    own = ring.find(points[n_demos:] - total_demos)
    return Rows(own if n_demos == 0 else np.concatenate((demonstrations.find(points[:n_demos]), own)), n_demos)


def draw_by_share(batch_size: int, demo_fraction: float, demonstrations: DemonstrationStore, n_own: int) -> Rows:
    """
    Draw a fixed share of demonstrations, and uniformly otherwise.

    :param batch_size: B
    :param demo_fraction: Share of demonstrations, as far as there are both kinds
    :param demonstrations: The demonstration store
    :param n_own: Rows of the ring that may be drawn
    """
    n_demos = batch_size if n_own == 0 else round(demo_fraction * batch_size) if demonstrations.n_live else 0
    numbers = demonstrations.draw_uniformly(n_demos)
    if n_demos < batch_size:
        numbers = np.concatenate((numbers, np.random.randint(0, n_own, size=batch_size - n_demos)))
    return Rows(numbers, n_demos)
