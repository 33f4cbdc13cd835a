"""``enjoy``, ``record-video``, ``record-training`` and ``benchmark``, as a user runs them."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from command import ENV_ID, fails, frames, refused, run, train
from PIL import Image


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one finished run of 400 steps, and two checkpoints."""
    folder = tmp_path_factory.mktemp("zoo")
    train(folder, "--save-freq", "200", "--save-replay-buffer")
    return folder


@pytest.fixture(scope="module")
def played(folder: Path) -> tuple[str, np.ndarray]:
    """What ``enjoy`` printed of 400 steps, and the returns that it wrote down."""
    arguments = ["--algo", "ddpgfd", "--env", ENV_ID, "-n", "400", "--reward-log", "rewards", "--seed", "7"]
    output = run(folder, "enjoy", *arguments, "--video", "played.mp4")
    return output, monitored(folder / "rewards")


def monitored(folder: Path) -> np.ndarray:
    """:return: The returns in a file of SB3's ``Monitor``"""
    return np.loadtxt(folder / "0.monitor.csv", delimiter=",", skiprows=2, ndmin=2)[:, 0]


def test_enjoy_prints_the_returns_it_sees(played: tuple[str, np.ndarray]) -> None:
    output, returns = played
    assert "2 Episodes" in output
    assert [float(text) for text in re.findall(r"Episode Reward: (\S+)", output)] == pytest.approx(returns, abs=0.006)
    assert f"Mean reward: {returns.mean():.2f} +/- {returns.std():.2f}" in output


def test_enjoy_films_what_it_plays(folder: Path, played: tuple[str, np.ndarray]) -> None:
    assert "Video: played.mp4" in played[0]
    film = frames(folder / "played.mp4", stride=5)
    # One of the reset, one of each step
    assert len(film) == 401
    assert np.ptp(film[0]) > 100
    # The pendulum is not where it was
    assert np.abs(film[0].astype(int) - film[60]).max() > 100


def test_enjoy_plays_the_best_model_in_several_processes(folder: Path) -> None:
    arguments = ["--env", ENV_ID, "-n", "60", "--load-best", "-f", "logs", "--n-envs", "2", "--video", "two.mp4"]
    run(folder, "sb3-pgfd enjoy", *arguments)
    film = frames(folder / "two.mp4")
    # Two pictures of 500 x 500, one above the other
    assert film.shape == (61, 1000, 500, 3)
    assert np.abs(film[0, :500].astype(int) - film[0, 500:]).max() > 100


def test_enjoy_without_a_screen_names_the_ways_out(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    message = fails(folder, "enjoy", "--env", ENV_ID)
    assert "found no screen" in message
    assert "--video FILE.mp4" in message
    assert "--no-render" in message
    monkeypatch.chdir(tmp_path)
    assert "expected '.mp4'" in refused(capsys, "enjoy", "--env", ENV_ID, "--video", "played.avi")
    assert "logs/ddpgfd folder was not found" in refused(capsys, "enjoy", "--env", ENV_ID, "--no-render")


def test_record_video_films_two_environments(folder: Path) -> None:
    run(folder, "sb3-pgfd record-video", "--env", ENV_ID, "-n", "30", "--n-envs", "2", "-o", "my videos")
    (path,) = (folder / "my videos").glob("*.mp4")
    assert path.name.startswith("final-model-ddpgfd-Pendulum-v1")
    film = frames(path)
    # One of the reset, one of each step; moviepy may leave the last one out
    assert len(film) in (30, 31)
    assert film.shape[1:] == (1000, 500, 3)
    assert np.ptp(film[0]) > 100


def test_record_training_joins_every_model_without_ffmpeg_in_a_folder_with_a_space(folder: Path, tmp_path: Path) -> None:
    here = tmp_path / "my runs"
    shutil.copytree(folder / "logs", here / "logs")
    run_folder = here / "logs" / "ddpgfd" / "Pendulum-v1_1"
    for path in (*run_folder.glob("rl_model_*400_steps*"), run_folder / "best_model.zip"):
        path.unlink()
    (run_folder / "videos").mkdir()
    (run_folder / "videos" / "mine.txt").write_text("kept")
    output = run(here, "record_training", "--env", ENV_ID, "-n", "20", "--gif", PATH=str(tmp_path))
    assert f"The videos are in {run_folder / 'videos'}" in output
    names = sorted(path.name.partition("-ddpgfd")[0] for path in (run_folder / "videos").iterdir())
    assert names == ["checkpoint-200", "final-model", "mine.txt", "training.gif", "training.mp4"]
    (checkpoint,), (final,) = ((run_folder / "videos").glob(f"{name}*.mp4") for name in ("checkpoint-200", "final-model"))
    film, plain = frames(run_folder / "videos" / "training.mp4"), frames(checkpoint)
    assert len(film) == len(plain) + len(frames(final)) > 38
    difference = np.abs(film[0].astype(int) - plain[0])
    # The name of the model is written on a dark box near the upper rim, and on nothing else
    assert difference[:50].max() > 100
    assert (difference[:50].max(axis=2) > 60).sum() > 1000
    assert difference[100:].max() < 60
    with Image.open(run_folder / "videos" / "training.gif") as gif:
        assert getattr(gif, "n_frames", 1) > 10


def test_record_training_without_a_model_deletes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    videos = tmp_path / "logs" / "ddpgfd" / "videos"
    videos.mkdir(parents=True)
    (videos / "old.mp4").write_bytes(b"old")
    assert "found no model of ddpgfd on Pendulum-v1" in refused(capsys, "record-training", "--env", ENV_ID)
    assert (videos / "old.mp4").read_bytes() == b"old"


def test_benchmark_evaluates_the_run_and_writes_a_table(folder: Path) -> None:
    output = run(folder, "sb3-pgfd benchmark", "--no-hub", "-n", "400", "--num-threads", "1", "--n-envs", "1")
    returns = monitored(folder / "logs" / "benchmark" / "ddpgfd-Pendulum-v1")
    assert len(returns) == 2
    assert f"Mean reward: {returns.mean():.2f} +- {returns.std():.2f}" in output
    (row,) = [line for line in (folder / "benchmark.md").read_text().splitlines() if line.startswith("|ddpgfd")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert (cells[1], cells[5], cells[6]) == (ENV_ID, "400", "2")
    assert float(cells[2]) == pytest.approx(returns.mean(), abs=1e-3)
    # The second time it reads what is there
    assert "Skipping eval..." in run(folder, "benchmark", "--no-hub", "-n", "400", "--log-dir", "logs")


def test_benchmark_that_cannot_reach_the_hub_names_the_way_out(folder: Path) -> None:
    message = fails(folder, "benchmark", "-n", "400", HF_HUB_OFFLINE="1")
    assert "the Hugging Face hub cannot be reached" in message
    assert "--no-hub" in message
