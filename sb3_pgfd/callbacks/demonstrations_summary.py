"""The last word of a run."""

import json
from pathlib import Path

from stable_baselines3.common.callbacks import BaseCallback, EvalCallback

from sb3_pgfd.callbacks.run_summary import RunSummary, summarize_run
from sb3_pgfd.demonstrations import Demonstrations
from sb3_pgfd.utils.files import write_whole


class DemonstrationsSummary(BaseCallback):
    """
    When the training ends, say in three lines how the agent compares with its demonstrations: return, success and episode
    length. See :func:`summarize_run` for what is compared.

    :param evaluation: What evaluates the agent; None: its training episodes count
    :param demonstrations: To compare with; None: the model's own, or those in its replay buffer
    :param folder: Where ``summary.json`` is written, None: nowhere
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
        self.evaluation = evaluation
        self.demonstrations = demonstrations
        self.folder = folder
        self.summary: RunSummary | None = None
        """Of the training that ended last"""

    # Demonstrations that cannot be read are refused before anything is learned
    def _init_callback(self) -> None:
        if self.demonstrations is not None:
            self.demonstrations = Demonstrations.load(self.demonstrations)

    def _on_training_start(self) -> None:
        self.summary = None

    def _on_step(self) -> bool:
        return True

    def _on_training_end(self) -> None:
        # The RL Zoo calls it once more
        if self.summary is not None:
            return
        self.summary = summarize_run(self.model, self.evaluation, self.demonstrations)
        if self.verbose >= 1:
            print(self.summary)
        if self.folder is not None:
            write_summary(self.summary, self.folder)


def write_summary(summary: RunSummary, folder: str | Path) -> Path:
    """
    :param summary: Of a run
    :param folder: Of the run; a file of an earlier one is replaced
    :return: Path of the file, ``summary.json``
    """
    path = Path(folder) / "summary.json"
    with write_whole(path, overwrite=True) as temporary:
        temporary.write_text(json.dumps(summary.to_dict(), indent=2) + "\n")
    return path
