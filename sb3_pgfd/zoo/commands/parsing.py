"""The RL Zoo's argument parsers, with this package's defaults and options."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from sb3_pgfd.zoo.replacing import replaced

Option = tuple[tuple[str, ...], Mapping[str, Any]]
"""Names and settings of an argument, as ``add_argument`` takes them"""

# What Python raises for a value of `name:value` that it cannot read
_UNREADABLE = (AttributeError, NameError, SyntaxError, TypeError, ValueError)


@dataclass(frozen=True)
class Arguments:
    """How a command's arguments differ from those of the RL Zoo."""

    description: str
    defaults: Mapping[str, Any] = field(default_factory=dict)
    required: Sequence[str] = ()
    """Those that the Zoo cannot do without, though it does not say so"""
    added: Sequence[Option] = ()


@contextmanager
def parsed_by_us(
    prog: str,
    command_line: Sequence[str],
    arguments: Arguments,
    options: argparse.Namespace,
    check: Callable[[argparse.Namespace], None],
) -> Iterator[None]:
    """
    Let the first parser that is used in this block read ``command_line``. The RL Zoo makes its parser and reads the
    arguments in one function, so this is where its defaults can be changed and options added.

    :param prog: How the command was called
    :param command_line: What stands behind that
    :param arguments: What differs from the Zoo's
    :param options: Filled with the arguments; it is what the Zoo gets
    :param check: Called with them; it may change them, or raise an error before the Zoo begins
    """
    with ExitStack() as stack:

        def parse_args(parser: argparse.ArgumentParser, *_: Any, **__: Any) -> argparse.Namespace:
            stack.close()
            # Some of the Zoo's parsers have their description where the name belongs
            parser.prog, parser.description = prog, arguments.description
            for names, settings in arguments.added:
                parser.add_argument(*names, **settings)
            parser.set_defaults(**arguments.defaults)
            for action in parser._actions:
                action.required = action.required or action.dest in arguments.required
            try:
                parser.parse_args(command_line, options)
            except _UNREADABLE as error:
                parser.error(
                    f"found a value that Python cannot read ({error}), expected name:value; texts need quotes within quotes, "
                    "as in demonstrations:'\"my_demos.npz\"'"
                )
            check(options)
            return options

        stack.enter_context(replaced(argparse.ArgumentParser, "parse_args", parse_args))
        yield
