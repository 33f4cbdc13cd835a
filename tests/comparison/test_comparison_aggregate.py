"""Seeds on a common grid."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from run_folders import make_run

from sb3_pgfd.comparison import ComparisonError, aggregate
from sb3_pgfd.comparison.aggregate import common_grid, on_grid

curves = st.dictionaries(st.integers(0, 50), st.floats(-100, 100), min_size=1, max_size=8).map(
    lambda c: dict(sorted(c.items()))
)


def test_runs_with_the_same_steps_are_averaged_there():
    curve = aggregate([make_run({0: 1, 10: 3}), make_run({0: 3, 10: 7})])[0][0]
    assert curve.timesteps.tolist() == [0, 10]
    assert curve.returns.values.tolist() == [2, 5]
    assert (curve.env, curve.label, curve.n_seeds, curve.successes) == ("Pendulum-v1", "sac", 2, None)


def test_other_steps_are_interpolated_within_the_common_range():
    runs = [make_run({0: 0, 10: 10, 20: 30}), make_run({5: 1, 15: 3})]
    curves, notes = aggregate(runs)
    assert curves[0].timesteps.tolist() == [5, 10, 15]
    # 5, 10, 20 and 1, 2, 3
    assert curves[0].returns.values.tolist() == [3, 6, 11.5]
    assert len(notes) == 2
    assert "sac in Pendulum-v1: cut to what follows step 5, where " in notes[0]
    assert "sac in Pendulum-v1: cut to 15 steps" in notes[1]
    assert "longest of its 2 runs has 20" in notes[1]


@given(st.lists(curves, min_size=1, max_size=4))
def test_between_the_steps_of_the_grid_the_mean_is_linear(drawn: list[dict[int, float]]):
    runs = [make_run(curve) for curve in drawn]
    start, end = max(min(curve) for curve in drawn), min(max(curve) for curve in drawn)
    if start > end:
        with pytest.raises(ComparisonError, match="expected a common range"):
            common_grid(runs)
        return
    grid = common_grid(runs)
    assert set(grid) <= {step for curve in drawn for step in curve}
    assert start == grid[0]
    assert end == grid[-1]
    anywhere = np.linspace(start, end, 13)
    exact = np.mean([np.interp(anywhere, list(curve), list(curve.values())) for curve in drawn], axis=0)
    np.testing.assert_allclose(np.interp(anywhere, grid, on_grid(runs, grid)[0].mean(axis=0)), exact, atol=1e-9)


def test_later_evaluations_can_be_left_out():
    runs = [make_run({0: 0, 10: 10, 20: 20}), make_run({0: 0, 10: 20})]
    curves, notes = aggregate(runs, max_timesteps=10)
    assert curves[0].timesteps.tolist() == [0, 10]
    assert notes == []
    with pytest.raises(ComparisonError, match=r"left out: sac in Pendulum-v1: found evaluations from step 5 on and up to 2"):
        aggregate([make_run({5: 0, 10: 1})], max_timesteps=2)


def test_groups_without_common_steps_are_left_out():
    curves, notes = aggregate([make_run({0: 0, 10: 10}), make_run({20: 0}), make_run({0: 1}, "ppo")])
    assert [curve.label for curve in curves] == ["ppo"]
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
    assert (curve.n_seeds, curve.returns.low, curve.returns.high) == (1, None, None)
    assert curve.returns.values.tolist() == [1, 3]


def test_runs_that_are_no_repetitions_are_noted():
    configs = [{"gamma": 0.9, "n_timesteps": 5, "tau": 1}, {"gamma": 0.9, "n_timesteps": 10}, {}]
    runs = [make_run({0: 0}, hyperparams=config, seed=3) for config in configs]
    first, second = aggregate(runs)[1]
    assert "its runs differ in tau, " in first
    assert "have the seed 3" in second


def test_settings_that_make_no_sense_are_refused():
    runs = [make_run({0: 0})]
    with pytest.raises(ComparisonError, match="statistic='mode'"):
        aggregate(runs, statistic="mode")
    with pytest.raises(ComparisonError, match=r"confidence=1\.0"):
        aggregate(runs, confidence=1.0)
    with pytest.raises(ComparisonError, match="reps=0"):
        aggregate(runs, reps=0)
    with pytest.raises(ComparisonError, match="found no runs"):
        aggregate([])
