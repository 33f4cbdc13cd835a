"""
Time of one update of DDPGfD and TD3fD, eager and compiled, next to one update of SB3's DDPG, TD3 and SAC.

    python -m benchmarks.update_speed                    # CPU, one thread
    python -m benchmarks.update_speed --device cuda

All algorithms have the same networks and batch size, and take turns, so that a change of the machine's speed changes all of
them; the medians are compared, as ratios to one update of SB3's DDPG. The time is that of two calls of ``train()``, halved:
TD3fD and TD3 update their actors every second time. DDPGfD does more than DDPG: it draws by priority, regresses on 1-step and
n-step returns, takes the gradient of Q with respect to the action for every row, and writes the priorities back. TD3fD has
two critics with LayerNorm, and clones. With ``--updates 20`` a call of ``train()`` makes 20 updates; the time is that of one.

The second table times ``learn()`` as a whole on Pendulum-v1, in environment steps per second, with one update per step. The
third gives the seconds of the first calls, in which the update is compiled: once with an empty cache, once with a filled one
(run it twice to see them).
"""

import argparse
import csv
import time
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from stable_baselines3 import DDPG, SAC, TD3
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from sb3_pgfd import DDPGfD, TD3fD

DEMONSTRATIONS: dict[str, Any] = {"demonstrations": "Pendulum-v1", "pretrain_steps": 0}
# The updates of the warm-up leave out the policy gradient. Pendulum-v1 has no successes to keep
TD3FD: dict[str, Any] = {**DEMONSTRATIONS, "critic_warmup_steps": 0, "replay_buffer_kwargs": {"keep_successes": False}}
ALGORITHMS: dict[str, tuple[type[OffPolicyAlgorithm], dict[str, Any]]] = {
    "SB3 DDPG": (DDPG, {}),
    "SB3 TD3": (TD3, {}),
    "SB3 SAC": (SAC, {}),
    "DDPGfD": (DDPGfD, DEMONSTRATIONS),
    "DDPGfD compiled": (DDPGfD, {**DEMONSTRATIONS, "compile": True}),
    "TD3fD": (TD3fD, TD3FD),
    "TD3fD compiled": (TD3fD, {**TD3FD, "compile": True}),
}
SIZES = ((256, 256), (128, 128))
"""Units of the two hidden layers, and batch size"""
N_WARM_UP = 20


def make_models(width: int, batch_size: int, device: str) -> dict[str, OffPolicyAlgorithm]:
    """
    :param width: Units of the two hidden layers
    :param batch_size: Batch size
    :param device: Where the networks are
    :return: One model of each algorithm
    """
    shared: dict[str, Any] = {
        "policy_kwargs": {"net_arch": [width, width]},
        "batch_size": batch_size,
        "buffer_size": 100_000,
        "gradient_steps": 1,
        "learning_rate": 1e-3,
        "seed": 0,
        "device": device,
    }
    # A copy each: SAC adds to its policy_kwargs
    return {name: cls("MlpPolicy", "Pendulum-v1", **deepcopy(shared), **own) for name, (cls, own) in ALGORITHMS.items()}


def fill(models: Mapping[str, OffPolicyAlgorithm], n_transitions: int = 5_000) -> None:
    """
    :param models: Models to make ready for :meth:`train`
    :param n_transitions: Number of random transitions of Pendulum-v1 for each replay buffer
    """
    env = gym.make("Pendulum-v1")
    observation, _ = env.reset(seed=0)
    env.action_space.seed(0)
    for _ in range(n_transitions):
        action = env.action_space.sample()
        next_observation, reward, terminated, truncated, _ = env.step(action)
        for model in models.values():
            assert model.replay_buffer is not None
            model.replay_buffer.add(
                observation[None],
                next_observation[None],
                action[None] / 2.0,
                np.array([reward]),
                np.array([terminated or truncated]),
                [{"TimeLimit.truncated": truncated}],
            )
        observation = env.reset()[0] if terminated or truncated else next_observation
    for model in models.values():
        model.set_logger(Logger(folder=None, output_formats=[]))


