"""
Make the packaged demonstrations: scripted experts, made worse on purpose, then recorded.

    python -m demos.make_demos                            # writes demos/*.npz
    python -m demos.make_demos FetchReach-v4 Reacher-v5   # these alone
    python -m demos.make_demos --check                    # fails if the files in demos/ are not what this script makes

What ``--check`` promises: on the machine and with the versions that a file was made with, it is made again to the last bit
of its actions. Another MuJoCo or Box2D, which the file names, may simulate something else, and another processor differs in
the last bits. Where bodies hit each other that grows until an episode takes another course, although nothing is wrong; such
recipes are marked as chaotic. For them, and for other versions, as many episodes, as many successes and about the same return
are enough.
"""

import argparse
from contextlib import closing
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import gymnasium as gym
import numpy as np

from demos.recipes import RECIPES, Recipe
from sb3_pgfd.demonstrations import Demonstrations, record
from sb3_pgfd.demonstrations.arrays import map_observations
from sb3_pgfd.demonstrations.validation import as_dict

DEMOS = Path(__file__).parent
UNNAMED = {"mujoco": "3.11.0", "box2d": "2.3.10"}
"""Versions that the older files were made with, which do not name them"""


def make(recipe: Recipe) -> Demonstrations:
    """:param recipe: What to record"""
    with closing(gym.make(recipe.env_id, **recipe.env_kwargs)) as env:
        demonstrations = record(
            recipe.worsen(recipe.expert(env)),
            env,
            recipe.n_recorded or recipe.n_episodes,
            seed=recipe.seed,
            action_noise=recipe.action_noise,
            successes_only=recipe.successes_only,
            producer=recipe.producer,
        )
    if recipe.worth is not None:
        best = np.argsort(-recipe.worth(demonstrations), kind="stable")[: recipe.n_episodes]
        demonstrations = demonstrations.select(np.sort(best))
    if recipe.physics is not None:
        versions = {**demonstrations.metadata["versions"], recipe.physics: version(recipe.physics)}
        demonstrations = replace(demonstrations, metadata={**demonstrations.metadata, "versions": versions})
    return compact(demonstrations, recipe.observation_bits) if recipe.observation_bits else demonstrations


def compact(demonstrations: Demonstrations, bits: int) -> Demonstrations:
    """
    :param demonstrations: Long ones
    :param bits: Significant ones of each observation that are kept: with 14 the error is below 0.01 % of the value
    :return: The same with observations that compress well: what is cut off is 0, and each component lies in one piece
    """

    def smaller(array: np.ndarray) -> np.ndarray:
        mantissa, exponent = np.frexp(array)
        return np.asfortranarray(np.ldexp(np.round(mantissa * 2**bits) / 2**bits, exponent).astype(array.dtype))

    return replace(
        demonstrations,
        observations=map_observations(demonstrations.observations, smaller),
        next_observations=map_observations(demonstrations.next_observations, smaller),
    )


def check(recipe: Recipe, made: Demonstrations, stored: Demonstrations) -> str:
    """
    :param recipe: Of both
    :param made: Just now
    :param stored: In the file
    :return: What was found
    :raises SystemExit: If the recipe does not make such a file
    """
    different = differences(made, stored)
    if not different:
        return "the same"
    # Of two samples of the same expert the means differ by more than four standard errors once in 10,000 times
    error = np.sqrt(sum(data.episode_returns.var() / data.n_episodes for data in (made, stored)))
    alike = (
        made.n_episodes == stored.n_episodes
        and made.metadata["success_rate"] == stored.metadata["success_rate"]
        and abs(made.episode_returns.mean() - stored.episode_returns.mean()) <= 4 * error
    )
    found, expected = (physics_of(recipe, data) for data in (made, stored))
    if not (alike and (recipe.chaotic or found != expected)):
        raise SystemExit(f"{recipe.name}: found {made} with other {', '.join(different)}, expected {stored}: make it again")
    return "other episodes, as good" + (f" (found {found}, made with {expected})" if found != expected else "")


def physics_of(recipe: Recipe, data: Demonstrations) -> str | None:
    """
    :param recipe: Of the demonstrations
    :param data: Made just now, or in the file
    :return: What simulated them, and its version
    """
    if recipe.physics is None:
        return None
    named = data.metadata.get("versions", {})
    return f"{recipe.physics} {named.get(recipe.physics, UNNAMED[recipe.physics])}"


def differences(made: Demonstrations, stored: Demonstrations) -> list[str]:
    """:return: Names of the arrays that are not the same, but for rounding"""
    names = ("observations", "actions", "rewards", "episode_lengths")
    found, expected = (
        {k: v for name in names for k, v in as_dict(getattr(data, name), name).items()} for data in (made, stored)
    )
    if list(found) != list(expected):
        return ["keys"]
    return [
        name
        for name, array in expected.items()
        if found[name].shape != array.shape or not np.allclose(found[name], array, rtol=1e-5, atol=1e-5)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="files to make, without .npz; all if none is named")
    parser.add_argument("--check", action="store_true", help="compare with the files instead of writing them")
    args = parser.parse_args()
    known = {recipe.name: recipe for recipe in RECIPES}
    unknown = sorted(set(args.names) - set(known))
    if unknown:
        parser.error(f"found the name {unknown[0]!r}, expected some of {', '.join(known)}")
    for name in args.names or known:
        demonstrations, path = make(known[name]), DEMOS / f"{name}.npz"
        if args.check:
            print(f"{path.name}: {check(known[name], demonstrations, Demonstrations.load(path))}", flush=True)
        else:
            demonstrations.save(path, overwrite=True)
            returns = np.round(demonstrations.episode_returns, 1).tolist()
            print(f"{path.name}: {demonstrations}, returns {returns}", flush=True)


if __name__ == "__main__":
    main()
