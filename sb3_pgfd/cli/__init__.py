"""The command ``sb3-pgfd``."""

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import version

from sb3_pgfd.cli import compare, edit, record, show, study
from sb3_pgfd.comparison import ComparisonError
from sb3_pgfd.demonstrations import DemonstrationsError
from sb3_pgfd.zoo import commands as zoo
from sb3_pgfd.zoo.command_line import CommandError, explain, print_warnings_plainly, stop_writing


def make_parser() -> argparse.ArgumentParser:
    """:return: The parser of all commands; each sets ``run`` to a function of the parsed arguments"""
    parser = argparse.ArgumentParser(
        prog="sb3-pgfd", description="Learn control from demonstrations with Stable-Baselines3 and the RL Zoo."
    )
    parser.add_argument("--version", action="version", version=f"sb3-pgfd {version('sb3-pgfd')}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    demos = commands.add_parser("demos", help="show, record, convert, merge, filter and split demonstrations")
    subcommands = demos.add_subparsers(dest="demos_command", required=True, metavar="subcommand")
    show.add_parser(subcommands)
    record.add_parser(subcommands)
    edit.add_parsers(subcommands)
    compare.add_parser(commands)
    study.add_parser(commands)
    # Only for --help: the RL Zoo parses the arguments of these commands
    for name, description in zoo.COMMANDS.items():
        commands.add_parser(name, help=description, add_help=False)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """
    :param arguments: Arguments of the command, by default those of the command line
    :return: 0, or 1 after an error, which is printed on standard error
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments and arguments[0] in zoo.COMMANDS:
        return zoo.main(arguments[0], arguments[1:], f"sb3-pgfd {arguments[0]}")
    print_warnings_plainly()
    args = make_parser().parse_args(arguments)
    try:
        args.run(args)
        sys.stdout.flush()
    except BrokenPipeError:
        stop_writing()
        return 1
    except (CommandError, ComparisonError, DemonstrationsError, OSError, ImportError) as error:
        print(f"sb3-pgfd: {explain(error) or error}", file=sys.stderr)
        return 1
    return 0
