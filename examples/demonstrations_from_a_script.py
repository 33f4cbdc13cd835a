"""Your own demonstrations, from a controller written down as a function."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from sb3_pgfd import DDPGfD
from sb3_pgfd.demonstrations import record


def full_throttle(observation: np.ndarray) -> np.ndarray:
    """:param observation: Position and speed of the car"""
    return np.sign(observation[1:2])


if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        demonstrations = record(full_throttle, "MountainCarContinuous-v0", n_episodes=2, action_noise=0.1)
        path = demonstrations.save(Path(folder) / "car.npz")
        print(demonstrations, "in", path.name)
        model = DDPGfD("MlpPolicy", "MountainCarContinuous-v0", demonstrations=path, bc_coef=1.0, q_filter=True, seed=0)
        model.learn(1_000, progress_bar=True)
