import copy
import pickle
from dataclasses import FrozenInstanceError, replace
from typing import Any

import cloudpickle  # type: ignore[import-untyped]
import numpy as np
import pytest
from gymnasium import spaces

from sb3_pgfd import Demonstrations, DemonstrationsError
from sb3_pgfd.demonstrations import Episode
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
    with pytest.raises(DemonstrationsError, match=r"found an action of 1.5, expected all in \[-1, 1\]"):
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


@pytest.mark.parametrize("field", ["observations", "actions", "rewards", "next_observations"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_no_finite_number_is_located(field: str, value: float):
    index = (3, -1) if FIELDS[field].ndim == 2 else 3
    component = FIELDS[field][0].size - 1
    expected = rf"^{field}: episode 1, step 1, component {component}: found {value}, expected a finite number \(1 such"
    with pytest.raises(DemonstrationsError, match=expected):
        make(**with_value(field, index, value))


def test_a_value_that_is_no_finite_number_is_located_in_dict_observations():
    bad = np.zeros((5, 2))
    bad[1, 0] = np.nan
    with pytest.raises(
        DemonstrationsError, match=r"^next_observations\['joints'\]: episode 0, step 1, component 0: found nan"
    ):
        make_dict(next_observations={"joints": bad, "camera": np.zeros((5, 2, 2, 3), dtype=np.uint8)})


@pytest.mark.filterwarnings("error")
def test_numbers_whose_sum_overflows_are_not_taken_for_infinity():
    observations = np.full((5, 2), np.finfo(np.float32).max)
    assert observations.dtype == np.float32
    assert_same(make(observations=observations).observations, observations)


@pytest.mark.parametrize("field", ARRAYS)
def test_python_objects_are_refused(field: str):
    expected = "bool" if field in ("terminated", "truncated") else "numbers"
    with pytest.raises(DemonstrationsError, match=f"^{field}: found dtype object, expected {expected}"):
        make(**{field: FIELDS[field].astype(object)})


@pytest.mark.parametrize("field", [name for name in ARRAYS if name != "episode_lengths"])
def test_a_field_of_another_length_is_named(field: str):
    with pytest.raises(DemonstrationsError, match=f"^{field}: found 4 rows, expected 5, the sum of the episode lengths"):
        make(**{field: FIELDS[field][:4]})


def test_rows_of_different_shapes_are_refused():
    with pytest.raises(DemonstrationsError, match=r"^actions: found rows of different shapes"):
        make(actions=[[1.0], [1.0, 2.0], [1.0], [1.0], [1.0]])


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ([2, 4], "observations: found 5 rows, expected 6, the sum of the episode lengths"),
        ([5, 0], r"episode_lengths: found \[5, 0\], expected whole numbers >= 1"),
        ([6, -1], r"episode_lengths: found \[6, -1\], expected whole numbers >= 1"),
        ([2.5, 2.5], "episode_lengths: found dtype float64, expected whole numbers"),
        # A sum of 64 bits comes out as 5
        ([2**62, 2**62, 2**62, 2**62 + 5], f"observations: found 5 rows, expected {2**64 + 5}"),
        ([], "found no episode"),
        (5, "found no episode"),
    ],
)
def test_episode_lengths_must_sum_to_the_transitions(lengths: Any, message: str):
    with pytest.raises(DemonstrationsError, match=message):
        make(episode_lengths=np.array(lengths))


def test_the_last_step_of_an_episode_must_end_it():
    with pytest.raises(DemonstrationsError, match="episode 1, step 2, the last of its episode: found neither"):
        make(truncated=np.zeros(5, dtype=bool))


@pytest.mark.parametrize("field", ["terminated", "truncated"])
def test_no_other_step_may_end_an_episode(field: str):
    with pytest.raises(DemonstrationsError, match="episode 1, step 1: found the end of an episode before its last step"):
        make(**with_value(field, 3, True))


def test_next_observations_must_be_shaped_as_observations():
    with pytest.raises(
        DemonstrationsError, match=r"^next_observations: found shape \(5, 3\), expected \(5, 2\) of observations"
    ):
        make(next_observations=np.zeros((5, 3)))


