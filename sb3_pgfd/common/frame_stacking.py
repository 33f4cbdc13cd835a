"""Demonstrations of single frames for a model that sees stacks of them."""

from collections.abc import Mapping

from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack, unwrap_vec_wrapper
from stable_baselines3.common.vec_env.stacked_observations import StackedObservations

from sb3_pgfd.demonstrations import Demonstrations


def stacked_like(demonstrations: Demonstrations, env: VecEnv | None) -> Demonstrations:
    """
    :param demonstrations: Recorded with or without ``VecFrameStack``, images with channels last or first
    :param env: That a model learns from
    :return: The same if ``env`` stacks no frames or the observations are no single ones; otherwise stacked as it does
    """
    wrapper = None if env is None else unwrap_vec_wrapper(env, VecFrameStack)
    if wrapper is None:
        return demonstrations
    stacks = wrapper.stacked_obs
    by_key = stacks.sub_stacked_observations if isinstance(wrapper.venv.observation_space, spaces.Dict) else {"": stacks}
    observations = demonstrations.observations
    arrays = observations if isinstance(observations, Mapping) else {"": observations}
    if arrays.keys() != by_key.keys():
        return demonstrations
    orders = {key: _channels_order(array.shape[1:], by_key[key]) for key, array in arrays.items()}
    return demonstrations if None in orders.values() else demonstrations.stack_frames(stacks.n_stack, orders)


def _channels_order(shape: tuple[int, ...], stack: StackedObservations) -> str | None:
    """:return: Along which axis to join frames of this shape; None: they are none that this stack is made of"""
    frame = stack.observation_space.shape
    assert frame is not None
    own, other = ("first", "last") if stack.channels_first else ("last", "first")
    if shape == frame:
        return own
    # Recorded with the channels at the other end
    moved = (*frame[1:], frame[0]) if stack.channels_first else (frame[-1], *frame[:-1])
    return other if len(frame) == 3 and shape == moved else None
