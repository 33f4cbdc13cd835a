"""
Speed of A2CfD's ``learn()``, next to SB3's A2C with the same networks, optimiser, steps and environments.

    python -m benchmarks.a2c_speed
    python -m benchmarks.a2c_speed --compile     # updates of A2CfD with demonstrations, eager and compiled, instead

The algorithms take turns, a few hundred steps at a time, on one thread. Each round gives one ratio of environment steps per
second; the median of the ratios is printed. The time is processor time of this process, so that other processes disturb it
less. A2CfD has a standard deviation that depends on the state, and clips the gradients of each network by itself. With
demonstrations each update of the actor clones a batch of them too.
"""

import argparse
import time
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch as th
from stable_baselines3 import A2C
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from sb3_pgfd import A2CfD, Demonstrations
from sb3_pgfd.demonstrations import record

TARGET = 0.95


class Setting(NamedTuple):
    """The options that both algorithms share."""

    env_id: str
    net_arch: list[int]
    n_envs: int
    use_rms_prop: bool

    def __str__(self) -> str:
        optimizer = "RMSprop" if self.use_rms_prop else "Adam"
        return f"{self.env_id}, {'x'.join(map(str, self.net_arch))}, {optimizer}, {self.n_envs} env{'s' * (self.n_envs > 1)}"


SETTINGS = [
    Setting(env_id, net_arch, n_envs, use_rms_prop)
    for env_id in ("Pendulum-v1", "CartPole-v1")
    for net_arch, n_envs, use_rms_prop in (([128], 1, False), ([64, 64], 1, False), ([128], 4, False), ([128], 1, True))
]


def find_demonstrations(env_id: str) -> Demonstrations:
    """:return: The packaged ones; for CartPole-v1 those of a controller that pushes the pole back"""
    if env_id == "CartPole-v1":
        return record(lambda state: int(state[2] + state[3] > 0.0), gym.make(env_id), 3)
    return Demonstrations.load(env_id)


def make_models(setting: Setting) -> dict[str, OnPolicyAlgorithm]:
    """:return: SB3's A2C, and A2CfD without and with demonstrations"""
    shared: dict[str, Any] = dict(n_steps=5, use_rms_prop=setting.use_rms_prop, seed=0, device="cpu")
    shared["policy_kwargs"] = dict(net_arch=setting.net_arch, activation_fn=th.nn.ReLU)

    def make_env() -> Any:
        return make_vec_env(setting.env_id, setting.n_envs, seed=0)

    # No pretraining, and no warm-up: its updates leave out the actor
    learning: dict[str, Any] = dict(
        demonstrations=find_demonstrations(setting.env_id), pretrain_steps=0, critic_warmup_steps=0
    )
    return {
        "A2C": A2C("MlpPolicy", make_env(), **shared),
        "A2CfD": A2CfD("MlpPolicy", make_env(), **shared),
        "with demonstrations": A2CfD("MlpPolicy", make_env(), **shared, **learning),
    }


def time_learning(setting: Setting, rounds: int, steps: int) -> dict[str, np.ndarray]:
    """:return: Environment steps per second in each round, by algorithm"""
    models = make_models(setting)
    rates: dict[str, list[float]] = {name: [] for name in models}
    for round_ in range(rounds + 1):
        # The algorithms also take turns in coming first
        for name in sorted(models, reverse=round_ % 2 == 0):
            start = time.process_time()
            models[name].learn(steps * setting.n_envs, reset_num_timesteps=round_ == 0)
            # The first round warms up
            if round_ > 0:
                rates[name].append(steps * setting.n_envs / (time.process_time() - start))
    return {name: np.array(values) for name, values in rates.items()}


def time_updates(n_steps: int, n_envs: int, net_arch: list[int], n_updates: int) -> dict[bool, tuple[float, float]]:
    """:return: Updates per second of ``train()``, and seconds of the first three calls, by whether it is compiled"""
    shared: dict[str, Any] = dict(demonstrations="Pendulum-v1", pretrain_steps=0, critic_warmup_steps=0, seed=0, device="cpu")
    models, first = {}, {}
    for compiled in (False, True):
        env = make_vec_env("Pendulum-v1", n_envs, seed=0)
        policy_kwargs = {"net_arch": net_arch}
        model = A2CfD("MlpPolicy", env, n_steps=n_steps, policy_kwargs=policy_kwargs, compile=compiled, **shared)
        start = time.perf_counter()
        # Three rollouts with an update each. In the third one it is compiled: by then the optimiser has its memory
        models[compiled] = model.learn(3 * n_steps * n_envs)
        first[compiled] = time.perf_counter() - start
    times: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(n_updates):
        for compiled, model in models.items():
            start = time.thread_time()
            model.train()
            times[compiled].append(time.thread_time() - start)
    return {compiled: (1.0 / float(np.median(times[compiled])), first[compiled]) for compiled in models}


def compare_compiled(n_updates: int) -> None:
    """Print the table of eager and compiled updates."""
    print(f"{'updates per second':<28}{'eager':>10}{'compiled':>10}{'ratio':>8}{'first three calls, s':>22}")
    for n_steps, n_envs, net_arch in ((5, 1, [64, 64]), (20, 8, [64, 64])):
        found = time_updates(n_steps, n_envs, net_arch, n_updates)
        (eager, _), (compiled, first) = found[False], found[True]
        setting = f"n_steps {n_steps}, {n_envs} env{'s' * (n_envs > 1)}, {'x'.join(map(str, net_arch))}"
        print(f"{setting:<28}{eager:>10.0f}{compiled:>10.0f}{compiled / eager:>8.2f}{first:>22.1f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20, help="rounds of learn()")
    parser.add_argument("--steps", type=int, default=500, help="steps of each environment in a round")
    parser.add_argument("--compile", action="store_true", help="time updates, eager and compiled")
    args = parser.parse_args()
    th.set_num_threads(1)
    if args.compile:
        compare_compiled(1000)
        return

    print(f"{'steps per second':<36}{'A2C':>8}{'A2CfD':>8}{'ratio':>8}{'with demonstrations':>22}{'ratio':>8}{'target':>9}")
    for setting in SETTINGS:
        rates = time_learning(setting, args.rounds, args.steps)
        medians = {name: np.median(values) for name, values in rates.items()}
        ratios = {name: np.median(values / rates["A2C"]) for name, values in rates.items()}
        print(
            f"{setting!s:<36}{medians['A2C']:>8.0f}{medians['A2CfD']:>8.0f}{ratios['A2CfD']:>8.3f}"
            f"{medians['with demonstrations']:>22.0f}{ratios['with demonstrations']:>8.3f}{f'>= {TARGET}':>9}",
            flush=True,
        )


if __name__ == "__main__":
    main()
