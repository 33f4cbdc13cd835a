"""Save models, statistics of ``VecNormalize`` and training states while an algorithm learns."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback, CheckpointCallback

from sb3_pgfd.common.pretraining import LearnsFromDemonstrations
from sb3_pgfd.utils.checks import check_not_negative, check_whole, is_number
from sb3_pgfd.utils.files import Lock, hold, remove_stale, write_whole
from sb3_pgfd.utils.warning import warn_user


class Checkpoints(CheckpointCallback):
    """
    SB3's ``CheckpointCallback``, but only the newest replay buffer is kept, because each can take gigabytes. The previous
    one is deleted when the next is on disk.

    :param save_freq: Save every ``save_freq`` calls
    :param save_path: Folder of the checkpoints
    :param options: Further arguments of ``CheckpointCallback``
    """

    def __init__(self, save_freq: int, save_path: str, **options: Any):
        super().__init__(save_freq, save_path, **options)
        # Its name alone: a run may go on from another working directory
        self._newest_buffer: str | None = None

    def _on_step(self) -> bool:
        # SB3 would not write them whole
        saves_normalization, self.save_vecnormalize = self.save_vecnormalize, False
        go_on = super()._on_step()
        self.save_vecnormalize = saves_normalization
        if self.save_vecnormalize and self.n_calls % self.save_freq == 0:
            SaveNormalization.write(self.model, Path(self._checkpoint_path("vecnormalize_", extension="pkl")))
        path = Path(self._checkpoint_path("replay_buffer_", extension="pkl"))
        if self.save_replay_buffer and self.n_calls % self.save_freq == 0 and path.is_file():
            previous, self._newest_buffer = self._newest_buffer, path.name
            if previous is not None and previous != path.name:
                # Gone if a run was killed behind this checkpoint and goes on from before it
                path.with_name(Path(previous).name).unlink(missing_ok=True)
        return go_on


class SaveTrainingState(BaseCallback):
    """
    Save the training state of a model of this package while it learns, at the end and when learning is interrupted: by a
    signal, an exception or a callback. ``Algorithm.resume(folder, env)`` goes on from it. Saving changes nothing in the run. A
    state that cannot be written (a full disk) is a warning; the last one stays.

    :param folder: Of the training state; one run uses it at a time
    :param save_freq: Save every ``save_freq`` calls, 0: by time alone
    :param every: Save after so many seconds, but never so often that saving takes more than ``max_share`` of the time
    :param max_share: See ``every``
    :param keep: Sets to keep, besides the one with the best evaluation
    :param notes: Gives what to write into the manifest of each set besides
    :param verbose: Verbosity level
    :raises ValueError: If a number is out of range
    """

    def __init__(
        self,
        folder: str | Path,
        save_freq: int = 0,
        every: float = 60.0,
        max_share: float = 0.02,
        keep: int = 2,
        notes: Callable[[], Mapping[str, Any]] | None = None,
        verbose: int = 0,
    ):
        super().__init__(verbose)
        check_whole({"save_freq": save_freq, "keep": keep}, {"save_freq": 0, "keep": 1})
        check_not_negative({"every": every}, {"every": "seconds"})
        if not is_number(max_share, 0.0) or max_share == 0.0:
            raise ValueError(f"max_share: found {max_share!r}, expected a number > 0")
        self.folder, self.save_freq, self.keep, self.notes = Path(folder), save_freq, keep, notes
        self.every, self.max_share = every, max_share
        self.newest: Path | None = None
        """The set that was saved last"""
        self._saved_calls = 0
        self._lock: Lock | None = None
        self._begin, self._cost = 0.0, 0.0

    # Another process in the folder is an error before the training
    def _init_callback(self) -> None:
        if not isinstance(self.model, LearnsFromDemonstrations):
            found = type(self.model).__name__
            raise TypeError(f"SaveTrainingState: found a model of type {found}, expected one of sb3_pgfd's algorithms")
        if self._lock is None:
            self._lock = hold(self.folder / ".lock", str(self.folder))
            remove_stale(self.folder)
        self._begin = time.monotonic()

    def _on_training_start(self) -> None:
        self._begin = time.monotonic()

    def _on_step(self) -> bool:
        return True

    def between_steps(self) -> None:
        """Called by the model where nothing is half done."""
        by_calls = self.save_freq > 0 and self.n_calls // self.save_freq > self._saved_calls // self.save_freq
        by_time = self.every > 0.0 and time.monotonic() - self._begin > max(self.every, self._cost / self.max_share)
        if by_calls or by_time:
            self.save()

    def save(self) -> bool:
        """:return: Whether the state was saved"""
        assert isinstance(self.model, LearnsFromDemonstrations)
        begin, saved = time.monotonic(), True
        # Before it is saved: the run that goes on has this one behind it
        self._saved_calls = self.n_calls
        try:
            notes = self.notes() if self.notes is not None else {}
            self.newest = self.model.save_training_state(self.folder, self.keep, notes)
        except OSError as error:
            saved = False
            kept = f"the last one is {self.newest}" if self.newest else "there is none"
            warn_user(f"the training state after {self.num_timesteps} steps was not saved ({error}); {kept}")
        self._begin, self._cost = time.monotonic(), time.monotonic() - begin
        return saved

    def leave(self, error: BaseException, is_whole: bool) -> None:
        """
        Called by the model when learning ends with an exception.

        :param is_whole: Whether it is between two steps; in the middle of an update nothing can be saved
        """
        if is_whole:
            self.save()
        self._release()

    def _on_training_end(self) -> None:
        # The RL Zoo calls it a second time
        if self._lock is not None:
            self.save()
        self._release()

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.close()
        self._lock = None


class SaveNormalization(BaseCallback):
    """
    Save the statistics of ``VecNormalize`` each time it is called, e.g. as ``callback_on_new_best`` of an ``EvalCallback``:
    the best model needs the statistics of its time, not the last ones. Without ``VecNormalize`` it does nothing.

    :param path: The file; it is replaced each time
    :param verbose: Verbosity level
    """

    def __init__(self, path: str | Path, verbose: int = 0):
        super().__init__(verbose)
        self.path = Path(path)

    def _on_step(self) -> bool:
        self.write(self.model, self.path)
        return True

    @staticmethod
    def write(model: BaseAlgorithm, path: Path) -> None:
        """Write the statistics of a model's ``VecNormalize``, if it has one, to a file. The file is whole or as it was."""
        normalize = model.get_vec_normalize_env()
        if normalize is not None:
            with write_whole(path, overwrite=True) as temporary:
                normalize.save(str(temporary))
