import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hdf5_files import ENV_ARGS, describe_robomimic, robomimic_arrays, write_arrays

from sb3_pgfd import Demonstrations, DemonstrationsError

NO_NEXT = {f"data__demo_{demo}__next_obs__{key}": None for demo in (2, 10) for key in ("joints", "camera")}


def load(tmp_path: Path, options: dict[str, Any] | None = None, **changes: Any) -> Demonstrations:
    path = write_arrays(tmp_path / "a.hdf5", robomimic_arrays(**changes), describe_robomimic)
    return Demonstrations.load(path, **(options or {}))


def joints(demonstrations: Demonstrations, field: str = "observations") -> list[float]:
    return getattr(demonstrations, field)["joints"][:, 0].tolist()


def test_the_groups_are_read_in_the_order_of_their_numbers(tmp_path: Path):
    demonstrations = load(tmp_path)
    assert joints(demonstrations) == [2, 3, 10, 11, 12]
    assert joints(demonstrations, "next_observations") == [3, 4, 11, 12, 13]
    assert demonstrations.actions.tolist() == [[2, 0], [2, 1], [10, 0], [10, 1], [10, 2]]
    assert demonstrations.rewards.tolist() == [0, 1, 0, 0, 0]
    assert demonstrations.terminated.tolist() == [False, True, False, False, False]
    assert demonstrations.truncated.tolist() == [False, False, False, False, True]
    assert demonstrations.episode_lengths.tolist() == [2, 3]
    assert demonstrations.successes is not None
    assert demonstrations.successes.tolist() == [True, False]


def test_dtypes_are_as_recorded(tmp_path: Path):
    demonstrations = load(tmp_path)
    assert {key: array.dtype for key, array in dict(demonstrations.observations).items()} == {
        "joints": float,
        "camera": np.uint8,
    }
    assert demonstrations.actions.dtype == np.float64
    assert demonstrations.rewards.dtype == np.float32


def test_the_environment_is_in_the_metadata(tmp_path: Path):
    assert dict(load(tmp_path).metadata) == {
        "producer": "imported from robomimic",
        "env_id": "Lift",
        "env_type": 1,
        "env_kwargs": {"robots": ["Panda"]},
    }


@pytest.mark.parametrize("text", [np.bytes_(json.dumps(ENV_ARGS)), json.dumps(ENV_ARGS)])
@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_the_text_is_found_however_it_is_stored(text: Any, libver: str, tmp_path: Path):
    def describe(file: h5py.File) -> None:
        file["data/demo_2"].attrs["env_args"] = "another"
        for number in range(20):
            file["data"].attrs[f"filler_{number}"] = "x" * number
        file["data"].attrs["env_args"] = text

    path = write_arrays(tmp_path / "a.hdf5", robomimic_arrays(), describe, libver=libver)
    assert Demonstrations.load(path).metadata["env_id"] == "Lift"


def test_a_file_may_say_nothing_of_its_environment(tmp_path: Path):
    path = write_arrays(tmp_path / "a.hdf5", robomimic_arrays())
    assert dict(Demonstrations.load(path).metadata) == {"producer": "imported from robomimic"}


@pytest.mark.parametrize(("mask", "first"), [("train", 10), ("valid", 2)])
def test_a_mask_chooses_episodes(mask: str, first: int, tmp_path: Path):
    demonstrations = load(tmp_path, {"mask": mask})
    assert demonstrations.n_episodes == 1
    assert joints(demonstrations)[0] == first


def test_a_mask_may_be_text_of_variable_length(tmp_path: Path):
    def describe(file: h5py.File) -> None:
        file.create_dataset("mask/both", data=["demo_10", "demo_2"], dtype=h5py.string_dtype(), chunks=True, maxshape=(None,))
        file.create_dataset("mask/one", data=["demo_10"], dtype=h5py.string_dtype())

    path = write_arrays(tmp_path / "a.hdf5", robomimic_arrays(), describe)
    assert joints(Demonstrations.load(path, mask="both")) == [2, 3, 10, 11, 12]
    assert joints(Demonstrations.load(path, mask="one")) == [10, 11, 12]


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ("test", r"mask: found the masks \['train', 'valid'\], expected 'test' among them"),
        ("../data", "expected '../data' among"),
    ],
)
def test_an_unknown_mask_is_refused(mask: str, message: str, tmp_path: Path):
    with pytest.raises(DemonstrationsError, match=message):
        load(tmp_path, {"mask": mask})


def test_a_file_without_masks_is_refused_if_one_is_asked_for(tmp_path: Path):
    with pytest.raises(DemonstrationsError, match="mask: found no masks, expected 'train' among them"):
        load(tmp_path, {"mask": "train"}, mask__train=None, mask__valid=None)


@pytest.mark.parametrize("listed", [["demo_3"], ["demo_2", "../demo_2"], []])
def test_a_mask_of_episodes_that_are_not_there_is_refused(listed: list[str], tmp_path: Path):
    with pytest.raises(DemonstrationsError, match="expected"):
        load(tmp_path, {"mask": "train"}, mask__train=np.array(listed, dtype="S9"))


