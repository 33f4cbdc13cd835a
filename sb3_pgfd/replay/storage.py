"""The arrays behind the replay buffer: columns of transitions, each row with its weight in a sum tree."""

from collections.abc import Iterable, Mapping
from enum import IntEnum
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.preprocessing import get_action_dim, get_obs_shape, is_image_space

from sb3_pgfd.replay.device_arrays import DeviceArray
from sb3_pgfd.replay.frames import FramePool, check_stacks
from sb3_pgfd.replay.sum_tree import FAN_OUT, SumTree

# A Box observation is stored like a Dict observation with this one key
BOX_KEY = ""
# steps_left of a transition whose episode is not over yet
RUNNING = np.iinfo(np.int32).max
INTENDED = "intended_actions"
"""Column of the actions without exploration noise, of the demonstration store alone"""
GOALS = ("achieved_goal", "desired_goal")
"""Keys of observations that hindsight computes with: they stay in the CPU's memory"""
Columns = dict[str, np.ndarray]


def obs_column(key: str) -> str:
    """:return: Name of the column of s, of one key of a Dict"""
    return f"observations/{key}"


def next_obs_column(key: str) -> str:
    """:return: Name of the column of s'"""
    return f"next_observations/{key}"


def frames_column(key: str) -> str:
    """:return: Name of the column of the numbers of an image's frames, those of s and one more of s'"""
    return f"frames/{key}"


