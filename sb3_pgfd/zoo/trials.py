"""What a trial of ``-optimize`` says while it runs, and its time limit."""

import time
from typing import Any

import optuna
from rl_zoo3.callbacks import TrialEvalCallback
from stable_baselines3.common.callbacks import BaseCallback


class TrialEvaluation(TrialEvalCallback):
    """
    The Zoo's evaluation of a trial. It prints a line for each.

    :param n_timesteps: Steps of the trial
    :param says_progress: Whether to print
    :param options: Arguments of the Zoo's class
    """

    def __init__(self, *args: Any, n_timesteps: int, says_progress: bool, **options: Any):
        super().__init__(*args, **options)
        self.n_timesteps, self.says_progress, self.start = n_timesteps, says_progress, time.monotonic()

    def _on_step(self) -> bool:
        n_before = self.eval_idx
        go_on = super()._on_step()
        if self.eval_idx > n_before and self.says_progress:
            steps = f"{self.num_timesteps:,} of {self.n_timesteps:,} steps"
            result = f"mean return {self.last_mean_reward:.4g}{', pruned' if self.is_pruned else ''}"
            print(f"Trial {self.trial.number}: {steps}, {result}, {time.monotonic() - self.start:.0f} s", flush=True)
        return go_on


class TrialTimeLimit(BaseCallback):
    """
    Prunes a trial that takes too long, at its next step or its next update of pretraining.

    :param trial: The trial, which begins now
    :param seconds: What it may take
    """

    def __init__(self, trial: optuna.Trial, seconds: float):
        super().__init__()
        self.trial, self.seconds, self.start = trial, seconds, time.monotonic()

    def between_steps(self) -> None:
        """
        Called by the models of this package, in pretraining too.

        :raises optuna.TrialPruned: If the time is up
        """
        if time.monotonic() - self.start > self.seconds:
            reason = f"it took more than {self.seconds:g} s (--trial-timeout)"
            print(f"Trial {self.trial.number} stopped: {reason}", flush=True)
            self.trial.set_user_attr("error", reason)
            raise optuna.TrialPruned(reason)

    def _on_step(self) -> bool:
        self.between_steps()
        return True
