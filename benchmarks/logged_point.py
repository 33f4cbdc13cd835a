"""A point that is to reach the origin, which takes its time and writes down each step: for the benchmarks of Ray."""

import os
import time
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from sb3_pgfd import Demonstrations
from sb3_pgfd.demonstrations import record
from sb3_pgfd.replay import DemoReplayBuffer

N_STEPS = 30


class LoggedPoint(gym.Env):
    """
    The reward is 1 at the goal, which ends the episode, and 0 elsewhere.

    :param seconds: That a step takes
    :param log: Folder for the steps, None: they are not written down
    """

    observation_space = spaces.Box(-2.0, 2.0, (2,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)

    def __init__(self, seconds: float = 0.0, log: str | None = None):
        self.seconds, self._log = seconds, None
        if log is not None:
            Path(log).mkdir(parents=True, exist_ok=True)
            self._log = os.open(Path(log, f"{os.getpid()}_{uuid.uuid4().hex}"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        angle = self.np_random.uniform(0.0, 2.0 * np.pi)
        self.state, self.n_steps = np.array([np.cos(angle), np.sin(angle)], dtype=np.float32), 0
        return self.state, {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        time.sleep(self.seconds)
        before = self.state
        # The noise makes each step another one
        noise = self.np_random.normal(0.0, 0.005, 2)
        self.state = np.clip(before + 0.1 * action + noise, -2.0, 2.0).astype(np.float32)
        self.n_steps += 1
        success = bool(np.linalg.norm(self.state) < 0.1)
        if self._log is not None:
            os.write(self._log, key_of(before, float(success), self.state))
        return self.state, float(success), success, self.n_steps >= N_STEPS, {"is_success": success}


def key_of(state: np.ndarray, reward: float, next_state: np.ndarray) -> bytes:
    """:return: What identifies a step, always of the same length"""
    return np.array([*state, reward, *next_state], dtype=np.float32).tobytes()


def controller(observation: np.ndarray) -> np.ndarray:
    """:return: An action that leads to the goal, not on the shortest way"""
    aim = -observation + 0.4 * np.array([-observation[1], observation[0]])
    return np.clip(4.0 * aim, -1.0, 1.0).astype(np.float32)


def demonstrations() -> Demonstrations:
    """:return: Five episodes of the controller"""
    env = gym.wrappers.TimeLimit(LoggedPoint(), N_STEPS)
    return record(controller, env, 5, seed=100)


def compare_with_log(buffer: DemoReplayBuffer, log: Path) -> tuple[int, int]:
    """
    :param buffer: Whose ring has room for all steps
    :param log: Folder that the environments wrote to
    :return: How many of the agent's transitions did not happen, and how many are stored more often than they did
    """
    size, happened = len(key_of(np.zeros(2), 0.0, np.zeros(2))), Counter[bytes]()
    for path in log.iterdir():
        data = path.read_bytes()
        happened.update(data[start : start + size] for start in range(0, len(data), size))
    columns, stored = buffer.ring.columns, Counter[bytes]()
    for row in np.flatnonzero(buffer.ring.tree.weights[: buffer.ring.size]).tolist():
        state, reward, after = (columns[name][row] for name in ("observations/", "rewards", "next_observations/"))
        stored[key_of(state, float(reward), after)] += 1
    invented = sum(number for key, number in stored.items() if key not in happened)
    return invented, sum(number - happened[key] for key, number in stored.items() if 0 < happened[key] < number)
