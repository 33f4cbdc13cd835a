"""The RL Zoo's experiment manager with this package's hyperparameters, search, and files of a run."""

import signal
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gymnasium as gym
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import (
    BaseCallback,
    CallbackList,
    CheckpointCallback,
    EvalCallback,
    ProgressBarCallback,
)
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv

from sb3_pgfd.callbacks import (
    Checkpoints,
    EvaluateFirst,
    Evaluation,
    ProgressLog,
    RunFigure,
    SaveNormalization,
    SaveTrainingState,
    summarize_run,
    write_summary,
)
from sb3_pgfd.common.environment_state import Resumable
from sb3_pgfd.common.stepping import Interrupted
from sb3_pgfd.demonstrations import DemonstrationsError
from sb3_pgfd.demonstrations.time_limit import time_limit
from sb3_pgfd.plotting import plot_run
from sb3_pgfd.wrappers import leave_demonstrations, monitor_successes, tell_monitor
from sb3_pgfd.zoo import ALGORITHMS
from sb3_pgfd.zoo.agents import saved_with
from sb3_pgfd.zoo.beside_the_robot import BesideTheRobot
from sb3_pgfd.zoo.command_line import CommandError, EndedRunError, check_device
from sb3_pgfd.zoo.continuing_manager import ContinuingManager
from sb3_pgfd.zoo.explanation import Layer, explain, heading, of_command, table
from sb3_pgfd.zoo.resuming import STATE, how_to_go_on, log_sizes, make_run_folder, save_command
from sb3_pgfd.zoo.study import check_database

ZOO_EVAL_FREQ = 25_000
"""Default of the Zoo's ``--eval-freq``"""
N_EVALUATIONS = 10
"""In a run whose ``--eval-freq`` nobody named, besides the one before its first step"""


def _resumable(env: gym.Env, then: Callable[[gym.Env], gym.Env] | None) -> gym.Env:
    return Resumable(env if then is None else then(env))


