"""``train``, as a user runs it: in a process of its own."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from command import ENV_ID, PYTHON, SMALL, finish, ink, refused, run, train
from stable_baselines3 import PPO
from stable_baselines3.common.save_util import load_from_zip_file

from sb3_pgfd import DDPGfD
from sb3_pgfd.replay import DemoReplayBuffer
from sb3_pgfd.utils.files import hyperparams_file


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one finished run of 400 steps, and its replay buffer."""
    folder = tmp_path_factory.mktemp("zoo")
    train(folder, "--save-replay-buffer")
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
    assert ink(run_folder / "run.png") > 0.02


def test_train_keeps_the_buffer_with_its_demonstrations(run_folder: Path) -> None:
    model = DDPGfD.load(run_folder / f"{ENV_ID}.zip")
    model.load_replay_buffer(run_folder / "replay_buffer.pkl")
    assert isinstance(model.replay_buffer, DemoReplayBuffer)
    assert model.replay_buffer.n_demonstrations == 1000
    assert model.replay_buffer.size() == 400


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
    # The seed of a sampler that tries both: once by priorities, once with a share of demonstrations
    sampling = ["-optimize", "--n-trials", "2", "--n-jobs", "1", "--sampler", "random", "--seed", "12", *SMALL]
    arguments = ["--env", ENV_ID, "-n", "120", "--n-evaluations", "1", "--eval-episodes", "1", "--no-optim-plots"]
    output = run(folder, "train", *arguments, *sampling)
    assert "Number of finished trials:  2" in output
    assert "Sampled hyperparams" not in output, "a trial was pruned by an exception"


def test_the_zoos_own_algorithms_train_as_before(folder: Path) -> None:
    arguments = ["--algo", "ppo", "--env", "CartPole-v1", "-n", "64", "--eval-freq", "-1", "-params", "n_envs:1", "n_steps:32"]
    run(folder, "train", *arguments, "batch_size:32")
    assert PPO.load(folder / "logs" / "ppo" / "CartPole-v1_1" / "CartPole-v1.zip").num_timesteps == 64


def test_values_that_cannot_be_read_and_unknown_environments_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    unquoted = refused(capsys, "train", "-params", "demonstrations:my_demos.npz", code=2)
    assert "name 'my_demos' is not defined" in unquoted
    assert "demonstrations:'\"my_demos.npz\"'" in unquoted
    unknown = refused(capsys, "train", "--env", "Pendulun-v1")
    assert unknown.startswith("sb3-pgfd train: --env Pendulun-v1: found no such environment")
    assert "perhaps Pendulum-v1" in unknown
    assert "missing.npz" in refused(capsys, "train", "--env", ENV_ID, "-params", 'demonstrations:"missing.npz"')
    assert "_motor" in refused(capsys, "train", "--env", ENV_ID, "--gym-packages", "no_motor")
    assert list(tmp_path.rglob("*.zip")) == []


def test_a_traceback_is_shown_if_somebody_asks(tmp_path: Path) -> None:
    finished = finish(tmp_path, [PYTHON, "-m", "sb3_pgfd", "train", "--env", "Pendulun-v1"], SB3_PGFD_TRACEBACK="1")
    assert finished.returncode == 1
    assert "Traceback" in finished.stderr
    assert "CommandError: --env Pendulun-v1" in finished.stderr


def test_errors_while_learning_keep_their_traceback(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(
        "import gymnasium as gym\n"
        "from gymnasium.envs.classic_control import PendulumEnv\n"
        "class Broken(PendulumEnv):\n"
        "    def step(self, action):\n"
        "        raise ValueError('the motor is on fire')\n"
        "gym.register('Broken-v0', Broken, max_episode_steps=20)\n"
    )
    arguments = ["--env", "Broken-v0", "-n", "40", "--eval-freq", "-1", "--gym-packages", "broken"]
    # The installed command finds packages of the current folder, too
    script = str(Path(PYTHON).with_name("sb3-pgfd"))
    finished = finish(tmp_path, [script, "train", *arguments, *SMALL, "pretrain_steps:0"])
    assert finished.returncode == 1
    assert "Traceback" in finished.stderr
    assert "broken.py" in finished.stderr
