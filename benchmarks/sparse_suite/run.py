"""Running a cell: learn, evaluate on the way, and leave a checkpoint at each evaluation."""

import json
import pickle
import random
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.vec_env import VecNormalize

from benchmarks.learning import read_results
from benchmarks.sparse_suite.evaluation import Evaluator, first_start
from benchmarks.sparse_suite.methods import Method, Model, build, make_env
from benchmarks.sparse_suite.results import LOGS, RESULTS_FILE, Cell, fingerprint, is_finished, locked, store
from benchmarks.sparse_suite.tasks import Task, demonstrations_of
from sb3_pgfd import Demonstrations
from sb3_pgfd.replay import DemoReplayBuffer
from sb3_pgfd.utils.files import write_whole


@dataclass(frozen=True)
class Run:
    """A cell with everything that is needed to run it."""

    cell: Cell
    task: Task
    method: Method
    settings: Mapping[str, Any]
    steps: int
    eval_freq: int = 5_000
    n_episodes: int = 50
    results: Path = RESULTS_FILE
    logs: Path = LOGS
    compile: bool = False
    """Whether updates are compiled, where the method's can be: they are faster, and the same but for rounding"""

    @property
    def config(self) -> str:
        """Fingerprint of the settings of the method, the task and the schedule"""
        task = (self.task.gamma, self.task.q_range, self.task.goal, self.task.policy_kwargs)
        schedule = (self.steps if self.method.interacts else 0, self.last_step, self.eval_freq, self.n_episodes)
        return fingerprint({**self.settings, "task": task, "schedule": schedule})

    @property
    def last_step(self) -> int:
        """Step of the last evaluation"""
        if not self.method.interacts:
            return 0
        return self.steps if self.method.stops_at is None else min(self.steps, self.method.stops_at)

    @property
    def folder(self) -> Path:
        """Folder of its checkpoints"""
        return self.cell.folder(self.logs)


@dataclass(frozen=True)
class Progress:
    """The state of a cell at its last evaluation."""

    config: str
    """Fingerprint of the settings"""
    rows: list[dict[str, Any]]
    seconds: float
    """Processor time of learning"""
    evaluation_seconds: float

    @property
    def steps(self) -> int:
        """Environment steps at the last evaluation"""
        return int(self.rows[-1]["steps"])


class Evaluations(BaseCallback):
    """
    Evaluate and leave a checkpoint before the first step and then every ``eval_freq`` steps.

    :param run: Run to evaluate
    :param progress: Progress of an earlier process, None if there was none
    """

    def __init__(self, run: Run, progress: Progress | None):
        super().__init__()
        self.run = run
        self.rows = list(progress.rows) if progress else []
        self.seconds = progress.seconds if progress else 0.0
        self.evaluation_seconds = progress.evaluation_seconds if progress else 0.0
        self.evaluator = Evaluator(run.task, run.n_episodes, first_start(run.cell.seed))
        # Processor time does not depend on the other processes of the machine
        self.clock = time.process_time()

    def _on_training_start(self) -> None:
        if not self.rows:
            self.evaluate(self.model)

    def _on_step(self) -> bool:
        if self.num_timesteps >= self.rows[-1]["steps"] + self.run.eval_freq:
            self.evaluate(self.model)
        # A run that stops early is stopped here; a whole run ends by itself
        return self.rows[-1]["steps"] < self.run.last_step or self.run.last_step == self.run.steps

    def evaluate(self, model: Model) -> None:
        """:param model: Model to evaluate, after ``model.num_timesteps`` steps"""
        before = time.process_time()
        self.seconds += before - self.clock
        episodes = self.evaluator.evaluate(model)
        self.clock = time.process_time()
        self.evaluation_seconds += self.clock - before
        # With several environments the step counter can pass a multiple of eval_freq
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
        # A model that takes no steps is quickly made again
        if isinstance(model, BaseAlgorithm) and self.run.method.interacts:
            progress = Progress(self.run.config, self.rows, self.seconds, self.evaluation_seconds)
            save_checkpoint(self.run.folder, model, progress)
        self.clock = time.process_time()


