"""What is changed in the RL Zoo's commands, piece by piece."""

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from command import PYTHON, finish, refused
from imageio_ffmpeg import get_ffmpeg_exe

from sb3_pgfd.cli import main
from sb3_pgfd.utils.screen import draw_without_screen, has_screen
from sb3_pgfd.zoo.commands import COMMANDS
from sb3_pgfd.zoo.commands.parsing import parsed_by_us
from sb3_pgfd.zoo.commands.subprocesses import our_subprocesses
from sb3_pgfd.zoo.commands.videos import ffmpeg_on_path
from sb3_pgfd.zoo.environments import require_registered
from sb3_pgfd.zoo.errors import CommandError, explain, report


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], ("ddpgfd", "logs")),
        (["--algo", "sac", "-f", "mine"], ("sac", "mine")),
        (["--algo=sac", "--folder=mine"], ("sac", "mine")),
        (["--al", "sac", "-fmine"], ("sac", "mine")),
        (["--env", "X"], ("ddpgfd", "logs")),
    ],
)
def test_an_argument_that_is_given_is_left_alone(given: list[str], expected: tuple[str, str]) -> None:
    options = argparse.Namespace()
    checked: list[argparse.Namespace] = []
    with parsed_by_us("sb3-pgfd enjoy", given, COMMANDS["enjoy"].arguments, options, checked.append):
        parser = argparse.ArgumentParser("The Zoo's")
        parser.add_argument("--env")
        parser.add_argument("--algo", default="ppo")
        parser.add_argument("-f", "--folder", default="rl-trained-agents")
        assert parser.parse_args() is options
        # A parser of some library is left alone
        other = argparse.ArgumentParser("other")
        other.add_argument("number", type=int)
        assert other.parse_args(["3"]).number == 3
    assert checked == [options]
    assert (options.algo, options.folder, options.video) == (*expected, None)
    assert parser.format_usage().startswith("usage: sb3-pgfd enjoy [-h]")
    assert "sb3_pgfd" not in argparse.ArgumentParser.parse_args.__module__


