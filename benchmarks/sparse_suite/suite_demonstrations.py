"""The demonstrations that all methods and seeds of a task share: recorded once, then kept in a file that git ignores."""

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import numpy as np
from suite_tasks import Task

from sb3_pgfd.demonstrations import Demonstrations, record

ACTION_NOISE = 0.1
FIRST_SEED = 20_000
"""Evaluations begin at 10,000, and learning at the seed of a run"""


def demonstrations_of(task: Task, n_episodes: int, folder: Path) -> Demonstrations | None:
    """
    :param task: What is demonstrated
    :param n_episodes: How many episodes
    :param folder: Where they are kept
    :return: The first ones of always the same sequence of successes; None for 0
    """
    if n_episodes == 0:
        return None
    path = folder / f"{task.name}_{n_episodes}.npz"
    if not path.is_file():
        # Processes that do it at the same time write the same file
        record_first(task, n_episodes).save(path, overwrite=True)
    return Demonstrations.load(path)


def record_first(task: Task, n_episodes: int) -> Demonstrations:
    """
    :param task: What is demonstrated
    :param n_episodes: How many episodes
    :return: The first successes of the expert with action noise that begin away from their goal
    """
    with closing(task.make_env()) as env:
        recorded = record(
            task.expert(env),
            env,
            # Some goals are reached by chance
            n_episodes + (2 + n_episodes // 5 if task.goal else 0),
            seed=FIRST_SEED,
            action_noise=ACTION_NOISE,
            successes_only=True,
            producer=f"the expert of {task.name}, with noise (benchmarks/sparse_suite)",
        )
    return recorded.select(np.flatnonzero(_begin_away(recorded))[:n_episodes])


def _begin_away(recorded: Demonstrations) -> np.ndarray:
    """Whether an episode begins away from its goal; one that is solved by chance teaches nothing."""
    observations = recorded.observations
    if not isinstance(observations, Mapping):
        return np.ones(recorded.n_episodes, dtype=bool)
    missing = observations["desired_goal"] - observations["achieved_goal"]
    return np.linalg.norm(missing[recorded.episode_starts], axis=1) > 0.05
