"""
How good the scripted experts are: 100 episodes each, with and without action noise.

    python -m demos.measure_experts                  # prints a table, writes benchmarks/results/experts.csv
    python -m demos.measure_experts FetchReach-v4    # this one alone, without writing
"""

import argparse
import csv
from contextlib import closing
from pathlib import Path

import gymnasium as gym
import numpy as np

from demos.recipes import RECIPES, Recipe
from sb3_pgfd.cli.output import table
from sb3_pgfd.demonstrations import record
from sb3_pgfd.utils.files import write_whole

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results" / "experts.csv"
NOISES = (0.0, 0.1, 0.2)
# Other episodes than the packaged ones, whose seeds begin at 0
SEED = 10_000


def measure(recipe: Recipe, action_noise: float, n_episodes: int) -> dict[str, str]:
    """
    :param recipe: Which expert and environment
    :param action_noise: Standard deviation, in units of half the action range
    :param n_episodes: How many; failures count
    :return: A row of the table
    """
    with closing(gym.make(recipe.env_id, **recipe.env_kwargs)) as env:
        episodes = record(recipe.expert(env), env, n_episodes, seed=SEED, action_noise=action_noise)
    returns, lengths = episodes.episode_returns, episodes.episode_lengths
    return {
        "environment": recipe.env_id,
        "action noise": f"{action_noise:g}",
        "success": "-" if episodes.successes is None else f"{episodes.successes.mean():.2f}",
        "mean return": f"{returns.mean():.2f}",
        "std": f"{returns.std():.2f}",
        "min": f"{returns.min():.2f}",
        "median": f"{np.median(returns):.2f}",
        # Without the sign of -0
        "max": f"{returns.max() + 0.0:.2f}",
        "mean length": f"{lengths.mean():.1f}",
    }


def main() -> None:
    # One recipe of each environment and its expert
    by_env = {recipe.env_id: recipe for recipe in RECIPES}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("environments", nargs="*", metavar="ENV", help="ids; all if none is named")
    parser.add_argument("--episodes", type=int, default=100)
    args = parser.parse_args()
    unknown = sorted(set(args.environments) - set(by_env))
    if unknown:
        parser.error(f"found the environment {unknown[0]!r}, expected one of {', '.join(by_env)}")
    rows = [measure(by_env[name], noise, args.episodes) for name in args.environments or by_env for noise in NOISES]
    print("\n".join(table([list(rows[0]), *(list(row.values()) for row in rows)], left=[0])))
    if not args.environments:
        with write_whole(RESULTS, overwrite=True) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
