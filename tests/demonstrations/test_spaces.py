import json
import math
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from minari.serialization import deserialize_space, serialize_space

from sb3_pgfd import DemonstrationsError
from sb3_pgfd.demonstrations.spaces import space_from_json, space_to_json

SPACES: dict[str, spaces.Space] = {
    "vector": spaces.Box(np.array([-1, -np.inf], dtype=np.float32), np.array([0.1, np.inf], dtype=np.float32)),
    "number": spaces.Box(-2.0, 2.0, (), np.float64),
    "image": spaces.Box(0, 255, (2, 2, 3), np.uint8),
    "choice": spaces.Discrete(3, start=-1),
    "choices": spaces.MultiDiscrete([3, 2]),
    "table of choices": spaces.MultiDiscrete(np.array([[3, 2], [1, 4]]), start=np.array([[0, 1], [2, 3]])),
    "switches": spaces.MultiBinary(4),
    "table of switches": spaces.MultiBinary([2, 3]),
    "robot": spaces.Dict(
        {"joints": spaces.Box(-1, 1, (3,)), "camera": spaces.Dict({"left": spaces.Box(0, 255, (1, 1, 3), np.uint8)})}
    ),
}


def through_a_file(record: Any) -> Any:
    return json.loads(json.dumps(record))


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES.keys())
def test_a_space_comes_back_from_json(space: spaces.Space):
    restored = space_from_json(through_a_file(space_to_json(space)))
    assert restored == space
    assert (restored.shape, restored.dtype) == (space.shape, space.dtype)


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES.keys())
def test_minari_writes_the_same(space: spaces.Space):
    assert space_to_json(space) == json.loads(serialize_space(space))


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES.keys())
def test_minari_reads_what_is_written(space: spaces.Space):
    assert deserialize_space(json.dumps(space_to_json(space))) == space


def test_infinite_bounds_are_written_as_minari_does():
    assert json.dumps(space_to_json(SPACES["vector"])["low"]) == "[-1.0, -Infinity]"


@given(st.data(), st.sampled_from([np.float32, np.float64, np.int16, np.uint8]))
def test_any_bounds_are_exact(data: st.DataObject, dtype: Any):
    shape = data.draw(array_shapes(min_dims=1, max_dims=2, max_side=3))
    options = {"allow_nan": False} if np.issubdtype(dtype, np.floating) else {}
    low, high = (data.draw(arrays(dtype, shape, elements=options)) for _ in range(2))
    low, high = np.minimum(low, high), np.maximum(low, high)
    restored = space_from_json(through_a_file(space_to_json(spaces.Box(low, high, shape, dtype))))
    assert isinstance(restored, spaces.Box)
    np.testing.assert_array_equal(restored.low, low)
    np.testing.assert_array_equal(restored.high, high)


@pytest.mark.parametrize("space", [spaces.Text(5), spaces.Tuple([spaces.Discrete(2)]), spaces.Dict({"a": spaces.Text(5)})])
def test_a_space_of_another_kind_is_refused(space: spaces.Space):
    with pytest.raises(DemonstrationsError, match=r"found the space T.*, expected one of Box, Dict, Discrete"):
        space_to_json(space)


BOX = {"type": "Box", "dtype": "float32", "shape": [1], "low": [-1.0], "high": [1.0]}


@pytest.mark.parametrize(
    "record",
    [
        None,
        [],
        "Box",
        {},
        {"type": "Tuple", "subspaces": []},
        {"type": ["Box"]},
        {**BOX, "dtype": "object"},
        {**BOX, "dtype": "datetime64"},
        {**BOX, "dtype": None},
        {**BOX, "low": [2.0]},
        {**BOX, "low": [math.nan]},
        {**BOX, "low": [-1.0, -1.0]},
        {**BOX, "high": "one"},
        {**BOX, "shape": [10**9]},
        {**BOX, "shape": 1},
        {key: value for key, value in BOX.items() if key != "low"},
        {**BOX, "dtype": "uint8", "low": [-300]},
        {"type": "Discrete", "n": 0, "start": 0},
        {"type": "Discrete", "n": 2.5, "start": 0},
        {"type": "Discrete", "n": 2},
        {"type": "Discrete", "n": 2, "start": 0, "dtype": "float32"},
        {"type": "Discrete", "n": 10**30, "start": 0, "dtype": "int8"},
        {"type": "MultiDiscrete", "dtype": "int64", "nvec": [0]},
        {"type": "MultiDiscrete", "dtype": "int64", "nvec": [2, 2], "start": [0]},
        {"type": "MultiBinary", "n": -1},
        {"type": "MultiBinary", "n": "4"},
        {"type": "Dict", "subspaces": [BOX]},
        {"type": "Dict", "subspaces": {"a": {}}},
    ],
)
def test_what_describes_no_space_is_refused(record: Any):
    with pytest.raises(DemonstrationsError, match="space: found"):
        space_from_json(record)


def test_what_is_nested_too_deeply_is_refused():
    record: dict[str, Any] = BOX
    for _ in range(5000):
        record = {"type": "Dict", "subspaces": {"a": record}}
    with pytest.raises(DemonstrationsError, match="space: found an object with"):
        space_from_json(record)


def test_the_order_of_keys_comes_back():
    space = spaces.Dict(OrderedDict(pos=spaces.Box(0, 1), goal=spaces.Box(0, 1)))
    assert list(space_from_json(space_to_json(space)).spaces) == ["pos", "goal"]  # type: ignore[attr-defined]  # a Dict


@pytest.mark.parametrize("in_full", [False, True])
def test_bounds_of_images_are_one_number_unless_asked(in_full: bool):
    space = spaces.Dict({"image": spaces.Box(0, 255, (8, 8, 3), np.uint8), "state": spaces.Box(-1, 1, (8, 8, 3))})
    record = space_to_json(space, in_full)
    assert np.shape(record["subspaces"]["image"]["high"]) == ((8, 8, 3) if in_full else ())
    assert space_from_json(record) == space


def test_a_small_record_cannot_ask_for_all_memory():
    record = {"type": "Box", "dtype": "float32", "low": -1, "high": 1, "shape": [10**6, 10**7]}
    with pytest.raises(DemonstrationsError, match="bounds of 10,000,000,000,000 numbers"):
        space_from_json(record)
