"""Demonstrations, in environment units, as columns of the buffer, and back; and steps of SB3's own replay buffers."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer

from sb3_pgfd.demonstrations import Demonstrations
from sb3_pgfd.demonstrations.arrays import owned, unscaled
from sb3_pgfd.demonstrations.validation import Observations
from sb3_pgfd.replay.storage import BOX_KEY, Columns, Schema, next_obs_column, obs_column

Reference = Demonstrations | str | Path | Mapping[str, Any]
"""A dataset, a path, the name of packaged demonstrations, or a mapping with one of them as ``source`` and options of
``Demonstrations.load``. SB3 saves it with the model: all but a dataset are a few bytes"""


def load_reference(reference: Reference) -> Demonstrations:
    """:raises DemonstrationsError: If there are no such demonstrations, or they cannot be read"""
    return Demonstrations.load(**reference) if isinstance(reference, Mapping) else Demonstrations.load(reference)


def scaled(actions: np.ndarray, space: spaces.Space) -> np.ndarray:
    """
    :param actions: In environment units
    :param space: The environment's
    :return: In [-1, 1] if continuous, like SB3 scales them
    """
    if not isinstance(space, spaces.Box):
        return actions
    return np.clip(2.0 * (actions - space.low) / (space.high - space.low) - 1.0, -1.0, 1.0)


def to_columns(demonstrations: Demonstrations, schema: Schema) -> Columns:
    """
    :param demonstrations: They fit the buffer's spaces
    :param schema: Of the buffer
    """
    return {
        **schema.observation_columns(demonstrations.observations, demonstrations.next_observations),
        "actions": scaled(demonstrations.actions, schema.action_space).reshape(len(demonstrations), schema.action_dim),
        "rewards": demonstrations.rewards,
        "terminated": demonstrations.terminated,
        "steps_left": steps_to_end(demonstrations.terminated | demonstrations.truncated),
    }


def steps_to_end(ended: np.ndarray) -> np.ndarray:
    """
    :param ended: Shape ``(n,)``, bool, in the order of time; the last one is True
    :return: Steps from each row to the next that ended, shape ``(n,)``
    """
    ends = np.flatnonzero(ended)
    lengths = np.diff(ends, prepend=-1)
    return np.repeat(ends, lengths) - np.arange(len(ended))


def from_columns(columns: Columns, schema: Schema) -> Demonstrations:
    """
    :param columns: Transitions, episode after episode; ``steps_left`` of the last of each is 0
    :param schema: Of the buffer
    :return: The same in environment units
    """
    terminated = columns["terminated"]
    by_key = {key: (columns[obs_column(key)], columns[next_obs_column(key)]) for key in schema.obs_shapes}
    return Demonstrations.from_transitions(
        _observations({key: pair[0] for key, pair in by_key.items()}, schema.observation_space),
        _environment_actions(columns["actions"], schema.action_space),
        columns["rewards"],
        _observations({key: pair[1] for key, pair in by_key.items()}, schema.observation_space),
        terminated,
        (columns["steps_left"] == 0) & ~terminated,
    )


def steps_of(source: ReplayBuffer, like: ReplayBuffer) -> Iterator[tuple[Any, ...]]:
    """
    :param source: SB3's own replay buffer
    :param like: The buffer that takes its steps
    :return: Arguments of ``like.add`` for each, the oldest first. The last one cuts the episodes that go on
    :raises ValueError: If it keeps no next observations, or is of another environment or number of them
    """
    if not (hasattr(source, "dones") and isinstance(getattr(source, "next_observations", None), (np.ndarray, dict))):
        raise ValueError(
            f"add_replay_buffer: found a {type(source).__name__}, expected SB3's ReplayBuffer or DictReplayBuffer without "
            "optimize_memory_usage"
        )
    for name in ("observation_space", "action_space", "n_envs"):
        found, expected = getattr(source, name), getattr(like, name)
        if found != expected:
            raise ValueError(f"add_replay_buffer: found {name}={found}, expected {expected}")
    return _steps(source)


def _steps(source: ReplayBuffer) -> Iterator[tuple[Any, ...]]:
    steps = (np.arange(source.size()) + (source.pos if source.full else 0)) % source.buffer_size
    for step in steps:
        observed, then = (
            {key: array[step] for key, array in stored.items()} if isinstance(stored, dict) else stored[step]
            for stored in (source.observations, source.next_observations)
        )
        done, timeout = source.dones[step] > 0, source.timeouts[step] > 0
        if step == steps[-1]:
            timeout = timeout | ~done
        infos = [{"TimeLimit.truncated": bool(cut)} for cut in timeout]
        yield observed, then, source.actions[step], source.rewards[step], done, infos


def _observations(stored: Mapping[str, np.ndarray], space: spaces.Space) -> Observations:
    if isinstance(space, spaces.Dict):
        return {key: _without_added_axis(stored[key], subspace) for key, subspace in space.spaces.items()}
    return _without_added_axis(stored[BOX_KEY], space)


def _without_added_axis(stored: np.ndarray, space: spaces.Space) -> np.ndarray:
    # Discrete observations are stored with an axis that the environment does not have
    assert space.shape is not None
    return owned(stored.reshape(-1, *space.shape))


def _environment_actions(stored: np.ndarray, space: spaces.Space) -> np.ndarray:
    assert space.shape is not None
    actions = stored.reshape(-1, *space.shape)
    if isinstance(space, spaces.Box):
        actions = np.clip(unscaled(actions, space.low, space.high), space.low, space.high)
    return actions
