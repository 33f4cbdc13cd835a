"""Models to go on from."""

import os
from typing import Any

from stable_baselines3.common.callbacks import CheckpointCallback


class Checkpoints(CheckpointCallback):
    """
    SB3's ``CheckpointCallback``, but for replay buffers, which can take gigabytes each: only the newest one is kept, the
    last one is removed when the next is on disk.

    :param save_freq: Save every so many calls
    :param save_path: The folder
    :param options: Of ``CheckpointCallback``
    """

    def __init__(self, save_freq: int, save_path: str, **options: Any):
        super().__init__(save_freq, save_path, **options)
        self._newest_buffer: str | None = None

    def _on_step(self) -> bool:
        go_on = super()._on_step()
        path = self._checkpoint_path("replay_buffer_", extension="pkl")
        if self.save_replay_buffer and self.n_calls % self.save_freq == 0 and os.path.isfile(path):
            if self._newest_buffer is not None and self._newest_buffer != path:
                os.remove(self._newest_buffer)
            self._newest_buffer = path
        return go_on
