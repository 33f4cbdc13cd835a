"""
Trajectories of ``imitation``. The package pins other versions of SB3 and gymnasium, so that it cannot be installed beside
this one: the classes here have the fields of its ``imitation.data.types`` and nothing else.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from toy_dataset import box

from sb3_pgfd import Demonstrations, DemonstrationsError


@dataclass(frozen=True)
class Trajectory:
    obs: Any
    acts: np.ndarray
    infos: np.ndarray | None
    terminal: bool


@dataclass(frozen=True)
class TrajectoryWithRew(Trajectory):
    rews: np.ndarray


@dataclass(frozen=True)
class DictObs:
    _d: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(next(iter(self._d.values())))

    def unwrap(self) -> dict[str, np.ndarray]:
        return dict(self._d)


class TrajectorySequence(Sequence):
    """As the package's own, which reads from disk: a sequence that is no list."""

    def __init__(self, trajectories: list[Any]):
        self.trajectories = trajectories

    def __len__(self) -> int:
        return len(self.trajectories)

    def __getitem__(self, index: Any) -> Any:
        return self.trajectories[index]


def infos(n_steps: int, **last: Any) -> np.ndarray:
    return np.array([*[{} for _ in range(n_steps - 1)], last])


def with_rewards(n_steps: int = 2, terminal: bool = True, **changes: Any) -> TrajectoryWithRew:
    fields: dict[str, Any] = {
        "obs": np.arange(n_steps + 1, dtype=np.float32)[:, None],
        "acts": np.full((n_steps, 1), 0.5, dtype=np.float32),
        "infos": infos(n_steps),
        "rews": np.arange(n_steps, dtype=np.float64),
    }
    return TrajectoryWithRew(terminal=terminal, **{**fields, **changes})


def without_rewards(n_steps: int = 2, terminal: bool = True, **changes: Any) -> Trajectory:
    full = with_rewards(n_steps, terminal, **changes)
    return Trajectory(full.obs, full.acts, full.infos, full.terminal)


@pytest.mark.parametrize("container", [list, tuple, TrajectorySequence])
def test_trajectories_become_episodes(container: Any):
    demonstrations = Demonstrations.load(container([with_rewards(2), with_rewards(3, terminal=False)]))
    assert box(demonstrations.observations)[:, 0].tolist() == [0, 1, 0, 1, 2]
    assert box(demonstrations.next_observations)[:, 0].tolist() == [1, 2, 1, 2, 3]
    assert demonstrations.actions.tolist() == [[0.5]] * 5
    assert demonstrations.rewards.tolist() == [0, 1, 0, 1, 2]
    assert demonstrations.terminated.tolist() == [False, True, False, False, False]
    assert demonstrations.truncated.tolist() == [False, False, False, False, True]
    assert demonstrations.episode_lengths.tolist() == [2, 3]
    assert demonstrations.metadata["producer"] == "imported from trajectories of imitation"
    assert demonstrations.source == f"{container.__name__} in memory"


@pytest.mark.parametrize("wrap", [DictObs, dict])
def test_dict_observations_are_unwrapped(wrap: Any):
    observations = {"b": np.array([[1], [2], [3]]), "a": np.array([4.0, 5.0, 6.0])}
    demonstrations = Demonstrations.load([with_rewards(obs=wrap(observations))])
    assert demonstrations.observations["b"].tolist() == [[1], [2]]
    assert demonstrations.next_observations["a"].tolist() == [5, 6]


def test_a_time_limit_is_told_by_the_last_info():
    limit = with_rewards(infos=infos(2, **{"TimeLimit.truncated": True}))
    goal = with_rewards(infos=infos(2, **{"TimeLimit.truncated": False}))
    demonstrations = Demonstrations.load([limit, goal])
    assert demonstrations.terminated.tolist() == [False, False, False, True]
    assert demonstrations.truncated.tolist() == [False, True, False, False]


def test_terminal_can_be_said_to_be_a_time_limit():
    demonstrations = Demonstrations.load([with_rewards(infos=None)], done_means="truncated")
    assert not demonstrations.terminated.any()
    assert demonstrations.truncated.tolist() == [False, True]


