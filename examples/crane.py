"""
A task of one's own: a crane brings a hanging load to rest over a target.

The reward is 1 when the load hangs still over the target, which ends the
episode, and 0 otherwise. Importing this file registers the environment as
Crane-v0. ``controller`` solves the task.
"""

import math
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

ROPE, GRAVITY = 0.5, 9.81  # metres, metres per second^2
PUSH, STEP = 3.0, 0.05  # largest acceleration of the cart, seconds
NEAR, SLOW = 0.03, 0.15  # metres, metres per second


class Crane(gym.Env):
    """
    The observation is the cart's position and speed, the rope's angle and its
    speed, and the target's position. The action is the cart's acceleration,
    from -1 to 1.

    :param render_mode: "rgb_array" or None
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012
    observation_space = spaces.Box(-10.0, 10.0, (5,))
    action_space = spaces.Box(-1.0, 1.0, (1,))

    def __init__(self, render_mode: str | None = None):
        self.render_mode = render_mode
        self.state = np.zeros(5)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        start = self.np_random.uniform(-0.9, 0.9)
        target = self.np_random.uniform(-0.9, 0.9)
        self.state = np.array([start, 0.0, 0.0, 0.0, target])
        return self.state.astype(np.float32), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        x, v, angle, turn, target = self.state.tolist()
        push = PUSH * float(np.clip(action[0], -1.0, 1.0))
        for _ in range(5):  # smaller steps for the physics
            pull = GRAVITY * math.sin(angle) + push * math.cos(angle) + 0.1 * turn
            turn -= STEP / 5 * pull / ROPE
            angle += STEP / 5 * turn
            v += STEP / 5 * push
            x += STEP / 5 * v
            if abs(x) > 1.0:  # the end of the rail
                x, v = math.copysign(1.0, x), 0.0
        self.state = np.array([x, v, angle, turn, target])
        away = x + ROPE * math.sin(angle) - target
        speed = v + ROPE * turn * math.cos(angle)
        success = abs(away) < NEAR and abs(speed) < SLOW and abs(v) < SLOW
        return self.state.astype(np.float32), float(success), success, False, {"is_success": success}

    def render(self) -> np.ndarray:
        import pygame

        def dot(x: float, height: float) -> tuple[int, int]:
            return int(160 + 140 * x), int(48 + 200 * height)

        x, _, angle, _, target = self.state.tolist()
        surface = pygame.Surface((320, 192))
        surface.fill("white")
        load = dot(x + ROPE * math.sin(angle), ROPE * math.cos(angle))
        pygame.draw.line(surface, "grey", dot(-1.0, 0.0), dot(1.0, 0.0), 3)
        pygame.draw.line(surface, "seagreen", dot(target - NEAR, 0.62), dot(target + NEAR, 0.62), 8)
        pygame.draw.line(surface, "black", dot(x, 0.0), load, 2)
        pygame.draw.rect(surface, "steelblue", pygame.Rect(dot(x, 0.0)[0] - 14, 40, 28, 14))
        pygame.draw.circle(surface, "firebrick", load, 9)
        return np.transpose(pygame.surfarray.array3d(surface), (1, 0, 2))


def controller(observation: np.ndarray) -> np.ndarray:
    """:return: Towards the target, against the speed and the swing"""
    x, v, angle, _, target = observation
    push = 3.0 * (target - x) - 3.0 * v + 3.0 * angle
    return np.clip([push / PUSH], -1.0, 1.0).astype(np.float32)


gym.register("Crane-v0", entry_point="crane:Crane", max_episode_steps=100)
