"""The means that are logged of the updates."""

import pytest
import torch as th

from sb3_pgfd.common.metrics import MeanMetrics


def test_means_are_taken_over_all_elements_of_all_tensors() -> None:
    metrics = MeanMetrics()
    metrics.add({"a": th.tensor([[1.0], [2.0]]), "b": th.tensor([True, False, False, False])})
    metrics.add({"a": th.tensor(6.0)})
    # (1 + 2 + 6) / 3, not the mean of 1.5 and 6
    assert metrics.flush() == {"a": 3.0, "b": 0.25}


def test_a_flush_forgets() -> None:
    metrics = MeanMetrics()
    assert metrics.flush() == {}
    metrics.add({"a": th.ones(2)})
    metrics.flush()
    assert metrics.flush() == {}
    metrics.add({"a": th.full((2,), 5.0)})
    assert metrics.flush() == {"a": 5.0}


@pytest.mark.parametrize("n_added", [255, 256, 257, 1000])
def test_means_stay_right_beyond_the_number_of_tensors_kept(n_added: int) -> None:
    metrics = MeanMetrics()
    for number in range(n_added):
        metrics.add({"a": th.tensor([float(number), float(number + 1)])})
        assert len(metrics._kept["a"]) < metrics._MAX_KEPT
    # The mean of 0.5, 1.5, ..., n - 0.5
    assert metrics.flush() == {"a": pytest.approx(n_added / 2)}


def test_large_sums_keep_their_digits() -> None:
    metrics = MeanMetrics()
    for _ in range(600):
        metrics.add({"a": th.full((1000,), 1.1)})
    # In float32 a sum of 600,000 such numbers would be off by more
    assert metrics.flush()["a"] == pytest.approx(float(th.tensor(1.1)), rel=1e-9)


def test_tensors_of_no_elements_have_no_mean() -> None:
    metrics = MeanMetrics()
    metrics.add({"a": th.zeros(0)})
    assert metrics.flush() == {}
