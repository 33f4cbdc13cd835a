"""
Reaching from 64 x 64 pixels with a sparse reward and 20 demonstrations: cloning, and TD3fD from there.

    python -m benchmarks.images --processes 3 --device cuda --compile    # minutes on a GPU
    python -m benchmarks.images                                          # half an hour for a seed on one core of a CPU

The task is ``SparseArm-v0``, whose camera needs nothing but NumPy. Cloning is what pretraining leaves: its updates have the
same network, the same random shifts and the same demonstrations. Each seed has demonstrations of its own. A finished run is in
the CSV and does not run again, so an interrupted benchmark continues where it stopped. The figure shows success over
environment steps, and an episode that the last policy solved.
"""

import argparse
import multiprocessing
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import LinearSchedule

from benchmarks.learning import PLAIN, RESULTS, TWIN_CRITICS, read_results, replace_results
from sb3_pgfd import Demonstrations, TD3fD
from sb3_pgfd.demonstrations import record
from sb3_pgfd.demonstrations.inspection.plots import new_figure
from sb3_pgfd.environments.arm import ARM_ID, expert, register_arm

PATH = RESULTS / "images.csv"
N_DEMONSTRATIONS, N_EVALUATIONS, FIRST_EVALUATION_SEED = 20, 100, 10_000
SETTINGS: dict[str, Any] = {
    "learning_rate": LinearSchedule(7e-4, 0.0, 1.0),
    "batch_size": 128,
    "gamma": 0.95,
    "n_steps": 3,
    "gradient_steps": 1,
    "pretrain_steps": 2000,
    "critic_warmup_steps": 500,
    "bc_coef": 1.0,
    "action_noise": 0.2,
    "q_range": (0.0, 1.0),
    "buffer_size": 50_000,
    "replay_buffer_kwargs": {"denoise_successes": False},
    # A clone would need an encoder of its own
    **PLAIN,
}
# Of TD3fD's defaults the rate of the actor's running mean is for longer runs
POLICY: dict[str, Any] = {"average_actor": 0.005, **TWIN_CRITICS}


def demonstrations(seed: int) -> Demonstrations:
    """:return: Episodes of the expert"""
    env = gym.make(ARM_ID)
    return record(expert(env), env, N_DEMONSTRATIONS, seed=1000 * (seed + 1), successes_only=True)


def evaluate(model: TD3fD, n_episodes: int = N_EVALUATIONS) -> float:
    """:return: The share of episodes that the deterministic policy solves; their starts are always the same"""
    envs = [gym.make(ARM_ID) for _ in range(n_episodes)]
    observations = np.stack([env.reset(seed=FIRST_EVALUATION_SEED + k)[0] for k, env in enumerate(envs)])
    solved, running = np.zeros(n_episodes, dtype=bool), np.ones(n_episodes, dtype=bool)
    while running.any():
        rows = np.flatnonzero(running)
        actions, _ = model.predict(observations[rows], deterministic=True)
        for k, action in zip(rows, actions, strict=True):
            observations[k], _, terminated, truncated, info = envs[k].step(action)
            solved[k], running[k] = info["is_success"], not (terminated or truncated)
    return float(solved.mean())


class Evaluations(BaseCallback):
    """Evaluate before the first step and every so many steps. The time of evaluations is not counted."""

    def __init__(self, every: int, seed: int):
        super().__init__()
        self.every, self.seed = every, seed
        self.rows: list[dict[str, Any]] = []
        self.start = time.perf_counter()

    def _evaluate(self) -> None:
        before = time.perf_counter()
        row = {"seed": self.seed, "steps": self.num_timesteps, "success": evaluate(self.model)}  # type: ignore[arg-type]
        self.rows.append({**row, "seconds": round(before - self.start, 1), "device": str(self.model.device)})
        print(", ".join(f"{name} {value}" for name, value in self.rows[-1].items()), flush=True)
        self.start += time.perf_counter() - before

    def _on_training_start(self) -> None:
        self._evaluate()

    def _on_step(self) -> bool:
        if self.num_timesteps % self.every == 0:
            self._evaluate()
        return True


