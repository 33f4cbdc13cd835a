"""
A simulated arm with the interface of a real one, for docs/real_robot.md: `TwoLinkArm-v0` puts its tip into a socket.

    sb3-pgfd demos record arm.npz --env TwoLinkArm-v0 --gym-packages examples.two_link_arm --keyboard --episodes 3

For your own arm, keep the class and replace the lines that are marked with "robot": read the joints, send the speeds, look
whether the tip is in the socket, drive back to the start.
"""

from itertools import pairwise
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

LINKS = np.array([0.5, 0.5])
TURN = 0.05
"""Largest turn of a joint in one step, in radians"""
HALF_WIDTH, DEPTH, WALL = 0.025, 0.14, 0.04
"""Of the socket, in metres; its walls are as thick as the last one"""
PICTURE = 180


class TwoLinkArm(gym.Env):
    """
    An arm in a plane. The socket is somewhere else in each episode, and open on one side. Walls stop the tip.

    * Action: the speed of each joint, as a share of the largest.
    * Observation: cosine and sine of the joints, position of the tip, position and direction of the socket's bottom, and the
      tip as seen from the socket.
    * Reward: 1 when the tip is at the bottom of the socket, which ends the episode, otherwise 0.

    :param render_mode: ``"rgb_array"`` or None
    """

    # `repeatable`: a run that goes on must not make the last moves again on a machine that nobody has put back. This one is
    # simulated, a real one has False here
    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 20, "repeatable": True}  # noqa: RUF012

    def __init__(self, render_mode: str | None = None):
        self.render_mode = render_mode
        self.action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.observation_space = spaces.Box(-2.0, 2.0, (12,), np.float32)
        self.joints, self.bottom, self.direction = np.zeros(2), np.zeros(2), np.array([1.0, 0.0])

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        # Robot: drive to the start, and let somebody move the socket
        self.joints = np.array([0.3, 2.2]) + self.np_random.uniform(-0.2, 0.2, 2)
        angle, turned = self.np_random.uniform(0.5, 2.6), self.np_random.uniform(-1.0, 1.0)
        self.bottom = self.np_random.uniform(0.7, 0.85) * _unit(angle)
        self.direction = _unit(angle + turned)
        return self._observe(), {"is_success": False}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        # Robot: send the speeds, wait until the end of the period, read the joints
        for _ in range(5):
            turned = self.joints + TURN / 5 * np.clip(np.asarray(action, dtype=np.float64), -1.0, 1.0)
            if self._hits_wall(tip_of(turned)):
                break
            self.joints = turned
        # Robot: a sensor in the socket, a camera, or a key that a person presses (sb3_pgfd.wrappers.SuccessReward)
        success = self.is_inserted()
        return self._observe(), float(success), success, False, {"is_success": success}

    def seen_from_socket(self, point: np.ndarray) -> np.ndarray:
        """:return: A point's place along the socket, which ends at 0, and beside its axis"""
        offset = point - self.bottom
        return np.array([offset @ self.direction, offset @ np.array([-self.direction[1], self.direction[0]])])

    def is_inserted(self) -> bool:
        """:return: Whether the tip is at the bottom of the socket"""
        along, beside = self.seen_from_socket(tip_of(self.joints))
        return bool(-0.03 < along <= 0.0 and abs(beside) < HALF_WIDTH)

    def _hits_wall(self, point: np.ndarray) -> bool:
        along, beside = self.seen_from_socket(point)
        in_side = -DEPTH < along < WALL and HALF_WIDTH < abs(beside) < HALF_WIDTH + WALL
        return bool(in_side or (0.0 < along < WALL and abs(beside) <= HALF_WIDTH))

    def _observe(self) -> np.ndarray:
        tip = tip_of(self.joints)
        parts = (np.cos(self.joints), np.sin(self.joints), tip, self.bottom, self.direction, self.seen_from_socket(tip))
        return np.concatenate(parts).astype(np.float32)

    def render(self) -> Any:
        """:return: A picture from above, the base at the middle of its lower edge"""
        across = np.linspace(-1.1, 1.1, PICTURE)
        points = np.stack(np.meshgrid(across, np.linspace(1.15, -0.15, PICTURE * 6 // 10)), axis=-1)
        picture = np.full((*points.shape[:2], 3), 245, dtype=np.uint8)
        offset = points - self.bottom
        along = offset @ self.direction
        beside = np.abs(offset @ np.array([-self.direction[1], self.direction[0]]))
        walls = (along > -DEPTH) & (along < WALL) & (beside < HALF_WIDTH + WALL) & ~((along < 0.0) & (beside < HALF_WIDTH))
        picture[walls] = 90, 90, 90
        elbow, tip = LINKS[0] * _unit(self.joints[0]), tip_of(self.joints)
        for start, end, color in ((np.zeros(2), elbow, (60, 110, 180)), (elbow, tip, (90, 150, 220))):
            share = np.clip((points - start) @ (end - start) / ((end - start) @ (end - start)), 0.0, 1.0)
            picture[np.linalg.norm(points - start - share[..., None] * (end - start), axis=-1) < 0.02] = color
        picture[np.linalg.norm(points - tip, axis=-1) < 0.025] = 220, 60, 50
        return picture


class Expert:
    """
    Drives in front of the socket and in. ``demos record --policy examples.two_link_arm:Expert`` records it.

    :param env: The arm
    """

    def __init__(self, env: gym.Env):
        arm = env.unwrapped
        assert isinstance(arm, TwoLinkArm)
        self.arm = arm

    def __call__(self, observation: np.ndarray) -> np.ndarray:
        tip = tip_of(self.arm.joints)
        step = self.way()[0] - tip
        step *= min(1.0, 0.03 / max(float(np.linalg.norm(step)), 1e-9))
        first, total = self.arm.joints[0], self.arm.joints.sum()
        jacobian = (
            np.array([[-np.sin(first), -np.sin(total)], [np.cos(first), np.cos(total)]]) @ np.array([[1, 0], [1, 1]]) / 2
        )
        turn = jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + 1e-3 * np.eye(2), step)
        return (turn / max(TURN, float(np.abs(turn).max()))).astype(np.float32)

    def way(self) -> list[np.ndarray]:
        """:return: The corners of the way that is left"""
        arm, (along, beside) = self.arm, self.arm.seen_from_socket(tip_of(self.arm.joints))
        front, side = -DEPTH - 0.06, float(np.sign(beside)) * (HALF_WIDTH + WALL + 0.05)
        places = [(-0.01, 0.0)]
        if not (abs(beside) < 0.6 * HALF_WIDTH and along > front - 0.02):
            places.insert(0, (front, 0.0))
            if along > front + 0.01 and abs(beside) >= HALF_WIDTH:
                places.insert(0, (front, side))
                if along > 0.0 and abs(beside) < abs(side) - 0.01:
                    places.insert(0, (along, side))
        normal = np.array([-arm.direction[1], arm.direction[0]])
        return [arm.bottom + u * arm.direction + v * normal for u, v in places]

    def distance(self) -> float:
        """:return: Length of the way that is left"""
        corners = [tip_of(self.arm.joints), *self.way()]
        return sum(float(np.linalg.norm(b - a)) for a, b in pairwise(corners))


def tip_of(joints: np.ndarray) -> np.ndarray:
    """:return: Where the tip is with these joint angles"""
    return LINKS[0] * _unit(joints[0]) + LINKS[1] * _unit(joints.sum())


def _unit(angle: float) -> np.ndarray:
    return np.array([np.cos(angle), np.sin(angle)])


gym.register("TwoLinkArm-v0", "examples.two_link_arm:TwoLinkArm", max_episode_steps=80)
