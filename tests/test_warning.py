"""Warnings that name the user's line."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import stable_baselines3

import sb3_pgfd
from sb3_pgfd.utils.warning import OptionWarning, warn_user


def in_file_of(package: Any, call: Any) -> Any:
    """:return: A function that is defined in a file of the package and makes the call"""
    names = {"call": call}
    file = Path(package.__file__).parent / "folder" / "module.py"
    exec(compile("def function(*args): call(*args)", str(file), "exec"), names)
    return names["function"]


@pytest.mark.parametrize("between", [[], [sb3_pgfd], [stable_baselines3, gym, sb3_pgfd, stable_baselines3]])
def test_the_line_that_called_the_package(between: list[Any]) -> None:
    function = in_file_of(sb3_pgfd, warn_user)
    for package in between:
        function = in_file_of(package, function)
    with pytest.warns(OptionWarning, match="found 1, expected 2") as caught:
        function("found 1, expected 2", OptionWarning)
    assert Path(__file__).read_text().splitlines()[caught[0].lineno - 1].strip() == (
        'function("found 1, expected 2", OptionWarning)'
    )
    assert caught[0].filename == __file__


def test_a_function_of_the_user_between_two_of_the_package_is_named() -> None:
    def wrapper() -> None:
        in_file_of(sb3_pgfd, warn_user)("found 1, expected 2")

    with pytest.warns(UserWarning, match="found 1, expected 2") as caught:
        in_file_of(sb3_pgfd, wrapper)()
    assert caught[0].lineno == wrapper.__code__.co_firstlineno + 1
