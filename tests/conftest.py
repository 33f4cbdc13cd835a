"""What the tests of all algorithms begin with."""

from collections.abc import Callable

import gymnasium as gym
import pytest
import torch as th
from point_to_goal import Recorder, to_goal

from sb3_pgfd import Demonstrations


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    # Networks of 16 units are slower on more threads
    th.set_num_threads(1)


@pytest.fixture(scope="session")
def record() -> Callable[..., Demonstrations]:
    """``record(view, n_episodes)``: demonstrations of a controller that reaches the goal."""

    def _record(view: str = "box", n_episodes: int = 3) -> Demonstrations:
        return Demonstrations.record(to_goal, gym.make("PointToGoal-v0", view=view), n_episodes)

    return _record


@pytest.fixture(scope="session")
def demonstrations(record: Callable[..., Demonstrations]) -> Demonstrations:
    return record()


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()
