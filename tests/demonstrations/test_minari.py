import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import minari
import numpy as np
import pytest
from gymnasium import spaces
from hdf5_files import minari_arrays, write_arrays
from minari_files import ACTIONS, IMAGES, NESTED, OBSERVATIONS, SMALL_IMAGES, buffers, create, use_root
from toy_dataset import assert_same, box

from sb3_pgfd import Demonstrations
from sb3_pgfd.demonstrations.spaces import space_to_json
from sb3_pgfd.utils.files import install


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return use_root(tmp_path, monkeypatch)


def leaves(observations: Any, prefix: str = "") -> dict[str, np.ndarray]:
    if not isinstance(observations, dict):
        return {prefix: observations}
    parts = [leaves(value, f"{prefix}/{key}" if prefix else key) for key, value in observations.items()]
    return {key: array for part in parts for key, array in part.items()}


def assert_equal_episodes(demonstrations: Demonstrations, dataset: Any) -> None:
    """Each episode holds what the library reads of it."""
    assert demonstrations.n_episodes == dataset.total_episodes
    for number, expected in enumerate(dataset.iterate_episodes()):
        episode = demonstrations.episode(number)
        found, wanted = (
            leaves(dict(episode.observations) if not isinstance(episode.observations, np.ndarray) else episode.observations),
            leaves(expected.observations),
        )
        assert set(found) == set(wanted)
        for key, array in wanted.items():
            np.testing.assert_array_equal(found[key], array)
            assert found[key].dtype == array.dtype
        np.testing.assert_array_equal(episode.actions, expected.actions)
        np.testing.assert_array_equal(episode.rewards, expected.rewards.astype(np.float32))
        assert episode.terminated == expected.terminations[-1]


def test_a_file_is_read_as_it_lies(tmp_path: Path):
    demonstrations = Demonstrations.load(write_arrays(tmp_path / "a.hdf5", minari_arrays()))
    assert box(demonstrations.observations).tolist() == [[0, 0], [1, -1], [10, 0], [11, -1], [12, -2]]
    assert box(demonstrations.next_observations).tolist() == [[1, -1], [2, -2], [11, -1], [12, -2], [13, -3]]
    assert demonstrations.actions.tolist() == [[0], [1], [10], [11], [12]]
    assert demonstrations.rewards.tolist() == [0, 1, 0, 1, 2]
    assert demonstrations.terminated.tolist() == [False, True, False, False, False]
    assert demonstrations.truncated.tolist() == [False, False, False, False, True]
    assert demonstrations.episode_lengths.tolist() == [2, 3]
    assert demonstrations.actions.dtype == demonstrations.rewards.dtype == np.float32
    assert box(demonstrations.observations).dtype == np.float64
    assert dict(demonstrations.metadata) == {"producer": "imported from Minari"}
    assert not demonstrations.episode_info


def test_episodes_are_in_the_order_of_their_numbers(tmp_path: Path):
    arrays = minari_arrays()
    renamed = {
        name.replace("episode_0", "episode_10").replace("episode_1/", "episode_9/"): array for name, array in arrays.items()
    }
    assert Demonstrations.load(write_arrays(tmp_path / "a.hdf5", renamed)).episode_lengths.tolist() == [3, 2]


@pytest.mark.parametrize("storage", ["hdf5", "arrow", "parquet"])
@pytest.mark.parametrize(
    "space",
    [OBSERVATIONS, spaces.Discrete(5), SMALL_IMAGES, IMAGES, NESTED],
    ids=["box", "discrete", "small images", "images", "nested"],
)
def test_what_minari_writes_is_what_it_reads(storage: str, space: spaces.Space, root: Path):
    dataset = create("toy/test-v0", buffers(space), space, data_format=storage)
    demonstrations = Demonstrations.load("minari:toy/test-v0")
    assert_equal_episodes(demonstrations, dataset)
    assert demonstrations.terminated.tolist() == [False, False, False, True, False, False, False, False]
    # The last episode has neither flag
    assert demonstrations.truncated.tolist() == [False, False, False, False, True, False, False, True]
    assert demonstrations.episode_info["seed"].tolist() == [100, 101, 102]
    assert demonstrations.successes is None


