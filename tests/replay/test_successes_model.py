"""Kept successes, through everything that can happen to a buffer, against plain Python."""

from typing import Any

from against_lists import AgainstLists
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule
from naive_buffer import Step, add_steps, demo_steps, demonstrations, state_buffer
from naive_successes import NaiveSuccesses, info_of

SUCCESS = st.sampled_from([True, True, False, None])


class SuccessesAgainstLists(AgainstLists):
    """Steps, successes, interruptions, demonstrations and pickling in any order."""

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
        self.lists: NaiveSuccesses = NaiveSuccesses(n_envs, ring_steps)
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

    @invariant()
    def the_agents_own_are_told_apart(self) -> None:
        assert self.buffer.kept_successes.tolist() == self.lists.is_kept
        assert sum(waiting.n_rows for waiting in self.buffer._successes._waiting) == sum(map(len, self.lists.waiting))


SuccessesAgainstLists.TestCase.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)
TestSuccessesAgainstLists = SuccessesAgainstLists.TestCase
