"""Check where results go, and print them as text or JSON."""

import json
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sb3_pgfd.demonstrations import Demonstrations
from sb3_pgfd.demonstrations.formats.minari import PREFIX, dataset_folder
from sb3_pgfd.demonstrations.formats.npz import with_ending
from sb3_pgfd.utils.files import refuse_existing

WIDTH = 110


def check_output(path: str, force: bool, file_format: str | None = None) -> None:
    """
    Check before a long computation that its result can be written.

    :param path: Path of the demonstrations, or ``minari:ID``
    :param force: Whether existing files may be replaced
    :param file_format: ``"npz"`` or ``"minari"``; None: as the path says
    :raises DemonstrationsError: If the id is not that of a Minari dataset
    :raises FileExistsError: If the file exists and ``force`` is False
    """
    is_id = path.startswith(PREFIX)
    if (file_format or ("minari" if is_id else "npz")) == "npz":
        target = with_ending(Path(path))
    else:
        target = dataset_folder(path.removeprefix(PREFIX)) if is_id else Path(path).expanduser()
    refuse_existing(target, force)


def describe(demonstrations: Demonstrations, path: str | Path) -> dict[str, Any]:
    """:return: The description of demonstrations that were written, for :func:`report`"""
    sizes = {"n_episodes": demonstrations.n_episodes, "n_transitions": len(demonstrations)}
    return {"path": str(path), **sizes, **demonstrations.summary()}


def report(result: dict[str, Any], as_json: bool) -> None:
    """
    :param result: Description of demonstrations, or ``{"parts": [...]}`` with several
    :param as_json: Whether to print one JSON object instead of a line for each
    """
    if as_json:
        print(json.dumps(result, allow_nan=False))
        return
    for part in result.get("parts", [result]):
        episodes = "1 episode" if part["n_episodes"] == 1 else f"{part['n_episodes']} episodes"
        success = "" if part["success_rate"] is None else f", success rate {part['success_rate']:.0%}"
        sizes = f"{episodes}, {part['n_transitions']:,} transitions"
        print(f"{part['path']}: {sizes}, mean return {part['mean_return']:.4g}{success}")


def table(rows: Sequence[Sequence[str]], left: Sequence[int] = ()) -> list[str]:
    """
    :param rows: Cells, the same number in each row
    :param left: Columns that are aligned at the left; all others are aligned at the right
    :return: Lines of text
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = enumerate(zip(row, widths, strict=True))
        padded = [cell.ljust(width) if i in left else cell.rjust(width) for i, (cell, width) in cells]
        lines.append("  " + "  ".join(padded).rstrip())
    return lines


def paragraph(text: str, mark: str = "  ") -> list[str]:
    """:return: The text in lines of up to ``WIDTH`` characters, the first of which begins with ``mark``"""
    return textwrap.wrap(text, WIDTH, initial_indent=mark, subsequent_indent=" " * len(mark))


def number(value: float | None, form: str = "{:.4g}", unknown: str = "-") -> str:
    """:return: The number in this format, or ``unknown`` for None"""
    return unknown if value is None else form.format(value)


def more(count: int, what: str) -> list[str]:
    """:return: A line that says how many rows were left out; none for 0 or less"""
    return [f"  ... {count:,} more {what}, --json has all"] if count > 0 else []
