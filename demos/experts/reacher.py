"""A controller for Gymnasium's Reacher."""

import numpy as np

# Lengths of the arm's two links, in metres
UPPER, LOWER = 0.1, 0.11


def reach_with_arm(observation: np.ndarray) -> np.ndarray:
    """
    Reacher-v5: inverse kinematics, and for each joint a proportional-derivative controller. The motors' power is in the
    reward, so the gains are those with the best return (a search on the arm's equations of motion): soft when the target
    is far, harder near it, where they cost little.

    :param observation: Cosines and sines of the joint angles, target, joint speeds, fingertip minus target
    :return: Torques in [-1, 1]^2
    """
    angles = np.arctan2(observation[2:4], observation[0:2])
    speeds = observation[6:8]
    missing = _angles_to(observation[4:6], angles + LOOK_AHEAD * speeds) - angles
    # The outer joint has stops at +-3 and does not go round
    missing[0] = _wrapped(missing[0])
    softness = (np.linalg.norm(missing) + 1e-3) ** SOFTENING
    torques = STIFFNESS * missing / softness - DAMPING * speeds / np.sqrt(softness)
    return np.clip(torques, -1.0, 1.0).astype(np.float32)


STIFFNESS, DAMPING = np.array([0.376, 0.319]), np.array([0.0557, 0.0518])
SOFTENING = 0.4525
# Seconds: which way the elbow bends is decided by where the arm is going, so that noise does not turn it over
LOOK_AHEAD = 0.025
# What a radian of the outer joint costs, with the inner one's 1
ELBOW_COST = 1.2


def _angles_to(target: np.ndarray, near: np.ndarray) -> np.ndarray:
    """
    :param target: Of the fingertip, seen from the shoulder
    :param near: Of the two ways to reach it, the one that is nearer to these joint angles
    :return: Joint angles; where the target is out of reach, those that come nearest
    """
    cos = (target @ target - UPPER**2 - LOWER**2) / (2 * UPPER * LOWER)
    elbow = np.arccos(np.clip(cos, -1.0, 1.0))
    ways = [np.array([_shoulder(target, bend), bend]) for bend in (elbow, -elbow)]
    costs = [_wrapped(way[0] - near[0]) ** 2 + ELBOW_COST * (way[1] - near[1]) ** 2 for way in ways]
    return ways[int(np.argmin(costs))]


def _shoulder(target: np.ndarray, elbow: float) -> float:
    """:return: Angle of the inner joint with which the fingertip points to the target"""
    return np.arctan2(target[1], target[0]) - np.arctan2(LOWER * np.sin(elbow), UPPER + LOWER * np.cos(elbow))


def _wrapped(angle: float) -> float:
    """:return: The same angle in [-pi, pi)"""
    return (angle + np.pi) % (2 * np.pi) - np.pi
