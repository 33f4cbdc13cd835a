"""The RL Zoo's experiment manager with this package's hyperparameters, search, and files of a run."""

import itertools
import signal
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from copy import copy, deepcopy
from functools import partial
from pathlib import Path
from pprint import pprint
from typing import Any

import gymnasium as gym
import optuna
from gymnasium import spaces
from optuna.trial import TrialState
from rl_zoo3.exp_manager import ExperimentManager
from rl_zoo3.utils import get_class_by_name
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import (
    BaseCallback,
    CallbackList,
    CheckpointCallback,
    EvalCallback,
    ProgressBarCallback,
)
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv, VecNormalize

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
from sb3_pgfd.plotting import plot_run
from sb3_pgfd.utils.files import hyperparams_file
from sb3_pgfd.utils.run_folders import require_trust
from sb3_pgfd.wrappers import monitor_successes
from sb3_pgfd.zoo import ALGORITHMS
from sb3_pgfd.zoo.agents import pickles_of, read_run, saved_with
from sb3_pgfd.zoo.beside_the_robot import BesideTheRobot
from sb3_pgfd.zoo.command_line import CommandError, EndedRunError
from sb3_pgfd.zoo.explanation import Layer, entry_name, explain, heading, of_command, table
from sb3_pgfd.zoo.hyperparameters import (
    as_mapping,
    check_config,
    check_names,
    flatten,
    load_demonstrations,
    merge,
    resolve_demonstrations,
    stacked,
    vec_env_class,
    with_numbers,
    with_schedules,
)
from sb3_pgfd.zoo.hyperparams_opt import CONVERTERS, SAMPLERS
from sb3_pgfd.zoo.resuming import STATE, Run, how_to_go_on, log_sizes, make_run_folder, save_command
from sb3_pgfd.zoo.study import Database, open_database, try_again
from sb3_pgfd.zoo.trials import TrialEvaluation, TrialTimeLimit

# What bad hyperparameters can cause: numbers that are not finite, a batch too large for the memory, an environment that
# breaks down in its process. A wrong keyword (TypeError) is wrong in every trial
_ENDS_A_TRIAL = (AssertionError, ValueError, ArithmeticError, RuntimeError, EOFError, ConnectionError)


_NOT_CONTINUED = (
    "-i begins a new run with the networks and optimisers of a model, and its statistics and buffer if they were saved. It "
    "does not restore the step counter, schedules, random numbers, the best score and the log; --resume RUN_FOLDER does"
)


def _resumable(env: gym.Env, then: Callable[[gym.Env], gym.Env] | None) -> gym.Env:
    return Resumable(env if then is None else then(env))


