"""Rewards for sources that hold none: a number for the end of each episode, as demonstrations of a task are successes."""

import numpy as np

from sb3_pgfd.demonstrations.arrays import owned
from sb3_pgfd.demonstrations.errors import DemonstrationsError
from sb3_pgfd.utils.checks import is_number


def check_final_reward(final_reward: float | None, has_rewards: bool) -> None:
    """
    :param final_reward: What the caller asks for
    :param has_rewards: Whether the source holds rewards
    :raises DemonstrationsError: Unless exactly one of both says what the rewards are
    """
    if final_reward is None and not has_rewards:
        raise DemonstrationsError(
            "rewards: found none, expected one for each step: pass final_reward=1.0 to reward the last step of each episode "
            "with 1 and all others with 0"
        )
    if final_reward is not None and has_rewards:
        raise DemonstrationsError(f"found final_reward={final_reward} for a source that holds rewards, expected none: omit it")
    if final_reward is not None and not is_number(final_reward):
        raise DemonstrationsError(f"found final_reward={final_reward!r}, expected a number")


def rewards_at_ends(lengths: np.ndarray, final_reward: float, successes: np.ndarray | None = None) -> np.ndarray:
    """
    :param lengths: Steps per episode
    :param final_reward: For the last step of each; the others get 0
    :param successes: Whether each episode solved the task, if that is known: those that did not get 0
    :return: Of all steps, float32
    """
    rewards = np.zeros(int(lengths.sum()), dtype=np.float32)
    rewards[np.cumsum(lengths) - 1] = final_reward if successes is None else np.where(successes, final_reward, 0.0)
    return owned(rewards)