@pytest.mark.filterwarnings("ignore:.*found in sys.modules after import:RuntimeWarning")
@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_the_zoos_help(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: sb3-pgfd {name} [-h]")
    assert COMMANDS[name].arguments.description in text
    assert ("ddpgfd" in text) == (name not in ("plot-train", "all-plots", "plot-from-file", "benchmark"))
    assert argparse.ArgumentParser().parse_args([]) == argparse.Namespace()


def test_the_list_of_commands_does_not_import_the_zoo(tmp_path: Path) -> None:
    code = "import sys; from sb3_pgfd.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    finished = finish(tmp_path, [PYTHON, "-c", code + "assert 'rl_zoo3' not in sys.modules"])
    assert finished.returncode == 0, finished.stderr
    assert all(name in finished.stdout for name in ("demos", "compare", *COMMANDS))


def test_the_zoos_subprocesses_are_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[Any] = []

    def call(command: Any, **keywords: Any) -> int:
        called.append((command, keywords))
        return 3

    monkeypatch.setattr(subprocess, "call", call)
    with our_subprocesses(argparse.Namespace(gym_packages=["mine"])):
        assert subprocess.call(["python", "-m", "rl_zoo3.record_video", "--env", "X"], cwd="here") == 3
        # A checkpoint with a buffer and statistics is three files to the Zoo
        assert subprocess.call(["python", "-m", "rl_zoo3.record_video", "--env", "X"], cwd="here") == 0
        for command in (["python", "enjoy.py", "-n", "5"], ["python", "other.py"], "enjoy.py", ["ls"], ["ls"]):
            subprocess.call(command)
    assert subprocess.call is call
    assert [command for command, _ in called] == [
        [sys.executable, "-m", "sb3_pgfd.record_video", "--env", "X", "--gym-packages", "mine"],
        [sys.executable, "-m", "sb3_pgfd.enjoy", "-n", "5", "--gym-packages", "mine"],
        ["python", "other.py"],
        "enjoy.py",
        ["ls"],
        ["ls"],
    ]
    assert [keywords for _, keywords in called][:2] == [{"cwd": "here"}, {}]


def test_ffmpeg_is_there_for_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("FONTCONFIG_FILE", raising=False)
    with ffmpeg_on_path():
        said = subprocess.run(["ffmpeg", "-version"], capture_output=True, text=True, check=True).stdout
        fonts = Path(os.environ["FONTCONFIG_FILE"])
        assert "DejaVuSans.ttf" in os.listdir(fonts.read_text().split("<dir>")[1].split("</dir>")[0])
    assert said == subprocess.run([get_ffmpeg_exe(), "-version"], capture_output=True, text=True, check=True).stdout
    assert os.environ["PATH"] == str(tmp_path)
    assert "FONTCONFIG_FILE" not in os.environ
    assert not fonts.exists()


def test_an_ffmpeg_of_the_system_is_preferred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ffmpeg").symlink_to(get_ffmpeg_exe())
    monkeypatch.setenv("PATH", str(tmp_path))
    with ffmpeg_on_path():
        assert os.environ["PATH"] == str(tmp_path)


def test_without_a_screen_pictures_are_drawn_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER", "MUJOCO_GL"):
        monkeypatch.delenv(name, raising=False)
    with monkeypatch.context() as given:
        given.setenv("SDL_VIDEODRIVER", "kmsdrm")
        assert has_screen()
    assert not has_screen()
    # So that it is removed again
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    monkeypatch.setenv("SDL_VIDEODRIVER", "offscreen")
    draw_without_screen()
    assert (os.environ["MUJOCO_GL"], os.environ["SDL_VIDEODRIVER"]) == ("osmesa", "offscreen")
    monkeypatch.delenv("SDL_VIDEODRIVER")
    draw_without_screen()
    assert os.environ["SDL_VIDEODRIVER"] == "dummy"
    monkeypatch.setenv("DISPLAY", ":0")
    assert has_screen()


def test_environments_of_robotics_are_registered_in_silence(tmp_path: Path) -> None:
    code = (
        "from sb3_pgfd.zoo.environments import register_environments as register\n"
        "import gymnasium\nregister()\nregister()\nassert 'FetchReach-v4' in gymnasium.registry\n"
    )
    finished = finish(tmp_path, [PYTHON, "-c", code])
    assert (finished.returncode, finished.stdout, finished.stderr) == (0, "", "")


@pytest.mark.parametrize("env_id", ["FetchReach-v4", "PointMaze_UMaze-v3", "AdroitHandDoor-v1", "FrankaKitchen-v1"])
@pytest.mark.parametrize("command", [["train"], ["enjoy", "--no-render"], ["demos", "record", "out.npz", "--policy", "a:b"]])
def test_environments_of_robotics_that_are_missing_are_named(
    env_id: str, command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(gym.registry, env_id, raising=False)
    # As if it were not installed
    monkeypatch.setitem(sys.modules, "gymnasium_robotics", None)
    episodes = ["--episodes", "1"] if command[0] == "demos" else []
    assert main([*command, "--env", env_id, *episodes]) == 1
    said = capsys.readouterr().err
    assert f"{env_id}: found no such environment" in said
    assert "pip install sb3-pgfd[robotics]" in said


def test_other_environments_that_are_missing_are_not_of_robotics() -> None:
    with pytest.raises(CommandError, match="perhaps Pendulum-v1"):
        require_registered("Pendulum-v7")
    require_registered("Pendulum-v1")
    # Imported when it is made
    require_registered("my_module:Mine-v0")


def test_a_mujoco_that_is_too_new_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What gymnasium-robotics does then
    failing = compile("assert False", str(tmp_path / "gymnasium_robotics" / "mujoco_utils.py"), "exec")
    with pytest.raises(AssertionError) as bare:
        exec(failing, {})
    assert explain(bare.value) is None
    (tmp_path / "mujoco-3.12.0.dist-info").mkdir()
    (tmp_path / "mujoco-3.12.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: mujoco\nVersion: 3.12.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    outer = ValueError("no environment")
    outer.__cause__ = bare.value
    for error in (bare.value, outer):
        explanation = explain(error)
        assert explanation is not None
        assert "found mujoco 3.12.0" in explanation
        assert "expected mujoco < 3.12: pip install sb3-pgfd[robotics]" in explanation
    assert explain(ValueError("other")) is None


def test_a_short_error_says_where_it_comes_from(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(FileNotFoundError) as missing:
        raise FileNotFoundError("nothing\nhere")
    line = f"{Path(__file__).name}:{missing.tb.tb_lineno};"
    assert report(missing.value, "enjoy")
    said = capsys.readouterr().err
    assert said.startswith("sb3-pgfd enjoy: nothing here (FileNotFoundError in ")
    assert line in said
    assert len(said.splitlines()) == 1
    assert not report(AssertionError(), "enjoy")


def test_an_unknown_command_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["fly"])
    assert "invalid choice: 'fly'" in capsys.readouterr().err
    assert "required" in refused(capsys, "plot-train", code=2)
