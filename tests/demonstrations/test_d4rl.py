from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hdf5_files import d4rl_arrays, write_arrays
from toy_dataset import box

from sb3_pgfd import Demonstrations, DemonstrationsError


def load(tmp_path: Path, options: dict[str, Any] | None = None, **changes: Any) -> Demonstrations:
    return Demonstrations.load(write_arrays(tmp_path / "a.hdf5", d4rl_arrays(**changes)), **(options or {}))


def test_episodes_end_at_terminals_and_timeouts(tmp_path: Path):
    demonstrations = load(tmp_path)
    # Row 4, a timeout, and row 6, where the file breaks off, have no next observation
    assert box(demonstrations.observations)[:, 0].tolist() == [0, 1, 2, 3, 5]
    # Row 2 is terminal: nothing is bootstrapped from its next observation, which is its own
    assert box(demonstrations.next_observations)[:, 0].tolist() == [1, 2, 2, 4, 6]
    assert demonstrations.episode_lengths.tolist() == [3, 1, 1]
    assert demonstrations.terminated.tolist() == [False, False, True, False, False]
    assert demonstrations.truncated.tolist() == [False, False, False, True, True]
    assert demonstrations.rewards.tolist() == [0, 1, 2, 3, 5]
    assert demonstrations.actions.tolist() == np.array([[0], [0.1], [0.2], [0.3], [0.5]], np.float32).tolist()
    assert demonstrations.actions.dtype == box(demonstrations.observations).dtype == np.float32
    assert demonstrations.successes is None
    assert demonstrations.metadata["producer"] == "imported from D4RL"


def test_next_observations_are_taken_where_there_are_any(tmp_path: Path):
    following = d4rl_arrays()["observations"] + np.array([1, -1], np.float32)
    demonstrations = load(tmp_path, next_observations=following)
    assert box(demonstrations.next_observations).tolist() == following.tolist()
    assert demonstrations.episode_lengths.tolist() == [3, 2, 2]
    assert np.flatnonzero(demonstrations.terminated).tolist() == [2]
    assert np.flatnonzero(demonstrations.truncated).tolist() == [4, 6]


def test_timeouts_may_be_missing_if_every_episode_is_said_to_be_shorter(tmp_path: Path):
    with pytest.raises(
        DemonstrationsError, match=r"no timeouts and no next_observations, and 1 terminals .* pass episode_length"
    ):
        load(tmp_path, timeouts=None)
    demonstrations = load(tmp_path, {"episode_length": 100}, timeouts=None)
    assert demonstrations.episode_lengths.tolist() == [3, 3]
    assert box(demonstrations.observations)[:, 0].tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("timeouts", [None, np.zeros(7, dtype=bool)])
def test_one_endless_episode_is_refused(timeouts: Any, tmp_path: Path):
    message = "timeouts.*, and 0 terminals in 7 steps, expected to be told where time limits end episodes: pass episode_length"
    with pytest.raises(DemonstrationsError, match=message):
        load(tmp_path, timeouts=timeouts, terminals=np.zeros(7, dtype=bool))


def test_episodes_are_cut_to_a_length(tmp_path: Path):
    demonstrations = load(tmp_path, {"episode_length": 3}, timeouts=None, terminals=np.zeros(7, dtype=bool))
    # Rows 2, 5 and 6 have no next observation; of the last episode nothing is left
    assert box(demonstrations.observations)[:, 0].tolist() == [0, 1, 3, 4]
    assert demonstrations.episode_lengths.tolist() == [2, 2]
    assert np.flatnonzero(demonstrations.truncated).tolist() == [1, 3]


def test_the_length_counts_from_the_start_of_an_episode(tmp_path: Path):
    following = d4rl_arrays()["observations"] + np.array([1, -1], np.float32)
    # Row 2 is terminal, row 4 a timeout
    assert load(tmp_path, {"episode_length": 2}, next_observations=following).episode_lengths.tolist() == [2, 1, 2, 2]


