"""Means of what the updates compute, and logging without printing."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch as th
from stable_baselines3.common.logger import HumanOutputFormat, Logger


@contextmanager
def without_tables(logger: Logger) -> Iterator[None]:
    """Let a logger write files and TensorBoard, but print no table."""
    formats = logger.output_formats
    logger.output_formats = [item for item in formats if not isinstance(item, HumanOutputFormat)]
    try:
        yield
    finally:
        logger.output_formats = formats


class MeanMetrics:
    """
    Collects tensors and gives the means of their elements, without waiting for them at each update.

    Reducing a small tensor costs as much as a matrix product of a small network, and reading its number (``.item()``)
    waits for the device besides. So tensors are kept as they are, and reduced when somebody wants to log them.
    """

    # Folded into a sum beyond that, so that a run that never logs does not grow
    _MAX_KEPT = 256

    def __init__(self) -> None:
        self._kept: dict[str, list[th.Tensor]] = {}
        self._sums: dict[str, tuple[float, int]] = {}

    def add(self, values: dict[str, th.Tensor]) -> None:
        """:param values: Tensors without gradient by name"""
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
            values = th.cat([value.flatten() for value in kept])
            self._sums[name] = (total + float(values.double().sum()), count + len(values))
            kept.clear()
