"""Arguments that several commands share."""

import argparse
import ast
import re
from typing import Any

SOURCE = "a file, a folder, the name of packaged demonstrations or minari:ID"
OUTPUT = "a file, or minari:ID"
_WORDS = {"true": True, "false": False, "none": None}
_CHOICE = ("n_episodes", "seed", "min_return", "successful_only")
_CHANGES = ("action_low", "action_high", "done_means", "observation_keys", "flatten_observations")


def add_load_options(parser: argparse.ArgumentParser) -> None:
    """:param parser: Parser that gets the options of ``Demonstrations.load``"""
    # argparse takes everything else that begins with a minus for an option, also a list of numbers
    parser._negative_number_matcher = re.compile(r"^-[\d.][\d.,eE+-]*$")
    group = parser.add_argument_group("choice of episodes, and changes while loading")
    group.add_argument("--episodes", dest="n_episodes", type=int, metavar="N", help="keep N: the first, or with --seed random")
    group.add_argument("--seed", type=int, help="seed of random choices")
    group.add_argument("--min-return", type=float, metavar="R", help="keep episodes with this return or more")
    group.add_argument("--successful-only", action="store_true", default=None, help="keep episodes that solved the task")
    group.add_argument(
        "--action-low", type=_numbers, metavar="LOW", help="the environment's lower bound, for actions in [-1, 1]"
    )
    group.add_argument("--action-high", type=_numbers, metavar="HIGH", help="the environment's upper bound")
    group.add_argument("--done-means", choices=("truncated", "terminated"), help="meaning of the end of an episode")
    keys = "keys of Dict observations: one alone, some (A,B), or with new names (NEW=A,OTHER=B)"
    group.add_argument("--observation-keys", type=_keys, metavar="KEYS", help=keys)
    group.add_argument("--flatten-observations", action="store_true", default=None, help="join the keys to one vector")
    option = "option of the format, repeatable, e.g. mask=train or trusted=true: see docs/formats.md"
    group.add_argument("--option", type=named_value, action="append", default=[], metavar="NAME=VALUE", help=option)


def load_options(args: argparse.Namespace, choice: bool = True, changes: bool = True) -> dict[str, Any]:
    """:return: The options of ``Demonstrations.load`` that were given, to choose episodes and to change steps"""
    names = (*(_CHOICE if choice else ()), *(_CHANGES if changes else ()))
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    return {**(dict(args.option) if changes else {}), **given}


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """:param parser: Parser that gets the options for writing demonstrations"""
    parser.add_argument("--format", choices=("npz", "minari"), help="default: npz; minari for minari:ID")
    parser.add_argument("--force", action="store_true", help="replace existing files")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def add_environment_options(parser: argparse.ArgumentParser, required: bool = False) -> None:
    """Add the options of an environment, which are named as in the RL Zoo."""
    text = "environment" if required else "environment, if the demonstrations do not name it or it has a new name"
    parser.add_argument("--env", metavar="ID", required=required, help=text)
    several: dict[str, Any] = {"nargs": "+", "action": "extend", "default": []}
    text = "arguments of the environment, e.g. max_episode_steps=500"
    parser.add_argument("--env-kwargs", type=named_value, metavar="NAME=VALUE", help=text, **several)
    parser.add_argument("--gym-packages", metavar="PACKAGE", help="packages that register environments", **several)


def named_value(text: str) -> tuple[str, Any]:
    """:return: Name and value of ``name=value`` or, as in the RL Zoo, ``name:value``; no Python literal: text"""
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


def _numbers(text: str) -> float | list[float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a number, or several with commas between them") from None
    return numbers[0] if len(numbers) == 1 else numbers


def _keys(text: str) -> str | list[str] | dict[str, str]:
    parts = text.split(",")
    if "=" not in text:
        return parts if len(parts) > 1 else text
    if any(part.count("=") != 1 for part in parts):
        raise argparse.ArgumentTypeError(f"found {text!r}, expected NEW=OLD for every key, with commas between them")
    return {new: old for new, old in (part.split("=") for part in parts)}