@pytest.mark.parametrize("length", [0, -1, 2.5, True, "3"])
def test_an_odd_length_is_refused(length: Any, tmp_path: Path):
    with pytest.raises(DemonstrationsError, match=f"found episode_length={length!r}, expected a whole number of steps >= 1"):
        load(tmp_path, {"episode_length": length})


def test_a_terminal_that_was_a_time_limit_is_not_followed_by_itself(tmp_path: Path):
    demonstrations = load(tmp_path, {"done_means": "truncated"})
    assert box(demonstrations.observations)[:, 0].tolist() == [0, 1, 3, 5]
    assert box(demonstrations.next_observations)[:, 0].tolist() == [1, 2, 4, 6]
    assert not demonstrations.terminated.any()
    assert demonstrations.episode_lengths.tolist() == [2, 1, 1]


def test_an_episode_solved_the_task_if_one_of_its_steps_did(tmp_path: Path):
    demonstrations = load(tmp_path, infos__success=np.array([0, 1, 0, 0, 0, 0, 1], dtype=bool))
    assert demonstrations.successes is not None
    assert demonstrations.successes.tolist() == [True, False, True]


def test_success_belongs_to_the_episodes_that_are_left(tmp_path: Path):
    # Episodes of rows 0 to 2, 3, which vanishes, and 4 to 6
    success = np.array([0, 0, 0, 0, 1, 0, 0], dtype=bool)
    demonstrations = load(tmp_path, timeouts=np.arange(7) == 3, infos__success=success)
    assert demonstrations.successes is not None
    assert demonstrations.successes.tolist() == [False, True]


def test_columns_of_one_are_columns(tmp_path: Path):
    arrays = d4rl_arrays()
    demonstrations = load(
        tmp_path, rewards=arrays["rewards"][:, None], terminals=arrays["terminals"][:, None].astype(np.float32)
    )
    assert demonstrations.rewards.tolist() == [0, 1, 2, 3, 5]
    assert demonstrations.episode_lengths.tolist() == [3, 1, 1]


def test_compressed_arrays_are_read(tmp_path: Path):
    plain = load(tmp_path)
    with h5py.File(tmp_path / "b.hdf5", "w") as file:
        for name, array in d4rl_arrays().items():
            file.create_dataset(name, data=array, compression="gzip", shuffle=True, chunks=True)
    assert box(Demonstrations.load(tmp_path / "b.hdf5").observations).tolist() == box(plain.observations).tolist()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"terminals": None},
            r"HDF5 file: found \['actions', .*\], expected also \['terminals'\] of D4RL, or 'episode_0'",
        ),
        ({"actions": np.zeros((6, 1))}, "actions: found 6 rows, expected 7 as of terminals"),
        ({"rewards": np.zeros((7, 2))}, r"rewards: found shape \(2,\), expected one number for each step"),
        ({"observations": np.float32(1)}, "observations: found a single value, expected an array"),
        ({"observations": np.full((7, 1), np.nan)}, "observations: episode 0, step 0, component 0: found nan"),
        ({"observations": np.array(["a"] * 7, dtype="S")}, "observations: found values of type |S1, expected numbers"),
        ({"observations/x": np.zeros(7), "observations": None}, "observations: found a group, expected an array"),
    ],
)
def test_what_cannot_be_used_is_refused(changes: dict[str, Any], message: str, tmp_path: Path):
    with pytest.raises(DemonstrationsError, match=message):
        Demonstrations.load(write_arrays(tmp_path / "a.hdf5", {**d4rl_arrays(), **changes}))


def test_a_file_without_a_step_is_refused(tmp_path: Path):
    arrays = {name: array[:0] for name, array in d4rl_arrays().items()}
    with pytest.raises(DemonstrationsError, match=r"found no transition, expected at least one"):
        Demonstrations.load(write_arrays(tmp_path / "a.hdf5", arrays))


def test_a_timeout_can_be_terminal_by_word_of_the_user(tmp_path: Path):
    demonstrations = load(tmp_path, {"done_means": "terminated"})
    assert box(demonstrations.observations)[:, 0].tolist() == [0, 1, 2, 3, 4, 5, 6]
    # The last row is where the file ends
    assert np.flatnonzero(demonstrations.terminated).tolist() == [2, 4, 6]
