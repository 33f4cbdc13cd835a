"""A small dataset, and how to change it."""

import copy
from typing import Any

import numpy as np
from gymnasium import spaces

from sb3_pgfd import Demonstrations
from sb3_pgfd.demonstrations.validation import Observations

# Two episodes, the first of two steps and terminated, the second of three and truncated
FIELDS: dict[str, Any] = {
    "observations": np.arange(10, dtype=np.float32).reshape(5, 2),
    "actions": np.array([[-1.0], [-0.5], [0.0], [0.5], [1.0]], dtype=np.float32),
    "rewards": np.array([1, 2, 3, 4, 5], dtype=np.float32),
    "next_observations": np.arange(10, dtype=np.float32).reshape(5, 2) + 100,
    "terminated": np.array([0, 1, 0, 0, 0], dtype=bool),
    "truncated": np.array([0, 0, 0, 0, 1], dtype=bool),
    "episode_lengths": np.array([2, 3]),
}
ARRAYS = tuple(FIELDS)
OBSERVATION_SPACE = spaces.Box(-np.inf, np.inf, (2,), np.float32)
ACTION_SPACE = spaces.Box(-2, 2, (1,), np.float32)


def make(**changes: Any) -> Demonstrations:
    return Demonstrations(**{**copy.deepcopy(FIELDS), **changes})


def make_dict(**changes: Any) -> Demonstrations:
    observations = {"joints": np.arange(10.0).reshape(5, 2), "camera": np.arange(60, dtype=np.uint8).reshape(5, 2, 2, 3)}
    return make(**{"observations": observations, "next_observations": observations, **changes})


def make_discrete() -> Demonstrations:
    return make(actions=np.array([0, 1, 2, 1, 0]))


def with_value(field: str, index: Any, value: Any) -> dict[str, Any]:
    array = FIELDS[field].copy()
    array[index] = value
    return {field: array}


def box(observations: Observations) -> np.ndarray:
    assert isinstance(observations, np.ndarray)
    return observations


def assert_same(found: Any, expected: Any) -> None:
    if isinstance(expected, np.ndarray):
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == expected.dtype
        return
    assert set(found) == set(expected)
    for key in expected:
        assert_same(found[key], expected[key])
