"""Callbacks for any SB3 algorithm."""

import os

from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.logger import CSVOutputFormat


class ProgressLog(BaseCallback):
    """
    Write everything that is logged to ``progress.csv`` as well, from the pretraining on.

    :param folder: Where; made if it is missing
    :param verbose: Verbosity level
    """

    def __init__(self, folder: str, verbose: int = 0):
        super().__init__(verbose)
        self.folder = folder
        self._format: CSVOutputFormat | None = None

    # Called when the logger is there and nothing is logged yet; `on_training_start` would miss the pretraining
    def _init_callback(self) -> None:
        if self._format is None:
            os.makedirs(self.folder, exist_ok=True)
            self._format = CSVOutputFormat(os.path.join(self.folder, "progress.csv"))
        if self._format not in self.logger.output_formats:
            self.logger.output_formats.append(self._format)

    def _on_step(self) -> bool:
        return True


class EvaluateFirst(BaseCallback):
    """
    Let an ``EvalCallback`` evaluate before the first step too: after pretraining, that is where the curve starts.

    :param evaluation: The callback, which is called by whoever owns it in all later steps
    """

    def __init__(self, evaluation: EvalCallback):
        super().__init__()
        self.evaluation = evaluation

    def _on_training_start(self) -> None:
        # Its own count of calls is still 0, a multiple of any frequency
        self.evaluation._on_step()

    def _on_step(self) -> bool:
        return True
