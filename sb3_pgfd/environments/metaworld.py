"""Meta-World's manipulation tasks (Yu et al. 2019, arXiv 1910.10897) with a reward on success alone."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

INSTALL_BENCHMARK = 'pip install "sb3-pgfd[benchmark]"'
"""What brings Meta-World, and the mujoco that it needs"""

TASKS = {"SparsePegInsertSide-v3": "peg-insert-side-v3", "SparseAssembly-v3": "assembly-v3"}
"""Ids that :func:`register` registers, and Meta-World's names of the tasks"""

MAX_EPISODE_STEPS = 200


class SparseMetaWorld(gym.Env):
    """
    A task of Meta-World that rewards nothing but success: 1.0 and the end of the episode when it is solved, 0.0 otherwise.

    ``reset(seed=s)`` decides where objects and goals are, anew and continuously in each episode. Meta-World itself ignores
    the seed of a reset, and chooses one of 50 places with random numbers of its own.

    Observations are those of Meta-World with the goal, in float32: the hand's position, how far the gripper is open,
    positions and quaternions of up to two objects (0 if there is one), the same of the step before, the goal's position;
    shape ``(39,)``. Their space has no bounds, for Meta-World's own do not hold after a reset. An action is the movement of
    the hand and the closing of the gripper, in [-1, 1], shape ``(4,)``.

    :param task_name: Meta-World's name of the task, e.g. ``"door-open-v3"``
    :param render_mode: ``"human"``, ``"rgb_array"`` or ``"depth_array"``
    :param kwargs: For Meta-World's environment, e.g. ``camera_name``
    :raises ImportError: If Meta-World is not installed
    :raises ValueError: If it has no such task
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
        # Made anew with the goal in it; each step clips to it
        self.task.__dict__.pop("sawyer_observation_space", None)
        self.task._set_task_called = True
        # Places are drawn by the environment's generator in each reset
        self.task._freeze_rand_vec, self.task.seeded_rand_vec = False, True
        self.observation_space = spaces.Box(-np.inf, np.inf, self.task.sawyer_observation_space.shape, np.float32)
        self.action_space = self.task.action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """
        :param seed: Decides where objects and goals are; None: the environment goes on with its random numbers
        :param options: Not used by Meta-World
        :return: Observation and info
        """
        super().reset(seed=seed)
        self.task.np_random = self.np_random
        observation, info = self.task.reset(options=options)
        return observation.astype(np.float32), info

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """
        :param action: Within the bounds
        :return: As any environment; ``is_success`` in the info says whether the task is solved
        """
        observation, _, _, truncated, info = self.task.step(action)
        success = bool(info["success"])
        return observation.astype(np.float32), float(success), success, truncated, {**info, "is_success": success}

    def render(self) -> Any:
        """:return: A picture, if that is the render mode"""
        return self.task.render()

    def close(self) -> None:
        """Close what draws."""
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
    ``gym.make("SparsePegInsertSide-v3", task_name="door-open-v3")``. Meta-World is imported when one is made. Calling it
    again is harmless.
    """
    for env_id, task_name in TASKS.items():
        if env_id not in gym.registry:
            gym.register(
                env_id,
                entry_point=f"{__name__}:{SparseMetaWorld.__name__}",
                max_episode_steps=MAX_EPISODE_STEPS,
                kwargs={"task_name": task_name},
            )
