"""
Your own demonstrations by keyboard or gamepad: swing the car up the mountain twice. The same on the command line:

sb3-pgfd demos record car.npz --env MountainCarContinuous-v0 --keyboard --episodes 2
"""

from pathlib import Path
from tempfile import TemporaryDirectory

from sb3_pgfd import TD3fD
from sb3_pgfd.demonstrations import record_person

if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        path = Path(folder) / "car.npz"
        # SPACE starts, the left and right arrows accelerate, BACKSPACE discards an episode that went wrong
        demonstrations = record_person("MountainCarContinuous-v0", n_episodes=2, path=path)
        print(demonstrations, "in", path.name)
        # The defaults pretrain for 20,000 updates, which takes minutes
        model = TD3fD("MlpPolicy", "MountainCarContinuous-v0", demonstrations=path, pretrain_steps=2_000, seed=0)
        model.learn(1_000, progress_bar=True)
