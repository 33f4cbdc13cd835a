"""
What a corrector is worth who takes over when the agent strays: a simulated arm puts its tip into a socket, the reward is 1
there and 0 elsewhere, 3 demonstrations are given, 15,000 steps (about 5 minutes of a core for each run).

    python -m benchmarks.interventions --processes 2

Three ways to learn, five seeds each: from the 3 demonstrations alone; with a scripted corrector that takes over when the tip
has come no nearer for some steps, and gives back in front of the socket; and with more demonstrations, given beforehand, with
as many steps as the corrector of the same seed made. A finished run is in benchmarks/results/interventions.csv and does not
run again.
"""

import argparse
import multiprocessing
import time
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from stable_baselines3.common.callbacks import BaseCallback

from benchmarks.learning import RESULTS, TWIN_CRITICS, read_results, replace_results
from examples.two_link_arm import Expert
from sb3_pgfd import Demonstrations, TD3fD
from sb3_pgfd.demonstrations import record
from sb3_pgfd.demonstrations.inspection.plots import new_figure
from sb3_pgfd.wrappers import InterventionWrapper

ENV_ID, N_DEMOS, STEPS = "TwoLinkArm-v0", 3, 15_000
EVALUATE_AT = tuple(range(0, STEPS + 1, 1_500))
N_EVALUATIONS = 50
METHODS = ("3 demonstrations", "interventions", "extra demonstrations")
PATIENCE, PROGRESS, AT_LEAST = 8, 0.01, 8
"""The corrector takes over when the way has become no shorter than that, in metres, for so many steps, for so many at least"""
PATH = RESULTS / "interventions.csv"


class Corrector:
    """
    Takes over when the agent strays, and gives back when the tip is in front of the socket, or in it. It sees where the socket
    is, as a person does.
    """

    def __init__(self, env: gym.Env):
        self.expert = Expert(env)
        self._nearest, self._n_vain, self._n_mine = 0.0, 0, 0

    def reset(self, observation: np.ndarray) -> None:
        """An episode begins."""
        self._nearest, self._n_vain, self._n_mine = self.expert.distance(), 0, 0

    def __call__(self, observation: np.ndarray, action: np.ndarray) -> np.ndarray | None:
        """:return: The expert's action, None: the agent's"""
        if self._n_mine >= AT_LEAST and len(self.expert.way()) == 1:
            self.reset(observation)
        if self._n_mine == 0:
            distance = self.expert.distance()
            self._n_vain = 0 if distance < self._nearest - PROGRESS else self._n_vain + 1
            self._nearest = min(self._nearest, distance)
        if self._n_vain < PATIENCE:
            return None
        self._n_mine += 1
        return self.expert(observation)


def demonstrations(n_extra_steps: int = 0) -> Demonstrations:
    """:return: The first 3, and as many more as have so many steps"""
    env = gym.make(ENV_ID)
    n_most = N_DEMOS + n_extra_steps // 10
    found = record(Expert(env), env, n_most, seed=20_000, action_noise=0.1, successes_only=True)
    ends = np.cumsum(found.episode_lengths)
    n_episodes = int(np.searchsorted(ends, ends[N_DEMOS - 1] + n_extra_steps)) + 1
    return Demonstrations.load(found, n_episodes=min(n_episodes, found.n_episodes))


def success_rate(model: TD3fD) -> float:
    """:return: Of episodes that always begin alike"""
    envs = [gym.make(ENV_ID) for _ in range(N_EVALUATIONS)]
    observations = np.stack([env.reset(seed=10_000 + k)[0] for k, env in enumerate(envs)])
    running, successes = np.ones(N_EVALUATIONS, dtype=bool), np.zeros(N_EVALUATIONS, dtype=bool)
    while running.any():
        actions, _ = model.predict(observations, deterministic=True)
        for k in np.flatnonzero(running):
            observations[k], _, terminated, truncated, info = envs[k].step(actions[k])
            running[k], successes[k] = not (terminated or truncated), info["is_success"]
    return float(successes.mean())


