"""
Time of one update of DDPGfD and TD3fD, eager and compiled, next to one update of SB3's DDPG, TD3 and SAC and of SBX's TD3 and
SAC (JAX, ``pip install sbx-rl``; without it they are left out).

    python -m benchmarks.update_speed                    # CPU, one thread
    python -m benchmarks.update_speed --device cuda --results update_speed_cuda.csv
    python -m benchmarks.update_speed --draw benchmarks/results/update_speed.csv update_speed_cuda.csv

All algorithms have the same networks and batch size, and take turns, so that a change of the machine's speed changes all of
them; the medians are compared, as ratios to one update of SB3's DDPG. The time is that of two calls of ``train()``, halved:
TD3fD and TD3 update their actors every second time. DDPGfD does more than DDPG: it draws by priority, regresses on 1-step and
n-step returns, takes the gradient of Q with respect to the action for every row, and writes the priorities back. TD3fD has
five critics with LayerNorm and a clone beside its actor; "2 critics" is TD3fD with two critics and without that clone. With
``--updates 20`` a call of ``train()`` makes 20 updates; the time is that of one.

The second table times ``learn()`` as a whole on Pendulum-v1, in environment steps per second, with one update per step. The
third gives the seconds of the first calls, in which the update is compiled: with an empty cache, and once more with what that
left in it. On a GPU 10 critics as one batched product are compared with 10 separate networks by

    python -m benchmarks.update_speed --device cuda --updates 20 --rounds 0 \\
        --algorithms "SB3 DDPG" "TD3fD compiled, 10 critics" "TD3fD compiled, 10 critics apart"
"""

import argparse
import csv
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from stable_baselines3 import DDPG, SAC, TD3
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from benchmarks.learning import PLAIN, TWIN_CRITICS
from sb3_pgfd import DDPGfD, TD3fD
from sb3_pgfd.common.critics import Critics

DEMONSTRATIONS: dict[str, Any] = {"demonstrations": "Pendulum-v1", "pretrain_steps": 0}
# The updates of the warm-up leave out the policy gradient. Pendulum-v1 has no successes to keep
TD3FD: dict[str, Any] = {**DEMONSTRATIONS, "critic_warmup_steps": 0, "replay_buffer_kwargs": {"keep_successes": False}}
TWIN: dict[str, Any] = {**TD3FD, **PLAIN, "policy_kwargs": TWIN_CRITICS}
ALGORITHMS: dict[str, tuple[type[OffPolicyAlgorithm], dict[str, Any]]] = {
    "SB3 DDPG": (DDPG, {}),
    "SB3 TD3": (TD3, {}),
    "SB3 SAC": (SAC, {}),
    "DDPGfD": (DDPGfD, DEMONSTRATIONS),
    "DDPGfD compiled": (DDPGfD, {**DEMONSTRATIONS, "compile": True}),
    "DDPGfD compiled, bf16": (DDPGfD, {**DEMONSTRATIONS, "compile": True, "policy_kwargs": {"precision": "bf16"}}),
    "TD3fD": (TD3fD, TD3FD),
    "TD3fD compiled": (TD3fD, {**TD3FD, "compile": True}),
    "TD3fD, 2 critics": (TD3fD, TWIN),
    "TD3fD, 2 critics, compiled": (TD3fD, {**TWIN, "compile": True}),
}
MANY_CRITICS = {**TD3FD, **PLAIN, "compile": True, "policy_kwargs": {"n_critics": 10, "n_target_critics": 2}}
APART = "TD3fD compiled, 10 critics apart"
EXTRA: dict[str, tuple[type[OffPolicyAlgorithm], dict[str, Any]]] = {
    "TD3fD compiled, 10 critics": (TD3fD, MANY_CRITICS),
    APART: (TD3fD, MANY_CRITICS),
}
SBX = ("SBX TD3", "SBX SAC")
# Of time_learning(): the others differ from one of these by less than the environment takes
LEARNING = (
    *("SB3 DDPG", "SB3 TD3", "SBX TD3"),
    *("DDPGfD", "DDPGfD compiled", "DDPGfD compiled, bf16", "TD3fD, 2 critics, compiled"),
)
# Steps of learn() that are not timed: from the 100th on there are updates
N_BEFORE = 150
# Sizes, pairs of updates, rounds of learn() and steps of each: the whole takes some minutes
DEFAULTS = {"cpu": ([256, 128], 500, 10, 500), "cuda": ([256], 300, 2, 200)}


