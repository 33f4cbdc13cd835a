from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sb3_pgfd import DemonstrationsError
from sb3_pgfd.demonstrations.episode import Transitions
from sb3_pgfd.demonstrations.formats.successors import from_steps


def flags(*rows: int, n: int = 7) -> np.ndarray:
    return np.isin(np.arange(n), rows)


def shift(observations: Any, terminated: np.ndarray, ended: np.ndarray) -> Transitions:
    """The actions are the numbers of the rows, and the facts about episodes the numbers of the episodes."""
    rows = np.arange(len(ended))
    return from_steps(observations, rows, np.zeros(len(rows)), terminated, ended, success=rows.copy())


def test_the_following_row_is_the_next_observation():
    # Episodes of rows 0 to 2, which is terminal, 3 to 4, and 5 to 6, which the file breaks off
    shifted = shift(np.arange(7) * 10, terminated=flags(2), ended=flags(2, 4))
    assert shifted.actions.tolist() == [0, 1, 2, 3, 5]
    assert np.asarray(shifted.observations).tolist() == [0, 10, 20, 30, 50]
    assert np.asarray(shifted.next_observations).tolist() == [10, 20, 20, 40, 60]
    assert shifted.terminated.tolist() == [False, False, True, False, False]
    assert shifted.truncated.tolist() == [False, False, False, True, True]
    assert shifted.episode_info["success"].tolist() == [0, 1, 2]
    assert shifted.episode_lengths.tolist() == [3, 1, 1]


def test_an_episode_of_one_step_that_is_not_terminal_vanishes():
    shifted = shift(np.arange(4), terminated=flags(0, n=4), ended=flags(0, 1, n=4))
    assert np.asarray(shifted.observations).tolist() == [0, 2]
    assert shifted.episode_info["success"].tolist() == [0, 2]
    assert shifted.episode_lengths.tolist() == [1, 1]


def test_nothing_is_left_of_steps_without_a_following_one():
    with pytest.raises(DemonstrationsError, match="found 3 steps without a known next observation, expected at least one"):
        shift(np.arange(3), terminated=flags(n=3), ended=flags(0, 1, n=3))


def test_it_warns_if_the_only_rewards_are_dropped():
    rewards, arrays = np.array([0.0, 1.0, 0.0, 1.0]), (np.arange(4), np.arange(4))
    with pytest.warns(UserWarning, match="The only rewards that are not 0 .* dropped.*done_means='terminated'"):
        from_steps(*arrays, rewards, flags(n=4), flags(1, 3, n=4))
    assert from_steps(*arrays, rewards, flags(1, 3, n=4), flags(1, 3, n=4)).rewards.tolist() == [0, 1, 0, 1]


def test_each_key_is_shifted():
    shifted = shift({"a": np.arange(3), "b": np.arange(6).reshape(3, 2)}, flags(2, n=3), flags(2, n=3))
    assert isinstance(shifted.next_observations, dict)
    assert shifted.next_observations["a"].tolist() == [1, 2, 2]
    assert shifted.next_observations["b"].tolist() == [[2, 3], [4, 5], [4, 5]]


def by_episodes(terminated: list[bool], ended: list[bool]) -> list[list[tuple[int, int, bool, bool]]]:
    """Row, next row and both flags of each kept step, episode by episode."""
    episodes: list[list[Any]] = []
    start = 0
    for row in range(len(ended)):
        if ended[row] or row == len(ended) - 1:
            steps = [[k, k + 1, False, False] for k in range(start, row)]
            if terminated[row]:
                steps.append([row, row, True, False])
            elif steps:
                steps[-1][3] = True
            episodes.append([tuple(step) for step in steps])
            start = row + 1
    return episodes


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(st.lists(st.sampled_from([(False, False), (False, True), (True, True)]), min_size=1, max_size=12))
def test_it_is_what_going_through_the_episodes_gives(steps: list[tuple[bool, bool]]):
    terminated, ended = (list(column) for column in zip(*steps, strict=True))
    expected = by_episodes(terminated, ended)
    rows = [step for episode in expected for step in episode]
    if not rows:
        return
    shifted = shift(np.arange(len(ended)), np.array(terminated), np.array(ended))
    columns = (shifted.observations, shifted.next_observations, shifted.terminated, shifted.truncated)
    assert [tuple(row) for row in zip(*(np.asarray(column).tolist() for column in columns), strict=True)] == rows
    assert shifted.actions.tolist() == [row for row, *_ in rows]
    assert shifted.episode_info["success"].tolist() == [k for k, episode in enumerate(expected) if episode]
    assert shifted.episode_lengths.tolist() == [len(episode) for episode in expected if episode]
