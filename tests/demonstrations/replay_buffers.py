"""Replay buffers of SB3, filled by hand or by an algorithm."""

from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3 import SAC
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.envs import BitFlippingEnv
from stable_baselines3.her import HerReplayBuffer

OBSERVATIONS = spaces.Box(-np.inf, np.inf, (1,), np.float32)
ACTIONS = spaces.Box(np.array([-2, 0], np.float32), np.array([2, 10], np.float32))


def add(
    buffer: ReplayBuffer, observation: Any, next_observation: Any, action: Any, ends: list[str], reward: float = 0.0
) -> None:
    """One step of each environment."""
    n_envs = len(ends)
    buffer.add(
        np.full((n_envs, 1), observation, np.float32),
        np.full((n_envs, 1), next_observation, np.float32),
        np.broadcast_to(action, (n_envs, np.size(action))),
        np.full(n_envs, reward),
        np.array([bool(end) for end in ends]),
        [{"TimeLimit.truncated": end == "truncated"} for end in ends],
    )


def filled(
    ends: list[str], size: int = 100, action: Any = (0.0, 0.0), space: spaces.Space = ACTIONS, **options: Any
) -> ReplayBuffer:
    """One environment; step k goes from observation k to k + 1 and gets the reward k."""
    buffer = ReplayBuffer(size, OBSERVATIONS, space, device="cpu", **options)
    for step, end in enumerate(ends):
        add(buffer, step, step + 1, action, [end], reward=step)
    return buffer


def learn_with_her() -> SAC:
    """23 steps, with hindsight replay."""
    env = BitFlippingEnv(n_bits=3, continuous=True, max_steps=5)
    model = SAC(
        "MultiInputPolicy",
        env,
        replay_buffer_class=HerReplayBuffer,
        learning_starts=1000,
        buffer_size=100,
        policy_kwargs={"net_arch": [4]},
        device="cpu",
        seed=0,
    )
    return model.learn(23)