def test_observation_keys_are_read_alone(tmp_path: Path):
    # The camera of another shape would be refused
    broken: Any = {"data__demo_10__obs__camera": np.zeros((3, 2, 2, 3), np.uint8)}
    demonstrations = load(tmp_path, {"observation_keys": "joints"}, **broken)
    assert isinstance(demonstrations.observations, np.ndarray)
    assert demonstrations.observations.shape == (5, 1)
    with pytest.raises(
        DemonstrationsError, match=r"data/demo_10/obs/camera: found uint8 of shape \(2, 2, 3\) per step, expected"
    ):
        load(tmp_path, **broken)


def test_an_unknown_key_is_refused(tmp_path: Path):
    message = r"observation_keys: found \['gripper'\], expected some of \['camera', 'joints'\]"
    with pytest.raises(DemonstrationsError, match=message):
        load(tmp_path, {"observation_keys": ["joints", "gripper"]})


def test_an_early_done_is_no_end(tmp_path: Path):
    dones: Any = {"data__demo_2__dones": np.array([1, 1]), "data__demo_10__dones": np.array([1, 0, 0])}
    demonstrations = load(tmp_path, **dones)
    assert demonstrations.episode_lengths.tolist() == [2, 3]
    assert np.flatnonzero(demonstrations.terminated).tolist() == [1]
    assert np.flatnonzero(demonstrations.truncated).tolist() == [4]


def test_an_episode_is_cut_at_its_first_done_if_asked_to(tmp_path: Path):
    dones: Any = {"data__demo_2__dones": np.array([1, 1]), "data__demo_10__dones": np.array([0, 1, 0])}
    demonstrations = load(tmp_path, {"cut_at_done": True}, **dones)
    assert demonstrations.episode_lengths.tolist() == [1, 2]
    assert joints(demonstrations) == [2, 10, 11]
    assert joints(demonstrations, "next_observations") == [3, 11, 12]
    assert np.flatnonzero(demonstrations.terminated).tolist() == [0, 2]


def test_without_next_observations_the_following_row_is_taken(tmp_path: Path):
    demonstrations = load(tmp_path, **NO_NEXT)
    # The last step of demo 2 is terminal, that of demo 10 is not
    assert joints(demonstrations) == [2, 3, 10, 11]
    assert joints(demonstrations, "next_observations") == [3, 3, 11, 12]
    assert demonstrations.terminated.tolist() == [False, True, False, False]
    assert demonstrations.truncated.tolist() == [False, False, False, True]
    assert demonstrations.actions.tolist() == [[2, 0], [2, 1], [10, 0], [10, 1]]
    assert demonstrations.successes is not None
    assert demonstrations.successes.tolist() == [True, False]


def test_a_done_that_was_a_time_limit_is_not_followed_by_itself(tmp_path: Path):
    demonstrations = load(tmp_path, {"done_means": "truncated"}, **NO_NEXT)
    assert joints(demonstrations) == [2, 10, 11]
    assert joints(demonstrations, "next_observations") == [3, 11, 12]
    assert not demonstrations.terminated.any()


def test_nothing_is_known_of_success_where_rewards_are_shaped(tmp_path: Path):
    assert load(tmp_path, data__demo_10__rewards=np.array([0.1, 0, 1])).successes is None


def test_files_of_a_simulator_alone_are_refused_with_the_remedy(tmp_path: Path):
    arrays = {"data/demo_0/states": np.zeros((3, 9)), "data/demo_0/actions": np.zeros((3, 2))}
    message = (
        r"data/demo_0: found \['actions', 'states'\], expected also \['rewards', 'dones', 'obs'\]: "
        "robomimic's dataset_states_to_obs.py"
    )
    with pytest.raises(DemonstrationsError, match=message):
        Demonstrations.load(write_arrays(tmp_path / "a.hdf5", arrays))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data__demo_2__dones": np.zeros(3)}, "data/demo_2: found 2 rewards and 3 dones, expected as many"),
        ({"data__demo_2__actions": np.zeros((3, 2))}, "data/demo_2: found 2 rewards and 3 num_samples, expected as many"),
        ({"data__demo_10__obs__joints": np.zeros((4, 1))}, "data/demo_10/obs/joints: found 4 rows, expected 3"),
        (
            {"data__demo_10__actions": np.zeros((3, 3))},
            r"found float64 of shape \(3,\) per step, expected float64 of shape \(2,\)",
        ),
        ({"data__demo_10__next_obs__joints": None}, r"data/demo_10/next_obs: found \['camera'\], expected also \['joints'\]"),
    ],
)
def test_what_contradicts_itself_is_refused(changes: dict[str, Any], message: str, tmp_path: Path):
    with pytest.raises(DemonstrationsError, match=message):
        load(tmp_path, **changes)


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_what_is_no_json_object_is_refused(text: str, tmp_path: Path):
    path = write_arrays(tmp_path / "a.hdf5", robomimic_arrays(), lambda file: file["data"].attrs.update({"env_args": text}))
    with pytest.raises(DemonstrationsError, match="found"):
        Demonstrations.load(path)


def test_ends_can_be_terminal_by_word_of_the_user(tmp_path: Path):
    demonstrations = load(tmp_path, {"done_means": "terminated"}, **NO_NEXT)
    assert joints(demonstrations) == [2, 3, 10, 11, 12]
    assert np.flatnonzero(demonstrations.terminated).tolist() == [1, 4]
