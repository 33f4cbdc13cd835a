"""
Time, share and memory of saving a training state with a large replay buffer.

    python -m benchmarks.state_speed                 # writes benchmarks/results/state_speed.csv
"""

import csv
import resource
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_pgfd import DDPGfD

RESULTS = Path(__file__).parent / "results" / "state_speed.csv"
N_ROWS, N_DIMENSIONS, REPEATS = 1_000_000, 60, 3


class Still(gym.Env):
    """Does nothing; it has the spaces."""

    observation_space = spaces.Box(-np.inf, np.inf, (N_DIMENSIONS,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (4,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        return np.zeros(N_DIMENSIONS, np.float32), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        return np.zeros(N_DIMENSIONS, np.float32), 0.0, False, False, {}


def peak() -> float:
    """:return: Largest memory of this process so far, in MB"""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Write the table."""
    th.set_num_threads(1)
    model = DDPGfD("MlpPolicy", DummyVecEnv([Still]), buffer_size=N_ROWS, device="cpu", learning_starts=100)
    model.learn(20)
    ring = model.buffer.ring
    draw = np.random.default_rng(0)
    for column in ring.columns.values():
        if column.dtype == np.float32:
            draw.random(dtype=np.float32, out=column)
    ring.tree.update(np.arange(N_ROWS), 1.0)
    ring.size, model.buffer.full, model.buffer.pos = N_ROWS, True, 0
    buffer, before, rows = ring.nbytes / 2**20, peak(), []
    with TemporaryDirectory(dir=Path.cwd()) as folder:
        for number in range(REPEATS):
            begin = time.perf_counter()
            path = model.save_training_state(Path(folder, "state"), keep=1)
            saving = time.perf_counter() - begin
            extra = peak() - before
            begin = time.perf_counter()
            DDPGfD.resume(path, DummyVecEnv([Still]), device="cpu")
            row: dict[str, float] = {"rows": N_ROWS, "dimensions": N_DIMENSIONS, "buffer_mb": round(buffer), "repeat": number}
            row |= {"saving_s": round(saving, 2), "peak_by_saving_mb": round(extra)}
            rows.append(
                {**row, "peak_to_buffer": round(1 + extra / buffer, 3), "reading_s": round(time.perf_counter() - begin, 2)}
            )
            # What reading needs is not what saving needs
            if number > 0:
                rows[-1] |= {name: rows[0][name] for name in ("peak_by_saving_mb", "peak_to_buffer")}
            print(rows[-1], flush=True)
    with RESULTS.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
