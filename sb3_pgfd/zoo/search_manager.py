"""The search for hyperparameters, ``-optimize``."""

import itertools
import signal
from contextlib import closing
from copy import copy
from pathlib import Path
from pprint import pprint
from typing import Any

import optuna
from optuna.trial import TrialState
from stable_baselines3.common.callbacks import BaseCallback, ProgressBarCallback

from sb3_pgfd.zoo import ALGORITHMS
from sb3_pgfd.zoo.command_line import CommandError, EndedRunError
from sb3_pgfd.zoo.entry_manager import EntryManager
from sb3_pgfd.zoo.hyperparameters import flatten
from sb3_pgfd.zoo.hyperparams_opt import CONVERTERS, SAMPLERS
from sb3_pgfd.zoo.study import Database, open_database, try_again
from sb3_pgfd.zoo.trials import TrialEvaluation, TrialTimeLimit

# What bad hyperparameters can cause: numbers that are not finite, a batch too large for the memory, an environment that
# breaks down in its process. A wrong keyword (TypeError) is wrong in every trial
_ENDS_A_TRIAL = (AssertionError, ValueError, ArithmeticError, RuntimeError, EOFError, ConnectionError)


class SearchManager(EntryManager):
    """
    The Zoo's search with this package's hyperparameters. A trial begins with the entry, and options of ``-params`` are not
    searched, nor the entry's ``pretrain_steps``. A trial may have a time limit, and says what it does.

    :param trial_timeout: Seconds that a trial may take; None: no limit
    """

    def __init__(self, args: Any, algo: str, *positional: Any, trial_timeout: float | None = None, **kwargs: Any):
        super().__init__(args, algo, *positional, **kwargs)
        self._trial_timeout, self._trial_numbers = trial_timeout, itertools.count(1)
        self._study: optuna.Study | None = None
        self._is_interrupted = False

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
            if self._is_interrupted:
                raise EndedRunError("-optimize: interrupted before a trial has finished", signal.SIGINT) from error
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
            return super(SearchManager, own).objective(trial)
        except KeyboardInterrupt:
            self._is_interrupted = True
            raise
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
        told = {
            "given": given,
            "of_entry": flatten(entry).keys() & {"log_std_init"},
            "has_demonstrations": entry.get("demonstrations") is not None,
        }
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
