"""A planar arm seen from above by a camera: a task with images that needs nothing but NumPy."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

ARM_ID = "SparseArm-v0"
_SHOULDER = np.array([0.0, -0.85])
_LENGTHS = np.array([0.8, 0.7])
# The corners of the part of the table where targets lie
_TARGETS = np.array([[-0.6, -0.15], [0.6, 0.45]])
_JOINTS = np.array([[-0.3, 0.2], [np.pi - 0.2, 2.6]])
_START = np.array([1.2, 1.4])
_TABLE, _LINK, _TARGET, _GRIPPER = ([225, 222, 215], [70, 75, 90], [200, 40, 40], [30, 140, 70])


class SparseArm(gym.Env):
    """
    Two joints move a gripper to a target on the table. The reward is 1.0 and the episode over when the gripper is within
    ``tolerance`` of it; all other rewards are 0.

    An action is the velocity of both joints in [-1, 1], in units of 0.08 rad per step. An observation is the picture, uint8 of
    shape ``(size, size, 3)``; with ``proprioception`` a Dict with ``image`` and ``joints``, both angles.

    :param size: Pixels of the picture in each direction
    :param tolerance: Distance that counts as reached; the table is 2 wide
    :param proprioception: Whether the joints are observed beside the picture
    :param render_mode: ``"rgb_array"``, or None
    """

    metadata = gym.Env.metadata | {"render_modes": ["rgb_array"], "render_fps": 20}
    max_speed = 0.08

    def __init__(self, size: int = 64, tolerance: float = 0.035, proprioception: bool = False, render_mode: str | None = None):
        self.size, self.tolerance, self.proprioception, self.render_mode = size, tolerance, proprioception, render_mode
        image = spaces.Box(0, 255, (size, size, 3), np.uint8)
        joints = spaces.Box(_JOINTS[0].astype(np.float32), _JOINTS[1].astype(np.float32))
        self.observation_space = spaces.Dict({"image": image, "joints": joints}) if proprioception else image
        self.action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.joints, self.target = np.zeros(2), np.zeros(2)
        middle = (np.arange(size) + 0.5) / size * 2.0 - 1.0
        # Row 0 of a picture is its top
        self._pixels = np.stack(np.meshgrid(middle, -middle), axis=-1).astype(np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """cf ``gymnasium.Env``. The target, and a little the joints, are drawn anew."""
        super().reset(seed=seed)
        self.joints = _START + self.np_random.uniform(-0.3, 0.3, size=2)
        self.target = self.np_random.uniform(*_TARGETS)
        while self._distance() <= 3.0 * self.tolerance:
            self.target = self.np_random.uniform(*_TARGETS)
        return self._observation(), {"is_success": False}

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """cf ``gymnasium.Env``"""
        self.joints = np.clip(self.joints + self.max_speed * np.clip(action, -1.0, 1.0), *_JOINTS)
        reached = bool(self._distance() <= self.tolerance)
        return self._observation(), float(reached), reached, False, {"is_success": reached}

    def expert(self) -> np.ndarray:
        """:return: The action that leads to the target, by inverse kinematics"""
        offset = self.target - _SHOULDER
        reach = np.clip(np.linalg.norm(offset), 0.15, _LENGTHS.sum() - 1e-3)
        first, second = _LENGTHS
        elbow = np.arccos(np.clip((reach**2 - first**2 - second**2) / (2.0 * first * second), -1.0, 1.0))
        inner = np.arctan2(second * np.sin(elbow), first + second * np.cos(elbow))
        wanted = np.array([np.arctan2(offset[1], offset[0]) - inner, elbow])
        return np.clip((np.clip(wanted, *_JOINTS) - self.joints) / self.max_speed, -1.0, 1.0).astype(np.float32)

    def render(self) -> np.ndarray:
        """:return: The picture from above, uint8 of shape ``(size, size, 3)``"""
        elbow, gripper = self._points()
        picture = np.broadcast_to(np.array(_TABLE, dtype=np.float32), (self.size, self.size, 3)).copy()
        for start, end, radius, color in (
            (self.target, self.target, 0.09, _TARGET),
            (_SHOULDER, elbow, 0.06, _LINK),
            (elbow, gripper, 0.05, _LINK),
            (gripper, gripper, 0.07, _GRIPPER),
        ):
            self._draw(picture, start, end, radius, color)
        return picture.round().astype(np.uint8)

    def _draw(self, picture: np.ndarray, start: np.ndarray, end: np.ndarray, radius: float, color: list[int]) -> None:
        """Draw a line with round ends and smooth edges, in the part of the picture where it is."""
        margin = radius + 2.0 / self.size
        low, high = np.minimum(start, end) - margin, np.maximum(start, end) + margin
        columns = slice(*np.clip(((np.array([low[0], high[0]]) + 1.0) / 2.0 * self.size + [0, 1]).astype(int), 0, self.size))
        rows = slice(*np.clip(((1.0 - np.array([high[1], low[1]])) / 2.0 * self.size + [0, 1]).astype(int), 0, self.size))
        offset, along = self._pixels[rows, columns] - start, end - start
        share = np.clip(offset @ along / max(along @ along, 1e-12), 0.0, 1.0)
        distance = np.linalg.norm(offset - share[..., None] * along, axis=-1)
        cover = np.clip((radius - distance) * self.size / 2.0 + 0.5, 0.0, 1.0)[..., None]
        picture[rows, columns] += cover * (np.array(color) - picture[rows, columns])

    def _points(self) -> tuple[np.ndarray, np.ndarray]:
        """:return: The elbow and the gripper"""
        first, second = self.joints[0], self.joints.sum()
        elbow = _SHOULDER + _LENGTHS[0] * np.array([np.cos(first), np.sin(first)])
        return elbow, elbow + _LENGTHS[1] * np.array([np.cos(second), np.sin(second)])

    def _distance(self) -> float:
        return float(np.linalg.norm(self._points()[1] - self.target))

    def _observation(self) -> Any:
        picture = self.render()
        return {"image": picture, "joints": self.joints.astype(np.float32)} if self.proprioception else picture


def expert(env: gym.Env) -> Any:
    """
    :param env: A :class:`SparseArm`, perhaps in wrappers
    :return: Its expert as a policy for ``record``
    """
    arm: Any = env.unwrapped
    return lambda observation: arm.expert()


def register_arm() -> None:
    """Register ``SparseArm-v0`` with a time limit of 50 steps."""
    if ARM_ID not in gym.registry:
        gym.register(ARM_ID, f"{__name__}:SparseArm", max_episode_steps=50)
