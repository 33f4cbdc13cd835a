"""Hindsight as plain Python: transitions with goals, and what a row of them must hold under any goal of its episode."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from goal_line import ACTION_SPACE, GOAL_SPACE, TOLERANCE
from naive_buffer import PickedRows, n_step, one_step
from stable_baselines3.common.buffers import ReplayBuffer

from sb3_pgfd.demonstrations import Demonstrations, Episode
from sb3_pgfd.replay import DemoBatch


class GoalStep(NamedTuple):
    """One transition. Events as in naive_buffer.Step."""

    achieved: float
    next_achieved: float
    desired: float
    action: float
    reward: float
    event: str


class Read(NamedTuple):
    """What is read from one row."""

    achieved: float
    desired: float
    action: float
    reward: float
    next_achieved: float
    next_desired: float
    terminated: bool
    n_step_return: float
    n_step_achieved: float
    n_step_desired: float
    n_step_terminated: bool
    discount: float


def reward_of(achieved: float, desired: float) -> float:
    return -1.0 if abs(achieved - desired) > TOLERANCE else 0.0


class Walker:
    """
    Makes the transitions of one environment. Places are small whole numbers, so that many lie within each other's
    tolerance, plus a fraction of their own, so that each goal tells which transition achieved it.

    :param fractions: Numbers that are used once
    :param ends_at_goal: Whether reaching the goal terminates
    """

    def __init__(self, fractions: Iterator[float], ends_at_goal: bool):
        self.fractions, self.ends_at_goal = fractions, ends_at_goal
        self.place: float | None = None
        self.desired = 0.0

    def step(self, place: int, goal: int, event: str) -> GoalStep:
        """
        :param place: Where to go
        :param goal: Goal of the episode, if it begins here
        :param event: What happens then; "t" is a failure unless the goal is reached
        """
        if self.place is None:
            self.place, self.desired = next(self.fractions), goal + next(self.fractions)
        achieved, self.place = self.place, place + next(self.fractions)
        reward = reward_of(self.place, self.desired)
        if self.ends_at_goal and reward == 0.0:
            event = "t"
        step = GoalStep(achieved, self.place, self.desired, place / 8, reward, event)
        if event != "-":
            self.place = None
        return step

    def episode(self, places: list[int], goal: int, last: str) -> list[GoalStep]:
        """:param places: Where to go; the walk is over earlier if the goal is reached and that terminates"""
        steps: list[GoalStep] = []
        for k, place in enumerate(places):
            steps.append(self.step(place, goal, last if k == len(places) - 1 else "-"))
            if steps[-1].event != "-":
                break
        return steps


def fractions() -> Iterator[float]:
    """Exact in binary and below half the tolerance: places are within each other's reach if they agree but for these."""
    for k in range(1, 2**16):
        yield k * TOLERANCE * 2.0**-17


def observation(achieved: Any, desired: Any) -> dict[str, np.ndarray]:
    numbers = {"observation": achieved, "achieved_goal": achieved, "desired_goal": desired}
    return {key: np.asarray(value, dtype=np.float64).reshape(-1, 1) for key, value in numbers.items()}


def goal_demonstrations(episodes: list[list[GoalStep]]) -> Demonstrations:
    """:param episodes: Each ends with "t" or "u" """
    return Demonstrations.from_episodes(
        [
            Episode(
                observations=observation(
                    [step.achieved for step in steps] + [steps[-1].next_achieved],
                    [steps[0].desired] * (len(steps) + 1),
                ),
                actions=np.array([[step.action] for step in steps], dtype=np.float32),
                rewards=np.array([step.reward for step in steps]),
                terminated=steps[-1].event == "t",
            )
            for steps in episodes
        ]
    )


def add_goal_steps(buffer: ReplayBuffer, steps: list[GoalStep]) -> None:
    """:param steps: One transition per environment"""
    desired = [step.desired for step in steps]
    buffer.add(
        obs=observation([step.achieved for step in steps], desired),  # type: ignore[arg-type]  # SB3's Dict buffers take it
        next_obs=observation([step.next_achieved for step in steps], desired),  # type: ignore[arg-type]
        action=np.array([[step.action] for step in steps], dtype=np.float32),
        reward=np.array([step.reward for step in steps]),
        done=np.array([step.event in "tu" for step in steps]),
        infos=[{"TimeLimit.truncated": True} if step.event == "u" else {} for step in steps],
    )


def goal_buffer(buffer_size: int, **options: Any) -> PickedRows:
    """:param buffer_size: Transitions in the ring"""
    options = {"demo_bonus": 0.0, "priority_epsilon": 1e-30, **options}
    return PickedRows(buffer_size, GOAL_SPACE, ACTION_SPACE, device="cpu", **options)


def rest_of_episode(steps: list[GoalStep], start: int) -> list[GoalStep]:
    """:return: The transition and those that follow it in its episode, as far as there are any"""
    rest: list[GoalStep] = []
    for step in steps[start:]:
        rest.append(step)
        if step.event != "-":
            break
    return rest


def under_goal(
    rest: list[GoalStep], goal: float | None, n_steps: int, gamma: float, ends_at_goal: bool, norm: float = 1.0
) -> Read:
    """
    :param rest: See :func:`rest_of_episode`
    :param goal: None: the goal that it was made with
    :param n_steps: n
    :param gamma: Discount factor
    :param ends_at_goal: Whether reaching the goal terminates
    :param norm: What rewards are divided by
    """
    first = rest[0]
    total, discount, terminations = 0.0, 1.0, []
    last = first
    for last in rest[:n_steps]:
        reward = last.reward if goal is None else reward_of(last.next_achieved, goal)
        total += discount * reward / norm
        discount *= gamma
        terminated = last.event == "t"
        if goal is not None and ends_at_goal:
            failed = last.event == "t" and last.reward < 0.0
            terminated = failed or reward == 0.0
        terminations.append(terminated)
        if terminated:
            break
    desired = first.desired if goal is None else goal
    reward = first.reward if goal is None else reward_of(first.next_achieved, goal)
    return Read(
        first.achieved,
        desired,
        first.action,
        reward / norm,
        first.next_achieved,
        desired,
        terminations[0],
        total,
        last.next_achieved,
        desired,
        terminations[-1],
        discount,
    )


def as_read(batch: DemoBatch) -> list[Read]:
    """:param batch: Transitions of a :func:`goal_buffer`"""
    first, nth = one_step(batch), n_step(batch)
    observations: Any = batch.observations
    next_one: Any = first.next_observations
    next_n: Any = nth.next_observations
    assert nth.discounts is not None
    columns = (
        observations["achieved_goal"],
        observations["desired_goal"],
        batch.actions,
        first.rewards,
        next_one["achieved_goal"],
        next_one["desired_goal"],
        first.dones.bool(),
        nth.rewards,
        next_n["achieved_goal"],
        next_n["desired_goal"],
        nth.dones.bool(),
        nth.discounts,
    )
    for observed in (observations, next_one, next_n):
        assert observed["observation"].equal(observed["achieved_goal"])
    return [Read(*values) for values in zip(*(column.flatten().tolist() for column in columns), strict=True)]
