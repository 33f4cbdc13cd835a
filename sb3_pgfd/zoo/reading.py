"""What the entries of a yaml mean: numbers, demonstrations, classes, arguments of the environment."""

import os
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rl_zoo3.exp_manager
from gymnasium import spaces
from rl_zoo3.exp_manager import ExperimentManager
from rl_zoo3.utils import get_class_by_name, get_saved_hyperparams
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from sb3_pgfd.zoo.demonstrations import load_demonstrations, resolve_demonstrations
from sb3_pgfd.zoo.hyperparameters import with_numbers, with_schedules
from sb3_pgfd.zoo.registration import ALGORITHMS
from sb3_pgfd.zoo.saved_models import saved_with


class ReadingManager(ExperimentManager):
    """
    The Zoo's manager, but for what it makes of hyperparameters: ``1e-3`` is a number; demonstrations are relative to the
    yaml that names them; ``replay_buffer_class`` and, in ``policy_kwargs``, ``features_extractor_class`` may be any class, by
    its dotted path; evaluation has the ``env_kwargs`` of the yaml too; Dict observations get a policy that takes them.

    :raises DemonstrationsError: If there are no such demonstrations, before any folder is made
    """

    def read_hyperparameters(self) -> tuple[dict[str, Any], dict[str, Any]]:
        hyperparams: dict[str, Any] = with_numbers(super().read_hyperparameters()[0])
        if self.continue_training and self.algo in ALGORITHMS and "demonstrations" not in hyperparams:
            hyperparams.update(self._demonstrations_of_trained_agent())
        if "demonstrations" in hyperparams:
            hyperparams["demonstrations"] = self._resolve(hyperparams["demonstrations"], "demonstrations")
        buffer: Any = hyperparams.get("replay_buffer_kwargs") or {}
        # The Zoo's way to write a mapping, in the names that it knows
        if isinstance(buffer, str) and "demonstrations" in buffer:
            buffer = eval(buffer, vars(rl_zoo3.exp_manager))
        if "demonstrations" in buffer:
            resolved = self._resolve(buffer["demonstrations"], "replay_buffer_kwargs")
            hyperparams["replay_buffer_kwargs"] = {**buffer, "demonstrations": resolved}
        return hyperparams, OrderedDict(sorted(hyperparams.items()))

    def _resolve(self, named: Any, option: str) -> Any:
        """:return: What ``option`` of the yaml or of ``-params`` names, in a way that holds in every folder"""
        if option in (self.custom_hyperparams or {}):
            return resolve_demonstrations(named, [Path.cwd()], "-params")
        # Unless it is a Python package
        file = Path(self.config).resolve()
        folders = [file.parent, Path.cwd()] if file.is_file() else [Path.cwd()]
        return resolve_demonstrations(named, list(dict.fromkeys(folders)), self.config)

    def _demonstrations_of_trained_agent(self) -> dict[str, Any]:
        """What the run that is continued learned from, unless its replay buffer holds it."""
        folder = os.path.dirname(self.trained_agent)
        buffers = [saved_with(self.trained_agent, "replay_buffer"), Path(folder, "replay_buffer.pkl")]
        hyperparams, _ = get_saved_hyperparams(os.path.join(folder, self.env_name))
        if any(buffer.is_file() for buffer in buffers) or hyperparams.get("demonstrations") is None:
            return {}
        return {"demonstrations": hyperparams["demonstrations"]}

    @staticmethod
    def _preprocess_schedules(hyperparams: dict[str, Any]) -> dict[str, Any]:
        return with_schedules(hyperparams)

    def _preprocess_hyperparams(
        self, hyperparams: dict[str, Any]
    ) -> tuple[dict[str, Any], Callable | None, list[BaseCallback], Callable | None]:
        buffer_class = hyperparams.get("replay_buffer_class")
        if isinstance(buffer_class, str) and "." in buffer_class:
            hyperparams["replay_buffer_class"] = get_class_by_name(buffer_class)
        processed, env_wrapper, callbacks, vec_env_wrapper = super()._preprocess_hyperparams(hyperparams)
        if "demonstrations" in processed:
            processed["demonstrations"] = load_demonstrations(processed["demonstrations"])
        buffer = processed.get("replay_buffer_kwargs") or {}
        # A path stays one: SB3 saves these with the model
        if isinstance(buffer.get("demonstrations"), dict):
            processed["replay_buffer_kwargs"] = {**buffer, "demonstrations": load_demonstrations(buffer["demonstrations"])}
        policy = processed.get("policy_kwargs") or {}
        if isinstance(policy.get("features_extractor_class"), str):
            extractor = get_class_by_name(policy["features_extractor_class"])
            processed["policy_kwargs"] = {**policy, "features_extractor_class": extractor}
        # The Zoo leaves evaluation without those of the yaml
        if not self._eval_env_kwargs_args:
            self.eval_env_kwargs = self.env_kwargs
        return processed, env_wrapper, callbacks, vec_env_wrapper

    def _preprocess_action_noise(
        self, hyperparams: dict[str, Any], saved_hyperparams: dict[str, Any], env: VecEnv
    ) -> dict[str, Any]:
        # The default entry is for any environment, and no MlpPolicy takes a Dict
        if hyperparams.get("policy") == "MlpPolicy" and isinstance(env.observation_space, spaces.Dict):
            print("Using MultiInputPolicy instead of MlpPolicy, as the observations are a Dict")
            hyperparams["policy"] = saved_hyperparams["policy"] = "MultiInputPolicy"
        processed: dict[str, Any] = super()._preprocess_action_noise(hyperparams, saved_hyperparams, env)
        return processed
