"""Arguments that several commands have in common."""

import argparse
import ast
import importlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# Besides numbers, lists of them: argparse takes what begins with a minus for an option otherwise
_NEGATIVE_NUMBERS = re.compile(r"^-[\d.][\d.,eE+-]*$")
_WORDS = {"true": True, "false": False, "none": None}
_PICKING = ("n_episodes", "seed", "min_return", "successful_only")


def add_source_options(parser: argparse.ArgumentParser) -> None:
    """
    What is made of demonstrations when they are read: the options of ``Demonstrations.load``.

    :param parser: Where to add them
    """
    parser._negative_number_matcher = _NEGATIVE_NUMBERS
    group = parser.add_argument_group("what to make of them")
    group.add_argument("--episodes", dest="n_episodes", type=int, metavar="N", help="keep N: the first, or with --seed random")
    group.add_argument("--seed", type=int, help="of random choices")
    group.add_argument("--min-return", type=float, metavar="R", help="keep episodes with this return or more")
    group.add_argument("--successful-only", action="store_true", default=None, help="keep episodes that solved the task")
    group.add_argument(
        "--action-low", type=_numbers, metavar="LOW", help="actions are in [-1, 1]: the environment's bound, or LOW,LOW,..."
    )
    group.add_argument("--action-high", type=_numbers, metavar="HIGH", help="its upper bound")
    group.add_argument(
        "--done-means", choices=("truncated", "terminated"), help="what the end of an episode is in this source"
    )
    group.add_argument(
        "--observation-keys",
        type=_keys,
        metavar="KEYS",
        help="of Dict observations: KEY alone, some (A,B), or under new names (NEW=A,OTHER=B)",
    )
    group.add_argument("--flatten-observations", action="store_true", default=None, help="join the keys to one vector")
    group.add_argument(
        "--option",
        type=named_value,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="repeatable: what the format needs to be told, e.g. mask=train or trusted=true: see docs/formats.md",
    )


def source_options(args: argparse.Namespace) -> dict[str, Any]:
    """
    :param args: With the options of :func:`add_source_options`
    :return: The arguments of ``Demonstrations.load`` that were given
    """
    names = (*_PICKING, "action_low", "action_high", "done_means", "observation_keys", "flatten_observations")
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    return {**dict(args.option), **given}


def picking_options(args: argparse.Namespace) -> dict[str, Any]:
    """:return: Those of :func:`source_options` that choose episodes"""
    return {name: value for name, value in source_options(args).items() if name in _PICKING}


def add_environment_options(parser: argparse.ArgumentParser, required: bool = False) -> None:
    """
    Which environment, in the words of the RL Zoo.

    :param parser: Where to add them
    :param required: Whether there are no demonstrations that could name it
    """
    explained = "the environment" if required else "the environment, if the demonstrations do not say or it has moved"
    parser.add_argument("--env", metavar="ID", required=required, help=explained)
    parser.add_argument(
        "--env-kwargs",
        type=named_value,
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=VALUE",
        help="its arguments, e.g. max_episode_steps=500",
    )
    parser.add_argument(
        "--gym-packages", nargs="+", action="extend", default=[], metavar="PACKAGE", help="import them: they register it"
    )


def import_packages(names: Sequence[str]) -> None:
    """
    :param names: Packages that register environments when they are imported
    :raises ImportError: If one is not installed
    """
    for name in names:
        importlib.import_module(name)


def named_value(text: str) -> tuple[str, Any]:
    """
    :param text: ``name=value`` or, as the RL Zoo has it, ``name:value``
    :return: Both; the value as Python reads it, and as text if it does not
    :raises argparse.ArgumentTypeError: If it is something else
    """
    match = re.fullmatch(r"(\w+)[=:](.*)", text, re.DOTALL)
    if match is None:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected name=value")
    name, value = match.groups()
    if value.lower() in _WORDS:
        return name, _WORDS[value.lower()]
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return name, value


def picture_path(text: str) -> Path:
    """:return: The path of a picture or video"""
    return Path(text).expanduser()


def _numbers(text: str) -> float | list[float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a number, or several with commas between them") from None
    return numbers[0] if len(numbers) == 1 else numbers


def _keys(text: str) -> str | list[str] | Mapping[str, str]:
    parts = text.split(",")
    if "=" not in text:
        return parts if len(parts) > 1 else text
    pairs = [part.split("=") for part in parts]
    if any(len(pair) != 2 for pair in pairs):
        raise argparse.ArgumentTypeError(f"found {text!r}, expected NEW=OLD for every key, with commas between them")
    return {new: old for new, old in pairs}
