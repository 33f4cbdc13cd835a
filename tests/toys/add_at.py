"""Demonstrations that come while a model learns."""

from stable_baselines3.common.callbacks import BaseCallback

from sb3_pgfd import A2CfD, DDPGfD, Demonstrations


class AddAt(BaseCallback):
    """Adds demonstrations in a step; in step 0 when learning starts."""

    def __init__(self, dataset: Demonstrations, step: int):
        super().__init__()
        self.dataset, self.step = dataset, step

    def _on_training_start(self) -> None:
        self.add_if_due()

    def _on_step(self) -> bool:
        self.add_if_due()
        return True

    def add_if_due(self) -> None:
        if self.num_timesteps == self.step:
            assert isinstance(self.model, (A2CfD, DDPGfD))
            self.model.add_demonstrations(self.dataset)
