"""A2CfD in the RL Zoo: what is registered, and the commands, as a user runs them."""

import csv
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import yaml
from rl_zoo3.hyperparams_opt import HYPERPARAMS_CONVERTER, HYPERPARAMS_SAMPLER
from rl_zoo3.utils import ALGOS
from stable_baselines3.common.save_util import load_from_zip_file

from sb3_pgfd import A2CfD
from sb3_pgfd.zoo import register
from sb3_pgfd.zoo.experiment_manager import PgfdExperimentManager

ENTRIES: dict[str, Any] = {
    "CartPole-v1": {"policy": "MlpPolicy", "n_timesteps": 1000, "n_envs": 2, "policy_kwargs": "dict(net_arch=[16])"},
    "Pendulum-v1": {
        "policy": "MlpPolicy",
        "n_timesteps": 1000,
        "n_envs": 2,
        "n_steps": 8,
        "normalize": True,
        "gamma": 0.9,
        "demonstrations": "Pendulum-v1",
        "learning_rate": "lin_2e-3",
        "actor_learning_rate": "lin_4e-4",
        "ent_coef": 1e-3,
        "pretrain_steps": 60,
        "critic_warmup_steps": 64,
        "use_rms_prop": True,
        "policy_kwargs": {"net_arch": [16]},
    },
}


def run(folder: Path, command: str, *arguments: str) -> str:
    """:return: What the command printed; the test fails with it if the command does"""
    finished = subprocess.run(
        [sys.executable, "-m", f"sb3_pgfd.{command}", "--algo", "a2cfd", *arguments],
        cwd=folder,
        env={**os.environ, "SDL_VIDEODRIVER": "dummy", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


def test_register_makes_it_known_to_the_zoo() -> None:
    register()
    register()
    assert ALGOS["a2cfd"] is A2CfD
    assert "a2cfd" in HYPERPARAMS_SAMPLER
    assert "a2cfd" in HYPERPARAMS_CONVERTER


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("env_id", "n_actions"), [("Pendulum-v1", 1), ("CartPole-v1", None)])
def test_sampled_hyperparameters_build_a_model_and_convert_back(seed: int, env_id: str, n_actions: Any) -> None:
    register()
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed)).ask()
    sampled: dict[str, Any] = HYPERPARAMS_SAMPLER["a2cfd"](trial, n_actions, 1, {})
    demonstrations = "Pendulum-v1" if env_id == "Pendulum-v1" else None
    model = A2CfD("MlpPolicy", env_id, demonstrations=demonstrations, device="cpu", **{**sampled, "pretrain_steps": 1})
    assert (model.gamma, model.gae_lambda, model.bc_decay) == tuple(sampled[k] for k in ("gamma", "gae_lambda", "bc_decay"))
    assert 0.0 < model.bc_decay < 1.0
    model.learn(model.n_steps)
    assert HYPERPARAMS_CONVERTER["a2cfd"](trial.params) == sampled


def test_schedules_are_spelled_like_the_zoos() -> None:
    processed = PgfdExperimentManager._preprocess_schedules({"learning_rate": "lin_1e-3", "actor_learning_rate": "lin_4e-4"})
    model = A2CfD("MlpPolicy", "Pendulum-v1", device="cpu", **processed)
    assert model.lr_schedule(0.5) == pytest.approx(5e-4)
    assert model.actor_lr_schedule(0.5) == pytest.approx(2e-4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one finished run on each of the tasks."""
    folder = tmp_path_factory.mktemp("zoo")
    (folder / "entries.yml").write_text(yaml.safe_dump(ENTRIES))
    shared = ["--conf-file", "entries.yml", "--eval-episodes", "1", "--num-threads", "1", "--seed", "3", "--log-interval", "2"]
    run(folder, "train", "--env", "CartPole-v1", "-n", "200", "--eval-freq", "100", *shared)
    run(folder, "train", "--env", "Pendulum-v1", "-n", "320", "--eval-freq", "160", *shared, "-params", "gae_lambda:0.9")
    return folder


def run_folder(folder: Path, env_id: str, number: int = 1) -> Path:
    return folder / "logs" / "a2cfd" / f"{env_id}_{number}"


def test_train_without_demonstrations(folder: Path) -> None:
    data, _, _ = load_from_zip_file(run_folder(folder, "CartPole-v1") / "CartPole-v1.zip")
    assert data is not None
    # Whole rollouts of 5 steps of 2 environments
    assert (data["num_timesteps"], data["_n_updates"], data["n_envs"]) == (200, 20, 2)
    assert data["demonstrations_source"] is None


def test_train_with_demonstrations_schedules_and_normalisation(folder: Path) -> None:
    path = run_folder(folder, "Pendulum-v1")
    data, _, _ = load_from_zip_file(path / "Pendulum-v1.zip")
    assert data is not None
    assert data["demonstrations_source"] == "Pendulum-v1"
    # 20 updates, of which the first 64 / 16 left the actor alone
    assert (data["_n_updates"], data["_n_actor_updates"], data["_n_held_steps"]) == (20, 16, 64)
    assert (data["gae_lambda"], data["gamma"], data["ent_coef"]) == (0.9, 0.9, 1e-3)
    with (path / "progress.csv").open() as file:
        rows = [{name: float(text) for name, text in row.items() if text} for row in csv.DictReader(file)]
    assert max(row.get("pretrain/n_updates", 0) for row in rows) == 60
    rates = [(row["train/learning_rate"], row["train/actor_learning_rate"]) for row in rows if "train/learning_rate" in row]
    assert rates[-1] == (0.0, 0.0)
    assert rates[0] == pytest.approx((2e-3 * 0.9, 4e-4 * 0.9))
    with np.load(path / "evaluations.npz") as evaluations:
        assert evaluations["timesteps"].tolist() == [0, 160, 320]


def test_enjoy_runs_the_best_model_without_demonstrations(folder: Path) -> None:
    assert "Mean reward" in run(folder, "enjoy", "--env", "Pendulum-v1", "-n", "400", "--no-render", "--load-best")


def test_resuming_does_not_pretrain_or_warm_up_again(folder: Path) -> None:
    trained = run_folder(folder, "Pendulum-v1") / "Pendulum-v1.zip"
    arguments = ["--env", "Pendulum-v1", "-n", "32", "--eval-freq", "-1", "--conf-file", "entries.yml", "-i", str(trained)]
    run(folder, "train", *arguments, "--log-interval", "1")
    resumed = run_folder(folder, "Pendulum-v1", 2)
    data, _, _ = load_from_zip_file(resumed / "Pendulum-v1.zip")
    assert data is not None
    assert (data["_n_updates"], data["_n_actor_updates"], data["_n_held_steps"]) == (22, 18, 64)
    assert "pretrain" not in (resumed / "progress.csv").read_text()


def test_optimize_tries_configurations_that_all_build(folder: Path) -> None:
    arguments = ["--env", "CartPole-v1", "-n", "120", "--conf-file", "entries.yml", "-optimize", "--n-trials", "2"]
    arguments += ["--n-evaluations", "1", "--eval-episodes", "1", "--no-optim-plots", "--sampler", "random", "--seed", "1"]
    output = run(folder, "train", *arguments)
    assert "Number of finished trials:  2" in output
    assert "Sampled hyperparams" not in output, "a trial was pruned by an exception"
