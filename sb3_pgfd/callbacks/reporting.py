"""Evaluate, log, draw and summarise a run."""

import os
from pathlib import Path

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.logger import CSVOutputFormat, Figure, TensorBoardOutputFormat

from sb3_pgfd.common.metrics import without_tables
from sb3_pgfd.demonstrations import Demonstrations
from sb3_pgfd.demonstrations.inspection.plots import new_figure
from sb3_pgfd.plotting import run_figure
from sb3_pgfd.run_summary import RunSummary, summarize_run, write_summary
from sb3_pgfd.utils.files import write_whole
from sb3_pgfd.utils.warning import warn_user


class Evaluation(EvalCallback):
    """
    SB3's ``EvalCallback``, which prints its results in three lines and not in a table as well. ``evaluations.npz`` is whole or
    as it was, whatever happens while it is written. A resumed run must have as many episodes in each evaluation as before.
    """

    _episodes_before: int | None = None

    def before_saving(self) -> None:
        """Remember what :meth:`after_restoring` compares."""
        self._episodes_before = self.n_eval_episodes

    def after_restoring(self) -> None:
        """:raises ValueError: If the evaluations so far had another number of episodes: they are rows of one table"""
        found, before = self.n_eval_episodes, self._episodes_before
        if self.evaluations_results and before not in (None, found):
            raise ValueError(
                f"Evaluation: found n_eval_episodes={found}, expected {before} as in the evaluations of the run that goes on"
            )

    def _on_step(self) -> bool:
        with without_tables(self.logger):
            if self.log_path is None or self.eval_freq <= 0 or self.n_calls % self.eval_freq != 0:
                return super()._on_step()
            path, best = self.log_path, self.best_mean_reward
            # They read the file, so they come after it
            callbacks = self.callback, self.callback_on_new_best
            self.callback = self.callback_on_new_best = None
            try:
                with write_whole(Path(f"{path}.npz"), overwrite=True) as temporary, temporary.open("wb") as file:
                    # NumPy writes to open files, too
                    self.log_path = file  # type: ignore[assignment]
                    super()._on_step()
            finally:
                self.log_path, (self.callback, self.callback_on_new_best) = path, callbacks
            go_on = True
            if self.callback_on_new_best is not None and self.best_mean_reward > best:
                go_on = self.callback_on_new_best.on_step()
            return go_on and self._on_event()


class EvaluateFirst(BaseCallback):
    """
    Let an ``EvalCallback`` also evaluate before the first step: the learning curve then starts right after pretraining.

    :param evaluation: The ``EvalCallback``; it must be in the list of callbacks, too
    """

    def __init__(self, evaluation: EvalCallback):
        super().__init__()
        self.evaluation = evaluation
        self._goes_on = True

    def _on_training_start(self) -> None:
        self._goes_on = True
        # Its number of calls is still 0, a multiple of any frequency, unless a run is resumed
        if self.evaluation.n_calls == 0 and self.evaluation.last_mean_reward == -np.inf:
            self._goes_on = self.evaluation._on_step()

    # SB3 asks nobody before the first step whether to stop
    def _on_step(self) -> bool:
        return self._goes_on


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
        path = self.folder / "progress.csv"
        if boards and not path.is_file():
            warn_user(f"RunFigure: found no {path}, expected one: put a ProgressLog of this folder before it")
            return
        # Before the first dump there is nothing to draw
        if not boards or not path.read_text():
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
