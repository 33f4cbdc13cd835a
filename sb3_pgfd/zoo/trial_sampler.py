"""A sampler for studies that several workers share, or that are gone on with."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState


class SeededByTrial(BaseSampler):
    """
    The Zoo's samplers, seeded for each trial by its number. Seeded once, two workers with the same ``--seed`` would try the
    same twice, and so would a run that goes on with a study.

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
        # Of the trials that are running, several with several threads
        self._samplers: dict[int, BaseSampler] = {}

    def _of(self, trial: FrozenTrial) -> BaseSampler:
        if trial.number not in self._samplers:
            seed = int(np.random.SeedSequence([self.seed, trial.number]).generate_state(1)[0])
            self._samplers[trial.number] = self.METHODS[self.method](seed, self.n_startup_trials)
        return self._samplers[trial.number]

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._of(trial).infer_relative_search_space(study, trial)

    def sample_relative(self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]) -> dict[str, Any]:
        return self._of(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._of(trial).sample_independent(study, trial, param_name, param_distribution)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        self._of(trial).after_trial(study, trial, state, values)
        del self._samplers[trial.number]
