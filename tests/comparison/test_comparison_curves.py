"""Seeds on a common grid, statistics over them, bootstrap intervals and the CSV file."""

from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from run_folders import make_run, read_csv

from sb3_pgfd.comparison import ComparisonError, Curve, aggregate, write_csv
from sb3_pgfd.comparison.curves import STATISTICS, Band, bootstrap_interval, on_common_grid

SCORES = np.random.default_rng(1).normal(size=(7, 3)) * [1, 10, 100]
curves = st.dictionaries(st.integers(0, 50), st.floats(-100, 100), min_size=1, max_size=8).map(
    lambda c: dict(sorted(c.items()))
)


def test_runs_with_the_same_steps_are_averaged_there():
    curve = aggregate([make_run({0: 1, 10: 3}), make_run({0: 3, 10: 7})])[0][0]
    assert curve.timesteps.tolist() == [0, 10]
    assert curve.returns.values.tolist() == [2, 5]
    assert (curve.env, curve.label, len(curve.runs), curve.successes) == ("Pendulum-v1", "sac", 2, None)


def test_other_steps_are_interpolated_within_the_common_range():
    runs = [make_run({0: 0, 10: 10, 20: 30}), make_run({5: 1, 15: 3})]
    found, notes = aggregate(runs)
    assert found[0].timesteps.tolist() == [5, 10, 15]
    # 5, 10, 20 and 1, 2, 3
    assert found[0].returns.values.tolist() == [3, 6, 11.5]
    assert len(notes) == 1
    assert "sac in Pendulum-v1: cut to steps 5 to 15, which all runs have; " in notes[0]


@given(st.lists(curves, min_size=1, max_size=4))
def test_between_the_steps_of_the_grid_the_mean_is_linear(drawn: list[dict[int, float]]):
    runs = [make_run(curve) for curve in drawn]
    start, end = max(min(curve) for curve in drawn), min(max(curve) for curve in drawn)
    if start > end:
        with pytest.raises(ComparisonError, match="expected a common range"):
            on_common_grid(runs)
        return
    grid, returns, _ = on_common_grid(runs)
    assert set(grid) <= {step for curve in drawn for step in curve}
    assert start == grid[0]
    assert end == grid[-1]
    anywhere = np.linspace(start, end, 13)
    exact = np.mean([np.interp(anywhere, list(curve), list(curve.values())) for curve in drawn], axis=0)
    np.testing.assert_allclose(np.interp(anywhere, grid, returns.mean(axis=0)), exact, atol=1e-9)


def test_later_evaluations_can_be_left_out():
    runs = [make_run({0: 0, 10: 10, 20: 20}), make_run({0: 0, 10: 20})]
    found, notes = aggregate(runs, max_timesteps=10)
    assert found[0].timesteps.tolist() == [0, 10]
    assert notes == []
    with pytest.raises(ComparisonError, match=r"left out: sac in Pendulum-v1: found evaluations from step 5 on and up to 2"):
        aggregate([make_run({5: 0, 10: 1})], max_timesteps=2)


def test_groups_without_common_steps_are_left_out():
    found, notes = aggregate([make_run({0: 0, 10: 10}), make_run({20: 0}), make_run({0: 1}, "ppo")])
    assert [curve.label for curve in found] == ["ppo"]
    assert "left out: sac in Pendulum-v1: found evaluations from step 20 on and up to 10" in notes[0]


def test_curves_are_sorted_by_environment_and_keep_the_order_of_labels():
    runs = [make_run({0: 0}, "sac", "B-v0"), make_run({0: 0}, "a2c", "B-v0"), make_run({0: 0}, "sac", "A-v0")]
    found = [(curve.env, curve.label) for curve in aggregate(runs)[0]]
    assert found == [("A-v0", "sac"), ("B-v0", "sac"), ("B-v0", "a2c")]


def test_success_needs_every_seed():
    known, unknown = make_run({0: 0, 4: 0}, successes=[0, 1]), make_run({0: 0, 4: 0})
    both = aggregate([known, make_run({0: 0, 2: 0, 4: 0}, successes=[0.5, 0.5, 1])])[0][0].successes
    assert both is not None
    # 0, 0.5, 1 and 0.5, 0.5, 1
    assert both.values.tolist() == [0.25, 0.5, 1]
    assert aggregate([known, unknown])[0][0].successes is None


def test_a_single_seed_has_no_interval():
    curve = aggregate([make_run({0: 1, 10: 3})])[0][0]
    assert (len(curve.runs), curve.returns.low, curve.returns.high) == (1, None, None)
    assert curve.returns.values.tolist() == [1, 3]


def test_runs_that_are_no_repetitions_are_noted():
    configs = [{"gamma": 0.9, "n_timesteps": 5, "tau": 1}, {"gamma": 0.9, "n_timesteps": 10}, {}]
    runs = [make_run({0: 0}, hyperparams=config, seed=3) for config in configs]
    first, second = aggregate(runs)[1]
    assert "its runs are averaged although they differ in tau: " in first
    assert "have the seed 3" in second


def test_settings_without_a_meaning_are_refused():
    with pytest.raises(ComparisonError, match=r"statistic='mode', confidence=1\.0, reps=0, expected one of mean, iqm"):
        aggregate([make_run({0: 0})], statistic="mode", confidence=1.0, reps=0)
    with pytest.raises(ComparisonError, match="found no runs"):
        aggregate([])


