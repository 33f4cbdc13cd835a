"""Controllers for Gymnasium's classic control tasks."""

import numpy as np


def pump_and_catch(observation: np.ndarray) -> np.ndarray:
    """
    Swing up and balance Pendulum-v1: pump energy with full torque, and hold upright with a proportional-derivative
    controller near the top.

    :param observation: cos(theta), sin(theta), theta_dot; theta = 0 is upright
    :return: Torque in [-2, 2]
    """
    cos, sin, speed = observation
    if cos > 0.9:
        torque = -(10.0 * np.arctan2(sin, cos) + 2.5 * speed)
    else:
        # Mechanical energy over that of standing upright, in units of m l^2: I = 1/3, g l / 2 = 5
        energy = speed**2 / 6.0 + 5.0 * (cos - 1.0)
        torque = -2.0 * np.sign(speed * energy) if abs(speed) > 1e-3 else 2.0
    return np.array([torque], dtype=np.float32)


def push_along(observation: np.ndarray) -> np.ndarray:
    """
    Drive MountainCarContinuous-v0 up the hill: always full throttle in the direction of motion.

    :param observation: Position, speed
    :return: Force in [-1, 1]
    """
    return np.array([1.0 if observation[1] >= 0.0 else -1.0], dtype=np.float32)
