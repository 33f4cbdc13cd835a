"""The RL Zoo's experiment manager, with our hyperparameters, a log of every metric and a picture of the run."""

from typing import Any

from rl_zoo3.exp_manager import ExperimentManager
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import EvalCallback

from sb3_pgfd.callbacks import EvaluateFirst, ProgressLog
from sb3_pgfd.common.resources import hyperparams_file
from sb3_pgfd.plotting import plot_run
from sb3_pgfd.zoo.registration import ALGORITHMS

# Options of our algorithms that may be a schedule, which the Zoo spells "lin_1e-3"
_SCHEDULES = ("actor_learning_rate", "importance_exponent")


class PgfdExperimentManager(ExperimentManager):
    """
    Differs from the Zoo's in four points: the hyperparameters of our algorithms come from this package unless a file is
    named; ``progress.csv`` in the run's folder holds every logged metric; evaluation begins before the first step, so
    that the pretrained policy is on the curve; ``run.png`` shows the run.
    """

    def __init__(self, args: Any, algo: str, *positional: Any, **kwargs: Any):
        if kwargs.get("config") is None and algo in ALGORITHMS:
            kwargs["config"] = str(hyperparams_file(algo))
        super().__init__(args, algo, *positional, **kwargs)

    @staticmethod
    def _preprocess_schedules(hyperparams: dict[str, Any]) -> dict[str, Any]:
        hyperparams = ExperimentManager._preprocess_schedules(hyperparams)
        for name in _SCHEDULES:
            if isinstance(hyperparams.get(name), str):
                hyperparams[name] = ExperimentManager._preprocess_schedules({"learning_rate": hyperparams[name]})[
                    "learning_rate"
                ]
        return hyperparams

    def create_callbacks(self) -> None:
        super().create_callbacks()
        if self.optimize_hyperparameters:
            return
        self.callbacks.append(ProgressLog(self.save_path))
        if not self.continue_training:
            evaluations = [callback for callback in self.callbacks if isinstance(callback, EvalCallback)]
            self.callbacks.extend(EvaluateFirst(callback) for callback in evaluations)

    def save_trained_model(self, model: BaseAlgorithm) -> None:
        super().save_trained_model(model)
        # The model is safe by now, whatever happens to the picture
        try:
            print(f"Picture of the run: {plot_run(self.save_path)}")
        except ImportError as error:
            print(f"No picture of the run: {error}")