class Schema:
    """
    The columns of a transition: ``observations/<key>``, ``next_observations/<key>``, ``actions``, ``rewards``,
    ``terminated`` and ``steps_left``, the number of transitions of the same episode that follow. It is 0 where an episode
    was terminated, truncated or interrupted, and :data:`RUNNING` as long as the episode goes on.

    Images have a column ``frames/<key>`` in place of the first two: numbers in a :class:`FramePool`, which has each frame
    once.

    :param observation_space: Observation space
    :param action_space: Action space
    :param frame_stack: Of how many frames an image is a stack, k
    :param storage_device: Where observations but for goals are, None: in the CPU's memory as arrays
    :raises ValueError: If the channels of an image are not those of so many frames
    """

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        frame_stack: int = 1,
        storage_device: str | None = None,
    ):
        self.storage_device = storage_device
        self.observation_space = observation_space
        self.action_space = action_space
        shape = get_obs_shape(observation_space)
        self.obs_shapes: dict[str, tuple[int, ...]] = dict(shape) if isinstance(shape, dict) else {BOX_KEY: shape}
        self.action_dim = get_action_dim(action_space)
        self.frame_stack = frame_stack
        self.frame_shapes = {
            key: self._frame_shape(shape) for key, shape in self.obs_shapes.items() if is_image_space(self._space(key))
        }
        """Of one frame, by the key of an image"""
        if frame_stack > 1 and not self.frame_shapes:
            raise ValueError(f"frame_stack: found {frame_stack} and {observation_space}, expected images (uint8, 0 to 255)")

    def _space(self, key: str) -> spaces.Space:
        return self.observation_space[key] if isinstance(self.observation_space, spaces.Dict) else self.observation_space

    def _frame_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if shape[0] % self.frame_stack > 0:
            raise ValueError(f"frame_stack: found {self.frame_stack} and {shape[0]} channels, expected a divisor of them")
        return (shape[0] // self.frame_stack, *shape[1:])

    def frames_of(self, name: str) -> tuple[str, slice] | None:
        """:return: Of the column of s or s' of an image its key, and which of the numbers of its frames; None of others"""
        kind, _, key = name.partition("/")
        is_image = key in self.frame_shapes and kind in ("observations", "next_observations")
        return (key, slice(None, -1) if kind == "observations" else slice(1, None)) if is_image else None

    @property
    def names(self) -> list[str]:
        """Of all columns that a transition is read from."""
        observations = [name for key in self.obs_shapes for name in (obs_column(key), next_obs_column(key))]
        return [*observations, "actions", "rewards", "terminated", "steps_left"]

    @cached_property
    def row_nbytes(self) -> float:
        """Memory of one row with its weight and one frame of each image, in bytes."""
        return self._other_nbytes + sum(prod(shape) for shape in self.frame_shapes.values())

    @cached_property
    def drawn_nbytes(self) -> float:
        """Memory of one row with s and s' whole, in bytes."""
        return self._other_nbytes + sum(2 * prod(self.obs_shapes[key]) for key in self.frame_shapes)

    @cached_property
    def _other_nbytes(self) -> float:
        return sum(column.nbytes for column in self.allocate(1).values()) + 8.0 * FAN_OUT / (FAN_OUT - 1)

    def allocate_frames(self, n_rows: int) -> dict[str, FramePool]:
        """:return: Of each image the frames of ``n_rows`` rows"""
        return {
            key: FramePool(shape, self.frame_stack, n_rows, self.storage_device) for key, shape in self.frame_shapes.items()
        }

    def allocate(self, n_rows: int) -> Columns:
        """:return: Columns of ``n_rows`` rows of zeros; the system reserves memory when a row is written"""
        columns: dict[str, Any] = {}
        for key, shape in self.obs_shapes.items():
            if key in self.frame_shapes:
                columns[frames_column(key)] = np.zeros((n_rows, self.frame_stack + 1), dtype=np.int32)
                continue
            for name in (obs_column(key), next_obs_column(key)):
                if self.storage_device is None or key in GOALS:
                    columns[name] = np.zeros((n_rows, *shape), dtype=self._space(key).dtype)
                else:
                    columns[name] = DeviceArray((n_rows, *shape), self._space(key).dtype, self.storage_device)
        # SB3 stores float64 actions as float32 (its issue 1572)
        action_dtype = np.float32 if self.action_space.dtype == np.float64 else self.action_space.dtype
        columns["actions"] = np.zeros((n_rows, self.action_dim), dtype=action_dtype)
        columns["rewards"] = np.zeros(n_rows, dtype=np.float32)
        columns["terminated"] = np.zeros(n_rows, dtype=bool)
        columns["steps_left"] = np.zeros(n_rows, dtype=np.int32)
        return columns

    def observation_columns(self, observations: Any, next_observations: Any) -> Columns:
        """
        :param observations: s: one array, or one per key; the first axis runs over the rows
        :param next_observations: s', likewise
        :return: Columns of the stored shapes: Discrete observations get the axis that SB3 gives them (its issue 970)
        """
        columns = {}
        for key, shape in self.obs_shapes.items():
            for name, given in ((obs_column(key), observations), (next_obs_column(key), next_observations)):
                array = np.asarray(given[key] if isinstance(given, Mapping) else given)
                columns[name] = array.reshape(-1, *shape)
        return columns


class TransitionStore:
    """
    Columns of transitions with a sum tree of their weights p^alpha. A row whose weight is 0 is never drawn.

    :param schema: Which columns
    :param n_rows: Number of rows
    """

    n_gaps: int = 0
    """Rows that were written and hold no transition, see :meth:`leave_out`"""

    def __init__(self, schema: Schema, n_rows: int):
        self.schema = schema
        self.size = 0
        """Rows that have been written; they are the first ones"""
        self.columns = self._allocate(n_rows)
        self.frames = schema.allocate_frames(n_rows)
        """Of each image"""
        self.tree = SumTree(n_rows)

    def _allocate(self, n_rows: int) -> Columns:
        return self.schema.allocate(n_rows)

    @property
    def n_rows(self) -> int:
        """Rows that are allocated."""
        return self.tree.capacity

    @property
    def nbytes(self) -> int:
        """Memory of the columns and the tree, in bytes."""
        stored: Iterable[Any] = (*self.columns.values(), *self.frames.values(), self.tree)
        return sum(part.nbytes for part in stored)

    def write(self, rows: slice, values: Mapping[str, np.ndarray], weight: float) -> None:
        """
        :param rows: Where
        :param values: By column
        :param weight: p^alpha of each row
        """
        if self.n_gaps > 0:
            self.n_gaps -= int((self.tree.weights[rows.start : min(rows.stop, self.size)] == 0.0).sum())
        of_images = {obs_column(key): key for key in self.frames}
        for name, key in of_images.items():
            self._write_frames(key, rows, values[name], values[next_obs_column(key)])
        for name, value in values.items():
            if name in self.columns:
                self.columns[name][rows] = value
        self.tree.update(np.arange(rows.start, rows.stop), weight, check=False)
        self.size = max(self.size, rows.stop)

    def check_frames(self, values: Mapping[str, np.ndarray]) -> None:
        """
        :param values: By column, to be written
        :raises ValueError: If images are no stacks of as many frames as they should be
        """
        for key, shape in self.schema.frame_shapes.items():
            check_stacks(values[obs_column(key)], values[next_obs_column(key)], self.schema.frame_stack, shape[0])

    def _write_frames(self, key: str, rows: slice, observations: np.ndarray, next_observations: np.ndarray) -> None:
        """The rows are one step of all environments, behind the step before in a ring."""
        numbers, pool = self.columns[frames_column(key)], self.frames[key]
        n_envs, overwritten = rows.stop - rows.start, self.size > rows.start
        for row, first, second in zip(range(rows.start, rows.stop), observations, next_observations, strict=True):
            old = numbers[row].copy()
            numbers[row] = pool.add_step(first, second, numbers[row - n_envs] if self.size else None)
            if overwritten:
                # The next row is the oldest now
                pool.release(old, kept=numbers[(row + n_envs) % self.n_rows])

    def leave_out(self, rows: np.ndarray) -> None:
        """:param rows: That were written and hold no transition: of a step that may not have been taken"""
        self.tree.update(rows, 0.0, check=False)
        self.columns["steps_left"][rows] = 0
        self.n_gaps += len(rows)

    def take(self, rows: np.ndarray) -> Columns:
        """:return: A copy of some rows"""
        return {name: self._read(name, rows) for name in self.schema.names}

    def _read(self, name: str, rows: np.ndarray) -> np.ndarray:
        found = self.schema.frames_of(name)
        if found is None:
            return self.columns[name][rows]
        key, part = found
        return self.frames[key].read(self.columns[frames_column(key)][rows][..., part])

    def draw_uniformly(self, n_draws: int) -> np.ndarray:
        """:return: Rows that hold a transition, of which there is at least one, shape ``(n_draws,)``"""
        drawn = np.random.randint(0, self.size, size=n_draws)
        while self.n_gaps > 0 and (gaps := self.tree.weights.take(drawn) == 0.0).any():
            drawn[gaps] = np.random.randint(0, self.size, size=int(gaps.sum()))
        return drawn

    def check_rows(self, rows: np.ndarray, name: str) -> None:
        """
        :param rows: Row numbers from outside
        :param name: Of the store, for the message
        :raises IndexError: If one of them has never been written
        """
        if len(rows) and (rows.min() < 0 or rows.max() >= self.size):
            raise IndexError(
                f"indices: found rows {rows.min()} to {rows.max()} of the {name}, expected 0 to {self.size - 1}: the others "
                "hold no transition"
            )

    def is_interrupted(self, rows: slice, successors: slice) -> np.ndarray:
        """
        No flag tells when an environment was reset before its episode was over, as it happens when ``learn()`` is called
        again or a loaded buffer is filled further.

        :param rows: Transitions
        :param successors: Those that were stored after them
        :return: Whether the successor begins in another state than the transition ended in, bool
        """
        moved = np.zeros(rows.stop - rows.start, dtype=bool)
        for key in self.schema.obs_shapes:
            if key in self.frames:
                # Equal frames have one number
                numbers = self.columns[frames_column(key)]
                differs = numbers[rows, 1:] != numbers[successors, :-1]
            else:
                differs = self.columns[next_obs_column(key)][rows] != self.columns[obs_column(key)][successors]
            moved |= differs.reshape(len(moved), -1).any(axis=1)
        return moved

    def clear(self) -> None:
        """Forget all rows."""
        self.tree = SumTree(self.n_rows)
        self.size = self.n_gaps = 0
        for pool in self.frames.values():
            pool.clear()

    def _resize(self, n_rows: int, columns: Mapping[str, np.ndarray], weights: np.ndarray) -> None:
        """
        :param n_rows: Rows to allocate
        :param columns: Contents of the first ones
        :param weights: p^alpha of these
        """
        self.columns = self._allocate(n_rows)
        for name, column in columns.items():
            self.columns[name][: len(column)] = column
        self.tree = SumTree.from_weights(n_rows, weights)

    def reallocate(self) -> None:
        """Move the columns to where the schema says."""
        for pool in self.frames.values():
            pool.move(self.schema.storage_device)
        self._resize(self.n_rows, *self._written())

    def _written(self) -> tuple[Columns, np.ndarray]:
        """:return: Columns and weights of the rows that have been written"""
        return {name: column[: self.size] for name, column in self.columns.items()}, self.tree.weights[: self.size]

    # Pickles hold written rows only: empty ones would make a file of hundreds of megabytes
    def __getstate__(self) -> dict[str, Any]:
        columns, weights = self._written()
        return {**vars(self), "n_rows": self.n_rows, "columns": columns, "tree": weights.copy()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update({name: state[name] for name in state.keys() - {"n_rows", "columns", "tree"}})
        self._resize(state["n_rows"], state["columns"], state["tree"])


class Origin(IntEnum):
    """Where a row of the demonstration store came from."""

    GIVEN = 0
    INTERVENTION = 1
    SUCCESS = 2


class DemonstrationStore(TransitionStore):
    """
    Transitions that are kept for ever, one episode behind the other. The store grows by doubling, so that adding an
    episode costs what the episode costs. Rows of a kept episode never move.

    The agent's own successes are the exception to "for ever": the oldest can be dropped, and their rows are used again.

    :param schema: Which columns; the store adds ``origin`` and ``intended_actions``
    """

    def __init__(self, schema: Schema):
        super().__init__(schema, 1)
        self.n_given = 0
        """Rows that were given as demonstrations: neither own successes nor interventions"""
        # Rows of each own success, the oldest first; and rows that hold nothing any more, in rising order
        self._successes: list[range] = []
        self._free: list[range] = []
        self._live: np.ndarray | None = None

    def _allocate(self, n_rows: int) -> Columns:
        columns = super()._allocate(n_rows)
        return {**columns, "origin": np.zeros(n_rows, dtype=np.int8), INTENDED: np.zeros_like(columns["actions"])}

    @property
    def n_live(self) -> int:
        """Rows that hold a transition."""
        return self.size - sum(map(len, self._free))

    @property
    def live_rows(self) -> np.ndarray:
        """The rows that hold a transition, in rising order."""
        if self._live is None:
            self._live = np.flatnonzero(self.tree.weights[: self.size])
        return self._live

    @property
    def origins(self) -> np.ndarray:
        """:class:`Origin` of each live row."""
        return self.columns["origin"][self.live_rows]

    def draw_uniformly(self, n_draws: int) -> np.ndarray:
        """:return: Rows, shape ``(n_draws,)``"""
        drawn = np.random.randint(0, max(self.n_live, 1), size=n_draws)
        return self.live_rows[drawn] if self._free else drawn

    def add(self, columns: Mapping[str, np.ndarray], origin: Origin, weight: float) -> None:
        """
        :param columns: Rows of whole episodes, or of parts of them; without ``intended_actions`` these are the actions
        :param origin: Where they came from
        :param weight: p^alpha of each
        """
        n_added = len(columns["rewards"])
        self.check_frames(columns)
        start = self._place(n_added)
        own = {"origin": np.full(n_added, int(origin)), INTENDED: columns["actions"]}
        self.write(slice(start, start + n_added), {**own, **columns}, weight)
        self._live = None
        if origin is Origin.SUCCESS:
            self._successes.append(range(start, start + n_added))
        self.n_given += n_added if origin is Origin.GIVEN else 0

    def _write_frames(self, key: str, rows: slice, observations: np.ndarray, next_observations: np.ndarray) -> None:
        self.columns[frames_column(key)][rows] = self.frames[key].add_episodes(observations, next_observations)

    def drop_oldest_successes(self, n_left: int) -> None:
        """:param n_left: Rows of own successes that may stay at most"""
        n_kept = sum(map(len, self._successes))
        while n_kept > n_left:
            oldest = self._successes.pop(0)
            self.tree.update(np.asarray(oldest), 0.0, check=False)
            for key, pool in self.frames.items():
                pool.release(self.columns[frames_column(key)][oldest.start : oldest.stop])
            self._free = joined([*self._free, oldest])
            self._live = None
            n_kept -= len(oldest)

    def update_weights(self, rows: np.ndarray, weights: np.ndarray) -> None:
        """
        :param rows: Rows that have been written. Those of a success that was dropped since they were drawn stay dropped
        :param weights: p^alpha of each, positive
        """
        if self._free:
            present = self.tree.weights.take(rows) > 0.0
            rows, weights = rows[present], weights[present]
        self.tree.update(rows, weights, check=False)

    def _place(self, n_added: int) -> int:
        """:return: The first of ``n_added`` rows that are free, one behind the other"""
        for index, free in enumerate(self._free):
            if len(free) >= n_added or free.stop == self.size:
                self._free[index : index + 1] = [free[n_added:]] if len(free) > n_added else []
                start = free.start
                break
        else:
            start = self.size
        if start + n_added > self.n_rows:
            self._resize(2 * (start + n_added), *self._written())
        return start


def joined(ranges: Iterable[range]) -> list[range]:
    """:return: The same rows in rising order, with neighbours in one range"""
    found: list[range] = []
    for rows in sorted(ranges, key=lambda one: one.start):
        if found and found[-1].stop == rows.start:
            rows = range(found.pop().start, rows.stop)
        found.append(rows)
    return found
