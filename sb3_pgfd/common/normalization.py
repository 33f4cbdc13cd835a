"""``VecNormalize`` around the environment of a model that learns from demonstrations."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.preprocessing import get_obs_shape
from stable_baselines3.common.vec_env import VecNormalize

from sb3_pgfd.demonstrations import Demonstrations
from sb3_pgfd.utils.warning import OptionWarning, warn_user


def check_normalization(env: VecNormalize | None, observation_space: spaces.Space) -> None:
    """
    :param env: Wrapper that normalises observations, also those of demonstrations
    :param observation_space: The model's
    :raises ValueError: If a wrapper outside of it changes their shape (images, frame stacking), so that it normalises
        other observations than the model sees
    """
    if env is not None and get_obs_shape(env.observation_space) != get_obs_shape(observation_space):
        raise ValueError(
            f"env: found VecNormalize around {env.observation_space}, expected {observation_space} as the model sees it. "
            "Make VecNormalize the outermost wrapper, e.g. VecNormalize(VecTransposeImage(env)). The RL Zoo puts it inside, "
            "so in a yaml normalize goes neither with frame_stack nor with images: stack frames in an env_wrapper, such as "
            "gymnasium.wrappers.FrameStackObservation, and scale rewards in one"
        )


def check_integers(env: VecNormalize | None) -> None:
    """
    :param env: Wrapper whose normalisation an off-policy algorithm undoes, in the observations' own dtype
    :raises ValueError: If it normalises integers: SB3 would store the last observation of each episode cut to other ones
    """
    if env is None or not env.norm_obs:
        return
    whole = env.observation_space
    normalized = [whole[key] for key in env.norm_obs_keys or ()] if isinstance(whole, spaces.Dict) else [whole]
    for space in normalized:
        if space.dtype is not None and space.dtype.kind in "iu":
            raise ValueError(
                f"env: found VecNormalize of {space}, expected floats, as normalised integers would be stored cut: put "
                "gymnasium.wrappers.DtypeObservation(env, np.float32) inside"
            )


def update_normalization(env: VecNormalize, demonstrations: Demonstrations) -> None:
    """
    Update the running statistics as if the demonstrations had been stepped through.

    :param env: Wrapper with running statistics of observations and of discounted returns
    :param demonstrations: In environment units
    """
    if env.norm_obs:
        if isinstance(env.obs_rms, dict):
            assert isinstance(demonstrations.observations, Mapping)
            for key, statistics in env.obs_rms.items():
                statistics.update(demonstrations.observations[key])
        else:
            env.obs_rms.update(demonstrations.observations)
    update_returns(env, demonstrations)


def update_returns(env: VecNormalize, demonstrations: Demonstrations) -> None:
    """The part of :func:`update_normalization` that rewards are normalised with."""
    returns = np.zeros(len(demonstrations))
    running = 0.0
    starts = set(demonstrations.episode_starts.tolist())
    for row, reward in enumerate(demonstrations.rewards.tolist()):
        running = reward + (0.0 if row in starts else env.gamma * running)
        returns[row] = running
    env.ret_rms.update(returns)


def warn_if_clipped(env: VecNormalize, infos: Sequence[Mapping[str, Any]]) -> bool:
    """
    Warn of a last observation that ``VecNormalize`` has clipped: SB3 undoes the normalisation to store what the environment
    gave, and stores the limit. Its statistics have no last observations, so what is not 0 in these alone lies far out.

    :param env: It normalises
    :param infos: Of a step, with ``terminal_observation`` where an episode ended
    :return: Whether there was one
    """
    if not env.norm_obs:
        return False
    for info in infos:
        last = info.get("terminal_observation")
        if last is None:
            continue
        parts = {f"[{key!r}]": last[key] for key in env.norm_obs_keys or ()} if isinstance(last, dict) else {"": last}
        for name, array in parts.items():
            clipped = np.argwhere(np.abs(array) >= env.clip_obs)
            if len(clipped) > 0:
                warn_user(
                    f"VecNormalize: found component {clipped[0].tolist()} of the last observation{name} of an episode beyond "
                    f"{env.clip_obs:g} standard deviations, expected none there: the limit is stored in its place. Make "
                    "VecNormalize with a larger clip_obs, or leave components that change at the end only, such as a flag "
                    "of contact, to a key that it does not normalise (norm_obs_keys)",
                    OptionWarning,
                )
                return True
    return False
