"""
Learning curves of A2CfD with the packaged hyperparameters, with and without demonstrations, next to SB3's A2C.

    python -m benchmarks.a2c pendulum --processes 2     # also: pendulum-alone, cartpole, lunar-lander, mountain-car

A run is one method with one seed. A finished run is in benchmarks/results/a2c_<task>.csv and does not run again.

``SB3 A2C`` has the RL Zoo's hyperparameters for the environment. ``cloned SB3 A2C`` is SB3's A2C with A2CfD's networks and
hyperparameters. It first clones the same demonstrations by maximum likelihood for as many updates, then learns. It has none of
A2CfD's measures against collapse: no pretrained critic, no warm-up, no demonstration term, no smaller learning rate for the
actor.
"""

import argparse
import multiprocessing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import rl_zoo3
import torch as th
from stable_baselines3 import A2C
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from benchmarks.learning import RESULTS, Benchmark, Evaluations, options_of, read_results, replace_results
from sb3_pgfd import A2CfD, Demonstrations
from sb3_pgfd.plotting import new_figure
from sb3_pgfd.utils.files import hyperparams_file

ZOO_A2C = Path(rl_zoo3.__file__).parent / "hyperparams" / "a2c.yml"


@dataclass(frozen=True)
class Task:
    """A benchmark, its methods and its number of seeds."""

    benchmark: Benchmark
    methods: tuple[str, ...]
    n_seeds: int
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Changes to the environment's entry of hyperparams/a2cfd.yml"""


Cell = tuple[Task, str, int]
"""Task, method and seed"""


def _every(step: int, last: int) -> tuple[int, ...]:
    return tuple(range(0, last + 1, step))


# Without a cloned policy a large learning rate destroys nothing
ALONE = {
    "demonstrations": None,
    "actor_learning_rate": "lin_1e-3",
    "policy_kwargs": {"net_arch": [64, 64], "log_std_min": -2.0, "log_std_max": 0.5},
}
TASKS = {
    "pendulum": Task(
        Benchmark("Pendulum-v1", 100_000, _every(10_000, 100_000), -200.0),
        ("A2CfD", "SB3 A2C", "cloned SB3 A2C"),
        5,
    ),
    "pendulum-alone": Task(Benchmark("Pendulum-v1", 100_000, _every(10_000, 100_000), -450.0), ("A2CfD alone",), 3, ALONE),
    "cartpole": Task(Benchmark("CartPole-v1", 50_000, _every(5_000, 50_000), 500.0), ("A2CfD alone",), 3),
    "lunar-lander": Task(
        Benchmark("LunarLanderContinuous-v3", 100_000, _every(20_000, 100_000), 200.0),
        ("A2CfD",),
        3,
    ),
    "mountain-car": Task(Benchmark("MountainCarContinuous-v0", 50_000, _every(10_000, 50_000), 90.0), ("A2CfD",), 3),
}


def make_env(env_id: str, seed: int, options: dict[str, Any]) -> VecEnv:
    """
    :param env_id: Environment
    :param seed: Seed of the environments
    :param options: Hyperparameters, of which ``n_envs`` and ``normalize`` are taken out
    """
    env: VecEnv = make_vec_env(env_id, n_envs=options.pop("n_envs", 1), seed=seed)
    normalize = options.pop("normalize", False)
    arguments = normalize if isinstance(normalize, dict) else {}
    return VecNormalize(env, gamma=options.get("gamma", 0.99), **arguments) if normalize else env


def make_model(method: str, task: Task, seed: int) -> BaseAlgorithm:
    """
    :param method: Name of the method, see above
    :param task: Task to learn
    :param seed: Seed
    """
    env_id = task.benchmark.env_id
    if method == "SB3 A2C":
        options = options_of(ZOO_A2C, env_id)
        return A2C(env=make_env(env_id, seed, options), seed=seed, device="cpu", **options)
    options = options_of(hyperparams_file("a2cfd"), env_id, task.changes)
    env = make_env(env_id, seed, options)
    if method != "cloned SB3 A2C":
        return A2CfD(env=env, seed=seed, device="cpu", **options)
    return _cloned(env, seed, options)