@pytest.mark.parametrize("field", ["rewards", "terminated", "truncated"])
def test_a_number_per_step_has_no_other_shape(field: str):
    with pytest.raises(DemonstrationsError, match=rf"^{field}: found shape \(5, 1\), expected \(5,\)"):
        make(**{field: FIELDS[field][:, None]})


@pytest.mark.parametrize(
    "changes",
    [
        {"next_observations": {"joints": np.zeros((5, 2))}},
        {"next_observations": np.zeros((5, 2))},
        {"observations": {"joints": np.zeros((5, 2))}},
        {"observations": {}, "next_observations": {}},
    ],
)
def test_both_observations_must_have_the_same_keys(changes: dict[str, Any]):
    with pytest.raises(DemonstrationsError, match=r"^next_observations: found .*, expected one for each of"):
        make_dict(**changes)


@pytest.mark.parametrize("metadata", [{(1, 2): 3}, 5])
def test_metadata_that_json_cannot_hold_is_refused(metadata: Any):
    with pytest.raises(DemonstrationsError, match=r"^metadata: found what JSON cannot hold"):
        make(metadata=metadata)


def dict_space(**changes: spaces.Space) -> spaces.Dict:
    known: dict[str, spaces.Space] = {"joints": OBSERVATION_SPACE, "camera": spaces.Box(0, 255, (2, 2, 3), np.uint8)}
    return spaces.Dict({**known, **changes})


@pytest.mark.parametrize(
    ("demonstrations", "observation_space", "action_space"),
    [
        (make(), OBSERVATION_SPACE, ACTION_SPACE),
        (make(observations=FIELDS["observations"].astype(np.float64)), OBSERVATION_SPACE, ACTION_SPACE),
        (make(actions=FIELDS["actions"].astype(np.float64) * 2), OBSERVATION_SPACE, ACTION_SPACE),
        (make_dict(), dict_space(), ACTION_SPACE),
        (make_discrete(), OBSERVATION_SPACE, spaces.Discrete(3)),
        (make_discrete(), OBSERVATION_SPACE, spaces.Discrete(4, start=-1)),
        # Rounding of a controller's own scaling: 1e-4 of the range of 4 is let through
        (make(**with_value("actions", 0, 2.0003)), OBSERVATION_SPACE, ACTION_SPACE),
        (make(**with_value("actions", 0, -2.0003)), OBSERVATION_SPACE, ACTION_SPACE),
    ],
)
def test_demonstrations_of_such_an_environment_fit(
    demonstrations: Demonstrations, observation_space: spaces.Space, action_space: spaces.Space
):
    fitted = demonstrations.fit_to_spaces(observation_space, action_space)
    assert_same(fitted.actions, demonstrations.actions)
    assert_same(fitted.observations, demonstrations.observations)


@pytest.mark.parametrize(
    ("demonstrations", "space", "message"),
    [
        (make(), spaces.Box(-1, 1, (3,)), r"observations: found shape \(2,\) per step, expected \(3,\) of Box"),
        (make(), dict_space(), "observations: found one array, expected Dict"),
        (make_dict(), OBSERVATION_SPACE, r"observations: found a dict with keys \['camera', 'joints'\], expected Box"),
        (make_dict(), dict_space(gripper=OBSERVATION_SPACE), r"expected \['camera', 'gripper', 'joints'\]"),
        (make_dict(), spaces.Dict({"joints": OBSERVATION_SPACE}), r"keys \['camera', 'joints'\], expected \['joints'\]"),
        (make_dict(), dict_space(joints=spaces.Box(0, 1, (3,))), r"observations\['joints'\]: found shape \(2,\)"),
        (make(), spaces.Box(0, 255, (2,), np.uint8), "observations: found dtype float32, expected uint8"),
    ],
)
def test_observations_of_another_environment_are_refused(demonstrations: Demonstrations, space: spaces.Space, message: str):
    with pytest.raises(DemonstrationsError, match=message):
        demonstrations.check_spaces(space, ACTION_SPACE)


