"""What is saved beside a model."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any, Literal

from stable_baselines3.common.vec_env import VecEnv

from sb3_pgfd.zoo.replacing import replaced

_CHECKPOINT = re.compile(r"(.+)_(\d+)_steps")


def saved_with(model_path: str | Path, what: Literal["vecnormalize", "replay_buffer"]) -> Path:
    """
    Where a model's own statistics of ``VecNormalize`` or its own replay buffer are, as opposed to those of the end of its
    run: ``rl_model_vecnormalize_1000_steps.pkl`` of the checkpoint ``rl_model_1000_steps.zip`` (SB3's name), and
    ``best_model_vecnormalize.pkl`` of ``best_model.zip``.

    :param model_path: Of the model
    :param what: Which of the two
    :return: Its path; there need not be one
    """
    path = Path(model_path)
    checkpoint = _CHECKPOINT.fullmatch(path.stem)
    if checkpoint is not None:
        prefix, steps = checkpoint.groups()
        return path.parent / f"{prefix}_{what}_{steps}_steps.pkl"
    return path.parent / f"{path.stem}_{what}.pkl"


@contextmanager
def own_statistics(zoo: ModuleType) -> Iterator[None]:
    """
    Let a command of the RL Zoo that plays a saved model normalise as that model has learned to. The Zoo takes the statistics
    of the end of the run for the best model and for checkpoints too.

    :param zoo: The module whose ``get_model_path`` and ``create_test_env`` the command calls
    """
    model_path = ""

    def get_model_path(*positional: Any, **keywords: Any) -> tuple[str, str, str]:
        nonlocal model_path
        name_prefix, model_path, log_path = find_model(*positional, **keywords)
        return name_prefix, model_path, log_path

    def create_test_env(env_id: str, *, stats_path: str | None, **keywords: Any) -> VecEnv:
        own = saved_with(model_path, "vecnormalize")
        if stats_path is None or not own.is_file():
            return make_env(env_id, stats_path=stats_path, **keywords)
        print(f"Statistics of VecNormalize: {own}")
        # The Zoo looks for a file of this name
        with TemporaryDirectory() as folder:
            shutil.copy(own, Path(folder) / "vecnormalize.pkl")
            return make_env(env_id, stats_path=folder, **keywords)

    find_model, make_env = zoo.get_model_path, zoo.create_test_env
    with replaced(zoo, "get_model_path", get_model_path), replaced(zoo, "create_test_env", create_test_env):
        yield