def run_seed(arguments: tuple[int, argparse.Namespace]) -> tuple[list[dict[str, Any]], np.ndarray]:
    """:return: The rows of a seed, and the frames of an episode"""
    seed, args = arguments
    th.set_num_threads(1)
    register_arm()
    options: dict[str, Any] = {**SETTINGS, "policy_kwargs": POLICY, "device": args.device, "compile": args.compile}
    model = TD3fD("CnnPolicy", gym.make(ARM_ID), demonstrations(seed), seed=seed, **options)
    evaluations = Evaluations(args.every, seed)
    model.learn(args.steps, callback=evaluations)
    return evaluations.rows, episode(model)


def episode(model: TD3fD) -> np.ndarray:
    """:return: Frames of the first evaluation, shape ``(n, 64, 64, 3)``"""
    env = gym.make(ARM_ID)
    frames, over = [env.reset(seed=FIRST_EVALUATION_SEED)[0]], False
    while not over:
        frame, _, terminated, truncated, _ = env.step(model.predict(frames[-1], deterministic=True)[0])
        frames.append(frame)
        over = terminated or truncated
    return np.stack(frames)


def draw(rows: list[dict[str, Any]], frames: np.ndarray | None, path: Path) -> None:
    """:param frames: Of an episode, None: none was run now"""
    figure = new_figure((7.0, 4.0 if frames is None else 4.8))
    ratios = [4] if frames is None else [4, 1]
    axes: Any = figure.subplots(len(ratios), 1, height_ratios=ratios, squeeze=False)[:, 0]
    for seed in sorted({row["seed"] for row in rows}):
        run = sorted((row["steps"], row["success"]) for row in rows if row["seed"] == seed)
        axes[0].plot(*zip(*run, strict=True), marker=".", label=f"TD3fD, seed {seed:.0f}")
        axes[0].scatter(0, run[0][1], marker="x", color="C3", zorder=3, label=None if seed else "cloning")
    axes[0].axhline(0.9, color="0.6", linestyle=":")
    axes[0].set(ylim=(0, 1.02), xlabel="environment steps", ylabel="success rate", title=f"{ARM_ID}, 20 demonstrations")
    axes[0].legend(fontsize="small")
    axes[0].grid(alpha=0.3)
    if frames is not None:
        axes[1].imshow(np.concatenate(list(frames[np.linspace(0, len(frames) - 1, 10).astype(int)]), axis=1))
        axes[1].set_axis_off()
    figure.savefig(path, dpi=100)


def main() -> None:
    """Run the seeds that are not in the CSV yet, and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=12_000)
    parser.add_argument("--every", type=int, default=2000, help="evaluate every so many steps")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", action="store_true", help="on a GPU: one CUDA graph for each update")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--results", type=Path, default=PATH)
    args = parser.parse_args()
    rows, last = read_results(args.results), None
    todo = [(seed, args) for seed in args.seeds if seed not in {row["seed"] for row in rows}]
    with multiprocessing.get_context("spawn").Pool(min(args.processes, max(len(todo), 1))) as pool:
        for found, last in pool.imap_unordered(run_seed, todo):  # noqa: B007
            rows += found
            replace_results(args.results, {"seed": found[0]["seed"]}, found)
    draw(rows, last, args.results.with_suffix(".png"))
    for seed in sorted({row["seed"] for row in rows}):
        run = sorted((row for row in rows if row["seed"] == seed), key=lambda row: row["steps"])
        clone, end = run[0]["success"], run[-1]
        line = f"cloning {clone:.2f}, TD3fD {end['success']:.2f} after {end['steps']:,.0f} steps"
        print(f"seed {seed:.0f}: {line}, {end['seconds']:,.0f} s on {end['device']}")


if __name__ == "__main__":
    main()
