"""Run this package's commands as a user does: in a process of their own, in a folder, without a screen."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from imageio_ffmpeg import read_frames
from PIL import Image

from sb3_pgfd.zoo.commands import main

ENV_ID = "Pendulum-v1"
SMALL = ["-params", "pretrain_steps:60", "batch_size:32", "learning_starts:20", "policy_kwargs:dict(net_arch=[16])"]

# `make check-wheel` and .ci/run name the interpreter of a virtual environment that holds the wheel and its extras alone
PYTHON = os.environ.get("SB3_PGFD_PYTHON", sys.executable)
_SCREEN = ("DISPLAY", "WAYLAND_DISPLAY", "MUJOCO_GL", "SDL_VIDEODRIVER", "MPLBACKEND")


def finish(folder: Path, command: Sequence[str], **variables: str) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if name not in _SCREEN}
    environment |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **variables}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False)


def run(folder: Path, name: str, *arguments: str, **variables: str) -> str:
    """
    :param folder: Where to
    :param name: Of the command: ``train`` and ``enjoy`` are run as modules, the others by ``python -m sb3_pgfd``
    :param arguments: Of the command
    :param variables: Of the environment
    :return: What it printed. The test fails with it if the command does
    """
    finished = finish(folder, [*_command(name), *arguments], **variables)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


def fails(folder: Path, name: str, *arguments: str, **variables: str) -> str:
    """:return: The error of a command, one line without a traceback"""
    finished = finish(folder, [*_command(name), *arguments], **variables)
    assert finished.returncode == 1, finished.stdout + finished.stderr
    assert "Traceback" not in finished.stderr
    return finished.stderr


def call(capsys: pytest.CaptureFixture[str], name: str, *arguments: str) -> str:
    """:return: What a command printed, which is run in this process: that is faster"""
    with pytest.MonkeyPatch.context() as patch:
        # The command sets it for the Zoo
        patch.setattr(sys, "argv", [])
        assert main(name, arguments, f"sb3-pgfd {name}") == 0, capsys.readouterr().err
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], name: str, *arguments: str, code: int = 1) -> str:
    """
    :param capsys: Pytest's
    :param name: Of the command, which is run in this process
    :param arguments: Of the command
    :param code: Its exit status
    :return: Its error, one line, after its usage if it is misused
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [])
        if code == 2:
            with pytest.raises(SystemExit) as stop:
                main(name, arguments, f"sb3-pgfd {name}")
            assert stop.value.code == 2
        else:
            assert main(name, arguments, f"sb3-pgfd {name}") == code
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"sb3-pgfd {name}: ")
    return last


def _command(name: str) -> list[str]:
    return [PYTHON, "-m", f"sb3_pgfd.{name}"] if name in ("train", "enjoy") else [PYTHON, "-m", "sb3_pgfd", name]


TRAIN = ["--algo", "ddpgfd", "--env", ENV_ID, "-n", "400", "--eval-freq", "200", "--eval-episodes", "2", "--seed", "3", *SMALL]
"""400 steps of DDPGfD on Pendulum-v1"""


def ink(path: Path) -> float:
    """:return: Share of a picture's dots that are not of its commonest grey; the test fails if it cannot be opened"""
    with Image.open(path) as image:
        counts = np.bincount(np.asarray(image.convert("L")).ravel())
    return 1.0 - counts.max() / counts.sum()


def frames(path: Path, stride: int = 1) -> np.ndarray:
    """
    :param path: Of a video
    :param stride: Leave out rows and columns between
    :return: (n_frames, height, width, 3); the test fails if it cannot be opened
    """
    reader = read_frames(str(path))
    width, height = next(reader)["size"]
    return np.stack([np.frombuffer(frame, np.uint8).reshape(height, width, 3)[::stride, ::stride] for frame in reader])


def script(code: str, *arguments: str) -> list[str]:
    """:return: A command that runs this code with these arguments"""
    return [PYTHON, "-c", code, *arguments]
