import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from full_disk import files_of_at_most
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_dataset import assert_same
from toy_recording import SETTINGS, assert_same_episode, begin, content, toy_episode

from sb3_pgfd import Demonstrations, DemonstrationsError
from sb3_pgfd.demonstrations.recording import Session


def test_each_episode_is_a_demonstrations_file_when_add_returns(tmp_path: Path):
    begin(tmp_path / "a.npz")
    assert content(tmp_path) == ["a.npz.recording"]
    folder = tmp_path / "a.npz.recording"
    assert content(folder) == ["episode_00000.npz", "episode_00001.npz", "recording.json"]
    second = Demonstrations.load(folder / "episode_00001.npz")
    assert_same_episode(second.episode(0), toy_episode(1))
    assert second.metadata["recorder"] == {"next": 2}


def test_finishing_writes_the_file_and_removes_the_folder(tmp_path: Path):
    session = begin(tmp_path / "a")
    assert session.unfinished
    finished = session.finish({"n_attempts": 7})
    assert not session.unfinished
    assert content(tmp_path) == ["a.npz"]
    loaded = Demonstrations.load(tmp_path / "a.npz")
    for demonstrations in (finished, loaded):
        metadata = dict(demonstrations.metadata)
        assert set(metadata.pop("versions")) == {"gymnasium", "numpy", "stable_baselines3"}
        # Toy episodes have a reward of 1 in each of 2 steps; the first one is a success
        assert metadata == {**SETTINGS, "success_rate": 0.5, "mean_return": 2.0, "n_attempts": 7}
        assert demonstrations.episode_info["seed"].tolist() == [0, 1]
        assert demonstrations.episode_info["success"].tolist() == [True, False]
        assert_same(demonstrations.observations, np.array([[0.0], [1.0], [100.0], [101.0]], dtype=np.float32))


def test_a_recording_without_episodes_leaves_nothing(tmp_path: Path):
    session = begin(tmp_path / "a.npz", 0)
    assert (session.state, session.unfinished) == (None, False)
    with pytest.raises(DemonstrationsError, match="episodes: found none"):
        session.finish({})
    assert content(tmp_path) == []


def test_without_a_path_nothing_is_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    session = Session(None, SETTINGS)
    session.add(toy_episode(0), {})
    session.add(toy_episode(1), {})
    session.discard_last()
    assert session.finish({}).n_episodes == 1
    assert content(tmp_path) == []


def test_a_recording_is_resumed_where_it_was(tmp_path: Path):
    begin(tmp_path / "a.npz")
    session = begin(tmp_path / "a.npz", 0, resume=True)
    assert session.state == {"next": 2}
    assert session.unfinished
    for number, episode in enumerate(session.episodes):
        assert_same_episode(episode, toy_episode(number))
    session.add(toy_episode(2), {"next": 3})
    assert session.finish({}).episode_info["seed"].tolist() == [0, 1, 2]


def test_resuming_what_was_never_begun_begins(tmp_path: Path):
    assert begin(tmp_path / "a.npz", resume=True).finish({}).n_episodes == 2


def test_a_file_is_refused_before_anything_is_recorded(tmp_path: Path):
    begin(tmp_path / "a.npz").finish({})
    for resume in (False, True):
        with pytest.raises(FileExistsError, match=r"a.npz: found a file, expected none: --force \(in Python overwrite=True\)"):
            begin(tmp_path / "a", resume=resume)


def test_an_unfinished_recording_is_refused_without_a_word(tmp_path: Path):
    begin(tmp_path / "a.npz")
    expected = r"a.npz.recording: found an unfinished recording of 2 episodes, .* pass --resume \(in Python resume=True\)"
    with pytest.raises(FileExistsError, match=expected):
        begin(tmp_path / "a.npz")
    assert Demonstrations.load(tmp_path / "a.npz.recording").n_episodes == 2


def test_overwriting_replaces_an_unfinished_recording_with_its_first_episode(tmp_path: Path):
    begin(tmp_path / "a.npz", 3)
    session = begin(tmp_path / "a.npz", 0, overwrite=True)
    assert Demonstrations.load(tmp_path / "a.npz.recording").n_episodes == 3
    session.add(toy_episode(9), {})
    assert Demonstrations.load(tmp_path / "a.npz.recording").episode_info["seed"].tolist() == [9]
    assert content(tmp_path) == ["a.npz.recording"]


