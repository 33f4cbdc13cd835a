"""Means of what the updates compute, without waiting for it at each update."""

import torch as th


class MeanMetrics:
    """
    Collects scalar tensors and gives their means.

    Reading a tensor's number (``.item()``) waits for the device and costs more than adding two numbers, so tensors are
    kept, and read when somebody wants to log them.
    """

    # Folded into a sum beyond that, so that a run that never logs does not grow
    _MAX_KEPT = 512

    def __init__(self) -> None:
        self._kept: dict[str, list[th.Tensor]] = {}
        self._sums: dict[str, tuple[float, int]] = {}

    def add(self, values: dict[str, th.Tensor]) -> None:
        """:param values: Scalar tensors without gradient, by name"""
        for name, value in values.items():
            kept = self._kept.setdefault(name, [])
            kept.append(value)
            if len(kept) >= self._MAX_KEPT:
                self._fold(name)

    def flush(self) -> dict[str, float]:
        """:return: The means since the last flush, by name"""
        for name in self._kept:
            self._fold(name)
        means = {name: total / count for name, (total, count) in self._sums.items() if count}
        self._sums.clear()
        self._kept.clear()
        return means

    def _fold(self, name: str) -> None:
        kept = self._kept[name]
        if kept:
            total, count = self._sums.get(name, (0.0, 0))
            self._sums[name] = (total + float(th.stack(kept).double().sum()), count + len(kept))
            kept.clear()
