from typing import Any

import gymnasium as gym
import numpy as np
import pygame
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from typing_person import button, down, stick, tap, up

from sb3_pgfd import DemonstrationsError
from sb3_pgfd.demonstrations.recording.controls import (
    DEFAULT_KEYS,
    Command,
    Controls,
    controllable_space,
    key_codes,
    past_dead_zone,
    stick_axes,
    to_action,
)

PROPERTY = settings(max_examples=100, deadline=None, derandomize=True, database=None)
BOUNDS = st.floats(-(2.0**100), 2.0**100, width=32)
SHARES = st.floats(-1, 1)


def box(low: Any, high: Any, dtype: Any = np.float32) -> spaces.Box:
    return spaces.Box(np.array(low, dtype), np.array(high, dtype), dtype=dtype)


def deflections(controls: Controls) -> np.ndarray:
    return controls.read()[0]


def action(controls: Controls) -> np.ndarray:
    return controls.read()[1]


def devices(controls: Controls) -> set[str]:
    return controls.read()[2]


@st.composite
def bounded_boxes(draw: st.DrawFn) -> spaces.Box:
    shape = draw(hnp.array_shapes(max_dims=2, max_side=4))
    dtype: Any = draw(st.sampled_from([np.float32, np.float64]))
    first, second = (draw(hnp.arrays(np.float32, shape, elements=BOUNDS)).astype(dtype) for _ in range(2))
    return spaces.Box(np.minimum(first, second), np.maximum(first, second), dtype=dtype)


@PROPERTY
@given(space=bounded_boxes(), scale=st.floats(0, 1, exclude_min=True), data=st.data())
def test_every_action_is_within_the_bounds(space: spaces.Box, scale: float, data: st.DataObject):
    shares = data.draw(hnp.arrays(np.float64, int(np.prod(space.shape)), elements=SHARES))
    result = to_action(shares, space, scale)
    assert result.dtype == space.dtype
    assert space.contains(result)


@PROPERTY
@given(space=bounded_boxes())
def test_nothing_held_is_zero_or_the_nearest_bound_and_a_full_deflection_is_the_bound(space: spaces.Box):
    ones = np.ones(int(np.prod(space.shape)))
    np.testing.assert_array_equal(to_action(0 * ones, space), np.clip(0, space.low, space.high))
    np.testing.assert_array_equal(to_action(ones, space), space.high)
    np.testing.assert_array_equal(to_action(-ones, space), space.low)


@PROPERTY
@given(bound=st.floats(0, 2.0**100, width=32), share=SHARES, scale=st.floats(0, 1, exclude_min=True))
def test_both_directions_are_alike_between_symmetric_bounds(bound: float, share: float, scale: float):
    space = box([-bound], [bound])
    assert to_action(np.array([share]), space, scale) == -to_action(np.array([-share]), space, scale)


@PROPERTY
@given(space=bounded_boxes(), first=SHARES, second=SHARES)
def test_a_larger_deflection_is_no_smaller_action(space: spaces.Box, first: float, second: float):
    ones = np.ones(int(np.prod(space.shape)))
    # But for the rounding of sums of such large numbers
    slack = 1e-12 * (np.abs(space.low) + np.abs(space.high))
    assert (to_action(max(first, second) * ones, space) >= to_action(min(first, second) * ones, space) - slack).all()


@PROPERTY
@given(value=st.floats(-1, 1))
def test_a_stick_moves_on_from_its_dead_zone_without_a_jump(value: float):
    moved = past_dead_zone(value)
    assert moved == -past_dead_zone(-value)
    assert abs(moved) == pytest.approx(max(0, (abs(value) - 0.1) / 0.9), abs=1e-12)
    assert moved * value >= 0


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([], [0, 0, 2]),
        (down("left"), [-4, 0, 2]),
        (down("right"), [1, 0, 2]),
        (down("left", "right"), [0, 0, 2]),
        (down("up", "d"), [0, 3, 4]),
        (down("down", "a"), [0, 0, 2]),
        # 0.3 of the way from 0, or from the bound that is nearest to it
        (down("left", "left shift"), [-1.2, 0, 2]),
        (down("right shift", "right", "up", "d"), [0.3, 0.9, 2.6]),
        # A key of no dimension
        (down("x"), [0, 0, 2]),
    ],
)
def test_held_keys_deflect_towards_the_bounds(events: list[Any], expected: list[float]):
    controls = Controls(box([-4, 0, 2], [1, 3, 4]))
    for event in events:
        assert controls.handle(event) is None
    np.testing.assert_allclose(action(controls), np.array(expected), rtol=1e-6)
    assert action(controls).dtype == np.float32


