"""``enjoy``, as a user runs it."""

import re
import shutil
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from command import ENV_ID, call, frames, refused, run
from foreign_files import give_away
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env

from sb3_pgfd import DDPGfD
from sb3_pgfd.zoo.agents import Agent, _show, film_failures
from sb3_pgfd.zoo.command_line import CommandError


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


class EverySecondFails(gym.Env[np.ndarray, np.ndarray]):
    """Episodes of five steps, each of a grey of its own, that becomes lighter with the steps."""

    observation_space = spaces.Box(-1.0, 1.0, (1,))
    action_space = spaces.Box(-1.0, 1.0, (1,))
    render_mode = "rgb_array"
    reports, n_episodes, n_steps = True, 0, 0

    def reset(self, **kwargs: Any) -> tuple[np.ndarray, dict[str, Any]]:
        self.n_episodes, self.n_steps = self.n_episodes + 1, 0
        return np.zeros(1, np.float32), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.n_steps += 1
        # As Meta-World and PointMaze call it
        info = {"success": self.n_episodes % 2 == 1} if self.reports else {}
        return np.zeros(1, np.float32), 0.0, self.n_steps == 5, False, info

    def render(self) -> np.ndarray:
        return np.full((64, 64, 3), 20 * self.n_episodes + 4 * self.n_steps, np.uint8)


def test_enjoy_films_failures_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    env = make_vec_env(EverySecondFails, 1)
    agent = Agent(DDPGfD("MlpPolicy", env, device="cpu"), tmp_path / "model.zip", env, {}, True)
    # Five episodes, of which the second and the fourth fail, and a part of the sixth
    finished = film_failures(agent, 28, tmp_path / "failures.mp4")
    assert [info["success"] for info in finished] == [True, False, True, False, True]
    assert "2 of 5 episodes failed, video:" in capsys.readouterr().out
    greys = frames(tmp_path / "failures.mp4").mean(axis=(1, 2, 3))
    expected = [20 * episode + 4 * step for episode in (2, 4) for step in range(5)]
    assert greys == pytest.approx(expected, abs=2.0)
    # The seventh succeeds
    film_failures(agent, 5, tmp_path / "none.mp4")
    assert "0 of 1 episodes failed, no video" in capsys.readouterr().out
    assert not (tmp_path / "none.mp4").exists()
    env.env_method("get_wrapper_attr", "unwrapped")[0].reports = False
    with pytest.raises(CommandError, match="found neither 'is_success' nor 'success'"):
        film_failures(agent, 5, tmp_path / "unknown.mp4")


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
    assert "found no --video" in refused(capsys, "enjoy", "--env", ENV_ID, "--failures", "--no-render")
    (tmp_path / "old.mp4").touch()
    assert "--force" in refused(capsys, "enjoy", "--env", ENV_ID, "--video", str(tmp_path / "old.mp4"))
    monkeypatch.chdir(tmp_path)
    assert "logs/ddpgfd folder was not found" in refused(capsys, "enjoy", "--env", ENV_ID, "--no-render")


class NoWindow(EverySecondFails):
    """:param library: Which its window lacks"""

    def __init__(self, library: str):
        super().__init__()
        self.library = library

    def render(self) -> np.ndarray:
        raise ModuleNotFoundError(f"No module named {self.library!r}", name=self.library)


def test_a_library_that_sb3_shows_pictures_with_is_named() -> None:
    with pytest.raises(CommandError, match="found No module named 'cv2', expected OpenCV: pip install opencv-python"):
        _show(make_vec_env(lambda: NoWindow("cv2")))
    with pytest.raises(ModuleNotFoundError, match="glfw"):
        _show(make_vec_env(lambda: NoWindow("glfw")))


def test_enjoy_says_when_no_episode_has_ended(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = call(capsys, "enjoy", "--env", ENV_ID, "-n", "3", "-f", "logs", "--no-render")
    assert "No episode has ended within 3 steps" in shown
    assert "--n-envs: found 0, expected at least 1" in refused(capsys, "enjoy", "--env", ENV_ID, "--n-envs", "0")


def test_enjoy_plays_the_newest_run_that_has_a_model(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A search, or a run that was ended early, leaves a folder without one."""
    newer = here / "logs" / "ddpgfd" / f"{ENV_ID}_99"
    newer.mkdir()
    try:
        output = call(capsys, "enjoy", "--env", ENV_ID, "-n", "10", "-f", "logs", "--no-render")
        assert "Newer runs have no model" in output
        # The best model of an older run is no stand-in
        assert "expected a model in" in refused(capsys, "enjoy", "--env", ENV_ID, "-f", "logs", "--no-render", "--load-best")
        named = refused(capsys, "enjoy", "--env", ENV_ID, "-f", "logs", "--no-render", "--exp-id", "99")
        assert f"{ENV_ID}_1" in named
        assert "expected a model in logs/ddpgfd" in named
    finally:
        newer.rmdir()


def test_enjoy_names_the_checkpoints_that_are_there(here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "ddpgfd" / f"{ENV_ID}_1"
    shutil.copytree(here / "logs" / "ddpgfd" / f"{ENV_ID}_1", run)
    arguments = ["enjoy", "--env", ENV_ID, "-f", str(tmp_path), "--no-render", "--load-checkpoint", "70"]
    assert f"--load-checkpoint: found no checkpoints in {run}, expected some" in refused(capsys, *arguments)
    for steps in (1000, 90):
        shutil.copy(run / f"{ENV_ID}.zip", run / f"rl_model_{steps}_steps.zip")
    assert f"--load-checkpoint: found 70, expected a checkpoint of {run}: 90, 1000" in refused(capsys, *arguments)


def test_enjoy_knows_the_names_that_uuid_gives(tmp_path: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    named = tmp_path / "ddpgfd" / f"{ENV_ID}_1_f6802a4e-9b7c-4d0e-8a54-0c1d2e3f4a5b"
    shutil.copytree(here / "logs" / "ddpgfd" / f"{ENV_ID}_1", named)
    for exp_id in ("0", "1"):
        output = call(capsys, "enjoy", "--env", ENV_ID, "-n", "5", "-f", str(tmp_path), "--no-render", "--exp-id", exp_id)
        assert f"Loading {named}" in output
