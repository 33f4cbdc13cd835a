"""Callbacks for any SB3 algorithm: record successes, save models and statistics, log, draw and summarise a run."""

import os
import time
import warnings
from collections.abc import Callable, Mapping
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback, CheckpointCallback, EvalCallback
from stable_baselines3.common.logger import CSVOutputFormat, Figure, TensorBoardOutputFormat
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from sb3_pgfd.common.metrics import without_tables
from sb3_pgfd.common.pretraining import LearnsFromDemonstrations
from sb3_pgfd.demonstrations import Demonstrations, DemonstrationsError
from sb3_pgfd.demonstrations.arrays import channels_first, json_copy, map_observations
from sb3_pgfd.demonstrations.inspection.plots import new_figure
from sb3_pgfd.demonstrations.recording import Session
from sb3_pgfd.demonstrations.recording.session import EpisodeBuilder, describe_env, success_of
from sb3_pgfd.demonstrations.validation import as_dict, check_observations
from sb3_pgfd.plotting import run_figure
from sb3_pgfd.run_summary import RunSummary, summarize_run, write_summary
from sb3_pgfd.utils.files import Lock, hold, remove_stale, write_whole

__all__ = [
    "Checkpoints",
    "DemonstrationsSummary",
    "EvaluateFirst",
    "Evaluation",
    "ProgressLog",
    "RecordSuccesses",
    "RunFigure",
]
__all__ += ["RunSummary", "SaveNormalization", "SaveTrainingState", "summarize_run", "write_summary"]


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
        self._newest_buffer: str | None = None

    def _on_step(self) -> bool:
        # SB3 would not write them whole
        saves_normalization, self.save_vecnormalize = self.save_vecnormalize, False
        go_on = super()._on_step()
        self.save_vecnormalize = saves_normalization
        if self.save_vecnormalize and self.n_calls % self.save_freq == 0:
            SaveNormalization.write(self.model, Path(self._checkpoint_path("vecnormalize_", extension="pkl")))
        path = self._checkpoint_path("replay_buffer_", extension="pkl")
        if self.save_replay_buffer and self.n_calls % self.save_freq == 0 and os.path.isfile(path):
            if self._newest_buffer is not None and self._newest_buffer != path:
                os.remove(self._newest_buffer)
            self._newest_buffer = path
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
            warnings.warn(f"the training state after {self.num_timesteps} steps was not saved ({error}); {kept}", stacklevel=2)
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


class Evaluation(EvalCallback):
    """
    SB3's ``EvalCallback``, which prints its results in three lines and not in a table as well. ``evaluations.npz`` is whole or
    as it was, whatever happens while it is written.
    """

    def _on_step(self) -> bool:
        with without_tables(self.logger):
            if self.log_path is None or self.eval_freq <= 0 or self.n_calls % self.eval_freq != 0:
                return super()._on_step()
            path = self.log_path
            with write_whole(Path(f"{path}.npz"), overwrite=True) as temporary, temporary.open("wb") as file:
                # NumPy writes to open files, too
                self.log_path = file  # type: ignore[assignment]
                try:
                    return super()._on_step()
                finally:
                    self.log_path = path


class EvaluateFirst(BaseCallback):
    """
    Let an ``EvalCallback`` also evaluate before the first step: the learning curve then starts right after pretraining.

    :param evaluation: The ``EvalCallback``; it must be in the list of callbacks, too
    """

    def __init__(self, evaluation: EvalCallback):
        super().__init__()
        self.evaluation = evaluation

    def _on_training_start(self) -> None:
        # Its number of calls is still 0, a multiple of any frequency, unless a run is resumed
        if self.evaluation.n_calls == 0 and self.evaluation.last_mean_reward == -np.inf:
            self.evaluation._on_step()

    def _on_step(self) -> bool:
        return True


class ProgressLog(BaseCallback):
    """
    Also write everything that is logged to ``progress.csv``, including pretraining.

    :param folder: Folder of the file; it is created if it is missing
    :param verbose: Verbosity level
    """

    def __init__(self, folder: str, verbose: int = 0):
        super().__init__(verbose)
        self.folder = folder
        self._format: CSVOutputFormat | None = None
        self._content: tuple[str, list[str]] | None = None

    # Here the logger exists and nothing is logged yet; `_on_training_start` comes after pretraining
    def _init_callback(self) -> None:
        if self._format is None:
            os.makedirs(self.folder, exist_ok=True)
            self._format = CSVOutputFormat(os.path.join(self.folder, "progress.csv"))
        if self._format not in self.logger.output_formats:
            self.logger.output_formats.append(self._format)

    def before_saving(self) -> None:
        """Rows that are written after a training state was saved will be written again when it is resumed."""
        if self._format is not None:
            self._format.file.flush()
            self._content = Path(self.folder, "progress.csv").read_text(), list(self._format.keys)

    def after_restoring(self) -> None:
        """Go on behind the rows of the run that is resumed."""
        if self._format is not None and self._content is not None:
            text, self._format.keys = self._content
            self._format.file.write(text)
            self._format.file.flush()

    def _on_step(self) -> bool:
        return True


