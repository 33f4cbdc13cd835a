"""A file with everything that is logged."""

import os

from stable_baselines3.common.callbacks import BaseCallback
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
