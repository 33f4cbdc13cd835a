"""Statistics over seeds, and how far they could be off."""

from collections.abc import Callable

import numpy as np

Statistic = Callable[[np.ndarray], np.ndarray]
"""From scores of shape ``(n_seeds, k)`` to ``(k,)``"""
Bootstrap = Callable[[np.ndarray, Statistic, int, float], tuple[np.ndarray, np.ndarray]]
"""Scores of shape ``(n_seeds, k)``, statistic, number of resamples and confidence to lower and upper ends, ``(k,)`` each"""

_SEED = 0


def mean(scores: np.ndarray) -> np.ndarray:
    return scores.mean(axis=0)


def median(scores: np.ndarray) -> np.ndarray:
    return np.median(scores, axis=0)


def interquartile_mean(scores: np.ndarray) -> np.ndarray:
    """Mean without the lowest and the highest quarter; of fewer than 4 seeds none can be left out."""
    n_cut = len(scores) // 4
    return np.sort(scores, axis=0)[n_cut : len(scores) - n_cut].mean(axis=0)


STATISTICS: dict[str, Statistic] = {"mean": mean, "iqm": interquartile_mean, "median": median}


def rliable_bootstrap(scores: np.ndarray, statistic: Statistic, reps: int, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    """:raises ImportError: If rliable is not installed"""
    from rliable.library import get_interval_estimates

    # It draws from NumPy's global generator, whatever `random_state` it is given
    state = np.random.get_state()
    np.random.seed(_SEED)
    try:
        _, intervals = get_interval_estimates(
            # One task; each evaluation is resampled by itself
            {"curve": scores[:, None, :]},
            lambda resampled: statistic(resampled[:, 0, :]),
            reps=reps,
            confidence_interval_size=confidence,
        )
    finally:
        np.random.set_state(state)
    low, high = intervals["curve"]
    return low, high


def numpy_bootstrap(scores: np.ndarray, statistic: Statistic, reps: int, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    """The percentile bootstrap: of a single task rliable's intervals are the same, but for the random numbers."""
    random, n = np.random.default_rng(_SEED), len(scores)
    estimates = np.array([statistic(scores[random.integers(n, size=n)]) for _ in range(reps)])
    low, high = np.quantile(estimates, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    return low, high


def find_bootstrap() -> tuple[Bootstrap, str | None]:
    """:return: rliable's if it can be imported, otherwise ours and why"""
    try:
        import rliable.library
    # With pandas 3 `arch`, which rliable is built on, fails with a TypeError
    except (ImportError, TypeError) as error:
        return numpy_bootstrap, (
            f"rliable cannot be imported ({error}), intervals are from NumPy's percentile bootstrap, which differs in random "
            'numbers only: pip install "sb3-pgfd[zoo]" "pandas<3"'
        )
    assert rliable.library is not None
    return rliable_bootstrap, None
