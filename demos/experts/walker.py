"""A controller for Gymnasium's BipedalWalker."""

from enum import Enum

import numpy as np


class Phase(Enum):
    """Of a step; what the swinging leg does."""

    SWING = "swings forward while the other leg carries"
    LOWER = "comes down"
    PUSH = "has landed, the other leg pushes off"


class Walker:
    """
    BipedalWalker-v3: the gait of Gymnasium's own heuristic with gains that were searched for, as that one falls in six of
    seven episodes. A step has three phases, each with its own target angles; proportional-derivative controllers lead the
    joints there and keep the hull upright. It knows the phase it is in: :meth:`reset` is called when an episode begins.
    """

    # Speed (of the observation) above which the carrying leg straightens faster, and above which no leg pushes
    SPEED, TOP_SPEED = 0.29, 0.319
    # Target angles
    HIP_FORWARD, HIP_DOWN = 1.261, 0.117
    KNEE_FOLDED, KNEE_CARRYING, KNEE_PUSHING = -0.67, 0.096, 0.908
    # The carrying leg straightens by this angle per step
    STRAIGHTENING = 0.032
    # Angles with which a phase ends: hip of the carrying leg, knee of the pushing leg
    HIP_BEHIND, KNEE_PUSHED = 0.084, 0.776
    # Torque per angle and per speed
    HIP_GAIN, HIP_DAMPING = 0.519, 0.118
    KNEE_GAIN, KNEE_DAMPING = 1.763, 0.134
    HULL_GAIN, HULL_DAMPING = 0.469, 0.831
    # Of the knees, per vertical speed of the hull
    BOUNCE_DAMPING = 7.295

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """An episode begins: the first leg swings."""
        self._phase = Phase.SWING
        self._swinging = 0
        self._carrying_knee = self.KNEE_CARRYING

    def __call__(self, observation: np.ndarray) -> np.ndarray:
        """
        :param observation: Of the environment
        :return: Torques of hip and knee of both legs, in [-1, 1]
        """
        hips, knees = self._targets(observation)
        angle, turning, _, rising = observation[:4]
        torques = np.empty((2, 2))
        for leg, (hip, hip_speed, knee, knee_speed) in enumerate((observation[4:8], observation[9:13])):
            torques[leg] = self.HULL_GAIN * angle + self.HULL_DAMPING * turning, -self.BOUNCE_DAMPING * rising
            if hips[leg] is not None:
                torques[leg, 0] += self.HIP_GAIN * (hips[leg] - hip) - self.HIP_DAMPING * hip_speed
            torques[leg, 1] += self.KNEE_GAIN * (knees[leg] - knee) - self.KNEE_DAMPING * knee_speed
        return np.clip(torques.ravel(), -1.0, 1.0).astype(np.float32)

    def _targets(self, observation: np.ndarray) -> tuple[list[float | None], list[float]]:
        """:return: Angles of both hips (None: it hangs free) and both knees. Where a phase ends, the next begins at once"""
        swinging, carrying, speed = self._swinging, 1 - self._swinging, observation[2]
        swing, carry = observation[4 + 5 * swinging :], observation[4 + 5 * carrying :]
        hips: list[float | None] = [None, None]
        knees = [0.0, 0.0]
        if self._phase is Phase.SWING:
            straightening = self.STRAIGHTENING * (2.0 if speed > self.SPEED else 1.0)
            self._carrying_knee = min(self._carrying_knee + straightening, self.KNEE_CARRYING)
            hips[swinging], knees[swinging], knees[carrying] = self.HIP_FORWARD, self.KNEE_FOLDED, self._carrying_knee
            if carry[0] < self.HIP_BEHIND:
                self._phase = Phase.LOWER
        if self._phase is Phase.LOWER:
            hips[swinging], knees[swinging], knees[carrying] = self.HIP_DOWN, self.KNEE_CARRYING, self._carrying_knee
            if swing[4]:
                # It carries from now on, bent as it landed
                self._phase, self._carrying_knee = Phase.PUSH, min(float(swing[2]), self.KNEE_CARRYING)
        if self._phase is Phase.PUSH:
            knees[swinging], knees[carrying] = self._carrying_knee, self.KNEE_PUSHING
            if carry[2] > self.KNEE_PUSHED or speed > self.TOP_SPEED:
                self._phase, self._swinging = Phase.SWING, carrying
        return hips, knees
