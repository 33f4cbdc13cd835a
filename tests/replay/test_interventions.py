"""Steps in which a person or a controller took over: the executed action is stored, and the part joins the demonstrations."""

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from naive_buffer import (
    ACTION_SPACE,
    STATE_SPACE,
    PickedRows,
    Step,
    add_steps,
    as_expected,
    five_demos,
    info_of,
    numbers,
    state_buffer,
)

from sb3_pgfd.replay import DemoReplayBuffer
from sb3_pgfd.replay.storage import Origin


def play_taken(buffer: PickedRows, *lines: str, events: tuple[str, ...] | None = None) -> None:
    """
    :param lines: One per environment: "x" where somebody took over, with the action 0.75, "." elsewhere
    :param events: Likewise, see naive_buffer.Step
    """
    events = events or tuple("-" * len(line) for line in lines)
    for t in range(len(lines[0])):
        steps = [Step.numbered(t, line[t], 100 * e) for e, line in enumerate(events)]
        taken = [0.75 if line[t] == "x" else None for line in lines]
        infos = [info_of(step.event, None, taken=a) for step, a in zip(steps, taken, strict=True)]
        add_steps(buffer, steps, infos)


def kept(buffer: PickedRows) -> list[float]:
    """States of the demonstrations."""
    return [row.obs for row in as_expected(buffer.read(range(buffer.n_demonstrations)))]


# --- The executed action ---------------------------------------------------------------------------------------------


def add_one(buffer: DemoReplayBuffer, actions: np.ndarray, infos: list[dict[str, Any]]) -> None:
    n = len(infos)
    state = np.zeros((n, 1), np.float32)
    buffer.add(state, state, actions, np.zeros(n), np.zeros(n, dtype=bool), infos)


def test_the_executed_action_is_stored_scaled_and_the_policys_array_stays():
    space = spaces.Box(np.array([-2.0, 0.0], dtype=np.float32), np.array([2.0, 10.0], dtype=np.float32))
    buffer = PickedRows(6, STATE_SPACE, space, device="cpu", n_envs=3)
    actions = np.array([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]], dtype=np.float32)
    before = actions.copy()
    # 2 (1 + 2) / 4 - 1 = 0.5 and 2 * 2.5 / 10 - 1 = -0.5; what lies outside is at the bound
    infos: list[dict[str, Any]] = [
        {"intervene_action": np.array([1.0, 2.5])},
        {"intervene_action": None},
        {"intervene_action": [9.0, -3.0]},
    ]
    add_one(buffer, actions, infos)
    np.testing.assert_array_equal(actions, before)
    np.testing.assert_allclose(buffer.read([0, 1, 2]).actions, [[0.5, -0.5], [0.3, 0.4], [1.0, -1.0]])


def test_a_discrete_action_is_stored_as_it_is():
    buffer = DemoReplayBuffer(4, STATE_SPACE, spaces.Discrete(3), device="cpu")
    for action in (2, np.int64(1)):
        add_one(buffer, np.array([[0]]), [{"intervene_action": action}])
    add_one(buffer, np.array([[0]]), [{}])
    assert buffer.ring.columns["actions"].flatten().tolist() == [2, 1, 0, 0]
    assert buffer.demonstrations.columns["actions"][:2].flatten().tolist() == [2, 1]


@pytest.mark.parametrize(
    ("space", "action", "found"),
    [
        (ACTION_SPACE, [0.5, 0.5], r"\[0.5, 0.5\] of shape \(2,\)"),
        (ACTION_SPACE, 0.5, r"0.5 of shape \(\)"),
        (ACTION_SPACE, [np.nan], r"\[nan\] of shape \(1,\)"),
        (spaces.Discrete(3), 3, r"3 of shape \(\)"),
    ],
)
def test_what_is_no_action_of_the_environment_is_refused_before_anything_is_stored(space, action, found):
    buffer = DemoReplayBuffer(4, STATE_SPACE, space, device="cpu", n_envs=2)
    with pytest.raises(
        ValueError, match=rf"info\['intervene_action'\]: found {found} in environment 1, expected an action of"
    ):
        add_one(buffer, np.zeros((2, 1)), [{}, {"intervene_action": action}])
    assert (buffer.pos, buffer.ring.size) == (0, 0)


# --- What joins the demonstrations, and when -------------------------------------------------------------------------


def test_an_intervention_joins_when_it_is_given_back():
    buffer = state_buffer(20, demonstrations=five_demos())
    play_taken(buffer, "..xx")
    assert buffer.n_demonstrations == 5
    play_taken(buffer, ".")
    assert kept(buffer)[5:] == [2.0, 3.0]
    assert numbers(buffer.read([5, 6]).actions) == [0.75, 0.75]
    assert buffer.demonstrations.origins.tolist() == [Origin.GIVEN] * 5 + [Origin.INTERVENTION] * 2
    # They are kept for ever like what was given, but they are not what the user gave
    assert (buffer.n_demonstrations, buffer.n_given, buffer.kept_successes.any()) == (7, 5, False)


