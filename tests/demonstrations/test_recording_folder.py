import json
import os
from pathlib import Path

import pytest
from toy_recording import SETTINGS, assert_same_episode, begin, toy_episode

from sb3_pgfd import Demonstrations, DemonstrationsError


def test_the_finished_episodes_of_an_unfinished_recording_are_loaded(tmp_path: Path):
    begin(tmp_path / "a.npz", 3)
    demonstrations = Demonstrations.load(tmp_path / "a.npz.recording")
    assert demonstrations.n_episodes == 3
    for number in range(3):
        assert_same_episode(demonstrations.episode(number), toy_episode(number))
    assert demonstrations.metadata == SETTINGS
    assert demonstrations.source == str(tmp_path / "a.npz.recording")
    assert Demonstrations.load(tmp_path / "a.npz.recording", n_episodes=1).n_episodes == 1


def test_a_gap_is_refused(tmp_path: Path):
    begin(tmp_path / "a.npz", 3)
    folder = tmp_path / "a.npz.recording"
    (folder / "episode_00001.npz").unlink()
    expected = "found 2 episodes, episode_00001.npz not among them, expected all up to the last one"
    with pytest.raises(DemonstrationsError, match=expected):
        Demonstrations.load(folder)
    with pytest.raises(DemonstrationsError, match=expected):
        begin(tmp_path / "a.npz", 0, resume=True)
    assert begin(tmp_path / "a.npz", 1, overwrite=True).finish({}).n_episodes == 1


def test_a_damaged_episode_is_refused_by_its_name(tmp_path: Path):
    begin(tmp_path / "a.npz", 2)
    folder = tmp_path / "a.npz.recording"
    damaged = folder / "episode_00001.npz"
    damaged.write_bytes(damaged.read_bytes()[:-100])
    with pytest.raises(DemonstrationsError, match=r"episode_00001.npz: found a file that cannot be read to its end"):
        Demonstrations.load(folder)


def test_another_file_in_place_of_an_episode_is_refused(tmp_path: Path):
    begin(tmp_path / "a.npz", 2)
    folder = tmp_path / "a.npz.recording"
    two = Demonstrations.from_episodes([toy_episode(0), toy_episode(1)])
    two.save(folder / "episode_00001.npz", overwrite=True)
    with pytest.raises(DemonstrationsError, match=r"episode_00001.npz: found no episode of a recording, expected one"):
        Demonstrations.load(folder)


def test_a_folder_in_place_of_an_episode_is_refused(tmp_path: Path):
    begin(tmp_path / "a.npz", 1)
    os.symlink(".", tmp_path / "a.npz.recording" / "episode_00001.npz")
    with pytest.raises(DemonstrationsError, match=r"episode_00001.npz: found no episode of a recording, expected one"):
        Demonstrations.load(tmp_path / "a.npz.recording")


def test_an_episode_of_one_step_is_read(tmp_path: Path):
    begin(tmp_path / "a.npz", 0).add(toy_episode(1, length=1), {})
    assert_same_episode(Demonstrations.load(tmp_path / "a.npz.recording").episode(0), toy_episode(1, length=1))


@pytest.mark.parametrize("name", ["episode_00000.npz", "recording.json"])
def test_a_link_that_leads_out_of_the_folder_is_refused(name: str, tmp_path: Path):
    begin(tmp_path / "a.npz", 1)
    link = tmp_path / "a.npz.recording" / name
    link.rename(tmp_path / "elsewhere")
    os.symlink(tmp_path / "elsewhere", link)
    with pytest.raises(DemonstrationsError, match="which leads out of"):
        Demonstrations.load(tmp_path / "a.npz.recording")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"format": "sb3-pgfd recording", "version": 9}', "found version 9 of the format, expected 1: update sb3-pgfd"),
        ('{"format": "sb3-pgfd recording", "version": 1', "found no JSON record"),
        ('{"format": "sb3-pgfd recording", ' + '"a": [' * 100_000, "found no JSON record"),
        ("{}", r"found a folder with \['recording.json'\], expected one of"),
    ],
)
def test_a_record_that_says_something_else_is_refused(text: str, message: str, tmp_path: Path):
    (tmp_path / "recording.json").write_text(text)
    with pytest.raises(DemonstrationsError, match=message):
        Demonstrations.load(tmp_path)


def test_a_recording_without_a_finished_episode_is_refused(tmp_path: Path):
    (tmp_path / "recording.json").write_text(json.dumps({"format": "sb3-pgfd recording", "version": 1}))
    with pytest.raises(DemonstrationsError, match="found no finished episode in this recording, expected at least one"):
        Demonstrations.load(tmp_path)
