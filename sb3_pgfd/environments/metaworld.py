"""Meta-World's manipulation tasks (Yu et al. 2019, arXiv 1910.10897) with a reward only for success."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from sb3_pgfd.utils.files import install

INSTALL_BENCHMARK = install("benchmark")
# Ids that register() registers, with Meta-World's names of the tasks
TASKS = {
    "SparsePegInsertSide-v3": "peg-insert-side-v3",
    "SparseAssembly-v3": "assembly-v3",
    "SparsePickPlaceWall-v3": "pick-place-wall-v3",
}
MAX_EPISODE_STEPS = 200


class SparseMetaWorld(gym.Env):
    """
    A task of Meta-World with a sparse reward: 1.0 and the end of the episode when the task is solved, 0.0 otherwise.

    ``reset(seed=s)`` draws new positions of objects and goals from a continuous range. Meta-World itself ignores the seed of
    a reset and draws one of 50 positions with its own random numbers.

    Observations are Meta-World's, with the goal, in float32, shape ``(39,)``: position of the gripper, its opening, positions
    and quaternions of up to two objects (0 for a missing one), the same of the previous step, position of the goal. Their
    space is unbounded, because Meta-World's bounds do not hold after a reset. An action moves the gripper and closes it, in
    [-1, 1], shape ``(4,)``.

    :param task_name: Meta-World's name of the task, e.g. ``"door-open-v3"``
    :param render_mode: ``"human"``, ``"rgb_array"`` or ``"depth_array"``
    :param kwargs: Further arguments of Meta-World's environment, e.g. ``camera_name``
    :raises ImportError: If Meta-World is not installed
    :raises ValueError: If Meta-World has no such task
    """

    metadata = gym.Env.metadata | {"render_modes": ["human", "rgb_array", "depth_array"], "render_fps": 80}

    def __init__(self, task_name: str, render_mode: str | None = None, **kwargs: Any):
        tasks = _import_tasks()
        if task_name not in tasks:
            raise ValueError(f"task_name: found {task_name!r}, expected one of {', '.join(tasks)}")
        self.render_mode = render_mode
        self.task = tasks[task_name](render_mode=render_mode, **kwargs)
        """Meta-World's environment"""
        self.task._partially_observable = False
        # A cached property: made again with the goal in it, because each step clips observations to it
        self.task.__dict__.pop("sawyer_observation_space", None)
        self.task._set_task_called = True
        # Each reset draws positions with the environment's own generator
        self.task._freeze_rand_vec, self.task.seeded_rand_vec = False, True
        self.observation_space = spaces.Box(-np.inf, np.inf, self.task.sawyer_observation_space.shape, np.float32)
        self.action_space = self.task.action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """
        :param seed: Seed of the positions of objects and goals; None: continue the environment's random numbers
        :param options: Meta-World does not use them
        """
        super().reset(seed=seed)
        self.task.np_random = self.np_random
        observation, info = self.task.reset(options=options)
        return observation.astype(np.float32), info

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """:return: The result of Meta-World, but for a sparse reward; ``is_success`` in the info tells success"""
        observation, _, _, truncated, info = self.task.step(action)
        success = bool(info["success"])
        return observation.astype(np.float32), float(success), success, truncated, {**info, "is_success": success}

    def render(self) -> Any:
        return self.task.render()

    def close(self) -> None:
        self.task.close()


def _import_tasks() -> dict[str, Any]:
    try:
        from metaworld.env_dict import ALL_V3_ENVIRONMENTS
    except ImportError as error:
        raise ImportError(f"Meta-World cannot be imported ({error}): {INSTALL_BENCHMARK}") from error
    return dict(ALL_V3_ENVIRONMENTS)


def register() -> None:
    """
    Register :data:`TASKS` with Gymnasium, 200 steps each. Any other task of Meta-World is
    ``gym.make("SparsePegInsertSide-v3", task_name="door-open-v3")``. Meta-World is imported when an environment is made. You
    may call it again.
    """
    for env_id, task_name in TASKS.items():
        if env_id not in gym.registry:
            gym.register(
                env_id,
                entry_point=f"{__name__}:{SparseMetaWorld.__name__}",
                max_episode_steps=MAX_EPISODE_STEPS,
                kwargs={"task_name": task_name},
            )
