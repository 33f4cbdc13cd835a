"""
The constructor's defaults on a task that no setting was chosen on: `TD3fD("MlpPolicy", env, demonstrations).learn(6_000)`.

    python -m benchmarks.plain_arm            # five seeds, about five minutes of a core each

A planar arm with two links brings its tip to rest at a target, within 3 cm. The reward is 1 there, which ends the episode, and
0 elsewhere. Nothing is told about it: no gamma, no range of returns, no relative positions. A finished seed is in
benchmarks/results/plain_arm.csv and does not run again.
"""

import argparse
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback

from benchmarks.learning import FIRST_EVALUATION_SEED, RESULTS, read_results, replace_results
from sb3_pgfd import TD3fD
from sb3_pgfd.demonstrations import record

LINKS, DT, TOLERANCE = (0.5, 0.4), 0.1, 0.03
N_DEMOS, STEPS, N_EVALUATIONS = 10, 6_000, 100
PATH = RESULTS / "plain_arm.csv"


class PlanarArm(gym.Env[np.ndarray, np.ndarray]):
    """Two links in a plane. An action is the wanted speed of each joint, which the joints follow with a lag."""

    def __init__(self) -> None:
        self.action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.observation_space = spaces.Box(-np.inf, np.inf, (8,), np.float32)
        self.joints, self.speeds, self.target = np.zeros(2), np.zeros(2), np.zeros(2)

    def tip(self) -> np.ndarray:
        """:return: Its position, in metres"""
        angles = np.cumsum(self.joints)
        return np.array([np.dot(LINKS, np.cos(angles)), np.dot(LINKS, np.sin(angles))])

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.joints, self.speeds = self.np_random.uniform([-0.5, 0.5], [0.5, 1.5]), np.zeros(2)
        radius, angle = self.np_random.uniform([0.45, 1.2], [0.8, 2.4])
        self.target = radius * np.array([np.cos(angle), np.sin(angle)])
        return self._observe(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.speeds = 0.7 * self.speeds + 0.45 * np.clip(action, -1.0, 1.0)
        self.joints = self.joints + DT * self.speeds
        self.joints[1] = np.clip(self.joints[1], 0.1, 2.6)
        arrived = bool(np.linalg.norm(self.tip() - self.target) < TOLERANCE and np.linalg.norm(self.speeds) < 0.6)
        return self._observe(), float(arrived), arrived, False, {"is_success": arrived}

    def _observe(self) -> np.ndarray:
        return np.concatenate((self.joints, self.speeds, self.tip(), self.target)).astype(np.float32)


def controller(observation: np.ndarray) -> np.ndarray:
    """:return: Speeds towards the joints' angles at the target, by the law of cosines"""
    joints, (x, y) = observation[:2], observation[6:]
    first, second = LINKS
    elbow = np.arccos(np.clip((x**2 + y**2 - first**2 - second**2) / (2 * first * second), -1.0, 1.0))
    shoulder = np.arctan2(y, x) - np.arctan2(second * np.sin(elbow), first + second * np.cos(elbow))
    return np.clip(3.0 * (np.array([shoulder, elbow]) - joints), -1.0, 1.0).astype(np.float32)


def make_env() -> gym.Env:
    """:return: The task with its time limit"""
    return gym.wrappers.TimeLimit(PlanarArm(), 80)


def success(model: BaseAlgorithm) -> float:
    """:return: Share of the evaluations that the deterministic policy solves; their starts are always the same"""
    env, solved = make_env(), 0
    for number in range(N_EVALUATIONS):
        observation, over = env.reset(seed=FIRST_EVALUATION_SEED + number)[0], False
        while not over:
            observation, _, terminated, truncated, _ = env.step(model.predict(observation, deterministic=True)[0])
            over = terminated or truncated
        solved += terminated
    return solved / N_EVALUATIONS


class Pretrained(BaseCallback):
    """Evaluates before the first step, after pretraining."""

    success = 0.0

    def _on_training_start(self) -> None:
        self.success = success(self.model)

    def _on_step(self) -> bool:
        return True


def run(seed: int) -> list[dict[str, Any]]:
    """:return: A row for the clone that pretraining leaves, and one for the end"""
    demonstrations = record(controller, make_env(), N_DEMOS, seed=1000 + seed, action_noise=0.1, successes_only=True)
    model = TD3fD("MlpPolicy", make_env(), demonstrations, seed=seed, device="cpu")
    pretrained = Pretrained()
    model.learn(STEPS, callback=pretrained)
    return [{"seed": seed, "steps": steps, "success": of} for steps, of in ((0, pretrained.success), (STEPS, success(model)))]


def main() -> None:
    """Run the seeds that are not in the CSV yet, and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    args = parser.parse_args()
    th.set_num_threads(1)
    for seed in args.seeds:
        if not any(row["seed"] == seed for row in read_results(PATH)):
            replace_results(PATH, {"seed": seed}, run(seed))
        clone, end = (row["success"] for row in read_results(PATH) if row["seed"] == seed)
        print(f"seed {seed}: {clone:.2f} after pretraining, {end:.2f} after {STEPS:,} steps", flush=True)


if __name__ == "__main__":
    main()
