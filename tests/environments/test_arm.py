"""The arm seen by a camera: its geometry, its picture and its expert."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from sb3_pgfd.environments import SparseArm, register
from sb3_pgfd.environments.arm import ARM_ID, expert


def arm_at(joints: tuple[float, float], target: tuple[float, float]) -> SparseArm:
    arm = SparseArm()
    arm.reset(seed=0)
    arm.joints, arm.target = np.array(joints), np.array(target)
    return arm


def test_reward_is_one_within_the_tolerance_and_ends_the_episode() -> None:
    # The first link points up, the second to the left: the gripper is at (-0.7, -0.85 + 0.8)
    bent = (np.pi / 2, np.pi / 2)
    for beside, reached in ((0.034, True), (0.036, False)):
        _, reward, terminated, truncated, info = arm_at(bent, (-0.7 + beside, -0.05)).step(np.zeros(2))
        assert (reward, terminated, truncated, info["is_success"]) == (float(reached), reached, False, reached)


def test_an_action_of_one_turns_a_joint_by_the_largest_speed() -> None:
    arm = arm_at((1.0, 1.0), (0.0, 0.0))
    arm.step(np.array([1.0, -5.0]))
    np.testing.assert_allclose(arm.joints, [1.08, 0.92])


def test_picture_has_the_target_where_it_is() -> None:
    # x = 0.5 lies at three quarters of the width, y = 0.25 at three eighths from the top
    picture = arm_at((2.5, 1.0), (0.5, 0.25)).render()
    assert picture.shape == (64, 64, 3)
    np.testing.assert_array_equal(picture[24, 48], [200, 40, 40])
    np.testing.assert_array_equal(picture[2, 2], [225, 222, 215])


@pytest.mark.parametrize("proprioception", [False, True])
def test_gymnasium_finds_no_fault(proprioception: bool) -> None:
    check_env(SparseArm(proprioception=proprioception, render_mode="rgb_array"), skip_render_check=True)


def test_expert_reaches_each_target_in_time() -> None:
    register()
    env = gym.make(ARM_ID)
    act = expert(env)
    for seed in range(20):
        observation, info = env.reset(seed=seed)
        over = False
        while not over:
            observation, _, terminated, truncated, info = env.step(act(observation))
            over = terminated or truncated
        assert info["is_success"]
