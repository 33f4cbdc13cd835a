"""
Time of one update of DDPGfD and TD3fD, next to one update of SB3's DDPG with the same networks and batch size.

    python -m benchmarks.update_speed

The algorithms take turns on one thread, so that a change of the machine's speed changes all of them; the medians are compared.
The time is that of two updates, halved: TD3fD updates its actor every second time. DDPGfD does more than DDPG: it draws
by priority, regresses on 1-step and n-step returns, takes the gradient of Q with respect to the action for every row, and
writes the priorities back. TD3fD has two critics with LayerNorm, and clones. The second table times ``learn()`` as a whole on
Pendulum-v1, in environment steps per second, with one update per step.
"""

import argparse
import time
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from stable_baselines3 import DDPG
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from sb3_pgfd import DDPGfD, TD3fD

ALGORITHMS: dict[str, tuple[type[OffPolicyAlgorithm], dict[str, Any]]] = {
    "SB3 DDPG": (DDPG, {}),
    "DDPGfD": (DDPGfD, {"demonstrations": "Pendulum-v1", "pretrain_steps": 0}),
    # The updates of the warm-up leave out the policy gradient. Pendulum-v1 has no successes to keep
    "TD3fD": (
        TD3fD,
        {
            "demonstrations": "Pendulum-v1",
            "pretrain_steps": 0,
            "critic_warmup_steps": 0,
            "replay_buffer_kwargs": {"keep_successes": False},
        },
    ),
}
SIZES = ((256, 256), (128, 128))
"""Units of the two hidden layers, and batch size"""
MAX_UPDATE_RATIO, MIN_LEARNING_RATIO = 1.0, 0.95
N_WARM_UP = 50


def make_models(width: int, batch_size: int) -> dict[str, OffPolicyAlgorithm]:
    """
    :param width: Units of the two hidden layers
    :param batch_size: Batch size
    :return: One model of each algorithm
    """
    shared: dict[str, Any] = {
        "policy_kwargs": {"net_arch": [width, width]},
        "batch_size": batch_size,
        "buffer_size": 100_000,
        "gradient_steps": 1,
        "seed": 0,
        "device": "cpu",
    }
    return {name: cls("MlpPolicy", "Pendulum-v1", **shared, **own) for name, (cls, own) in ALGORITHMS.items()}


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


def time_updates(width: int, batch_size: int, repetitions: int) -> dict[str, float]:
    """:return: Median seconds of one update of each algorithm"""
    models = make_models(width, batch_size)
    fill(models)
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for repetition in range(N_WARM_UP + repetitions):
        for name, model in models.items():
            start = time.perf_counter()
            for _ in range(2):
                model.train(gradient_steps=1, batch_size=batch_size)
            if repetition >= N_WARM_UP:
                seconds[name].append((time.perf_counter() - start) / 2)
    return {name: float(np.median(values)) for name, values in seconds.items()}


def time_learning(width: int, batch_size: int, rounds: int, steps: int = 500) -> dict[str, float]:
    """:return: Environment steps per second of ``learn()`` of each algorithm, median over rounds"""
    models = make_models(width, batch_size)
    rates: dict[str, list[float]] = {name: [] for name in models}
    for round_ in range(rounds + 1):
        for name, model in models.items():
            start = time.perf_counter()
            model.learn(steps, reset_num_timesteps=round_ == 0)
            # The first round contains the steps before the first update
            if round_ > 0:
                rates[name].append(steps / (time.perf_counter() - start))
    return {name: float(np.median(values)) for name, values in rates.items()}


def print_table(title: str, results: Mapping[str, Mapping[str, float]], unit: str, target: str) -> None:
    """
    :param title: Heading of the first column
    :param results: Value of each algorithm by networks and batch size
    :param unit: Format of a value
    :param target: Target of the ratio
    """
    print(f"{title:<18}" + "".join(f"{name:>12}{'ratio':>8}" for name in ALGORITHMS) + f"   target of DDPGfD {target}")
    for label, values in results.items():
        ratios = (f"{unit.format(values[name]):>12}{values[name] / values['SB3 DDPG']:>8.3f}" for name in ALGORITHMS)
        print(f"{label:<18}" + "".join(ratios))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=500, help="pairs of updates of each algorithm")
    parser.add_argument("--rounds", type=int, default=10, help="rounds of learn(), 500 steps each")
    args = parser.parse_args()
    th.set_num_threads(1)

    names = {f"{width}x{width} / {batch_size}": (width, batch_size) for width, batch_size in SIZES}
    times = {
        label: {name: 1e3 * value for name, value in time_updates(*size, args.repetitions).items()}
        for label, size in names.items()
    }
    print_table("one update", times, "{:.3f} ms", f"<= {MAX_UPDATE_RATIO:g}")
    rates = {label: time_learning(*size, args.rounds) for label, size in names.items()}
    print()
    print_table("learn(), steps/s", rates, "{:.0f}", f">= {MIN_LEARNING_RATIO:g}")


if __name__ == "__main__":
    main()
