"""Steps of environments that were lost and made anew: the buffer leaves them out."""

import pickle
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from sb3_pgfd.replay import DemoReplayBuffer

SPACE, ACTIONS = spaces.Box(-np.inf, np.inf, (1,)), spaces.Box(-1.0, 1.0, (1,))
GAMMA, N_STEPS = 0.5, 3


def fill(buffer: DemoReplayBuffer, events: list[list[str]]) -> list[list[list[tuple[float, float, float, bool]]]]:
    """
    :param events: Of each step one for each environment: "-" the episode goes on, "t" terminated, "r" restarted
    :return: The episodes of each environment, of (s, r, s', terminated)
    """
    n_envs = buffer.n_envs
    states = [100.0 * env for env in range(n_envs)]
    episodes: list[list[list[tuple[float, float, float, bool]]]] = [[[]] for _ in range(n_envs)]
    for number, step in enumerate(events):
        before = list(states)
        nexts, dones, infos = [], [], []
        for env, event in enumerate(step):
            after = before[env] + 1.0
            if event == "r":
                after = before[env]
                episodes[env].append([])
            else:
                episodes[env][-1].append((before[env], float(number), after, event == "t"))
            if event == "t":
                episodes[env].append([])
            states[env] = after if event == "-" else before[env] + 10.0
            nexts.append(after)
            dones.append(event != "-")
            infos.append({"TimeLimit.truncated": event == "r", **({"env_restarted": True} if event == "r" else {})})
        columns = [np.array(values, dtype=np.float32)[:, None] for values in (before, nexts)]
        action = np.full((n_envs, 1), number / 100.0, dtype=np.float32)
        buffer.add(columns[0], columns[1], action, np.full(n_envs, float(number)), np.array(dones), infos)
    return episodes


def expected_returns(episode: list[tuple[float, float, float, bool]]) -> dict[float, tuple[float, float, float]]:
    """:return: By state R_n, the state after k steps, and gamma^k, or 0 behind a terminal state"""
    found = {}
    for start in range(len(episode)):
        window = episode[start : start + N_STEPS]
        total = sum(GAMMA**i * step[1] for i, step in enumerate(window))
        found[episode[start][0]] = total, window[-1][2], 0.0 if window[-1][3] else GAMMA ** len(window)
    return found


@given(
    events=st.lists(st.lists(st.sampled_from("--tr"), min_size=2, max_size=2), min_size=1, max_size=12),
    shares=st.booleans(),
    pickled=st.booleans(),
)
def test_steps_of_restarted_environments_are_left_out(events: list[list[str]], shares: bool, pickled: bool) -> None:
    options: dict[str, Any] = {"demo_fraction": 0.5} if shares else {}
    buffer = DemoReplayBuffer(40, SPACE, ACTIONS, "cpu", n_envs=2, n_steps=N_STEPS, gamma=GAMMA, **options)
    episodes = [episode for of_env in fill(buffer, events) for episode in of_env if episode]
    buffer = pickle.loads(pickle.dumps(buffer)) if pickled else buffer
    assert buffer.n_own == sum(map(len, episodes))
    if not episodes:
        with pytest.raises(ValueError, match="found an empty buffer"):
            buffer.sample(4)
        return
    expected = {state: found for episode in episodes for state, found in expected_returns(episode).items()}
    batch: Any = buffer.sample_batch(64)
    for row, state in enumerate(batch.observations.flatten().tolist()):
        total, after, factor = expected[state]
        assert batch.rewards[row, 1] == pytest.approx(total)
        assert batch.next_observations[2 * row + 1].item() == after
        assert batch.bootstrap[row, 1] == pytest.approx(factor)
    dataset: Any = buffer.to_demonstrations()
    assert sorted(dataset.observations.flatten().tolist()) == sorted(expected)
    assert sorted(dataset.episode_lengths.tolist()) == sorted(map(len, episodes))


def test_rows_are_used_again_when_the_ring_is_full() -> None:
    buffer = DemoReplayBuffer(3, SPACE, ACTIONS, "cpu", demo_fraction=0.5)
    fill(buffer, [["r"], ["-"], ["r"], ["-"], ["-"]])
    # The last three steps: one that was restarted, and two others
    assert (buffer.n_own, buffer.ring.n_gaps) == (2, 1)
    fill(buffer, [["-"]])
    assert (buffer.n_own, buffer.ring.n_gaps) == (3, 0)


def test_only_the_episode_after_a_restart_is_kept_as_a_success() -> None:
    buffer = DemoReplayBuffer(20, SPACE, ACTIONS, "cpu", keep_successes=True)
    fill(buffer, [["-"], ["r"], ["-"]])
    last = {"is_success": True, "TimeLimit.truncated": False}
    buffer.add(np.array([[12.0]]), np.array([[13.0]]), np.zeros((1, 1)), np.ones(1), np.array([True]), [last])
    kept = buffer.demonstrations.columns["observations/"][: buffer.n_demonstrations].flatten()
    assert kept.tolist() == [11.0, 12.0]