def test_overwriting_keeps_the_old_file_until_the_new_one_is_there(tmp_path: Path):
    begin(tmp_path / "a.npz", 3).finish({})
    session = begin(tmp_path / "a.npz", 1, overwrite=True)
    assert Demonstrations.load(tmp_path / "a.npz").n_episodes == 3
    session.finish({})
    assert Demonstrations.load(tmp_path / "a.npz").n_episodes == 1


def test_a_recorder_killed_at_the_very_end_loses_nothing(tmp_path: Path):
    session = begin(tmp_path / "a.npz")
    shutil.copytree(tmp_path / "a.npz.recording", tmp_path / "kept")
    session.finish({})
    (tmp_path / "kept").rename(tmp_path / "a.npz.recording")
    with pytest.raises(FileExistsError, match="found the file and an unfinished recording of it"):
        begin(tmp_path / "a.npz", 0, resume=True)
    again = begin(tmp_path / "a.npz", 0, resume=True, overwrite=True)
    assert again.finish({}).n_episodes == 2
    assert content(tmp_path) == ["a.npz"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 6}, "found a recording with seed=5, expected seed=6"),
        ({"env_kwargs": {"size": 3}}, r"found a recording with env_kwargs={'size': 2}, expected env_kwargs={'size': 3}"),
        ({"noise": 0.1}, "found a recording with noise=None, expected noise=0.1"),
    ],
)
def test_resuming_with_other_settings_is_refused(change: dict[str, Any], message: str, tmp_path: Path):
    begin(tmp_path / "a.npz")
    with pytest.raises(DemonstrationsError, match=message):
        Session(tmp_path / "a.npz", {**SETTINGS, **change}, resume=True)


def test_resuming_with_a_setting_less_is_refused(tmp_path: Path):
    begin(tmp_path / "a.npz")
    with pytest.raises(DemonstrationsError, match="found a recording with bound=inf, expected bound=None"):
        Session(tmp_path / "a.npz", {key: SETTINGS[key] for key in ("env_id", "env_kwargs", "seed")}, resume=True)


def test_what_is_no_recording_is_left_alone(tmp_path: Path):
    (tmp_path / "a.npz.recording").mkdir()
    (tmp_path / "a.npz.recording" / "thesis.txt").write_text("years of work")
    for options in ({}, {"resume": True}, {"overwrite": True}):
        with pytest.raises(FileExistsError, match="found something that is no recording, expected nothing: move it away"):
            begin(tmp_path / "a.npz", 0, **options)
    assert content(tmp_path / "a.npz.recording") == ["thesis.txt"]


def test_the_last_episode_is_discarded_on_disk_too(tmp_path: Path):
    session = begin(tmp_path / "a.npz", 2)
    session.discard_last()
    assert session.state == {"next": 1}
    assert Demonstrations.load(tmp_path / "a.npz.recording").n_episodes == 1
    session.discard_last()
    with pytest.raises(DemonstrationsError, match="found no episode to discard"):
        session.discard_last()
    # Nothing is in there, so nobody has to be asked
    assert begin(tmp_path / "a.npz", 1).finish({}).n_episodes == 1


def test_more_episodes_are_added_to_a_finished_recording(tmp_path: Path):
    session = begin(tmp_path / "a.npz", 2)
    session.finish({})
    with pytest.raises(DemonstrationsError, match="found no episode to discard, expected at least one in no file yet"):
        session.discard_last()
    session.add(toy_episode(2), {"next": 3})
    # All of them: the recorder may be killed now
    assert Demonstrations.load(tmp_path / "a.npz.recording").n_episodes == 3
    assert Demonstrations.load(tmp_path / "a.npz").n_episodes == 2
    session.finish({})
    assert Demonstrations.load(tmp_path / "a.npz").n_episodes == 3
    assert content(tmp_path) == ["a.npz"]


