"""Steps of environments that were lost and made anew: A2CfD learns nothing from them."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_pgfd import A2CfD


class Count(gym.Env):
    """Counts its steps. The reward is the number."""

    observation_space = spaces.Box(-np.inf, np.inf, (1,))
    action_space = spaces.Box(-1.0, 1.0, (1,))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.number = 0
        return np.zeros(1, dtype=np.float32), {}

    def step(self, action: Any) -> Any:
        self.number += 1
        return np.full(1, self.number, dtype=np.float32), float(self.number), False, False, {}


class LosesOne(DummyVecEnv):
    """Loses the second environment in its third step."""

    n_steps = 0

    def step_wait(self) -> Any:
        obs: Any
        obs, rewards, dones, infos = super().step_wait()
        self.n_steps += 1
        if self.n_steps == 3:
            infos[1] = {"env_restarted": True, "TimeLimit.truncated": True, "terminal_observation": np.full(1, 2.0)}
            rewards[1], dones[1] = 0.0, True
            obs[1], _ = self.envs[1].reset()
        return obs, rewards, dones, infos


def test_the_step_is_left_out_and_the_one_before_ends_its_episode() -> None:
    rollouts: list[Any] = []

    class Keeps(A2CfD):
        def update(self, rollout: Any, *args: Any) -> dict[str, th.Tensor]:
            rollouts.append(rollout)
            return super().update(rollout, *args)

    model = Keeps("MlpPolicy", LosesOne([Count, Count]), n_steps=5, gamma=0.9, gae_lambda=1.0, seed=0)
    model.learn(10)
    (rollout,) = rollouts
    values, returns = model.rollout_buffer.values.flatten(), model.rollout_buffer.returns.flatten()
    # Ten steps but the third of the second environment, which had seen 2 before
    assert len(rollout.returns) == 9
    seen = sorted(rollout.observations.flatten().tolist())
    assert seen == [0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 2.0, 3.0, 4.0]
    # r_1 + gamma (r_2 + gamma V(2)): nothing of what follows
    expected = 1.0 + 0.9 * (2.0 + 0.9 * values[7])
    # Environment by environment
    assert returns[5] == pytest.approx(expected)
    assert all(parameter.isfinite().all() for parameter in model.policy.parameters())
