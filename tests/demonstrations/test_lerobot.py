"""LeRobot datasets: tables as pyarrow writes them, one episode in each or many."""

import json
import re
import shutil
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lerobot_dataset import IMAGES, INFO, VERSION_2, VERSION_3, one_table, steps, write_dataset, write_table
from toy_dataset import box

from sb3_pgfd import Demonstrations
from sb3_pgfd.utils.files import install


@pytest.mark.parametrize("tables", [VERSION_2, VERSION_3], ids=["version 2", "version 3"])
def test_a_dataset_of_either_version_is_read(tables: Any, tmp_path: Path):
    demonstrations = Demonstrations.load(write_dataset(tmp_path / "demo", tables))
    assert box(demonstrations.observations)[:, 0].tolist() == [0, 1, 2, 100, 101]
    # Nothing was observed after a terminal step: its own observation stands there
    assert box(demonstrations.next_observations)[:, 0].tolist() == [1, 2, 2, 101, 101]
    assert demonstrations.actions.tolist() == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1]]
    assert demonstrations.actions.dtype == np.float32
    assert demonstrations.rewards.tolist() == [0, 0, 1, 0, 1]
    assert demonstrations.terminated.tolist() == [False, False, True, False, True]
    assert not demonstrations.truncated.any()
    assert demonstrations.episode_lengths.tolist() == [3, 2]
    assert demonstrations.successes is None
    assert dict(demonstrations.metadata) == {
        "producer": "imported from a LeRobot dataset",
        "robot_type": "so100",
        "fps": 30,
        "codebase_version": "v3.0",
    }


@pytest.mark.parametrize("info", [None, {"fps": 10}])
def test_a_folder_is_told_by_its_tables_too(info: Any, tmp_path: Path):
    assert Demonstrations.load(write_dataset(tmp_path / "demo", VERSION_3, info)).n_episodes == 2


def test_one_table_alone_is_read(tmp_path: Path):
    assert Demonstrations.load(one_table(tmp_path)).episode_lengths.tolist() == [3, 2]


def test_a_table_is_told_by_its_content(tmp_path: Path):
    assert Demonstrations.load(one_table(tmp_path).rename(tmp_path / "a.npz")).n_episodes == 2


def naive(columns: dict[str, Any]) -> list[list[list[float]]]:
    """State, action and next state of the steps of each episode, one by one."""
    plain = {name: column.to_pylist() for name, column in columns.items()}
    episodes: dict[int, dict[int, tuple[Any, Any]]] = {}
    for k, number in enumerate(plain["episode_index"]):
        frames = episodes.setdefault(number, {})
        frames[plain["frame_index"][k]] = plain["observation.state"][k], plain["action"][k]
    result = []
    for _, frames in sorted(episodes.items()):
        followers = [*range(1, len(frames)), len(frames) - 1]
        result.append([[*frames[k][0], *frames[k][1], *frames[f][0]] for k, f in enumerate(followers)])
    return result


@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(lengths=st.lists(st.integers(1, 4), min_size=1, max_size=4), seed=st.integers(0, 99), n_files=st.integers(1, 3))
def test_rows_may_lie_in_any_order_and_file(lengths: list[int], seed: int, n_files: int, tmp_path_factory: Any):
    rng = np.random.default_rng(seed)
    folder = tmp_path_factory.mktemp("demo")
    columns = steps(lengths, first_episode=3)
    order = rng.permutation(sum(lengths))
    for number, rows in enumerate(np.array_split(order, n_files)):
        part = {name: column.take(pa.array(rows, pa.int64())) for name, column in columns.items()}
        write_table(folder / "data" / "chunk-000" / f"file-{number:03d}.parquet", part, row_group_size=2)
    demonstrations = Demonstrations.load(folder)
    found = np.hstack([box(demonstrations.observations), demonstrations.actions, box(demonstrations.next_observations)])
    expected = naive(columns)
    assert found.tolist() == [row for episode in expected for row in episode]
    assert demonstrations.episode_lengths.tolist() == [len(episode) for episode in expected]
    shutil.rmtree(folder)


def nested(rows: int, *shape: int) -> list[Any]:
    return np.arange(rows * np.prod(shape)).reshape(rows, *shape).tolist()


