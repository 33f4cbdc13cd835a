"""Demonstrations that join a buffer in use."""

import pickle
import tracemalloc
from typing import Any

import numpy as np
import pytest
from against_lists import AgainstLists
from gymnasium import spaces
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule
from naive_buffer import (
    ACTION_SPACE,
    STATE_SPACE,
    NaiveBuffer,
    Step,
    add_steps,
    as_expected,
    demo_steps,
    demonstrations,
    fill_like,
    five_demos,
    play,
    single_episode,
    state_buffer,
)
from stable_baselines3 import DQN, SAC
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from sb3_pgfd import Demonstrations, DemonstrationsError
from sb3_pgfd.demonstrations import record
from sb3_pgfd.replay import DemoReplayBuffer, SumTree
from sb3_pgfd.replay.storage import TransitionStorage

# --- Against a model of Python lists ---------------------------------------------------------------------------------

DEMO_LINE = st.tuples(st.text(alphabet="-", max_size=4), st.sampled_from("tu")).map("".join)


class BufferAgainstLists(AgainstLists):
    """Steps, demonstrations and priorities in any order."""

    @initialize(
        n_envs=st.integers(1, 3),
        ring_steps=st.integers(1, 8),
        n_steps=st.integers(1, 5),
        alpha=st.sampled_from([0.3, 1.0]),
        lines=st.lists(DEMO_LINE, max_size=2),
    )
    def make(self, n_envs: int, ring_steps: int, n_steps: int, alpha: float, lines: list[str]) -> None:
        episodes = demo_steps(*lines)
        options: dict[str, Any] = {"demonstrations": demonstrations(episodes)} if episodes else {}
        options |= {"n_envs": n_envs, "n_steps": n_steps, "gamma": 0.5, "priority_exponent": alpha}
        self.buffer = state_buffer(ring_steps * n_envs, **options)
        self.lists = NaiveBuffer(n_envs, ring_steps)
        self.lists.add_demonstrations(episodes)

    @rule(data=st.data())
    def step(self, data: st.DataObject) -> None:
        t = len(self.lists.histories[0])
        events = [data.draw(st.sampled_from("---tui")) for _ in range(self.buffer.n_envs)]
        steps = [Step.numbered(t, event, 100 * e) for e, event in enumerate(events)]
        add_steps(self.buffer, steps)
        self.lists.add(steps)

    @rule(lines=st.lists(DEMO_LINE, min_size=1, max_size=3))
    def add_demonstrations(self, lines: list[str]) -> None:
        episodes = demo_steps(*lines, first=len(self.lists.demo_priorities))
        self.buffer.add_demonstrations(demonstrations(episodes))
        self.lists.add_demonstrations(episodes)

    @invariant()
    def demonstrations_are_told_apart(self) -> None:
        n = self.buffer.n_filled
        if n:
            is_demo = self.buffer.read(range(n)).is_demo.flatten().tolist()
            assert is_demo == [row < len(self.lists.demo_priorities) for row in range(n)]


BufferAgainstLists.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestBufferAgainstLists = BufferAgainstLists.TestCase

# --- Against a buffer that had them from the beginning ---------------------------------------------------------------

IMAGES = np.arange(3 * 4 * 5 * 3, dtype=np.uint8).reshape(3, 4, 5, 3)
KEYED = {"place": np.arange(6.0).reshape(3, 2), "k": np.arange(3)}
OF_SPACES: dict[str, tuple[spaces.Space, spaces.Space, Any, Any]] = {
    "box": (STATE_SPACE, ACTION_SPACE, np.array([[1.0], [2.0], [3.0]]), np.array([[0.5], [-1.0]])),
    "dict": (
        spaces.Dict({"place": spaces.Box(-1, 9, (2,)), "k": spaces.Discrete(9)}),
        spaces.Box(np.array([-2.0, 0.0]), np.array([2.0, 10.0]), dtype=np.float64),
        KEYED,
        np.array([[2.0, 5.0], [-1.0, 10.0]]),
    ),
    "discrete": (spaces.Discrete(7), spaces.Discrete(3), np.array([4, 5, 6]), np.array([0, 2])),
    "images with channels last": (spaces.Box(0, 255, (3, 4, 5), np.uint8), ACTION_SPACE, IMAGES, np.array([[0.5], [-1.0]])),
}


def contents(buffer: DemoReplayBuffer) -> dict[str, np.ndarray]:
    storage = buffer.storage
    flat = {name: getattr(storage, name) for name in ("actions", "rewards", "terminated", "ended")}
    before = {f"observations {key}": array for key, array in storage.observations.items()}
    after = {f"next_observations {key}": array for key, array in storage.next_observations.items()}
    levels = {f"level {k}": level for k, level in enumerate(buffer.tree.levels)}
    return {**flat, **before, **after, **levels}


