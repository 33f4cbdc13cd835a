"""The base of all algorithms that learn from demonstrations: loading, checking, pretraining, saving."""

import io
import json
import time
import zipfile
from abc import abstractmethod
from collections.abc import Mapping
from contextlib import nullcontext
from copy import deepcopy
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm, maybe_make_env
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, ProgressBarCallback
from stable_baselines3.common.save_util import open_path
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecFrameStack, VecNormalize, unwrap_vec_wrapper

from sb3_pgfd.common.export import export_policy
from sb3_pgfd.common.frame_stacking import stacked_like
from sb3_pgfd.common.incoming import check_shapes
from sb3_pgfd.common.metrics import without_tables
from sb3_pgfd.common.normalization import check_normalization, update_normalization, update_returns
from sb3_pgfd.common.option_warnings import (
    Need,
    check_without_demonstrations,
    doubtful_demonstrations,
    older_frames,
    options_without_effect,
    other_units,
)
from sb3_pgfd.common.whole_steps import LearnsInWholeSteps
from sb3_pgfd.demonstrations import Demonstrations, DemonstrationsError
from sb3_pgfd.demonstrations.inspection.warnings import continuity_warnings
from sb3_pgfd.demonstrations.validation import normalised_units
from sb3_pgfd.utils.checks import SAVE_FORMAT, check_save_format, is_number
from sb3_pgfd.utils.files import write_whole
from sb3_pgfd.utils.keywords import accepted_keywords, check_keywords
from sb3_pgfd.utils.screen import can_show_progress, progress
from sb3_pgfd.utils.warning import OptionWarning, warn_user

# Points on the curves of pretraining
PRETRAIN_LOGS = 50
TELL_EVERY = 30.0
"""Seconds between two lines about pretraining where there is no progress bar"""


