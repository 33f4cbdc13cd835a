"""``sb3-pgfd train --resume`` and ``--seeds`` as a user runs them."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch as th
from command import ENV_ID, SMALL, call, finish, refused

from benchmarks.faults import _rows
from sb3_pgfd import DDPGfD
from sb3_pgfd.comparison.runs import find_runs
from sb3_pgfd.zoo.commands import main

RUN = ["--algo", "ddpgfd", "--env", ENV_ID, "-n", "600", "--eval-freq", "200", "--eval-episodes", "1", "--save-freq", "100"]
RUN += ["--seed", "3", "--num-threads", "1", "--no-progress"]


def start(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-W", "ignore", "-m", "sb3_pgfd", "train", *arguments]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def test_a_run_that_a_signal_ended_and_one_that_was_killed_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    call(capsys, "train", *RUN, "-f", "whole", *SMALL)
    run = tmp_path / "logs" / "ddpgfd" / f"{ENV_ID}_1"
    command = [*RUN, *SMALL]
    for step, signum in ((100, signal.SIGTERM), (300, signal.SIGKILL)):
        process = start(tmp_path, *command)
        while not (run / f"rl_model_{step}_steps.zip").is_file() and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signum)
        _, errors = process.communicate(timeout=100)
        command = ["--resume", str(run)]
        if signum == signal.SIGTERM:
            assert process.returncode == 128 + signal.SIGTERM, errors
            assert f"go on with: sb3-pgfd train --resume logs/ddpgfd/{ENV_ID}_1" in errors.splitlines()[-1]
        else:
            assert process.returncode == -signal.SIGKILL
    assert "Going on after" in call(capsys, "train", *command)
    whole = tmp_path / "whole" / "ddpgfd" / f"{ENV_ID}_1"
    first, second = (DDPGfD.load(path / f"{ENV_ID}.zip", device="cpu").policy.state_dict() for path in (whole, run))
    assert all(th.equal(value, second[name]) for name, value in first.items())
    for name in ("evaluations.npz", "0.monitor.csv", "progress.csv"):
        assert _rows(whole / name) == _rows(run / name), name
    assert "Nothing is left to do: the run has 600 steps, and -n counts all" in call(capsys, "train", *command, "-n", "20")
    (found,), _ = find_runs([tmp_path / "logs"])
    np.testing.assert_array_equal(found.timesteps, [0, 200, 400, 600])


def test_what_cannot_go_on_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "no/run/training_state: found no such folder, expected a training state" in refused(
        capsys, "train", "--resume", "no/run"
    )
    with pytest.raises(SystemExit):
        main("train", ["--resume", "no/run", "--seed", "4"], "sb3-pgfd train")
    other = capsys.readouterr().err
    assert "found --seed 4, expected none but -n, --device" in other
    assert "found --seeds and --seed, expected one of them" in refused(capsys, "train", "--seeds", "1", "--seed", "2", code=2)


def test_several_seeds_are_several_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    few = ["--algo", "ddpgfd", "--env", ENV_ID, "-n", "30", "--eval-freq", "-1"]
    output = call(capsys, "train", "--seeds", "4", "7", *few, *SMALL)
    assert [line for line in output.splitlines() if line.startswith("Seed: ")] == ["Seed: 4", "Seed: 7"]
    assert sorted(path.name for path in (tmp_path / "logs" / "ddpgfd").iterdir()) == [f"{ENV_ID}_1", f"{ENV_ID}_2"]


def test_an_error_of_the_environment_is_followed_by_how_to_go_on(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(
        "import gymnasium as gym\n"
        "from gymnasium.envs.classic_control import PendulumEnv\n"
        "class Broken(PendulumEnv):\n"
        "    n_steps = 0\n"
        "    def step(self, action):\n"
        "        self.n_steps += 1\n"
        "        if self.n_steps == 30:\n"
        "            raise ValueError('the motor is on fire')\n"
        "        return super().step(action)\n"
        "gym.register('Broken-v0', Broken, max_episode_steps=20)\n"
    )
    arguments = ["--algo", "ddpgfd", "--env", "Broken-v0", "-n", "40", "--eval-freq", "-1", "--gym-packages", "broken"]
    failed = finish(
        tmp_path, [sys.executable, "-m", "sb3_pgfd", "train", *arguments, "-params", "pretrain_steps:0", "bc_coef:0.0"]
    )
    assert failed.returncode == 1
    assert "ValueError: the motor is on fire" in failed.stderr
    line = "the state after 29 steps is saved; go on with: sb3-pgfd train --resume logs/ddpgfd/Broken-v0_1"
    assert f"sb3-pgfd train: ValueError ended the run; {line}" in failed.stderr
