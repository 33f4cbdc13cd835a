"""
Demonstrations in memory: SB3's replay buffers, and trajectories of the package ``imitation``.

A replay buffer (``ReplayBuffer``, ``DictReplayBuffer``, ``NStepReplayBuffer``, ``HerReplayBuffer``) is a ring of steps of
one or more environments. Each environment's steps are read in the order of time and cut into episodes where ``dones`` is
set. An episode that was not over when the next step was stored, or when the buffer was read, counts as truncated. A full
ring begins anywhere: its first episode of each environment may be the tail of one.

Trajectories have T + 1 observations ``obs``, T actions ``acts``, ``infos`` or None, ``terminal``, and ``rews`` if they hold
rewards; ``imitation`` is not needed to read them. ``terminal`` is true for a time limit too: where the last info has SB3's
``TimeLimit.truncated`` it tells one from the other; otherwise pass ``done_means="truncated"`` if the episodes ended by one.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer

from sb3_pgfd.demonstrations.arrays import owned, unscaled
from sb3_pgfd.demonstrations.editing import cut_at_jumps, rewards_at_ends
from sb3_pgfd.demonstrations.episode import Episode, Transitions
from sb3_pgfd.demonstrations.errors import DemonstrationsError
from sb3_pgfd.demonstrations.formats.checks import errors_naming
from sb3_pgfd.demonstrations.formats.successors import check_final_reward
from sb3_pgfd.demonstrations.validation import ACTION_TOLERANCE, Observations

_TRAJECTORY = ("obs", "acts", "infos", "terminal")


def recognizes_buffer(source: Any) -> bool:
    """:param source: Whether this is a replay buffer of SB3, or an object that makes demonstrations of itself"""
    return isinstance(source, ReplayBuffer) or _converts_itself(source)


def read_buffer(buffer: Any, scaled_actions: bool | None = None) -> Transitions:
    """
    :param buffer: A replay buffer of SB3; one with a method ``to_demonstrations`` is asked for them
    :param scaled_actions: Whether Box actions are stored in [-1, 1], as SB3's algorithms store them, and are to be brought
        back to the bounds of ``buffer.action_space``; None: they are
    :raises DemonstrationsError: If it is empty, or lacks what demonstrations need
    """
    if _converts_itself(buffer):
        if scaled_actions is not None:
            kind = type(buffer).__name__
            raise DemonstrationsError(f"found scaled_actions={scaled_actions}, expected none: a {kind} knows its units")
        return buffer.to_demonstrations()
    if scaled_actions not in (None, True, False):
        raise DemonstrationsError(f"found scaled_actions={scaled_actions!r}, expected True or False")
    if buffer.optimize_memory_usage:
        raise DemonstrationsError(
            "found a buffer with optimize_memory_usage=True, expected one without: "
            "it does not hold the observation that an episode ends with"
        )
    if buffer.size() == 0:
        raise DemonstrationsError("found an empty replay buffer, expected at least one transition")
    # Both indices of every transition: one environment after the other, each in the order of time
    order = ((buffer.pos if buffer.full else 0) + np.arange(buffer.size())) % buffer.buffer_size
    steps, environments = np.tile(order, buffer.n_envs), np.repeat(np.arange(buffer.n_envs), len(order))
    observations, next_observations = (
        _observations(stored, buffer.observation_space, steps, environments)
        for stored in (buffer.observations, buffer.next_observations)
    )
    done, timeout = (array[steps, environments] > 0 for array in (buffer.dones, buffer.timeouts))
    terminated = done & ~timeout
    truncated = ~terminated & (done | (steps == steps[-1]))
    transitions = Transitions.from_transitions(
        observations=observations,
        actions=_actions(buffer.actions[steps, environments], buffer.action_space, scaled_actions is not False),
        rewards=buffer.rewards[steps, environments],
        next_observations=next_observations,
        terminated=terminated,
        truncated=truncated,
        metadata={"producer": f"imported from a {type(buffer).__name__}"},
    )
    return cut_at_jumps(transitions, type(buffer).__name__, ordered=True)


def _converts_itself(source: Any) -> bool:
    return callable(getattr(source, "to_demonstrations", None))


def _observations(stored: Any, space: spaces.Space, steps: np.ndarray, environments: np.ndarray) -> Observations:
    if isinstance(space, spaces.Dict):
        return {key: _shaped(stored[key][steps, environments], subspace) for key, subspace in space.spaces.items()}
    return _shaped(stored[steps, environments], space)


def _shaped(rows: np.ndarray, space: spaces.Space) -> np.ndarray:
    """Actions are stored flat, and Discrete observations and actions with an axis that they do not have."""
    assert space.shape is not None
    return owned(rows if rows.shape[1:] == space.shape else rows.reshape(len(rows), *space.shape))


def _actions(stored: np.ndarray, space: spaces.Space, scaled: bool) -> np.ndarray:
    actions = _shaped(stored, space)
    if not scaled or not isinstance(space, spaces.Box):
        return actions
    if not np.isfinite([space.low, space.high]).all():
        raise DemonstrationsError(f"found actions without bounds ({space}), expected finite ones: pass scaled_actions=False")
    largest = float(np.abs(actions).max())
    if largest > 1 + ACTION_TOLERANCE:
        raise DemonstrationsError(
            f"found an action of {largest:g}, expected all in [-1, 1] as SB3's algorithms store them: "
            "pass scaled_actions=False for actions in environment units"
        )
    low, high = (bound.astype(actions.dtype) for bound in (space.low, space.high))
    return owned(np.clip(unscaled(actions, low, high), low, high))


def recognizes_trajectories(source: Any) -> bool:
    """:param source: Whether this is a sequence of trajectories"""
    return isinstance(source, Sequence) and len(source) > 0 and all(hasattr(source[0], name) for name in _TRAJECTORY)


def read_trajectories(trajectories: Sequence[Any], final_reward: float | None = None) -> Transitions:
    """
    :param trajectories: What ``imitation.data.rollout.rollout`` returns
    :param final_reward: For trajectories without rewards: what the last step of each gets, the others 0; trajectories whose
        last info denies success get 0 throughout
    :raises DemonstrationsError: If they do not fit together, or hold no rewards and ``final_reward`` is not named
    """
    episodes = []
    for number, trajectory in enumerate(trajectories):
        with errors_naming(f"trajectory {number}"):
            episodes.append(_episode(trajectory, final_reward))
    return Transitions.from_episodes(episodes, {"producer": "imported from trajectories of imitation"})


def _episode(trajectory: Any, final_reward: float | None) -> Episode:
    if not all(hasattr(trajectory, name) for name in _TRAJECTORY):
        raise DemonstrationsError(f"found an object of type {type(trajectory).__name__}, expected one with {_TRAJECTORY}")
    info = {} if trajectory.infos is None or len(trajectory.infos) == 0 else trajectory.infos[-1]
    if not isinstance(info, Mapping):
        raise DemonstrationsError(f"infos: found {type(info).__name__} for the last step, expected a dict")
    success = info.get("is_success", info.get("success"))
    success = None if success is None else bool(success)
    return Episode(
        observations=_trajectory_observations(trajectory.obs),
        actions=np.asarray(trajectory.acts),
        rewards=_rewards(trajectory, info, success, final_reward),
        terminated=bool(trajectory.terminal) and not info.get("TimeLimit.truncated", False),
        success=success,
    )


def _rewards(trajectory: Any, info: Mapping[str, Any], success: bool | None, final_reward: float | None) -> np.ndarray:
    rewards = getattr(trajectory, "rews", None)
    if rewards is None:
        # RolloutInfoWrapper keeps the rewards of the whole episode there
        rewards = info.get("rollout", {}).get("rews")
    check_final_reward(final_reward, rewards)
    if final_reward is None:
        return np.asarray(rewards)
    return rewards_at_ends(np.array([len(trajectory.acts)]), final_reward, None if success is None else np.array([success]))


def _trajectory_observations(observations: Any) -> Observations:
    # Dict observations are a DictObs, whose unwrap() returns a dict of arrays
    arrays = observations.unwrap() if hasattr(observations, "unwrap") else observations
    if isinstance(arrays, Mapping):
        return {str(key): np.asarray(array) for key, array in arrays.items()}
    return np.asarray(arrays)