class LearnsFromDemonstrations(LearnsInWholeSteps):
    """
    Mixin in front of SB3's ``OffPolicyAlgorithm`` or ``OnPolicyAlgorithm``. It loads the constructor's ``demonstrations``,
    updates ``VecNormalize`` with them, pretrains inside the first ``learn()``, refuses unknown options, and refuses to
    go on without demonstrations if the model was saved with some.

    A subclass sets the attributes below in its constructor and implements :meth:`_pretrain_update` and what the base asks for.
    """

    demonstrations: Demonstrations | str | Path | None
    """As given to the constructor; after ``_resolve_demonstrations`` a dataset or None. Never saved with the model"""
    demonstrations_source: str | None
    """Where they came from: saved with the model, so that it can name what is missing"""
    pretrain_steps: int
    gamma: float
    _pretrained: bool
    _warnings_given: set[str]
    _pretrain_updates: int = 0
    """How many have been made: an interrupted pretraining goes on"""
    _saw_normalized: bool = False
    """Whether it learned from observations that ``VecNormalize`` had normalised"""
    _in_normalization: bool = False
    """Whether the statistics of ``VecNormalize`` have the demonstrations"""
    _other_ways_back: ClassVar[str] = ""
    """Further ways to give a loaded model its demonstrations back, for the error message"""

    _options_of_policy: ClassVar[frozenset[str]] = frozenset()
    """Arguments of the constructor that the policy takes too"""
    _options_of_optimizer: ClassVar[frozenset[str]] = frozenset()
    """Arguments of the constructor that an optimiser, or what it learns, was made with: ``load`` cannot change them"""
    _option_needs: ClassVar[Mapping[str, Need]]
    """What an option needs to have an effect"""
    _chosen_options: list[str]
    """Names of the options, those of the replay buffer and the policy included, that the user chose"""

    def __new__(cls, *args: Any, **kwargs: Any) -> "LearnsFromDemonstrations":
        cls._check_arguments(kwargs)
        model = super().__new__(cls)
        chosen = {**dict(zip(list(signature(cls.__init__).parameters)[1:], args, strict=False)), **kwargs}
        model._chosen_options = sorted({*chosen, *_nested(chosen)})
        model._warnings_given = set()
        return model

    @classmethod
    def _check_arguments(cls, kwargs: Mapping[str, Any]) -> None:
        """:raises TypeError: If an argument of the constructor is unknown"""
        check_keywords(cls.__name__, kwargs, accepted_keywords(cls), cls._keyword_places())

    @classmethod
    def _keyword_places(cls) -> Mapping[str, set[str]]:
        """:return: Options that go into an argument of the constructor, by the name of that argument"""
        return {"policy_kwargs": accepted_keywords(cls.policy_aliases["MlpPolicy"])}

    def _check_kwargs(self, name: str, accepted: set[str]) -> None:
        """
        :param name: Of an argument of the constructor that takes a dict of options
        :param accepted: Names of these options
        :raises TypeError: If an option is unknown or belongs elsewhere
        """
        given, own = getattr(self, name), type(self).__name__
        misplaced = sorted((given.keys() & accepted_keywords(type(self))) - accepted)
        if misplaced:
            raise TypeError(f"{name}: found {', '.join(misplaced)}, expected them as arguments of {own} itself")
        check_keywords(
            name, given, accepted, {place: names for place, names in self._keyword_places().items() if place != name}
        )

    def save(self, path: str | Path | io.BufferedIOBase, *args: Any, **kwargs: Any) -> None:
        """cf ``BaseAlgorithm``. The file carries the number of its format. It is written whole or not at all."""
        self.save_format = SAVE_FORMAT
        if isinstance(path, (str, Path)):
            target = Path(path) if Path(path).suffix else Path(f"{path}.zip")
            with write_whole(target, overwrite=True) as temporary, temporary.open("wb") as file:
                super().save(file, *args, **kwargs)
        else:
            super().save(path, *args, **kwargs)

    def export(self, path: str | Path) -> Path:
        """
        Write the deterministic policy to a file that runs without SB3: from raw observations, which ``VecNormalize`` and the
        images' scale are applied to inside, to actions in environment units, which are what ``predict`` returns.

        :param path: Of the file, which is replaced: ``.onnx`` for ONNX (extra ``export``), ``.pt`` for ``torch.jit.load``
        :return: The path
        :raises ValueError: If the name has another ending
        :raises ImportError: If a library for ONNX is missing
        """
        return export_policy(self, path)

    @classmethod
    def load(cls, path: str | Path | io.BufferedIOBase, env: Any = None, *args: Any, **kwargs: Any) -> Any:
        """
        cf ``BaseAlgorithm``.

        :param env: An environment, or its id as in the constructor

        :raises ValueError: If the file was saved by a version with another format, or an option asks for other networks or
            another optimiser
        :raises TypeError: If an option is unknown
        """
        data = read_saved_data(path)
        check_save_format("model", data.get("save_format", 1))
        arguments = signature(BaseAlgorithm.load).parameters
        check_keywords(f"{cls.__name__}.load", kwargs, {*accepted_keywords(cls), *arguments, *data}, cls._keyword_places())
        for name in (cls._options_of_policy | cls._options_of_optimizer) & kwargs.keys():
            # "hard" is True
            found, saved = (value if is_number(value) else bool(value) for value in (kwargs[name], data.get(name)))
            if found != saved:
                raise ValueError(
                    f"{cls.__name__}.load: found {name}={kwargs[name]!r}, expected {data.get(name)!r} as saved: the model has "
                    f"{'other networks' if name in cls._options_of_policy else 'another optimiser or other networks'}"
                )
        model = super().load(path, maybe_make_env(env, verbose=0), *args, **kwargs)
        model._chosen_options = sorted({*model._chosen_options, *kwargs, *_nested(kwargs)})
        return model

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "demonstrations", "_warnings_given"]

    @staticmethod
    def _wrap_env(env: GymEnv, verbose: int = 0, monitor_wrapper: bool = True) -> VecEnv:
        return check_shapes(BaseAlgorithm._wrap_env(env, verbose, monitor_wrapper))

    def _resolve_demonstrations(self) -> None:
        """
        Load the demonstrations and check them against the model's spaces; images are turned as the model sees them.

        :raises DemonstrationsError: If they cannot be read or do not belong to this environment
        """
        if self.demonstrations is not None:
            self.demonstrations = self._load_fitting(self.demonstrations)
            self.demonstrations_source = _extend_source(None, self.demonstrations)

    def _load_fitting(self, demonstrations: Demonstrations | str | Path) -> Demonstrations:
        """
        :param demonstrations: A dataset, a path, or the name of packaged demonstrations
        :return: The same as the model sees them
        :raises DemonstrationsError: If they cannot be read or do not belong to this environment
        :raises ValueError: If they cannot be normalised as the environment's observations are
        """
        self._check_wrappers()
        dataset = stacked_like(Demonstrations.load(demonstrations), self.env)
        dataset = dataset.fit_to_spaces(self.observation_space, self.action_space)
        self._warn_of_other_environment(dataset)
        self._warn_of_observations_out_of_bounds(dataset)
        units = normalised_units(dataset.actions, self.action_space)
        for warning in [*([] if units is None else [units]), *continuity_warnings(dataset)]:
            warn_user(f"demonstrations: {warning}")
        return dataset

    def _merge_with_present(self, dataset: Demonstrations) -> Demonstrations:
        """
        :param dataset: Demonstrations to join the present ones, if there are any
        :return: All of them
        :raises DemonstrationsError: If they do not fit together
        """
        if self.demonstrations is None:
            return dataset
        # The user has been warned of another environment
        merged = Demonstrations.merge([Demonstrations.load(self.demonstrations), dataset], warns=False)
        # Two dtypes that the space takes may have a common one that it does not, as int64 and uint64 do
        merged.check_spaces(self.observation_space, self.action_space)
        return merged

    def _join_demonstrations(self, dataset: Demonstrations, merged: Demonstrations) -> None:
        """
        Add demonstrations to the present ones. The first ``learn()`` pretrains on all of them and updates ``VecNormalize``
        with all of them. After it there is no pretraining, also in a model that had no demonstrations.

        :param dataset: New demonstrations
        :param merged: All of them
        """
        # SB3 sets the start time in each learn(), before the first callback can add demonstrations, and saves it
        is_pending = not self._pretrained and (self.demonstrations is not None or self.start_time == 0.0)
        if not is_pending:
            self._pretrained = True
        if not is_pending or self._in_normalization:
            self._add_to_normalization(dataset)
        self.demonstrations = merged
        self.demonstrations_source = _extend_source(self.demonstrations_source, dataset)

    def _check_wrappers(self) -> None:
        if self._vec_normalize_env is not None and self._vec_normalize_env.norm_obs:
            check_normalization(self._vec_normalize_env, self.observation_space)

    def _warn_of_other_environment(self, dataset: Demonstrations) -> None:
        recorded_in = dataset.metadata.get("env_id")
        # Another process dies of a spec that cannot be sent, such as one with a lambda
        inner = None if self.env is None else self.env.unwrapped
        spec = inner.envs[0].spec if isinstance(inner, DummyVecEnv) else None
        env_id = None if spec is None else spec.id
        if recorded_in and env_id and recorded_in != env_id:
            warn_user(
                f"demonstrations: found episodes of {recorded_in}, expected {env_id}. The spaces fit, so learning goes on",
            )

    def _warn_of_observations_out_of_bounds(self, dataset: Demonstrations) -> None:
        """Declared bounds are wrong in many environments (gymnasium's LunarLander), so this is not an error."""
        space, observations = self.observation_space, dataset.observations
        subspaces: Mapping[str, Any] = space.spaces if isinstance(space, spaces.Dict) else {"": space}
        for key, subspace in subspaces.items():
            array = observations[key] if isinstance(observations, Mapping) else observations
            # VecNormalize declares the bounds of raw observations
            if isinstance(subspace, spaces.Box) and self._vec_normalize_env is None:
                slack = 1e-3 * (1.0 + np.abs(array).max())
                if (array < subspace.low - slack).any() or (array > subspace.high + slack).any():
                    warn_user(
                        f"demonstrations: found observations {key} from {array.min():g} to {array.max():g}, "
                        f"outside the bounds of {subspace}. Are they of this environment, and not normalised?",
                    )

    def _require_demonstrations(self, available: bool, caller: str = "learn") -> None:
        """:raises DemonstrationsError: If there are no demonstrations, but the model was saved with some"""
        if self.demonstrations_source is not None and not available:
            raise DemonstrationsError(
                f"{caller}: found no demonstrations, but this model learned from {self.demonstrations_source}. "
                f"Pass them again, {type(self).__name__}.load(path, env=env, demonstrations=...){self._other_ways_back}; "
                "to go on without them on purpose, load with demonstrations_source=None"
            )

    @property
    @abstractmethod
    def _has_demonstrations(self) -> bool:
        """Whether there are any to learn from, in the replay buffer too."""

    def check_options_for_learning(self) -> None:
        """
        What :meth:`learn` checks first. Each warning is given once.

        :raises DemonstrationsError: If there are no demonstrations, but the model was saved with some, or before its first
            ``learn()`` the user chose an option that needs them
        """
        self._require_demonstrations(self._has_demonstrations)
        options = {**vars(self), **_nested(vars(self))}
        found = list(options_without_effect(options, self._chosen_options, self._option_needs))
        # A model that goes on without its demonstrations does so on purpose
        if not self._has_demonstrations and self.start_time == 0.0:
            found.append(check_without_demonstrations(type(self).__name__, options, self._chosen_options))
        if isinstance(self.demonstrations, Demonstrations):
            found += doubtful_demonstrations(
                self.demonstrations, options, partial(self._normalization_to_come, self.demonstrations)
            )
        if self._vec_normalize_env is not None:
            found += other_units(self.policy, self._vec_normalize_env)
        stack = None if self.env is None else unwrap_vec_wrapper(self.env, VecFrameStack)
        if isinstance(stack, VecFrameStack):
            found += older_frames(self.policy, stack.stacked_obs.n_stack)
        for text in found:
            if text not in self._warnings_given:
                self._warnings_given.add(text)
                warn_user(text, OptionWarning)

    @abstractmethod
    def _pretrain_update(self) -> None:
        """One gradient update on demonstrations alone."""

    @abstractmethod
    def _pretrain_logs(self) -> dict[str, float]:
        """:return: What to log of the last updates, by name"""

    def _setup_learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        reset_num_timesteps: bool = True,
        tb_log_name: str = "run",
        progress_bar: bool = False,
    ) -> tuple[int, BaseCallback]:
        """
        cf ``BaseAlgorithm``. Pretraining is here, after the logger's set-up and before the first environment step and
        ``callback.on_training_start``, because the RL Zoo calls nothing but ``learn()``.
        """
        begin = False
        self.check_options_for_learning()
        self._saw_normalized = self._vec_normalize_env is not None and self._vec_normalize_env.norm_obs
        if isinstance(self.demonstrations, Demonstrations):
            # The environment may have been set later than the demonstrations
            self._check_wrappers()
            begin = not self._pretrained
            if begin and not self._in_normalization:
                self._add_to_normalization(self.demonstrations)
                self._in_normalization = True
        result = super()._setup_learn(total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar)
        if begin:
            if self.pretrain_steps > 0:
                self._pretrain(progress_bar or _shows_progress(result[1]) or (self.verbose >= 1 and can_show_progress()))
            self._pretrained = True
            # Frames per second are those of the environment
            self.start_time = time.time_ns()
        return result

    def _normalization_to_come(self, dataset: Demonstrations) -> VecNormalize | None:
        """:return: With the statistics of returns that ``learn`` begins with"""
        env = self._vec_normalize_env
        if env is None or not env.training or self._pretrained or self._in_normalization:
            return env
        # Without the environments
        env = deepcopy(env)
        update_returns(env, dataset)
        return env

    def _add_to_normalization(self, dataset: Demonstrations) -> None:
        if self._vec_normalize_env is not None and self._vec_normalize_env.training:
            update_normalization(self._vec_normalize_env, dataset)

    def _pretrain(self, progress_bar: bool) -> None:
        # Schedules begin here, also if the model has learned without demonstrations before
        self._current_progress_remaining = 1.0
        log_every = max(self.pretrain_steps // PRETRAIN_LOGS, 1)
        if self.verbose >= 1:
            print(f"Pretraining: {self.pretrain_steps:,} updates on demonstrations")
        steps, told_at = range(self._pretrain_updates + 1, self.pretrain_steps + 1), time.monotonic()
        for step in progress(steps, progress_bar, "Pretraining", "update"):
            self._between_steps()
            self._is_between = False
            self._pretrain_update()
            self._pretrain_updates = step
            # A log file has no progress bar
            if self.verbose >= 1 and not progress_bar and time.monotonic() - told_at >= TELL_EVERY:
                print(f"Pretraining: {step:,} of {self.pretrain_steps:,} updates", flush=True)
                told_at = time.monotonic()
            if step % log_every == 0 or step == self.pretrain_steps:
                for name, value in self._pretrain_logs().items():
                    self.logger.record(f"pretrain/{name}", value)
                # A table that has `train/n_updates` tells the same
                is_twice = "train/n_updates" in self.logger.name_to_value
                excluded = ("tensorboard", "stdout") if is_twice else ("tensorboard",)
                self.logger.record("pretrain/n_updates", step, exclude=excluded)
                with without_tables(self.logger) if step < self.pretrain_steps else nullcontext():
                    self.logger.dump(step=step)


def _nested(options: Mapping[str, Any]) -> dict[str, Any]:
    """:return: The options of the replay buffer and of the policy among those of a model"""
    return {**(options.get("policy_kwargs") or {}), **(options.get("replay_buffer_kwargs") or {})}


def read_saved_data(path: str | Path | io.BufferedIOBase) -> dict[str, Any]:
    """
    :param path: Of a saved model
    :return: Its attributes as JSON has them. Nothing is unpickled
    :raises ValueError: If it is no saved model
    """
    file = open_path(path, "r", suffix="zip")
    try:
        with zipfile.ZipFile(file) as archive:
            return json.loads(archive.read("data"))
    except (zipfile.BadZipFile, KeyError) as error:
        raise ValueError(f"{path}: found no saved model, expected a zip file written by save()") from error
    finally:
        if file is not path:
            file.close()


def _extend_source(present: str | None, dataset: Demonstrations) -> str:
    """:return: Names of files, each once: a callback may add episodes from memory thousands of times"""
    if present is None:
        return dataset.source or f"a dataset in memory, {dataset!r}"
    added = dataset.source or "episodes added from memory"
    return present if added in present.split(" + ") else f"{present} + {added}"


def _shows_progress(callback: BaseCallback) -> bool:
    """:return: Whether a callback shows a progress bar, as the RL Zoo's ``--progress`` does"""
    if isinstance(callback, CallbackList):
        return any(_shows_progress(item) for item in callback.callbacks)
    return isinstance(callback, ProgressBarCallback)