@pytest.mark.parametrize("event", ["t", "u"])
def test_an_intervention_joins_when_the_episode_ends(event):
    buffer = state_buffer(20)
    play_taken(buffer, ".xx", events=(f"--{event}",))
    assert kept(buffer) == [1.0, 2.0]
    assert buffer.read([1]).terminated.flatten().tolist() == [event == "t"]
    # The next episode begins with an intervention of its own
    play_taken(buffer, "x.")
    assert kept(buffer) == [1.0, 2.0, 0.0]


def test_an_intervention_joins_when_the_episode_is_interrupted():
    buffer = state_buffer(20)
    # As when learn() is called again: the fourth step does not go on where the third stopped
    play_taken(buffer, ".xxxx.", events=("--i---",))
    assert kept(buffer) == [1.0, 2.0, 3.0, 4.0]
    steps_left = buffer.demonstrations.columns["steps_left"][:4]
    assert steps_left.tolist() == [1, 0, 1, 0], "two parts"


def test_two_parts_of_an_episode_join_one_by_one():
    buffer = state_buffer(20)
    play_taken(buffer, "x.xx.x", events=("-----t",))
    assert kept(buffer) == [0.0, 2.0, 3.0, 5.0]
    assert buffer.demonstrations.columns["steps_left"][:4].tolist() == [0, 1, 0, 0]


def test_environments_have_interventions_of_their_own():
    buffer = state_buffer(60, n_envs=3)
    play_taken(buffer, "xx..", ".xx.", "..xx", events=("----", "----", "---t"))
    # Given back after steps 2 and 3, over after step 3
    assert kept(buffer) == [0.0, 1.0, 101.0, 102.0, 202.0, 203.0]


def test_an_intervention_is_kept_across_the_rings_end():
    buffer = state_buffer(8, n_envs=2)
    # Four steps fit: the intervention of steps 2 to 4 lies in the steps 2, 3 and 0 of the ring
    play_taken(buffer, "..xxx.", "......")
    assert kept(buffer) == [2.0, 3.0, 4.0]


def test_an_intervention_longer_than_the_ring_is_kept_without_its_beginning():
    buffer = state_buffer(4)
    play_taken(buffer, "xxxxxx", events=("-----t",))
    assert kept(buffer) == [2.0, 3.0, 4.0, 5.0]
    # Where it is given back, the next step has already taken the place of one more
    buffer = state_buffer(4)
    play_taken(buffer, "xxxxxx.")
    assert kept(buffer) == [3.0, 4.0, 5.0]


def test_a_ring_of_one_step_keeps_nothing_of_an_intervention_that_is_given_back():
    buffer = state_buffer(1)
    play_taken(buffer, "xx.x", events=("---t",))
    # All but the last were overwritten before it was known that they were over
    assert kept(buffer) == [3.0]


def test_windows_end_where_the_intervention_was_given_back():
    buffer = state_buffer(20, n_steps=3, gamma=0.5)
    play_taken(buffer, ".xx..")
    first, last = as_expected(buffer.read([0, 1]))
    # Rewards of steps 1 and 2 are 7 - 5 = 2 and 14 % 11 - 5 = -2: 2 - 2/2 = 1 over two steps, and -2 over one
    assert (first.n_step_return, first.n_step_next_obs, first.discount) == (1.0, 3.0, 0.25)
    assert (last.n_step_return, last.n_step_next_obs, last.discount) == (-2.0, 3.0, 0.5)
    # The state that follows has a value
    assert (first.n_step_terminated, last.n_step_terminated) == (False, False)
    # In the ring, the episode goes on: step 1 sums steps 1, 2 and 3: 2 - 2/2 + 5/4
    assert as_expected(buffer.read([2 + 1]))[0].n_step_return == 2.25


def test_a_success_with_an_intervention_is_kept_as_both():
    buffer = state_buffer(20, keep_successes=True)
    for t, (event, taken) in enumerate((("-", None), ("-", 0.75), ("t", None))):
        add_steps(buffer, [Step.numbered(t, event)], [info_of(event, event == "t", taken=taken)])
    assert kept(buffer) == [1.0, 0.0, 1.0, 2.0]
    assert buffer.kept_successes.tolist() == [False, True, True, True]


def test_an_intervention_that_goes_on_is_forgotten_with_the_ring():
    buffer = state_buffer(20)
    play_taken(buffer, ".xx")
    buffer.reset()
    play_taken(buffer, "...")
    assert buffer.n_demonstrations == 0
