"""Images of a store, each frame kept once. A row has the numbers of the frames that its observations are stacks of."""

from typing import Any

import numpy as np

from sb3_pgfd.demonstrations.continuity import interruptions
from sb3_pgfd.replay.device_arrays import DeviceArray

# Frame 0 is black: VecFrameStack has it before the first frame of an episode
_BLACK = 0
# Room for the last frames of episodes, for each row; a store with shorter episodes gets more
_ROOM, _GROWTH = 1.05, 1.5


class FramePool:
    """
    Frames by number. Numbers that are released are given again.

    :param shape: Of one frame, channels first
    :param n_stack: Frames in an observation, k
    :param n_rows: Rows of the store
    :param device: Where they are, None: in the CPU's memory as an array
    """

    def __init__(self, shape: tuple[int, ...], n_stack: int, n_rows: int, device: str | None = None):
        self.shape, self.n_stack, self.device = shape, n_stack, device
        self.frames = self._allocate(int(_ROOM * n_rows) + n_stack + 2)
        self._n_used = 1
        self._released: list[int] = []

    def _allocate(self, n_frames: int) -> Any:
        """:return: Of zeros; the system reserves memory when a frame is written"""
        shape = (n_frames, *self.shape)
        return np.zeros(shape, dtype=np.uint8) if self.device is None else DeviceArray(shape, np.uint8, self.device)

    def move(self, device: str | None) -> None:
        """:param device: Where the frames are to be"""
        self.device = device
        self._resize(len(self.frames))

    def _resize(self, n_frames: int) -> None:
        written = self.frames[: self._n_used]
        self.frames = self._allocate(n_frames)
        self.frames[: len(written)] = written

    @property
    def nbytes(self) -> int:
        """Memory of the frames, in bytes."""
        return self.frames.nbytes

    def read(self, numbers: np.ndarray) -> np.ndarray:
        """:return: Observations of shape ``(..., k * channels, height, width)`` of numbers of shape ``(..., k)``"""
        return self.frames[numbers].reshape(*numbers.shape[:-1], self.n_stack * self.shape[0], *self.shape[1:])

    def add_step(self, observation: np.ndarray, next_observation: np.ndarray, previous: np.ndarray | None) -> np.ndarray:
        """
        :param observation: s, shape ``(k * channels, height, width)``
        :param next_observation: s', likewise
        :param previous: Numbers of the step before, shape ``(k + 1,)``; None: there is none
        :return: Numbers of the frames of s and, one further, of s', shape ``(k + 1,)``
        """
        stack = observation.reshape(self.n_stack, *self.shape)
        if previous is not None and np.array_equal(self.frames[previous[1:]], stack):
            begin = previous[1:]
        else:
            begin = self._begin(stack)
        return np.append(begin, self._add(next_observation[-self.shape[0] :][None]))

    def add_episodes(self, observations: np.ndarray, next_observations: np.ndarray) -> np.ndarray:
        """
        :param observations: s of steps in the order of time, shape ``(n, k * channels, height, width)``
        :param next_observations: s', likewise
        :return: Numbers of the frames, shape ``(n, k + 1)``
        """
        last = self._add(next_observations[:, -self.shape[0] :])
        starts = np.flatnonzero(np.append(True, interruptions(observations, next_observations)))
        numbers = np.empty((len(last), self.n_stack + 1), dtype=np.int32)
        for start, end in zip(starts, [*starts[1:], len(last)], strict=True):
            episode = np.append(self._begin(observations[start].reshape(self.n_stack, *self.shape)), last[start:end])
            numbers[start:end] = np.lib.stride_tricks.sliding_window_view(episode, self.n_stack + 1)
        return numbers

    def release(self, numbers: np.ndarray, kept: np.ndarray | None = None) -> None:
        """
        :param numbers: Of frames that rows do not need any more
        :param kept: Of frames that other rows need
        """
        self._released += sorted(set(numbers.ravel().tolist()) - set([] if kept is None else kept.ravel().tolist()) - {_BLACK})

    def clear(self) -> None:
        """Release all frames."""
        self._n_used, self._released = 1, []

    def _begin(self, stack: np.ndarray) -> np.ndarray:
        """:return: Numbers of the frames of an episode's first observation, oldest first, shape ``(k,)``"""
        numbers = np.full(self.n_stack, _BLACK, dtype=np.int32)
        seen = stack.reshape(self.n_stack, -1).any(axis=1)
        numbers[seen] = self._add(stack[seen])
        return numbers

    def _add(self, frames: np.ndarray) -> np.ndarray:
        """:return: Numbers, shape ``(n,)``"""
        n_again = min(len(self._released), len(frames))
        again = [self._released.pop() for _ in range(n_again)]
        end = self._n_used + len(frames) - n_again
        if end > len(self.frames):
            self._resize(int(_GROWTH * end))
        numbers = np.array([*again, *range(self._n_used, end)], dtype=np.int32)
        self._n_used = end
        self.frames[numbers] = frames
        return numbers

    # Pickles hold frames that have been written only
    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "frames": self.frames[: self._n_used], "n_frames": len(self.frames)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        written, n_frames = state.pop("frames"), state.pop("n_frames")
        self.__dict__.update(state)
        self.frames = self._allocate(n_frames)
        self.frames[: len(written)] = written


def check_stacks(observations: np.ndarray, next_observations: np.ndarray, n_stack: int, n_channels: int) -> None:
    """
    :param observations: s, shape ``(n, k * channels, height, width)``
    :param next_observations: s', likewise
    :param n_stack: k
    :param n_channels: Of one frame
    :raises ValueError: If s' is not s moved on by one frame
    """
    if n_stack > 1 and not np.array_equal(observations[:, n_channels:], next_observations[:, :-n_channels]):
        raise ValueError(
            "frame_stack: found observations that do not end with the frames that the next ones begin with, expected stacks "
            f"of {n_stack} frames, the newest last, as VecFrameStack makes them. Nothing of this was stored"
        )