class RunFigure(BaseCallback):
    """
    Show :func:`~sb3_pgfd.plotting.run_figure` in TensorBoard as ``run/figure`` when the training ends. Without
    ``tensorboard_log`` it does nothing.

    :param folder: Folder of the run; a :class:`ProgressLog` before this callback writes ``progress.csv`` there
    :param draw_freq: Also draw every ``draw_freq`` calls: steps or, as ``callback_after_eval`` of an ``EvalCallback``,
        evaluations. 0: only at the end
    :param verbose: Verbosity level
    :raises ImportError: If matplotlib is not installed
    """

    def __init__(self, folder: str | Path, draw_freq: int = 0, verbose: int = 0):
        super().__init__(verbose)
        self.folder, self.draw_freq = Path(folder), draw_freq

    # A missing library is reported before the training, not after it
    def _init_callback(self) -> None:
        new_figure((1.0, 1.0))

    def _on_step(self) -> bool:
        if self.draw_freq > 0 and self.n_calls % self.draw_freq == 0:
            self._on_training_end()
        return True

    def _on_training_end(self) -> None:
        boards = [item for item in self.logger.output_formats if isinstance(item, TensorBoardOutputFormat)]
        # Before the first dump there is nothing to draw
        if not boards or not (self.folder / "progress.csv").read_text():
            return
        figure = Figure(run_figure(self.folder), close=True)
        for board in boards:
            # Not through the logger, whose dump would also write all pending values
            board.write({"run/figure": figure}, {"run/figure": ()}, self.model.num_timesteps)


class DemonstrationsSummary(BaseCallback):
    """
    Compare the agent with its demonstrations in three lines when the training ends: return, success and episode length. See
    :func:`summarize_run`.

    :param evaluation: The callback that evaluates the agent; None: use the training episodes
    :param demonstrations: Demonstrations to compare with; None: the model's own, or those in its replay buffer
    :param folder: Folder for ``summary.json``, None: do not write it
    :param verbose: 0: print nothing
    """

    def __init__(
        self,
        evaluation: EvalCallback | None = None,
        demonstrations: Demonstrations | str | Path | None = None,
        folder: str | Path | None = None,
        verbose: int = 1,
    ):
        super().__init__(verbose)
        self.evaluation, self.demonstrations, self.folder = evaluation, demonstrations, folder
        self.summary: RunSummary | None = None
        """Summary of the last training"""

    # Unreadable demonstrations are refused before the training
    def _init_callback(self) -> None:
        if self.demonstrations is not None:
            self.demonstrations = Demonstrations.load(self.demonstrations)

    def _on_training_start(self) -> None:
        self.summary = None

    def _on_step(self) -> bool:
        return True

    def _on_training_end(self) -> None:
        # The RL Zoo calls it a second time
        if self.summary is not None:
            return
        self.summary = summarize_run(self.model, self.evaluation, self.demonstrations)
        if self.verbose >= 1:
            print(self.summary)
        if self.folder is not None:
            write_summary(self.summary, self.folder)


