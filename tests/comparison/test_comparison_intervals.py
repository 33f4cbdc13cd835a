"""Statistics over seeds and bootstrap intervals."""

import sys

import numpy as np
import pytest
import scipy.stats
from run_folders import make_run

from sb3_pgfd.comparison import aggregate
from sb3_pgfd.comparison.intervals import (
    STATISTICS,
    Bootstrap,
    find_bootstrap,
    numpy_bootstrap,
    rliable_bootstrap,
)

SCORES = np.random.default_rng(1).normal(size=(7, 3)) * [1, 10, 100]
both = pytest.mark.parametrize("bootstrap", [rliable_bootstrap, numpy_bootstrap])


def test_statistics_of_five_seeds():
    scores = np.array([[1.0], [2.0], [3.0], [10.0], [100.0]])
    found = {name: statistic(scores)[0] for name, statistic in STATISTICS.items()}
    assert found == {"mean": 23.2, "iqm": 5.0, "median": 3.0}


@pytest.mark.parametrize("n", range(1, 12))
def test_the_interquartile_mean_is_the_trimmed_mean(n: int):
    scores = np.random.default_rng(n).normal(size=(n, 4))
    np.testing.assert_allclose(STATISTICS["iqm"](scores), scipy.stats.trim_mean(scores, 0.25, axis=0))


@both
def test_of_two_seeds_the_interval_is_their_range(bootstrap: Bootstrap):
    # A quarter of the resamples is twice the lower one, a quarter twice the higher one
    low, high = bootstrap(np.array([[1.0, 4.0], [3.0, 4.0]]), STATISTICS["mean"], 2000, 0.95)
    assert (low.tolist(), high.tolist()) == ([1, 4], [3, 4])


@both
def test_all_resamples_of_three_seeds_counted_by_hand(bootstrap: Bootstrap):
    # Sums of 27 draws from 0, 3, 6: 0 once, 3 three times, 6 six times, 9 seven times, then the mirror image. Below the
    # middle 80 % there are 2.7 draws, which 0 and part of the 3s make up; means are sums divided by 3
    low, high = bootstrap(np.array([[0.0], [3.0], [6.0]]), STATISTICS["mean"], 5000, 0.8)
    assert (low[0], high[0]) == (1, 5)


@both
@pytest.mark.parametrize("name", STATISTICS)
@pytest.mark.parametrize("confidence", [0.95, 0.5])
def test_intervals_agree_with_a_naive_bootstrap(bootstrap: Bootstrap, name: str, confidence: float):
    random, estimates = np.random.default_rng(5), []
    for _ in range(4000):
        chosen = [SCORES[random.integers(len(SCORES))] for _ in range(len(SCORES))]
        estimates.append(STATISTICS[name](np.array(chosen)))
    tails = 50 * (1 - confidence)
    low, high = np.percentile(estimates, [tails, 100 - tails], axis=0)
    found_low, found_high = bootstrap(SCORES, STATISTICS[name], 4000, confidence)
    # The median takes the value of one of the seeds, so its percentiles can jump from one to the next
    tolerance = (0.5 if name == "median" else 0.1) * np.std(SCORES, axis=0)
    assert (np.abs(found_low - low) < tolerance).all()
    assert (np.abs(found_high - high) < tolerance).all()


@both
def test_the_same_call_gives_the_same_and_leaves_the_global_generator_alone(bootstrap: Bootstrap):
    np.random.seed(11)
    expected = np.random.random(3)
    np.random.seed(11)
    first = bootstrap(SCORES, STATISTICS["mean"], 200, 0.95)
    assert np.random.random(3).tolist() == expected.tolist()
    second = bootstrap(SCORES, STATISTICS["mean"], 200, 0.95)
    np.testing.assert_array_equal(first, second)


def test_more_confidence_is_wider_and_the_value_lies_inside():
    runs = [make_run({0: 1, 10: value}) for value in (1, 2, 4, 8)]
    wide, narrow = (aggregate(runs, confidence=confidence)[0][0].returns for confidence in (0.95, 0.5))
    assert wide.low is not None
    assert wide.high is not None
    assert narrow.low is not None
    assert narrow.high is not None
    assert wide.low[1] < narrow.low[1] < 3.75 < narrow.high[1] < wide.high[1]
    assert wide.low[0] == wide.high[0] == 1


def test_rliable_is_used_if_it_is_there():
    assert find_bootstrap() == (rliable_bootstrap, None)


def test_without_rliable_intervals_are_made_and_noted(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "rliable.library", None)
    curves, notes = aggregate([make_run({0: 1}), make_run({0: 3})])
    assert curves[0].returns.low is not None
    assert curves[0].returns.low[0] == 1
    assert len(notes) == 1
    assert 'pip install "sb3-pgfd[zoo]" "pandas<3"' in notes[0]
    # Of single seeds there is nothing to note
    assert aggregate([make_run({0: 1})])[1] == []