@pytest.mark.parametrize("key", ["is_success", "success"])
def test_successes_are_those_of_the_last_infos(key: str):
    trajectories = [with_rewards(infos=infos(2, **{key: value})) for value in (np.bool_(True), 0.0, 1)]
    demonstrations = Demonstrations.load(trajectories)
    assert demonstrations.successes is not None
    assert demonstrations.successes.tolist() == [True, False, True]
    assert Demonstrations.load(trajectories, successful_only=True).n_episodes == 2


def test_successes_are_unknown_if_one_is():
    assert Demonstrations.load([with_rewards(infos=infos(2, success=True)), with_rewards()]).successes is None


def test_rewards_are_found_in_the_rollout():
    rollout = {"obs": np.zeros((3, 1)), "rews": np.array([3.0, 4.0])}
    trajectory = without_rewards(infos=infos(2, rollout=rollout))
    demonstrations = Demonstrations.load([trajectory])
    assert demonstrations.rewards.tolist() == [3, 4]
    # The observations that the policy saw are those of the trajectory
    assert box(demonstrations.observations)[:, 0].tolist() == [0, 1]
    # Its own rewards go before
    assert Demonstrations.load([with_rewards(infos=infos(2, rollout=rollout))]).rewards.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("info", "expected"), [({}, [0, 0, 2.5]), ({"success": True}, [0, 0, 2.5]), ({"success": False}, [0, 0, 0])]
)
def test_a_final_reward_stands_at_the_end_of_each_success(info: Any, expected: list[float]):
    demonstrations = Demonstrations.load([without_rewards(3, infos=infos(3, **info))], final_reward=2.5)
    assert demonstrations.rewards.tolist() == expected
    assert demonstrations.terminated.tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("trajectories", "options", "message"),
    [
        ([with_rewards(), without_rewards()], {}, r"trajectory 1: rewards: found none, expected .*: pass final_reward=1\.0"),
        ([with_rewards()], {"final_reward": 1.0}, r"trajectory 0: found final_reward=1\.0 for a source that holds rewards"),
        ([without_rewards()], {"final_reward": True}, "trajectory 0: found final_reward=True, expected a number"),
        ([with_rewards(), 5], {}, "trajectory 1: found an object of type int, expected one with"),
        ([with_rewards(obs=np.zeros((2, 1)))], {}, "observations: episode 0: found 2 rows, expected 3"),
        ([with_rewards(rews=np.zeros(3))], {}, "observations: episode 0: found 3 rows, expected 4"),
        ([with_rewards(), with_rewards(acts=np.zeros((2, 3)))], {}, "episode 1: found shapes .* expected .* as in episode 0"),
        ([with_rewards(obs=np.array([["a"], ["b"], ["c"]]))], {}, "observations: found dtype <U1, expected numbers"),
        ([with_rewards(rews=np.array([0, np.nan]))], {}, "rewards: episode 0, step 1, component 0: found nan"),
        ([with_rewards()], {"trusted": True}, "found option 'trusted', but trajectories of imitation knows only"),
        (
            [replace(with_rewards(), infos=np.array([{}, None]))],
            {},
            "infos: found NoneType for the last step, expected a dict",
        ),
    ],
)
def test_what_does_not_fit_is_named(trajectories: list[Any], options: Any, message: str):
    with pytest.raises(DemonstrationsError, match=f"list in memory: .*{message}"):
        Demonstrations.load(trajectories, **options)


@pytest.mark.parametrize("source", [5, None, {"obs": 1}, np.zeros(3), with_rewards()])
def test_other_objects_are_refused(source: Any):
    name = type(source).__name__
    with pytest.raises(DemonstrationsError, match=f"{name} in memory: found an object of type {name}, expected one of"):
        Demonstrations.load(source)


@pytest.mark.parametrize(
    ("source", "found"), [([], "an empty list"), ([1, 2], "a list of int"), ((1, "a"), "a tuple of int, str")]
)
def test_lists_of_other_objects_are_refused(source: Any, found: str):
    with pytest.raises(DemonstrationsError, match=f"in memory: found {found}, expected one of: a path, .* take arrays"):
        Demonstrations.load(source)
