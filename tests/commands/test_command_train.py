"""``train``, as a user runs it."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from command import ENV_ID, PYTHON, SMALL, TRAIN, call, finish, ink, refused, run
from stable_baselines3 import PPO
from stable_baselines3.common.save_util import load_from_zip_file

from sb3_pgfd import DDPGfD
from sb3_pgfd.replay import DemoReplayBuffer
from sb3_pgfd.td3fd import TD3fD
from sb3_pgfd.utils.files import hyperparams_file


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one finished run of 400 steps, and its replay buffer."""
    folder = tmp_path_factory.mktemp("zoo")
    run(folder, "train", *TRAIN, "--save-replay-buffer")
    return folder


@pytest.fixture
def run_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folder)
    return folder / "logs" / "ddpgfd" / f"{ENV_ID}_1"


def test_train_saves_a_model_that_learned_from_the_packaged_demonstrations(run_folder: Path) -> None:
    data, _, _ = load_from_zip_file(run_folder / f"{ENV_ID}.zip")
    assert data is not None
    assert data["num_timesteps"] == 400
    assert data["demonstrations_source"] == ENV_ID
    # 60 before the first step, none up to the 20th, then one per step
    assert data["_n_updates"] == 60 + 380
    assert data["bc_coef"] == yaml.safe_load(hyperparams_file("ddpgfd").read_text())[ENV_ID]["bc_coef"] > 0.0
    # The pretrained policy is evaluated first
    with np.load(run_folder / "evaluations.npz") as evaluations:
        assert evaluations["timesteps"].tolist() == [0, 200, 400]
    assert ink(run_folder / "run.png") > 0.02
    model = DDPGfD.load(run_folder / f"{ENV_ID}.zip")
    model.load_replay_buffer(run_folder / "replay_buffer.pkl")
    assert isinstance(model.replay_buffer, DemoReplayBuffer)
    assert (model.replay_buffer.n_demonstrations, model.replay_buffer.size()) == (1000, 400)


def test_resuming_goes_on_with_the_buffer_and_does_not_pretrain_again(
    run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--env", ENV_ID, "-n", "100", "--eval-freq", "-1", "-i", str(run_folder / f"{ENV_ID}.zip")]
    assert "Loading replay buffer" in call(capsys, "train", *arguments, "--save-replay-buffer", *SMALL)
    resumed = run_folder.with_name(f"{ENV_ID}_2")
    model = DDPGfD.load(resumed / f"{ENV_ID}.zip")
    # 80 more updates, from the 21st step on, and no pretraining
    assert model._n_updates == 60 + 380 + 80
    assert "pretrain" not in (resumed / "progress.csv").read_text()
    model.load_replay_buffer(resumed / "replay_buffer.pkl")
    assert model.buffer.size() == 500


def test_trials_begin_anew(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--env", ENV_ID, "-i", str(run_folder / f"{ENV_ID}.zip"), "-optimize"]
    assert "found it with -optimize, expected one of them: trials begin anew" in refused(capsys, "train", *arguments)


def test_an_environment_without_an_entry_of_ddpgfd_is_learned_by_td3fd(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = ["pretrain_steps:0", "policy_kwargs:dict(net_arch=[4])", "replay_buffer_kwargs:dict(her_ratio=0.0)"]
    call(capsys, "train", "--env", "PointToGoal-v0", "-n", "10", "--eval-freq", "-1", "-params", *given)
    model = TD3fD.load(tmp_path / "logs/td3fd/PointToGoal-v0_1/PointToGoal-v0.zip")
    assert (model.num_timesteps, model.policy_kwargs["net_arch"], model.policy_delay) == (10, [4], 2)
    # And so does enjoy
    assert "Loading logs/td3fd/PointToGoal-v0_1" in call(capsys, "enjoy", "--env", "PointToGoal-v0", "-n", "5", "--no-render")


def test_the_zoos_own_algorithms_train_as_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["--al", "ppo", "-n", "64", "--eval-freq", "-1", "-params", "n_envs:1", "n_steps:32", "batch_size:32"]
    call(capsys, "train", *arguments)
    assert PPO.load("logs/ppo/CartPole-v1_1/CartPole-v1.zip").num_timesteps == 64


def test_what_cannot_be_read_or_found_is_refused(
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
    for arguments, message in (
        (["--device", "foo"], "--device: found 'foo', expected auto, cpu, cuda or cuda:<number>"),
        (["--eval-episodes", "0"], "--eval-episodes: found 0, expected at least 1, or --eval-freq -1"),
        (["-optimize", "--study-name", "a", "--storage", "a.db"], "--storage: found 'a.db', expected a journal, file.log, or"),
        (
            ["-optimize", "--sampler", "auto"],
            "--sampler: found auto and no optunahub, expected it (pip install optunahub), or",
        ),
    ):
        assert message in refused(capsys, "train", "--env", ENV_ID, *arguments)
    assert "no_motor" in refused(capsys, "train", "--env", ENV_ID, "--gym-packages", "no_motor")
    misspelt = ["train", "--env", ENV_ID, "-params", "bc_coeff:1.0"]
    expected = "sb3-pgfd train: -params: DDPGfD: found the unknown argument 'bc_coeff', did you mean 'bc_coef'?"
    assert refused(capsys, *misspelt) == refused(capsys, *misspelt, "-optimize") == expected
    assert list(tmp_path.iterdir()) == []


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


def test_what_makes_a_run_useless_is_noted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ("train", "--algo", "td3fd", "--env", ENV_ID, "--dry-run", "-params", "critic_warmup_steps:1000")
    output = call(capsys, *command, "-n", "1000", "--env-kwargs", "max_episode_steps:-1")
    assert f"Note: {ENV_ID} has no max_episode_steps" in output
    assert "Note: critic_warmup_steps: the actor only clones for 1,000 steps, and this run has 1,000" in output
    assert "Note:" not in call(capsys, *command, "-n", "1001")
    assert "Note: --eval-freq: found 2,000, and this run has 1,001 steps" in call(
        capsys, *command[:-2], "-n", "1001", "--eval-freq", "2000"
    )
