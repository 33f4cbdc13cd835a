"""Demonstrations that join a buffer in use."""

import time
import tracemalloc
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from naive_buffer import (
    ACTION_SPACE,
    STATE_SPACE,
    as_expected,
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
from sb3_pgfd.replay import DemoReplayBuffer
from sb3_pgfd.replay.storage import TransitionStore

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
    """Every written row of both stores, with its weight."""
    return {**_contents("ring", buffer.ring), **_contents("demonstrations", buffer.demonstrations)}


def _contents(name: str, store: TransitionStore) -> dict[str, np.ndarray]:
    # Without the numbers of frames, which depend on the order in which they came
    columns = {f"{name} {key}": column[: store.size] for key, column in store.columns.items() if "frames/" not in key}
    columns |= {f"{name} {key}": column for key, column in store.take(np.arange(store.size)).items()}
    return {**columns, f"{name} weights": store.tree.weights[: store.size]}


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
    assert grown.n_demonstrations == grown.n_given == expected.n_given == 6
    assert (grown.pos, grown.full, grown.n_own) == (expected.pos, expected.full, expected.n_own)
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
    assert set(buffer.rows(buffer.sample_batch(50, demos_only=True).indices)) == set(range(5))


def test_a_path_is_taken_like_by_the_constructor(tmp_path):
    buffer = state_buffer(4)
    buffer.add_demonstrations(five_demos().save(tmp_path / "five.npz"))
    buffer.add_demonstrations(str(tmp_path / "five.npz"))
    assert buffer.n_demonstrations == 10


# --- Nothing moves ---------------------------------------------------------------------------------------------------


def test_rows_drawn_before_stay_valid_when_the_store_grows():
    buffer = state_buffer(10, demonstrations=five_demos(), priority_exponent=1.0)
    play(buffer, "-" * 7)
    batch = buffer.sample_batch(40)
    before = as_expected(buffer.read(buffer.rows(batch.indices)))
    n_rows = buffer.demonstrations.n_rows
    for _ in range(5):
        buffer.add_demonstrations(five_demos())
    assert buffer.demonstrations.n_rows > n_rows
    assert as_expected(buffer.read(buffer.rows(batch.indices))) == before
    # The priority of an old index reaches the old row
    errors = np.linspace(2.0, 3.0, 40)
    buffer.update_priorities(batch.indices, errors)
    last = dict(zip(batch.indices.tolist(), errors, strict=True))
    for index, priority in last.items():
        assert buffer.priorities[index] == pytest.approx(priority)


def test_the_ring_is_not_touched():
    buffer = state_buffer(10, demonstrations=five_demos())
    play(buffer, "-" * 13)
    columns, tree = dict(buffer.ring.columns), buffer.ring.tree
    before = {name: column.copy() for name, column in columns.items()}
    for _ in range(9):
        buffer.add_demonstrations(five_demos())
    assert buffer.ring.tree is tree
    for name, column in columns.items():
        assert buffer.ring.columns[name] is column
        np.testing.assert_array_equal(column, before[name])


def test_an_episode_costs_what_it_holds_not_what_the_buffer_holds():
    small, large = (
        DemoReplayBuffer(
            size,
            spaces.Box(-1, 1, (20,)),
            ACTION_SPACE,
            device="cpu",
            demonstrations=single_episode(np.zeros((size + 1, 20), np.float32), np.zeros((size, 1), np.float32)),
        )
        for size in (1000, 300_000)
    )
    episode = single_episode(np.zeros((51, 20), np.float32), np.zeros((50, 1), np.float32))
    seconds = []
    for buffer in (small, large):
        samples = []
        for _ in range(15):
            start = time.process_time()
            buffer.add_demonstrations(episode)
            samples.append(time.process_time() - start)
        seconds.append(np.median(samples))
    # Copying 300,000 rows of 168 bytes would take a hundred times as long
    assert seconds[1] < 5 * seconds[0]


# --- Sampling --------------------------------------------------------------------------------------------------------


def test_new_demonstrations_get_the_largest_priority_and_are_drawn_by_it():
    buffer = state_buffer(10, demonstrations=five_demos(), priority_exponent=1.0)
    play(buffer, "-----")
    # Ten rows weigh 90 together, then five more weigh 90 too
    buffer.set_priorities(np.arange(10), np.array([18.0, 8, 8, 8, 8, 8, 8, 8, 8, 8]))
    buffer.add_demonstrations(five_demos())
    priorities = buffer.priorities_of(range(15))
    assert priorities.tolist() == pytest.approx([18, *[8] * 4, *[18] * 5, *[8] * 5])
    drawn = np.bincount(buffer.rows(buffer.sample_batch(1800).indices), minlength=15)
    # Stratified: each row gets its share of 10 per unit of weight, but for the draws at its two borders
    np.testing.assert_allclose(drawn, 10 * priorities, atol=2)


def test_a_fixed_share_of_demonstrations_is_drawn_from_old_and_new_ones():
    buffer = state_buffer(10, demonstrations=five_demos(), demo_fraction=0.5)
    play(buffer, "-----")
    buffer.add_demonstrations(five_demos())
    rows = buffer.rows(buffer.sample_batch(400).indices)
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
def test_adding_takes_the_memory_of_the_demonstrations_not_of_a_second_buffer(observation_dim):
    dataset = single_episode(np.zeros((1001, observation_dim), np.float32), np.zeros((1000, 1), np.float32))
    tracemalloc.start()
    buffer = DemoReplayBuffer(100_000, spaces.Box(-1, 1, (observation_dim,)), ACTION_SPACE, device="cpu")
    before, _ = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    buffer.add_demonstrations(dataset)
    after, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    row = buffer.demonstrations.nbytes / buffer.demonstrations.n_rows
    assert before > 100_000 * (2 * observation_dim * 4 + 4 + 4 + 2 + 8)
    assert buffer.demonstrations.n_rows == 2000
    # Twice the rows, for those that come next; while they are written, some copies of the thousand
    assert after - before < 2000 * row + 20_000
    assert peak - after < 5 * 1000 * row + 20_000


# --- Refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (single_episode(np.zeros((2, 2)), np.zeros((1, 1))), r"observations: found shape \(2,\) per step, expected \(1,\)"),
        (single_episode(np.zeros((2, 1)), np.full((1, 1), 1.5)), "found 1.5, expected a value in"),
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
    assert (buffer.n_own, buffer.pos, buffer.full) == (buffer.ring.n_rows, 0, True)
    n = len(dataset)
    for name in ("observations/", "actions", "rewards"):
        column = buffer.demonstrations.columns[name]
        np.testing.assert_array_equal(column[:n], column[n : 2 * n])
    # The ring's order: each transition goes on where the one before it stopped, but at the head and between episodes
    ring = buffer.ring.columns
    goes_on = ring["steps_left"][:-1] > 0
    assert goes_on.sum() > 20
    np.testing.assert_array_equal(ring["next_observations/"][:-1][goes_on], ring["observations/"][1:][goes_on])


def test_without_the_handling_of_time_limits_they_are_terminal_in_demonstrations_too():
    """The same time limit would be bootstrapped in one half of a batch and not in the other."""
    demonstrations = five_demos()
    assert demonstrations.truncated.any()
    buffer = state_buffer(10, demonstrations=demonstrations, handle_timeout_termination=False)
    ends = demonstrations.terminated | demonstrations.truncated
    buffer._read_demonstrations()
    np.testing.assert_array_equal(buffer.demonstrations.columns["terminated"][: len(ends)], ends)
