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
from sb3_pgfd.replay.storage import BOX_KEY, INTENDED, DemonstrationStore, TransitionStore, next_obs_column, obs_column
from sb3_pgfd.replay.sum_tree import SumTree

Samples = ReplayBufferSamples | DictReplayBufferSamples
TorchObs = th.Tensor | dict[str, th.Tensor]
DESIRED = "desired_goal"
_NO_ROWS = np.empty(0, dtype=np.int64)


class DemoBatch(NamedTuple):
    """
    B transitions with their 1-step and n-step returns. Columns are the K kinds of return: r and R_n, or r alone if
    ``n_steps`` is 1. Both targets are computed in one pass of the networks. Several batches that were drawn together lie
    one behind the other, see :meth:`split`.
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
    """Whether the transition shows how to act: it lies in the demonstration store, under its own goal or one that its episode
    achieved later, shape ``(B, 1)``, bool"""
    indices: np.ndarray
    """Which rows, for :meth:`DemoReplayBuffer.update_priorities`, shape ``(B,)``, int64: rows of the ring, and rows of the
    demonstration store plus the number of rows of the ring"""
    terminated: np.ndarray
    """Whether the next state is terminal, shape ``(B, K)``, bool"""
    discounts: np.ndarray
    """gamma and gamma^k with the k that was really summed, shape ``(B, K)``, float64"""
    intended_actions: th.Tensor | None = None
    """a without the exploration noise of own successes, like ``actions``; None: as executed"""

    def to(self, device: th.device) -> "DemoBatch":
        """:return: The same with its tensors on a device"""
        if device.type == "cpu":
            return self
        return self._mapped(lambda value: value.to(device) if isinstance(value, th.Tensor) else value)

    def split(self, n_batches: int) -> "list[DemoBatch]":
        """:return: The batches that were drawn together; they share memory with this one"""
        if n_batches == 1:
            return [self]

        def part(number: int) -> Callable[[Any], Any]:
            def cut(rows: Any) -> Any:
                size = len(rows) // n_batches
                return rows[number * size : (number + 1) * size]

            return cut

        return [self._mapped(part(number)) for number in range(n_batches)]

    def in_order(self, order: np.ndarray) -> "DemoBatch":
        """
        :param order: Which transition comes when, shape ``(B,)``
        :return: A copy
        """
        picked = th.from_numpy(order)

        def arranged(rows: Any) -> Any:
            if isinstance(rows, np.ndarray):
                return rows.take(order, axis=0)
            # Of the next states there are K for each transition
            grouped = rows.view(len(order), -1, *rows.shape[1:])
            return grouped.index_select(0, picked.to(rows.device)).view(rows.shape)

        return self._mapped(arranged)

    def _mapped(self, function: Callable[[Any], Any]) -> "DemoBatch":
        def mapped(value: Any) -> Any:
            if value is None:
                return None
            return {key: function(tensor) for key, tensor in value.items()} if isinstance(value, dict) else function(value)

        return DemoBatch(*map(mapped, self))


class NewGoals(NamedTuple):
    """Goals that take the place of those that the transitions were made with."""

    places: np.ndarray
    """Which of the drawn transitions, in rising order, shape ``(m,)``"""
    goals: np.ndarray
    """Shape ``(m, *goal_shape)``"""
    are_foreign: np.ndarray
    """Which goals another transition achieved, shape ``(m,)``, bool"""


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


def read_batch(
    drawn: Drawn,
    both: Stores,
    kinds: slice,
    gamma: float,
    beta: float,
    env: VecNormalize | None,
    with_intended: bool = False,
) -> DemoBatch:
    """
    :param drawn: With the new goals, if there are any
    :param both: Where the rows lie
    :param kinds: Which of r and R_n
    :param gamma: Discount factor
    :param beta: Exponent of the importance weights
    :param env: Wrapper to normalise observations and rewards with
    :param with_intended: Whether to read ``intended_actions``
    :return: In the CPU's memory, but for observations that are stored on a device, in the order of the rows
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
    actions = both.take("actions", rows)
    intended = None
    if with_intended:
        # Only demonstrations are cloned, and only their store has the column
        of_demos = both.demonstrations.columns[INTENDED][rows.numbers[: rows.n_demos]]
        intended = th.from_numpy(np.concatenate((of_demos, actions[rows.n_demos :])))
    is_demo = np.arange(len(indices)) < rows.n_demos
    if drawn.new_goals is not None:
        is_demo[drawn.new_goals.places[drawn.new_goals.are_foreign]] = False
    return DemoBatch(
        observations=_observations(obs_column, rows, drawn.new_goals, both, env),
        actions=th.from_numpy(actions),
        next_observations=_observations(next_obs_column, next_rows, drawn.new_goals, both, env),
        rewards=_float(returns),
        bootstrap=_float(discounts * ~terminated),
        weights=_float(importance_weights(both.weights(rows), beta)[:, None]),
        # Not a NumPy view, whose strides would tell one batch from several: each program would be compiled twice
        is_demo=th.from_numpy(is_demo)[:, None],
        indices=indices,
        terminated=terminated,
        discounts=discounts,
        intended_actions=intended,
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
    if env is None and new_goals is None and schema.storage_device is not None:
        found = {key: both.gather(column(key), rows).view(-1, *shape) for key, shape in schema.obs_shapes.items()}
        return found if isinstance(schema.observation_space, spaces.Dict) else found[BOX_KEY]
    taken: dict[str, np.ndarray] = {}
    for key, shape in schema.obs_shapes.items():
        array = both.take(column(key), rows)
        if new_goals is not None and key == DESIRED:
            goals = new_goals.goals
            array[new_goals.places] = goals if rows.numbers.ndim == 1 else goals[:, None]
        taken[key] = array.reshape(-1, *shape)
    if not isinstance(schema.observation_space, spaces.Dict):
        array = taken[BOX_KEY]
        return th.from_numpy(array if env is None else env.normalize_obs(array))
    normalized: Any = taken if env is None else env.normalize_obs(taken)
    return {key: th.from_numpy(array) for key, array in normalized.items()}


class Draw(NamedTuple):
    """The rows of one or more batches."""

    rows: Rows
    """Of all batches, shape ``(n_batches * B,)``: first those of the demonstration store"""
    order: np.ndarray | None
    """Which of the rows come one behind the other in the batches, likewise; None: they are one batch, in this order"""

    @classmethod
    def of(cls, is_demo: np.ndarray, demo_rows: np.ndarray, own_rows: np.ndarray) -> "Draw":
        """
        :param is_demo: Which places of the batches are for demonstrations, the first ones of each, shape
            ``(n_batches, B)``, bool
        :param demo_rows: Their rows, batch by batch
        :param own_rows: Rows of the ring for the other places, likewise
        """
        numbers = np.concatenate((demo_rows, own_rows)) if len(own_rows) else demo_rows
        order = None
        if len(is_demo) > 1:
            flat = is_demo.ravel()
            order = np.empty(flat.size, dtype=np.int64)
            order[flat] = np.arange(len(demo_rows))
            order[~flat] = np.arange(len(demo_rows), flat.size)
        return cls(Rows(numbers, len(demo_rows)), order)


def draw_by_priority(n_batches: int, batch_size: int, demonstrations: SumTree, ring: SumTree | None) -> Draw:
    """
    Draw rows in proportion to their weights, stratified over both stores: one from each of B equal shares of the total.

    :param n_batches: Batches to draw, each stratified by itself
    :param batch_size: B
    :param demonstrations: Weights of the demonstration store
    :param ring: Weights of the ring, None: draw demonstrations only
    """
    total_demos = demonstrations.total
    total = total_demos if ring is None else total_demos + ring.total
    points = (np.arange(batch_size) + np.random.random((n_batches, batch_size))) * (total / batch_size)
    if ring is None:
        return Draw.of(np.ones(points.shape, dtype=bool), demonstrations.find(points.ravel()), _NO_ROWS)
    is_demo = points < total_demos
    demo_points, own_points = points[is_demo], points[~is_demo] - total_demos
    demo_rows = demonstrations.find(demo_points) if len(demo_points) else _NO_ROWS
    return Draw.of(is_demo, demo_rows, ring.find(own_points) if len(own_points) else _NO_ROWS)


def draw_by_share(
    n_batches: int, batch_size: int, demo_fraction: float, demonstrations: DemonstrationStore, ring: TransitionStore | None
) -> Draw:
    """
    Draw a fixed share of demonstrations, and uniformly otherwise.

    :param n_batches: Batches to draw
    :param batch_size: B
    :param demo_fraction: Share of demonstrations of each, as far as there are both kinds
    :param demonstrations: The demonstration store
    :param ring: The agent's own transitions, None: draw demonstrations only
    """
    n_demos = batch_size if ring is None else round(demo_fraction * batch_size) if demonstrations.n_live else 0
    is_demo = np.broadcast_to(np.arange(batch_size) < n_demos, (n_batches, batch_size))
    n_drawn_own = n_batches * (batch_size - n_demos)
    own_rows = ring.draw_uniformly(n_drawn_own) if ring is not None and n_drawn_own else _NO_ROWS
    return Draw.of(is_demo, demonstrations.draw_uniformly(n_batches * n_demos), own_rows)
