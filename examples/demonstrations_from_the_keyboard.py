"""
Your own demonstrations, by keyboard or gamepad: swing the car up the mountain twice. The same from the command line:

sb3-pgfd demos record car.npz --env MountainCarContinuous-v0 --keyboard --episodes 2
"""

from pathlib import Path
from tempfile import TemporaryDirectory

from sb3_pgfd import DDPGfD
from sb3_pgfd.demonstrations import record_person

if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        path = Path(folder) / "car.npz"
        # SPACE starts, the left and right arrows accelerate, BACKSPACE discards an episode that went wrong
        demonstrations = record_person("MountainCarContinuous-v0", n_episodes=2, path=path)
        print(demonstrations, "in", path.name)
        model = DDPGfD("MlpPolicy", "MountainCarContinuous-v0", demonstrations=path, bc_coef=1.0, q_filter=True, seed=0)
        model.learn(1_000, progress_bar=True)
