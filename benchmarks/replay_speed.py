"""
Time and memory of the replay buffer.

    python -m benchmarks.replay_speed

1. Prioritised replay alone, as the buffer grows: what one update and one environment step ask of the priorities. That is to
   draw 256 rows, compute their importance weights, write 256 new priorities and insert one row. Sizes take turns.
2. A whole batch of 256 with 5-step returns, and the update of its priorities, at 1,000,000 rows.
3. Adding 100 episodes of 50 steps, one by one, to a buffer that holds 1,000,000 demonstrations of 60-dimensional observations.
4. Memory of a stored transition.

Everything runs on one thread.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch as th
from gymnasium import spaces

from sb3_pgfd import Demonstrations
from sb3_pgfd.demonstrations import Episode
from sb3_pgfd.replay import DemoReplayBuffer
from sb3_pgfd.replay.priorities import importance_weights
from sb3_pgfd.replay.samples import draw_by_priority
from sb3_pgfd.replay.sum_tree import machine_code

BATCH_SIZE, N_STEPS = 256, 5
SIZES = (100_000, 1_000_000, 10_000_000)
MILLION = 1_000_000
N_DEMONSTRATIONS = 10_000
MAX_MICROSECONDS, MAX_GROWTH, MAX_MILLISECONDS = 130.0, 2.0, 5.0


def make_episodes(n_episodes: int, length: int, obs_dim: int, action_dim: int, rng: np.random.Generator) -> list[Episode]:
    """
    :param n_episodes: Number of episodes
    :param length: Steps of each
    :param obs_dim: Size of an observation
    :param action_dim: Size of an action
    :param rng: Source of random numbers
    """
    return [
        Episode(
            observations=rng.uniform(-1.0, 1.0, (length + 1, obs_dim)).astype(np.float32),
            actions=rng.uniform(-1.0, 1.0, (length, action_dim)).astype(np.float32),
            rewards=np.zeros(length, dtype=np.float32),
            terminated=True,
        )
        for _ in range(n_episodes)
    ]


def make_buffer(size: int, n_demos: int, obs_dim: int, action_dim: int, rng: np.random.Generator) -> DemoReplayBuffer:
    """
    :param size: Number of the agent's own transitions; they fill the buffer
    :param n_demos: Number of demonstrations, in episodes of 1,000 steps
    :param obs_dim: Size of an observation
    :param action_dim: Size of an action
    :param rng: Source of random numbers
    :return: A buffer in which no two priorities are the same
    """
    # Many environments fill it in few steps
    n_envs = min(size, 1_000)
    box = spaces.Box(-1.0, 1.0, (obs_dim,)), spaces.Box(-1.0, 1.0, (action_dim,))
    demonstrations = Demonstrations.from_episodes(make_episodes(n_demos // 1_000, 1_000, obs_dim, action_dim, rng))
    buffer = DemoReplayBuffer(size, *box, device="cpu", n_envs=n_envs, n_steps=N_STEPS, demonstrations=demonstrations)
    for step in range(size // n_envs):
        observation, next_observation = rng.uniform(-1.0, 1.0, (2, n_envs, obs_dim)).astype(np.float32)
        action = rng.uniform(-1.0, 1.0, (n_envs, action_dim)).astype(np.float32)
        done = np.full(n_envs, step % 50 == 49)
        buffer.add(observation, next_observation, action, np.zeros(n_envs), done, [{}] * n_envs)
    indices = np.arange(size + n_demos)
    buffer.update_priorities(indices, rng.random(len(indices)))
    return buffer


def median_microseconds(
    operations: dict[str, Callable[[np.ndarray], None]], repetitions: int, rng: np.random.Generator
) -> dict[str, float]:
    """
    :param operations: Operations to time, each with 256 errors as its argument
    :param repetitions: Number of repetitions
    :param rng: Source of random numbers
    :return: Median time of each
    """
    seconds: dict[str, list[float]] = {name: [] for name in operations}
    # In blocks: in practice one buffer is used alone and keeps its own data in the processor's cache
    for block in range(repetitions // 100 + 1):
        for name, operation in operations.items():
            for _ in range(100):
                errors = rng.random(BATCH_SIZE)
                start = time.perf_counter()
                operation(errors)
                # The first block warms up
                if block > 0:
                    seconds[name].append(time.perf_counter() - start)
    return {name: 1e6 * float(np.median(values)) for name, values in seconds.items()}


def priority_operation(buffer: DemoReplayBuffer) -> Callable[[np.ndarray], None]:
    """:return: What one update and one step ask of the priorities, given 256 errors"""
    demonstrations, ring = buffer.demonstrations.tree, buffer.ring.tree

    def operate(errors: np.ndarray) -> None:
        (rows, n_demos), _ = draw_by_priority(1, BATCH_SIZE, demonstrations, ring)
        leaves = demonstrations.weights.take(rows[:n_demos]), ring.weights.take(rows[n_demos:])
        importance_weights(np.concatenate(leaves), 1.0)
        rows[:n_demos] += buffer.ring.n_rows
        buffer.update_priorities(rows, errors)
        ring.update(rows[-1:], 1.0, check=False)

    return operate


def batch_operations(buffer: DemoReplayBuffer) -> dict[str, Callable[[np.ndarray], None]]:
    """:return: Drawing a batch, and updating its priorities, given 256 errors"""
    last = buffer.sample_batch(BATCH_SIZE).indices

    def draw(errors: np.ndarray) -> None:
        nonlocal last
        last = buffer.sample_batch(BATCH_SIZE).indices

    def update(errors: np.ndarray) -> None:
        buffer.update_priorities(last, errors)

    return {"sample_batch": draw, "update_priorities": update}


def time_additions(rng: np.random.Generator, n_additions: int = 100) -> np.ndarray:
    """:return: Milliseconds of each addition of 50 steps to 1,000,000 demonstrations of 60-dimensional observations"""
    buffer = make_buffer(1_000, MILLION, 60, 7, rng)
    datasets = [Demonstrations.from_episodes([episode]) for episode in make_episodes(n_additions, 50, 60, 7, rng)]
    milliseconds = []
    for dataset in datasets:
        start = time.perf_counter()
        buffer.add_demonstrations(dataset)
        milliseconds.append(1e3 * (time.perf_counter() - start))
    assert buffer.n_demonstrations == MILLION + 50 * n_additions
    return np.array(milliseconds)


def memory(buffer: DemoReplayBuffer) -> list[tuple[str, float]]:
    """:return: Bytes per row of each part of the agent's own transitions"""
    ring = buffer.ring
    parts = [(name, column.nbytes) for name, column in ring.columns.items()]
    parts += [("priority", 8 * ring.n_rows), ("sums of priorities", ring.tree.nbytes - 8 * ring.n_rows), ("all", ring.nbytes)]
    return [(name, nbytes / ring.n_rows) for name, nbytes in parts]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=3000)
    args = parser.parse_args()
    th.set_num_threads(1)
    rng = np.random.default_rng(0)

    buffers = {f"{size:,}": make_buffer(size, N_DEMONSTRATIONS, 1, 1, rng) for size in SIZES}
    operations = {label: priority_operation(buffer) for label, buffer in buffers.items()}
    times = median_microseconds(operations, args.repetitions, rng)
    print(f"The loops of the sum tree are {'NumPy' if machine_code() is None else 'machine code'}")
    print(f"{'rows':>12}{'draw, weigh, update, insert':>32}")
    for label, value in times.items():
        print(f"{label:>12}{value:>29.0f} us")
    print(f"1,000,000 rows: {times[f'{MILLION:,}']:.0f} us (target <= {MAX_MICROSECONDS:g})")
    smallest, largest = times[f"{SIZES[0]:,}"], times[f"{SIZES[-1]:,}"]
    print(f"{SIZES[0]:,} to {SIZES[-1]:,} rows: {largest / smallest:.2f} x (target <= {MAX_GROWTH:g})")
    del buffers, operations

    print("\n1,000,000 rows, observations of 30 and actions of 7 numbers, batch of 256, 5-step returns")
    buffer = make_buffer(MILLION, N_DEMONSTRATIONS, 30, 7, rng)
    for name, value in median_microseconds(batch_operations(buffer), args.repetitions, rng).items():
        print(f"{name:<20}{value:>10.0f} us")

    print("\nBytes per row of the same buffer")
    for name, nbytes in memory(buffer):
        print(f"{name:<20}{nbytes:>10.3f}")
    del buffer

    additions = time_additions(rng)
    print(f"\nAdding {len(additions)} episodes of 50 steps to 1,000,000 demonstrations of 60-dimensional observations, each:")
    print(
        f"median {np.median(additions):.2f} ms, 95th percentile {np.percentile(additions, 95):.2f} ms, "
        f"worst {additions.max():.2f} ms (target <= {MAX_MILLISECONDS:g})"
    )


if __name__ == "__main__":
    main()
