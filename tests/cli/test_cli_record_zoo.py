"""``sb3-pgfd demos record`` from a run of the RL Zoo."""

import shutil
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import yaml
from command_line import run
from foreign_files import give_away
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from sb3_pgfd import Demonstrations
from sb3_pgfd.wrappers import CameraObservation

WRAPPER = {"rl_zoo3.wrappers.HistoryWrapper": {"horizon": 2}}
CONFIG = {
    "n_timesteps": 128,
    "policy": "MlpPolicy",
    "n_steps": 64,
    "batch_size": 64,
    "n_epochs": 1,
    "policy_kwargs": "dict(net_arch=[4])",
    "normalize": True,
    "env_wrapper": [WRAPPER],
}


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a run with normalised observations of the last two steps, in another gravity."""
    import rl_zoo3.exp_manager
    import rl_zoo3.train

    folder = tmp_path_factory.mktemp("zoo")
    (folder / "ppo.yml").write_text(yaml.safe_dump({"Pendulum-v1": CONFIG}))
    command = [
        "train",
        "--algo",
        "ppo",
        "--env",
        "Pendulum-v1",
        "--env-kwargs",
        "g:9.5",
        "--conf-file",
        str(folder / "ppo.yml"),
    ]
    options = ["-f", str(folder / "logs"), "--eval-freq", "128", "--eval-episodes", "1", "--device", "cpu", "--seed", "1"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [*command, *options])
        # Another test in this process may have put ours in its place
        patch.setattr(rl_zoo3.train, "ExperimentManager", rl_zoo3.exp_manager.ExperimentManager)
        rl_zoo3.train.train()
    return folder / "logs"


def command(tmp_path: Path, *options: object) -> tuple[object, ...]:
    return (
        "record",
        tmp_path / "out.npz",
        "--env",
        "Pendulum-v1",
        "--episodes",
        1,
        "--no-progress",
        "--algo",
        "ppo",
        *options,
    )


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert run(*arguments) == 1
    return capsys.readouterr().err


def run_folder(logs: Path) -> Path:
    return logs / "ppo" / "Pendulum-v1_1"


@pytest.mark.parametrize(("source", "name"), [("--zoo", "best_model"), ("--model", "Pendulum-v1")])
def test_the_runs_wrapper_statistics_and_arguments_are_found(
    source: str, name: str, logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    file = run_folder(logs) / f"{name}.zip"
    best = ["--load-best"] if name == "best_model" else []
    options = (["--zoo", str(logs), *best] if source == "--zoo" else ["--model", str(file)]) + ["--seed", "3"]
    assert run(*command(tmp_path, *options)) == 0
    said = capsys.readouterr().err
    for words in ("arguments of the environment: {'g': 9.5}", "HistoryWrapper", "vecnormalize.pkl"):
        assert words in said
    found = Demonstrations.load(tmp_path / "out.npz")
    assert isinstance(found.observations, np.ndarray)
    # Two observations of three numbers and two actions of one
    assert found.observations.shape == (200, 8)
    assert found.metadata["env_kwargs"] == {"g": 9.5}
    assert "HistoryWrapper" in found.metadata["producer"]
    np.testing.assert_allclose(found.observations[:, 3] ** 2 + found.observations[:, 4] ** 2, 1, rtol=1e-5)
    from rl_zoo3.wrappers import HistoryWrapper

    env = DummyVecEnv([lambda: HistoryWrapper(gym.make("Pendulum-v1"), horizon=2)])
    statistics = VecNormalize.load(str(run_folder(logs) / "Pendulum-v1" / "vecnormalize.pkl"), env)
    expected = PPO.load(file, device="cpu").predict(statistics.normalize_obs(found.observations), deterministic=True)[0]
    np.testing.assert_allclose(found.actions, expected, rtol=1e-4, atol=1e-5)


def test_arguments_on_the_command_line_come_first(logs: Path, tmp_path: Path):
    assert run(*command(tmp_path, "--zoo", logs, "--env-kwargs", "g=8.0")) == 0
    assert Demonstrations.load(tmp_path / "out.npz").metadata["env_kwargs"] == {"g": 8.0}


def test_a_model_that_sees_pictures_is_recorded(logs: Path, tmp_path: Path):
    shutil.copytree(logs, tmp_path / "logs")
    folder = run_folder(tmp_path / "logs")
    kept = {"normalize": False, "env_wrapper": [{"sb3_pgfd.wrappers.CameraObservation": {"size": 36, "keep": False}}]}
    changes: dict[str, dict[str, Any]] = {
        "config.yml": kept,
        "args.yml": {"env_kwargs": {"g": 9.5, "render_mode": "rgb_array"}},
    }
    for name, values in changes.items():
        path = folder / "Pendulum-v1" / name
        before = yaml.load(path.read_text(), Loader=yaml.UnsafeLoader)
        path.write_text(yaml.dump(type(before)({**before, **values})))
    env = CameraObservation(gym.make("Pendulum-v1", render_mode="rgb_array"), 36, keep=False)
    PPO("CnnPolicy", env, n_steps=8, batch_size=8, device="cpu").save(folder / "Pendulum-v1.zip")
    assert run(*command(tmp_path, "--zoo", tmp_path / "logs", "--max-episode-steps", "5")) == 0
    found = Demonstrations.load(tmp_path / "out.npz")
    assert isinstance(found.observations, np.ndarray)
    assert found.observations.shape == (5, 36, 36, 3)


def test_a_run_that_is_not_there_is_refused(logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    message = refused(capsys, *command(tmp_path, "--zoo", logs, "--exp-id", 7))
    assert "Pendulum-v1_7 folder was not found: expected <log folder>/ppo/<env id>_<number>/<env id>.zip" in message


@pytest.mark.parametrize("key", ["frame_stack", "vec_env_wrapper"])
def test_a_run_with_stacked_frames_is_refused(key: str, logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    shutil.copytree(logs, tmp_path / "logs")
    config = run_folder(tmp_path / "logs") / "Pendulum-v1" / "config.yml"
    config.write_text(yaml.dump({**yaml.unsafe_load(config.read_text()), key: 4}))
    message = refused(capsys, *command(tmp_path, "--zoo", tmp_path / "logs"))
    assert f"found a run with {key}=4, expected none" in message


def test_lost_statistics_are_missed(logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    shutil.copytree(logs, tmp_path / "logs")
    (run_folder(tmp_path / "logs") / "Pendulum-v1" / "vecnormalize.pkl").unlink()
    message = refused(capsys, *command(tmp_path, "--zoo", tmp_path / "logs"))
    assert "vecnormalize.pkl: found no such file, expected the statistics of the run" in message


def test_statistics_of_another_environment_are_refused(logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    VecNormalize(DummyVecEnv([lambda: gym.make("CartPole-v1")])).save(str(tmp_path / "other.pkl"))
    message = refused(capsys, *command(tmp_path, "--zoo", logs, "--vecnormalize", tmp_path / "other.pkl"))
    assert "other.pkl: found statistics of another environment" in message


def test_nothing_that_a_run_names_is_run(logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    shutil.copytree(logs, tmp_path / "logs")
    settings, marker = run_folder(tmp_path / "logs") / "Pendulum-v1", tmp_path / "executed"
    (settings / "args.yml").write_text(f"env_kwargs: !!python/object/apply:os.system ['touch {marker}']\n")
    message = refused(capsys, *command(tmp_path, "--zoo", tmp_path / "logs"))
    assert "env_kwargs: found an object python/object/apply:os.system, expected plain values" in message
    (settings / "args.yml").unlink()
    (settings / "config.yml").write_text(f"normalize: dict(norm_obs=__import__('os').system('touch {marker}'))\n")
    assert "normalize: found" in refused(capsys, *command(tmp_path, "--zoo", tmp_path / "logs"))
    assert not marker.exists()


def test_a_run_of_another_user_needs_trust(
    logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    shutil.copytree(logs, tmp_path / "logs")
    give_away(tmp_path / "logs", monkeypatch)
    message = refused(capsys, *command(tmp_path, "--zoo", tmp_path / "logs"))
    assert "Pendulum-v1.zip: found a file of the user" in message
    assert "--trust" in message
    assert run(*command(tmp_path, "--zoo", tmp_path / "logs", "--trust")) == 0
