"""``sb3-pgfd demos convert``: the same demonstrations in another file, format, action range or choice of keys."""

import argparse

from sb3_pgfd.cli.arguments import add_source_options, source_options
from sb3_pgfd.cli.output import add_output_options, check_output, report, write
from sb3_pgfd.demonstrations import Demonstrations


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """:param subparsers: Where to add the command"""
    parser = subparsers.add_parser("convert", help="write demonstrations in another format")
    add_arguments(parser)
    parser.set_defaults(run=run)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """:param parser: Where to add one source, one output and what is made of it"""
    parser.add_argument("source", help="a file, a folder, the name of packaged demonstrations or minari:ID")
    parser.add_argument("output", help="a file, or minari:ID")
    add_source_options(parser)
    add_output_options(parser)


def run(args: argparse.Namespace) -> None:
    """:param args: With the arguments of :func:`add_arguments`"""
    check_output(args.output, args)
    report(write(Demonstrations.load(args.source, **source_options(args)), args.output, args), args)