def wait(device: str) -> None:
    """:param device: To wait for"""
    if device == "cuda":
        th.cuda.synchronize()


def time_updates(
    width: int, batch_size: int, n_updates: int, repetitions: int, device: str
) -> tuple[dict[str, float], dict[str, float]]:
    """
    :param width: Units of the two hidden layers
    :param batch_size: Batch size
    :param n_updates: Updates in each call of ``train()``
    :param repetitions: How often two calls are timed
    :param device: Where the networks are
    :return: Median seconds of one update of each algorithm, and seconds of all first calls together
    """
    models = make_models(width, batch_size, device)
    fill(models)
    seconds: dict[str, list[float]] = {name: [] for name in models}
    first: dict[str, float] = dict.fromkeys(models, 0.0)
    for repetition in range(N_WARM_UP + repetitions):
        for name, model in models.items():
            start = time.perf_counter()
            for _ in range(2):
                model.train(gradient_steps=n_updates, batch_size=batch_size)
            wait(device)
            if repetition >= N_WARM_UP:
                seconds[name].append((time.perf_counter() - start) / 2 / n_updates)
            elif repetition < 4:
                first[name] += time.perf_counter() - start
    return {name: float(np.median(values)) for name, values in seconds.items()}, first


def time_learning(width: int, batch_size: int, rounds: int, device: str, steps: int = 500) -> dict[str, float]:
    """:return: Environment steps per second of ``learn()`` of each algorithm, median over rounds"""
    models = make_models(width, batch_size, device)
    rates: dict[str, list[float]] = {name: [] for name in models}
    for round_ in range(rounds + 1):
        for name, model in models.items():
            start = time.perf_counter()
            model.learn(steps, reset_num_timesteps=round_ == 0)
            wait(device)
            # The first round contains the steps before the first update
            if round_ > 0:
                rates[name].append(steps / (time.perf_counter() - start))
    return {name: float(np.median(values)) for name, values in rates.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--updates", type=int, nargs="+", default=[1, 20], help="updates in one call of train()")
    parser.add_argument("--repetitions", type=int, default=500, help="pairs of updates of each algorithm")
    parser.add_argument("--rounds", type=int, default=10, help="rounds of learn(), 500 steps each; 0: none")
    parser.add_argument("--results", type=Path, help="CSV file to write")
    args = parser.parse_args()
    th.set_num_threads(1)

    rows: list[dict[str, Any]] = []

    def report(what: str, width: int, batch_size: int, values: Mapping[str, float], unit: str) -> None:
        print(f"\n{what}, {width}x{width}, batch {batch_size}, {args.device}")
        for name, value in values.items():
            ratio = value / values["SB3 DDPG"]
            print(f"    {name:<16} {value:>10.4g} {unit}   x {ratio:.3f}", flush=True)
            rows.append(
                {
                    "device": args.device,
                    "what": what,
                    "width": width,
                    "batch_size": batch_size,
                    "algorithm": name,
                    "value": round(value, 4),
                    "unit": unit,
                    "ratio": round(ratio, 3),
                }
            )

    for width, batch_size in SIZES:
        for n_updates in args.updates:
            repetitions = max(args.repetitions // n_updates, 10)
            seconds, first = time_updates(width, batch_size, n_updates, repetitions, args.device)
            what = f"one update, {n_updates} in each call of train()"
            report(what, width, batch_size, {name: 1e3 * value for name, value in seconds.items()}, "ms")
            if n_updates == args.updates[0]:
                report("first calls of train()", width, batch_size, first, "s")
        if args.rounds > 0:
            rates = time_learning(width, batch_size, args.rounds, args.device)
            report("learn()", width, batch_size, rates, "steps/s")
    if args.results is not None:
        with args.results.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
