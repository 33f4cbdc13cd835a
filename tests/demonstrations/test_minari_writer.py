import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import minari
import numpy as np
import pytest
from gymnasium import spaces
from minari.cli import app
from minari.namespace import list_local_namespaces
from minari_files import assert_same_bits, bits, buffers, use_root
from toy_dataset import FIELDS, make, make_dict, make_discrete
from typer.testing import CliRunner

from sb3_pgfd import Demonstrations, DemonstrationsError
from sb3_pgfd.demonstrations import Episode
from sb3_pgfd.demonstrations.spaces import space_to_json

METADATA = {
    "env_id": "Toy-v0",
    "env_kwargs": {"size": 2},
    "seed": 5,
    "success_rate": None,
    "producer": "a test",
    "x": [1.5, "ä"],
}


def episodes(observations: Any = None, actions: Any = None, metadata: Any = METADATA) -> Demonstrations:
    """Episodes of 2 and 1 steps."""
    rows = np.arange(12, dtype=np.float32).reshape(6, 2) / 3 if observations is None else observations

    def rows_of(part: slice) -> Any:
        return {key: array[part] for key, array in rows.items()} if isinstance(rows, dict) else rows[part]

    actions = np.array([[0.5], [-0.0], [1e-30]], dtype=np.float32) if actions is None else actions
    made = [
        Episode(rows_of(slice(0, 3)), actions[:2], np.array([0.1, 1], np.float32), terminated=True, success=True, seed=7),
        Episode(rows_of(slice(3, 5)), actions[2:3], np.array([-2], np.float32), terminated=False, success=False, seed=2**62),
    ]
    return Demonstrations.from_episodes(made, metadata)


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return use_root(tmp_path / "datasets", monkeypatch)


def test_images_are_stored_without_loss(tmp_path: Path):
    images = np.random.default_rng(0).integers(0, 256, (6, 40, 48, 3)).astype(np.uint8)
    demonstrations = episodes({"camera": images, "arm/joints": np.arange(6.0)})
    path = demonstrations.save("minari:toy/images-v0")
    assert_same_bits(Demonstrations.load(path), demonstrations)
    dataset = minari.load_dataset("toy/images-v0")
    assert np.array_equal(dataset[0].observations["camera"], images[:3])
    assert dataset[1].observations["arm"]["joints"].tolist() == [3, 4]
    assert dataset.observation_space == spaces.Dict(
        {
            "arm": spaces.Dict({"joints": spaces.Box(-np.inf, np.inf, (), np.float64)}),
            "camera": spaces.Box(0, 255, (40, 48, 3), np.uint8),
        }
    )


def test_minari_lists_and_loads_it(root: Path):
    demonstrations = episodes(metadata={**METADATA, "author": "A. Name", "description": "Two episodes"})
    assert demonstrations.save("minari:toy/deep/test-v3") == root / "toy" / "deep" / "test-v3"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        listed = minari.list_local_datasets(latest_version=True, compatible_minari_version=True)
    assert list(listed) == ["toy/deep/test-v3"]
    assert list_local_namespaces() == ["toy", "toy/deep"]
    dataset = minari.load_dataset("toy/deep/test-v3")
    assert (dataset.total_episodes, dataset.total_steps) == (2, 3)
    first, second = dataset.iterate_episodes()
    assert bits(first.observations) == bits(demonstrations.episode(0).observations)
    assert bits(second.actions) == bits(demonstrations.episode(1).actions)
    assert first.infos["success"].tolist() == [False, False, True]
    assert second.infos["success"].tolist() == [False, False]
    assert first.terminations.tolist() == [False, True]
    assert first.truncations.tolist() == [False, False]
    assert second.truncations.tolist() == [True]
    assert [record["seed"] for record in dataset.storage.get_episode_metadata([0, 1])] == [7, 2**62]
    assert dataset.storage.metadata["author"] == {"A. Name"}
    assert dataset.storage.metadata["algorithm_name"] == "a test"
    assert dataset.env_spec is None


def test_minari_s_command_shows_it():
    episodes(metadata={"env_id": "Pendulum-v1"}).save("minari:toy/test-v0")
    listed = CliRunner().invoke(app, ["list", "local"])
    assert listed.exit_code == 0, listed.output
    assert "toy/test-v0" in listed.output
    shown = CliRunner().invoke(app, ["show", "toy/test-v0"])
    assert shown.exit_code == 0, shown.output
    assert "Pendulum-v1" in shown.output


