"""The RL Zoo's commands, as a user runs them: in a process of their own."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from stable_baselines3 import PPO
from stable_baselines3.common.save_util import load_from_zip_file

from sb3_pgfd import DDPGfD
from sb3_pgfd.common.resources import hyperparams_file
from sb3_pgfd.replay import DemoReplayBuffer

ENV_ID = "Pendulum-v1"
SMALL = ["-params", "pretrain_steps:60", "batch_size:32", "learning_starts:20", "policy_kwargs:dict(net_arch=[16])"]


def run(folder: Path, command: str, *arguments: str) -> str:
    """:return: What the command printed; the test fails with it if the command does"""
    environment = {**os.environ, "SDL_VIDEODRIVER": "dummy", "OMP_NUM_THREADS": "1"}
    finished = subprocess.run(
        [sys.executable, "-m", f"sb3_pgfd.{command}", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one finished run, of 400 steps."""
    folder = tmp_path_factory.mktemp("zoo")
    arguments = ["--env", ENV_ID, "-n", "400", "--eval-freq", "200", "--eval-episodes", "2", "--seed", "3"]
    run(folder, "train", "--algo", "ddpgfd", *arguments, "--save-replay-buffer", "--log-interval", "1", *SMALL)
    return folder


@pytest.fixture(scope="module")
def run_folder(folder: Path) -> Path:
    return folder / "logs" / "ddpgfd" / f"{ENV_ID}_1"


def test_train_saves_a_model_that_learned_from_the_packaged_demonstrations(run_folder: Path) -> None:
    data, _, _ = load_from_zip_file(run_folder / f"{ENV_ID}.zip")
    assert data is not None
    assert data["num_timesteps"] == 400
    assert data["demonstrations_source"] == ENV_ID
    # 60 before the first step, none up to the 20th, then one per step
    assert data["_n_updates"] == 60 + 380
    assert data["bc_coef"] == yaml.safe_load(hyperparams_file("ddpgfd").read_text())[ENV_ID]["bc_coef"] > 0.0


def test_train_evaluates_the_pretrained_policy_first(run_folder: Path) -> None:
    with np.load(run_folder / "evaluations.npz") as evaluations:
        assert evaluations["timesteps"].tolist() == [0, 200, 400]


def test_train_draws_a_picture_that_is_not_blank(run_folder: Path) -> None:
    pixels = np.asarray(Image.open(run_folder / "run.png").convert("L"))
    assert pixels.shape[0] > 500
    assert (pixels < 128).mean() > 0.005


def test_train_keeps_the_buffer_with_its_demonstrations(run_folder: Path) -> None:
    model = DDPGfD.load(run_folder / f"{ENV_ID}.zip")
    model.load_replay_buffer(run_folder / "replay_buffer.pkl")
    assert isinstance(model.replay_buffer, DemoReplayBuffer)
    assert model.replay_buffer.n_demonstrations == 1000
    assert model.replay_buffer.size() == 400


def test_enjoy_runs_the_model_without_demonstrations(folder: Path) -> None:
    output = run(folder, "enjoy", "--algo", "ddpgfd", "--env", ENV_ID, "-n", "400", "--no-render")
    assert "2 Episodes" in output
    assert "Mean reward" in output


def test_enjoy_loads_the_best_model_from_another_folder(folder: Path) -> None:
    arguments = ["--env", ENV_ID, "-n", "200", "--no-render", "--load-best", "-f", "logs"]
    assert "1 Episodes" in run(folder, "enjoy", *arguments)


def test_resuming_goes_on_with_the_buffer_and_does_not_pretrain_again(folder: Path, run_folder: Path) -> None:
    arguments = ["--env", ENV_ID, "-n", "100", "--eval-freq", "-1", "-i", str(run_folder / f"{ENV_ID}.zip")]
    output = run(folder, "train", "--algo", "ddpgfd", *arguments, "--save-replay-buffer", *SMALL)
    assert "Loading replay buffer" in output
    resumed = run_folder.with_name(f"{ENV_ID}_2")
    model = DDPGfD.load(resumed / f"{ENV_ID}.zip")
    # 80 more updates, from the 21st step on, and no pretraining
    assert model._n_updates == 60 + 380 + 80
    assert "pretrain" not in (resumed / "progress.csv").read_text()
    model.load_replay_buffer(resumed / "replay_buffer.pkl")
    assert model.buffer.size() == 500


def test_resuming_without_a_saved_buffer_brings_the_demonstrations_back(folder: Path, run_folder: Path) -> None:
    alone = folder / "alone.zip"
    alone.write_bytes((run_folder / f"{ENV_ID}.zip").read_bytes())
    run(folder, "train", "--env", ENV_ID, "-n", "50", "--eval-freq", "-1", "-i", str(alone), "-f", "resumed", *SMALL)
    assert (folder / "resumed" / "ddpgfd" / f"{ENV_ID}_1" / f"{ENV_ID}.zip").is_file()


def test_optimize_tries_configurations_that_all_build(folder: Path) -> None:
    # The seed of a sampler whose first trials are small: once by priorities, once with a share of demonstrations
    sampling = ["-optimize", "--n-trials", "2", "--n-jobs", "1", "--sampler", "random", "--seed", "745"]
    arguments = ["--env", ENV_ID, "-n", "120", "--n-evaluations", "1", "--eval-episodes", "1", "--no-optim-plots"]
    output = run(folder, "train", *arguments, *sampling)
    assert "Number of finished trials:  2" in output
    assert "Sampled hyperparams" not in output, "a trial was pruned by an exception"


def test_the_zoos_own_algorithms_train_as_before(folder: Path) -> None:
    arguments = ["--algo", "ppo", "--env", "CartPole-v1", "-n", "64", "--eval-freq", "-1", "-params", "n_envs:1", "n_steps:32"]
    run(folder, "train", *arguments, "batch_size:32")
    assert PPO.load(folder / "logs" / "ppo" / "CartPole-v1_1" / "CartPole-v1.zip").num_timesteps == 64