class PgfdExperimentManager(ContinuingManager):
    """
    The Zoo's manager with other hyperparameters (:class:`~sb3_pgfd.zoo.entry_manager.EntryManager`), another search
    (:class:`~sb3_pgfd.zoo.search_manager.SearchManager`), runs that go on
    (:class:`~sb3_pgfd.zoo.continuing_manager.ContinuingManager`) and these differences in a run, see docs/zoo.md:

    * A run's folder has ``progress.csv``, ``summary.json`` and ``run.png``. Evaluation begins before the first step.
    * The training state is saved, and ``run`` goes on from it. Two runs never share a folder.
    * The best model and each checkpoint have their own statistics of ``VecNormalize`` and, if buffers are saved, the newest
      checkpoint its replay buffer.

    :param command: Arguments of the command, to go on later
    :param robot: Who takes over, and how fast the environment steps; None: nobody, and it waits for the learner
    :param dry_run: Whether to stop before the first step, without writing anything
    :param explains: Whether to print every value that is used, and where it came from
    :raises CommandError: If nobody can take over in such a run, or not at a fixed rate
    """

    def __init__(
        self,
        args: Any,
        algo: str,
        *positional: Any,
        command: Sequence[str] = (),
        robot: BesideTheRobot | None = None,
        dry_run: bool = False,
        explains: bool = False,
        **kwargs: Any,
    ):
        super().__init__(args, algo, *positional, **kwargs)
        self._evaluation: EvalCallback | None = None
        self._state: SaveTrainingState | None = None
        self._command = list(command)
        self._robot = None if robot is None or robot.changes_nothing else robot
        beside_a_robot = [name for name, algorithm in ALGORITHMS.items() if issubclass(algorithm, OffPolicyAlgorithm)]
        if self._robot is not None and (self.optimize_hyperparameters or algo not in beside_a_robot):
            found = "-optimize" if self.optimize_hyperparameters else f"--algo {algo}"
            raise CommandError(f"--intervene, --control-hz: found {found}, expected one run of {', '.join(beside_a_robot)}")
        self._inner_wrapper: Callable[[gym.Env], gym.Env] | None = None
        self._dry_run, self._explains = dry_run, explains

    def _preprocess_hyperparams(
        self, hyperparams: dict[str, Any]
    ) -> tuple[dict[str, Any], Callable | None, list[BaseCallback], Callable | None]:
        processed, env_wrapper, callbacks, vec_env_wrapper = super()._preprocess_hyperparams(hyperparams)
        # The Zoo leaves evaluation without those of the yaml
        if not self._eval_env_kwargs_args:
            self.eval_env_kwargs = self.env_kwargs
        # For args.yml: not all of the Zoo's commands look for the environment's arguments elsewhere
        self.args = Namespace(**{**vars(self.args), "env_kwargs": self.env_kwargs or None})
        self._inner_wrapper = env_wrapper
        # A user who names columns for the monitor knows the environment
        has_columns = bool(self.monitor_kwargs.keys() - {"override_existing"})
        env_wrapper = partial(tell_monitor if has_columns else monitor_successes, then=env_wrapper)
        if self.vec_env_class is SubprocVecEnv:
            env_wrapper = partial(_resumable, then=env_wrapper)
        if self._run is not None and not self._dry_run:
            self._run.cut_logs()
        # An environment that is made anew goes on with its log, unless it has columns of the user's
        if self._run is not None or (self._is_remote and not has_columns):
            self.monitor_kwargs = {**self.monitor_kwargs, "override_existing": False}
        return processed, env_wrapper, callbacks, vec_env_wrapper

    def setup_experiment(self) -> tuple[BaseAlgorithm, dict[str, Any]] | None:
        """cf ``ExperimentManager``. With ``explains`` and ``dry_run`` it prints what will be used."""
        results = super().setup_experiment()
        if results is not None and (self._explains or self._dry_run):
            print(self._explanation(results[0]))
        return results

    def _explanation(self, model: BaseAlgorithm) -> str:
        rest = None
        if self._run is not None:
            rest = "training state of the run"
        elif self.continue_training:
            rest = str(self.trained_agent)
        layers, hyperparams = list(self._layers), dict(self._unprocessed)
        if self.args.n_timesteps > 0:
            hyperparams["n_timesteps"] = self.n_timesteps
            layers.append(Layer("-n", {"n_timesteps": self.n_timesteps}))
        if self._vec_env is not None:
            layers.append(Layer("--vec-env", {"vec_env": self._vec_env}))
        if self._hyperparams.get("policy") != hyperparams.get("policy") and "policy" in self._hyperparams:
            hyperparams["policy"] = self._hyperparams["policy"]
            layers.append(Layer("chosen for Dict observations", {"policy": hyperparams["policy"]}))
        rows = [*explain(model, layers, hyperparams, rest), *of_command(self.args, self._command)]
        return f"\n{heading(model, self.env_name.gym_id)}\n\n{table(rows, self._explains)}\n"

    def create_envs(self, n_envs: int, eval_env: bool = False, no_log: bool = False) -> VecEnv:
        """
        cf ``ExperimentManager``. Nobody takes over in evaluations, and they start as the environment does.

        :raises CommandError: If a person cannot take over
        """
        no_log = no_log or self._dry_run
        if eval_env:
            return leave_demonstrations(self._create_eval_envs(n_envs, no_log))
        if self._robot is None or self._robot.device is None or self._dry_run:
            return super().create_envs(n_envs, eval_env, no_log)
        if n_envs > 1 or self.vec_env_class is not DummyVecEnv:
            found = f"{n_envs} environments" if n_envs > 1 else f"environments of a {self.vec_env_class.__name__}"
            raise CommandError(f"--intervene: found {found}, expected one in this process: a person takes over in one window")
        before = self.env_wrapper, self.env_kwargs
        self.env_wrapper = self._robot.wrapper(self._inner_wrapper)
        self.env_kwargs = {**self.env_kwargs, **self._robot.env_kwargs(gym.spec(self.env_name.gym_id))}
        try:
            return super().create_envs(n_envs, eval_env, no_log)
        finally:
            self.env_wrapper, self.env_kwargs = before

    def _create_eval_envs(self, n_envs: int, no_log: bool) -> VecEnv:
        before = self.vec_env_kwargs
        if self._is_remote:
            # What is reserved is for learning, which waits meanwhile
            self.vec_env_kwargs = {**before, "num_cpus": 0}
        try:
            return super().create_envs(n_envs, True, no_log)
        finally:
            self.vec_env_kwargs = before

    @property
    def _is_remote(self) -> bool:
        return not issubclass(self.vec_env_class, (DummyVecEnv, SubprocVecEnv))

    def create_log_folder(self) -> None:
        """cf ``ExperimentManager``. What is refused is refused before there is one."""
        check_device(str(self.device))
        if self.optimize_hyperparameters and self.sampler == "auto" and find_spec("optunahub") is None:
            raise CommandError("--sampler: found auto and no optunahub, expected it (pip install optunahub), or tpe")
        if self.storage and not self.storage.endswith(".log"):
            check_database(self.storage)
        self._set_eval_freq()
        if self._dry_run:
            return
        if self._is_remote:
            # Other processes write there too, which may be in other folders
            self.save_path = str(Path(self.save_path).resolve())
            self.params_path = f"{self.save_path}/{self.env_name}"
        if self._run is None:
            self.save_path = make_run_folder(self.save_path, self.env_name)
            self.params_path = f"{self.save_path}/{self.env_name}"

    def create_callbacks(self) -> None:
        if self._dry_run:
            return
        n_specified = len(self.callbacks)
        super().create_callbacks()
        if self.optimize_hyperparameters:
            return
        for i, callback in enumerate(self.callbacks[n_specified:], n_specified):
            if isinstance(callback, CheckpointCallback):
                options = {"save_replay_buffer": self.save_replay_buffer, "save_vecnormalize": True, "verbose": 1}
                self.callbacks[i] = Checkpoints(self.save_freq, self.save_path, **options)
            elif isinstance(callback, EvalCallback):
                # The newest statistics of all, and those of the best model
                paths: list[str | Path] = [
                    f"{self.params_path}/vecnormalize.pkl",
                    saved_with(f"{self.save_path}/best_model.zip", "vecnormalize"),
                ]
                self.callbacks[i] = self._evaluation = Evaluation(
                    callback.eval_env,
                    callback_on_new_best=CallbackList([SaveNormalization(path) for path in paths]),
                    n_eval_episodes=self.n_eval_episodes,
                    eval_freq=self.eval_freq,
                    log_path=self.save_path,
                    best_model_save_path=self.save_path,
                    deterministic=self.deterministic_eval,
                    verbose=min(self.verbose, 1),
                )
        self.callbacks.append(ProgressLog(self.save_path))
        if self._evaluation is not None and (self._run is not None or not self.continue_training):
            self.callbacks.append(EvaluateFirst(self._evaluation))
        if self.algo in ALGORITHMS:
            logs = partial(log_sizes, Path(self.save_path))
            self._state = SaveTrainingState(
                f"{self.save_path}/{STATE}", max(self.save_freq, 0), notes=lambda: {"logs": logs()}
            )
            self.callbacks.append(self._state)
        if self.tensorboard_log is not None:
            self.callbacks.append(RunFigure(self.save_path))

    def _set_eval_freq(self) -> None:
        """:raises CommandError: If evaluations have no episodes"""
        is_given = any(word.startswith("--eval-f") for word in self._command)
        if not is_given and self.eval_freq == ZOO_EVAL_FREQ:
            # Most runs from demonstrations are shorter, and would never be evaluated
            self.eval_freq = self.args.eval_freq = min(ZOO_EVAL_FREQ, max(int(self.n_timesteps) // N_EVALUATIONS, 1))
        if self.eval_freq > 0 and self.n_eval_episodes < 1 and not self.optimize_hyperparameters:
            raise CommandError(f"--eval-episodes: found {self.n_eval_episodes}, expected at least 1, or --eval-freq -1")

    def _maybe_normalize(self, env: VecEnv, eval_env: bool) -> VecEnv:
        if self._robot is not None:
            if not eval_env and self._robot.control_hz is not None and self.frame_stack is not None:
                raise CommandError(
                    "--control-hz: found frame_stack in the hyperparameters, expected none: stack inside, with an "
                    "env_wrapper such as gymnasium.wrappers.FrameStackObservation"
                )
            env = self._robot.set_pace(env, eval_env)
        return super()._maybe_normalize(env, eval_env)

    def _save_config(self, saved_hyperparams: dict[str, Any]) -> None:
        if self._run is None and not self._dry_run:
            super()._save_config(saved_hyperparams)
            save_command(self.params_path, self._command)

    def learn(self, model: BaseAlgorithm) -> None:
        """
        cf ``ExperimentManager``. What ends it early, also Ctrl-C, ends the command after the training state is saved; the Zoo
        would go on as if the run were complete.
        """
        if self._run is None:
            self._print_notes(model)
        if self._dry_run:
            if self.algo in ALGORITHMS:
                model.check_options_for_learning()  # type: ignore[attr-defined]
            assert model.env is not None
            model.env.close()
            where = "The run would go on in" if self._run is not None else "The run's folder would be"
            print(f"Dry run: nothing was trained or written. {where} {self.save_path}")
            return
        if self.algo not in ALGORITHMS:
            super().learn(model)
            return
        if self._run is not None and model.num_timesteps >= self.n_timesteps:
            print(f"Nothing is left to do: the run has {model.num_timesteps:,} steps, and -n counts all, also those before")
        # -1: as the algorithm has it, below: none
        given = self.log_interval if self.log_interval >= 0 else None
        interval = {} if self.log_interval == -1 else {"log_interval": given}
        try:
            model.learn(self.n_timesteps, callback=self.callbacks, **interval)  # type: ignore[arg-type]
        except BaseException as error:
            line = how_to_go_on(self.save_path)
            if isinstance(error, Interrupted):
                if error.signum == signal.SIGINT:
                    self.save_trained_model(model)
                raise EndedRunError(f"{error}; {line}", error.signum) from error
            # Options that are refused before the first step have their own sentence
            if model.num_timesteps > 0 or not isinstance(error, DemonstrationsError):
                print(f"sb3-pgfd train: {type(error).__name__} ended the run; {line}", file=sys.stderr)
            raise
        finally:
            for callback in self.callbacks:
                if isinstance(callback, ProgressBarCallback) and hasattr(callback, "pbar"):
                    callback.on_training_end()
            assert model.env is not None
            model.env.close()

    def _print_notes(self, model: BaseAlgorithm) -> None:
        """Print what nobody can see from the options alone, and what makes a run useless."""
        # Not from the environments: other processes cannot send every spec
        env_id = gym.spec(self.env_name.gym_id).id
        if time_limit(env_id, self.env_kwargs) is None and self._inner_wrapper is None:
            print(
                f"Note: {env_id} has no max_episode_steps. If it does not end its episodes itself, evaluations never end: "
                "give it to gym.register, or as --env-kwargs max_episode_steps:1000"
            )
        if self.eval_freq * self.n_envs > self.n_timesteps:
            what = "nothing" if self.continue_training else "only the policy before them"
            every, steps = self.eval_freq * self.n_envs, self.n_timesteps
            print(f"Note: --eval-freq: found {every:,}, and this run has {steps:,} steps: {what} is evaluated")
        n_warm = getattr(model, "n_warmup_steps_left", 0)
        if n_warm >= self.n_timesteps:
            print(
                f"Note: critic_warmup_steps: the actor only clones for {n_warm:,} steps, and this run has {self.n_timesteps:,}"
            )

    def save_trained_model(self, model: BaseAlgorithm) -> None:
        if self._dry_run:
            return
        normalize, self.normalize = self.normalize, False
        super().save_trained_model(model)
        self.normalize = normalize
        # Not the Zoo's, which a kill can leave in half
        SaveNormalization.write(model, Path(self.params_path, "vecnormalize.pkl"))
        # The model is safe by now, whatever happens to the rest
        summary = summarize_run(model, self._evaluation)
        write_summary(summary, self.save_path)
        print(summary)
        try:
            print(f"Picture of the run: {plot_run(self.save_path)}")
        except ImportError as error:
            print(f"No picture of the run: {error}")
