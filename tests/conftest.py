"""What the tests of all algorithms begin with."""

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator

import gymnasium as gym
import matplotlib.style
import pytest
import torch as th
from point_to_goal import Recorder, to_goal

from sb3_pgfd import Demonstrations
from sb3_pgfd.demonstrations import record as record_episodes
from sb3_pgfd.utils.screen import draw_without_screen

# Before any test imports MuJoCo
draw_without_screen()

# Before any test starts the server that SubprocVecEnv forks its processes from: each of them would import this again
multiprocessing.set_forkserver_preload(["sb3_pgfd"])


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    # Networks of 16 units are slower on more threads
    th.set_num_threads(1)


@pytest.fixture
def default_style() -> Iterator[None]:
    # The Zoo's plots set seaborn's style for the whole process
    with matplotlib.style.context("default"):
        yield


@pytest.fixture(scope="session")
def record() -> Callable[..., Demonstrations]:
    """``record(view, n_episodes)``: demonstrations of a controller that reaches the goal."""

    def _record(view: str = "box", n_episodes: int = 3) -> Demonstrations:
        return record_episodes(to_goal, gym.make("PointToGoal-v0", view=view), n_episodes)

    return _record


@pytest.fixture(scope="session")
def demonstrations(record: Callable[..., Demonstrations]) -> Demonstrations:
    return record()


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    """A cluster of Ray in this process, of two nodes' worth of CPUs, for all tests that need one."""
    import ray

    from sb3_pgfd.distributed import connect

    # What the tests can import, its workers can too
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
        patch.setenv("RAY_raylet_start_wait_time_s", "300")
        patch.setenv("RAY_prestart_worker_first_driver", "0")
        patch.setenv("RAY_worker_niceness", "0")
        connect("local", num_cpus=4, object_store_memory=200 * 2**20, include_dashboard=False, log_to_driver=False)
        yield
        ray.shutdown()
