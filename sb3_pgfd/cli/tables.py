"""Aligned text."""

import textwrap
from collections.abc import Sequence

WIDTH = 110


def table(rows: Sequence[Sequence[str]], left: Sequence[int] = ()) -> list[str]:
    """
    :param rows: Cells, as many in each row
    :param left: Columns that are flush left; all others are flush right
    :return: Aligned lines
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = zip(row, widths, strict=True)
        padded = [cell.ljust(width) if i in left else cell.rjust(width) for i, (cell, width) in enumerate(cells)]
        lines.append("  " + "  ".join(padded).rstrip())
    return lines


def paragraph(text: str, mark: str = "  ") -> list[str]:
    """
    :param text: A sentence or more
    :param mark: What the first line begins with
    :return: Lines that are not too long
    """
    return textwrap.wrap(text, WIDTH, initial_indent=mark, subsequent_indent=" " * len(mark))


def number(value: float | None, form: str = "{:.4g}", unknown: str = "-") -> str:
    """
    :param value: None: unknown
    :param form: How to write it
    :param unknown: What to write otherwise
    """
    return unknown if value is None else form.format(value)


def more(count: int, what: str) -> list[str]:
    """
    :param count: How many rows are left out; 0 or less: none
    :param what: What they are
    :return: A line that says so, if there are any
    """
    return [f"  ... {count:,} more {what}, --json has all"] if count > 0 else []
