"""An evaluation before the first step."""

from stable_baselines3.common.callbacks import BaseCallback, EvalCallback


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
