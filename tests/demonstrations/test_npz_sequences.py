"""Files that keep each observation of an episode once."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from npz_files import FIELDS, METADATA, make

from sb3_pgfd import Demonstrations, DemonstrationsError
from sb3_pgfd.demonstrations import Episode
from sb3_pgfd.demonstrations.formats import npz

# Episodes of 2 and 1 steps
OBSERVATIONS = np.array([[1.0], [2.0], [5.0]])
NEXT_OBSERVATIONS = np.array([[2.0], [3.0], [6.0]])


def members(path: Path) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def version(path: Path) -> int:
    return json.loads(str(members(path)["metadata"]))["version"]


def test_only_the_last_observations_are_kept_beside_the_first(tmp_path: Path):
    path = make(OBSERVATIONS, next_observations=NEXT_OBSERVATIONS).save(tmp_path / "a.npz")
    found = members(path)
    assert "next_observations" not in found
    assert found["observations"].tolist() == OBSERVATIONS.tolist()
    assert found["final_observations"].tolist() == [[3.0], [6.0]]
    assert version(path) == 2
    restored = Demonstrations.load(path)
    assert np.asarray(restored.next_observations).tolist() == NEXT_OBSERVATIONS.tolist()
    assert dict(restored.metadata) == METADATA


def test_each_key_is_kept_in_this_way(tmp_path: Path):
    observations = {"a": OBSERVATIONS, "b/c": OBSERVATIONS.astype(np.float32)}
    after = {"a": NEXT_OBSERVATIONS, "b/c": NEXT_OBSERVATIONS.astype(np.float32)}
    path = make(observations, next_observations=after).save(tmp_path / "a.npz")
    assert members(path)["final_observations/b/c"].tolist() == [[3.0], [6.0]]
    restored = Demonstrations.load(path).next_observations
    assert not isinstance(restored, np.ndarray)
    assert {key: array.tolist() for key, array in restored.items()} == {key: array.tolist() for key, array in after.items()}
    assert restored["b/c"].dtype == np.float32


@pytest.mark.parametrize(
    "after",
    [
        # The second step begins with 2
        [[np.nextafter(2.0, 3.0)], [3.0], [6.0]],
    ],
)
def test_a_step_that_begins_elsewhere_keeps_all_of_them(after: Any, tmp_path: Path):
    path = make(OBSERVATIONS, next_observations=np.array(after)).save(tmp_path / "a.npz")
    assert version(path) == 1
    assert "final_observations" not in members(path)
    assert np.asarray(Demonstrations.load(path).next_observations).tolist() == after


def test_zeros_of_different_sign_are_different(tmp_path: Path):
    before, after = np.array([[1.0], [0.0], [5.0]]), np.array([[-0.0], [3.0], [6.0]])
    restored = Demonstrations.load(make(before, next_observations=after).save(tmp_path / "a.npz"))
    assert np.signbit(np.asarray(restored.next_observations)[0, 0])
    assert not np.signbit(np.asarray(restored.observations)[1, 0])


def test_another_dtype_keeps_all_of_them(tmp_path: Path):
    path = make(OBSERVATIONS, next_observations=NEXT_OBSERVATIONS.astype(np.float32)).save(tmp_path / "a.npz")
    assert version(path) == 1
    assert np.asarray(Demonstrations.load(path).next_observations).dtype == np.float32


@settings(max_examples=50, deadline=None)
@given(lengths=st.lists(st.integers(1, 5), min_size=1, max_size=6), shape=st.sampled_from([(), (2,), (2, 1)]))
def test_what_is_made_of_episodes_is_restored(lengths: list[int], shape: tuple[int, ...]):
    rng = np.random.default_rng(sum(lengths))
    episodes = [
        Episode(rng.random((length + 1, *shape)), np.zeros((length, 1)), np.zeros(length), terminated=False)
        for length in lengths
    ]
    demonstrations = Demonstrations.from_episodes(episodes)
    final = npz.final_observations(demonstrations)
    assert isinstance(final, np.ndarray)
    np.testing.assert_array_equal(final, [np.asarray(episode.observations)[-1] for episode in episodes])
    restored = npz.next_observations(demonstrations.observations, final, demonstrations.episode_lengths)
    np.testing.assert_array_equal(restored, demonstrations.next_observations)
    assert not np.asarray(restored).flags.writeable


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"final_observations": None}, "members: found .*, expected also \\['final_observations'"),
        ({"final_observations": np.zeros((3, 1))}, r"final_observations: found shape \(3, 1\) .*, expected \(2, 1\)"),
        ({"final_observations": np.zeros((2, 2))}, r"final_observations: found shape \(2, 2\) .*, expected \(2, 1\)"),
        ({"final_observations": np.zeros((2, 1), np.float32)}, "found shape .* and dtype float32, expected .* float64"),
        ({"final_observations": np.full((2, 1), np.nan)}, "next_observations: episode 0, step 1, component 0: found nan"),
        ({"final_observations": None, "final_observations/a": np.zeros((2, 1))}, r"found \[\"final_observations\['a'\]\"\]"),
        ({"episode_lengths": np.array([2, 2])}, "observations: found 3 rows, expected 4"),
        ({"episode_lengths": np.array([4, -1])}, r"episode_lengths: found \[4, -1\], expected whole numbers >= 1"),
        ({"episode_lengths": np.array([2**62, 2**62, 2**62, 2**62])}, "observations: found 3 rows"),
        ({"episode_lengths": np.array([2.0, 1.0])}, "episode_lengths: found"),
        ({"episode_lengths": np.array(3)}, "found no episode"),
        ({"observations": np.array(3.0)}, "observations: found a single number"),
        ({"observations": np.array(["a", "b", "c"]), "final_observations": np.array(["d", "e"])}, "found dtype <U1"),
    ],
)
def test_members_that_contradict_each_other_are_refused(changes: dict[str, Any], message: str, tmp_path: Path):
    found = members(make(OBSERVATIONS, next_observations=NEXT_OBSERVATIONS).save(tmp_path / "a.npz"))
    changed = {name: array for name, array in {**found, **changes}.items() if array is not None}
    np.savez(tmp_path / "changed.npz", **changed)
    with pytest.raises(DemonstrationsError, match=rf"changed.npz: .*{message}"):
        Demonstrations.load(tmp_path / "changed.npz")


def test_a_file_of_the_first_version_is_read_as_before(tmp_path: Path):
    original = make(OBSERVATIONS, next_observations=NEXT_OBSERVATIONS)
    record = json.dumps({"format": "sb3-pgfd demonstrations", "version": 1, **METADATA})
    np.savez(tmp_path / "a.npz", metadata=np.array(record), **{name: getattr(original, name) for name in FIELDS})
    assert np.asarray(Demonstrations.load(tmp_path / "a.npz").next_observations).tolist() == NEXT_OBSERVATIONS.tolist()
