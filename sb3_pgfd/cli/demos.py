"""``sb3-pgfd demos ...``: one module for each subcommand."""

import argparse
from typing import Any

from sb3_pgfd.cli import convert, filter, merge, record, show, split

# Each has `add_parser(subparsers)`, which sets `run` to a function of the parsed arguments
_COMMANDS: tuple[Any, ...] = (show, record, convert, merge, filter, split)


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """:param commands: Where to add ``demos`` with its subcommands"""
    parser = commands.add_parser("demos", help="look at demonstrations, record, convert, merge, filter and split them")
    subcommands = parser.add_subparsers(dest="demos_command", required=True, metavar="subcommand")
    for command in _COMMANDS:
        command.add_parser(subcommands)
