"""Episodes as sequences of observations: what a step reached is what the next step begins with, and is kept once."""

from collections.abc import Mapping

import numpy as np

from sb3_pgfd.demonstrations.arrays import map_observations, owned
from sb3_pgfd.demonstrations.dataset import Demonstrations
from sb3_pgfd.demonstrations.errors import DemonstrationsError
from sb3_pgfd.demonstrations.validation import Observations, as_dict, check_lengths


def final_observations(demonstrations: Demonstrations) -> Observations | None:
    """
    :param demonstrations: To be written
    :return: What each episode ended with, shape ``(n_episodes, *obs_shape)``, or a mapping of such arrays; None if a step
        reached something else than the next step begins with, bit by bit: then all next observations are needed
    """
    before, after = as_dict(demonstrations.observations), as_dict(demonstrations.next_observations)
    ends = np.cumsum(demonstrations.episode_lengths)
    for array, next_array in zip(before.values(), after.values(), strict=True):
        if array.dtype != next_array.dtype:
            return None
        for start, end in zip(demonstrations.episode_starts, ends, strict=True):
            if array[start + 1 : end].tobytes() != next_array[start : end - 1].tobytes():
                return None
    return map_observations(demonstrations.next_observations, lambda array: array[ends - 1])


def next_observations(observations: Observations, final: Observations, episode_lengths: np.ndarray) -> Observations:
    """
    The inverse of :func:`final_observations`.

    :param observations: Shape ``(N, *obs_shape)``, or a mapping of such arrays
    :param final: What each episode ended with
    :param episode_lengths: Transitions per episode
    :raises DemonstrationsError: If they do not fit together
    """
    check_lengths(as_dict(observations), episode_lengths)
    before, last = as_dict(observations, "final_observations"), as_dict(final, "final_observations")
    if list(before) != list(last):
        raise DemonstrationsError(f"final_observations: found {list(last)}, expected {list(before)}")
    last_rows = np.cumsum(episode_lengths) - 1
    for name, array in before.items():
        wanted = (len(episode_lengths), *array.shape[1:])
        if last[name].shape != wanted or last[name].dtype != array.dtype:
            found = f"shape {last[name].shape} and dtype {last[name].dtype}"
            raise DemonstrationsError(f"{name}: found {found}, expected {wanted} and {array.dtype} as in observations")

    def shifted(array: np.ndarray, ended_with: np.ndarray) -> np.ndarray:
        result = np.empty_like(array)
        result[:-1] = array[1:]
        result[last_rows] = ended_with
        return owned(result)

    if isinstance(observations, Mapping):
        assert isinstance(final, Mapping)
        return {key: shifted(array, final[key]) for key, array in observations.items()}
    assert isinstance(final, np.ndarray)
    return shifted(observations, final)
