"""The statistics that belong to a saved model."""

from pathlib import Path

from stable_baselines3.common.callbacks import BaseCallback

from sb3_pgfd.utils.files import write_whole


class SaveNormalization(BaseCallback):
    """
    Save the statistics of ``VecNormalize`` each time it is called, e.g. as ``callback_on_new_best`` of an ``EvalCallback``:
    the best model needs those of its time, not the last ones. Without ``VecNormalize`` it does nothing.

    :param path: The file, replaced each time
    :param verbose: Verbosity level
    """

    def __init__(self, path: str | Path, verbose: int = 0):
        super().__init__(verbose)
        self.path = Path(path)

    def _on_step(self) -> bool:
        normalize = self.model.get_vec_normalize_env()
        if normalize is not None:
            with write_whole(self.path, overwrite=True) as temporary:
                normalize.save(str(temporary))
        return True
