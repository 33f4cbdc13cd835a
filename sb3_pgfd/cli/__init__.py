"""The command ``sb3-pgfd``."""

import argparse
import sys
from collections.abc import Sequence

from sb3_pgfd.cli import compare, demos
from sb3_pgfd.comparison import ComparisonError
from sb3_pgfd.demonstrations import DemonstrationsError
from sb3_pgfd.zoo import commands as zoo
from sb3_pgfd.zoo.errors import explain, stop_writing


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sb3-pgfd", description="Learning control from demonstrations.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    demos.add_parser(commands)
    compare.add_parser(commands)
    # Listed only: the RL Zoo reads their arguments
    for name, command in zoo.COMMANDS.items():
        commands.add_parser(name, help=f"the RL Zoo's: {command.arguments.description}", add_help=False)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """
    :param arguments: By default the command line's
    :return: 0, or 1 if it could not be done; what was found and what was expected is on standard error
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments and arguments[0] in zoo.COMMANDS:
        return zoo.main(arguments[0], arguments[1:], f"sb3-pgfd {arguments[0]}")
    args = make_parser().parse_args(arguments)
    try:
        args.run(args)
        sys.stdout.flush()
    except BrokenPipeError:
        stop_writing()
        return 1
    except (ComparisonError, DemonstrationsError, OSError, ImportError) as error:
        print(f"sb3-pgfd: {explain(error) or error}", file=sys.stderr)
        return 1
    return 0
