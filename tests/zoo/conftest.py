"""Runs of the RL Zoo's manager in this process."""

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from stable_baselines3.common.base_class import BaseAlgorithm

from sb3_pgfd import Demonstrations
from sb3_pgfd.zoo import register
from sb3_pgfd.zoo.experiment_manager import PgfdExperimentManager

ENV_ID = "PointToGoal-v0"


@pytest.fixture(scope="session")
def entry() -> dict[str, Any]:
    """The smallest entry of a yaml that learns."""
    small = {"batch_size": 8, "learning_starts": 10, "policy_kwargs": "dict(net_arch=[4])"}
    return {"policy": "MlpPolicy", "n_timesteps": 40, "pretrain_steps": 2, **small}


@pytest.fixture(scope="session")
def make_manager() -> Callable[..., PgfdExperimentManager]:
    """
    ``make_manager(folder, entry, algo)``: a manager as ``train`` makes it, with the entry in ``folder/my.yml`` and its runs in
    ``folder/logs``. Further arguments are the manager's.
    """
    register()

    def _make(
        folder: Path, entry: dict[str, Any] | None, algo: str = "ddpgfd", env_id: str = ENV_ID, **options: Any
    ) -> PgfdExperimentManager:
        if entry is not None:
            (folder / "my.yml").write_text(yaml.safe_dump({env_id: entry}))
            options["config"] = str(folder / "my.yml")
        args = Namespace(env=env_id, algo=algo, env_kwargs=options.get("env_kwargs"))
        options = {"eval_freq": -1, "seed": 1, "verbose": 0, "log_interval": 1, **options}
        return PgfdExperimentManager(args, algo, env_id, str(folder / "logs"), **options)

    return _make


@pytest.fixture(scope="session")
def run_to_its_end() -> Callable[[PgfdExperimentManager], BaseAlgorithm]:
    """What ``train`` does with a manager."""

    def _run(manager: PgfdExperimentManager) -> BaseAlgorithm:
        experiment = manager.setup_experiment()
        assert experiment is not None
        manager.learn(experiment[0])
        manager.save_trained_model(experiment[0])
        return experiment[0]

    return _run


@pytest.fixture
def demo_file(tmp_path: Path, demonstrations: Demonstrations) -> Path:
    """Three episodes, in a folder of their own."""
    return demonstrations.save(tmp_path / "demos" / "demo.npz")
