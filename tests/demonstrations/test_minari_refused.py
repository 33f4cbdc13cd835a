"""Minari datasets that are damaged, lead out of their folder, or hold what demonstrations cannot."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from gymnasium import spaces
from hdf5_files import jpeg, minari_arrays, write_arrays
from minari_files import IMAGES, OBSERVATIONS, buffers, create, use_root

from sb3_pgfd import Demonstrations, DemonstrationsError


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return use_root(tmp_path / "datasets", monkeypatch)


def change_metadata(folder: Path, **changes: Any) -> None:
    """None takes a key out."""
    path = folder / "data" / "metadata.json"
    record = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in record.items() if value is not None}))


@pytest.mark.parametrize(
    "dataset_id",
    ["../secret-v0", "/etc/secret-v0", "toy/../secret-v0", "~/secret-v0", "secret", "", "t\0-v0", "a-v0\n"],
)
def test_an_id_that_is_none_is_refused(dataset_id: str, root: Path):
    create("secret-v0", buffers(OBSERVATIONS), OBSERVATIONS)
    shutil.move(root / "secret-v0", root.parent / "secret-v0")
    with pytest.raises(DemonstrationsError, match="found no id of a Minari dataset, expected letters, digits"):
        Demonstrations.load(f"minari:{dataset_id}")


def test_a_missing_dataset_is_looked_for_in_one_place(root: Path):
    folder = re.escape(str(root / "toy" / "test-v0"))
    with pytest.raises(
        DemonstrationsError, match=f"minari:toy/test-v0: found no folder {folder}, expected one: 'minari download"
    ):
        Demonstrations.load("minari:toy/test-v0")
    with pytest.raises(
        DemonstrationsError, match="toy/test-v0: found no such file, expected a file, a folder, the id of a Minari"
    ):
        Demonstrations.load("toy/test-v0")


@pytest.mark.parametrize("name", ["data", "data/main_data.hdf5", "data/metadata.json"])
def test_a_link_out_of_the_folder_is_refused(name: str, root: Path):
    create("test-v0", buffers(OBSERVATIONS), OBSERVATIONS)
    moved = root.parent / "elsewhere"
    shutil.move(root / "test-v0" / name, moved)
    (root / "test-v0" / name).symlink_to(moved)
    with pytest.raises(DemonstrationsError, match=f"test-v0/{name}.*, which leads out of .*, expected a file in that folder"):
        Demonstrations.load("minari:test-v0")


def test_a_link_out_of_the_folder_of_another_storage_is_refused(root: Path):
    create("test-v0", buffers(OBSERVATIONS), OBSERVATIONS, data_format="parquet")
    file = next((root / "test-v0" / "data" / "1").glob("*.parquet"))
    shutil.move(file, root.parent / "elsewhere.parquet")
    file.symlink_to(root.parent / "elsewhere.parquet")
    with pytest.raises(DemonstrationsError, match=f"{file.name}, which leads out of"):
        Demonstrations.load("minari:test-v0")


def test_a_link_to_the_dataset_and_links_inside_it_are_followed(root: Path):
    create("test-v0", buffers(OBSERVATIONS), OBSERVATIONS)
    data = root / "test-v0" / "data"
    data.rename(root / "test-v0" / "version_1")
    data.symlink_to(root / "test-v0" / "version_1")
    (root / "linked-v0").symlink_to(root / "test-v0")
    assert len(Demonstrations.load("minari:linked-v0")) == 8


@pytest.mark.parametrize("storage", ["hdf5", "arrow"])
def test_tuples_are_refused(storage: str, root: Path):
    space = spaces.Tuple((OBSERVATIONS, spaces.Discrete(3)))
    create("test-v0", buffers(space), space, data_format=storage)
    with pytest.raises(DemonstrationsError, match="observations: found a Tuple, expected one array or a Dict of arrays"):
        Demonstrations.load("minari:test-v0")


def test_text_is_refused(root: Path):
    space = spaces.Dict({"task": spaces.Text(9), "joints": OBSERVATIONS})
    episodes = buffers(OBSERVATIONS)
    episodes = [
        type(episode)(
            **{**vars(episode), "observations": {"task": ["push"] * len(episode.observations), "joints": episode.observations}}
        )
        for episode in episodes
    ]
    create("test-v0", episodes, space)
    with pytest.raises(DemonstrationsError, match="episode_0/observations/task: found values of type <U4, expected numbers"):
        Demonstrations.load("minari:test-v0")
    assert len(Demonstrations.load("minari:test-v0", observation_keys="joints")) == 8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"episode_0__terminations": [True, True]}, "episode 0, step 0: found the end of an episode before its last step"),
        (
            {"episode_1__truncations": [True, False, True]},
            "episode 1, step 0: found the end of an episode before its last step",
        ),
        ({"episode_1__truncations": [True, True]}, "episode_1/truncations: found 2 rows, expected 3"),
        ({"episode_1__observations": np.zeros((3, 2))}, "episode_1/observations: found 3 rows, expected 4"),
        ({"episode_0__actions": np.zeros((3, 1), np.float32)}, "episode_0/actions: found 3 rows, expected 2"),
        (
            {"episode_1__actions": np.zeros((3, 1))},
            r"episode_1/actions: found float64 of shape \(1,\) per step, expected float32",
        ),
        (
            {"episode_1__observations": np.zeros((4, 3))},
            r"found float64 of shape \(3,\) per step, expected float64 of shape \(2,\)",
        ),
        ({"episode_1__rewards": None}, r"episode_1: found \['actions', .*\], expected also \['rewards'\]"),
        (
            {"episode_1__rewards": np.array([0, np.inf, 0])},
            "rewards: episode 1, step 1, component 0: found inf, expected a finite",
        ),
        ({"episode_1__observations": None}, r"episode_1: found \['actions', .*\], expected also \['observations'\]"),
    ],
)
def test_what_contradicts_itself_is_refused(changes: dict[str, Any], message: str, tmp_path: Path):
    with pytest.raises(DemonstrationsError, match=message):
        Demonstrations.load(write_arrays(tmp_path / "a.hdf5", minari_arrays(**changes)))


def test_an_episode_without_a_step_is_refused(tmp_path: Path):
    arrays = {name: array[:0] if name.startswith("episode_1") else array for name, array in minari_arrays().items()}
    with pytest.raises(DemonstrationsError, match="episode_1: found no transition, expected at least one"):
        Demonstrations.load(write_arrays(tmp_path / "a.hdf5", arrays))


@pytest.mark.parametrize("storage", ["hdf5", "parquet"])
def test_a_selection_of_no_episode_is_refused(storage: str, root: Path):
    dataset = create("test-v0", buffers(OBSERVATIONS), OBSERVATIONS, data_format=storage)
    dataset.episode_indices = np.array([], dtype=int)
    with pytest.raises(DemonstrationsError, match=r"MinariDataset in memory: .*found no episode, expected at least one"):
        Demonstrations.load(dataset)


@pytest.mark.parametrize("storage", ["hdf5", "arrow"])
def test_no_environment_is_made(storage: str, root: Path):
    # Minari and Gymnasium would import the module to make the environment
    (root.parent / "evil.py").write_text(f"open({str(root.parent / 'executed')!r}, 'w')")
    specification = json.dumps({"id": "Evil-v0", "entry_point": "evil:Env", "kwargs": {"size": 2}})
    create("test-v0", buffers(OBSERVATIONS), OBSERVATIONS, data_format=storage)
    change_metadata(root / "test-v0", env_spec=specification)
    assert Demonstrations.load("minari:test-v0").metadata["env_id"] == "Evil-v0"
    assert Demonstrations.load("minari:test-v0").metadata["env_kwargs"] == {"size": 2}
    change_metadata(root / "test-v0", observation_space=None)
    if storage == "hdf5":
        assert len(Demonstrations.load("minari:test-v0")) == 8
    else:
        with pytest.raises(DemonstrationsError, match=r"metadata\.json: found .*, expected also \['observation_space'\]"):
            Demonstrations.load("minari:test-v0")
    assert not (root.parent / "executed").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "metadata.json: found no JSON record"),
        ("[" * 100_000, "metadata.json: found no JSON record"),
        ('["data_format"]', "metadata.json: found no JSON record but a list, expected one"),
        ('{"data_format": "csv"}', r"found data_format 'csv', expected one of \['hdf5', 'arrow', 'parquet'\]"),
        ('{"data_format": ["hdf5"]}', "expected one of"),
        ('{"data_format": "hdf5", "observation_space": {}}', "observation_space: found no JSON record"),
        ('{"data_format": "hdf5", "env_spec": "{"}', "env_spec: found no JSON record"),
        ('{"data_format": "arrow", "observation_space": "1", "action_space": "1"}', "found"),
        ('{"data_format": "arrow", "observation_space": "{}", "action_space": "{}"}', "found"),
    ],
)
def test_damaged_metadata_are_refused(content: str, message: str, root: Path):
    create("test-v0", buffers(OBSERVATIONS), OBSERVATIONS)
    (root / "test-v0" / "data" / "metadata.json").write_text(content)
    with pytest.raises(DemonstrationsError, match=message):
        Demonstrations.load("minari:test-v0")


@pytest.mark.parametrize("description", ["5", '{"subspaces": {"a": 3}}', '{"shape": [1e9]}'])
def test_odd_descriptions_of_spaces_are_refused(description: str, root: Path):
    create("test-v0", buffers(OBSERVATIONS), OBSERVATIONS)
    change_metadata(root / "test-v0", observation_space=description)
    with pytest.raises(DemonstrationsError, match=r"expected (a whole|one)"):
        Demonstrations.load("minari:test-v0")


def replace_images(root: Path, second: np.ndarray) -> None:
    """An episode of one step, whose second image is another one."""
    create("test-v0", buffers(IMAGES, lengths=(1,)), IMAGES)
    with h5py.File(root / "test-v0" / "data" / "main_data.hdf5", "a") as file:
        del file["episode_0/observations"]
        rows = file.create_dataset("episode_0/observations", (2,), h5py.vlen_dtype(np.uint8))
        rows[0], rows[1] = jpeg(36, 40), second


def huge() -> np.ndarray:
    """A JPEG file whose header names 65,500 rows of as many pixels."""
    content = bytearray(jpeg(36, 40).tobytes())
    at = content.index(b"\xff\xc0") + 5
    content[at : at + 4] = (65_500).to_bytes(2, "big") * 2
    return np.frombuffer(bytes(content), np.uint8)


@pytest.mark.parametrize(
    "second",
    [jpeg(36, 44), huge(), np.frombuffer(b"\xff\xd8\xff no image", np.uint8), jpeg(36, 40)[:-20]],
    ids=["another size", "huge", "no image", "cut"],
)
def test_images_that_cannot_be_are_refused(second: np.ndarray, root: Path):
    replace_images(root, second)
    with pytest.raises(DemonstrationsError, match="expected a whole"):
        Demonstrations.load("minari:test-v0")


@pytest.mark.parametrize("one_length", [True, False])
def test_images_of_a_dataset_that_does_not_describe_them_are_refused(one_length: bool, root: Path):
    replace_images(root, jpeg(36, 40, 7 if one_length else 90))
    if one_length:
        with h5py.File(root / "test-v0" / "data" / "main_data.hdf5", "a") as file:
            del file["episode_0/observations"]
            file["episode_0/observations"] = np.stack([jpeg(36, 40)] * 2)
    change_metadata(root / "test-v0", observation_space=None)
    with pytest.raises(DemonstrationsError, match=r"found .*, expected numbers: encoded images are read through minari"):
        Demonstrations.load("minari:test-v0")
