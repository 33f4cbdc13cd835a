"""An episode while it is under way."""

from copy import deepcopy
from typing import Any

import gymnasium as gym
import numpy as np

from sb3_pgfd.demonstrations.episode import Episode
from sb3_pgfd.demonstrations.validation import Observations


class EpisodeBuilder:
    """
    Collects what an environment hands out. It keeps copies, as an environment may write every observation to the same
    array, or scale an action in place: give it the action before the environment gets it.

    :param observation: What the episode begins with
    :param seed: What the environment was reset with, if it is known
    """

    def __init__(self, observation: Any, seed: int | None = None):
        self.seed = seed
        self.observations: list[Any] = [deepcopy(observation)]
        self.actions: list[np.ndarray] = []
        self.rewards: list[float] = []

    def __len__(self) -> int:
        """:return: Transitions so far"""
        return len(self.rewards)

    def act(self, action: Any) -> None:
        """:param action: In environment units"""
        self.actions.append(np.array(action))

    def observe(self, observation: Any, reward: Any) -> None:
        """
        :param observation: What the last action led to
        :param reward: For that action
        """
        self.observations.append(deepcopy(observation))
        self.rewards.append(float(reward))

    def build(self, terminated: bool, success: bool | None = None) -> Episode:
        """
        :param terminated: Whether the last step reached a terminal state
        :param success: Whether the task was solved, None: nobody says
        """
        return Episode(
            observations=_stack(self.observations),
            actions=np.array(self.actions),
            rewards=np.array(self.rewards, dtype=np.float32),
            terminated=bool(terminated),
            success=success,
            seed=self.seed,
        )


class Rollout:
    """
    An episode in an environment, from its reset on.

    :param env: Is reset
    :param seed: Of the reset; None: the environment goes on with its own random numbers
    """

    def __init__(self, env: gym.Env, seed: int | None):
        self.env = env
        self.observation, self.info = env.reset(seed=seed)
        self.terminated = self.truncated = False
        self._builder = EpisodeBuilder(self.observation, seed)

    def __len__(self) -> int:
        """:return: Steps so far"""
        return len(self._builder)

    @property
    def over(self) -> bool:
        """Whether the environment has ended the episode"""
        return self.terminated or self.truncated

    @property
    def episode_return(self) -> float:
        """Sum of the rewards so far"""
        return sum(self._builder.rewards)

    @property
    def success(self) -> bool | None:
        """What the environment said in its last step, None: nothing"""
        return success_of(self.info)

    def step(self, action: Any) -> None:
        """:param action: In environment units, within their bounds"""
        self._builder.act(action)
        self.observation, reward, terminated, truncated, self.info = self.env.step(action)
        self.terminated, self.truncated = bool(terminated), bool(truncated)
        self._builder.observe(self.observation, reward)

    def episode(self) -> Episode:
        """:return: The steps so far; an episode that is not over counts as truncated"""
        return self._builder.build(self.terminated, self.success)


def success_of(info: dict[str, Any]) -> bool | None:
    """
    :param info: Of the last step
    :return: Its ``is_success`` or ``success``, None: it has neither
    """
    success = info.get("is_success", info.get("success"))
    return None if success is None else bool(success)


def _stack(observations: list[Any]) -> Observations:
    if isinstance(observations[0], dict):
        return {key: np.stack([observation[key] for observation in observations]) for key in observations[0]}
    return np.stack(observations)
