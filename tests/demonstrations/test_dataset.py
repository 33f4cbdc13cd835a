"""What a dataset holds, and what it refuses to change."""

import copy
import pickle
from dataclasses import FrozenInstanceError
from typing import Any

import cloudpickle
import numpy as np
import pytest
from toy_dataset import (
    ARRAYS,
    FIELDS,
    assert_same,
    box,
    make,
    make_dict,
    make_discrete,
    with_value,
)

from sb3_pgfd import Demonstrations, DemonstrationsError
from sb3_pgfd.demonstrations import Episode


def test_it_counts_transitions_episodes_and_returns():
    demonstrations = make()
    assert len(demonstrations) == 5
    assert demonstrations.n_episodes == 2
    assert demonstrations.episode_starts.tolist() == [0, 2]
    assert demonstrations.episode_returns.tolist() == [3.0, 12.0]


def test_returns_are_summed_in_float64():
    # In float32 each of these ones is lost beside 2^24
    rewards = np.array([2.0**24, 1, 1, 1, 1], dtype=np.float32)
    assert make(rewards=rewards, **one_episode()).episode_returns.tolist() == [2.0**24 + 4]


def one_episode() -> dict[str, Any]:
    return {"terminated": np.eye(5, dtype=bool)[4], "truncated": np.zeros(5, dtype=bool), "episode_lengths": [5]}


def test_its_text_says_how_much_there_is_and_where_it_is_from():
    expected = "Demonstrations(2 episodes, 5 transitions, mean return 7.5, Toy-v0)"
    assert repr(make(metadata={"env_id": "Toy-v0"})) == expected


def test_dtypes_are_those_that_were_recorded():
    demonstrations = make(actions=FIELDS["actions"].astype(np.float64), rewards=[1, 2, 3, 4, 5], terminated=[0, 1, 0, 0, 0])
    assert demonstrations.actions.dtype == np.float64
    assert demonstrations.rewards.dtype == np.float32
    assert demonstrations.terminated.dtype == np.bool_
    assert demonstrations.episode_lengths.dtype == np.int64


@pytest.mark.parametrize("name", [*ARRAYS, "metadata", "source"])
def test_fields_cannot_be_replaced(name: str):
    with pytest.raises(FrozenInstanceError):
        setattr(make(), name, None)


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_cannot_be_written_to(name: str):
    with pytest.raises(ValueError, match="read-only"):
        getattr(make(), name)[0] = 0


def test_dict_observations_are_a_dict():
    observations = Demonstrations.load("FetchReach-v4").observations
    assert isinstance(observations, dict)
    assert type(copy.deepcopy(observations)) is dict
    for change in ("clear", "popitem"):
        with pytest.raises(TypeError, match="cannot be changed"):
            getattr(observations, change)()


def test_dict_observations_and_metadata_cannot_be_written_to():
    demonstrations: Any = make_dict(metadata={"seed": 1})
    with pytest.raises(TypeError):
        demonstrations.observations["joints"] = np.zeros((5, 2))
    with pytest.raises(TypeError):
        demonstrations.metadata["seed"] = 2
    with pytest.raises(ValueError, match="read-only"):
        demonstrations.observations["joints"][0] = 0


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("read_only_view", [False, True])
def test_later_changes_of_the_callers_array_change_nothing(name: str, read_only_view: bool):
    given = FIELDS[name].copy()
    passed = given.view()
    passed.flags.writeable = not read_only_view
    demonstrations = make(**{name: passed})
    given[...] = 77
    assert_same(getattr(demonstrations, name), FIELDS[name])


def test_the_callers_dicts_are_neither_kept_nor_changed():
    observations = {"b": np.ones((5, 1)), "a": np.zeros((5, 1))}
    metadata: dict[str, Any] = {"env_kwargs": {"size": 1}}
    demonstrations = make(observations=observations, next_observations=observations, metadata=metadata)
    assert list(observations) == ["b", "a"]
    assert observations["b"].flags.writeable
    observations["c"] = observations.pop("a")
    metadata["env_kwargs"]["size"] = 2
    assert set(demonstrations.observations) == {"a", "b"}
    assert demonstrations.metadata["env_kwargs"]["size"] == 1


@pytest.mark.parametrize("module", [pickle, cloudpickle])
@pytest.mark.parametrize("original", [make(metadata={"seed": 1}), make_dict(source="a.npz"), make_discrete()])
def test_pickling_keeps_everything(module: Any, original: Demonstrations):
    restored = module.loads(module.dumps(original))
    for name in ARRAYS:
        assert_same(getattr(restored, name), getattr(original, name))
    assert dict(restored.metadata) == dict(original.metadata)
    assert restored.source == original.source
    with pytest.raises(ValueError, match="read-only"):
        restored.actions[0] = 0


@pytest.mark.parametrize("episodes", [[1], np.array([1])])
def test_select_takes_episodes_by_number(episodes: Any):
    selected = make(metadata={"seed": 3}).select(episodes)
    assert selected.rewards.tolist() == [3, 4, 5]
    assert box(selected.observations)[:, 0].tolist() == [4, 6, 8]
    assert box(selected.next_observations)[:, 0].tolist() == [104, 106, 108]
    assert selected.truncated.tolist() == [False, False, True]
    assert selected.episode_lengths.tolist() == [3]
    assert selected.metadata["seed"] == 3


@pytest.mark.parametrize("number", [1, np.int64(1)])
def test_select_takes_the_first_episodes(number: int):
    assert make().select(number).rewards.tolist() == [1, 2]


