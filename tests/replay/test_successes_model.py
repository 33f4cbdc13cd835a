"""Kept successes, through everything that can happen to a buffer, against plain Python."""

import pickle
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from naive_buffer import Step, add_steps, as_expected, demo_steps, demonstrations, state_buffer
from naive_successes import NaiveSuccesses, info_of

SUCCESS = st.sampled_from([True, True, False, None])


class SuccessesAgainstLists(RuleBasedStateMachine):
    """Steps, successes, interruptions, demonstrations and pickling in any order; after each, every row is compared."""

    @initialize(
        n_envs=st.integers(1, 3),
        ring_steps=st.integers(1, 8),
        n_steps=st.integers(1, 5),
        alpha=st.sampled_from([0.3, 1.0]),
        # With 400 demonstrations, episodes have to wait for each other
        n_demos=st.sampled_from([0, 3, 400]),
    )
    def make(self, n_envs: int, ring_steps: int, n_steps: int, alpha: float, n_demos: int) -> None:
        episodes = demo_steps("-" * (n_demos - 1) + "t") if n_demos else []
        options: dict[str, Any] = {"demonstrations": demonstrations(episodes)} if episodes else {}
        options |= {"n_envs": n_envs, "n_steps": n_steps, "gamma": 0.5, "priority_exponent": alpha}
        self.buffer = state_buffer(ring_steps * n_envs, keep_successes=True, **options)
        self.lists = NaiveSuccesses(n_envs, ring_steps)
        self.lists.add_demonstrations(episodes)

    @rule(data=st.data())
    def step(self, data: st.DataObject) -> None:
        t = len(self.lists.histories[0])
        events = [data.draw(st.sampled_from("---tui")) for _ in range(self.buffer.n_envs)]
        successes = [data.draw(SUCCESS) for _ in events]
        steps = [Step.numbered(t, event, 100 * e) for e, event in enumerate(events)]
        infos = [info_of(event, success) for event, success in zip(events, successes, strict=True)]
        add_steps(self.buffer, steps, infos)
        self.lists.add_with_successes(steps, successes)

    @rule(n=st.integers(1, 4))
    def add_demonstrations(self, n: int) -> None:
        episodes = demo_steps("-" * (n - 1) + "u", first=len(self.lists.demo_priorities))
        self.buffer.add_demonstrations(demonstrations(episodes))
        self.lists.add_demonstrations(episodes)

    @precondition(lambda self: self.buffer.n_filled > 0)
    @rule(data=st.data())
    def update_priorities(self, data: st.DataObject) -> None:
        rows = data.draw(st.lists(st.integers(0, self.buffer.n_filled - 1), min_size=1, max_size=5))
        values = data.draw(st.lists(st.floats(0.01, 50.0), min_size=len(rows), max_size=len(rows)))
        self.buffer.update_priorities(np.array(rows), np.array(values))
        self.lists.update_priorities(rows, values)

    @rule()
    def reset(self) -> None:
        # What waits goes on waiting
        self.buffer.reset()
        self.lists.reset()

    @rule()
    def pickle_and_load(self) -> None:
        self.buffer = pickle.loads(pickle.dumps(self.buffer))

    @invariant()
    def all_rows_and_windows_are_the_same(self) -> None:
        expected = self.lists.rows(self.buffer.n_steps, self.buffer.gamma)
        assert (self.buffer.n_filled, self.buffer.n_rows) == (len(expected), len(self.lists.priorities))
        if expected:
            found = as_expected(self.buffer.read(sorted(expected)))
            np.testing.assert_allclose(found, [expected[row] for row in sorted(expected)], rtol=1e-5, atol=1e-5)

    @invariant()
    def all_priorities_are_the_same(self) -> None:
        np.testing.assert_allclose(self.buffer.priorities, self.lists.priorities, rtol=1e-9)

    @invariant()
    def the_agents_own_are_told_apart(self) -> None:
        assert self.buffer.kept_successes.tolist() == self.lists.is_kept
        assert sum(waiting.n_rows for waiting in self.buffer._successes._waiting) == sum(map(len, self.lists.waiting))


SuccessesAgainstLists.TestCase.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)
TestSuccessesAgainstLists = SuccessesAgainstLists.TestCase
