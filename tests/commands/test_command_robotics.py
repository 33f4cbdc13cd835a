"""Goals, Dict observations and several processes: FetchReach with its packaged demonstrations, as a user runs it."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from command import PYTHON, finish, frames, run, script
from stable_baselines3.common.save_util import load_from_zip_file

ENV_ID = "FetchReach-v4"
ENTRY = {
    "policy": "MultiInputPolicy",
    "n_timesteps": 200,
    "n_envs": 2,
    "normalize": "dict(norm_obs=True, norm_reward=False)",
    "demonstrations": ENV_ID,
    "pretrain_steps": 200,
    "learning_starts": 20,
    "policy_kwargs": {"net_arch": [32]},
    "env_kwargs": {"max_episode_steps": 20},
}
# Prints the most memory that the command took, in kilobytes. Not getrusage: its peak begins with that of the parent process
PEAK = """
import pathlib, re, runpy
try:
    runpy.run_module("sb3_pgfd.enjoy", run_name="__main__")
except SystemExit as stop:
    assert not stop.code
print("peak", re.search(r"VmHWM:\\s+(\\d+) kB", pathlib.Path("/proc/self/status").read_text()).group(1))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one finished run in two processes."""
    folder = tmp_path_factory.mktemp("robotics")
    (folder / "td3fd.yml").write_text(yaml.safe_dump({ENV_ID: ENTRY}))
    arguments = ["--env", ENV_ID, "--conf-file", "td3fd.yml", "--vec-env", "subproc", "--seed", "1"]
    run(folder, "train", *arguments, "--eval-freq", "200", "--eval-episodes", "2")
    return folder


def test_train_learns_from_the_packaged_demonstrations_in_two_processes(folder: Path) -> None:
    run_folder = folder / "logs" / "td3fd" / f"{ENV_ID}_1"
    data, _, _ = load_from_zip_file(run_folder / f"{ENV_ID}.zip")
    assert data is not None
    assert (data["num_timesteps"], data["n_envs"], data["demonstrations_source"]) == (200, 2, ENV_ID)
    assert (run_folder / ENV_ID / "vecnormalize.pkl").is_file()
    with np.load(run_folder / "evaluations.npz") as evaluations:
        assert evaluations["timesteps"].tolist() == [0, 200]
        assert evaluations["ep_lengths"].max() == 20
        assert evaluations["successes"].shape == (2, 2)


def test_enjoy_films_it_and_touches_no_memory_for_a_buffer(folder: Path) -> None:
    # The run's buffer has a million rows
    finished = finish(folder, script(PEAK, "--env", ENV_ID, "-n", "40", "--video", "reach.mp4"))
    assert finished.returncode == 0, finished.stderr
    assert int(finished.stdout.split("peak")[1]) < 900_000
    assert "2 Episodes" in finished.stdout
    assert re.search(r"Success rate: \d+\.00%", finished.stdout)
    film = frames(folder / "reach.mp4", stride=4)
    assert len(film) == 41
    assert np.ptp(film[0]) > 100
    # The arm moves
    assert np.abs(film[0].astype(int) - film[15]).max() > 50


def test_demonstrations_of_it_are_played_back_without_naming_a_package(tmp_path: Path) -> None:
    # A maze begins and goes on the same in all versions of MuJoCo, Fetch does not
    arguments = ["show", "PointMaze_UMaze-v3", "--replay", "--json", "--episodes", "1", "--video", "demo.mp4"]
    finished = finish(tmp_path, [PYTHON, "-m", "sb3_pgfd", "demos", *arguments])
    assert finished.returncode == 0, finished.stderr
    shown = json.loads(finished.stdout)
    assert [episode["largest_distance"] for episode in shown["replay"]] == [pytest.approx(0.0, abs=1e-3)]
    assert len(frames(tmp_path / "demo.mp4", stride=4)) == shown["n_transitions"] + 1
