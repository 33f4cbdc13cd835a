"""From demonstrations, in environment units, to the rows of the buffer and back."""

from collections.abc import Mapping

import numpy as np
from gymnasium import spaces

from sb3_pgfd.demonstrations import Demonstrations
from sb3_pgfd.demonstrations.arrays import owned, unscaled
from sb3_pgfd.demonstrations.validation import Observations
from sb3_pgfd.replay.storage import BOX_KEY, TransitionStorage


def to_storage(
    demonstrations: Demonstrations, observation_space: spaces.Space, action_space: spaces.Space
) -> TransitionStorage:
    """
    :param demonstrations: They fit the buffer's spaces
    :param observation_space: Observation space
    :param action_space: Action space
    :return: A copy, continuous actions are scaled to [-1, 1] like SB3 does it
    """
    actions = demonstrations.actions
    if isinstance(action_space, spaces.Box):
        low, high = action_space.low, action_space.high
        actions = np.clip(2.0 * (actions - low) / (high - low) - 1.0, -1.0, 1.0)
    storage = TransitionStorage(len(demonstrations), observation_space, action_space)
    storage.write(
        slice(0, len(demonstrations)),
        demonstrations.observations,
        demonstrations.next_observations,
        actions,
        demonstrations.rewards,
        demonstrations.terminated,
        demonstrations.terminated | demonstrations.truncated,
    )
    return storage


def from_rows(storage: TransitionStorage, rows: np.ndarray, ended: np.ndarray) -> Demonstrations:
    """
    :param storage: Where to read
    :param rows: Which transitions, episode after episode, shape ``(n,)``
    :param ended: Whether each of them is the last of its episode, shape ``(n,)``, bool
    :return: A copy in environment units
    """
    terminated = storage.terminated[rows]
    return Demonstrations.from_transitions(
        _observations(storage.observations, rows, storage.observation_space),
        _environment_actions(storage.actions[rows], storage.action_space),
        storage.rewards[rows],
        _observations(storage.next_observations, rows, storage.observation_space),
        terminated,
        ended & ~terminated,
    )


def _observations(stored: Mapping[str, np.ndarray], rows: np.ndarray, space: spaces.Space) -> Observations:
    if isinstance(space, spaces.Dict):
        return {key: _take(stored[key], rows, subspace) for key, subspace in space.spaces.items()}
    return _take(stored[BOX_KEY], rows, space)


def _take(stored: np.ndarray, rows: np.ndarray, space: spaces.Space) -> np.ndarray:
    # Discrete observations are stored with an axis that the environment does not have
    assert space.shape is not None
    return owned(stored.reshape(-1, *space.shape)[rows])


def _environment_actions(stored: np.ndarray, space: spaces.Space) -> np.ndarray:
    assert space.shape is not None
    actions = stored.reshape(-1, *space.shape)
    if isinstance(space, spaces.Box):
        actions = np.clip(unscaled(actions, space.low, space.high), space.low, space.high)
    return actions