def test_a_key_is_held_until_it_is_released():
    controls = Controls(box([-1, -1], [1, 1]))
    actions = []
    for events in ([], down("left", "up"), [], down("left shift"), up("left"), up("left shift"), up("up")):
        for event in events:
            controls.handle(event)
        actions.append(action(controls).tolist())
    fine = float(np.float32(0.3))
    assert actions == [[0, 0], [-1, 1], [-1, 1], [-fine, fine], [0, fine], [0, 1], [0, 0]]


def test_the_scale_is_how_far_a_full_deflection_goes():
    controls = Controls(box([-4, 2], [1, 6]), scale=0.5)
    for event in down("left", "up"):
        controls.handle(event)
    assert action(controls).tolist() == [-2, 4]


def test_actions_of_any_shape_are_made():
    controls = Controls(box([[-1, -2], [-3, -4]], [[1, 2], [3, 4]], np.float64))
    for event in down("left", "up", "s"):
        controls.handle(event)
    assert action(controls).tolist() == [[-1, 2], [0, -4]]


def test_a_tap_between_two_steps_counts_for_one_of_them():
    controls = Controls(box([-1], [1]))
    for event in tap("right"):
        controls.handle(event)
    assert [action(controls).tolist() for _ in range(2)] == [[1], [0]]


def test_a_lost_focus_lets_everything_go():
    controls = Controls(box([-1, -1], [1, 1]))
    for event in (*down("right", "left shift"), stick(1, 1.0)):
        controls.handle(event)
    assert deflections(controls).tolist() == [0.3, -0.3]
    assert controls.handle(pygame.event.Event(pygame.WINDOWFOCUSLOST)) is Command.PAUSE
    assert deflections(controls).tolist() == [0, 0]
    # Their release was missed, or comes late
    for event in up("right", "left shift"):
        controls.handle(event)
    assert deflections(controls).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("event", "command"),
    [
        (down("space")[0], Command.START_OR_PAUSE),
        (down("return")[0], Command.KEEP),
        (down("enter")[0], Command.KEEP),
        (down("backspace")[0], Command.DISCARD),
        (down("u")[0], Command.UNDO),
        (down("escape")[0], Command.FINISH),
        (pygame.event.Event(pygame.QUIT), Command.FINISH),
        (button(0), Command.START_OR_PAUSE),
        (button(1), Command.DISCARD),
        (button(3), Command.KEEP),
        (button(2), None),
        (up("space")[0], None),
        (down("y")[0], None),
    ],
)
def test_commands_are_understood(event: Any, command: Command | None):
    assert Controls(box([-1], [1])).handle(event) is command


def test_sticks_move_the_dimensions_in_order_and_up_is_positive():
    controls = Controls(box([-1] * 4, [1] * 4))
    for axis, value in enumerate([0.55, -1.0, -0.55, 1.0]):
        controls.handle(stick(axis, value))
    # (0.55 - 0.1) / 0.9
    np.testing.assert_allclose(deflections(controls), [0.5, 1.0, -0.5, -1.0])
    controls.handle(stick(0, 0.05))
    assert deflections(controls)[0] == 0


def test_other_axes_can_be_chosen():
    controls = Controls(box([-1] * 3, [1] * 3), axes=[4, "-0", -2])
    for axis in (0, 2, 4):
        controls.handle(stick(axis, 1.0))
    assert deflections(controls).tolist() == [1, -1, -1]
    assert stick_axes(None, 3) == [(0, 1), (1, -1), (2, 1)]


