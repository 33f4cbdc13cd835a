"""The scripted experts of demos/experts: their control laws by hand, and what they achieve."""

from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym
import gymnasium_robotics
import numpy as np
import pytest

from demos.experts import fetch
from demos.experts.classic_control import pump_and_catch, push_along
from demos.experts.door import DoorPlanner
from demos.experts.maze import Waypoints, shortest_path
from demos.experts.reacher import LOWER, UPPER, reach_with_arm
from demos.experts.walker import Walker
from demos.experts.worse import Coarse, clumsy
from sb3_pgfd.demonstrations import record

gym.register_envs(gymnasium_robotics)

Expert = Callable[[Mapping[str, np.ndarray]], np.ndarray]


def hand(gripper: list[float], block: list[float], goal: list[float], opening: float = 0.1) -> dict[str, np.ndarray]:
    """What the Fetch tasks show of a gripper, a block and a goal."""
    state = np.zeros(25)
    state[0:3], state[3:6], state[9:11] = gripper, block, opening / 2
    return {"observation": state, "achieved_goal": np.array(block), "desired_goal": np.array(goal)}


def test_the_gripper_moves_straight_to_the_goal():
    observation = {"achieved_goal": np.array([1.3, 0.7, 0.5]), "desired_goal": np.array([1.35, 0.4, 0.52])}
    # 10 for each metre, within the bounds; the fingers are not needed
    np.testing.assert_allclose(fetch.reach(observation), [0.5, -1.0, 0.2, 0.0], rtol=1e-6)


BLOCK = [1.3, 0.7, 0.425]


@pytest.mark.parametrize(
    ("gripper", "goal", "expected"),
    [
        # The block is where it should be
        ([1.2, 0.7, 0.425], [1.31, 0.7, 0.425], [0, 0, 0, 0]),
        # Behind the block, seen from a goal far ahead: push, at most 9 cm further at a time
        ([1.24, 0.7, 0.425], [1.5, 0.7, 0.425], [0.9, 0, 0, 0]),
        # 2 cm before the goal, half a centimetre beside the line: slower, and back onto the line
        ([1.24, 0.705, 0.425], [1.32, 0.7, 0.425], [0.42, -0.05, 0, 0]),
        # Over the point behind the block, 6.5 cm away: down
        ([1.235, 0.7, 0.49], [1.5, 0.7, 0.425], [0, 0, -0.91, 0]),
        # On the wrong side and low: up
        ([1.36, 0.7, 0.425], [1.5, 0.7, 0.425], [0, 0, 0.8, 0]),
        # Far away: towards the point behind the block, high
        ([1.235, 0.75, 0.48], [1.5, 0.7, 0.425], [0, -0.7, 0.14, 0]),
    ],
)
def test_pushing_goes_round_the_block(gripper: list[float], goal: list[float], expected: list[float]):
    np.testing.assert_allclose(fetch.push(hand(gripper, BLOCK, goal)), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("gripper", "opening", "expected"),
    [
        # Away: at a height of 6 cm over the block first
        ([1.25, 0.7, 0.485], 0.1, [0.7, 0, 0, 1]),
        # Nearly above it: at 4 cm
        ([1.28, 0.7, 0.485], 0.1, [0.28, 0, -0.28, 1]),
        # Above it: down with open fingers
        ([1.3, 0.7, 0.465], 0.1, [0, 0, -0.56, 1]),
        # Round it: close
        ([1.3, 0.7, 0.425], 0.1, [0, 0, 0, -1]),
        # It is held: carry it
        ([1.3, 0.7, 0.425], 0.05, [0, 0.5, 1, -1]),
    ],
)
def test_picking_closes_the_fingers_round_the_block(gripper: list[float], opening: float, expected: list[float]):
    observation = hand(gripper, BLOCK, [1.3, 0.75, 0.6], opening)
    np.testing.assert_allclose(fetch.pick_and_place(observation), expected, atol=1e-6)


def test_a_block_at_its_goal_is_held_there():
    observation = hand([1.3, 0.7, 0.43], BLOCK, [1.302, 0.7, 0.425])
    np.testing.assert_allclose(fetch.pick_and_place(observation), [0.02, 0, 0, -1], atol=1e-6)


# Two ways round, the upper one is shorter
MAZE: list[list[object]] = [
    [1, 1, 1, 1, 1],
    [1, "r", 0, "g", 1],
    [1, 0, 1, 0, 1],
    [1, 0, 0, 0, 1],
    [1, 1, 1, 1, 1],
]


@pytest.mark.parametrize(
    ("start", "goal", "path"),
    [
        ((1, 1), (1, 3), [(1, 1), (1, 2), (1, 3)]),
        ((2, 1), (2, 1), [(2, 1)]),
        ((3, 1), (3, 3), [(3, 1), (3, 2), (3, 3)]),
        ((2, 1), (3, 2), [(2, 1), (3, 1), (3, 2)]),
    ],
)
def test_the_shortest_path_is_found(start: tuple[int, int], goal: tuple[int, int], path: list[tuple[int, int]]):
    assert shortest_path(MAZE, start, goal) == path


def test_a_maze_without_a_way_is_refused():
    with pytest.raises(ValueError, match=r"no way from cell \(0, 0\) to cell \(0, 2\)"):
        shortest_path([[0, 1, 0]], (0, 0), (0, 2))


def arm(angles: list[float], target: list[float]) -> np.ndarray:
    """What Reacher shows of an arm at rest."""
    inner, outer = angles
    tip = [UPPER * np.cos(inner) + LOWER * np.cos(inner + outer), UPPER * np.sin(inner) + LOWER * np.sin(inner + outer)]
    return np.concatenate([np.cos(angles), np.sin(angles), target, [0, 0], np.subtract(tip, target)])