class RecordSuccesses(BaseCallback):
    """
    Record the agent's own successful episodes while it learns, with any SB3 algorithm. An episode is a success if its last
    info says so (``is_success`` or ``success``), or if its return is high enough. Each is on disk when it ends, in the
    folder ``<path>.recording``, and the file is written when the training ends. Observations are those that the model sees
    (images with channels first), but observations and rewards are raw: ``VecNormalize`` is undone. It clips the last
    observation of an episode at ``clip_obs`` standard deviations from the mean, in single precision.

    If the same callback is used in several ``learn()``, each one rewrites the file with all successes so far. An episode
    that continues from one ``learn()`` to the next is recorded if the callback was used in both.

    :param path: The file; the ending ``.npz`` is added if it is missing
    :param max_episodes: Record at most this many episodes; None: all
    :param min_return: Episodes with at least this return (raw, undiscounted) count as successes, too
    :param overwrite: Allow replacing the file and, without ``resume``, an unfinished recording
    :param resume: Continue the recording of a training that crashed, if there is one
    :param verbose: Verbosity level
    """

    def __init__(
        self,
        path: str | Path,
        max_episodes: int | None = None,
        min_return: float | None = None,
        overwrite: bool = False,
        resume: bool = False,
        verbose: int = 0,
    ):
        super().__init__(verbose)
        if max_episodes is not None and max_episodes < 1:
            raise DemonstrationsError(f"RecordSuccesses: found max_episodes={max_episodes}, expected at least 1, or None")
        self.path, self.max_episodes, self.min_return = Path(path), max_episodes, min_return
        self.overwrite, self.resume = overwrite, resume
        self._session: Session | None = None
        # For each environment; None: the callback did not see the start of this episode
        self._episodes: list[EpisodeBuilder | None] = []

    @property
    def session(self) -> Session:
        """What has been recorded so far"""
        assert self._session is not None, "there is no recording before the first learn()"
        return self._session

    # An existing file is refused before the training, not after it
    def _init_callback(self) -> None:
        if not isinstance(self.model, (OnPolicyAlgorithm, OffPolicyAlgorithm)):
            raise DemonstrationsError(
                f"RecordSuccesses: found a model of type {type(self.model).__name__}, expected an OnPolicyAlgorithm or an "
                "OffPolicyAlgorithm, which show each step to a callback"
            )
        spec = self.training_env.get_attr("spec", indices=0)[0]
        description = describe_env(spec, self.model.observation_space, self.model.action_space)
        producer = f"{type(self.model).__name__} while learning"
        settings = {**description, "producer": producer, "min_return": self.min_return}
        if self._session is None:
            self._session = Session(self.path, settings, self.resume, self.overwrite)
        elif self._session.settings != json_copy(settings):
            raise DemonstrationsError(
                f"RecordSuccesses: found another algorithm or environment than at the start of {self.path}, expected the "
                "same: use a new callback with another path"
            )

    def _on_training_start(self) -> None:
        observations = self._raw_observations(self.model._last_obs)
        check_observations(observations, self.model.observation_space, "RecordSuccesses: observations under VecNormalize")
        before = self._episodes or [None] * self.training_env.num_envs
        self._episodes = []
        for env, episode in enumerate(before):
            observation = map_observations(observations, itemgetter(env))
            # Without a reset, an episode continues at its last observation
            if self.num_timesteps == 0:
                episode = EpisodeBuilder(observation)
            elif episode is not None:
                last, now = (as_dict(value).values() for value in (episode.observations[-1], observation))
                episode = episode if all(map(np.array_equal, last, now)) else None
            self._episodes.append(episode)

    def _on_step(self) -> bool:
        if self.max_episodes is None or len(self.session.episodes) < self.max_episodes:
            self._record_step()
        self.logger.record("rollout/recorded_episodes", len(self.session.episodes))
        return True

    def _record_step(self) -> None:
        normalize, observations = self.model.get_vec_normalize_env(), self._raw_observations(self.locals["new_obs"])
        rewards = self.locals["rewards"] if normalize is None else normalize.get_original_reward()
        # On-policy algorithms pass `clipped_actions` to the environment
        actions = self.locals.get("clipped_actions", self.locals["actions"])
        for env, (done, info) in enumerate(zip(self.locals["dones"], self.locals["infos"], strict=True)):
            observation, episode = map_observations(observations, itemgetter(env)), self._episodes[env]
            if episode is not None:
                last = self._last_observation(info, observation) if done else observation
                episode.add(actions[env], last, rewards[env])
            if done:
                if episode is not None:
                    self._keep_success(episode, info)
                self._episodes[env] = EpisodeBuilder(observation)

    def _raw_observations(self, seen: Any) -> Any:
        normalize = self.model.get_vec_normalize_env()
        return channels_first(seen if normalize is None else normalize.get_original_obs(), self.model.observation_space)

    def _last_observation(self, info: dict[str, Any], like: Any) -> Any:
        observation, normalize = info["terminal_observation"], self.model.get_vec_normalize_env()
        if normalize is not None:
            observation = normalize.unnormalize_obs(observation)
        if isinstance(like, dict):
            return {key: _as_dtype(observation[key], like[key].dtype) for key in like}
        return _as_dtype(observation, like.dtype)

    def _keep_success(self, episode: EpisodeBuilder, info: dict[str, Any]) -> None:
        success = success_of(info)
        if success or (self.min_return is not None and episode.episode_return >= self.min_return):
            self.session.add(episode.build(not info.get("TimeLimit.truncated", False), success), {})

    def _on_training_end(self) -> None:
        if self.session.unfinished:
            self.session.finish({})
        if not self.session.episodes:
            self.logger.info(f"RecordSuccesses: found no successful episode, {self.session.path} is not written")


def _as_dtype(array: Any, dtype: np.dtype) -> np.ndarray:
    """Integers are rounded, because undoing a normalisation leaves a rounding error."""
    return (np.rint(array) if dtype.kind in "iu" else np.asarray(array)).astype(dtype)