class Evaluations(BaseCallback):
    """A row for each evaluation. Their time is not counted."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[dict[str, Any]] = []
        self.begin, self.n_intervened, self._n_before = time.perf_counter(), 0, 0

    def _evaluate(self) -> None:
        before, n_new = time.perf_counter(), self.n_intervened - self._n_before
        assert isinstance(self.model, TD3fD)
        rate = n_new / (EVALUATE_AT[1] - EVALUATE_AT[0]) if self.num_timesteps else 0.0
        row: dict[str, Any] = {"steps": self.num_timesteps, "success_rate": success_rate(self.model)}
        row |= {"intervention_rate": round(rate, 4), "n_intervened": self.n_intervened, "n_given": self.model.buffer.n_given}
        self.rows.append({**row, "seconds": round(before - self.begin, 1)})
        self._n_before = self.n_intervened
        self.begin += time.perf_counter() - before

    def _on_training_start(self) -> None:
        self._evaluate()

    def _on_step(self) -> bool:
        self.n_intervened += self.locals["infos"][0].get("intervene_action") is not None
        if self.num_timesteps in EVALUATE_AT:
            self._evaluate()
        return True


Cell = tuple[str, int, int]
"""Method, seed, and steps of the extra demonstrations"""


def run(cell: Cell) -> tuple[Cell, list[dict[str, Any]]]:
    """:return: The cell and its rows"""
    method, seed, n_extra_steps = cell
    th.set_num_threads(1)
    env: gym.Env = gym.make(ENV_ID)
    if method == "interventions":
        env = InterventionWrapper(env, Corrector(env))
    model = TD3fD(
        "MlpPolicy",
        env,
        demonstrations(n_extra_steps),
        gamma=0.98,
        q_range=(0.0, 1.0),
        pretrain_steps=5_000,
        gradient_steps=4,
        q_filter=True,
        proposals=False,
        policy_kwargs={"net_arch": [64, 64], **TWIN_CRITICS},
        replay_buffer_kwargs={"denoise_successes": False},
        seed=seed,
        device="cpu",
    )
    evaluations = Evaluations()
    model.learn(STEPS, callback=evaluations)
    return cell, evaluations.rows


def intervened(seed: int) -> int | None:
    """:return: How many steps the corrector made in the run with this seed, None: it is not finished"""
    rows = [row for row in read_results(PATH) if (row["method"], row["seed"]) == ("interventions", seed)]
    return int(rows[-1]["n_intervened"]) if rows else None


def cells(methods: list[str], seeds: list[int]) -> list[Cell]:
    """:return: What can run now and is not finished"""
    done = {(row["method"], row["seed"]) for row in read_results(PATH)}
    found = []
    for method in methods:
        for seed in seeds:
            n_extra = intervened(seed) if method == "extra demonstrations" else 0
            if (method, seed) not in done and n_extra is not None:
                found.append((method, seed, n_extra))
    return found


def report() -> None:
    """Print one line per method, and draw all runs."""
    rows = read_results(PATH)
    figure = new_figure((9.0, 4.0))
    left, right = figure.subplots(1, 2)
    print(f"{ENV_ID}, {STEPS:,} steps: success at the end, and the rate of interventions in the last {EVALUATE_AT[1]:,} steps")
    for color, method in zip(("0.5", "C0", "C1"), METHODS, strict=True):
        seeds = sorted({row["seed"] for row in rows if row["method"] == method})
        curves = [[row for row in rows if (row["method"], row["seed"]) == (method, seed)] for seed in seeds]
        for number, curve in enumerate(curves):
            steps = [row["steps"] for row in curve]
            left.plot(steps, [row["success_rate"] for row in curve], color=color, label=method if number == 0 else None)
            if method == "interventions":
                right.plot(steps[1:], [row["intervention_rate"] for row in curve[1:]], color=color)
        last = [curve[-1] for curve in curves]
        rates = "  ".join(f"{row['success_rate']:.2f} ({row['intervention_rate']:.1%})" for row in last)
        given = ", ".join(f"{row['n_given']:.0f}" for row in last)
        print(f"{method:<22}{rates}   transitions given: {given}")
    left.axhline(0.9, color="C3", linestyle=":")
    right.axhline(0.05, color="C3", linestyle=":")
    left.set(xlabel="environment steps", ylabel=f"success rate, {N_EVALUATIONS} starts", ylim=(-0.02, 1.02))
    right.set(xlabel="environment steps", ylabel="share of steps that were interventions", ylim=(0.0, None))
    left.legend(fontsize="small")
    for axis in (left, right):
        axis.grid(alpha=0.3)
    path = RESULTS / "interventions.png"
    figure.savefig(path, dpi=100)
    print(f"Figure: {path}")


def main() -> None:
    """Run what is missing, then report. The extra demonstrations wait for the interventions of their seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS, metavar="NAME")
    parser.add_argument("--processes", type=int, default=1)
    args = parser.parse_args()
    first = [method for method in args.methods if method != "extra demonstrations"]
    with multiprocessing.get_context("spawn").Pool(args.processes) as pool:
        for methods in (first, args.methods):
            # Interventions first: others wait for them
            todo = sorted(cells(methods, args.seeds), key=lambda cell: cell[0] != "interventions")
            for (method, seed, _), rows in pool.imap_unordered(run, todo):
                replace_results(PATH, {"method": method, "seed": seed}, rows)
    report()


if __name__ == "__main__":
    main()
