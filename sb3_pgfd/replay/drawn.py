"""Which rows are drawn, and what their n-step returns are made of: raw, before they are normalised."""

from typing import NamedTuple

import numpy as np

from sb3_pgfd.replay.n_step import NStepWindow, RowLayout, n_step_window
from sb3_pgfd.replay.storage import TransitionStorage
from sb3_pgfd.replay.sum_tree import SumTree


class NewGoals(NamedTuple):
    """Goals that take the place of those that the transitions were made with."""

    places: np.ndarray
    """Which of the drawn transitions, shape ``(m,)``, each at most once"""
    goals: np.ndarray
    """Shape ``(m, *goal_shape)``"""
    n_drawn: int
    """B"""

    def put_into(self, desired: np.ndarray) -> None:
        """:param desired: Desired goals of all B transitions, once or several times, shape ``(k B, *goal_shape)``"""
        desired.reshape(-1, self.n_drawn, *desired.shape[1:])[:, self.places] = self.goals


class Drawn(NamedTuple):
    """B transitions and what follows them."""

    rows: np.ndarray
    """Shape ``(B,)``"""
    window: NStepWindow
    """What follows each"""
    rewards: np.ndarray
    """Raw rewards of the window, shape ``(B, n_steps)``; where they are not included they mean nothing"""
    terminated: np.ndarray
    """Whether the next state is terminal, and whether the state after k steps is, shape ``(2 B,)``, bool"""
    new_goals: NewGoals | None = None
    """What to put in place of desired goals"""

    @property
    def both_lengths(self) -> np.ndarray:
        """Numbers of rewards that are summed, 1 and k, shape ``(2 B,)``"""
        return np.concatenate((np.ones_like(self.window.lengths), self.window.lengths))

    @property
    def both_rows(self) -> np.ndarray:
        """Rows whose next observations are s' and the state after k steps, shape ``(2 B,)``"""
        return np.concatenate((self.rows, self.window.last_rows))


def read_drawn(storage: TransitionStorage, rows: np.ndarray, n_steps: int, layout: RowLayout) -> Drawn:
    """
    :param storage: Where to read
    :param rows: Which transitions, shape ``(B,)``
    :param n_steps: n of the n-step return
    :param layout: Where successors lie
    """
    window = n_step_window(rows, n_steps, storage.ended, layout)
    terminated = storage.terminated.take(np.concatenate((rows, window.last_rows)))
    return Drawn(rows, window, storage.rewards.take(window.rows, mode="clip"), terminated)


def draw_by_priority(batch_size: int, tree: SumTree, first: int | None) -> np.ndarray:
    """
    :param batch_size: Number of transitions
    :param tree: p^alpha of each row
    :param first: Draw from so many rows, the first ones; None: from all
    :return: Rows, in rising order, shape ``(batch_size,)``, int64
    """
    if first is None:
        return tree.sample(batch_size)
    # The sum of their weights can differ from the tree's own in the last bits
    return np.minimum(tree.sample(batch_size, below=float(tree.weights[:first].sum())), first - 1)


def draw_by_share(batch_size: int, demo_fraction: float, n_demonstrations: int, n_filled: int) -> np.ndarray:
    """
    :param batch_size: Number of transitions
    :param demo_fraction: Share of demonstrations, as far as there are both kinds
    :param n_demonstrations: Rows of demonstrations, the first ones
    :param n_filled: Rows that hold a transition
    :return: Rows, demonstrations first, uniform otherwise, shape ``(batch_size,)``, int64
    """
    if n_filled == n_demonstrations:
        demo_fraction = 1.0
    n_from_demos = round(demo_fraction * batch_size) if n_demonstrations else 0
    from_demos = np.random.randint(0, max(n_demonstrations, 1), size=n_from_demos)
    if n_from_demos == batch_size:
        return from_demos
    return np.concatenate((from_demos, np.random.randint(n_demonstrations, n_filled, size=batch_size - n_from_demos)))


def importance_weights(leaves: np.ndarray, beta: float) -> np.ndarray:
    """
    w_i = (N P(i))^-beta over the batch's largest. N and the sum of p^alpha are the same for all rows, so they cancel:
    (N P(i))^-beta / max_j (N P(j))^-beta = (min_j p_j^alpha / p_i^alpha)^beta

    :param leaves: p_i^alpha, shape ``(B,)``
    :param beta: Exponent
    :return: Shape ``(B,)``
    """
    if beta == 0.0:
        return np.ones(len(leaves))
    ratios = leaves.min() / leaves
    return ratios if beta == 1.0 else ratios**beta
