"""Exploration noise of the size that demonstrations leave open."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.noise import NormalActionNoise

from sb3_pgfd.demonstrations import Demonstrations

# Rows that are compared with each other
_MAX_ROWS = 3000


def noise_of_demonstrations(demonstrations: Demonstrations | None, action_space: spaces.Box) -> NormalActionNoise:
    """
    Where demonstrators did different things in nearby states, there is something to try. Few demonstrations are far from each
    other, and give much noise for that alone. The standard deviation of each
    component is the root mean square of the difference between the action of a step and that of the nearest step in another
    episode, divided by sqrt(2), because the difference of two independent actions has twice the variance of one.

    :param demonstrations: At least two episodes with vectors as observations
    :param action_space: Where the actions are from
    :return: Gaussian noise for actions scaled to [-1, 1]
    :raises ValueError: If there are no such demonstrations
    """
    observations = {} if demonstrations is None else demonstrations.observations
    named = observations if isinstance(observations, Mapping) else {"": observations}
    vectors = [array for array in named.values() if array.ndim == 2]
    if demonstrations is None or demonstrations.n_episodes < 2 or not vectors:
        found = (
            "no demonstrations" if demonstrations is None else f"{demonstrations}, shapes {[a.shape for a in named.values()]}"
        )
        raise ValueError(
            f"action_noise: found 'demonstrations' with {found}, expected two episodes or more, with vectors as observations, "
            "or a number"
        )
    rows = np.unique(np.linspace(0, len(demonstrations) - 1, min(len(demonstrations), _MAX_ROWS)).astype(np.int64))
    states = np.concatenate([array[rows] for array in vectors], axis=1, dtype=np.float64)
    states = (states - states.mean(axis=0)) / (states.std(axis=0) + 1e-6)
    squares = np.square(states).sum(axis=1)
    distances = squares[:, None] + squares - 2 * states @ states.T
    episodes = np.repeat(np.arange(demonstrations.n_episodes), demonstrations.episode_lengths)[rows]
    distances[episodes[:, None] == episodes] = np.inf
    actions = 2 * demonstrations.actions[rows].astype(np.float64) / (action_space.high - action_space.low)
    differences = actions - actions[distances.argmin(axis=1)]
    deviation = np.sqrt(np.square(differences).mean(axis=0) / 2)
    return NormalActionNoise(np.zeros(action_space.shape), deviation)
