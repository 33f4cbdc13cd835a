"""
What one DDPGfD update costs, next to one update of SB3's DDPG with the same networks and batch size.

    python benchmarks/update_speed.py

Both algorithms take turns, update by update, on one thread, so that a machine that changes its speed changes it for
both; the medians are compared. DDPGfD does more in its update: it draws by priority, regresses on 1-step and n-step
returns, takes the gradient of Q with respect to the action for every row, and writes the priorities back. The second
table times ``learn()`` as a whole on Pendulum-v1, in environment steps per second.
"""

import argparse
import time

import gymnasium as gym
import numpy as np
import torch as th
from stable_baselines3 import DDPG
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from sb3_pgfd import DDPGfD


def make_models(width: int, batch_size: int, n_transitions: int = 5_000) -> dict[str, OffPolicyAlgorithm]:
    """
    :param width: Units of the two hidden layers
    :param batch_size: Batch size
    :param n_transitions: Random transitions of Pendulum-v1 in both buffers
    :return: Two models, ready to update
    """
    shared = dict(policy_kwargs=dict(net_arch=[width, width]), batch_size=batch_size, buffer_size=100_000, device="cpu")
    models: dict[str, OffPolicyAlgorithm] = {
        "SB3 DDPG": DDPG("MlpPolicy", "Pendulum-v1", seed=0, **shared),  # type: ignore[arg-type]  # mixed dict
        "DDPGfD": DDPGfD("MlpPolicy", "Pendulum-v1", seed=0, demonstrations="Pendulum-v1", **shared),  # type: ignore[arg-type]  # mixed dict
    }
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
    return models


def time_updates(width: int, batch_size: int, repetitions: int) -> dict[str, float]:
    """:return: Median seconds of one update, by algorithm"""
    models = make_models(width, batch_size)
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for repetition in range(repetitions + 50):
        for name, model in models.items():
            start = time.perf_counter()
            model.train(gradient_steps=1, batch_size=batch_size)
            if repetition >= 50:
                seconds[name].append(time.perf_counter() - start)
    return {name: float(np.median(values)) for name, values in seconds.items()}


def time_learning(width: int, batch_size: int, rounds: int, steps: int = 500) -> dict[str, float]:
    """:return: Environment steps per second of ``learn()``, by algorithm, median over rounds in turn"""
    shared = dict(policy_kwargs=dict(net_arch=[width, width]), batch_size=batch_size, learning_starts=100, device="cpu")
    models: dict[str, OffPolicyAlgorithm] = {
        "SB3 DDPG": DDPG("MlpPolicy", "Pendulum-v1", seed=0, **shared),  # type: ignore[arg-type]  # mixed dict
        "DDPGfD": DDPGfD(
            "MlpPolicy",
            "Pendulum-v1",
            seed=0,
            demonstrations="Pendulum-v1",
            pretrain_steps=0,
            **shared,  # type: ignore[arg-type]  # mixed dict
        ),
    }
    rates: dict[str, list[float]] = {name: [] for name in models}
    for round_ in range(rounds + 1):
        for name, model in models.items():
            start = time.perf_counter()
            model.learn(steps, reset_num_timesteps=round_ == 0)
            # The first round holds the steps before the first update
            if round_ > 0:
                rates[name].append(steps / (time.perf_counter() - start))
    return {name: float(np.median(values)) for name, values in rates.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=1000, help="updates of each algorithm")
    parser.add_argument("--rounds", type=int, default=10, help="rounds of learn(), 500 steps each")
    args = parser.parse_args()
    th.set_num_threads(1)

    print(f"{'nets / batch':<18}{'SB3 DDPG':>12}{'DDPGfD':>12}{'ratio':>8}{'target':>9}")
    for width, batch_size, target in ((256, 256, 1.0), (128, 128, 0.9)):
        times = time_updates(width, batch_size, args.repetitions)
        ratio = times["DDPGfD"] / times["SB3 DDPG"]
        label = f"{width}x{width} / {batch_size}"
        print(f"{label:<18}{times['SB3 DDPG'] * 1e3:>9.3f} ms{times['DDPGfD'] * 1e3:>9.3f} ms{ratio:>8.3f}{f'<= {target}':>9}")

    print(f"\n{'learn(), steps/s':<18}{'SB3 DDPG':>12}{'DDPGfD':>12}{'ratio':>8}{'target':>9}")
    for width, batch_size in ((256, 256), (128, 128)):
        rates = time_learning(width, batch_size, args.rounds)
        ratio = rates["DDPGfD"] / rates["SB3 DDPG"]
        label = f"{width}x{width} / {batch_size}"
        print(f"{label:<18}{rates['SB3 DDPG']:>12.0f}{rates['DDPGfD']:>12.0f}{ratio:>8.3f}{'>= 0.95':>9}")


if __name__ == "__main__":
    main()
