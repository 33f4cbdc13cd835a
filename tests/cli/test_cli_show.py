import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from command_line import fails, installed, result, run
from gymnasium import spaces
from moviepy import VideoFileClip
from PIL import Image

from sb3_pgfd import Demonstrations
from sb3_pgfd.demonstrations import Episode
from sb3_pgfd.extractors import RelativePositions


def test_show_prints_what_is_there(capsys: pytest.CaptureFixture[str]):
    assert run("show", "Pendulum-v1") == 0
    text = capsys.readouterr().out
    lines = [" ".join(line.split()) for line in text.splitlines()]
    for line in (
        "Pendulum-v1: 5 episodes, 1,000 transitions",
        "environment Pendulum-v1",
        "success unknown",
        "ends 0 terminated, 5 truncated",
        "length 200 0 200 200 200 200 200",
        "3 200 -366.6 ? truncated",
        "0 -2 2 -2 2 39.0%",
        "No warnings.",
    ):
        assert line in lines
    assert len(lines) <= 40
    assert max(map(len, text.splitlines())) <= 112


def test_show_is_short_for_many_episodes_and_components(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    rng = np.random.default_rng(0)
    many = [Episode(rng.normal(size=(9, 31)), rng.normal(size=(8, 12)), np.ones(8) + k / 100, True) for k in range(100)]
    path = Demonstrations.from_episodes(many, {"producer": "hand " * 100}).save(tmp_path / "many")
    assert run("show", path) == 0
    text = capsys.readouterr().out
    assert "... 95 more episodes" in text
    assert "... 2 more components" in text
    assert "... 21 more components, --json has all" in text
    assert len(text.splitlines()) <= 50
    assert max(map(len, text.splitlines())) <= 112


def test_show_prints_dicts_discrete_actions_and_warnings(capsys: pytest.CaptureFixture[str], toy: Path, tmp_path: Path):
    assert run("show", toy) == 0
    text = capsys.readouterr().out
    assert "success      60% of the episodes" in text
    assert "yes" in text
    assert "joints" in text
    assert "... one range for each key, --json has that of each component" in text
    episode = Episode(np.zeros(4), np.array([0, 2, 2]), np.zeros(3), True)
    path = Demonstrations.from_episodes([episode]).save(tmp_path / "discrete")
    assert run("show", path) == 0
    text = capsys.readouterr().out
    assert "taken 0: 1, 2: 2" in text
    assert "  * All rewards are 0" in text
    assert "  * There is only one episode" in text


def test_show_reads_with_options_and_warns(capsys: pytest.CaptureFixture[str], tutorial: Path):
    assert "done_means" in fails(capsys, "show", tutorial)
    shown = result(capsys, "show", tutorial, "--done-means", "truncated", "--action-low", -4, "--action-high", 4)
    assert shown["actions"]["high"] == [2.0]
    assert shown["n_truncated"] == 2


def test_show_json_is_one_object(capsys: pytest.CaptureFixture[str]):
    shown = result(capsys, "show", "MountainCarContinuous-v0", "--episodes", 2)
    assert shown["n_episodes"] == len(shown["episodes"]) == 2
    assert shown["returns"]["max"] == pytest.approx(89.4, abs=0.1)
    assert shown["warnings"] == []
    assert (shown["replay"], shown["plot"], shown["video"]) == ([], None, None)


def test_show_proposes_features(capsys: pytest.CaptureFixture[str]):
    assert run("show", "FetchReach-v4", "--episodes", 4, "--features") == 0
    text = capsys.readouterr().out
    line = next(line for line in text.splitlines() if "features_extractor_kwargs: " in line)
    kwargs = yaml.safe_load(line)["features_extractor_kwargs"]
    assert kwargs["pairs"] == [["achieved_goal", "desired_goal"]]
    space = spaces.Dict({name: spaces.Box(-1, 1, (n,)) for name, n in (("achieved_goal", 3), ("desired_goal", 3))})
    assert RelativePositions(space, **kwargs).features_dim == 9
    assert "found 0, expected at least 1" in fails(capsys, "show", "FetchReach-v4", "--features", 0)


def test_show_advises_only_what_can_be(capsys: pytest.CaptureFixture[str]):
    # Position and velocity: a plane may be looked in, space not
    assert run("show", "MountainCarContinuous-v0", "--features", 1) == 0
    assert "; --features 2 looks in a plane." in capsys.readouterr().out
    assert run("show", "MountainCarContinuous-v0", "--features", 2) == 0
    assert "No positions of 2 entries were found that come near each other." in capsys.readouterr().out


def test_show_replays(capsys: pytest.CaptureFixture[str]):
    shown = result(capsys, "show", "MountainCarContinuous-v0", "--replay")
    assert [episode["largest_distance"] for episode in shown["replay"]] == [0, 0, 0]
    assert run("show", "MountainCarContinuous-v0", "--replay") == 0
    assert "3 of 3 episodes replayed, none with drift." in capsys.readouterr().out


def without_seeds(folder: Path) -> Path:
    """As an older version of the package recorded them."""
    return replace(Demonstrations.load("Pendulum-v1"), episode_info={}).save(folder / "old.npz")


def test_show_replays_elsewhere(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    assert run("show", "Pendulum-v1", "--replay", "--env-kwargs", "g=9.0", "max_episode_steps=50") == 0
    text = capsys.readouterr().out
    assert "5 of 5 episodes replayed, 5 with drift." in text
    assert "Episode 0 drifts from step" in text
    # Random ones of a file without a seed for each
    chosen = ("--episodes", 2, "--seed", 0)
    assert run("show", without_seeds(tmp_path), "--replay", "--env", "Pendulum-v1", "--env-kwargs", "g:9.0", *chosen) == 0
    assert "Episode 0 cannot be brought to its recorded start: its seed is not known" in capsys.readouterr().out
    assert "found shape (3,)" in fails(capsys, "show", "Pendulum-v1", "--replay", "--env", "MountainCarContinuous-v0")
    assert "no-such-package" in fails(capsys, "show", "Pendulum-v1", "--gym-packages", "no-such-package")
    assert "expected the name of a module: mine" in fails(capsys, "show", "Pendulum-v1", "--gym-packages", "mine.py")
    assert "Unknown-v0" in fails(capsys, "show", "Pendulum-v1", "--env", "Unknown-v0")


def test_a_package_of_the_current_folder_registers_the_environment(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "my_envs.py").write_text(
        "import gymnasium as gym\n"
        "gym.register('MyPendulum-v0', 'gymnasium.envs.classic_control:PendulumEnv', max_episode_steps=30)\n"
    )
    pendulum = Demonstrations.load("Pendulum-v1").select([0])
    path = replace(pendulum, metadata={**pendulum.metadata, "env_id": "MyPendulum-v0", "n_attempts": 1}).save(tmp_path / "my")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert "--gym-packages" in fails(capsys, "show", path, "--replay")
    shown = result(capsys, "show", path, "--replay", "--gym-packages", "my_envs")
    assert [(episode["n_steps"], episode["largest_distance"]) for episode in shown["replay"]] == [(30, 0)]


def test_show_without_an_environment_cannot_replay(capsys: pytest.CaptureFixture[str], toy: Path):
    assert "found no environment id" in fails(capsys, "show", toy, "--replay")


def test_show_draws_and_films(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    picture, video = tmp_path / "picture.png", tmp_path / "video.mp4"
    arguments = ("show", "MountainCarContinuous-v0", "--plot", picture, "--video", video, "--video-episodes", 1, "--replay")
    shown = result(capsys, *arguments)
    assert (shown["plot"], shown["video"]) == (str(picture), str(video))
    assert [episode["number"] for episode in shown["replay"]] == [0, 1, 2]
    assert np.ptp(np.asarray(Image.open(picture).convert("L"))) > 100
    with VideoFileClip(str(video)) as clip:
        # The packaged one starts with 167 steps
        assert clip.reader.n_frames == 168
        assert clip.fps == 30
        assert np.ptp(clip.get_frame(0)) > 100
    before = picture.read_bytes(), video.read_bytes()
    assert "picture.png: found a file" in fails(capsys, *arguments)
    assert "video.mp4: found a file" in fails(capsys, "show", "Pendulum-v1", "--video", video)
    assert before == (picture.read_bytes(), video.read_bytes())
    assert run("show", "Pendulum-v1", "--plot", picture, "--force") == 0
    assert f"plot: {picture}" in capsys.readouterr().out
    assert before[0] != picture.read_bytes()


def test_what_cannot_be_filmed_leaves_no_file(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    source = without_seeds(tmp_path)
    for arguments in (("--episodes", 1, "--seed", 0), ("--video-episodes", 0)):
        assert "expected" in fails(capsys, "show", source, "--video", tmp_path / "video.mp4", *arguments)
    assert "'.mp4'" in fails(capsys, "show", "Pendulum-v1", "--video", tmp_path / "video.avi")
    assert "png" in fails(capsys, "show", "Pendulum-v1", "--plot", tmp_path / "picture")
    assert list(tmp_path.iterdir()) == [source]


def test_the_installed_command_prints_json_alone(tmp_path: Path):
    # pygame greets on standard output when something is drawn
    done = installed("show", "MountainCarContinuous-v0", "--video", tmp_path / "video.mp4", "--json", "--video-episodes", 1)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["video"] == str(tmp_path / "video.mp4")
