"""Pickles that may run code: they are read only if the caller says that he trusts them."""

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from replay_buffers import filled, learn_with_her
from stable_baselines3.common.save_util import save_to_pkl

from sb3_pgfd import Demonstrations, DemonstrationsError


def test_what_an_algorithm_saved_is_read_if_it_is_trusted(tmp_path: Path):
    model = learn_with_her()
    model.save_replay_buffer(tmp_path / "buffer.pkl")
    saved, held = Demonstrations.load(tmp_path / "buffer.pkl", trusted=True), Demonstrations.load(model.replay_buffer)
    np.testing.assert_array_equal(saved.observations["observation"], held.observations["observation"])
    np.testing.assert_array_equal(saved.actions, held.actions)
    np.testing.assert_array_equal(saved.episode_lengths, held.episode_lengths)
    assert saved.source == str(tmp_path / "buffer.pkl")


def save(folder: Path) -> Path:
    save_to_pkl(folder / "buffer.pkl", filled(["", "terminated"]))
    return folder / "buffer.pkl"


@pytest.mark.parametrize("options", [{}, {"trusted": False}, {"done_means": "truncated"}])
def test_a_saved_buffer_is_refused_unless_it_is_trusted(options: Any, tmp_path: Path):
    path = save(tmp_path)
    expected = r"found a reference to stable_baselines3.*If you saved this file yourself, pass trusted=True"
    with pytest.raises(DemonstrationsError, match=expected):
        Demonstrations.load(path, **options)


def dump(folder: Path, content: Any) -> Path:
    (folder / "a.pkl").write_bytes(pickle.dumps(content))
    return folder / "a.pkl"


def test_actions_of_a_saved_buffer_may_be_in_environment_units(tmp_path: Path):
    path = dump(tmp_path, filled([""], action=(-2.0, 7.0)))
    assert Demonstrations.load(path, trusted=True, scaled_actions=False).actions.tolist() == [[-2, 7]]


def test_tuples_may_be_trusted_too(tmp_path: Path):
    path = dump(tmp_path, [(np.zeros(1), np.zeros(1), np.float32(7), np.ones(1), True)])
    assert Demonstrations.load(path, trusted=True, done_means="terminated").rewards.tolist() == [7]
    with pytest.raises(DemonstrationsError, match="found scaled_actions=True for what is no replay buffer"):
        Demonstrations.load(path, done_means="terminated", scaled_actions=True)


class Raises:
    def __reduce__(self) -> tuple[Any, ...]:
        return int, ("no number",)


def test_a_trusted_file_that_cannot_be_read_is_refused(tmp_path: Path):
    content = save(tmp_path).read_bytes()
    (tmp_path / "cut.pkl").write_bytes(content[:-100])
    (tmp_path / "other.pkl").write_bytes(content.replace(b"stable_baselines3", b"stable_baselines4"))
    dump(tmp_path, Raises())
    for name, error in (("cut", "UnpicklingError|EOFError"), ("other", "ModuleNotFoundError"), ("a", "ValueError")):
        with pytest.raises(
            DemonstrationsError, match=rf"{name}.pkl: found a pickle that cannot be read to its end \(({error})"
        ):
            Demonstrations.load(tmp_path / f"{name}.pkl", trusted=True)


@pytest.mark.parametrize("trusted", ["no", "True", 1, None])
def test_trust_is_a_word_and_no_value(trusted: Any, tmp_path: Path):
    marker = tmp_path / "marker"
    with pytest.raises(DemonstrationsError, match=f"found trusted={trusted!r}, expected True or False"):
        Demonstrations.load(dump(tmp_path, RunsCode(marker)), trusted=trusted)
    assert not marker.exists()


def test_code_runs_in_trusted_files_only(tmp_path: Path):
    marker = tmp_path / "marker"
    path = dump(tmp_path, RunsCode(marker))
    with pytest.raises(DemonstrationsError, match="nothing was executed"):
        Demonstrations.load(path)
    assert not marker.exists()
    with pytest.raises(DemonstrationsError, match="found nonetype, expected a list"):
        Demonstrations.load(path, trusted=True, done_means="truncated")
    assert marker.exists()


class RunsCode:
    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)