def test_statistics_of_five_seeds():
    scores = np.array([[1.0], [2.0], [3.0], [10.0], [100.0]])
    found = {name: statistic(scores)[0] for name, statistic in STATISTICS.items()}
    assert found == {"mean": 23.2, "iqm": 5.0, "median": 3.0}


@pytest.mark.parametrize("n", range(1, 12))
def test_the_interquartile_mean_is_the_trimmed_mean(n: int):
    scores = np.random.default_rng(n).normal(size=(n, 4))
    np.testing.assert_allclose(STATISTICS["iqm"](scores), scipy.stats.trim_mean(scores, 0.25, axis=0))


def test_the_interval_of_two_seeds_is_their_range():
    # A quarter of the resamples is twice the lower one, a quarter twice the higher one
    low, high = bootstrap_interval(np.array([[1.0, 4.0], [3.0, 4.0]]), STATISTICS["mean"])
    assert (low.tolist(), high.tolist()) == ([1, 4], [3, 4])


def test_the_interval_of_three_seeds_is_that_of_all_their_resamples():
    # Sums of 27 draws from 0, 3, 6: 0 once, 3 three times, 6 six times, 9 seven times, then the mirror image. Below the
    # middle 80 % there are 2.7 draws, which 0 and part of the 3s make up; means are sums divided by 3
    low, high = bootstrap_interval(np.array([[0.0], [3.0], [6.0]]), STATISTICS["mean"], 5000, 0.8)
    assert (low[0], high[0]) == (1, 5)


@pytest.mark.parametrize("name", STATISTICS)
@pytest.mark.parametrize("confidence", [0.95, 0.5])
def test_the_interval_is_that_of_rliable(name: str, confidence: float):
    # Here, because it takes seconds. rliable draws from NumPy's global generator
    from rliable import library as rliable

    _, intervals = rliable.get_interval_estimates(
        {"curve": SCORES[:, None, :]},
        lambda resampled: STATISTICS[name](resampled[:, 0, :]),
        reps=2000,
        confidence_interval_size=confidence,
    )
    found = bootstrap_interval(SCORES, STATISTICS[name], 2000, confidence)
    # The median takes the value of one of the seeds, so its percentiles can jump from one to the next
    tolerance = (0.5 if name == "median" else 0.1) * np.std(SCORES, axis=0)
    assert (np.abs(np.array(found) - intervals["curve"]) < tolerance).all()


def test_the_same_call_gives_the_same_and_leaves_the_global_generator_alone():
    np.random.seed(11)
    expected = np.random.random(3)
    np.random.seed(11)
    first = bootstrap_interval(SCORES, STATISTICS["mean"], 200)
    assert np.random.random(3).tolist() == expected.tolist()
    np.testing.assert_array_equal(first, bootstrap_interval(SCORES, STATISTICS["mean"], 200))


def test_below_five_seeds_the_ends_are_the_range():
    runs = [make_run({0: 1, 10: value}) for value in (1, 2, 4, 8)]
    at_end = aggregate(runs, confidence=0.5)[0][0].at(1)
    assert (at_end["return_low"], at_end["return_high"]) == (1, 8)


def test_more_confidence_is_wider_and_the_value_lies_inside():
    runs = [make_run({0: 1, 10: value}) for value in (1, 2, 4, 8, 3.75)]
    wide, narrow = (aggregate(runs, confidence=confidence)[0][0].at(1) for confidence in (0.95, 0.5))
    ordered = [wide["return_low"], narrow["return_low"], 3.75, narrow["return_high"], wide["return_high"]]
    assert wide["return"] == narrow["return"] == 3.75
    assert ordered == sorted(set(ordered), key=lambda value: value or 0.0)


def test_the_table_holds_every_number(tmp_path: Path):
    returns = Band(np.array([1 / 3, 2.0]), np.array([0.1, 1.0]), np.array([0.5, 3.0]))
    runs = (make_run({0: 0}), make_run({0: 0}))
    pair = [
        Curve("Toy-v0", "ours, new", runs, np.array([0.0, 1e6]), returns, Band(np.array([0.0, 1.0]))),
        Curve("Toy-v0", "sac", runs[:1], np.array([5.0]), Band(np.array([-7.0])), None),
    ]
    path = tmp_path / "a.csv"
    path.write_text("precious")
    with pytest.raises(FileExistsError, match=r"a\.csv"):
        write_csv(pair, path)
    assert path.read_text() == "precious"
    write_csv(pair, path, overwrite=True)
    rows = read_csv(path)
    assert list(rows[0])[:6] == ["env", "label", "n_seeds", "timesteps", "return", "return_low"]
    assert list(rows[0])[6:] == ["return_high", "success", "success_low", "success_high"]
    assert [list(row.values()) for row in rows] == [
        ["Toy-v0", "ours, new", "2", "0", repr(1 / 3), "0.1", "0.5", "0.0", "", ""],
        ["Toy-v0", "ours, new", "2", "1000000", "2.0", "1.0", "3.0", "1.0", "", ""],
        ["Toy-v0", "sac", "1", "5", "-7.0", "", "", "", "", ""],
    ]
