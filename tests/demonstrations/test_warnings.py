import dataclasses
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_dataset import make_dict

from sb3_pgfd import Demonstrations
from sb3_pgfd.demonstrations import Episode
from sb3_pgfd.demonstrations.inspection.summary import summarize
from sb3_pgfd.demonstrations.inspection.warnings import two_groups

SPACE = spaces.Box(-2, 2, (2,), np.float32)


def episodes(lengths: Any = (40, 55, 48, 60), terminated: Any = True, returns: Any = None, **metadata: Any) -> Demonstrations:
    """Random walks with nothing to complain of."""
    rng = np.random.default_rng(0)
    ends = [terminated] * len(lengths) if isinstance(terminated, bool) else terminated
    made = []
    for number, length in enumerate(lengths):
        rewards = rng.normal(size=length) if returns is None else np.eye(1, length, length - 1)[0] * returns[number]
        made.append(
            Episode(
                observations=rng.normal(size=(length + 1, 3)),
                actions=rng.uniform(-2, 2, (length, 2)).astype(np.float32),
                rewards=rewards,
                terminated=ends[number],
            )
        )
    return Demonstrations.from_episodes(made, metadata)


def warnings(demonstrations: Demonstrations, space: spaces.Space | None = SPACE) -> list[str]:
    return summarize(demonstrations, space).warnings


def replaced(field: str, change: Callable[[np.ndarray], object]) -> Demonstrations:
    """Those of :func:`episodes` with one array changed in place."""
    demonstrations = episodes()
    array = getattr(demonstrations, field).copy()
    change(array)
    changes = {field: array, "next_observations": array} if field == "observations" else {field: array}
    return dataclasses.replace(demonstrations, **changes)


def set_to(index: Any, value: Any) -> Callable[[np.ndarray], None]:
    return lambda array: array.__setitem__(index, value)


def test_nothing_is_found_where_nothing_is_wrong():
    assert warnings(episodes()) == []
    assert warnings(episodes(), None) == []
    assert warnings(episodes([50] * 4, terminated=False)) == []


def with_a_dead_sensor() -> Demonstrations:
    names = ("observations", "next_observations")
    arrays: dict[str, Any] = {name: np.array(getattr(episodes(), name)) for name in names}
    for array in arrays.values():
        array[:, 2] = 7
    return dataclasses.replace(episodes(), **arrays)


WRONG = {
    "one episode": (episodes([50]), "There is only one episode"),
    "no rewards": (replaced("rewards", set_to(slice(None), 0)), "All rewards are 0"),
    "no success": (dataclasses.replace(episodes(), episode_info={"success": np.zeros(4)}), "No episode is a success"),
    "no success, by the metadata": (episodes(success_rate=0.0), "No episode is a success"),
    "normalised actions": (
        replaced("actions", lambda array: np.multiply(array, 0.5, out=array)),
        r"never leave \[-1, 1\], but .* from -2 to 2: .*--action-low",
    ),
    "an action outside": (
        replaced("actions", set_to((3, 1), 2.5)),
        r"do not fit the action space.* episode 0, step 3, component 1: found 2\.5",
    ),
    "a stuck action": (replaced("actions", set_to((slice(None), 1), 0.5)), r"Constant in all steps: actions\[1\]\. Nothing"),
    "a dead sensor": (with_a_dead_sensor(), r"Constant in all steps: observations\[2\]\. A"),
    "terminated at one length": (
        episodes([50] * 4),
        "4 of 4 terminated episodes end after exactly 50 steps, which looks like .*--done-means truncated",
    ),
    "many terminated at the longest": (
        episodes([50, 31, 50, 42, 50, 37]),
        "3 of 6 terminated episodes end after exactly 50 steps, which looks like .*set truncated",
    ),
    "terminated at the environment's limit": (
        episodes([150, 200], env_id="Pendulum-v1"),
        "1 of 2 terminated episodes end after exactly 200 steps, the time limit of the environment.*set truncated",
    ),
    "terminated at a limit that was changed": (
        episodes([15, 20], env_id="Pendulum-v1", env_kwargs={"max_episode_steps": 20}),
        "1 of 2 terminated episodes end after exactly 20 steps, the time limit",
    ),
    "truncated anywhere": (episodes([40, 50, 45], False), r"3 episodes are truncated at different lengths \(40 to 50 steps\)"),
    "a fragment at the end": (episodes([50, 50, 17], False), "The last episode stops after 17 steps.*--episodes 2"),
    "a fragment after whole ones": (
        episodes([50, 61, 17], [True, True, False]),
        "The last episode stops after 17 steps.*--episodes 2",
    ),
    "copies": (Demonstrations.merge([episodes(), episodes().select([2, 0])]), r"copies of others: 4 of 2, 5 of 0 \("),
    "two kinds of returns": (
        episodes([20] * 12, False, [-1, -1.1, -0.9] * 2 + [-9, -9.1, -8.9] * 2),
        r"two groups, 6 episodes around -9 and 6 around -1: .*--min-return -5\)",
    ),
}