@pytest.mark.parametrize(
    ("column", "shape"),
    [
        (pa.array(range(5), pa.float64()), (1,)),
        (pa.array(range(5), pa.int8()), (1,)),
        (pa.array([True] * 5), (1,)),
        (pa.array(nested(5, 3), pa.list_(pa.float32())), (3,)),
        (pa.array(nested(5, 3), pa.list_(pa.float32(), 3)), (3,)),
        (pa.array(nested(5, 1), pa.list_(pa.float32(), 1)), (1,)),
        (pa.array(nested(5, 3), pa.large_list(pa.int32())), (3,)),
        (pa.array(nested(5, 2, 3), pa.list_(pa.list_(pa.float32()))), (2, 3)),
        (pa.array(nested(5, 2, 2, 3), pa.list_(pa.list_(pa.list_(pa.uint8(), 3), 2), 2)), (2, 2, 3)),
        (pa.array(nested(5, 3), pa.list_(pa.float16())), (3,)),
    ],
    ids=range(10),
)
def test_columns_keep_their_shape_and_dtype(column: Any, shape: tuple[int, ...], tmp_path: Path):
    path = one_table(tmp_path, **{"observation.state": column})
    observations = box(Demonstrations.load(path).observations)
    assert observations.shape == (5, *shape)
    np.testing.assert_array_equal(observations, np.array(column.to_pylist()).reshape(5, *shape))
    value_type = column.type
    while hasattr(value_type, "value_type"):
        value_type = value_type.value_type
    assert observations.dtype == value_type.to_pandas_dtype()


class Array2D(pa.ExtensionType):
    """Matrices as the library ``datasets`` writes them."""

    def __init__(self) -> None:
        super().__init__(pa.list_(pa.list_(pa.float32())), "datasets.features.features.Array2DExtensionType")

    def __arrow_ext_serialize__(self) -> bytes:
        return b"[[2, 3], float32]"

    @classmethod
    def __arrow_ext_deserialize__(cls, storage_type: Any, serialized: bytes) -> "Array2D":
        return cls()


@pytest.mark.parametrize("registered", [False, True])
def test_extension_types_are_read_as_what_they_store(registered: bool, tmp_path: Path):
    storage = pa.array(nested(5, 2, 3), pa.list_(pa.list_(pa.float32())))
    path = one_table(tmp_path, **{"observation.state": pa.ExtensionArray.from_storage(Array2D(), storage)})
    if registered:
        pa.register_extension_type(Array2D())
    try:
        assert box(Demonstrations.load(path).observations).tolist() == nested(5, 2, 3)
    finally:
        if registered:
            pa.unregister_extension_type(Array2D().extension_name)


def test_several_observations_become_a_dict_and_images_are_left_out(tmp_path: Path):
    path = one_table(tmp_path, **{"observation.force": pa.array(range(5), pa.float64()), "observation.image": IMAGES})
    demonstrations = Demonstrations.load(path)
    assert list(demonstrations.observations) == ["observation.force", "observation.state"]
    assert demonstrations.observations["observation.force"].tolist() == [[0], [1], [2], [3], [4]]
    assert demonstrations.next_observations["observation.force"].tolist() == [[1], [2], [2], [4], [4]]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("observation.force", [[0], [1], [2], [3], [4]]),
        (["observation.force"], {"observation.force": [[0], [1], [2], [3], [4]]}),
        ({"time": "frame_index"}, {"time": [[0], [1], [2], [0], [1]]}),
    ],
)
def test_observation_keys_choose_columns(keys: Any, expected: Any, tmp_path: Path):
    path = one_table(tmp_path, **{"observation.force": pa.array(range(5), pa.float64())})
    observations = Demonstrations.load(path, observation_keys=keys).observations
    if isinstance(observations, Mapping):
        assert {key: array.tolist() for key, array in observations.items()} == expected
    else:
        assert box(observations).tolist() == expected


def test_discrete_actions_are_whole_numbers(tmp_path: Path):
    demonstrations = Demonstrations.load(one_table(tmp_path, action=pa.array(range(5), pa.int64())))
    assert demonstrations.actions.tolist() == [0, 1, 2, 3, 4]
    assert demonstrations.actions.dtype == np.int64


def test_continuous_actions_of_one_component_keep_their_axis(tmp_path: Path):
    assert Demonstrations.load(one_table(tmp_path, action=pa.array(range(5), pa.float32()))).actions.shape == (5, 1)


NO_FLAGS = {"next.done": None, "next.reward": pa.array([1.0] * 5)}
SUCCESS = {"next.success": pa.array([False, True, False, False, True])}


