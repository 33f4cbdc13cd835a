"""An environment with short episodes that takes its time and keeps a tally of its resets, and a recorder to be killed."""

import os
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from sb3_pgfd.demonstrations import Demonstrations, record

N_EPISODES = 200


class SlowWalk(gym.Env):
    """
    Four steps of half a millisecond.

    :param tally: A file that grows by a byte with each reset
    """

    def __init__(self, tally: Path):
        self.observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
        self.action_space = spaces.Box(-1, 1, (1,), np.float32)
        self.tally = tally

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        # Not buffered: it has to survive the process
        handle = os.open(self.tally, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(handle, b".")
        os.close(handle)
        self.position = self.np_random.random(2).astype(np.float32)
        self.n_steps = 0
        return self.position, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        time.sleep(0.0005)
        self.n_steps += 1
        self.position = self.position + action
        over = self.n_steps == 4
        # It says so of its successes alone
        info = {"is_success": True} if over and self.position.sum() > 0 else {}
        return self.position, float(self.position[0]), False, over, info


def go_back(observation: np.ndarray) -> np.ndarray:
    return -observation[:1]


def record_slowly(path: Path | None, tally: Path) -> Demonstrations:
    """:param path: Where to; an unfinished recording is resumed"""
    return record(go_back, SlowWalk(tally), N_EPISODES, seed=3, action_noise=0.5, path=path, resume=True)