def _cloned(env: VecEnv, seed: int, options: dict[str, Any]) -> A2C:
    shared = ("policy", "learning_rate", "n_steps", "gamma", "gae_lambda", "use_rms_prop")
    kwargs = {"net_arch": options["policy_kwargs"]["net_arch"], "activation_fn": th.nn.ReLU}
    model = A2C(env=env, seed=seed, device="cpu", policy_kwargs=kwargs, **{name: options[name] for name in shared})
    demonstrations = Demonstrations.load(options["demonstrations"])
    observations, actions = (th.tensor(array) for array in (demonstrations.observations, demonstrations.actions))
    optimizer = th.optim.Adam(model.policy.parameters(), lr=1e-3)
    for _ in range(options["pretrain_steps"]):
        rows = th.randint(len(demonstrations), (options["demo_batch_size"],))
        loss = -model.policy.get_distribution(observations[rows]).log_prob(actions[rows]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


def run_cell(cell: Cell) -> tuple[Cell, list[dict[str, Any]]]:
    """
    :param cell: Task, method and seed
    :return: The cell and its rows
    """
    task, method, seed = cell
    th.set_num_threads(1)
    evaluations = Evaluations(task.benchmark)
    make_model(method, task, seed).learn(task.benchmark.steps, callback=evaluations)
    return cell, evaluations.rows


def report(name: str, task: Task, rows: list[dict[str, Any]]) -> None:
    """Print one line per run, and how many reached the target."""
    benchmark = task.benchmark
    print(f"{name}: {benchmark.env_id}, mean return over {benchmark.n_evaluations} starts, after environment steps")
    print(f"{'method':<16}{'seed':>5}" + "".join(f"{steps:>9,}" for steps in benchmark.evaluate_at) + f"{'seconds':>9}")
    for method in task.methods:
        runs = [_run(rows, method, seed) for seed in range(task.n_seeds)]
        for seed, run in enumerate(run for run in runs if run):
            returns = "".join(f"{row['mean_return']:>9.1f}" for row in run)
            print(f"{method:<16}{seed:>5}{returns}{run[-1]['seconds']:>9.0f}")
        finished = [[row["mean_return"] for row in run] for run in runs if run]
        if finished:
            _print_reached(method, finished, benchmark.target)
    print(f"Figure: {draw(name, task, rows)}")


def _run(rows: list[dict[str, Any]], method: str, seed: int) -> list[dict[str, Any]]:
    return sorted((row for row in rows if (row["algorithm"], row["seed"]) == (method, seed)), key=lambda row: row["steps"])


def _print_reached(method: str, runs: list[list[float]], target: float) -> None:
    at_end, at_best = (sum(value >= target for value in values) for values in ([r[-1] for r in runs], map(max, runs)))
    # Loss of the worst later evaluation against the policy at step 0, in units of that policy's return
    worst = max(max((run[0] - value) / abs(run[0]) for value in run[1:]) for run in runs)
    print(
        f"  {method}: {at_end} of {len(runs)} seeds >= {target:g} at the end, {at_best} at some evaluation; "
        f"the worst evaluation is {worst:.0%} worse than at step 0\n"
    )


def draw(name: str, task: Task, rows: list[dict[str, Any]]) -> Path:
    """:return: Path of the figure"""
    figure = new_figure((7.0, 4.0))
    axis = figure.subplots()
    for color, method in zip(("C0", "0.6", "C1"), task.methods, strict=False):
        for seed in range(task.n_seeds):
            run = [(row["steps"], row["mean_return"]) for row in _run(rows, method, seed)]
            label = f"{method}, {task.n_seeds} seeds" if seed == 0 else None
            if run:
                axis.plot(*zip(*run, strict=True), color=color, marker=".", label=label)
    axis.axhline(task.benchmark.target, color="C3", linestyle=":", label="target")
    title = f"{task.benchmark.env_id}{'' if 'A2CfD' in task.methods else ', without demonstrations'}"
    axis.set(title=title, xlabel="environment steps", ylabel=f"mean return, {task.benchmark.n_evaluations} starts")
    axis.grid(alpha=0.3)
    axis.legend()
    path = RESULTS / f"a2c_{name}.png"
    figure.savefig(path, dpi=100)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", metavar="task", help=f"{', '.join(TASKS)}; default: all")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--fresh", action="store_true", help="repeat runs that are finished")
    args = parser.parse_args()
    for name in args.tasks or TASKS:
        task, path = TASKS[name], RESULTS / f"a2c_{name}.csv"
        done = set() if args.fresh else {(row["algorithm"], row["seed"]) for row in read_results(path)}
        cells = [(task, method, seed) for method in task.methods for seed in range(task.n_seeds)]
        with multiprocessing.get_context("spawn").Pool(args.processes) as pool:
            for (_, method, seed), rows in pool.imap_unordered(run_cell, [cell for cell in cells if cell[1:] not in done]):
                replace_results(path, {"algorithm": method, "seed": seed}, rows)
        report(name, task, read_results(path))


if __name__ == "__main__":
    main()
