"""How exactly an environment of today must begin as a packaged file does."""

from importlib.metadata import version

from demos.make_demos import physics_of
from demos.recipes import RECIPES
from sb3_pgfd import Demonstrations


def start_tolerance(name: str) -> float:
    """
    :param name: Of packaged demonstrations
    :return: Absolute tolerance of their first observations: with another MuJoCo than the file's, what settles before an
        episode begins does so elsewhere, a Fetch task's arm and block by up to 2 cm
    """
    recipe = next(recipe for recipe in RECIPES if recipe.name == name)
    installed = None if recipe.physics is None else f"{recipe.physics} {version(recipe.physics)}"
    return 1e-6 if physics_of(recipe, Demonstrations.load(name)) == installed else 0.03
