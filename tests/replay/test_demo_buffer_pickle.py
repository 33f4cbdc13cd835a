"""A pickled buffer goes on as if nothing had happened."""

import pickle

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from naive_buffer import (
    STATE_SPACE,
    PickedRows,
    Step,
    add_steps,
    as_expected,
    fill_like,
    five_demos,
    info_of,
    play,
    state_buffer,
)

# --- Saving ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_steps", [0, 1, 7, 10, 23])
@pytest.mark.parametrize("options", [{}, {"demo_fraction": 0.5}, {"n_envs": 2}])
def test_a_pickled_buffer_goes_on_as_if_nothing_had_happened(n_steps, options):
    np.random.seed(8)
    n_envs = options.get("n_envs", 1)
    buffer = state_buffer(10 * n_envs, n_steps=3, demonstrations=five_demos(), **options)
    play(buffer, *["-" * n_steps] * n_envs)
    buffer.set_priorities(np.arange(buffer.n_filled), np.random.exponential(size=buffer.n_filled) + 0.1)
    copy = pickle.loads(pickle.dumps(buffer))
    for name in ("pos", "full", "max_priority", "n_given", "n_filled", "nbytes"):
        assert getattr(copy, name) == getattr(buffer, name)
    for _ in range(3):
        assert_same_content(buffer, copy)
        assert_same_draws(buffer, copy)
        for target in (buffer, copy):
            play(target, *["-u--"] * n_envs)
            target.set_priorities(np.arange(3), np.array([3.0, 20.0, 0.3]))


def assert_same_content(buffer: PickedRows, copy: PickedRows) -> None:
    rows = np.arange(buffer.n_filled)
    assert as_expected(copy.read(rows)) == as_expected(buffer.read(rows))
    for store, other in ((buffer.ring, copy.ring), (buffer.demonstrations, copy.demonstrations)):
        for level, copied in zip(store.tree.levels, other.tree.levels, strict=True):
            assert level.tobytes() == copied.tobytes()


def assert_same_draws(buffer: PickedRows, copy: PickedRows) -> None:
    draws = []
    for target in (buffer, copy):
        np.random.seed(9)
        draws.append([target._draw(1, 32, demos_only).rows.numbers.tolist() for demos_only in (False, True)])
    assert draws[0] == draws[1]


def test_a_pickled_tree_of_several_levels_is_the_same_bit_for_bit():
    np.random.seed(10)
    buffer = state_buffer(6000, n_envs=3)
    for t in range(1900):
        add_steps(buffer, [Step.numbered(t, "-", 10_000 * e) for e in range(3)])
    for _ in range(50):
        buffer.update_priorities(np.random.randint(0, 5700, size=64), np.random.exponential(size=64) + 1e-3)
    assert len(buffer.ring.tree.levels) == 2
    assert_same_content(buffer, pickle.loads(pickle.dumps(buffer)))


@pytest.mark.parametrize(
    "space",
    [spaces.Dict({"place": STATE_SPACE, "goal": STATE_SPACE}), spaces.Discrete(5), spaces.Box(0, 255, (1, 4, 4), np.uint8)],
)
def test_buffers_of_other_spaces_can_be_pickled(space):
    buffer = PickedRows(10, space, spaces.Discrete(3), device="cpu", n_envs=2)
    fill_like(buffer, 3)
    copy = pickle.loads(pickle.dumps(buffer))
    stored, copied = (target.read(np.arange(6)) for target in (buffer, copy))
    assert th.equal(stored.actions, copied.actions)
    for first, second in ((stored.observations, copied.observations), (stored.next_observations, copied.next_observations)):
        pairs = zip(as_parts(first), as_parts(second), strict=True)
        assert all(th.equal(part, other) for part, other in pairs)


def as_parts(observations: th.Tensor | dict[str, th.Tensor]) -> list[th.Tensor]:
    return [observations] if isinstance(observations, th.Tensor) else list(observations.values())


def test_a_pickle_holds_the_written_rows_alone():
    buffer = state_buffer(1_000_000, demonstrations=five_demos())
    play(buffer, "-" * 10)
    assert buffer.demonstrations.n_rows > buffer.demonstrations.size
    assert len(pickle.dumps(buffer)) < 10_000


def test_an_episode_that_runs_while_the_buffer_is_pickled_is_kept_whole():
    buffer = state_buffer(20, keep_successes=True)
    for t in range(3):
        add_steps(buffer, [Step.numbered(t, "-")], [info_of("-", False, taken=0.5)])
    buffer = pickle.loads(pickle.dumps(buffer))
    add_steps(buffer, [Step.numbered(3, "t")], [info_of("t", True)])
    # The intervention of three steps, then the success of four
    assert [row.obs for row in as_expected(buffer.read(range(7)))] == [0, 1, 2, 0, 1, 2, 3]
    assert buffer.kept_successes.tolist() == [False] * 3 + [True] * 4


# --- Save formats ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("found", "named"), [(1, "1"), (3, "3"), (None, "1")])
def test_a_buffer_of_another_save_format_is_refused_with_what_to_do(found, named):
    state = state_buffer(4, demonstrations=five_demos()).__getstate__()
    assert state["save_format"] == 2
    # The first format had no number
    state = {name: value for name, value in state.items() if name != "save_format"} | ({"save_format": found} if found else {})
    with pytest.raises(ValueError, match=f"replay buffer of save format {named}, expected 2: .* train again with this one"):
        PickedRows.__new__(PickedRows).__setstate__(state)