@pytest.mark.parametrize("storage", ["hdf5", "parquet"])
def test_images_may_be_stored_as_they_are(storage: str, root: Path):
    dataset = create("test-v0", buffers(IMAGES), IMAGES, data_format=storage, jpeg_encoding=False)
    assert_equal_episodes(Demonstrations.load("minari:test-v0"), dataset)
    assert box(Demonstrations.load("minari:test-v0").observations).tolist() == [
        *(row.tolist() for episode in buffers(IMAGES) for row in episode.observations[:-1])
    ]


def test_jpeg_files_of_one_length_are_read(root: Path):
    episodes = buffers(IMAGES, lengths=(2, 2))
    for episode in episodes:
        episode.observations[:] = episode.observations[:1]
    dataset = create("test-v0", episodes, IMAGES)
    with h5py.File(root / "test-v0" / "data" / "main_data.hdf5") as file:
        assert file["episode_0/observations"].dtype == np.uint8
    assert_equal_episodes(Demonstrations.load("minari:test-v0"), dataset)


@pytest.mark.parametrize("name", ["test-v0", "test-v0/data", "test-v0/data/main_data.hdf5"])
def test_a_dataset_is_found_by_each_of_its_paths(name: str, root: Path):
    create("test-v0", buffers(NESTED), NESTED, algorithm_name="by hand")
    demonstrations = Demonstrations.load(root / name)
    assert len(demonstrations) == 8
    assert demonstrations.metadata["algorithm_name"] == "by hand"
    assert demonstrations.source == str(root / name)


def test_a_bare_id_is_looked_up(root: Path):
    create("toy/door/human-v2", buffers(OBSERVATIONS), OBSERVATIONS)
    assert len(Demonstrations.load("toy/door/human-v2")) == 8
    assert Demonstrations.load("minari:toy/door/human-v2").source == "minari:toy/door/human-v2"


