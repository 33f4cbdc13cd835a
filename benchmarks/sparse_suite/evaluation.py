"""Success rate of a deterministic policy from fixed starts."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from stable_baselines3.common.vec_env import VecNormalize

from benchmarks.sparse_suite.tasks import Task

FIRST_SEED = 100
"""Of the runs in the tables. Smaller seeds, and the starts that they are evaluated on, are for choosing settings"""


def first_start(seed: int) -> int:
    """
    :param seed: Seed of a run
    :return: Seed of the first evaluation start
    """
    return 10_000 if seed < FIRST_SEED else 50_000


class Acts(Protocol):
    """The part of a model's interface that an evaluation needs."""

    def predict(self, observation: Any, *, deterministic: bool) -> tuple[np.ndarray, Any]: ...

    def get_vec_normalize_env(self) -> VecNormalize | None: ...


@dataclass(frozen=True)
class Episodes:
    """One value per start, shape ``(n_episodes,)``."""

    successes: np.ndarray
    returns: np.ndarray
    lengths: np.ndarray

    def row(self) -> dict[str, float]:
        """:return: Their means, as columns of the results"""
        return {
            "success": round(float(self.successes.mean()), 4),
            "mean_return": round(float(self.returns.mean()), 4),
            "length": round(float(self.lengths.mean()), 2),
        }


class Evaluator:
    """
    Run a policy in several environments side by side, with one call of the policy for all of them. An environment takes the
    next start when its episode ends.

    :param task: Task to evaluate on
    :param n_episodes: Number of starts, ``reset(seed=first_start + k)``
    :param first_start: Seed of the first
    """

    def __init__(self, task: Task, n_episodes: int, first_start: int):
        self.n_episodes, self.first_start = n_episodes, first_start
        # Kept for all evaluations of a run
        self.envs = [task.make_env() for _ in range(min(task.eval_envs, n_episodes))]

    def evaluate(self, model: Acts) -> Episodes:
        """:param model: Model to evaluate"""
        normalize = model.get_vec_normalize_env()
        successes, returns, lengths = (np.zeros(self.n_episodes) for _ in range(3))
        starts, free = deque(range(self.n_episodes)), list(range(len(self.envs)))
        # For each environment in use: its episode and its last observation
        running: dict[int, int] = {}
        shown: dict[int, Any] = {}
        while starts or running:
            while starts and free:
                number, episode = free.pop(), starts.popleft()
                running[number] = episode
                shown[number], _ = self.envs[number].reset(seed=self.first_start + episode)
            observations = stack([shown[number] for number in running])
            if normalize is not None:
                observations = normalize.normalize_obs(observations)
            actions, _ = model.predict(observations, deterministic=True)
            for (number, episode), action in zip(list(running.items()), actions, strict=True):
                shown[number], reward, terminated, truncated, info = self.envs[number].step(action)
                returns[episode] += float(reward)
                lengths[episode] += 1
                if terminated or truncated:
                    successes[episode] = float(info["is_success"])
                    del running[number]
                    free.append(number)
        return Episodes(successes, returns, lengths)

    def close(self) -> None:
        """Close the environments."""
        for env in self.envs:
            env.close()


def stack(observations: list[Any]) -> Any:
    """
    :param observations: One observation per environment
    :return: One array, or one per key, shape ``(n_envs, *obs_shape)``
    """
    if isinstance(observations[0], Mapping):
        return {key: np.stack([observation[key] for observation in observations]) for key in observations[0]}
    return np.stack(observations)