class PgfdExperimentManager(ExperimentManager):
    """
    The Zoo's manager with these differences, see docs/zoo.md:

    * Hyperparameters: paths of demonstrations are relative to the yaml that names them. Classes may be named by their dotted
      path. ``-params`` and trials change single options of nested mappings. Unknown names are refused.
    * Search: a trial begins with the entry, and options of ``-params`` are not searched, nor the entry's ``pretrain_steps``.
      A trial may have a time limit, and says what it does.
    * A run's folder has ``progress.csv``, ``summary.json`` and ``run.png``. Evaluation begins before the first step.
    * The training state is saved, and ``run`` goes on from it. Two runs never share a folder.
    * The best model and each checkpoint have their own statistics of ``VecNormalize`` and, if buffers are saved, the newest
      checkpoint its replay buffer. A run that continues from them uses these.

    :param trust: Whether to load the files of another user, to continue from them
    :param trial_timeout: Seconds that a trial may take; None: no limit
    :param run: That goes on; None: a new one
    :param command: Arguments of the command, to go on later
    :param robot: Who takes over, and how fast the environment steps; None: nobody, and it waits for the learner
    :param vec_env: Kind of parallel environments, in place of the entry's
    :param dry_run: Whether to stop before the first step, without writing anything
    :param explains: Whether to print every value that is used, and where it came from
    :raises CommandError: If a trial is named without its study
    :raises UntrustedFileError: If it is to continue from another user's files, which are not trusted
    """

    def __init__(
        self,
        args: Any,
        algo: str,
        *positional: Any,
        trust: bool = False,
        trial_timeout: float | None = None,
        run: Run | None = None,
        command: Sequence[str] = (),
        robot: BesideTheRobot | None = None,
        vec_env: str | None = None,
        dry_run: bool = False,
        explains: bool = False,
        **kwargs: Any,
    ):
        if kwargs.get("config") is None and algo in ALGORITHMS:
            kwargs["config"] = str(hyperparams_file(algo))
        super().__init__(args, algo, *positional, **kwargs)
        self._trial_timeout, self._trial_numbers = trial_timeout, itertools.count(1)
        if self.continue_training:
            folder, own = Path(self.trained_agent).parent, saved_with(self.trained_agent, "replay_buffer")
            pickles = pickles_of(self.trained_agent, folder / self.env_name)
            require_trust([*pickles, own, folder / "replay_buffer.pkl"], trust)
        if self.trial_id is not None and not (self.storage and self.study_name):
            found = f"found --storage {self.storage} and --study-name {self.study_name}"
            raise CommandError(f"--trial-id {self.trial_id}: {found}, expected both: name the study that the trial is in")
        # Read here and not by the Zoo, which takes trial 0 for none and replaces whole mappings
        self._trial_to_train, self.trial_id = self.trial_id, None
        self._given, self.custom_hyperparams = self.custom_hyperparams or {}, None
        self._vec_env = vec_env
        if vec_env is not None:
            self._given = {**self._given, "vec_env": vec_env}
        self._entry: dict[str, Any] = {}
        self._study: optuna.Study | None = None
        self._evaluation: EvalCallback | None = None
        self._state: SaveTrainingState | None = None
        self._run, self._command = run, list(command)
        self._robot = None if robot is None or robot.changes_nothing else robot
        if self._robot is not None and (self.optimize_hyperparameters or algo not in ALGORITHMS):
            found = "-optimize" if self.optimize_hyperparameters else f"--algo {algo}"
            raise CommandError(f"--intervene, --control-hz: found {found}, expected one run of {', '.join(ALGORITHMS)}")
        self._inner_wrapper: Callable[[gym.Env], gym.Env] | None = None
        self._dry_run, self._explains = dry_run, explains
        self._layers: list[Layer] = []
        self._unprocessed: dict[str, Any] = {}
        if run is not None:
            self.continue_training, self.save_path = True, str(run.folder)
            self.params_path = f"{self.save_path}/{self.env_name}"

    def read_hyperparameters(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """:raises DemonstrationsError, CommandError: If there are no such demonstrations or trial, or a name is unknown"""
        if self._run is not None:
            named = {name: self._given[name] for name in ("vec_env",) if name in self._given}
            hyperparams = {**named, **self._run.hyperparams}
            self._layers, self._unprocessed = [Layer(f"{self._run.folder}, config.yml", hyperparams)], deepcopy(hyperparams)
            return hyperparams, dict(hyperparams)
        check_config(self.config, self.env_name.gym_id, may_be_atari=self._is_atari)
        self._entry = with_numbers(super().read_hyperparameters()[0])
        trial = {} if self._trial_to_train is None else self._load_trial(self._trial_to_train)
        changed = [Layer(f"trial {self._trial_to_train} of {self.study_name}", trial), Layer("-params", self._given)]
        self._layers = [Layer(entry_name(self.config, self.env_name.gym_id, self._is_atari), self._entry), *changed]
        for origin, changes in changed:
            if changes:
                print(f"Hyperparameters of {origin}:")
                pprint(changes)
        hyperparams = self._with_trial(trial)
        if "n_timesteps" not in hyperparams:
            if self.n_timesteps <= 0:
                raise CommandError(f"{self.config}: found no n_timesteps for {self.env_name.gym_id}, expected it, or -n STEPS")
            # The Zoo wants both
            hyperparams["n_timesteps"] = self.n_timesteps
        if self.algo in ALGORITHMS:
            own = {"policy_kwargs"} if "." in str(hyperparams.get("policy")) else set()
            own |= {"replay_buffer_kwargs"} if hyperparams.get("replay_buffer_class") else set()
            for origin, named in ((self.config, self._entry), ("-params", self._given)):
                check_names(ALGORITHMS[self.algo], named, own, origin)
        self._unprocessed = deepcopy(hyperparams)
        # A plain mapping, which any reader of YAML takes
        return hyperparams, dict(sorted(hyperparams.items()))

    def _with_trial(self, trial: Mapping[str, Any]) -> dict[str, Any]:
        """:return: The entry with what a trial has, and with ``-params``, which count most"""
        hyperparams = deepcopy(self._entry)
        for changes in (trial, self._given):
            if "action_noise" in changes:
                # The Zoo would prefer these two
                hyperparams = {name: hyperparams[name] for name in hyperparams.keys() - {"noise_type", "noise_std"}}
            hyperparams = merge(hyperparams, changes) if self.algo in ALGORITHMS else {**hyperparams, **changes}
        if self.continue_training and self.algo in ALGORITHMS and "demonstrations" not in hyperparams:
            folder = Path(self.trained_agent).parent
            buffers = (saved_with(self.trained_agent, "replay_buffer"), folder / "replay_buffer.pkl")
            recorded = read_run(folder / self.env_name)[0].get("demonstrations")
            # A saved replay buffer holds them
            if recorded is not None and not any(buffer.is_file() for buffer in buffers):
                hyperparams["demonstrations"] = recorded
        hyperparams = self._resolve(hyperparams, self._given)
        if hyperparams.get("replay_buffer_kwargs"):
            buffer, given = (as_mapping(options.get("replay_buffer_kwargs")) for options in (hyperparams, self._given))
            hyperparams["replay_buffer_kwargs"] = self._resolve(buffer, given)
        return hyperparams

    def _resolve(self, options: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
        """:return: Options with demonstrations named so that it holds in every folder. ``given`` are those of ``-params``"""
        if "demonstrations" not in options:
            return options
        # The configuration may be a Python package, which has no folder
        folders, file = [Path.cwd()], Path(self.config).resolve()
        if "demonstrations" not in given and file.is_file() and file.parent != Path.cwd():
            folders.insert(0, file.parent)
        origin = "-params" if "demonstrations" in given else self.config
        return {**options, "demonstrations": resolve_demonstrations(options["demonstrations"], folders, origin)}

    _preprocess_schedules = staticmethod(with_schedules)

    def _preprocess_hyperparams(
        self, hyperparams: dict[str, Any]
    ) -> tuple[dict[str, Any], Callable | None, list[BaseCallback], Callable | None]:
        buffer_class = hyperparams.get("replay_buffer_class")
        if isinstance(buffer_class, str) and "." in buffer_class:
            hyperparams["replay_buffer_class"] = get_class_by_name(buffer_class)
        processed, env_wrapper, callbacks, vec_env_wrapper = super()._preprocess_hyperparams(hyperparams)
        if "demonstrations" in processed:
            processed["demonstrations"] = load_demonstrations(processed["demonstrations"])
        if "vec_env" in processed:
            self.vec_env_class = vec_env_class(processed.pop("vec_env"))
        self.vec_env_kwargs = as_mapping(processed.pop("vec_env_kwargs", None))
        # They stay a reference: SB3 saves these options with the model. Our algorithms look at the environment themselves
        buffer = processed.get("replay_buffer_kwargs") or {}
        if self.frame_stack and buffer.get("demonstrations") is not None:
            processed["replay_buffer_kwargs"] = {
                **buffer,
                "demonstrations": stacked(buffer["demonstrations"], self.frame_stack),
            }
        policy = processed.get("policy_kwargs") or {}
        if isinstance(policy.get("features_extractor_class"), str):
            extractor = get_class_by_name(policy["features_extractor_class"])
            processed["policy_kwargs"] = {**policy, "features_extractor_class": extractor}
        # The Zoo leaves evaluation without those of the yaml
        if not self._eval_env_kwargs_args:
            self.eval_env_kwargs = self.env_kwargs
        # For args.yml: not all of the Zoo's commands look for the environment's arguments elsewhere
        self.args = Namespace(**{**vars(self.args), "env_kwargs": self.env_kwargs or None})
        self._inner_wrapper = env_wrapper
        # A user who names columns for the monitor knows the environment
        has_columns = bool(self.monitor_kwargs.keys() - {"override_existing"})
        if not has_columns:
            env_wrapper = partial(monitor_successes, then=env_wrapper)
        if self.vec_env_class is SubprocVecEnv:
            env_wrapper = partial(_resumable, then=env_wrapper)
        if self._run is not None and not self._dry_run:
            self._run.cut_logs()
        # An environment that is made anew goes on with its log, unless it has columns of the user's
        if self._run is not None or (self._is_remote and not has_columns):
            self.monitor_kwargs = {**self.monitor_kwargs, "override_existing": False}
        return processed, env_wrapper, callbacks, vec_env_wrapper

    def _preprocess_action_noise(self, hyperparams: dict[str, Any], saved_hyperparams: dict[str, Any], env: VecEnv) -> Any:
        # The default entry is for any environment, and no MlpPolicy takes a Dict
        if hyperparams.get("policy") == "MlpPolicy" and isinstance(env.observation_space, spaces.Dict):
            print("Using MultiInputPolicy instead of MlpPolicy, as the observations are a Dict")
            hyperparams["policy"] = saved_hyperparams["policy"] = "MultiInputPolicy"
        return super()._preprocess_action_noise(hyperparams, saved_hyperparams, env)

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
        cf ``ExperimentManager``. Nobody takes over in evaluations.

        :raises CommandError: If a person cannot take over
        """
        no_log = no_log or self._dry_run
        if self._robot is None or self._robot.device is None or eval_env or self._dry_run:
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

    @property
    def _is_remote(self) -> bool:
        return not issubclass(self.vec_env_class, (DummyVecEnv, SubprocVecEnv))

    def create_log_folder(self) -> None:
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

    def _maybe_normalize(self, env: VecEnv, eval_env: bool) -> VecEnv:
        if self._robot is not None and not eval_env:
            if self._robot.control_hz is not None and self.frame_stack is not None:
                raise CommandError(
                    "--control-hz: found frame_stack in the hyperparameters, expected none: stack inside, with an "
                    "env_wrapper such as gymnasium.wrappers.FrameStackObservation"
                )
            env = self._robot.set_pace(env)
        own = saved_with(self.trained_agent, "vecnormalize")
        if not (self.continue_training and own.is_file()):
            return super()._maybe_normalize(env, eval_env)
        print(f"Loading the statistics of VecNormalize from {own}")
        normalize = VecNormalize.load(str(own), env)
        normalize.training = not eval_env
        normalize.norm_reward = normalize.norm_reward and not eval_env
        return normalize

    def _load_pretrained_agent(self, hyperparams: dict[str, Any], env: VecEnv) -> BaseAlgorithm:
        if self._run is not None:
            print(f"Going on after {self._run.manifest['num_timesteps']} steps: {self._run.set}")
            model = ALGORITHMS[self.algo].resume(self._run.set, env, self.device)
            model.verbose, model.tensorboard_log = self.verbose, self.tensorboard_log
            return model
        print(_NOT_CONTINUED)
        model = super()._load_pretrained_agent(hyperparams, env)
        own = saved_with(self.trained_agent, "replay_buffer")
        if own.is_file() and isinstance(model, OffPolicyAlgorithm):
            print(f"Loading the replay buffer from {own}")
            model.load_replay_buffer(own, truncate_last_traj=self.truncate_last_trajectory)
        return model

    def _save_config(self, saved_hyperparams: dict[str, Any]) -> None:
        if self._run is None and not self._dry_run:
            super()._save_config(saved_hyperparams)
            save_command(self.params_path, self._command)

    def learn(self, model: BaseAlgorithm) -> None:
        """
        cf ``ExperimentManager``. What ends it early, also Ctrl-C, ends the command after the training state is saved; the Zoo
        would go on as if the run were complete.
        """
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

    def _load_trial(self, trial_id: int) -> dict[str, Any]:
        """:return: What an entry of the yaml would hold"""
        storage, name = str(self.storage), str(self.study_name)
        file = storage.removeprefix("sqlite:///")
        # Optuna would make an empty file
        if (file != storage or file.endswith(".log")) and not Path(file).is_file():
            raise CommandError(f"--storage: found no file {file}, expected the one that the study was written to")
        try:
            if trial_id < 0:
                raise IndexError(trial_id)
            return self.load_trial(storage, name, trial_id)
        except (IndexError, KeyError) as error:
            found = f"found no trial {trial_id} of the study {name!r} in {storage}"
            raise CommandError(f"--trial-id: {found}, expected a number of its report, which begin with 0") from error

    def _create_sampler(self, sampler_method: str) -> optuna.samplers.BaseSampler:
        # Without a seed: workers that share a study, and a run that continues one, must not try the same again
        if self.storage and sampler_method == "tpe":
            return optuna.samplers.TPESampler(n_startup_trials=self.n_startup_trials, multivariate=True)
        if self.storage and sampler_method == "random":
            return optuna.samplers.RandomSampler()
        return super()._create_sampler(sampler_method)

    def hyperparameters_optimization(self) -> None:
        """:raises CommandError: If no trial has finished"""
        if self.algo in ALGORITHMS:
            # What is wrong with all trials is an error at once, for example demonstrations of another environment
            with closing(self.create_envs(self.n_envs, no_log=True)) as env:
                ALGORITHMS[self.algo](env=env, device=self.device, **self._hyperparams).check_options_for_learning()
        if self.storage and not self.storage.endswith(".log"):
            self.storage = open_database(self.storage)  # type: ignore[assignment]
        try:
            super().hyperparameters_optimization()
            if isinstance(self.storage, Database) and self.max_total_trials is not None and self.study_name:
                study = optuna.load_study(storage=self.storage, study_name=self.study_name)
                try_again(study, self.objective, self.max_total_trials)
        except ValueError as error:
            if self._study is None or self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
                raise
            errors = [trial.user_attrs["error"] for trial in self._study.trials if "error" in trial.user_attrs]
            reason = f"{len(errors)} stopped early, the last one: {errors[-1]}" if errors else "Try --pruner none"
            found = f"found {len(self._study.trials)} trials, all pruned or failed, expected one to finish"
            raise CommandError(f"-optimize: {found}. {reason}") from error

    def objective(self, trial: optuna.Trial) -> float:
        self._study = trial.study
        # What a trial changes is its own, also with several threads
        own, bar = copy(self), ProgressBarCallback() if self.show_progress and self.n_jobs == 1 else None
        callbacks: list[BaseCallback] = [] if bar is None else [bar]
        if self._trial_timeout is not None:
            callbacks.append(TrialTimeLimit(trial, self._trial_timeout))
        if self.verbose >= 1:
            number, total = next(self._trial_numbers), self.n_trials
            if self.max_total_trials is not None:
                number, total = trial.number + 1, self.max_total_trials
            print(f"Trial {trial.number} ({number} of {total}) begins: {self.n_timesteps:,} steps", flush=True)
        try:
            if self.algo in ALGORITHMS:
                return own._run_trial(trial, callbacks)
            specified = self.specified_callbacks or []
            own.specified_callbacks = [*(specified if isinstance(specified, list) else [specified]), *callbacks]
            return super(PgfdExperimentManager, own).objective(trial)
        finally:
            # A trial that stops with an error leaves it open
            if bar is not None and hasattr(bar, "pbar"):
                bar.on_training_end()

    def _run_trial(self, trial: optuna.Trial, callbacks: list[BaseCallback]) -> float:
        # The Zoo keeps the output clean with only the trial's results, unless in debug mode
        says_progress, self.verbose = self.verbose >= 1, self.verbose if self.verbose >= 2 else 0
        entry = self._with_trial({})
        # How long a trial may be is the entry's to say
        given = {**{name: entry[name] for name in ("pretrain_steps",) if name in entry}, **flatten(self._given)}
        told = {"given": given, "has_demonstrations": entry.get("demonstrations") is not None}
        SAMPLERS[self.algo](trial, self.n_actions, self.n_envs, told)
        # As --trial-id will read it
        sampled = CONVERTERS[self.algo](trial.params)
        try:
            with closing(self.create_envs(self.n_eval_envs, eval_env=True)) as eval_env:
                folder = self.optimization_log_path and str(Path(self.optimization_log_path) / f"trial_{trial.number}")
                evaluation = TrialEvaluation(
                    eval_env,
                    trial,
                    n_timesteps=self.n_timesteps,
                    says_progress=says_progress,
                    best_model_save_path=folder,
                    log_path=folder,
                    n_eval_episodes=self.n_eval_episodes,
                    eval_freq=max(int(self.n_timesteps / self.n_evaluations) // self.n_envs, 1),
                    deterministic=self.deterministic_eval,
                )
                # The Zoo writes the trial's gamma into this one
                self.normalize_kwargs = {}
                hyperparams, _, specified, _ = self._preprocess_hyperparams(self._with_trial(sampled))
                hyperparams = self._preprocess_action_noise(hyperparams, {}, eval_env)
                with closing(self.create_envs(self.n_envs, no_log=True)) as env:
                    model = ALGORITHMS[self.algo](
                        env=env, tensorboard_log=None, seed=None, verbose=self.verbose, device=self.device, **hyperparams
                    )
                    model.learn(self.n_timesteps, callback=[*callbacks, *specified, evaluation])
            # An environment may clip actions that are NaN, and a return that is NaN would count as a failure
            if not all(bool(parameter.isfinite().all()) for parameter in model.policy.parameters()):
                raise ValueError("found parameters that are not finite: learning has diverged")
        except _ENDS_A_TRIAL as error:
            print(f"Trial {trial.number} stopped: {error}\nSampled hyperparams:")
            pprint(sampled)
            trial.set_user_attr("error", str(error))
            raise optuna.TrialPruned(str(error)) from error
        if evaluation.is_pruned:
            raise optuna.TrialPruned
        return float(evaluation.last_mean_reward)