def test_minari_adds_episodes_to_it():
    demonstrations = episodes()
    path = demonstrations.save("minari:test-v0")
    dataset = minari.load_dataset("test-v0")
    added = buffers(spaces.Box(-1, 1, (2,), np.float32), spaces.Box(-1, 1, (1,), np.float32), lengths=(4,))
    dataset.update_dataset_from_buffer(added)
    grown = Demonstrations.load(path)
    assert grown.episode_lengths.tolist() == [2, 1, 4]
    assert bits(grown.select([0, 1]).observations) == bits(demonstrations.observations)
    # Of success nothing is known in the new one
    assert set(grown.episode_info) == {"seed"}


def test_the_summary_is_of_the_episodes_that_minari_selected():
    episodes(metadata={"mean_return": -0.45, "success_rate": 0.5}).save("minari:test-v0")
    dataset = minari.load_dataset("test-v0")
    assert dict(Demonstrations.load(dataset).metadata) == pytest.approx({"mean_return": -0.45, "success_rate": 0.5})
    chosen = dataset.filter_episodes(lambda episode: len(episode) == 1)
    assert dict(Demonstrations.load(chosen).metadata) == {"mean_return": -2.0, "success_rate": 0.0}


def test_minari_makes_a_registered_environment():
    episodes(metadata={"env_id": "Pendulum-v1", "env_kwargs": {"g": 3.5}}).save("minari:test-v0")
    env: Any = minari.load_dataset("test-v0").recover_environment().unwrapped
    assert env.g == 3.5


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"env_id": "Unknown-v0"},
        {"env_id": "os:Pendulum-v1"},
        {"env_id": 5},
        {"env_id": "Pendulum-v1", "env_kwargs": [1]},
    ],
)
def test_other_environments_are_named_in_our_record_alone(metadata: dict[str, Any]):
    path = episodes(metadata=metadata).save("minari:test-v0")
    assert minari.load_dataset("test-v0").env_spec is None
    assert dict(Demonstrations.load(path).metadata) == metadata


def test_an_environment_that_json_cannot_hold_is_left_out(monkeypatch: pytest.MonkeyPatch):
    def make_env(**kwargs: Any) -> gym.Env:
        return gym.make("Pendulum-v1", **kwargs)

    specification = gym.envs.registration.EnvSpec("Toy-v0", entry_point=make_env)
    monkeypatch.setitem(gym.registry, "Toy-v0", specification)
    episodes().save("minari:test-v0")
    assert minari.load_dataset("test-v0").env_spec is None


BOOL: Any = np.bool_
UNBOUNDED = spaces.Box(-np.inf, np.inf, (2,), np.float32)


@pytest.mark.parametrize(
    ("actions", "space"),
    [
        (np.array([0, 4, 1]), spaces.Discrete(5)),
        (np.array([-2, 4, 1]), spaces.Discrete(7, start=-2)),
        (np.array([[0, 1], [2, 0], [1, 1]]), spaces.MultiDiscrete([3, 2])),
        (np.array([[0, -1], [2, 0], [1, 1]]), spaces.MultiDiscrete([3, 3], start=[0, -1])),
        (np.zeros((3, 1), np.float32), spaces.Box(-np.inf, np.inf, (1,), np.float32)),
        (np.zeros((3, 1), bool), spaces.Box(np.array([False]), np.array([True]), (1,), BOOL)),
        (np.array([0, 2**62, -(2**62)]), spaces.Box(-(2**63), 2**63 - 1, (), np.int64)),
        (np.zeros((3, 1, 1), np.int8), spaces.Box(-128, 127, (1, 1), np.int8)),
    ],
)
def test_spaces_are_told_from_the_arrays(actions: np.ndarray, space: spaces.Space):
    episodes(actions=actions).save("minari:test-v0")
    dataset = minari.load_dataset("test-v0")
    assert dataset.action_space == space
    assert dataset.observation_space == UNBOUNDED


RECORDED = {
    "observation_space": space_to_json(spaces.Box(-9, 9, (2,), np.float32)),
    "action_space": space_to_json(spaces.Box(-1, 1, (1,), np.float32)),
}


def test_recorded_spaces_are_kept():
    episodes(metadata=RECORDED).save("minari:test-v0")
    dataset = minari.load_dataset("test-v0")
    assert dataset.observation_space == spaces.Box(-9, 9, (2,), np.float32)
    assert dataset.action_space == spaces.Box(-1, 1, (1,), np.float32)


def test_recorded_spaces_that_no_longer_fit_are_not():
    changed = episodes(metadata=RECORDED).rescale_actions(-4, 4)
    rows = {"a/x": np.arange(6.0), "b": np.zeros((6, 1))}
    other = episodes(rows, metadata={**RECORDED, "action_space": "nonsense"})
    changed.save("minari:rescaled-v0")
    other.save("minari:other-v0")
    assert minari.load_dataset("rescaled-v0").action_space == spaces.Box(-np.inf, np.inf, (1,), np.float32)
    assert set(minari.load_dataset("other-v0").observation_space.spaces) == {"a", "b"}


