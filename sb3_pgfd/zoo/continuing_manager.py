"""Runs that go on: from a saved model with ``-i``, and exactly with ``--resume``."""

from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from sb3_pgfd.utils.run_folders import require_trust
from sb3_pgfd.utils.warning import OptionWarning, warn_user
from sb3_pgfd.zoo import ALGORITHMS
from sb3_pgfd.zoo.agents import pickles_of, saved_with
from sb3_pgfd.zoo.hyperparameters import as_mapping
from sb3_pgfd.zoo.resuming import Run
from sb3_pgfd.zoo.search_manager import SearchManager

_NOT_CONTINUED = (
    "-i begins a new run with the networks and optimisers of a model, and its statistics and buffer if they were saved. It "
    "does not restore the step counter, schedules, random numbers, the best score and the log; --resume RUN_FOLDER does"
)
_OF_STATISTICS = ("norm_obs", "norm_reward", "clip_obs", "clip_reward", "gamma", "epsilon", "norm_obs_keys")


class ContinuingManager(SearchManager):
    """
    The Zoo's runs from a model, with the statistics of ``VecNormalize`` and the replay buffer that were saved with it, and
    runs that go on from their training state.

    :param trust: Whether to load the files of another user, to continue from them
    :param run: That goes on; None: a new one
    :raises UntrustedFileError: If it is to continue from another user's files, which are not trusted
    """

    def __init__(self, args: Any, algo: str, *positional: Any, trust: bool = False, run: Run | None = None, **kwargs: Any):
        super().__init__(args, algo, *positional, run=run, **kwargs)
        if self.continue_training:
            folder, own = Path(self.trained_agent).parent, saved_with(self.trained_agent, "replay_buffer")
            pickles = pickles_of(self.trained_agent, folder / self.env_name)
            require_trust([*pickles, own, folder / "replay_buffer.pkl"], trust)
        self._normalization: dict[str, Any] | None = None
        if run is not None:
            self.continue_training, self.save_path = True, str(run.folder)
            self.params_path = f"{self.save_path}/{self.env_name}"

    def _maybe_normalize(self, env: VecEnv, eval_env: bool) -> VecEnv:
        env = self._load_normalization(env, eval_env)
        if not eval_env and self.continue_training and isinstance(env, VecNormalize):
            self._normalization = {name: getattr(env, name) for name in _OF_STATISTICS}
        return env

    def _load_normalization(self, env: VecEnv, eval_env: bool) -> VecEnv:
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
        given, present = as_mapping(self._given.get("policy_kwargs")), model.policy_kwargs
        ignored = {name: value for name, value in given.items() if name not in present or present[name] != value}
        if ignored:
            found = f"found policy_kwargs {ignored} in -params, expected those of the model, which keeps its networks"
            warn_user(f"-i {self.trained_agent}: {found}", OptionWarning)
        own = saved_with(self.trained_agent, "replay_buffer")
        if own.is_file() and isinstance(model, OffPolicyAlgorithm):
            print(f"Loading the replay buffer from {own}")
            model.load_replay_buffer(own, truncate_last_traj=self.truncate_last_trajectory)
        return model

    def _save_config(self, saved_hyperparams: dict[str, Any]) -> None:
        if self._normalization is not None:
            # The statistics of the model that goes on have their options, whatever the entry says
            saved_hyperparams = {**saved_hyperparams, "normalize": self._normalization}
        super()._save_config(saved_hyperparams)
