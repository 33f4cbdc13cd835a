"""Runs a cell: learns, evaluates on the way, and leaves a checkpoint at each evaluation."""

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.type_aliases import GymEnv
from suite_checkpoints import Progress, find_checkpoint, load_checkpoint, read_progress, save_checkpoint
from suite_demonstrations import demonstrations_of
from suite_evaluation import Evaluator
from suite_methods import Method, Model, build, make_env
from suite_paths import LOGS, RESULTS_FILE
from suite_results import Cell, fingerprint, is_finished, locked, read_results, store
from suite_tasks import Task

from sb3_pgfd import Demonstrations


@dataclass(frozen=True)
class Run:
    """A cell, and all that it takes to run it."""

    cell: Cell
    task: Task
    method: Method
    settings: Mapping[str, Any]
    steps: int
    eval_freq: int = 5_000
    n_episodes: int = 50
    results: Path = RESULTS_FILE
    logs: Path = LOGS

    @property
    def config(self) -> str:
        """Fingerprint of all that the results depend on besides the cell's own columns"""
        task = (self.task.gamma, self.task.q_range, self.task.goal, self.task.hindsight, self.task.policy_kwargs)
        schedule = (self.steps if self.method.interacts else 0, self.last_step, self.eval_freq, self.n_episodes)
        return fingerprint({**self.settings, "task": task, "schedule": schedule})

    @property
    def last_step(self) -> int:
        """At which the last evaluation is"""
        if not self.method.interacts:
            return 0
        return self.steps if self.method.stops_at is None else min(self.steps, self.method.stops_at)

    @property
    def folder(self) -> Path:
        """Of its checkpoints"""
        return self.cell.folder(self.logs)


class Evaluations(BaseCallback):
    """
    Evaluates and leaves a checkpoint, before the first step and then every ``eval_freq`` steps.

    :param run: What is run
    :param progress: Of an earlier process, None: there was none
    """

    def __init__(self, run: Run, progress: Progress | None):
        super().__init__()
        self.run = run
        self.rows = list(progress.rows) if progress else []
        self.seconds = progress.seconds if progress else 0.0
        self.evaluation_seconds = progress.evaluation_seconds if progress else 0.0
        self.evaluator = Evaluator(run.task, run.n_episodes)
        # Processor time: of one core, whatever else the machine does
        self.clock = time.process_time()

    def _on_training_start(self) -> None:
        if not self.rows:
            self.evaluate(self.model)

    def _on_step(self) -> bool:
        if self.num_timesteps >= self.rows[-1]["steps"] + self.run.eval_freq:
            self.evaluate(self.model)
        # Where it is the last of all, learning ends of itself
        return self.rows[-1]["steps"] < self.run.last_step or self.run.last_step == self.run.steps

    def evaluate(self, model: Model) -> None:
        """:param model: After ``model.num_timesteps`` steps"""
        before = time.process_time()
        self.seconds += before - self.clock
        episodes = self.evaluator.evaluate(model)
        self.clock = time.process_time()
        self.evaluation_seconds += self.clock - before
        # Several environments step together, and may step past it
        steps = model.num_timesteps // self.run.eval_freq * self.run.eval_freq
        self.rows.append(
            {
                "steps": steps,
                **episodes.row(),
                "seconds": round(self.seconds, 1),
                "evaluation_seconds": round(self.evaluation_seconds, 1),
                "updates": getattr(model, "_n_updates", 0),
                "config": self.run.config,
            }
        )
        print(f"{self.run.cell}: {self.rows[-1]}", flush=True)
        # What takes no steps is soon made again
        if isinstance(model, BaseAlgorithm) and self.run.method.interacts:
            save_checkpoint(
                self.run.folder, model, Progress(self.run.config, self.rows, self.seconds, self.evaluation_seconds)
            )
        self.clock = time.process_time()


def run_cell(run: Run) -> bool:
    """
    Run what is left of a cell, and store its rows.

    :param run: What to run
    :return: Whether anything was left
    :raises ValueError: If there is a checkpoint of other settings
    :raises BlockingIOError: If another process runs it
    """
    if is_finished(read_results(run.results), run.cell, run.config, run.last_step):
        return False
    th.set_num_threads(1)
    run.folder.mkdir(parents=True, exist_ok=True)
    with locked(run.folder, wait=False):
        store(run.results, run.cell, _evaluations(run))
        shutil.rmtree(run.folder)
    return True


def _evaluations(run: Run) -> list[dict[str, Any]]:
    """:return: All rows of the cell, those of earlier processes included"""
    checkpoint = find_checkpoint(run.folder)
    progress = None if checkpoint is None else read_progress(checkpoint)
    if progress is not None and progress.config != run.config:
        raise ValueError(
            f"{run.folder}: found the checkpoint of an unfinished run with other settings, expected {run.config}: "
            "run with --fresh, or with another --label"
        )
    demonstrations = demonstrations_of(run.task, run.cell.demos, run.logs / "demonstrations")
    env = make_env(run.task, run.settings)
    evaluations = Evaluations(run, progress)
    if checkpoint is None:
        model = build(run.method, run.task, env, run.cell.seed, demonstrations, run.settings)
    else:
        model = reload(run, checkpoint, env, demonstrations)
    if isinstance(model, BaseAlgorithm) and model.num_timesteps < run.last_step:
        model.learn(run.steps - model.num_timesteps, callback=evaluations, reset_num_timesteps=not evaluations.rows)
    elif not evaluations.rows:
        evaluations.evaluate(model)
    evaluations.evaluator.close()
    env.close()
    return evaluations.rows


def reload(run: Run, checkpoint: Path, env: GymEnv, demonstrations: Demonstrations | None) -> BaseAlgorithm:
    """
    :param run: That was interrupted
    :param checkpoint: To go on from
    :param env: To go on in
    :param demonstrations: If the method uses any
    :return: The model, ready to learn on
    """
    arguments = {"demonstrations": demonstrations} if run.method.is_given_demonstrations else {}
    assert run.method.algorithm is not None
    return load_checkpoint(checkpoint, run.method.algorithm, env, run.cell.seed, arguments)