def test_next_observations_are_checked_too():
    images = np.zeros((5, 2), dtype=np.uint8)
    with pytest.raises(DemonstrationsError, match=r"^next_observations: found dtype float64, expected uint8"):
        make(observations=images, next_observations=images.astype(float)).check_spaces(
            spaces.Box(0, 255, (2,), np.uint8), ACTION_SPACE
        )


@pytest.mark.parametrize(
    ("demonstrations", "space", "message"),
    [
        (
            make(**with_value("actions", 3, 3.5)),
            ACTION_SPACE,
            r"actions: episode 1, step 1, component 0: found 3.5, expected a value in \[-2.0, 2.0\] \(1 such",
        ),
        (
            make(actions=np.array([[0, 0], [0, -6], [0, 0], [0, 0], [0, 7.0]])),
            spaces.Box(np.array([-1, -5], np.float32), np.array([1, 5], np.float32)),
            r"episode 0, step 1, component 1: found -6.0, expected a value in \[-5.0, 5.0\] \(2 such",
        ),
        (make(**with_value("actions", 0, 2.001)), ACTION_SPACE, r"found 2.00\d+, expected a value in \[-2.0, 2.0\]"),
        (make(), spaces.Box(-2, 2, (3,)), r"actions: found shape \(1,\) per step, expected \(3,\) of Box"),
        (make_discrete(), ACTION_SPACE, r"actions: found shape \(\) per step, expected \(1,\) of Box"),
        (make(), spaces.Discrete(3), r"actions: found shape \(1,\) per step, expected \(\) of Discrete\(3\)"),
        (make(actions=np.zeros(5)), spaces.Discrete(3), r"actions: found dtype float64, expected int64 of Discrete\(3\)"),
        (make_discrete(), spaces.Discrete(2), r"actions: episode 1, step 0: found 2, expected a value in \[0, 1\]"),
        (make_discrete(), spaces.Discrete(2, start=1), r"actions: episode 0, step 0: found 0, expected a value in \[1, 2\]"),
    ],
)
def test_actions_of_another_environment_are_refused(demonstrations: Demonstrations, space: spaces.Space, message: str):
    with pytest.raises(DemonstrationsError, match=message):
        demonstrations.check_spaces(OBSERVATION_SPACE, space)


def test_a_refusal_says_where_they_were_recorded():
    demonstrations = make(metadata={"env_id": "Pendulum-v1"})
    with pytest.raises(DemonstrationsError, match=r"These demonstrations were recorded in Pendulum-v1\.$"):
        demonstrations.check_spaces(spaces.Box(-1, 1, (3,)), ACTION_SPACE)


def test_channel_last_images_follow_a_channel_first_space():
    images = np.arange(5 * 2 * 4 * 3, dtype=np.uint8).reshape(5, 2, 4, 3)
    space = spaces.Box(0, 255, (3, 2, 4), np.uint8)
    fitted = make(observations=images, next_observations=images).fit_to_spaces(space, ACTION_SPACE)
    assert box(fitted.observations).shape == (5, 3, 2, 4)
    for channel in range(3):
        assert_same(box(fitted.observations)[:, channel], images[..., channel])
        assert_same(box(fitted.next_observations)[:, channel], images[..., channel])


def test_channel_last_images_in_dict_observations_follow_too():
    original = make_dict()
    fitted = original.fit_to_spaces(dict_space(camera=spaces.Box(0, 255, (3, 2, 2), np.uint8)), ACTION_SPACE)
    assert_same(fitted.observations["camera"][:, 1], original.observations["camera"][..., 1])
    assert_same(fitted.observations["joints"], original.observations["joints"])


def test_images_of_another_size_are_refused():
    images = np.zeros((5, 2, 4, 3), dtype=np.uint8)
    with pytest.raises(DemonstrationsError, match=r"found shape \(2, 4, 3\) per step, expected \(3, 4, 4\)"):
        make(observations=images, next_observations=images).fit_to_spaces(
            spaces.Box(0, 255, (3, 4, 4), np.uint8), ACTION_SPACE
        )


def test_demonstrations_load_as_themselves():
    demonstrations = replace(make(), source="somewhere")
    assert Demonstrations.load(demonstrations) is demonstrations
