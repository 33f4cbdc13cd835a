"""The policies that Meta-World ships for its tasks, as experts in their environments."""

import warnings
from typing import Any

import gymnasium as gym
import numpy as np

from demos.experts.worse import Expert


def shipped_policy(env: gym.Env) -> Expert:
    """
    :param env: A task of :mod:`sb3_pgfd.environments`, made by its id
    :return: Meta-World's policy for it, with actions within the bounds: the hand's displacement (1 is 1 cm per step) and
        the closing of the gripper
    """
    # Here, because only who asks for this expert needs it
    from metaworld.policies import ENV_POLICY_MAP

    assert env.spec is not None
    policies: dict[str, Any] = ENV_POLICY_MAP
    policy = policies[env.spec.kwargs["task_name"]]()

    def act(observation: np.ndarray) -> np.ndarray:
        with warnings.catch_warnings():
            # That it asks for more than 1, which is clipped
            warnings.simplefilter("ignore", UserWarning)
            action = policy.get_action(observation.astype(np.float64))
        return np.clip(action, -1.0, 1.0).astype(np.float32)

    return act
