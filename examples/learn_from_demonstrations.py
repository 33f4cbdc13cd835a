"""The shortest use: packaged demonstrations, SB3's usual calls."""

import gymnasium as gym
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from sb3_pgfd import DDPGfD

if __name__ == "__main__":
    model = DDPGfD("MlpPolicy", "Pendulum-v1", demonstrations="Pendulum-v1", seed=0)
    model.learn(5_000, progress_bar=True)
    mean, std = evaluate_policy(model, Monitor(gym.make("Pendulum-v1")), n_eval_episodes=20)
    print(f"mean return {mean:.1f} +- {std:.1f}")