def assert_same_contents(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype, name
        np.testing.assert_array_equal(found[name], array, err_msg=name)


@pytest.mark.parametrize("n_added_steps", [0, 3, 5, 8])
@pytest.mark.parametrize("n_envs", [1, 2])
@pytest.mark.parametrize("space", OF_SPACES)
def test_it_is_the_buffer_that_had_all_demonstrations_from_the_beginning(space, n_envs, n_added_steps):
    observation_space, action_space, observations, actions = OF_SPACES[space]
    first, second = (single_episode(observations, actions, terminated) for terminated in (True, False))
    options: dict[str, Any] = {"device": "cpu", "n_envs": n_envs, "n_steps": 3}
    buffers = [
        DemoReplayBuffer(5 * n_envs, observation_space, action_space, demonstrations=dataset, **options)
        for dataset in (first, Demonstrations.merge([first, second, first]))
    ]
    for buffer in buffers:
        action_space.seed(0)
        fill_like(buffer, n_added_steps)
    grown, expected = buffers
    for dataset in (second, first):
        grown.add_demonstrations(dataset)
    assert (grown.n_demonstrations, grown.n_rows, grown.n_filled) == (6, expected.n_rows, expected.n_filled)
    assert (grown.pos, grown.full, grown.nbytes) == (expected.pos, expected.full, expected.nbytes)
    assert_same_contents(contents(grown), contents(expected))
    # And goes on like it
    for buffer in buffers:
        action_space.seed(1)
        fill_like(buffer, 3)
    assert_same_contents(contents(grown), contents(expected))


def test_a_buffer_without_demonstrations_becomes_one_with_them():
    buffer = state_buffer(4, n_steps=2)
    play(buffer, "----")
    with pytest.raises(ValueError, match="expected at least one"):
        buffer.sample_batch(4, demos_only=True)
    buffer.add_demonstrations(five_demos())
    assert set(buffer.sample_batch(50, demos_only=True).indices) == set(range(5))


def test_a_path_is_taken_like_by_the_constructor(tmp_path):
    buffer = state_buffer(4)
    buffer.add_demonstrations(five_demos().save(tmp_path / "five.npz"))
    buffer.add_demonstrations(str(tmp_path / "five.npz"))
    assert buffer.n_demonstrations == 10


# --- Sampling --------------------------------------------------------------------------------------------------------


def test_new_demonstrations_get_the_largest_priority_and_are_drawn_by_it():
    buffer = state_buffer(10, demonstrations=five_demos(), priority_exponent=1.0)
    play(buffer, "-----")
    # Ten rows weigh 90 together, then five more weigh 90 too
    buffer.update_priorities(np.arange(10), np.array([18.0, 8, 8, 8, 8, 8, 8, 8, 8, 8]))
    buffer.add_demonstrations(five_demos())
    assert buffer.priorities.tolist() == pytest.approx([18, *[8] * 4, *[18] * 5, *[8] * 5, *[0] * 5])
    drawn = np.bincount(buffer.sample_batch(1800).indices, minlength=20)
    # Stratified: each row gets its share of 10 per unit of weight, but for the draws at its two borders
    np.testing.assert_allclose(drawn, 10 * buffer.priorities, atol=2)


def test_a_fixed_share_of_demonstrations_is_drawn_from_old_and_new_ones():
    buffer = state_buffer(10, demonstrations=five_demos(), demo_fraction=0.5)
    play(buffer, "-----")
    buffer.add_demonstrations(five_demos())
    rows = buffer.sample_batch(400).indices
    assert set(rows[:200]) == set(range(10))
    assert set(rows[200:]) == set(range(10, 15))


def test_demonstrations_added_later_are_never_overwritten():
    buffer = state_buffer(2, demonstrations=five_demos())
    play(buffer, "---")
    buffer.add_demonstrations(five_demos())
    before = as_expected(buffer.read(range(10)))
    play(buffer, "-" * 9)
    assert as_expected(buffer.read(range(10))) == before


def test_the_draws_after_it_depend_on_the_seed_alone():
    draws = []
    for _ in range(2):
        buffer = state_buffer(10, demonstrations=five_demos())
        play(buffer, "-----")
        np.random.seed(3)
        buffer.add_demonstrations(five_demos())
        draws.append(buffer.sample_batch(64).indices.tolist())
    assert draws[0] == draws[1]


# --- Memory ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("observation_dim", [1, 30])
def test_adding_takes_the_memory_of_one_array_more_not_of_a_second_buffer(observation_dim):
    dataset = single_episode(np.zeros((1001, observation_dim), np.float32), np.zeros((1000, 1), np.float32))
    tracemalloc.start()
    buffer = DemoReplayBuffer(100_000, spaces.Box(-1, 1, (observation_dim,)), ACTION_SPACE, device="cpu")
    # Filled in one go, as a hundred thousand steps would take seconds
    buffer.full = True
    buffer.tree = SumTree.from_weights(100_000, np.ones(100_000))
    before, _ = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    buffer.add_demonstrations(dataset)
    after, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    largest = max(buffer.storage.observations[""].nbytes, 100_000 * 8)
    assert before > 100_000 * (2 * observation_dim * 4 + 4 + 4 + 2 + 8)
    # The new tree and what it is made from, or the new tree and an array; then the thousand rows, twice
    assert peak < before + largest + buffer.tree.nbytes + 5 * (after - before)
    assert peak < 1.7 * after
    assert after < 1.02 * before


# --- Refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (single_episode(np.zeros((2, 2)), np.zeros((1, 1))), r"observations: found shape \(2,\) per step, expected \(1,\)"),
        (single_episode(np.zeros((2, 1)), np.zeros((1, 3))), r"actions: found shape \(3,\)"),
        (single_episode(np.zeros((2, 1)), np.full((1, 1), 1.5)), "found 1.5, expected a value in"),
        (single_episode({"a": np.zeros((2, 1))}, np.zeros((1, 1))), r"observations: found a dict with keys \['a'\]"),
        ("no such file", "no such file: found no such file"),
        (None, "NoneType"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_changes(wrong, message):
    buffer = state_buffer(3, demonstrations=five_demos())
    play(buffer, "----")
    before = {name: array.copy() for name, array in contents(buffer).items()}
    with pytest.raises(DemonstrationsError, match=message):
        buffer.add_demonstrations(wrong)
    assert_same_contents(contents(buffer), before)
    assert (buffer.n_demonstrations, buffer.pos, buffer.full) == (5, 1, True)


def test_an_insertion_that_fails_half_way_is_undone():
    space = spaces.Box(-1, 1, (4,))
    storage = TransitionStorage(3, space, ACTION_SPACE)
    other = TransitionStorage(2, space, spaces.Box(-1, 1, (2,)))
    for array in (storage.observations[""], storage.actions, storage.rewards):
        array[:] = np.random.default_rng(0).random(array.shape)
    before = pickle.dumps(storage)
    # Observations, the largest arrays, have been inserted when the actions turn out not to fit
    with pytest.raises(ValueError, match="could not broadcast"):
        storage.insert(1, other, 3)
    assert pickle.dumps(storage) == before


# --- Under SB3's own algorithms --------------------------------------------------------------------------------------


class AddInTheMiddle(BaseCallback):
    """Adds demonstrations to the buffer after so many steps."""

    def __init__(self, dataset: Demonstrations, after: int):
        super().__init__()
        self.dataset, self.after = dataset, after

    def _on_step(self) -> bool:
        if self.num_timesteps == self.after:
            assert isinstance(self.model, OffPolicyAlgorithm)
            assert isinstance(self.model.replay_buffer, DemoReplayBuffer)
            self.model.replay_buffer.add_demonstrations(self.dataset)
        return True


@pytest.mark.parametrize(("algorithm", "env", "action"), [(SAC, "Pendulum-v1", [0.5]), (DQN, "CartPole-v1", 1)])
@pytest.mark.parametrize("demo_fraction", [None, 0.5])
def test_sb3_learns_on_while_demonstrations_come(algorithm, env, action, demo_fraction):
    dataset = record(lambda observation: np.asarray(action), env, 1)
    model = algorithm(
        "MlpPolicy",
        env,
        buffer_size=30,
        learning_starts=10,
        batch_size=8,
        train_freq=2,
        replay_buffer_class=DemoReplayBuffer,
        replay_buffer_kwargs={"demonstrations": dataset, "demo_fraction": demo_fraction, "n_steps": 3},
        policy_kwargs={"net_arch": [8]},
        seed=0,
        device="cpu",
    )
    model.learn(60, AddInTheMiddle(dataset, after=41))
    buffer = model.replay_buffer
    assert buffer.n_demonstrations == 2 * len(dataset)
    assert (buffer.n_filled, buffer.pos, buffer.full) == (buffer.n_rows, 0, True)
    n = len(dataset)
    for array in (buffer.storage.observations[""], buffer.storage.actions, buffer.storage.rewards):
        np.testing.assert_array_equal(array[:n], array[n : 2 * n])
    # The ring's order: each transition goes on where the one before it stopped, but at the head and between episodes
    rows = np.arange(2 * n, buffer.n_filled - 1)
    goes_on = ~buffer.storage.ended[rows]
    assert goes_on.sum() > 20
    before, after = buffer.storage.next_observations[""][rows], buffer.storage.observations[""][rows + 1]
    np.testing.assert_array_equal(before[goes_on], after[goes_on])