def test_nested_spaces_fit_flat_keys():
    inner = spaces.Dict({"arm": spaces.Dict({"joints": spaces.Box(-3, 3, (2,), np.float32)})})
    rows = {"arm/joints": np.zeros((6, 2), np.float32)}
    episodes(rows, metadata={"observation_space": space_to_json(inner)}).save("minari:test-v0")
    assert minari.load_dataset("test-v0").observation_space == inner


def test_a_path_is_as_good_as_an_id(root: Path, tmp_path: Path):
    demonstrations = episodes()
    assert demonstrations.save(tmp_path / "away" / "test-v1", format="minari") == tmp_path / "away" / "test-v1"
    assert minari.MinariDataset(tmp_path / "away" / "test-v1" / "data").id == "test-v1"
    assert not (tmp_path / "away" / "namespace_metadata.json").exists()
    demonstrations.save(str(root / "toy" / "test-v1"), format="minari")
    assert minari.load_dataset("toy/test-v1").id == "toy/test-v1"


@pytest.mark.parametrize("name", ["test", "te st-v0", "test-v0.npz"])
def test_a_name_without_a_version_is_refused(name: str, tmp_path: Path):
    with pytest.raises(DemonstrationsError, match="expected letters, digits, '-' and '_' that end in a version: 'name-v0'"):
        episodes().save(tmp_path / name, format="minari")
    with pytest.raises(DemonstrationsError, match="found no id of a Minari dataset"):
        episodes().save(f"minari:toy/../{name}")
    assert list(tmp_path.rglob("*")) == []


def test_a_dataset_is_replaced_only_if_asked_to(root: Path):
    path = episodes().save("minari:toy/test-v0")
    other = episodes(np.ones((6, 3)))
    with pytest.raises(FileExistsError, match=r"found a folder, expected none: --force"):
        other.save("minari:toy/test-v0")
    assert_same_bits(Demonstrations.load(path), episodes())
    other.save("minari:toy/test-v0", overwrite=True)
    assert_same_bits(Demonstrations.load(path), other)
    assert sorted(item.name for item in path.parent.iterdir()) == ["namespace_metadata.json", "test-v0"]


@pytest.mark.parametrize("is_folder", [True, False])
def test_what_is_no_dataset_is_never_replaced(is_folder: bool, tmp_path: Path):
    target = tmp_path / "thesis-v7"
    content = target / "chapter.tex" if is_folder else target
    content.parent.mkdir(exist_ok=True)
    content.write_text("years of work")
    with pytest.raises(FileExistsError, match="found what is no Minari dataset, expected one to replace"):
        episodes().save(target, overwrite=True, format="minari")
    assert content.read_text() == "years of work"


@pytest.mark.parametrize(
    ("demonstrations", "message"),
    [
        (make(), "observations: episode 0, step 1: found another observation than step 0 ended with"),
        (make_dict(), "found another observation than step 0 ended with"),
        (make_discrete(), "found another observation than step 0 ended with"),
        *(
            (episodes({key: np.zeros((6, 1)) for key in keys}), message)
            for keys, message in [
                (["a", "a/b"], "found the keys 'a' and 'a/b', expected no key inside another"),
                (["a//b"], "found the key 'a//b', expected one that HDF5 and Minari can hold"),
                (["."], r"found the key '\.', expected one"),
                (["/a"], "found the key '/a', expected one"),
                (["a\0"], "expected one that HDF5 and Minari can hold"),
                (["a\ud800"], "expected one that HDF5 and Minari can hold"),
                (["_index_0"], "found the key '_index_0', expected one"),
            ]
        ),
    ],
)
def test_what_minari_cannot_hold_is_refused_before_anything_is_written(
    demonstrations: Demonstrations, message: str, tmp_path: Path
):
    with pytest.raises(DemonstrationsError, match=message):
        demonstrations.save("minari:toy/deep/test-v0")
    assert list(tmp_path.rglob("*")) == []


def test_a_minus_zero_is_another_number():
    fields = {
        **FIELDS,
        "observations": np.array([[0.0], [-0.0], [5], [5], [5]]),
        "next_observations": np.array([[0.0], [1], [5], [5], [5]]),
    }
    with pytest.raises(DemonstrationsError, match="episode 0, step 1: found another observation"):
        Demonstrations(**fields).save("minari:test-v0")


def test_another_format_is_refused(tmp_path: Path):
    with pytest.raises(DemonstrationsError, match="save: found format='csv', expected 'npz' or 'minari'"):
        episodes().save(tmp_path / "a-v0", format="csv")  # type: ignore[arg-type]  # what is tested
    assert list(tmp_path.iterdir()) == []
