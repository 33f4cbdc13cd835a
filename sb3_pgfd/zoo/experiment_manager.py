"""The RL Zoo's experiment manager, with our hyperparameters, and runs that tell more and can be continued."""

from argparse import Namespace
from collections.abc import Callable
from functools import partial
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, CheckpointCallback, EvalCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from sb3_pgfd.callbacks import (
    Checkpoints,
    EvaluateFirst,
    ProgressLog,
    RunFigure,
    SaveNormalization,
    summarize_run,
    write_summary,
)
from sb3_pgfd.plotting import plot_run
from sb3_pgfd.utils.files import hyperparams_file
from sb3_pgfd.zoo.reading import ReadingManager
from sb3_pgfd.zoo.registration import ALGORITHMS
from sb3_pgfd.zoo.saved_models import saved_with
from sb3_pgfd.zoo.success_monitor import monitor_successes
from sb3_pgfd.zoo.tuning import TuningManager


class PgfdExperimentManager(TuningManager, ReadingManager):
    """
    Besides how it reads hyperparameters and how it tunes them, it differs from the Zoo's in this:

    * The hyperparameters of our algorithms come from this package unless a file is named.
    * The run's folder has ``progress.csv`` with every logged metric, ``summary.json``, which compares the agent with its
      demonstrations, and ``run.png``; with a TensorBoard log, the picture is there too. ``monitor.csv`` tells successes if
      the environment does.
    * Evaluation begins before the first step, so that the pretrained policy is on the curve.
    * The best model and each checkpoint have their own statistics of ``VecNormalize`` beside them, the newest checkpoint its
      replay buffer too if buffers are saved, and who goes on from them has them.
    """

    def __init__(self, args: Any, algo: str, *positional: Any, **kwargs: Any):
        if kwargs.get("config") is None and algo in ALGORITHMS:
            kwargs["config"] = str(hyperparams_file(algo))
        super().__init__(args, algo, *positional, **kwargs)
        self._evaluation: EvalCallback | None = None

    def _preprocess_hyperparams(
        self, hyperparams: dict[str, Any]
    ) -> tuple[dict[str, Any], Callable | None, list[BaseCallback], Callable | None]:
        processed, env_wrapper, callbacks, vec_env_wrapper = super()._preprocess_hyperparams(hyperparams)
        # Who names columns for the monitor knows the environment
        if not self.monitor_kwargs:
            env_wrapper = partial(monitor_successes, then=env_wrapper)
        return processed, env_wrapper, callbacks, vec_env_wrapper

    def create_callbacks(self) -> None:
        n_specified = len(self.callbacks)
        super().create_callbacks()
        if self.optimize_hyperparameters:
            return
        self.callbacks[n_specified:] = [self._extend(callback) for callback in self.callbacks[n_specified:]]
        self.callbacks.append(ProgressLog(self.save_path))
        if self._evaluation is not None and not self.continue_training:
            self.callbacks.append(EvaluateFirst(self._evaluation))
        if self.tensorboard_log is not None:
            self.callbacks.append(RunFigure(self.save_path))

    def _extend(self, callback: BaseCallback) -> BaseCallback:
        """:return: One of the Zoo's own callbacks as we want it"""
        if isinstance(callback, CheckpointCallback):
            buffers = self.save_replay_buffer
            return Checkpoints(self.save_freq, self.save_path, save_replay_buffer=buffers, save_vecnormalize=True, verbose=1)
        if isinstance(callback, EvalCallback):
            self._evaluation = callback
            of_best = SaveNormalization(saved_with(f"{self.save_path}/best_model.zip", "vecnormalize"))
            # Besides the Zoo's, which keeps the newest statistics of all
            newest = callback.callback_on_new_best
            callback.callback_on_new_best = CallbackList([of_best] if newest is None else [newest, of_best])
        return callback

    def _maybe_normalize(self, env: VecEnv, eval_env: bool) -> VecEnv:
        own = saved_with(self.trained_agent, "vecnormalize")
        if not (self.continue_training and own.is_file()):
            return super()._maybe_normalize(env, eval_env)
        print(f"Loading the statistics of VecNormalize from {own}")
        normalize = VecNormalize.load(str(own), env)
        normalize.training = not eval_env
        normalize.norm_reward = normalize.norm_reward and not eval_env
        return normalize

    def _load_pretrained_agent(self, hyperparams: dict[str, Any], env: VecEnv) -> BaseAlgorithm:
        model = super()._load_pretrained_agent(hyperparams, env)
        own = saved_with(self.trained_agent, "replay_buffer")
        if own.is_file() and isinstance(model, OffPolicyAlgorithm):
            print(f"Loading the replay buffer from {own}")
            model.load_replay_buffer(own, truncate_last_traj=self.truncate_last_trajectory)
        return model

    def _save_config(self, saved_hyperparams: dict[str, Any]) -> None:
        # Not all of the Zoo's commands look for the environment's arguments elsewhere
        self.args = Namespace(**{**vars(self.args), "env_kwargs": self.env_kwargs or None})
        # A plain mapping, which any reader of YAML takes
        super()._save_config(dict(saved_hyperparams))

    def save_trained_model(self, model: BaseAlgorithm) -> None:
        super().save_trained_model(model)
        # The model is safe by now, whatever happens to the rest
        summary = summarize_run(model, self._evaluation)
        write_summary(summary, self.save_path)
        print(summary)
        try:
            print(f"Picture of the run: {plot_run(self.save_path)}")
        except ImportError as error:
            print(f"No picture of the run: {error}")