@pytest.mark.parametrize(
    ("changes", "options", "terminal"),
    [
        ({}, {}, [True, True]),
        ({}, {"done_means": "truncated"}, [False, False]),
        ({}, {"done_means": "terminated"}, [True, True]),
        # The last row of an episode decides
        ({"next.done": pa.array([True, True, False, True, True])}, {}, [False, True]),
        ({"next.done": pa.array([True, True, False, True, True])}, {"done_means": "terminated"}, [False, True]),
        (SUCCESS, {}, [False, True]),
        (SUCCESS, {"done_means": "terminated"}, [True, True]),
        (SUCCESS, {"done_means": "truncated"}, [False, False]),
        (NO_FLAGS, {}, [False, False]),
        (NO_FLAGS, {"done_means": "terminated"}, [True, True]),
        ({**NO_FLAGS, **SUCCESS}, {}, [False, False]),
        ({**NO_FLAGS, "next.reward": None}, {"final_reward": 1.0}, [True, True]),
        ({**NO_FLAGS, "next.reward": None}, {"final_reward": 1.0, "done_means": "truncated"}, [False, False]),
        ({**NO_FLAGS, "next.reward": None}, {"final_reward": 0}, [False, False]),
        ({**NO_FLAGS, **SUCCESS, "next.reward": None}, {"final_reward": 1.0}, [False, True]),
        ({"next.reward": None, "next.done": pa.array([False] * 5)}, {"final_reward": 1.0}, [False, False]),
    ],
)
@pytest.mark.filterwarnings("ignore:The only rewards")
def test_episodes_end_as_their_last_row_and_the_caller_say(changes: Any, options: Any, terminal: list[bool], tmp_path: Path):
    demonstrations = Demonstrations.load(one_table(tmp_path, **changes), **options)
    last = np.cumsum(demonstrations.episode_lengths) - 1
    assert demonstrations.terminated[last].tolist() == terminal
    assert demonstrations.truncated[last].tolist() == [not flag for flag in terminal]
    # The last step of an episode that is not terminal has no next observation and is gone
    assert demonstrations.episode_lengths.tolist() == [3 - (not terminal[0]), 2 - (not terminal[1])]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"next.done": None}, [0, 0, 0.5, 0, 0.5]),
        ({}, [0, 0, 0.5, 0, 0.5]),
        # The last step is dropped, the one before it stands at the end
        ({"next.done": pa.array([False] * 5)}, [0, 0.5, 0.5]),
        ({"next.done": None, **SUCCESS}, [0, 0, 0, 0.5]),
    ],
)
def test_a_final_reward_stands_at_the_end_of_each_success(changes: Any, expected: list[float], tmp_path: Path):
    demonstrations = Demonstrations.load(one_table(tmp_path, **{"next.reward": None, **changes}), final_reward=0.5)
    assert demonstrations.rewards.tolist() == expected


def test_successes_are_those_of_the_last_rows(tmp_path: Path):
    demonstrations = Demonstrations.load(one_table(tmp_path, **SUCCESS))
    assert demonstrations.successes is not None
    assert demonstrations.successes.tolist() == [False, True]
    assert Demonstrations.load(one_table(tmp_path, **SUCCESS), successful_only=True).episode_lengths.tolist() == [2]


def test_an_episode_of_one_step_that_is_not_terminal_vanishes(tmp_path: Path):
    changes = {"next.done": None, "next.success": pa.array([False, True, True, False])}
    path = write_table(tmp_path / "a.parquet", steps([1, 2, 1], **{**changes, "next.reward": pa.array([0.0, 5.0, 0.0, 0.0])}))
    demonstrations = Demonstrations.load(path)
    assert demonstrations.episode_lengths.tolist() == [1]
    assert demonstrations.successes is not None
    assert demonstrations.successes.tolist() == [True]
    assert demonstrations.rewards.tolist() == [5]


def test_it_warns_if_all_rewards_are_dropped(tmp_path: Path):
    path = one_table(tmp_path)
    with pytest.warns(UserWarning, match="The only rewards that are not 0 belong to last steps.*done_means='terminated'"):
        assert not Demonstrations.load(path, done_means="truncated").rewards.any()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Demonstrations.load(path)
        Demonstrations.load(one_table(tmp_path, **{"next.reward": pa.array([0.0] * 5)}), done_means="truncated")
        Demonstrations.load(one_table(tmp_path, **{"next.reward": pa.array([0.0, 1, 1, 0, 1])}), done_means="truncated")


def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = one_table(tmp_path)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=re.escape(f"needs pyarrow: {install('lerobot')}")):
        Demonstrations.load(path)


def test_the_record_is_that_of_the_dataset(tmp_path: Path):
    info = json.loads(json.dumps(INFO)) | {"robot_type": None, "fps": 12.5}
    metadata = Demonstrations.load(write_dataset(tmp_path / "demo", VERSION_3, info)).metadata
    assert metadata["robot_type"] is None
    assert metadata["fps"] == 12.5
