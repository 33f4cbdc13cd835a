"""Priorities and importance weights (Schaul et al. 2016, arXiv 1511.05952; Vecerik et al. 2017, arXiv 1707.08817)."""

import numpy as np


def priorities(errors: np.ndarray, is_demo: np.ndarray, epsilon: float, demo_bonus: float) -> np.ndarray:
    """
    p_i = e_i + eps + eps_D [i is a demonstration] (Vecerik et al. 2017, section 3).

    :param errors: e_i = delta_i^2 + lambda_3 |grad_a Q|^2, shape ``(B,)``, perhaps in units of its mean
    :param is_demo: Whether i is a demonstration, shape ``(B,)``, bool
    :param epsilon: eps
    :param demo_bonus: eps_D
    :return: Shape ``(B,)``
    """
    return errors + epsilon + demo_bonus * is_demo


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


def agent_mean(errors: np.ndarray, weights: np.ndarray, is_demo: np.ndarray) -> float:
    """
    The mean error of all of the agent's own transitions, estimated from a batch that was drawn by priority.

    :param errors: Of the batch, shape ``(B,)``
    :param weights: Importance weights with beta = 1, which make up for the draw by priority, shape ``(B,)``
    :param is_demo: Shape ``(B,)``, bool; if all are demonstrations, as in pretraining, the mean is over these
    """
    own = weights if is_demo.all() else weights * ~is_demo
    return float((own * errors).sum() / own.sum())


class RunningMean:
    """
    Mean of the last numbers: of all numbers at first, then an exponential one.

    :param window: How many count
    """

    # Single precision has no smaller normal number and would round it to 0
    _SMALLEST = float(np.finfo(np.float32).tiny)

    def __init__(self, window: int = 1000):
        self.window = window
        self.count = 0
        self.mean = 0.0

    def update(self, value: float) -> float:
        """
        :param value: The next number, not negative
        :return: The mean with it, positive so that one can divide by it
        """
        self.count = min(self.count + 1, self.window)
        self.mean += (value - self.mean) / self.count
        return max(self.mean, self._SMALLEST)


def check_errors(errors: np.ndarray) -> None:
    """:raises ValueError: If an error is negative, infinite or not a number"""
    smallest, largest = errors.min(), errors.max()
    # One comparison catches negative numbers and NaN, the other infinity
    if not (smallest >= 0.0 and largest < np.inf):
        raise ValueError(
            f"priorities: found errors from {smallest} to {largest}, expected finite numbers >= 0: the critic has diverged, "
            "lower the learning rate or the reward scale"
        )
