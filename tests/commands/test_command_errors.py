"""What the commands say of missing environments and of errors, and where they draw."""

import os
import re
import sys
from pathlib import Path

import gymnasium as gym
import pytest
from command import PYTHON, finish

from sb3_pgfd.utils.files import install
from sb3_pgfd.utils.screen import draw_without_screen, has_screen
from sb3_pgfd.zoo.command_line import CommandError, explain, report, require_registered
from sb3_pgfd.zoo.commands import COMMANDS


def test_the_list_of_commands_does_not_import_the_zoo(tmp_path: Path) -> None:
    code = "import sys; from sb3_pgfd.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    finished = finish(tmp_path, [PYTHON, "-c", code + "assert 'rl_zoo3' not in sys.modules"])
    assert finished.returncode == 0, finished.stderr
    assert all(name in finished.stdout for name in ("demos", "compare", *COMMANDS))


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
        "from sb3_pgfd.zoo.command_line import register_environments as register\n"
        "import gymnasium\nregister()\nregister()\nassert 'FetchReach-v4' in gymnasium.registry\n"
    )
    finished = finish(tmp_path, [PYTHON, "-c", code])
    assert (finished.returncode, finished.stdout, finished.stderr) == (0, "", "")


@pytest.mark.parametrize("env_id", ["FetchReach-v4", "PointMaze_UMaze-v3", "AdroitHandDoor-v1", "FrankaKitchen-v1"])
def test_environments_of_robotics_that_are_missing_are_named(env_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(gym.registry, env_id, raising=False)
    # As if it were not installed
    monkeypatch.setitem(sys.modules, "gymnasium_robotics", None)
    with pytest.raises(ImportError, match=f"{env_id}: found no such environment, .*: {re.escape(install('robotics'))}"):
        require_registered(env_id)


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
        assert f"expected mujoco < 3.12: {install('robotics')}" in explanation
    assert explain(ValueError("other")) is None


def test_a_warning_shows_no_line_of_code(tmp_path: Path) -> None:
    code = "import warnings; from sb3_pgfd.cli import main; main(['train', '--env', 'No-v0']); warnings.warn('mind this'); "
    finished = finish(tmp_path, [PYTHON, "-c", code + "warnings.warn('old', DeprecationWarning)"])
    plain, other = finished.stderr.splitlines()[-2:]
    assert plain == "Warning: mind this"
    assert "DeprecationWarning: old" in other


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


def test_a_traceback_is_shown_if_it_is_asked_for(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert report(CommandError("found a mistake"), "train")
    assert capsys.readouterr().err == "sb3-pgfd train: found a mistake\n"
    monkeypatch.setenv("SB3_PGFD_TRACEBACK", "1")
    assert not report(CommandError("found a mistake"), "train")
