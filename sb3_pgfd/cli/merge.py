"""``sb3-pgfd demos merge``: several files in one."""

import argparse

from sb3_pgfd.cli.arguments import add_source_options, picking_options, source_options
from sb3_pgfd.cli.output import add_output_options, check_output, report, write
from sb3_pgfd.demonstrations import Demonstrations
from sb3_pgfd.demonstrations.editing import pick


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """:param subparsers: Where to add the command"""
    parser = subparsers.add_parser(
        "merge",
        help="join demonstrations of one environment",
        description="Join demonstrations of one environment. Actions, flags and observations are changed in every source, "
        "episodes are chosen from all of them together.",
    )
    parser.add_argument("output", help="a file, or minari:ID")
    parser.add_argument("sources", nargs="+", metavar="source", help="files, folders, packaged names or minari:ID")
    add_source_options(parser)
    add_output_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """:param args: With the arguments above"""
    check_output(args.output, args)
    picking = picking_options(args)
    reading = {name: value for name, value in source_options(args).items() if name not in picking}
    merged = Demonstrations.merge([Demonstrations.load(source, **reading) for source in args.sources])
    report(write(pick(merged, **picking), args.output, args), args)
