"""``sb3-pgfd demos filter``: the episodes that are worth keeping."""

import argparse
from functools import partial

from sb3_pgfd.cli import convert
from sb3_pgfd.cli.arguments import picking_options


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """:param subparsers: Where to add the command"""
    parser = subparsers.add_parser("filter", help="keep the episodes that are worth it")
    convert.add_arguments(parser)
    parser.set_defaults(run=partial(run, parser))


def run(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """
    :param parser: Tells how the command is used
    :param args: With the arguments of ``convert``
    """
    if not picking_options(args).keys() - {"seed"}:
        parser.error("found nothing to choose by, expected --episodes, --min-return or --successful-only")
    convert.run(args)
