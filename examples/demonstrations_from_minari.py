"""
Demonstrations from Minari, Farama's standard for offline data. With `pip install "sb3-pgfd[minari]"`:

    minari download D4RL/door/human-v2
    sb3-pgfd demos show minari:D4RL/door/human-v2

This script needs no download: it writes a Minari dataset and learns from it by its id.
"""

import os
from tempfile import TemporaryDirectory

from sb3_pgfd import DDPGfD, Demonstrations

if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        os.environ["MINARI_DATASETS_PATH"] = folder
        print("wrote", Demonstrations.load("Pendulum-v1").save("minari:pendulum/scripted-v0").relative_to(folder))
        # Every format takes such options: this one keeps the best episodes
        demonstrations = Demonstrations.load("minari:pendulum/scripted-v0", min_return=-250.0)
        print(demonstrations)
        model = DDPGfD("MlpPolicy", "Pendulum-v1", demonstrations=demonstrations, seed=0)
        model.learn(1_000, progress_bar=True)
