"""Your own demonstrations, recorded from a controller that is a function."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from sb3_pgfd import TD3fD
from sb3_pgfd.demonstrations import record


def full_throttle(observation: np.ndarray) -> np.ndarray:
    """:param observation: Position and speed of the car"""
    return np.sign(observation[1:2])


if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        demonstrations = record(full_throttle, "MountainCarContinuous-v0", n_episodes=2, action_noise=0.1)
        path = demonstrations.save(Path(folder) / "car.npz")
        print(demonstrations, "in", path.name)
        # The defaults pretrain for 20,000 updates, which takes minutes
        model = TD3fD("MlpPolicy", "MountainCarContinuous-v0", demonstrations=path, pretrain_steps=2_000, seed=0)
        model.learn(1_000, progress_bar=True)
