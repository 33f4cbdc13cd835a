"""
Trajectories of the package ``imitation``, which is not needed to read them: T + 1 observations ``obs``, T actions ``acts``,
``infos`` or None, ``terminal``, and ``rews`` if they hold rewards.

``terminal`` is true for a time limit too. Where the last info has SB3's ``TimeLimit.truncated`` it tells one from the other;
for trajectories without it pass ``done_means="truncated"`` if their episodes ended by a time limit.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sb3_pgfd.demonstrations.dataset import Demonstrations
from sb3_pgfd.demonstrations.episode import Episode
from sb3_pgfd.demonstrations.errors import DemonstrationsError
from sb3_pgfd.demonstrations.formats.final_reward import check_final_reward, rewards_at_ends
from sb3_pgfd.demonstrations.validation import Observations

_FIELDS = ("obs", "acts", "infos", "terminal")


def recognizes(source: Any) -> bool:
    """:param source: Whether this is a sequence of trajectories"""
    return isinstance(source, Sequence) and len(source) > 0 and all(hasattr(source[0], name) for name in _FIELDS)


def read_trajectories(trajectories: Sequence[Any], final_reward: float | None = None) -> Demonstrations:
    """
    :param trajectories: What ``imitation.data.rollout.rollout`` returns
    :param final_reward: For trajectories without rewards: what the last step of each gets, the others 0; trajectories whose
        last info denies success get 0 throughout
    :raises DemonstrationsError: If they do not fit together, or hold no rewards and ``final_reward`` is not named
    """
    episodes = []
    for number, trajectory in enumerate(trajectories):
        try:
            episodes.append(_episode(trajectory, final_reward))
        except DemonstrationsError as error:
            raise DemonstrationsError(f"trajectory {number}: {error}") from error.__cause__
    return Demonstrations.from_episodes(episodes, {"producer": "imported from trajectories of imitation"})


def _episode(trajectory: Any, final_reward: float | None) -> Episode:
    missing = [name for name in _FIELDS if not hasattr(trajectory, name)]
    if missing:
        raise DemonstrationsError(f"found an object of type {type(trajectory).__name__}, expected one with {missing}")
    info = _last_info(trajectory)
    success = info.get("is_success", info.get("success"))
    success = None if success is None else bool(success)
    return Episode(
        observations=_observations(trajectory.obs),
        actions=np.asarray(trajectory.acts),
        rewards=_rewards(trajectory, info, success, final_reward),
        terminated=bool(trajectory.terminal) and not info.get("TimeLimit.truncated", False),
        success=success,
    )


def _last_info(trajectory: Any) -> Mapping[str, Any]:
    if trajectory.infos is None or len(trajectory.infos) == 0:
        return {}
    info = trajectory.infos[-1]
    if not isinstance(info, Mapping):
        raise DemonstrationsError(f"infos: found {type(info).__name__} for the last step, expected a dict")
    return info


def _rewards(trajectory: Any, info: Mapping[str, Any], success: bool | None, final_reward: float | None) -> np.ndarray:
    rewards = getattr(trajectory, "rews", None)
    if rewards is None:
        # RolloutInfoWrapper keeps the rewards of the whole episode there
        rewards = info.get("rollout", {}).get("rews")
    check_final_reward(final_reward, rewards is not None)
    if final_reward is None:
        return np.asarray(rewards)
    return rewards_at_ends(np.array([len(trajectory.acts)]), final_reward, None if success is None else np.array([success]))


def _observations(observations: Any) -> Observations:
    # Dict observations are a DictObs, whose unwrap() returns a dict of arrays
    arrays = observations.unwrap() if hasattr(observations, "unwrap") else observations
    if isinstance(arrays, Mapping):
        return {str(key): np.asarray(array) for key, array in arrays.items()}
    return np.asarray(arrays)
