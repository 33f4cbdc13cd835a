"""How a run's hyperparameters are read: the entry of a yaml, a trial of a study, ``-params``, or the run that goes on."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from pprint import pprint
from typing import Any

from gymnasium import spaces
from rl_zoo3.exp_manager import ExperimentManager
from rl_zoo3.utils import get_class_by_name
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from sb3_pgfd.utils.files import hyperparams_file
from sb3_pgfd.zoo import ALGORITHMS
from sb3_pgfd.zoo.agents import read_run, saved_with
from sb3_pgfd.zoo.command_line import CommandError
from sb3_pgfd.zoo.explanation import Layer, entry_name
from sb3_pgfd.zoo.hyperparameters import (
    RESOLVERS,
    as_mapping,
    check_config,
    check_names,
    load_demonstrations,
    merge,
    stacked,
    vec_env_class,
    with_numbers,
    with_schedules,
)
from sb3_pgfd.zoo.resuming import Run


class EntryManager(ExperimentManager):
    """
    The Zoo's manager with other hyperparameters: paths of demonstrations are relative to the yaml that names them. Classes may
    be named by their dotted path. ``-params`` and trials change single options of nested mappings. Unknown names are refused.

    :param run: That goes on; None: a new one
    :param vec_env: Kind of parallel environments, in place of the entry's
    :raises CommandError: If a trial is named without its study
    """

    def __init__(
        self, args: Any, algo: str, *positional: Any, run: Run | None = None, vec_env: str | None = None, **kwargs: Any
    ):
        if kwargs.get("config") is None and algo in ALGORITHMS:
            kwargs["config"] = str(hyperparams_file(algo))
        super().__init__(args, algo, *positional, **kwargs)
        if self.trial_id is not None and not (self.storage and self.study_name):
            found = f"found --storage {self.storage} and --study-name {self.study_name}"
            raise CommandError(f"--trial-id {self.trial_id}: {found}, expected both: name the study that the trial is in")
        # Read here and not by the Zoo, which takes trial 0 for none and replaces whole mappings
        self._trial_to_train, self.trial_id = self.trial_id, None
        self._given, self.custom_hyperparams = self.custom_hyperparams or {}, None
        # The Zoo would put these in the place of all of the entry's
        self._env_kwargs_given, self.env_kwargs = self.env_kwargs, {}
        self._run, self._vec_env = run, vec_env
        if vec_env is not None:
            self._given = {**self._given, "vec_env": vec_env}
        self._entry: dict[str, Any] = {}
        self._layers: list[Layer] = []
        self._unprocessed: dict[str, Any] = {}

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
        if self._env_kwargs_given:
            self._layers.append(Layer("--env-kwargs", {"env_kwargs": self._env_kwargs_given}))
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
        """:return: The entry with what a trial has, and with ``-params`` and ``--env-kwargs``, which count most"""
        hyperparams = deepcopy(self._entry)
        for changes in (trial, self._given):
            if "action_noise" in changes:
                # The Zoo would prefer these two
                hyperparams = {name: hyperparams[name] for name in hyperparams.keys() - {"noise_type", "noise_std"}}
            hyperparams = merge(hyperparams, changes)
        if self._env_kwargs_given:
            hyperparams["env_kwargs"] = {**as_mapping(hyperparams.get("env_kwargs")), **self._env_kwargs_given}
        if self.continue_training and self.algo in ALGORITHMS:
            hyperparams = {**self._of_continued_run(), **hyperparams}
        hyperparams = self._resolve(hyperparams, self._given)
        if hyperparams.get("replay_buffer_kwargs"):
            buffer, given = (as_mapping(options.get("replay_buffer_kwargs")) for options in (hyperparams, self._given))
            hyperparams["replay_buffer_kwargs"] = self._resolve(buffer, given)
        return hyperparams

    def _of_continued_run(self) -> dict[str, Any]:
        """:return: The demonstrations of a run that is continued with ``-i``"""
        folder = Path(self.trained_agent).parent
        # A saved replay buffer holds the demonstrations
        buffers = (saved_with(self.trained_agent, "replay_buffer"), folder / "replay_buffer.pkl")
        buffer = next((path for path in buffers if path.is_file()), None)
        if buffer is not None and "demonstrations" in self._given:
            raise CommandError(
                f"-i {self.trained_agent}: found demonstrations in -params beside {buffer}, which has those of the run, "
                "expected one of them: move the file away to learn from the named ones alone, or load both in Python and call "
                "add_demonstrations()"
            )
        named = read_run(folder / self.env_name)[0].get("demonstrations") if buffer is None else None
        return {} if named is None else {"demonstrations": named}

    def _resolve(self, options: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
        """:return: Options with demonstrations named so that it holds in every folder. ``given`` are those of ``-params``"""
        resolved = dict(options)
        for name in RESOLVERS.keys() & options.keys():
            # The configuration may be a Python package, which has no folder
            folders, file = [Path.cwd()], Path(self.config).resolve()
            if name not in given and file.is_file() and file.parent != Path.cwd():
                folders.insert(0, file.parent)
            resolved[name] = RESOLVERS[name](options[name], folders, "-params" if name in given else self.config)
        return resolved

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
        return processed, env_wrapper, callbacks, vec_env_wrapper

    def _preprocess_action_noise(self, hyperparams: dict[str, Any], saved_hyperparams: dict[str, Any], env: VecEnv) -> Any:
        # The default entry is for any environment, and no MlpPolicy takes a Dict
        if hyperparams.get("policy") == "MlpPolicy" and isinstance(env.observation_space, spaces.Dict):
            print("Using MultiInputPolicy instead of MlpPolicy, as the observations are a Dict")
            hyperparams["policy"] = saved_hyperparams["policy"] = "MultiInputPolicy"
        return super()._preprocess_action_noise(hyperparams, saved_hyperparams, env)

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