def add_sbx(device: str) -> list[str]:
    """:return: SBX's algorithms, which can be made from now on; none, with a line that says so, without SBX"""
    # Read when JAX is imported
    if device == "cpu":
        os.environ["JAX_PLATFORMS"] = "cpu"
        os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    try:
        import jax
        import sbx
    except ImportError as error:
        print(f"SBX is left out ({error}): pip install sbx-rl")
        return []
    print(f"SBX runs on {jax.devices()[0]}")
    # Its replay buffer is SB3's, in the CPU's memory
    ALGORITHMS.update({name: (getattr(sbx, name.split()[1]), {"device": "cpu"}) for name in SBX})
    return list(SBX)


def make_models(names: Sequence[str], width: int, batch_size: int, device: str) -> dict[str, OffPolicyAlgorithm]:
    """
    :param names: Of algorithms
    :param width: Units of the two hidden layers
    :param batch_size: Batch size
    :param device: Where the networks are
    :return: One model of each algorithm
    """
    shared: dict[str, Any] = {
        "batch_size": batch_size,
        "buffer_size": 100_000,
        "gradient_steps": 1,
        "learning_rate": 1e-3,
        "seed": 0,
        "device": device,
    }
    models = {}
    for name in names:
        algorithm, own = {**ALGORITHMS, **EXTRA}[name]
        # A copy each: SAC adds to its policy_kwargs
        policy_kwargs = {"net_arch": [width, width], **own.get("policy_kwargs", {})}
        models[name] = algorithm("MlpPolicy", "Pendulum-v1", **{**shared, **own, "policy_kwargs": policy_kwargs})
        if name == APART:
            for critic in (models[name].policy.critic, models[name].policy.critic_target):
                assert isinstance(critic, Critics)
                critic.batched_on = ()
    return models


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
    names: Sequence[str], width: int, batch_size: int, n_updates: int, repetitions: int, device: str
) -> tuple[dict[str, float], dict[str, float]]:
    """
    :param names: Of algorithms
    :param width: Units of the two hidden layers
    :param batch_size: Batch size
    :param n_updates: Updates in each call of ``train()``
    :param repetitions: How often two calls are timed
    :param device: Where the networks are
    :return: Median seconds of one update of each algorithm, and seconds of all first calls together
    """
    models = make_models(names, width, batch_size, device)
    fill(models)
    seconds: dict[str, list[float]] = {name: [] for name in models}
    first: dict[str, float] = dict.fromkeys(models, 0.0)
    # The first call is eager, the second one compiles; TD3fD has two kinds of updates
    n_warm_up = max(20 // n_updates, 3)
    for repetition in range(n_warm_up + repetitions):
        for name, model in models.items():
            start = time.perf_counter()
            for _ in range(2):
                model.train(gradient_steps=n_updates, batch_size=batch_size)
            wait(device)
            if repetition >= n_warm_up:
                seconds[name].append((time.perf_counter() - start) / 2 / n_updates)
            elif repetition < 3:
                first[name] += time.perf_counter() - start
    return {name: float(np.median(values)) for name, values in seconds.items()}, first


def time_learning(names: Sequence[str], width: int, batch_size: int, rounds: int, device: str, steps: int) -> dict[str, float]:
    """:return: Environment steps per second of ``learn()`` of each algorithm, median over rounds"""
    models = make_models(names, width, batch_size, device)
    rates: dict[str, list[float]] = {name: [] for name in models}
    for round_ in range(rounds + 1):
        for name, model in models.items():
            start = time.perf_counter()
            model.learn(max(steps, N_BEFORE) if round_ == 0 else steps, reset_num_timesteps=round_ == 0)
            wait(device)
            # The first round contains the steps before the first update, and the compiler's work
            if round_ > 0:
                rates[name].append(steps / (time.perf_counter() - start))
    return {name: float(np.median(values)) for name, values in rates.items()}


FIRST_CALLS = "first calls of train()"
LEARN = "learn()"


def draw(rows: Sequence[Mapping[str, str]], path: Path) -> None:
    """
    :param rows: Of CSV files
    :param path: Where to draw the ratios to SB3's DDPG: of the time of one update, and of the steps per second of ``learn()``
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    shown = [row for row in rows if not row["what"].startswith(FIRST_CALLS)]
    settings = list(dict.fromkeys((row["device"], row["width"]) for row in shown))
    figure, axes = plt.subplots(
        2, len(settings), figsize=(5.2 * len(settings), 7.5), squeeze=False, height_ratios=[2, 1], layout="constrained"
    )
    legend: Any = None
    for column, setting in zip(axes.T, settings, strict=True):
        of_setting = [row for row in shown if (row["device"], row["width"]) == setting]
        for axis, of_learning in zip(column, (False, True), strict=True):
            drawn = [row for row in of_setting if (row["what"] == LEARN) == of_learning]
            names = list(dict.fromkeys(row["algorithm"] for row in drawn))
            kinds = list(dict.fromkeys(row["what"] for row in drawn))
            height = 0.8 / max(len(kinds), 1)
            for number, kind in enumerate(kinds):
                of_kind = {row["algorithm"]: row for row in drawn if row["what"] == kind}
                places = [names.index(name) + (number - (len(kinds) - 1) / 2) * height for name in of_kind]
                bars = axis.barh(places, [float(row["ratio"]) for row in of_kind.values()], height, label=kind)
                texts = [f"{float(row['value']):.3g} {row['unit']}" for row in of_kind.values()]
                axis.bar_label(
                    bars, texts, padding=4, fontsize=7, bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5}
                )
            axis.set_yticks(range(len(names)), names, fontsize=8)
            axis.invert_yaxis()
            axis.axvline(1.0, color="0.7", linewidth=0.8, zorder=0)
            axis.margins(x=0.3)
            axis.set_xlabel("steps per second of learn(), ratio" if of_learning else "time of one update, ratio", fontsize=9)
            if len(kinds) > 1:
                legend = axis.get_legend_handles_labels()
        device, width = setting
        column[0].set_title(f"{device}, {width}x{width}, batch {width}", fontsize=10)
    if legend is not None:
        figure.legend(*legend, loc="outside lower center", ncols=2, fontsize=9)
    figure.suptitle("DDPGfD and TD3fD on Pendulum-v1, as ratios to SB3's DDPG", fontsize=11)
    figure.savefig(path, dpi=110)
    print(f"drew {path}")


def main() -> None:
    names = [*ALGORITHMS, *SBX]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--algorithms", nargs="+", choices=[*names, *EXTRA], default=names)
    parser.add_argument("--sizes", type=int, nargs="+", help="hidden units and batch size")
    parser.add_argument("--updates", type=int, nargs="+", default=[1, 20], help="updates in one call of train()")
    parser.add_argument("--repetitions", type=int, help="pairs of updates of each algorithm")
    parser.add_argument("--rounds", type=int, help="rounds of learn(); 0: none")
    parser.add_argument("--steps", type=int, help="steps of each round")
    parser.add_argument("--results", type=Path, help="CSV file to write")
    parser.add_argument("--draw", type=Path, nargs="+", help="draw these CSV files into update_speed.png beside the first")
    args = parser.parse_args()
    if args.draw:
        read = [row for path in args.draw for row in csv.DictReader(path.read_text().splitlines())]
        draw(read, args.draw[0].with_suffix(".png"))
        return
    for name, value in zip(("sizes", "repetitions", "rounds", "steps"), DEFAULTS[args.device], strict=True):
        if getattr(args, name) is None:
            setattr(args, name, value)
    th.set_num_threads(1)
    available = add_sbx(args.device) if set(SBX) & set(args.algorithms) else []
    args.algorithms = [name for name in args.algorithms if name not in SBX or name in available]
    with tempfile.TemporaryDirectory() as folder:
        # Read when the first program is compiled
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
        rows = measure(args)
    if args.results is not None:
        with args.results.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


def measure(args: argparse.Namespace) -> list[dict[str, Any]]:
    """:return: Rows of a CSV file"""
    rows: list[dict[str, Any]] = []

    def report(what: str, width: int, values: Mapping[str, float], unit: str) -> None:
        print(f"\n{what}, {width}x{width}, batch {width}, {args.device}")
        for name, value in values.items():
            ratio = value / values["SB3 DDPG"]
            print(f"    {name:<22} {value:>10.4g} {unit}   x {ratio:.3f}", flush=True)
            numbers = {"value": round(value, 4), "unit": unit, "ratio": round(ratio, 3)}
            rows.append(
                {"device": args.device, "what": what, "width": width, "batch_size": width, "algorithm": name, **numbers}
            )

    for width in args.sizes:
        for n_updates in args.updates:
            repetitions = max(args.repetitions // n_updates, 10)
            seconds, first = time_updates(args.algorithms, width, width, n_updates, repetitions, args.device)
            what = f"one update, {n_updates} in each call of train()"
            report(what, width, {name: 1e3 * value for name, value in seconds.items()}, "ms")
            if n_updates == args.updates[0]:
                report(f"{FIRST_CALLS}, empty cache", width, first, "s")
                th.compiler.reset()
                compiled = ["SB3 DDPG", *(name for name in args.algorithms if "compiled" in name)]
                _, first = time_updates(compiled, width, width, n_updates, 1, args.device)
                report(f"{FIRST_CALLS}, filled cache", width, first, "s")
        if args.rounds > 0:
            names = [name for name in args.algorithms if name in LEARNING]
            rates = time_learning(names, width, width, args.rounds, args.device, args.steps)
            report(LEARN, width, rates, "steps/s")
    return rows


if __name__ == "__main__":
    main()