def test_an_arm_whose_fingertip_is_at_the_target_rests():
    for angles in ([0.3, 1.0], [-2.5, -2.0], [3.0, 0.5]):
        observation = arm(angles, [0.0, 0.0])
        observation[4:6] = observation[8:10]
        np.testing.assert_allclose(reach_with_arm(observation), [0, 0], atol=1e-6)


def test_the_arm_takes_the_shorter_way():
    # To reach (0.1, 0.11) from straight ahead, the inner link stays and the elbow bends by a quarter turn
    torques = reach_with_arm(arm([0.0, 0.0], [UPPER, LOWER]))
    assert abs(torques[0]) < 1e-6
    assert torques[1] > 0.1
    # Across the cut of the angle: from just below -x to just above it
    torques = reach_with_arm(arm([-3.1, 0.0], [-(UPPER + LOWER) * np.cos(0.1), (UPPER + LOWER) * np.sin(0.1)]))
    assert torques[0] < 0


def test_a_target_out_of_reach_is_pointed_at():
    np.testing.assert_allclose(reach_with_arm(arm([0.5, 0.0], list(0.3 * np.array([np.cos(0.5), np.sin(0.5)])))), 0, atol=1e-3)


@pytest.mark.parametrize(
    ("env_id", "expert"),
    [("FetchReach-v4", fetch.reach), ("FetchPush-v4", fetch.push), ("FetchPickAndPlace-v4", fetch.pick_and_place)],
)
def test_the_gripper_does_its_task(env_id: str, expert: Expert):
    demonstrations = record(expert, gym.make(env_id), 10, seed=500, action_noise=0.1)
    assert demonstrations.metadata["success_rate"] == 1.0


@pytest.mark.parametrize(("env_id", "longest"), [("PointMaze_UMaze-v3", 150), ("PointMaze_Medium-v3", 300)])
def test_the_point_finds_its_way(env_id: str, longest: int):
    env = gym.make(env_id, continuing_task=False)
    demonstrations = record(Waypoints(env), env, 10, seed=500, action_noise=0.1)
    assert demonstrations.metadata["success_rate"] == 1.0
    assert demonstrations.episode_lengths.max() < longest


def test_the_hand_opens_a_door_that_its_plan_was_not_made_for():
    env = gym.make("AdroitHandDoorSparse-v1")
    demonstrations = record(DoorPlanner(env), env, 1, seed=8)
    assert demonstrations.rewards.max() == 10.0


def test_the_arm_does_as_well_as_the_best_that_learn():
    demonstrations = record(reach_with_arm, gym.make("Reacher-v5"), 50, seed=500)
    # Learned policies are said to reach -4 to -3.5
    assert demonstrations.episode_returns.mean() > -3.6


def test_the_pendulum_is_swung_up():
    assert pump_and_catch(np.array([-1.0, 0.0, 0.5])).tolist() == [2.0]
    assert pump_and_catch(np.array([1.0, 0.0, 0.1])) == pytest.approx([-0.25])
    assert record(pump_and_catch, gym.make("Pendulum-v1"), 10).episode_returns.mean() > -250


def test_a_clumsy_driver_goes_the_wrong_way_in_some_steps():
    driver: Any = clumsy(push_along, share=0.25)
    forces = np.array([driver(np.array([0.0, 0.1])) for _ in range(1000)])
    assert np.unique(forces).tolist() == [-1.0, 1.0]
    assert 0.2 < (forces < 0).mean() < 0.3


def test_the_walker_stands_on_one_leg_and_then_on_the_other():
    walker = Walker()
    standing = np.zeros(24)
    # The second leg carries and is in front of the hip
    standing[9] = 0.5
    torques = walker(standing)
    # The first hip swings forward, 0.519 * 1.261; its knee folds, 1.763 * -0.67 is beyond the bound; the other hip hangs
    # free, and its knee straightens, 1.763 * 0.096
    np.testing.assert_allclose(torques, [0.6545, -1.0, 0.0, 0.1692], atol=1e-4)
    behind, landed, pushed = standing.copy(), standing.copy(), standing.copy()
    behind[9] = 0.0
    # 0.519 * 0.117
    assert walker(behind)[0] == pytest.approx(0.0607, abs=1e-4)
    landed[8] = 1.0
    # 1.763 * 0.908
    assert walker(landed)[3] == 1.0
    pushed[11] = 0.8
    walker(pushed)
    mirrored = np.zeros(24)
    mirrored[4] = 0.5
    # Now the second leg swings, and the knee of the first one, which landed at 0, has straightened by 0.032
    np.testing.assert_allclose(walker(mirrored), [0.0, 0.0564, 0.6545, -1.0], atol=1e-4)
    walker.reset()
    assert walker(standing)[0] == pytest.approx(0.6545, abs=1e-4)


def test_the_walker_goes_nearly_all_the_way():
    env = gym.make("BipedalWalker-v3")
    demonstrations = record(Walker(), env, 4, seed=500)
    # The heuristic with its own gains: 37 on average
    assert demonstrations.episode_returns.min() > 250


def test_coarse_actions_are_multiples_of_the_step_around_the_expert_s():
    walker, observation = Walker(), np.zeros(24)
    observation[9] = 0.5
    expert = Coarse(Walker(), noise=0.05, step=0.125)
    actions = np.array([expert(observation) for _ in range(500)])
    assert set((actions / 0.125 % 1).ravel()) == {0.0}
    np.testing.assert_allclose(actions[:, [0, 2, 3]].mean(axis=0), walker(observation)[[0, 2, 3]], atol=0.02)
    assert np.abs(actions).max() <= 1.0
