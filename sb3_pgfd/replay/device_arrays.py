"""Columns of observations in the memory of a device."""

from typing import Any

import numpy as np
import torch as th

from sb3_pgfd.utils.warning import OptionWarning, warn_user

# The step that was written last, and the one before: asked for at each step, which should not wait for the device
_N_REMEMBERED = 2


def available(device: str) -> th.device:
    """:return: The device, or the CPU with a warning where a buffer of another machine was loaded"""
    if th.device(device).type == "cuda" and not th.cuda.is_available():
        warn_user(f"storage_device: found {device!r} and no GPU, expected one: the CPU's memory is used", OptionWarning)
        return th.device("cpu")
    return th.device(device)


class DeviceArray:
    """
    As much of an array as columns need. It takes and gives NumPy arrays, but for :meth:`gather`.

    :param shape: Its shape
    :param dtype: Of its elements
    :param device: Where they are
    """

    def __init__(self, shape: tuple[int, ...], dtype: Any, device: str):
        example = th.from_numpy(np.zeros(1, dtype=dtype))
        self._tensor = th.zeros(shape, dtype=example.dtype, device=available(device))
        self.dtype = np.dtype(dtype)
        self._recent: dict[tuple[int, int], np.ndarray] = {}

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self._tensor.shape)

    @property
    def nbytes(self) -> int:
        return self._tensor.nbytes

    def __len__(self) -> int:
        return len(self._tensor)

    def __getitem__(self, rows: Any) -> np.ndarray:
        """:return: A copy"""
        if isinstance(rows, slice):
            recent = self._recent.get((rows.start, rows.stop))
            return self._tensor[rows].numpy(force=True).copy() if recent is None else recent.copy()
        return self.gather(np.asarray(rows)).cpu().numpy()

    def __setitem__(self, rows: Any, values: np.ndarray) -> None:
        if not isinstance(rows, slice):
            self._recent.clear()
            numbers = th.from_numpy(np.asarray(rows, dtype=np.int64)).to(self._tensor.device)
            self._tensor[numbers] = th.from_numpy(np.array(values, dtype=self.dtype)).to(self._tensor.device)
            return
        array = np.array(values, dtype=self.dtype)
        given = th.from_numpy(array)
        if self._tensor.is_cuda:
            given = given.pin_memory()
        self._tensor[rows].copy_(given.view(self._tensor[rows].shape), non_blocking=True)
        self._remember(rows, array)

    def _remember(self, rows: slice, array: np.ndarray) -> None:
        start, stop, _ = rows.indices(len(self))
        overlapping = [key for key in self._recent if key[0] < stop and start < key[1]]
        for key in overlapping:
            del self._recent[key]
        if stop - start <= len(self) // 4:
            self._recent[(start, stop)] = array
        while len(self._recent) > _N_REMEMBERED:
            del self._recent[next(iter(self._recent))]

    def gather(self, rows: np.ndarray) -> th.Tensor:
        """:return: Rows, of any shape; one outside is read as the last, like ``take(..., mode="clip")``. On the device"""
        numbers = th.from_numpy(np.clip(rows, 0, len(self) - 1).reshape(-1))
        if self._tensor.is_cuda:
            numbers = numbers.pin_memory().to(self._tensor.device, non_blocking=True)
        return self._tensor.index_select(0, numbers).view(*rows.shape, *self._tensor.shape[1:])
