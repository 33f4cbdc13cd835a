"""What is refused, and in which words."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from toy_dataset import (
    ACTION_SPACE,
    ARRAYS,
    FIELDS,
    OBSERVATION_SPACE,
    assert_same,
    box,
    make,
    make_dict,
    make_discrete,
    with_value,
)

from sb3_pgfd import Demonstrations, DemonstrationsError


@pytest.mark.parametrize("field", ["observations", "actions", "rewards", "next_observations"])
@pytest.mark.parametrize("value", [np.nan, -np.inf])
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
