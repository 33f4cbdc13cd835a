"""``enjoy``, as a user runs it."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from command import ENV_ID, call, frames, refused, run
from foreign_files import give_away


@pytest.fixture
def here(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(trained)
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    return trained


def test_enjoy_films_what_it_plays_and_prints_the_returns(trained: Path) -> None:
    output = run(
        trained, "enjoy", "--env", ENV_ID, "-n", "400", "--reward-log", "rewards", "--seed", "7", "--video", "played.mp4"
    )
    returns = np.loadtxt(trained / "rewards" / "0.monitor.csv", delimiter=",", skiprows=2, ndmin=2)[:, 0]
    assert "2 Episodes" in output
    assert [float(text) for text in re.findall(r"Episode Reward: (\S+)", output)] == pytest.approx(returns, abs=0.006)
    assert f"Mean reward: {returns.mean():.2f} +/- {returns.std():.2f}" in output
    assert "Video: played.mp4" in output
    film = frames(trained / "played.mp4", stride=5)
    # One of the reset, one of each step
    assert len(film) == 401
    assert np.ptp(film[0]) > 100
    # The pendulum is not where it was
    assert np.abs(film[0].astype(int) - film[60]).max() > 100


def test_enjoy_plays_the_best_model_in_several_processes(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--env", ENV_ID, "-n", "30", "--load-best", "-f", "logs", "--n-envs", "2", "--video", "two.mp4", "-P"]
    assert "best_model.zip" in call(capsys, "enjoy", *arguments)
    film = frames(here / "two.mp4")
    # Two pictures of 500 x 500, one above the other
    assert film.shape == (31, 1000, 500, 3)
    assert np.abs(film[0, :500].astype(int) - film[0, 500:]).max() > 100


def test_a_run_of_another_user_is_played_and_continued_with_trust_only(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(here / "logs", tmp_path / "logs")
    monkeypatch.chdir(tmp_path)
    give_away(tmp_path / "logs", monkeypatch)
    play = ["--env", ENV_ID, "-n", "5", "--no-render"]
    go_on = ["--env", ENV_ID, "-n", "5", "--eval-freq", "-1", "-i", f"logs/ddpgfd/{ENV_ID}_1/{ENV_ID}.zip", "-f", "more"]
    for name, arguments in (("enjoy", play), ("train", go_on)):
        assert "found a file of the user" in refused(capsys, name, *arguments)
        assert not (tmp_path / "more").exists()
        call(capsys, name, *arguments, "--trust")


def test_enjoy_without_a_screen_names_the_ways_out(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    message = refused(capsys, "enjoy", "--env", ENV_ID)
    assert "found no screen" in message
    assert "--video FILE.mp4" in message
    assert "--no-render" in message
    assert "expected '.mp4'" in refused(capsys, "enjoy", "--env", ENV_ID, "--video", "played.avi")
    (tmp_path / "old.mp4").touch()
    assert "--force" in refused(capsys, "enjoy", "--env", ENV_ID, "--video", str(tmp_path / "old.mp4"))
    monkeypatch.chdir(tmp_path)
    assert "logs/ddpgfd folder was not found" in refused(capsys, "enjoy", "--env", ENV_ID, "--no-render")
