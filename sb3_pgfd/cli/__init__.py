"""The command ``sb3-pgfd``."""

import argparse
import os
import sys
from collections.abc import Sequence

from sb3_pgfd.cli import demos
from sb3_pgfd.demonstrations import DemonstrationsError


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sb3-pgfd", description="Learning control from demonstrations.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    demos.add_parser(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """
    :param arguments: By default the command line's
    :return: 0, or 1 if it could not be done; what was found and what was expected is on standard error
    """
    args = make_parser().parse_args(arguments)
    try:
        args.run(args)
        sys.stdout.flush()
    except BrokenPipeError:
        # Who read the output has seen enough, as `| head` has. Python flushes once more when it exits
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (DemonstrationsError, OSError, ImportError) as error:
        print(f"sb3-pgfd: {error}", file=sys.stderr)
        return 1
    return 0
