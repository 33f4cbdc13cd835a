"""The base of algorithms whose learning ends between two steps, however it ends, and goes on from there."""

from abc import abstractmethod
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback
from stable_baselines3.common.utils import check_for_correct_spaces
from stable_baselines3.common.vec_env import VecEnv

from sb3_pgfd.common.resuming import make_all_resumable, restore_environments, restore_run, save_run, score_of
from sb3_pgfd.common.stepping import SIGNALS, DeferredSignals, WholeSteps, release_broken, walk_callbacks
from sb3_pgfd.common.training_state import TrainingStateError, newest_set, read_model, write_set
from sb3_pgfd.utils.warning import warn_user


class LearnsInWholeSteps(BaseAlgorithm):
    """
    Mixin in front of SB3's ``OffPolicyAlgorithm`` or ``OnPolicyAlgorithm``. No step is lost or invented, whatever ends
    ``learn()``, and the whole state can be saved between two steps. A callback with a method ``between_steps`` is called
    there, in pretraining too; one with a method ``leave`` when learning ends with an exception.

    A subclass implements :meth:`_finish_step`, and calls :meth:`_between_steps` before each update that is not made after a
    step.
    """

    # Of a running learn(), never saved
    _signals: DeferredSignals | None = None
    _callback: BaseCallback | None = None
    _watchers: tuple[Any, ...] = ()
    _resumed: dict[str, Any] | None = None
    _is_between: bool = True

    def save_training_state(self, folder: str | Path, keep: int = 2, notes: Mapping[str, Any] | None = None) -> Path:
        """
        Save everything that learning needs to go on as if it had not been interrupted. Call it between two ``learn()``, or
        let :class:`~sb3_pgfd.callbacks.SaveTrainingState` do it in one.

        :param folder: Of the training state; it gets a new set
        :param keep: Sets to keep, besides the one with the best evaluation
        :param notes: JSON values for its manifest
        :return: Folder of the set
        :raises OSError: If it cannot be written; earlier sets stay
        :raises TrainingStateError: If the model holds something that cannot be pickled
        """
        if self._resumed is not None:
            raise TrainingStateError("save_training_state: found a resumed model, expected one that has learned since")
        notes = {"score": score_of(self._callback), **(notes or {})}
        return write_set(self, Path(folder), save_run(self, self._callback), notes, keep)

    @classmethod
    def resume(cls, folder: str | Path, env: GymEnv, device: th.device | str = "auto") -> Any:
        """
        The model of a training state. Its next ``learn()`` goes on where the state was taken, if it is called as before:
        with the same ``total_timesteps``, which count from the beginning, and callbacks like those before. Only resume from
        folders that you trust: pickles can run programs.

        :param folder: Of the training state, or of one of its sets
        :param env: A new environment like that of the run, with the same wrappers
        :param device: Of PyTorch
        :raises TrainingStateError: If there is no set that is whole. A warning names damaged ones
        :raises ValueError: If the environment is another one
        """
        model, run = read_model(cls, newest_set(Path(folder)), env, device)
        check_for_correct_spaces(model.env, *run["is_for"])
        model._resumed = run
        return model

    def _excluded_save_params(self) -> list[str]:
        of_learn = ["_signals", "_callback", "_watchers", "_resumed", "_is_between"]
        return [*super()._excluded_save_params(), *of_learn]

    def _setup_learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        reset_num_timesteps: bool = True,
        tb_log_name: str = "run",
        progress_bar: bool = False,
    ) -> tuple[int, BaseCallback]:
        """cf ``BaseAlgorithm``. A resumed model goes on where its state was taken."""
        make_all_resumable(self.env, callback)
        if self._resumed is None:
            if reset_num_timesteps:
                self._break_off_episodes()
            result = super()._setup_learn(total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar)
        else:
            result = self._go_on(self._resumed, total_timesteps, callback, tb_log_name, progress_bar)
        self._callback = result[1]
        self._watchers = tuple(item for _, item in walk_callbacks(result[1]) if hasattr(item, "between_steps"))
        return result

    def _go_on(
        self, run: dict[str, Any], total_timesteps: int, callback: MaybeCallback, tb_log_name: str, progress_bar: bool
    ) -> tuple[int, BaseCallback]:
        """cf ``_setup_learn``: with everything as it was when a training state was taken."""
        problem = restore_environments(self, run)
        if problem is not None:
            warn_user(f"resume: the running episodes are cut, and the run goes on with new ones: {problem}")
            self._break_off_episodes()
        at_start, noise = self._num_timesteps_at_start, deepcopy(vars(self).get("action_noise"))
        left = total_timesteps - (self.num_timesteps - at_start)
        result = super()._setup_learn(left, callback, False, tb_log_name, progress_bar)
        self._num_timesteps_at_start = at_start
        if noise is not None:
            self.action_noise = noise
        restore_run(self, run, result[1])
        self._resumed = None
        return result

    def learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 4,
        tb_log_name: str = "run",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> Any:
        """
        cf ``BaseAlgorithm``. Ctrl-C ends it between two steps, at once if it comes twice. If a callback saves the training
        state, the signals SIGTERM and SIGHUP do so too, and the state is saved.
        """
        saves = any(hasattr(item, "leave") for _, item in walk_callbacks(callback))
        with DeferredSignals(SIGNALS if saves else SIGNALS[:1]) as self._signals:
            try:
                arguments = (total_timesteps, callback, log_interval, tb_log_name, reset_num_timesteps, progress_bar)
                return super().learn(*arguments)  # type: ignore[safe-super]
            except BaseException as error:
                self._leave_environment()
                for watcher in self._watchers:
                    if hasattr(watcher, "leave"):
                        watcher.leave(error, self._is_between)
                raise
            finally:
                self._leave_environment()
                self._watchers = ()

    def _leave_environment(self) -> None:
        """Called when learning ends, however it ends."""

    def _between_steps(self) -> None:
        """
        Nothing is half done here: end learning if a signal came, and save the training state if it is due.

        :raises Interrupted: If a signal came
        """
        self._is_between = True
        if self._signals is not None:
            self._signals.check()
        for watcher in self._watchers:
            watcher.between_steps()

    def collect_rollouts(self, env: VecEnv, callback: BaseCallback, *args: Any, **kwargs: Any) -> Any:
        """
        cf SB3. No transition is lost or invented: a step that a callback ends is completed, and if the environment fails its
        episode is over, because nobody knows its state.

        :raises RuntimeError: If a process of the environment has ended
        """
        self._between_steps()
        steps = WholeSteps(callback, self._finish_step)
        try:
            result = super().collect_rollouts(env, steps, *args, **kwargs)  # type: ignore[misc]
        except BaseException as error:
            if not steps.raised:
                self._break_off_episodes()
            if isinstance(error, (EOFError, ConnectionError)):
                self._explain_broken_pipe(error)
            raise
        # An update follows, or the end
        self._is_between = not getattr(result, "continue_training", result)
        return result

    def _explain_broken_pipe(self, error: Exception) -> None:
        of_callbacks = [value for _, item in walk_callbacks(self._callback) for value in vars(item).values()]
        for env in (self.env, *of_callbacks):
            ended = release_broken(env) if isinstance(env, VecEnv) else None
            if ended is not None:
                raise RuntimeError(f"env: found processes that have ended, expected all of them running: {ended}") from error

    @abstractmethod
    def _finish_step(self, step: Mapping[str, Any]) -> None:
        """
        Do what SB3's ``collect_rollouts`` does with a step after its callback.

        :param step: Its local variables
        """

    def _break_off_episodes(self) -> None:
        """End the running episodes without another step: the environment is reset next."""
        self._last_obs = None
