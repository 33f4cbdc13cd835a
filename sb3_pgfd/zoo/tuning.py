"""Parts of a search with ``-optimize``: samplers, evaluation of a trial, reading a trial back."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState
from rl_zoo3.callbacks import TrialEvalCallback
from rl_zoo3.exp_manager import ExperimentManager

from sb3_pgfd.zoo.errors import CommandError

ENDS_A_TRIAL = (AssertionError, ValueError, ArithmeticError, RuntimeError, EOFError, ConnectionError)
"""What bad hyperparameters can cause: numbers that are not finite, a batch too large for the memory, an environment that
breaks down in its process. A wrong keyword (TypeError) is wrong in every trial and ends the search"""


class SeededByTrial(BaseSampler):
    """
    The Zoo's samplers, seeded for each trial by its number. With one seed for all, two workers with the same ``--seed`` would
    try the same twice, and so would a run that continues a study.

    :param method: ``"random"`` or ``"tpe"``
    :param seed: Seed of the study
    :param n_startup_trials: Random trials before those of TPE
    """

    METHODS: ClassVar[dict[str, Callable[[int, int], BaseSampler]]] = {
        "random": lambda seed, _: RandomSampler(seed=seed),
        "tpe": lambda seed, n_startup: TPESampler(n_startup_trials=n_startup, seed=seed, multivariate=True),
    }

    def __init__(self, method: str, seed: int, n_startup_trials: int):
        self.method = method
        self.seed = seed
        self.n_startup_trials = n_startup_trials
        # One for each running trial: several threads may run several
        self._samplers: dict[int, BaseSampler] = {}

    def _of(self, trial: FrozenTrial) -> BaseSampler:
        if trial.number not in self._samplers:
            seed = int(np.random.SeedSequence([self.seed, trial.number]).generate_state(1)[0])
            self._samplers[trial.number] = self.METHODS[self.method](seed, self.n_startup_trials)
        return self._samplers[trial.number]

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._of(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._of(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._of(trial).sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        self._of(trial).after_trial(study, trial, state, values)
        del self._samplers[trial.number]


class TrialEvaluation(TrialEvalCallback):
    """
    The Zoo's evaluation of a trial, which also stops a trial that has diverged. An environment may clip actions that are
    NaN, and a return that is NaN would count as a failure, not as a bad trial.
    """

    def _on_step(self) -> bool:
        if self.n_calls % self.eval_freq == 0 and not all(
            bool(parameter.isfinite().all()) for parameter in self.model.policy.parameters()
        ):
            raise ValueError(f"found parameters that are not finite after {self.num_timesteps} steps: learning has diverged")
        return super()._on_step()


def load_trial(manager: ExperimentManager, trial_id: int) -> dict[str, Any]:
    """
    :param manager: With the ``storage`` and the name of the study
    :param trial_id: Number of the trial
    :return: What an entry of the yaml would hold
    :raises CommandError: If there is no such trial
    """
    # Optuna would make an empty file
    file = manager.storage.removeprefix("sqlite:///")
    if (file != manager.storage or file.endswith(".log")) and not Path(file).is_file():
        raise CommandError(f"--storage: found no file {file}, expected the one that the study was written to")
    try:
        if trial_id < 0:
            raise IndexError(trial_id)
        trial: dict[str, Any] = manager.load_trial(manager.storage, manager.study_name, trial_id)
    except (IndexError, KeyError) as error:
        raise CommandError(
            f"--trial-id: found no trial {trial_id} of the study {manager.study_name!r} in {manager.storage}, expected one: "
            "trials are numbered from 0, look them up in the report of the study"
        ) from error
    return trial


def no_finished_trial(study: optuna.Study) -> CommandError:
    """
    :param study: Whose trials were all pruned or failed
    :return: An error with the last reason
    """
    errors = [trial.user_attrs["error"] for trial in study.trials if "error" in trial.user_attrs]
    reason = f"{len(errors)} stopped with an error, the last one: {errors[-1]}" if errors else "Try --pruner none"
    return CommandError(
        f"-optimize: found {len(study.trials)} trials, all of them pruned or failed, expected one to finish. {reason}"
    )
