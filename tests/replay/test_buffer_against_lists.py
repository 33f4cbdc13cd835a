"""Everything that can happen to a buffer, in any order, against a buffer of plain Python lists."""

import itertools
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from naive_buffer import NaiveBuffer, Step, add_steps, as_expected, demo_steps, demonstrations, info_of, state_buffer
from test_to_demonstrations import as_steps, cut

from sb3_pgfd.replay.storage import Origin

# Of one environment in one step: what happens, what the info says of success, and the action of who took over
HAPPENING = st.sampled_from(list(itertools.product("-----tui", [True, True, False, None], [None, None, 0.25, -0.75])))
DEMO_LINE = st.tuples(st.text(alphabet="-", max_size=4), st.sampled_from("tu")).map("".join)


class BufferAgainstLists(RuleBasedStateMachine):
    """After each step of it, every row, window and priority is compared."""

    @initialize(
        n_envs=st.integers(1, 3),
        ring_steps=st.integers(1, 8),
        n_steps=st.integers(1, 5),
        alpha=st.sampled_from([0.3, 1.0]),
        demo_bonus=st.sampled_from([0.0, 1.0]),
        lines=st.lists(DEMO_LINE, max_size=2),
        keep_successes=st.booleans(),
        max_success=st.sampled_from([3, 7, 20, 100_000]),
    )
    def make(
        self,
        n_envs: int,
        ring_steps: int,
        n_steps: int,
        alpha: float,
        demo_bonus: float,
        lines: list[str],
        keep_successes: bool,
        max_success: int,
    ) -> None:
        episodes = demo_steps(*lines)
        options: dict[str, Any] = {"demonstrations": demonstrations(episodes)} if episodes else {}
        options |= {"n_envs": n_envs, "n_steps": n_steps, "gamma": 0.5, "priority_exponent": alpha}
        options |= {"demo_bonus": demo_bonus, "keep_successes": keep_successes, "max_success_transitions": max_success}
        self.buffer = state_buffer(ring_steps * n_envs, **options)
        self.lists = NaiveBuffer(n_envs, ring_steps, keep_successes, max_success)
        if episodes:
            self.lists.add_demonstrations(episodes)
        self.n_numbered = sum(map(len, lines))
        self.remember_ring()

    def remember_ring(self) -> None:
        self.ring_columns = dict(self.buffer.ring.columns)

    @rule(happenings=st.lists(HAPPENING, min_size=3, max_size=12))
    def steps(self, happenings: list[tuple[str, bool | None, float | None]]) -> None:
        n_envs = self.buffer.n_envs
        for k in range(0, len(happenings) - n_envs + 1, n_envs):
            t = len(self.lists.histories[0])
            events, told, taken = map(list, zip(*happenings[k : k + n_envs], strict=True))
            steps = [Step.numbered(t, event, 100 * e) for e, event in enumerate(events)]
            add_steps(self.buffer, steps, [info_of(*one) for one in zip(events, told, taken, strict=True)])
            self.lists.add(steps, told, taken)

    @rule(lines=st.lists(DEMO_LINE, min_size=1, max_size=3))
    def add_demonstrations(self, lines: list[str]) -> None:
        episodes = demo_steps(*lines, first=self.n_numbered)
        self.n_numbered += sum(map(len, lines))
        self.buffer.add_demonstrations(demonstrations(episodes))
        self.lists.add_demonstrations(episodes)

    @precondition(lambda self: self.lists.n_own + len(self.lists.cells) > 0)
    @rule(data=st.data())
    def update_priorities(self, data: st.DataObject) -> None:
        # Among them rows of successes that have been dropped
        demo_rows = [len(self.lists.ring_priorities) + k for k in range(len(self.lists.cells))]
        rows = st.sampled_from([*range(self.lists.n_own), *demo_rows])
        indices = data.draw(st.lists(rows, min_size=1, max_size=5))
        errors = data.draw(st.lists(st.floats(0.01, 50.0), min_size=len(indices), max_size=len(indices)))
        bonus = self.buffer.demo_bonus
        expected = [error + bonus * (index in demo_rows) for index, error in zip(indices, errors, strict=True)]
        assert self.buffer.update_priorities(np.array(indices), np.array(errors)) == pytest.approx(expected)
        self.lists.update_priorities(indices, expected)

    @rule()
    def reset(self) -> None:
        self.buffer.reset()
        self.lists.reset()

    @rule()
    def pickle_and_load(self) -> None:
        self.buffer = pickle.loads(pickle.dumps(self.buffer))
        self.remember_ring()

    @precondition(lambda self: self.lists.n_own + len(self.lists.live) > 0)
    @rule(agent_only=st.booleans())
    def export(self, agent_only: bool) -> None:
        kept = [step for cell in self.lists.live for step in cell.steps[cell.place : cell.place + 1]]
        own = [steps for history in self.lists.histories for steps in cut(history[-self.lists.ring_steps :])]
        expected = own if agent_only else cut(kept) + own
        if expected:
            assert as_steps(self.buffer.to_demonstrations(agent_only)) == expected

    @invariant()
    def all_rows_and_windows_are_the_same(self) -> None:
        expected = self.lists.rows(self.buffer.n_steps, self.buffer.gamma)
        assert (self.buffer.n_demonstrations, self.buffer.n_own) == (len(self.lists.live), self.lists.n_own)
        if expected:
            batch = self.buffer.read(range(len(expected)))
            np.testing.assert_allclose(as_expected(batch), expected, rtol=1e-5, atol=1e-5)
            is_demo = [row < len(self.lists.live) for row in range(len(expected))]
            assert batch.is_demo.flatten().tolist() == is_demo

    @invariant()
    def all_priorities_are_the_same(self) -> None:
        priorities = self.lists.priorities
        assert self.buffer.max_priority == pytest.approx(self.lists.max_priority)
        np.testing.assert_allclose(self.buffer.priorities, priorities, rtol=1e-9)
        total = self.buffer.ring.tree.total + self.buffer.demonstrations.tree.total
        assert total == pytest.approx(sum(p**self.buffer.priority_exponent for p in priorities))

    @invariant()
    def origins_and_ends_are_the_same(self) -> None:
        store, live = self.buffer.demonstrations, self.lists.live
        assert self.buffer.n_given == sum(cell.origin is Origin.GIVEN for cell in live)
        assert self.buffer.kept_successes.tolist() == [cell.origin is Origin.SUCCESS for cell in live]
        assert store.origins.tolist() == [cell.origin for cell in live]
        assert store.columns["steps_left"][store.live_rows].tolist() == [len(cell.steps) - 1 - cell.place for cell in live]

    @invariant()
    def nothing_else_can_be_drawn(self) -> None:
        store = self.buffer.demonstrations
        live = {row for row, cell in enumerate(self.lists.cells) if cell is not None}
        for demos_only in (True, False) if live else ():
            for share in (None, 0.5):
                self.buffer.demo_fraction = share
                (rows, n_demos), _ = self.buffer._draw(1, 20, demos_only)
                assert set(rows[:n_demos]) <= live
                assert all(0 <= row < self.lists.n_own for row in rows[n_demos:])
        self.buffer.demo_fraction = None
        assert set(store.draw_uniformly(100).tolist() if live else []) <= live

    @invariant()
    def the_ring_stays_where_it_is_and_the_store_grows_by_doubling(self) -> None:
        assert self.buffer.ring.columns.keys() == self.ring_columns.keys()
        assert all(self.buffer.ring.columns[name] is column for name, column in self.ring_columns.items())
        store = self.buffer.demonstrations
        assert len(self.lists.cells) == store.size <= store.n_rows <= max(2 * store.size, 1)


BufferAgainstLists.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestBufferAgainstLists = BufferAgainstLists.TestCase
