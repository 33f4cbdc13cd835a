"""The arrays behind the replay buffer: one row per transition, and nothing else."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.preprocessing import get_action_dim, get_obs_shape

# A Box observation is stored like a Dict observation with this one key
BOX_KEY = ""
_COLUMNS = ("actions", "rewards", "terminated", "ended")


class TransitionStorage:
    """
    Flat arrays of transitions. A row takes the bytes of two observations, an action, a reward and two flags.

    :param n_rows: Number of rows
    :param observation_space: Observation space
    :param action_space: Action space
    """

    def __init__(self, n_rows: int, observation_space: spaces.Space, action_space: spaces.Space):
        self.n_rows = n_rows
        self.observation_space = observation_space
        self.action_space = action_space
        shape = get_obs_shape(observation_space)
        self.shapes: dict[str, tuple[int, ...]] = dict(shape) if isinstance(shape, dict) else {BOX_KEY: shape}
        self._allocate()

    def _allocate(self) -> None:
        n_rows, space = self.n_rows, self.observation_space
        dtypes = {key: space[key].dtype if isinstance(space, spaces.Dict) else space.dtype for key in self.shapes}
        self.observations = {key: np.zeros((n_rows, *shape), dtype=dtypes[key]) for key, shape in self.shapes.items()}
        self.next_observations = {key: np.zeros((n_rows, *shape), dtype=dtypes[key]) for key, shape in self.shapes.items()}
        # SB3 stores float64 actions as float32 (its issue 1572)
        action_dtype = np.float32 if self.action_space.dtype == np.float64 else self.action_space.dtype
        self.actions = np.zeros((n_rows, get_action_dim(self.action_space)), dtype=action_dtype)
        self.rewards = np.zeros(n_rows, dtype=np.float32)
        self.terminated = np.zeros(n_rows, dtype=bool)
        # Terminated or truncated: what n-step returns look at most
        self.ended = np.zeros(n_rows, dtype=bool)

    @property
    def nbytes(self) -> int:
        """Memory of the arrays in bytes."""
        return sum(holder[name].nbytes for holder, name in self._places())

    def _places(self) -> list[tuple[dict[str, Any], str]]:
        """Where each array is kept, ``holder[name]``, the largest first."""
        by_key = (self.observations, self.next_observations)
        places = [*((vars(self), name) for name in _COLUMNS), *((arrays, key) for arrays in by_key for key in arrays)]
        return sorted(places, key=lambda place: -place[0][place[1]].nbytes)

    def write(
        self,
        rows: slice,
        observations: Any,
        next_observations: Any,
        actions: np.ndarray,
        rewards: np.ndarray,
        terminated: np.ndarray,
        ended: np.ndarray,
    ) -> None:
        """
        :param rows: Where
        :param observations: One array, or one per key; the first axis runs over the rows
        :param next_observations: Likewise
        :param actions: As they are to be read back
        :param rewards: Shape ``(n,)``
        :param terminated: Shape ``(n,)``, bool
        :param ended: Terminated or truncated, shape ``(n,)``, bool
        """
        for stored, given in ((self.observations, observations), (self.next_observations, next_observations)):
            for key, array in stored.items():
                value = np.asarray(given[key] if isinstance(given, Mapping) else given)
                # Discrete observations come without the axis they are stored with (SB3's issues 970 and 1392)
                array[rows] = value.reshape(-1, *self.shapes[key])
        self.actions[rows] = np.asarray(actions).reshape(-1, self.actions.shape[1])
        self.rewards[rows] = rewards
        self.terminated[rows] = terminated
        self.ended[rows] = ended

    def insert(self, at: int, added: "TransitionStorage", n_filled: int) -> None:
        """
        Put rows in between. Each array is replaced by a longer one, one after another, so that for the time being there
        is one array more, not a second storage. If that fails half-way, everything is as it was.

        :param at: Row that the first of them becomes; the rows from there on move behind the last
        :param added: Transitions of the same spaces
        :param n_filled: Rows in use, the first ones
        """
        n_added = added.n_rows
        moved = slice(at + n_added, n_filled + n_added)
        with ExitStack() as undo:
            # If memory does not suffice, that shows at the first array
            for (holder, name), (other, _) in zip(self._places(), added._places(), strict=True):
                old = holder[name]
                grown = np.zeros((self.n_rows + n_added, *old.shape[1:]), dtype=old.dtype)
                grown[:at], grown[at : at + n_added], grown[moved] = old[:at], other[name], old[at:n_filled]
                undo.callback(_cut, holder, name, slice(at, at + n_added), self.n_rows)
                holder[name] = grown
            undo.pop_all()
        self.n_rows += n_added

    def take(self, rows: np.ndarray) -> "TransitionStorage":
        """
        :param rows: Which transitions, shape ``(n,)``
        :return: A copy of them
        """
        taken = TransitionStorage(len(rows), self.observation_space, self.action_space)
        for (holder, name), (source, _) in zip(taken._places(), self._places(), strict=True):
            holder[name] = source[name][rows]
        return taken

    @classmethod
    def joined(cls, parts: "Sequence[TransitionStorage]") -> "TransitionStorage":
        """
        :param parts: Transitions of the same spaces, at least one storage of them
        :return: A copy of all, one behind the other
        """
        whole = cls(sum(part.n_rows for part in parts), parts[0].observation_space, parts[0].action_space)
        for places in zip(whole._places(), *(part._places() for part in parts), strict=True):
            (holder, name), *others = places
            holder[name] = np.concatenate([other[name] for other, _ in others])
        return whole

    def end_interrupted(self, rows: slice, successors: slice) -> None:
        """
        End the episodes that do not go on: no flag tells that an environment was reset before its episode was over, as
        when ``learn()`` is called again, or a loaded buffer is filled on.

        :param rows: Transitions
        :param successors: The ones stored after them
        """
        for key, array in self.next_observations.items():
            moved = array[rows] != self.observations[key][successors]
            self.ended[rows] |= moved.reshape(len(moved), -1).any(axis=1)

    def state(self, n_filled: int) -> dict[str, Any]:
        """
        :param n_filled: Rows in use, the first ones
        :return: These rows alone: a million empty ones would make a file of a hundred megabytes
        """
        state = self.__dict__.copy()
        for name in ("observations", "next_observations"):
            state[name] = {key: array[:n_filled] for key, array in state[name].items()}
        state.update({name: state[name][:n_filled] for name in _COLUMNS})
        return state

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "TransitionStorage":
        """:param state: As :meth:`state` returns it"""
        storage = cls(state["n_rows"], state["observation_space"], state["action_space"])
        arrays = {name: state[name] for name in _COLUMNS}
        storage.write(slice(0, len(state["rewards"])), state["observations"], state["next_observations"], **arrays)
        return storage


def _cut(holder: dict[str, Any], name: str, rows: slice, n_rows: int) -> None:
    """Undo what :meth:`TransitionStorage.insert` did to one array, if it did."""
    if len(holder[name]) > n_rows:
        holder[name] = np.delete(holder[name], rows, axis=0)
