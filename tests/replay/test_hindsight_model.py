"""Replaced goals, through everything that can happen to a buffer, against plain Python."""

import pickle
from typing import Any

import numpy as np
from goal_line import GoalLine, GoalLineThatEnds, GoalLineThatGoesOn, goal_vec_env
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from naive_goals import (
    GoalStep,
    Walker,
    add_goal_steps,
    as_read,
    fractions,
    goal_buffer,
    goal_demonstrations,
    rest_of_episode,
    under_goal,
)

from sb3_pgfd.replay.n_step import Rows

PLACES = st.integers(-1, 1)
EPISODE = st.tuples(st.lists(PLACES, min_size=1, max_size=6), PLACES, st.sampled_from("tu"))


class HindsightAgainstLists(RuleBasedStateMachine):
    """Steps, demonstrations, interruptions and pickling in any order; after each, every row is read under new goals."""

    @initialize(
        kind=st.sampled_from([GoalLine, GoalLineThatEnds, GoalLineThatGoesOn]),
        n_envs=st.integers(1, 3),
        ring_steps=st.integers(1, 8),
        n_steps=st.integers(1, 5),
        her_ratio=st.sampled_from([0.1, 0.5, 0.8, 1.0]),
        episodes=st.lists(EPISODE, max_size=2),
        seed=st.integers(0, 10_000),
    )
    def make(
        self, kind: Any, n_envs: int, ring_steps: int, n_steps: int, her_ratio: float, episodes: list[Any], seed: int
    ) -> None:
        np.random.seed(seed)
        self.env = goal_vec_env(kind, n_envs)
        self.ends_at_goal = kind is GoalLineThatEnds
        self.fractions = fractions()
        self.demos = [self.demonstration(*episode) for episode in episodes]
        options: dict[str, Any] = {"demonstrations": goal_demonstrations(self.demos)} if episodes else {}
        options |= {"n_envs": n_envs, "n_steps": n_steps, "gamma": 0.5, "her_ratio": her_ratio, "env": self.env}
        self.ring_steps = ring_steps
        self.buffer = goal_buffer(ring_steps * n_envs, **options)
        self.reset_lists()

    def demonstration(self, places: list[int], goal: int, last: str) -> list[GoalStep]:
        return Walker(self.fractions, self.ends_at_goal).episode(places, goal, last)

    def reset_lists(self) -> None:
        self.walkers = [Walker(self.fractions, self.ends_at_goal) for _ in range(self.buffer.n_envs)]
        self.histories: list[list[GoalStep]] = [[] for _ in range(self.buffer.n_envs)]

    @rule(data=st.data())
    def step(self, data: st.DataObject) -> None:
        steps = [
            walker.step(data.draw(PLACES), data.draw(PLACES), data.draw(st.sampled_from("-----tui")))
            for walker in self.walkers
        ]
        add_goal_steps(self.buffer, steps)
        for history, step in zip(self.histories, steps, strict=True):
            history.append(step)

    @rule(episodes=st.lists(EPISODE, min_size=1, max_size=2))
    def add_demonstrations(self, episodes: list[Any]) -> None:
        added = [self.demonstration(*episode) for episode in episodes]
        self.buffer.add_demonstrations(goal_demonstrations(added))
        self.demos += added

    @rule()
    def reset(self) -> None:
        self.buffer.reset()
        self.reset_lists()

    @rule()
    def pickle_and_load(self) -> None:
        self.buffer = pickle.loads(pickle.dumps(self.buffer))
        self.buffer.set_env(self.env)

    def rests(self) -> list[list[GoalStep]]:
        """Of every filled row, what follows it in its episode."""
        rests = [rest_of_episode(steps, k) for steps in self.demos for k in range(len(steps))]
        n_demos, n_envs = len(rests), self.buffer.n_envs
        rests += [[] for _ in range(min(len(self.histories[0]), self.ring_steps) * n_envs)]
        for e, history in enumerate(self.histories):
            for t in range(max(len(history) - self.ring_steps, 0), len(history)):
                rests[n_demos + t % self.ring_steps * n_envs + e] = rest_of_episode(history, t)
        return rests

    @precondition(lambda self: self.buffer.n_filled > 0)
    @invariant()
    def every_row_is_right_under_its_goal(self) -> None:
        rests = self.rests()
        batch = self.buffer.read(range(len(rests)))
        n_replaced = 0
        for found, rest in zip(as_read(batch), rests, strict=True):
            goal = None if found.desired == rest[0].desired else found.desired
            if goal is not None:
                assert goal in [step.next_achieved for step in rest]
                n_replaced += 1
            expected = under_goal(rest, goal, self.buffer.n_steps, self.buffer.gamma, self.ends_at_goal)
            np.testing.assert_allclose(found, expected, rtol=1e-6)
        assert n_replaced == round(self.buffer.her_ratio * len(rests))
        reads, gamma = as_read(batch), self.buffer.gamma
        bootstrap = [gamma * (not read.terminated) for read in reads]
        n_step_bootstrap = [read.discount * (not read.n_step_terminated) for read in reads]
        np.testing.assert_allclose(batch.bootstrap[:, 0], bootstrap, rtol=1e-6)
        np.testing.assert_allclose(batch.bootstrap[:, -1], n_step_bootstrap, rtol=1e-6)

    @invariant()
    def the_rest_of_every_episode_is_known(self) -> None:
        n_demos, n_own = self.buffer.n_demonstrations, self.buffer.n_own
        rows = Rows(np.concatenate((np.arange(n_demos), np.arange(n_own))), n_demos)
        assert self.buffer._stores.steps_left(rows).tolist() == [len(rest) - 1 for rest in self.rests()]


HindsightAgainstLists.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestHindsightAgainstLists = HindsightAgainstLists.TestCase
