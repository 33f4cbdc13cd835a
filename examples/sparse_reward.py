"""A reward at the goal alone, but for the cost of the actions, and one demonstration: TD3fD with its defaults."""

import gymnasium as gym
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from sb3_pgfd import Demonstrations, TD3fD

if __name__ == "__main__":
    demonstrations = Demonstrations.load("MountainCarContinuous-v0", n_episodes=1)
    # gamma, the possible returns (q_range) and features belong to the task; everything else can stay at its default
    model = TD3fD("MlpPolicy", "MountainCarContinuous-v0", demonstrations=demonstrations, q_range=(-100.0, 100.0), seed=0)
    model.learn(2_000, progress_bar=True)
    mean, std = evaluate_policy(model, Monitor(gym.make("MountainCarContinuous-v0")), n_eval_episodes=20)
    print(f"mean return {mean:.1f} +- {std:.1f}")
