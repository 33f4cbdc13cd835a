"""The picture of a run in TensorBoard."""

from pathlib import Path

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Figure, TensorBoardOutputFormat

from sb3_pgfd.plotting import new_figure, run_figure


class RunFigure(BaseCallback):
    """
    Show :func:`~sb3_pgfd.plotting.run_figure` in TensorBoard, as ``run/figure``, when the training ends. Needs a model
    with ``tensorboard_log``, without one it does nothing.

    :param folder: Of the run, with a ``progress.csv`` that a :class:`ProgressLog` before this callback writes
    :param draw_freq: Draw every so many calls too: of steps or, as ``callback_after_eval`` of an ``EvalCallback``, of
        evaluations; 0: only at the end
    :param verbose: Verbosity level
    :raises ImportError: If matplotlib is not installed
    """

    def __init__(self, folder: str | Path, draw_freq: int = 0, verbose: int = 0):
        super().__init__(verbose)
        self.folder = Path(folder)
        self.draw_freq = draw_freq

    # A missing library is known now, not when the training is over
    def _init_callback(self) -> None:
        new_figure((1.0, 1.0))

    def _on_step(self) -> bool:
        if self.draw_freq > 0 and self.n_calls % self.draw_freq == 0:
            self._draw()
        return True

    def _on_training_end(self) -> None:
        self._draw()

    def _draw(self) -> None:
        boards = [item for item in self.logger.output_formats if isinstance(item, TensorBoardOutputFormat)]
        # Before the first dump there is nothing to draw
        if not boards or not (self.folder / "progress.csv").read_text():
            return
        figure = Figure(run_figure(self.folder), close=True)
        for board in boards:
            # Past the logger, whose dump would write what is pending before its time
            board.write({"run/figure": figure}, {"run/figure": ()}, self.model.num_timesteps)