def test_an_episode_with_nan_is_not_kept(tmp_path: Path):
    session = begin(tmp_path / "a.npz", 1)
    bad = toy_episode(1, rewards=np.array([0.0, np.nan]))
    with pytest.raises(
        DemonstrationsError, match="episode 1 of those kept: rewards: episode 0, step 1, component 0: found nan"
    ):
        session.add(bad, {})
    assert len(session.episodes) == Demonstrations.load(tmp_path / "a.npz.recording").n_episodes == 1


def test_two_recorders_of_one_file_do_not_mix(tmp_path: Path):
    first, second = begin(tmp_path / "a.npz", 0), begin(tmp_path / "a.npz", 0)
    first.add(toy_episode(1), {})
    with pytest.raises(FileExistsError, match=r"a.npz.recording: found a folder"):
        second.add(toy_episode(2), {})
    with pytest.raises(FileExistsError, match=r"a.npz: found another process that writes to it, expected none: wait"):
        begin(tmp_path / "a.npz", 0, resume=True)
    first.add(toy_episode(3), {})
    assert first.finish({}).episode_info["seed"].tolist() == [1, 3]


def test_who_says_nothing_where_others_succeed_has_failed(tmp_path: Path):
    session = begin(tmp_path / "a.npz", 0)
    for success in (None, True, None):
        session.add(toy_episode(1, success=success), {})
    assert Demonstrations.load(tmp_path / "a.npz.recording").episode_info["success"].tolist() == [False, True, False]
    assert session.finish({}).episode_info["success"].tolist() == [False, True, False]


def test_a_power_cut_leaves_nothing_half(tmp_path: Path):
    begin(tmp_path / "a.npz", 1)
    folder = tmp_path / "a.npz.recording"
    (folder / ".episode_00001.npz-abc.tmp").write_bytes(b"PK\x03\x04half")
    assert begin(tmp_path / "a.npz", 0, resume=True).state == {"next": 1}
    assert Demonstrations.load(folder).n_episodes == 1


def test_a_full_disk_costs_the_last_episode_only(tmp_path: Path):
    session = begin(tmp_path / "a.npz", 2)
    folder = tmp_path / "a.npz.recording"
    before = content(folder)
    large = toy_episode(2, 5000, observations=np.random.default_rng(0).random((5001, 1)))
    with files_of_at_most(20_000), pytest.raises(OSError, match="too large"):
        session.add(large, {})
    assert content(folder) == before
    assert (len(session.episodes), session.state) == (2, {"next": 2})
    # There is room again
    session.add(large, {})
    with files_of_at_most(20_000), pytest.raises(OSError, match="too large"):
        session.finish({})
    assert content(tmp_path) == ["a.npz.recording"]
    assert Demonstrations.load(folder).n_episodes == 3
    assert session.finish({}).n_episodes == 3


def test_a_disk_that_is_full_at_once_leaves_nothing(tmp_path: Path):
    session = begin(tmp_path / "a.npz", 0)
    with files_of_at_most(10), pytest.raises(OSError, match="too large"):
        session.add(toy_episode(), {})
    assert content(tmp_path) == []


@given(st.lists(st.sampled_from(["add", "discard", "crash", "finish"]), max_size=8))
@settings(max_examples=20, deadline=None)
def test_a_recording_keeps_what_a_list_would(actions: list[str]):
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.npz"
        session, kept, unfinished, number = Session(path, SETTINGS), list[int](), False, 0
        for action in actions:
            if action == "add":
                session.add(toy_episode(number), {"number": number})
                kept.append(number)
                unfinished, number = True, number + 1
            elif action == "discard" and unfinished:
                session.discard_last()
                kept.pop()
                unfinished = len(kept) > 0
            elif action == "finish" and kept:
                session.finish({})
                assert Demonstrations.load(path).episode_info["seed"].tolist() == kept
                unfinished = False
            elif action == "crash":
                # What is in the file is not resumed
                kept = kept if unfinished else []
                # A process that has crashed holds nothing
                del session
                session = Session(path, SETTINGS, resume=True, overwrite=True)
            assert [episode.seed for episode in session.episodes] == kept
            assert session.state == ({"number": kept[-1]} if kept else None)
            assert session.unfinished == unfinished
