"""What a buffer and one of plain Python lists have to agree in, whatever happens to them."""

import pickle

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from naive_buffer import NaiveBuffer, PickedRows, as_expected


class AgainstLists(RuleBasedStateMachine):
    """After each step of it, every row, window and priority is compared. Who inherits makes both and adds to them."""

    buffer: PickedRows
    lists: NaiveBuffer

    @precondition(lambda self: self.buffer.n_filled > 0)
    @rule(data=st.data())
    def update_priorities(self, data: st.DataObject) -> None:
        rows = data.draw(st.lists(st.integers(0, self.buffer.n_filled - 1), min_size=1, max_size=5))
        values = data.draw(st.lists(st.floats(0.01, 50.0), min_size=len(rows), max_size=len(rows)))
        self.buffer.update_priorities(np.array(rows), np.array(values))
        self.lists.update_priorities(rows, values)

    @rule()
    def reset(self) -> None:
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
        assert self.buffer.max_priority == self.lists.max_priority
        np.testing.assert_allclose(self.buffer.priorities, self.lists.priorities, rtol=1e-9)
        assert self.buffer.tree.total == pytest.approx(sum(p**self.buffer.priority_exponent for p in self.lists.priorities))
