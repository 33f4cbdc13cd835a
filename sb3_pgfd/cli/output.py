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
    """Check before a long computation that its result can be written; see :meth:`Demonstrations.save` for the arguments."""
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
    """Print descriptions of demonstrations, of several as ``{"parts": [...]}``: one JSON object, or a line for each."""
    if as_json:
        print(json.dumps(result, allow_nan=False))
        return
    for part in result.get("parts", [result]):
        episodes = "1 episode" if part["n_episodes"] == 1 else f"{part['n_episodes']} episodes"
        success = "" if part["success_rate"] is None else f", success rate {part['success_rate']:.0%}"
        sizes = f"{episodes}, {part['n_transitions']:,} transitions"
        print(f"{part['path']}: {sizes}, mean return {part['mean_return']:.4g}{success}")


def table(rows: Sequence[Sequence[str]], left: Sequence[int] = ()) -> list[str]:
    """:return: Lines of a table; the columns ``left`` are aligned at the left, all others at the right"""
    columns = []
    for i, column in enumerate(zip(*rows, strict=True)):
        width = max(map(len, column))
        columns.append([cell.ljust(width) if i in left else cell.rjust(width) for cell in column])
    return ["  " + "  ".join(row).rstrip() for row in zip(*columns, strict=True)]


def paragraph(text: str, mark: str = "  ") -> list[str]:
    """:return: The text in lines of up to ``WIDTH`` characters, the first of which begins with ``mark``"""
    return textwrap.wrap(text, WIDTH, initial_indent=mark, subsequent_indent=" " * len(mark))


def number(value: float | None, form: str = "{:.4g}", unknown: str = "-") -> str:
    """:return: The number in this format, or ``unknown`` for None"""
    return unknown if value is None else form.format(value)


def more(count: int, what: str) -> list[str]:
    """:return: A line that says how many rows were left out; none for 0 or less"""
    return [f"  ... {count:,} more {what}, --json has all"] if count > 0 else []