@pytest.mark.parametrize(("demonstrations", "sentence"), WRONG.values(), ids=WRONG.keys())
def test_one_thing_that_is_wrong_is_the_only_one_found(demonstrations: Demonstrations, sentence: str):
    found = warnings(demonstrations)
    assert len(found) == 1
    assert re.search(sentence, found[0])
    assert found[0].endswith(".")


@pytest.mark.parametrize(
    "demonstrations",
    [
        episodes([50, 50, 50, 47], [False, False, False, True]),
        episodes([50, 61, 70], [True, True, False]),
        episodes([1] * 5),
        # Among short episodes some are of one length by chance
        episodes([9, 7, 9, 5, 9, 8], True),
        episodes([200] * 3, False, env_id="Pendulum-v1"),
        episodes([20] * 10, False, [-1, -1.1, -0.9, -2, -1.4, -1.2, -0.7, -1.3, -1.6, -1.5]),
    ],
)
def test_no_wrong_end_is_found_where_there_is_none(demonstrations: Demonstrations):
    assert warnings(demonstrations) == []


def test_what_is_larger_than_the_action_space_is_not_called_normalised():
    assert warnings(episodes(), spaces.Box(-np.inf, np.inf, (2,))) == []
    half = replaced("actions", lambda array: np.multiply(array, 0.5, out=array))
    assert warnings(half, spaces.Box(-1, 1, (2,))) == []
    one_sided = spaces.Box(np.array([-1, 0]), np.array([1, np.inf]), dtype=np.float64)
    assert "do not fit the action space" in warnings(half, one_sided)[0]


def test_every_constant_component_is_named_and_of_images_the_whole():
    fixed = np.zeros((5, 12))
    observations = {"camera": np.zeros((5, 4, 4, 3)), "joints": fixed}
    dictionary = make_dict(observations=observations, next_observations=observations)
    sentence = next(warning for warning in warnings(dictionary, None) if "sensor" in warning)
    assert "observations['camera'], observations['joints'][0], " in sentence
    assert "observations['joints'][6] and 5 more" in sentence
    moving = next((warning for warning in warnings(make_dict(), None) if "sensor" in warning), None)
    assert moving is None


def test_one_transition_has_nothing_constant():
    demonstrations = Demonstrations.from_episodes([Episode(np.zeros((2, 3)), np.zeros((1, 2)), np.ones(1), True)])
    assert len(warnings(demonstrations, None)) == 1


SAMPLES: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "normal": lambda rng, n: rng.normal(10.0, 5.0, n),
    "uniform": lambda rng, n: rng.uniform(-10.0, 10.0, n),
    "exponential": lambda rng, n: rng.exponential(size=n),
}


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES.keys())
@pytest.mark.parametrize("n", [5, 8, 15, 30, 100])
def test_one_group_is_rarely_taken_for_two(sample: Callable[[np.random.Generator, int], np.ndarray], n: int):
    rng = np.random.default_rng(n)
    alarms = sum(two_groups(sample(rng, n)) is not None for _ in range(1000))
    assert alarms <= 25


@pytest.mark.parametrize(("n", "distance", "least"), [(10, 20, 95), (20, 10, 95), (50, 6, 90), (100, 6, 95)])
def test_two_groups_are_found(n: int, distance: float, least: int):
    rng = np.random.default_rng(n)
    found = 0
    for _ in range(100):
        upper = np.arange(n) < int(n * rng.uniform(0.25, 0.75))
        groups = two_groups(rng.normal(size=n) + distance * upper)
        found += groups is not None
    assert found >= least


def test_successes_and_failures_of_a_sparse_reward_are_two_groups():
    groups = two_groups(np.array([0.0, 1.0, 1.0, 0.0, 1.0]))
    assert groups is not None
    assert [group.tolist() for group in groups] == [[0, 0], [1, 1, 1]]


@pytest.mark.parametrize("values", [[0.0], [0.0, 1.0, 1.0], [5.0] * 10, [0.0] + [1.0] * 9, [100.0] * 5 + [110.0] * 5])
def test_too_few_equal_and_hardly_different_returns_are_one_group(values: list[float]):
    assert two_groups(np.array(values)) is None


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=30))
@settings(max_examples=100, deadline=None)
def test_groups_are_all_values_in_order(values: list[float]):
    groups = two_groups(np.array(values))
    assert groups is None or np.concatenate(groups).tolist() == sorted(values)