def test_select_keeps_the_order_asked_for():
    selected = make_dict().select([1, 0])
    assert selected.rewards.tolist() == [3, 4, 5, 1, 2]
    assert selected.observations["joints"][:, 0].tolist() == [4, 6, 8, 0, 2]
    assert selected.episode_starts.tolist() == [0, 3]


def test_select_takes_a_mask():
    assert make().select(np.array([False, True])).rewards.tolist() == [3, 4, 5]
    assert make().select([True, False]).rewards.tolist() == [1, 2]


@pytest.mark.parametrize("episodes", [[True], [0.0, 1.9], ["0"]])
def test_select_refuses_what_is_no_number(episodes: Any):
    with pytest.raises(DemonstrationsError, match=r"episodes: found .*, expected whole numbers, or True or False"):
        make().select(episodes)


@pytest.mark.parametrize("episodes", [0, 3, -1, [], [2], [-1]])
def test_select_refuses_episodes_that_are_not_there(episodes: Any):
    with pytest.raises(DemonstrationsError, match=r"episodes: asked for .*, found 2"):
        make().select(episodes)


def test_rescale_actions_maps_to_the_bounds():
    assert make().rescale_actions(-2, 4).actions[:, 0].tolist() == [-2.0, -0.5, 1.0, 2.5, 4.0]


def test_rescale_actions_takes_bounds_per_component():
    actions = np.array([[-1, -1], [1, 1], [0, 0], [0.5, -0.5], [-0.5, 1]], dtype=np.float32)
    rescaled = make(actions=actions).rescale_actions([-2, 0], [2, 10]).actions
    assert rescaled.tolist() == [[-2, 0], [2, 10], [0, 5], [1, 2.5], [-1, 10]]
    assert rescaled.dtype == np.float32


def test_rescale_actions_leaves_the_original_alone():
    original = make()
    original.rescale_actions(-2, 2)
    assert_same(original.actions, FIELDS["actions"])


def test_rescale_actions_refuses_actions_that_are_in_environment_units():
    with pytest.raises(DemonstrationsError, match=r"found an action of -1.5, expected all in \[-1, 1\]"):
        make(**with_value("actions", 2, -1.5)).rescale_actions(-2, 2)


def test_rescale_actions_refuses_integers():
    with pytest.raises(DemonstrationsError, match="found actions of dtype int64, expected floats"):
        make_discrete().rescale_actions(-2, 2)


@pytest.mark.parametrize(
    ("low", "high", "message"),
    [
        # One component would be stretched to two by broadcasting
        ([-2, -2], [2, 2], r"found low of shape \(2,\), expected \(1,\)"),
        (-2, [2, 2, 2], r"found high of shape \(3,\), expected \(1,\)"),
        (2, -2, "expected low below high"),
        (np.nan, 2, "expected low below high"),
    ],
)
def test_rescale_actions_refuses_bounds_that_do_not_fit(low: Any, high: Any, message: str):
    with pytest.raises(DemonstrationsError, match=message):
        make().rescale_actions(low, high)


def episode(n_steps: int = 2, terminated: bool = True, **changes: Any) -> Episode:
    values: dict[str, Any] = {
        "observations": np.arange(n_steps + 1, dtype=np.float32)[:, None],
        "actions": np.zeros((n_steps, 1), dtype=np.float32),
        "rewards": np.ones(n_steps),
    }
    return Episode(terminated=terminated, **{**values, **changes})


def test_from_episodes_lays_them_one_after_another():
    demonstrations = Demonstrations.from_episodes([episode(2), episode(1, terminated=False)], {"seed": 4})
    assert box(demonstrations.observations)[:, 0].tolist() == [0, 1, 0]
    assert box(demonstrations.next_observations)[:, 0].tolist() == [1, 2, 1]
    assert demonstrations.terminated.tolist() == [False, True, False]
    assert demonstrations.truncated.tolist() == [False, False, True]
    assert demonstrations.episode_lengths.tolist() == [2, 1]
    assert demonstrations.metadata["seed"] == 4


def test_from_episodes_lays_out_dict_observations():
    observations = {"a": np.array([[1], [2]]), "b": np.array([3, 4])}
    demonstrations = Demonstrations.from_episodes([episode(1, observations=observations)] * 2)
    assert demonstrations.observations["a"].tolist() == [[1], [1]]
    assert demonstrations.next_observations["b"].tolist() == [4, 4]


@pytest.mark.parametrize(
    ("episodes", "message"),
    [
        ([], "episodes: found none, expected at least one"),
        ([episode(), episode(0)], "episode 1: found no transition"),
        ([episode(), episode(actions=np.zeros((3, 1)))], "actions: episode 1: found 3 rows, expected 2"),
        ([episode(observations=np.zeros((2, 1)))], "observations: episode 0: found 2 rows, expected 3"),
        ([episode(observations={"a": np.zeros(4)})], r"observations\['a'\]: episode 0: found 4 rows, expected 3"),
        ([episode(), episode(actions=np.zeros((2, 3)))], "episode 1: found shapes .*3.* expected .* as in episode 0"),
        ([episode(), episode(observations={"a": np.zeros(3)})], "episode 1: found shapes .*'a'.* expected .* as in episode 0"),
    ],
)
def test_from_episodes_says_which_episode_does_not_fit(episodes: list[Episode], message: str):
    with pytest.raises(DemonstrationsError, match=message):
        Demonstrations.from_episodes(episodes)
