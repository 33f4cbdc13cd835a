"""
What prioritised sampling costs as the buffer grows.

    python benchmarks/sum_tree_speed.py

One operation is what one update and one environment step ask of the priorities: draw 256, compute their importance
weights, write 256 new priorities, insert one row. Sizes take turns; the median is printed. The last table shows what a
stored transition takes in memory.
"""

import argparse
import time

import numpy as np
import torch as th
from gymnasium import spaces

from sb3_pgfd.replay import DemoReplayBuffer, SumTree

BATCH_SIZE = 256
ALPHA, BETA = 0.3, 1.0
SIZES = (100_000, 1_000_000, 10_000_000)


def make_tree(size: int, rng: np.random.Generator) -> SumTree:
    """:param size: Rows, all in use"""
    tree = SumTree(size)
    tree.update(np.arange(size), rng.random(size) ** ALPHA)
    return tree


def operation(tree: SumTree, row: int, priorities: np.ndarray) -> None:
    """
    :param tree: To draw from and to update
    :param row: Where to insert
    :param priorities: The new priorities of what is drawn
    """
    indices = tree.sample(BATCH_SIZE)
    weights = (tree.capacity * tree.weights.take(indices) / tree.total) ** -BETA
    weights /= weights.max()
    tree.update(indices, priorities**ALPHA)
    tree.update(np.array([row]), 1.0)


def time_operations(repetitions: int) -> dict[int, float]:
    """:return: Median seconds by size"""
    rng = np.random.default_rng(0)
    trees = {size: make_tree(size, rng) for size in SIZES}
    seconds: dict[int, list[float]] = {size: [] for size in SIZES}
    # In blocks, as each size is used alone in practice and keeps its own data in the cache
    for block in range(repetitions // 100 + 1):
        for size, tree in trees.items():
            for k in range(100):
                priorities = rng.random(BATCH_SIZE) + 1e-6
                start = time.perf_counter()
                operation(tree, (100 * block + k) % size, priorities)
                if block > 0:
                    seconds[size].append(time.perf_counter() - start)
    return {size: float(np.median(values)) for size, values in seconds.items()}


def memory(size: int = 1_000_000) -> list[tuple[str, float]]:
    """:return: Bytes per row of each part, for observations of 30 and actions of 7 float32 numbers"""
    observation, action = spaces.Box(-1, 1, (30,)), spaces.Box(-1, 1, (7,))
    buffer = DemoReplayBuffer(size, observation, action, device="cpu")
    storage, tree = buffer.storage, buffer.tree
    parts = [
        ("observation", sum(array.nbytes for array in storage.observations.values())),
        ("next observation", sum(array.nbytes for array in storage.next_observations.values())),
        ("action", storage.actions.nbytes),
        ("reward", storage.rewards.nbytes),
        ("2 flags", storage.terminated.nbytes + storage.ended.nbytes),
        ("priority", 8 * tree.capacity),
        ("sums of priorities", tree.nbytes - 8 * tree.capacity),
        ("all, by nbytes", buffer.nbytes),
    ]
    return [(name, nbytes / size) for name, nbytes in parts]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=3000)
    args = parser.parse_args()
    th.set_num_threads(1)
    times = time_operations(args.repetitions)
    print(f"{'rows':>12}{'one operation':>16}")
    for size, seconds in times.items():
        print(f"{size:>12,}{seconds * 1e6:>13.0f} us")
    print(f"\n1,000,000 rows: {times[1_000_000] * 1e6:.0f} us (target <= 150)")
    print(f"100,000 to 10,000,000 rows: {times[10_000_000] / times[100_000]:.2f} x (target <= 2)")
    print("\nBytes per row, observations of 30 and actions of 7 float32 numbers")
    for name, nbytes in memory():
        print(f"{name:<20}{nbytes:>10.3f}")


if __name__ == "__main__":
    main()