def run_cell(run: Run) -> bool:
    """
    Run what is left of a cell, and store its rows.

    :param run: Run to finish
    :return: False if it was finished before
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
    """:return: All rows of the cell, including those of earlier processes"""
    checkpoint = find_checkpoint(run.folder)
    progress = None if checkpoint is None else read_progress(checkpoint)
    if progress is not None and progress.config != run.config:
        raise ValueError(
            f"{run.folder}: found the checkpoint of an unfinished run with other settings, expected {run.config}: "
            "run with --fresh, or with another --label"
        )
    demonstrations = demonstrations_of(run.task, run.cell.demos, run.logs / "demonstrations")
    env = make_env(run.task, run.settings, demonstrations)
    evaluations = Evaluations(run, progress)
    if checkpoint is None:
        settings = {**run.settings, "compile": True} if run.compile and run.method.compiles else run.settings
        model = build(run.method, run.task, env, run.cell.seed, demonstrations, settings)
    else:
        model = load_checkpoint(run, checkpoint, env, demonstrations)
    if isinstance(model, BaseAlgorithm) and model.num_timesteps < run.last_step:
        model.learn(run.steps - model.num_timesteps, callback=evaluations, reset_num_timesteps=not evaluations.rows)
    elif not evaluations.rows:
        evaluations.evaluate(model)
    evaluations.evaluator.close()
    env.close()
    return evaluations.rows


def save_checkpoint(folder: Path, model: BaseAlgorithm, progress: Progress) -> None:
    """
    Write the whole checkpoint, then remove the previous one.

    :param folder: Folder of the cell
    :param model: Model to save, with its replay buffer
    :param progress: Progress of the cell
    """
    path = folder / f"checkpoint_{progress.steps}"
    with write_whole(path, overwrite=True, folder=True) as temporary:
        model.save(temporary / "model.zip")
        if isinstance(model, OffPolicyAlgorithm):
            model.save_replay_buffer(temporary / "buffer.pkl")
        normalize = model.get_vec_normalize_env()
        if normalize is not None:
            normalize.save(str(temporary / "normalize.pkl"))
        (temporary / "random.pkl").write_bytes(pickle.dumps((random.getstate(), np.random.get_state(), th.get_rng_state())))
        (temporary / "progress.json").write_text(json.dumps(asdict(progress)))
    for older in folder.glob("checkpoint_*"):
        if older != path:
            shutil.rmtree(older)


def find_checkpoint(folder: Path) -> Path | None:
    """
    :param folder: Folder of a cell
    :return: The latest checkpoint, None if there is none
    """
    return max(folder.glob("checkpoint_*"), key=lambda path: int(path.name.rpartition("_")[2]), default=None)


def read_progress(checkpoint: Path) -> Progress:
    """:param checkpoint: Checkpoint of a cell"""
    return Progress(**json.loads((checkpoint / "progress.json").read_text()))


def load_checkpoint(run: Run, checkpoint: Path, env: GymEnv, demonstrations: Demonstrations | None) -> BaseAlgorithm:
    """
    :param run: The interrupted run
    :param checkpoint: Its checkpoint
    :param env: Environment to continue in
    :param demonstrations: Demonstrations, None if the method uses none
    :return: The model, ready to continue; the random generators of this process are restored
    """
    assert run.method.algorithm is not None
    if isinstance(env, VecNormalize):
        env = VecNormalize.load(str(checkpoint / "normalize.pkl"), env.venv)
    arguments: dict[str, Any] = {"demonstrations": demonstrations} if run.method.takes_demonstrations else {}
    model = run.method.algorithm.load(checkpoint / "model.zip", env=env, device="cpu", **arguments)
    if isinstance(model, OffPolicyAlgorithm):
        model.load_replay_buffer(checkpoint / "buffer.pkl")
    environment = model.get_env()
    assert environment is not None
    if isinstance(model, OffPolicyAlgorithm) and isinstance(model.replay_buffer, DemoReplayBuffer):
        # For hindsight; SB3's algorithms do not do it
        model.replay_buffer.set_env(environment)
    # load() seeds the environment as at the beginning: the first starts would come again
    environment.seed(run.cell.seed + 1000 * (1 + model.num_timesteps))
    python, numpy, torch = pickle.loads((checkpoint / "random.pkl").read_bytes())
    random.setstate(python)
    np.random.set_state(numpy)
    th.set_rng_state(torch)
    return model
