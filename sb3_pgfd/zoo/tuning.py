"""
Tuning with the RL Zoo: what a trial is, and how it comes back with ``--trial-id``.

A trial reads its hyperparameters as a run with ``--trial-id`` does: those of the entry, then the trial's, then those of
``-params``. So the run has what the trial had. What ``-params`` gives is not searched.
"""

from collections import OrderedDict
from collections.abc import Mapping
from contextlib import closing
from copy import copy, deepcopy
from pathlib import Path
from pprint import pprint
from typing import Any

import optuna
from optuna.trial import TrialState
from rl_zoo3.callbacks import TrialEvalCallback
from rl_zoo3.exp_manager import ExperimentManager
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from sb3_pgfd.zoo.errors import CommandError
from sb3_pgfd.zoo.hyperparams_opt import CONVERTERS, SAMPLERS
from sb3_pgfd.zoo.registration import ALGORITHMS
from sb3_pgfd.zoo.trial_sampler import SeededByTrial

# What a configuration can bring about: numbers that are not finite, too large a batch for the memory, and an environment
# that breaks down in its process
_ENDS_A_TRIAL = (AssertionError, ValueError, ArithmeticError, RuntimeError, EOFError, ConnectionError)


class TuningManager(ExperimentManager):
    """
    The Zoo's manager, but for the trials of our algorithms and for ``--trial-id``, which may be 0.

    :raises CommandError: If a trial is named without the study that it is in
    """

    def __init__(self, args: Any, algo: str, *positional: Any, **kwargs: Any):
        super().__init__(args, algo, *positional, **kwargs)
        if self.trial_id is not None and not (self.storage and self.study_name):
            raise CommandError(
                f"--trial-id {self.trial_id}: found --storage {self.storage} and --study-name {self.study_name}, "
                "expected both: name the study that the trial is in"
            )
        self._untuned: dict[str, Any] = {}
        self._study: optuna.Study | None = None

    def read_hyperparameters(self) -> tuple[dict[str, Any], dict[str, Any]]:
        # The Zoo takes trial 0 for none, and a trial's policy_kwargs for all there are
        trial_id, self.trial_id = self.trial_id, None
        hyperparams, saved = super().read_hyperparameters()
        self.trial_id = trial_id
        if trial_id is not None:
            trial = self._load_trial(trial_id)
            print(f"Hyperparameters of trial {trial_id} of {self.study_name}:")
            pprint(trial)
            hyperparams = self._tuned(hyperparams, trial)
            saved = OrderedDict(sorted(hyperparams.items()))
        self._untuned = deepcopy(hyperparams)
        return hyperparams, saved

    def _load_trial(self, trial_id: int) -> dict[str, Any]:
        """:raises CommandError: If there is no such trial"""
        assert self.storage is not None
        assert self.study_name is not None
        # Optuna would make an empty one
        file = self.storage.removeprefix("sqlite:///")
        if (file != self.storage or file.endswith(".log")) and not Path(file).is_file():
            raise CommandError(f"--storage: found no file {file}, expected the one that the study was written to")
        try:
            if trial_id < 0:
                raise IndexError(trial_id)
            return self.load_trial(self.storage, self.study_name, trial_id)
        except (IndexError, KeyError) as error:
            raise CommandError(
                f"--trial-id: found no trial {trial_id} of the study {self.study_name!r} in {self.storage}, expected one: "
                "trials are numbered from 0, look them up in the report of the study"
            ) from error

    def _tuned(self, hyperparams: Mapping[str, Any], trial: Mapping[str, Any]) -> dict[str, Any]:
        """
        :param hyperparams: Of the entry and ``-params``
        :param trial: Those that a trial has
        :return: All, of which ``-params`` count most
        """
        given = self.custom_hyperparams or {}
        trial = {name: value for name, value in trial.items() if name not in given}
        if "policy_kwargs" in trial and self.algo in ALGORITHMS:
            trial["policy_kwargs"] = _joined(hyperparams.get("policy_kwargs"), trial["policy_kwargs"])
        return {**hyperparams, **trial}

    def _create_sampler(self, sampler_method: str) -> optuna.samplers.BaseSampler:
        if sampler_method not in SeededByTrial.METHODS:
            return super()._create_sampler(sampler_method)
        return SeededByTrial(sampler_method, self.seed, self.n_startup_trials)

    def hyperparameters_optimization(self) -> None:
        if self.algo in ALGORITHMS:
            # What is wrong with all trials is an error at once: a file that is not there, a space that does not fit
            with closing(self.create_envs(self.n_envs, no_log=True)) as env:
                ALGORITHMS[self.algo](env=env, device=self.device, **self._hyperparams)
        try:
            super().hyperparameters_optimization()
        except ValueError as error:
            if self._study is None or self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
                raise
            errors = [trial.user_attrs["error"] for trial in self._study.trials if "error" in trial.user_attrs]
            raise CommandError(
                f"-optimize: found {len(self._study.trials)} trials, all of them pruned or failed, expected one to finish. "
                f"{f'{len(errors)} stopped with an error, the last one: {errors[-1]}' if errors else 'Try --pruner none'}"
            ) from error

    def objective(self, trial: optuna.Trial) -> float:
        if self.algo not in ALGORITHMS:
            return super().objective(trial)
        self._study = trial.study
        # What a trial changes is its own, also with several threads
        manager = copy(self)
        return manager._run_trial(trial)

    def _run_trial(self, trial: optuna.Trial) -> float:
        # The Zoo keeps the output clean with only the trial's results, unless in debug mode
        self.verbose = self.verbose if self.verbose >= 2 else 0
        sampled = self._sample(trial)
        try:
            with closing(self.create_envs(self.n_eval_envs, eval_env=True)) as eval_env:
                evaluation = self._make_evaluation(trial, eval_env)
                hyperparams, callbacks = self._read_trial(sampled, eval_env)
                with closing(self.create_envs(self.n_envs, no_log=True)) as env:
                    model = ALGORITHMS[self.algo](
                        env=env, tensorboard_log=None, seed=None, verbose=self.verbose, device=self.device, **hyperparams
                    )
                    model.learn(self.n_timesteps, callback=[*callbacks, evaluation])
        except _ENDS_A_TRIAL as error:
            print(f"Trial {trial.number} stopped: {error}\nSampled hyperparams:")
            pprint(sampled)
            trial.set_user_attr("error", str(error))
            raise optuna.TrialPruned(str(error)) from error
        if evaluation.is_pruned:
            raise optuna.TrialPruned
        return float(evaluation.last_mean_reward)

    def _sample(self, trial: optuna.Trial) -> dict[str, Any]:
        """:return: What an entry of the yaml would hold, as ``--trial-id`` will find it"""
        told = {
            "given": self.custom_hyperparams or {},
            "has_demonstrations": self._untuned.get("demonstrations") is not None,
        }
        SAMPLERS[self.algo](trial, self.n_actions, self.n_envs, told)
        return CONVERTERS[self.algo](trial.params)

    def _read_trial(self, sampled: Mapping[str, Any], env: VecEnv) -> tuple[dict[str, Any], list[BaseCallback]]:
        """
        :param sampled: What the trial has sampled
        :param env: Any environment of this kind
        :return: Arguments of the constructor, and the callbacks of the entry
        """
        # The Zoo writes the trial's gamma into this one
        self.normalize_kwargs = {}
        unprocessed = self._tuned(deepcopy(self._untuned), sampled)
        hyperparams, _, callbacks, _ = self._preprocess_hyperparams(unprocessed)
        return self._preprocess_action_noise(hyperparams, {}, env), callbacks

    def _make_evaluation(self, trial: optuna.Trial, eval_env: VecEnv) -> "TrialEvaluation":
        folder = self.optimization_log_path and str(Path(self.optimization_log_path) / f"trial_{trial.number}")
        return TrialEvaluation(
            eval_env,
            trial,
            best_model_save_path=folder,
            log_path=folder,
            n_eval_episodes=self.n_eval_episodes,
            eval_freq=max(int(self.n_timesteps / self.n_evaluations) // self.n_envs, 1),
            deterministic=self.deterministic_eval,
        )


class TrialEvaluation(TrialEvalCallback):
    """
    The Zoo's evaluation of a trial, which stops one that has diverged: an environment may clip actions that are NaN, and a
    return that is NaN would be a failure, not a bad trial.
    """

    def _on_step(self) -> bool:
        if self.n_calls % self.eval_freq == 0 and not all(
            bool(parameter.isfinite().all()) for parameter in self.model.policy.parameters()
        ):
            raise ValueError(f"found parameters that are not finite after {self.num_timesteps} steps: learning has diverged")
        return super()._on_step()


def _joined(entry: Any, trial: dict[str, Any]) -> Any:
    """
    :param entry: An entry's ``policy_kwargs``: a dict, the Zoo's text for one, or None
    :param trial: A trial's
    :return: Both, of which the trial's count
    """
    # Text is evaluated by the Zoo, which knows the names that may be in it
    return f"{{**{entry}, **{trial!r}}}" if isinstance(entry, str) else {**(entry or {}), **trial}
