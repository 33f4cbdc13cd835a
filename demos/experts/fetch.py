"""
Waypoint controllers for the Fetch tasks of gymnasium-robotics. An action is the gripper's displacement (1 is about 3 cm
per step) and the fingers' opening; positions are in metres. None has a memory: a learner can see all that they go by.
"""

from collections.abc import Mapping

import numpy as np

Observation = Mapping[str, np.ndarray]

# Action per metre of distance, and a harder one on the way to the block
GAIN, APPROACH_GAIN = 10.0, 14.0
OPEN, CLOSE = 1.0, -1.0


def reach(observation: Observation) -> np.ndarray:
    """
    FetchReach-v4: straight to the goal; what is to be there is the gripper itself.

    :param observation: Of the environment, with its keys
    :return: Action in [-1, 1]^4
    """
    return _move(observation["desired_goal"] - observation["achieved_goal"])


def push(observation: Observation) -> np.ndarray:
    """
    FetchPush-v4: come down behind the block, seen from the goal, then push it along the line to the goal.

    :param observation: Of the environment, with its keys
    :return: Action in [-1, 1]^4
    """
    gripper, block = observation["observation"][0:3], observation["observation"][3:6]
    to_goal = (observation["desired_goal"] - block)[:2]
    distance = float(np.linalg.norm(to_goal))
    if distance < 0.015:
        return _move(np.zeros(3))
    direction = to_goal / distance
    # The gripper as seen from the block, split into along the line of the push (behind it: negative) and across
    offset = (gripper - block)[:2]
    along = float(offset @ direction)
    across = offset - along * direction
    if along < -0.03 and np.linalg.norm(across) < 0.018 and gripper[2] < 0.46:
        # Slower towards the goal, so that the block does not slide past it
        ahead = direction * min(0.09, 0.03 + 0.6 * distance)
        return _move(np.append(ahead - across, PUSH_HEIGHT - gripper[2]))
    to_start = block[:2] - 0.065 * direction - gripper[:2]
    if np.linalg.norm(to_start) <= 0.02:
        return _move(np.append(to_start, PUSH_HEIGHT - gripper[2]), APPROACH_GAIN)
    if gripper[2] < 0.47 and np.linalg.norm(offset) < 0.09:
        # Beside the block and low: up first, not to knock it over
        return _move(np.array([0.0, 0.0, 0.08]))
    return _move(np.append(to_start, TRAVEL_HEIGHT - gripper[2]), APPROACH_GAIN)


# Of the gripper over the floor; the table's top is at 0.4
PUSH_HEIGHT, TRAVEL_HEIGHT = 0.425, 0.49


def pick_and_place(observation: Observation) -> np.ndarray:
    """
    FetchPickAndPlace-v4: over the block with open fingers, down, close, carry it to the goal and hold it there.

    :param observation: Of the environment, with its keys
    :return: Action in [-1, 1]^4
    """
    state, goal = observation["observation"], observation["desired_goal"]
    gripper, block, opening = state[0:3], state[3:6], state[9] + state[10]
    to_block = block - gripper
    across, distance = np.linalg.norm(to_block[:2]), np.linalg.norm(to_block)
    at_goal = np.linalg.norm(block - goal) < 0.01 and distance < 0.03
    if not at_goal:
        if across > 0.012 and distance > 0.03:
            height = block[2] + (0.06 if across > 0.03 else 0.04)
            return _move(np.append(to_block[:2], height - gripper[2]), APPROACH_GAIN, OPEN)
        if abs(to_block[2]) > 0.012 and opening > 0.06:
            return _move(to_block, APPROACH_GAIN, OPEN)
        # The block is 5 cm wide: with less than that between the fingers they hold it
        if opening > 0.0525:
            return _move(np.zeros(3), fingers=CLOSE)
    return _move(goal - block, fingers=CLOSE)


def _move(displacement: np.ndarray, gain: float = GAIN, fingers: float = 0.0) -> np.ndarray:
    """
    :param displacement: Where to, seen from the gripper, in metres
    :param gain: Action per metre
    :param fingers: Between :data:`CLOSE` and :data:`OPEN`
    """
    return np.append(np.clip(gain * displacement, -1.0, 1.0), fingers).astype(np.float32)