def test_the_default_root_is_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("MINARI_DATASETS_PATH", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    create("test-v0", buffers(OBSERVATIONS), OBSERVATIONS)
    assert (tmp_path / ".minari" / "datasets" / "test-v0").is_dir()
    assert len(Demonstrations.load("minari:test-v0")) == 8


def test_the_metadata_are_kept(root: Path):
    about = {"algorithm_name": "by hand", "author": "A. Name", "description": "Three episodes", "code_permalink": "none"}
    create("test-v0", buffers(OBSERVATIONS), OBSERVATIONS, env="Pendulum-v1", **about)
    metadata = Demonstrations.load("minari:test-v0").metadata
    assert dict(metadata) == {
        **about,
        "author": ["A. Name"],
        "producer": "imported from Minari",
        "dataset_id": "test-v0",
        "env_id": "Pendulum-v1",
        "env_kwargs": {},
        "observation_space": space_to_json(OBSERVATIONS),
        "action_space": space_to_json(ACTIONS),
    }


def test_observation_keys_are_read_alone(root: Path):
    create("test-v0", buffers(NESTED), NESTED)
    with h5py.File(root / "test-v0" / "data" / "main_data.hdf5", "a") as file:
        # Would be refused
        del file["episode_2/observations/camera"]
    one = Demonstrations.load("minari:test-v0", observation_keys="arm/joints")
    assert box(one.observations).shape == (8, 3)
    several = Demonstrations.load("minari:test-v0", observation_keys={"q": "arm/joints", "mode": "arm/mode"})
    assert set(several.observations) == {"q", "mode"}
    flat = Demonstrations.load("minari:test-v0", observation_keys=["arm/joints", "arm/mode"], flatten_observations=True)
    assert box(flat.observations).shape == (8, 4)


@pytest.mark.parametrize("space", [spaces.Discrete(5), spaces.MultiDiscrete([2, 3, 4])])
def test_discrete_actions_are_read(space: spaces.Space, root: Path):
    dataset = create("test-v0", buffers(OBSERVATIONS, space), OBSERVATIONS, action_space=space)
    demonstrations = Demonstrations.load("minari:test-v0")
    assert_equal_episodes(demonstrations, dataset)
    assert demonstrations.actions.shape == (8, *(space.shape or ()))


@pytest.mark.parametrize("storage", ["hdf5", "arrow"])
@pytest.mark.parametrize("name", ["success", "is_success"])
@pytest.mark.parametrize("extra", [0, 1])
def test_success_is_the_last_word_of_an_episode(name: str, storage: str, extra: int, root: Path):
    episodes = []
    for number, episode in enumerate(buffers(OBSERVATIONS)):
        words = [number != 1] * (len(episode.rewards) - 1 + extra) + [number == 1]
        episodes.append(type(episode)(**{**vars(episode), "infos": {name: words}}))
    create("test-v0", episodes, OBSERVATIONS, **({"data_format": storage} if extra else {}))
    successes = Demonstrations.load("minari:test-v0").successes
    assert successes is not None
    assert successes.tolist() == [False, True, False]


def test_facts_that_one_episode_lacks_are_unknown(tmp_path: Path):
    arrays = minari_arrays(episode_1__infos__success=np.ones(4, dtype=bool))
    path = write_arrays(tmp_path / "a.hdf5", arrays, lambda file: file["episode_0"].attrs.update({"seed": 5}))
    assert not Demonstrations.load(path).episode_info


def test_a_dataset_in_memory_is_read(root: Path):
    dataset = create("test-v0", buffers(OBSERVATIONS), OBSERVATIONS)
    assert_equal_episodes(Demonstrations.load(dataset), dataset)
    part = minari.split_dataset(dataset, [2, 1], seed=3)[0]
    assert_equal_episodes(Demonstrations.load(part), part)
    chosen = dataset.filter_episodes(lambda episode: len(episode) == 3)
    assert Demonstrations.load(chosen, observation_keys=None).episode_info["seed"].tolist() == [102]


@pytest.mark.parametrize("storage", ["arrow", "parquet"])
def test_episodes_of_other_storages_are_chosen(storage: str, root: Path):
    dataset = create("test-v0", buffers(OBSERVATIONS), OBSERVATIONS, data_format=storage)
    part = minari.split_dataset(dataset, [2, 1], seed=3)[0]
    assert_equal_episodes(Demonstrations.load(part), part)


@pytest.mark.parametrize("space", [OBSERVATIONS, SMALL_IMAGES, NESTED], ids=["box", "small images", "nested"])
def test_h5py_reads_what_the_library_reads(space: spaces.Space, root: Path):
    dataset = create("test-v0", buffers(space), space, jpeg_encoding=False)
    # A file alone describes no spaces, which the library needs
    alone = shutil.copy(root / "test-v0" / "data" / "main_data.hdf5", root / "alone.hdf5")
    assert_equal_episodes(Demonstrations.load(alone), dataset)
    assert_same(Demonstrations.load(alone).episode_info, Demonstrations.load("minari:test-v0").episode_info)


def test_hdf5_is_read_and_written_without_the_library_and_the_others_name_it(root: Path):
    create("box-v0", buffers(OBSERVATIONS), OBSERVATIONS)
    for storage in ("hdf5", "arrow"):
        create(f"{storage}-v0", buffers(IMAGES), IMAGES, data_format=storage)
    code = """
import sys
sys.modules["minari"] = None
from sb3_pgfd import Demonstrations
Demonstrations.load("minari:box-v0").save("minari:toy/copy-v0")
for name in ("arrow-v0", "hdf5-v0"):
    try:
        Demonstrations.load(f"minari:{name}")
    except (ImportError, ValueError) as error:
        print(error)
"""
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    arrow, images = outcome.stdout.splitlines()
    assert arrow == f"reading Minari's arrow storage needs minari: {install('minari')}"
    assert f"encoded images are read through minari ({install('minari')})" in images
    assert list(minari.list_local_datasets(prefix="toy")) == ["toy/copy-v0"]
    copy, original = minari.load_dataset("toy/copy-v0"), minari.load_dataset("box-v0")
    assert (copy.total_episodes, copy.total_steps) == (3, 8)
    assert copy.observation_space == original.observation_space
    assert_equal_episodes(Demonstrations.load("minari:toy/copy-v0"), original)
