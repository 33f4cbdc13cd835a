"""
How much entropy SB3's SAC can afford on a sparse reward, with demonstrations in half of each batch: five ways to set it, three
seeds each, on PointMaze_UMaze (1 at the goal, otherwise 0), about 12 minutes of one core.

    python -m benchmarks.sac_entropy

A finished run is in benchmarks/results/sac_entropy.csv and does not run again.
"""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch as th
from stable_baselines3 import SAC

from benchmarks.learning import FIRST_EVALUATION_SEED, RESULTS, read_results, replace_results
from benchmarks.sparse_suite.evaluation import Evaluator
from benchmarks.sparse_suite.tasks import Task
from demos.experts.maze import Waypoints
from sb3_pgfd import DemoReplayBuffer
from sb3_pgfd.wrappers import ReportSuccess

TASK = Task(
    name="maze-u",
    env_id="PointMaze_UMaze-v3",
    env_kwargs={"continuing_task": False},
    expert=Waypoints,
    demos=(10,),
    gamma=0.98,
    q_range=(0.0, 1.0),
    wrapper=ReportSuccess,
    goal=True,
)
CONFIGURATIONS: dict[str, Mapping[str, Any]] = {
    "auto": {},
    "auto, target_entropy=-4": {"target_entropy": -4.0},
    "auto_0.01": {"ent_coef": "auto_0.01"},
    "0.01": {"ent_coef": 0.01},
    "0.001": {"ent_coef": 0.001},
}
"""By ``ent_coef``: SB3's default, which starts at 1 with a target of -dim(A) = -2, and others"""
SEEDS = (0, 1, 2)
EVALUATE_AT = (2_000, 4_000, 6_000)
N_EVALUATIONS = 20
PATH = RESULTS / "sac_entropy.csv"


def make_model(configuration: str, seed: int) -> SAC:
    """:return: SAC that half of each batch shows demonstrations"""
    return SAC(
        "MultiInputPolicy",
        TASK.make_env(),
        gamma=TASK.gamma,
        batch_size=128,
        learning_rate=1e-3,
        learning_starts=100,
        buffer_size=EVALUATE_AT[-1],
        replay_buffer_class=DemoReplayBuffer,
        replay_buffer_kwargs={"demonstrations": TASK.env_id, "demo_fraction": 0.5, "n_steps": 5, "gamma": TASK.gamma},
        policy_kwargs={"net_arch": [64, 64]},
        seed=seed,
        device="cpu",
        **CONFIGURATIONS[configuration],
    )


def run(configuration: str, seed: int) -> list[dict[str, Any]]:
    """:return: A row for each evaluation"""
    model, evaluator = make_model(configuration, seed), Evaluator(TASK, N_EVALUATIONS, FIRST_EVALUATION_SEED)
    rows, seconds = [], 0.0
    for steps in EVALUATE_AT:
        start = time.process_time()
        model.learn(steps - model.num_timesteps, reset_num_timesteps=False)
        seconds += time.process_time() - start
        automatic = model.log_ent_coef
        ent_coef = model.ent_coef_tensor if automatic is None else automatic.exp()
        outcome = evaluator.evaluate(model).row()
        rows.append({"steps": steps, **outcome, "ent_coef": f"{ent_coef.item():.4g}", "seconds": round(seconds, 1)})
    return rows


def report(rows: list[dict[str, Any]]) -> None:
    """Print the success of each seed, and the means."""
    print(f"{TASK.env_id}: success over {N_EVALUATIONS} starts, mean (each seed), after environment steps")
    for configuration in CONFIGURATIONS:
        cells = []
        for steps in EVALUATE_AT:
            found = [row for row in rows if row["configuration"] == configuration and row["steps"] == steps]
            scores = [row["success"] for row in sorted(found, key=lambda row: row["seed"])]
            cells.append(f"{np.mean(scores):.2f} ({', '.join(f'{score:.2f}' for score in scores)})")
        last = [row["ent_coef"] for row in rows if row["configuration"] == configuration and row["steps"] == EVALUATE_AT[-1]]
        print(f"{configuration:<26}{''.join(f'{cell:<28}' for cell in cells)}ent_coef at the end {np.mean(last):.3g}")


def main() -> None:
    """Run what is missing, then report."""
    th.set_num_threads(1)
    for seed in SEEDS:
        for configuration in CONFIGURATIONS:
            done = read_results(PATH)
            if not any((row["configuration"], row["seed"]) == (configuration, seed) for row in done):
                replace_results(PATH, {"configuration": configuration, "seed": seed}, run(configuration, seed))
    report(read_results(PATH))


if __name__ == "__main__":
    main()
