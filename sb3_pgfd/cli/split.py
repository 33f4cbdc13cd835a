"""``sb3-pgfd demos split``: two files of one, to train with and to check against."""

import argparse
from functools import partial

from sb3_pgfd.cli.arguments import add_source_options, source_options
from sb3_pgfd.cli.output import add_output_options, check_output, report, write
from sb3_pgfd.demonstrations import Demonstrations
from sb3_pgfd.demonstrations.editing import split


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """:param subparsers: Where to add the command"""
    parser = subparsers.add_parser("split", help="divide demonstrations into two files")
    parser.add_argument("source", help="a file, a folder, the name of packaged demonstrations or minari:ID")
    parser.add_argument("output", help="a file, or minari:ID, for the first part")
    parser.add_argument("rest", help="a file, or minari:ID, for all others")
    parser.add_argument(
        "--first", required=True, type=_number_or_share, metavar="N", help="episodes in the first part, or their share: 8, 0.8"
    )
    add_source_options(parser)
    add_output_options(parser)
    parser.set_defaults(run=partial(run, parser))


def run(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """
    :param parser: Tells how the command is used
    :param args: With the arguments above
    """
    if args.output == args.rest:
        parser.error(f"found {args.output} for both parts, expected two names")
    for path in (args.output, args.rest):
        check_output(path, args)
    demonstrations = Demonstrations.load(args.source, **source_options(args))
    parts = split(demonstrations, _n_first(args.first, demonstrations.n_episodes), args.seed)
    written = [write(part, path, args) for part, path in zip(parts, (args.output, args.rest), strict=True)]
    report({"parts": written}, args)


def _number_or_share(text: str) -> int | float:
    number = float(text)
    if 0.0 < number < 1.0:
        return number
    if number < 1.0 or not number.is_integer():
        raise argparse.ArgumentTypeError(f"found {text}, expected a whole number, or a share between 0 and 1")
    return int(number)


def _n_first(first: int | float, n_episodes: int) -> int:
    """A share leaves at least one episode on both sides."""
    return first if isinstance(first, int) else min(max(round(first * n_episodes), 1), n_episodes - 1)
