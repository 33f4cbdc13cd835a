"""A2CfD with the RL Zoo's manager: several environments, normalised rewards, schedules, and a run that goes on."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stable_baselines3.common.base_class import BaseAlgorithm

from sb3_pgfd import A2CfD
from sb3_pgfd.zoo.experiment_manager import PgfdExperimentManager

Make = Callable[..., PgfdExperimentManager]
Run = Callable[[PgfdExperimentManager], BaseAlgorithm]
ENV_ID = "Pendulum-v1"
ENTRY: dict[str, Any] = {
    "policy": "MlpPolicy",
    "n_timesteps": 320,
    "n_envs": 2,
    "n_steps": 8,
    "normalize": True,
    "gamma": 0.9,
    "demonstrations": ENV_ID,
    "learning_rate": "lin_2e-3",
    "actor_learning_rate": "lin_4e-4",
    "pretrain_steps": 60,
    "critic_warmup_steps": 64,
    "use_rms_prop": True,
    "policy_kwargs": {"net_arch": [16]},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, make_manager: Make, run_to_its_end: Run) -> Path:
    folder = tmp_path_factory.mktemp("a2cfd")
    options = {"eval_freq": 160, "n_eval_episodes": 1, "hyperparams": {"gae_lambda": 0.9}, "log_interval": 2}
    run_to_its_end(make_manager(folder, ENTRY, "a2cfd", ENV_ID, **options))
    return folder


def load(folder: Path, number: int) -> A2CfD:
    return A2CfD.load(folder / f"logs/a2cfd/{ENV_ID}_{number}/{ENV_ID}.zip")


def test_demonstrations_schedules_and_normalisation_reach_the_model(folder: Path) -> None:
    model, path = load(folder, 1), folder / f"logs/a2cfd/{ENV_ID}_1"
    assert model.demonstrations_source == ENV_ID
    # 20 updates, of which the first 64 / 16 left the actor alone
    assert (model.num_timesteps, model._n_updates, model.n_envs) == (320, 20, 2)
    assert (model.gae_lambda, model.gamma) == (0.9, 0.9)
    with (path / "progress.csv").open() as file:
        rows = [{name: float(text) for name, text in row.items() if text} for row in csv.DictReader(file)]
    assert max(row.get("pretrain/n_updates", 0) for row in rows) == 60
    rates = [(row["train/learning_rate"], row["train/actor_learning_rate"]) for row in rows if "train/learning_rate" in row]
    assert rates[-1] == (0.0, 0.0)
    assert rates[0] == pytest.approx((2e-3 * 0.9, 4e-4 * 0.9))
    with np.load(path / "evaluations.npz") as evaluations:
        assert evaluations["timesteps"].tolist() == [0, 160, 320]


def test_resuming_does_not_pretrain_or_warm_up_again(folder: Path, make_manager: Make, run_to_its_end: Run) -> None:
    trained = folder / f"logs/a2cfd/{ENV_ID}_1/{ENV_ID}.zip"
    run_to_its_end(make_manager(folder, {**ENTRY, "n_timesteps": 32}, "a2cfd", ENV_ID, trained_agent=str(trained)))
    resumed = load(folder, 2)
    assert resumed._n_updates == 22
    assert "pretrain" not in (folder / f"logs/a2cfd/{ENV_ID}_2/progress.csv").read_text()
    assert resumed._n_actor_updates == load(folder, 1)._n_actor_updates + 2


def test_cartpole_is_learned_without_demonstrations(tmp_path: Path, make_manager: Make, run_to_its_end: Run) -> None:
    entry = {"policy": "MlpPolicy", "n_timesteps": 40, "n_envs": 2, "policy_kwargs": "dict(net_arch=[4])"}
    model = run_to_its_end(make_manager(tmp_path, entry, "a2cfd", "CartPole-v1"))
    assert isinstance(model, A2CfD)
    # Whole rollouts of 5 steps of 2 environments
    assert (model.num_timesteps, model._n_updates, model.demonstrations_source) == (40, 4, None)
