"""
Time of one update on images of 84 x 84 x 3 next to one of SB3's TD3 with CnnPolicy, and the memory of a transition.

    python -m benchmarks.image_speed                    # CPU, one thread
    python -m benchmarks.image_speed --device cuda --compile

The algorithms take turns, and processor time is measured on a CPU, so that a busy machine changes all of them alike. The ratio
is that of the medians. A time is that of two calls of ``train()``, halved, as TD3 and TD3fD update their actors every second
time. TD3fD reads two next observations of each transition, those after one step and after n steps.
"""

import argparse
import time
import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3 import TD3
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from benchmarks.learning import PLAIN, RESULTS, TWIN_CRITICS, replace_results
from sb3_pgfd import DDPGfD, TD3fD
from sb3_pgfd.replay import DemoReplayBuffer

PATH = RESULTS / "image_speed.csv"
IMAGE = spaces.Box(0, 255, (3, 84, 84), np.uint8)
N_WARM_UP = 200


class Noise(gym.Env):
    """Pictures of noise."""

    observation_space, action_space = IMAGE, spaces.Box(-1.0, 1.0, (4,))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        return self.np_random.integers(0, 256, IMAGE.shape, dtype=np.uint8), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        return self.np_random.integers(0, 256, IMAGE.shape, dtype=np.uint8), 0.0, False, False, {"is_success": False}


def make_models(device: str, compiled: bool) -> dict[str, OffPolicyAlgorithm]:
    """:return: One model of each algorithm, with steps in its replay buffer and its first updates made"""
    own: dict[str, Any] = {"compile": compiled, "replay_buffer_kwargs": {"keep_successes": False}}
    twin = {**own, **PLAIN, "policy_kwargs": TWIN_CRITICS}
    shared: dict[str, Any] = {
        "batch_size": 128,
        "buffer_size": 1000,
        "learning_starts": N_WARM_UP,
        "device": device,
        "seed": 0,
    }
    models: dict[str, OffPolicyAlgorithm] = {}
    for name, cls, options in (("SB3 TD3", TD3, {}), ("TD3fD", TD3fD, twin), ("DDPGfD", DDPGfD, own)):
        models[name] = cls("CnnPolicy", Noise(), gradient_steps=1, **shared, **options)
        models[name].learn(N_WARM_UP + 6)
        models[name].set_logger(Logger(None, []))
    return models


def measure(models: dict[str, OffPolicyAlgorithm], n_turns: int, device: str) -> dict[str, float]:
    """:return: Median milliseconds of one update"""
    clock = time.process_time if device == "cpu" else time.perf_counter
    times: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(n_turns):
        for name, model in models.items():
            start = clock()
            for _ in range(2):
                model.train(1, 128)
            if device != "cpu":
                th.cuda.synchronize()
            times[name].append((clock() - start) / 2 * 1e3)
    return {name: float(np.median(values)) for name, values in times.items()}


def frames_per_transition(n_rows: int = 1000, episode_length: int = 50) -> float:
    """:return: Memory of a full replay buffer for each transition, in frames"""
    buffer = DemoReplayBuffer(n_rows, IMAGE, Noise.action_space, "cpu")
    frames = np.random.default_rng(0).integers(0, 256, (episode_length + 1, 1, *IMAGE.shape), dtype=np.uint8)
    for step in range(2 * n_rows):
        place = step % episode_length
        ended = np.array([place == episode_length - 1])
        buffer.add(frames[place], frames[place + 1], np.zeros((1, 4)), np.zeros(1), ended, [{}])
    return buffer.nbytes / n_rows / np.prod(IMAGE.shape)


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--results", type=Path, default=PATH)
    args = parser.parse_args()
    th.set_num_threads(1)
    warnings.simplefilter("ignore")
    found = measure(make_models(args.device, args.compile), args.turns, args.device)
    rows = [{"what": f"one update of {name}, ms", "value": round(value, 1)} for name, value in found.items()]
    rows += [{"what": f"{name} to SB3 TD3", "value": round(found[name] / found["SB3 TD3"], 2)} for name in ("TD3fD", "DDPGfD")]
    rows.append({"what": "memory of a transition, frames", "value": round(frames_per_transition(), 3)})
    device = f"{args.device}, compiled" if args.compile else args.device
    for row in rows:
        print(f"{row['what']:<40}{row['value']:>8} ({device})")
        replace_results(args.results, {"what": row["what"], "device": device}, [{"value": row["value"]}])


if __name__ == "__main__":
    main()
