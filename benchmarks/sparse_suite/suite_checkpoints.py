"""What an interrupted cell goes on from: the model, its replay buffer, the rows so far and the random numbers."""

import json
import pickle
import random
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.vec_env import VecNormalize

from sb3_pgfd.utils.files import write_whole


@dataclass(frozen=True)
class Progress:
    """Of a cell, up to its last evaluation."""

    config: str
    """Fingerprint of the settings"""
    rows: list[dict[str, Any]]
    seconds: float
    """Of learning"""
    evaluation_seconds: float

    @property
    def steps(self) -> int:
        """Environment steps at the last evaluation"""
        return int(self.rows[-1]["steps"])


def save_checkpoint(folder: Path, model: BaseAlgorithm, progress: Progress) -> None:
    """
    Write the checkpoint whole, then remove the one before.

    :param folder: Of the cell
    :param model: To go on with
    :param progress: So far
    """
    path = folder / f"checkpoint_{progress.steps}"
    with write_whole(path, overwrite=True, folder=True) as temporary:
        model.save(temporary / "model.zip")
        if isinstance(model, OffPolicyAlgorithm):
            model.save_replay_buffer(temporary / "buffer.pkl")
        normalize = model.get_vec_normalize_env()
        if normalize is not None:
            normalize.save(str(temporary / "normalize.pkl"))
        (temporary / "random.pkl").write_bytes(pickle.dumps((random.getstate(), np.random.get_state(), th.get_rng_state())))
        (temporary / "progress.json").write_text(json.dumps(asdict(progress)))
    for older in folder.glob("checkpoint_*"):
        if older != path:
            shutil.rmtree(older)


def find_checkpoint(folder: Path) -> Path | None:
    """
    :param folder: Of a cell
    :return: The latest checkpoint, if there is one
    """
    return max(folder.glob("checkpoint_*"), key=lambda path: int(path.name.rpartition("_")[2]), default=None)


def read_progress(checkpoint: Path) -> Progress:
    """:param checkpoint: Of a cell"""
    return Progress(**json.loads((checkpoint / "progress.json").read_text()))


def load_checkpoint(
    checkpoint: Path, algorithm: type[BaseAlgorithm], env: GymEnv, seed: int, arguments: Mapping[str, Any]
) -> BaseAlgorithm:
    """
    :param checkpoint: Of a cell
    :param algorithm: The model's class
    :param env: To go on in
    :param seed: Of the cell
    :param arguments: That the zip does not hold
    :return: The model, ready to learn on, and the process's random numbers are what they were
    """
    if isinstance(env, VecNormalize):
        env = VecNormalize.load(str(checkpoint / "normalize.pkl"), env.venv)
    model = algorithm.load(checkpoint / "model.zip", env=env, device="cpu", **arguments)
    if isinstance(model, OffPolicyAlgorithm):
        model.load_replay_buffer(checkpoint / "buffer.pkl")
    environment = model.get_env()
    assert environment is not None
    # Loading seeds it as at the beginning, and the same starts would come again
    environment.seed(seed + 1000 * (1 + model.num_timesteps))
    python, numpy, torch = pickle.loads((checkpoint / "random.pkl").read_bytes())
    random.setstate(python)
    np.random.set_state(numpy)
    th.set_rng_state(torch)
    return model
