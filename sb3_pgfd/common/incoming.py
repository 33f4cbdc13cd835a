"""Checks of what environments give, where SB3 itself would go on with it."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import is_wrapped
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize

from sb3_pgfd.demonstrations.validation import as_dict
from sb3_pgfd.replay.incoming import are_finite, check_finite


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
        # First step of the running episode of each environment, as the callback counts them
        self._starts = np.zeros(0, dtype=int)
        self._normalize: VecNormalize | None = None

    def _on_training_start(self) -> None:
        self._starts = np.full(self.training_env.num_envs, self.n_calls)
        self._normalize = self.model.get_vec_normalize_env()
        self._check({"observations": self.model._last_obs})

    def _on_step(self) -> bool:
        try:
            self._check({"next_observations": self.locals["new_obs"], "rewards": self.locals["rewards"]})
        except ValueError:
            # This step is not stored, and the episode does not go on
            self.model._break_off_episodes()  # type: ignore[attr-defined]
            raise
        dones = self.locals["dones"]
        if dones.any():
            self._starts[dones] = self.n_calls
        return True

    def _check(self, given: dict[str, Any]) -> None:
        if self._normalize is not None:
            # It clips infinity
            raw = {name: self._normalize.get_original_obs() for name in given}
            given = raw if "rewards" not in given else {**raw, "rewards": self._normalize.get_original_reward()}
        arrays: dict[str, np.ndarray] = {}
        for name, values in given.items():
            arrays |= as_dict(values, name)
        if not are_finite(arrays.values()):
            for name, array in arrays.items():
                check_finite(name, array, lambda env: max(self.n_calls - 1 - int(self._starts[env]), 0))
