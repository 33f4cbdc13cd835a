"""``sb3-pgfd demos convert|merge|filter|split``: change demonstrations and write them to another file."""

import argparse
from collections.abc import Callable
from typing import Any

from sb3_pgfd.cli.arguments import OUTPUT, SOURCE, add_load_options, add_output_options, load_options
from sb3_pgfd.cli.output import check_output, describe, report
from sb3_pgfd.demonstrations import Demonstrations
from sb3_pgfd.demonstrations.editing import split
from sb3_pgfd.demonstrations.formats.npz import with_ending


def add_parsers(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """:param subparsers: Subcommands of ``demos``"""
    for name, run, text in (
        ("convert", _convert, "write demonstrations in another format, action range or choice of keys"),
        ("filter", _filter, "keep episodes by their number, return or success"),
    ):
        parser = subparsers.add_parser(name, help=text)
        parser.add_argument("source", help=SOURCE)
        parser.add_argument("output", help=OUTPUT)
        _add_options(parser, run)
    parser = subparsers.add_parser(
        "merge",
        help="join demonstrations of one environment",
        description="Join demonstrations of one environment. Actions, flags and observations are changed in every source; "
        "episodes are chosen from all sources together.",
    )
    parser.add_argument("output", help=OUTPUT)
    parser.add_argument("sources", nargs="+", metavar="source", help=SOURCE)
    _add_options(parser, _merge)
    parser = subparsers.add_parser("split", help="divide demonstrations into two files")
    parser.add_argument("source", help=SOURCE)
    parser.add_argument("output", help=f"first part: {OUTPUT}")
    parser.add_argument("rest", help=f"all other episodes: {OUTPUT}")
    first = "number of episodes in the first part, or their share, e.g. 8 or 0.8"
    parser.add_argument("--first", required=True, type=_number_or_share, metavar="N", help=first)
    _add_options(parser, _split)


def _add_options(parser: argparse.ArgumentParser, run: Callable[[argparse.Namespace], None]) -> None:
    add_load_options(parser)
    add_output_options(parser)
    parser.set_defaults(run=run, error=parser.error)


def _number_or_share(text: str) -> int | float:
    value = float(text)
    if value <= 0.0 or not (value < 1.0 or value.is_integer()):
        raise argparse.ArgumentTypeError(f"found {text}, expected a whole number, or a share between 0 and 1")
    return value if value < 1.0 else int(value)


def _save(demonstrations: Demonstrations, path: str, args: argparse.Namespace) -> dict[str, Any]:
    return describe(demonstrations, demonstrations.save(path, args.force, args.format))


def _convert(args: argparse.Namespace) -> None:
    check_output(args.output, args.force, args.format)
    report(_save(Demonstrations.load(args.source, **load_options(args)), args.output, args), args.json)


def _filter(args: argparse.Namespace) -> None:
    if not load_options(args, changes=False).keys() - {"seed"}:
        args.error("found no choice of episodes, expected --episodes, --min-return or --successful-only")
    _convert(args)


def _merge(args: argparse.Namespace) -> None:
    check_output(args.output, args.force, args.format)
    report(_save(Demonstrations.load(args.sources, **load_options(args)), args.output, args), args.json)


def _split(args: argparse.Namespace) -> None:
    if with_ending(args.output).resolve() == with_ending(args.rest).resolve():
        args.error(f"found {args.output} for both parts, expected two names")
    for path in (args.output, args.rest):
        check_output(path, args.force, args.format)
    demonstrations = Demonstrations.load(args.source, **load_options(args))
    n_first, n_episodes = args.first, demonstrations.n_episodes
    if isinstance(n_first, float):
        # A share leaves at least one episode on both sides
        n_first = min(max(round(n_first * n_episodes), 1), n_episodes - 1)
    first, rest = split(demonstrations, n_first, args.seed)
    report({"parts": [_save(first, args.output, args), _save(rest, args.rest, args)]}, args.json)
