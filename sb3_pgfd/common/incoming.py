"""Checks of what environments give, where SB3 itself would go on with it."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import is_wrapped
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from sb3_pgfd.demonstrations.validation import as_dict
from sb3_pgfd.replay.incoming import check_finite


class CheckShapes(gym.Wrapper):
    """
    Refuses observations of another shape than the space has. ``DummyVecEnv`` copies them into an array, to which NumPy
    broadcasts them: a single number becomes a vector.

    :param env: Environment
    :param number: Of the environment, for the message
    """

    def __init__(self, env: gym.Env, number: int):
        super().__init__(env)
        space = env.observation_space
        subspaces = space.spaces if isinstance(space, spaces.Dict) else {None: space}
        self._shapes = {key: subspace.shape for key, subspace in subspaces.items()}
        self._number = number

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """cf ``gymnasium.Env``."""
        observation, info = self.env.reset(**kwargs)
        self._check(observation)
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """cf ``gymnasium.Env``."""
        result = self.env.step(action)
        self._check(result[0])
        return result

    def _check(self, observation: Any) -> None:
        for key, shape in self._shapes.items():
            found = np.shape(observation if key is None else observation[key])
            if found != shape:
                name = "observation" if key is None else f"observation[{key!r}]"
                raise ValueError(f"{name}: environment {self._number}: found shape {found}, expected {shape} of its space")


def check_shapes(env: VecEnv) -> VecEnv:
    """
    :param env: Its environments are wrapped where they would be broadcast
    :return: The same
    """
    inner = env.unwrapped
    if isinstance(inner, DummyVecEnv):
        for number, one in enumerate(inner.envs):
            if not is_wrapped(one, CheckShapes):
                inner.envs[number] = CheckShapes(one, number)
    return env


class CheckFinite(BaseCallback):
    """Refuses NaN and infinity before an on-policy algorithm stores them. The replay buffer does it for the others."""

    def __init__(self) -> None:
        super().__init__()
        self._n_steps = np.zeros(0, dtype=int)

    def _on_training_start(self) -> None:
        self._n_steps = np.zeros(self.training_env.num_envs, dtype=int)
        self._check("observations", self.model._last_obs)

    def _on_step(self) -> bool:
        self._check("next_observations", self.locals["new_obs"])
        normalize = self.model.get_vec_normalize_env()
        self._check("rewards", self.locals["rewards"] if normalize is None else normalize.get_original_reward())
        self._n_steps += 1
        self._n_steps[self.locals["dones"]] = 0
        return True

    def _check(self, name: str, values: Any) -> None:
        normalize = self.model.get_vec_normalize_env()
        # VecNormalize clips infinity
        raw = values if normalize is None or name == "rewards" else normalize.get_original_obs()
        for label, array in as_dict(raw, name).items():
            check_finite(label, np.asarray(array), self._n_steps.__getitem__)