def test_a_key_wins_over_a_stick():
    controls = Controls(box([-1, -1], [1, 1]))
    for event in (stick(0, 1.0), stick(1, -1.0), *down("left")):
        controls.handle(event)
    assert deflections(controls).tolist() == [-1, 1]
    assert devices(controls) == {"keyboard", "gamepad"}
    # Both keys of a dimension are a decision, too
    controls.handle(down("right")[0])
    assert deflections(controls).tolist() == [0, 1]


def test_it_is_known_what_was_moved():
    controls = Controls(box([-1], [1]))
    assert devices(controls) == set()
    controls.handle(stick(0, 0.05))
    assert devices(controls) == set()
    controls.handle(stick(0, 0.5))
    assert devices(controls) == {"gamepad"}
    controls.handle(down("left")[0])
    assert devices(controls) == {"keyboard"}


def test_what_an_unplugged_gamepad_held_is_let_go():
    controls = Controls(box([-1], [1]))
    for event in (stick(0, 0.5, gamepad=3), stick(0, -1.0, gamepad=4)):
        controls.handle(event)
    # The one that is pushed furthest
    assert deflections(controls).tolist() == [-1]
    controls.handle(pygame.event.Event(pygame.JOYDEVICEREMOVED, instance_id=4))
    np.testing.assert_allclose(deflections(controls), [4 / 9])


def test_eight_dimensions_have_keys_and_more_need_them():
    assert len(set(sum(key_codes(DEFAULT_KEYS, 8), ()))) == 16
    assert DEFAULT_KEYS[:2] == (("left", "right"), ("down", "up"))
    with pytest.raises(DemonstrationsError, match="keys: found 8 pairs, expected 9: pass keys"):
        Controls(box([-1] * 9, [1] * 9))
    pairs = [*DEFAULT_KEYS, ("1", "page up")]
    controls = Controls(box([-1] * 9, [1] * 9), keys=pairs)
    controls.handle(down("page up")[0])
    assert action(controls).tolist() == [0] * 8 + [1]
    assert controls.names == pairs


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ([("a", "b")], r"found 1 pairs, expected 2: pass keys, a \(negative, positive\) pair"),
        ([("a", "b"), ("c", "upwards")], "found 'upwards', expected one of pygame's key names"),
        ([("a", "b"), ("c", "A")], "found 'A' for dimension 1, expected another key: it is a key of dimension 0 already"),
        ([("a", "b"), ("c", "space")], "found 'space' for dimension 1, expected another key: it is start or pause"),
        (["ab", "cd"], r"found \['ab', 'cd'\], expected \(negative, positive\) pairs"),
    ],
)
def test_wrong_keys_are_refused(keys: Any, message: str):
    with pytest.raises(DemonstrationsError, match=f"keys: {message}"):
        Controls(box([-1, -1], [1, 1]), keys=keys)


@pytest.mark.parametrize("axes", [[0], [0, "x"], "01"])
def test_wrong_axes_are_refused(axes: Any):
    with pytest.raises(DemonstrationsError, match=r"axes: found .*, expected 2 numbers of axes"):
        Controls(box([-1, -1], [1, 1]), axes=axes)


@pytest.mark.parametrize("scale", [0, 1.5, "1"])
def test_a_wrong_scale_is_refused(scale: Any):
    with pytest.raises(DemonstrationsError, match=r"scale: found .*, expected a number in \(0, 1\]"):
        Controls(box([-1], [1]), scale=scale)


class Space(gym.Env):
    def __init__(self, space: spaces.Space):
        self.action_space = space


@pytest.mark.parametrize("space", [spaces.Discrete(3), box([0], [9], int)])
def test_actions_that_are_no_box_of_floats_are_refused(space: spaces.Space):
    with pytest.raises(DemonstrationsError, match=r"action_space: found .*, expected a Box of floats"):
        controllable_space(Space(space))


@pytest.mark.parametrize(("low", "high"), [(-np.inf, 1), (-1, np.inf)])
def test_actions_without_bounds_are_refused(low: float, high: float):
    with pytest.raises(DemonstrationsError, match=r"action_space: found bounds from \[.*inf.*\], expected finite bounds"):
        controllable_space(Space(box([low], [high])))
