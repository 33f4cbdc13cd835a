"""Where commands write demonstrations to, and what they say about it."""

import argparse
import json
from pathlib import Path
from typing import Any, Literal

from sb3_pgfd.demonstrations import Demonstrations
from sb3_pgfd.demonstrations.formats.minari import PREFIX, dataset_folder
from sb3_pgfd.demonstrations.formats.npz import with_ending
from sb3_pgfd.utils.files import refuse_existing


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """:param parser: Where to add how demonstrations are written"""
    parser.add_argument("--format", choices=("npz", "minari"), help="default: npz; minari for minari:ID")
    parser.add_argument("--force", action="store_true", help="replace what is there")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def check_output(path: str, args: argparse.Namespace) -> None:
    """
    Before the work, so that nobody waits for a refusal.

    :param path: Where demonstrations are to be written
    :param args: With the options of :func:`add_output_options`
    :raises DemonstrationsError: If it is no id of a Minari dataset
    :raises FileExistsError: If there is something, and ``--force`` is not given
    """
    is_id = path.startswith(PREFIX)
    if (_format(args) or ("minari" if is_id else "npz")) == "npz":
        target = with_ending(Path(path))
    else:
        target = dataset_folder(path.removeprefix(PREFIX)) if is_id else Path(path).expanduser()
    refuse_existing(target, args.force)


def write(demonstrations: Demonstrations, path: str, args: argparse.Namespace) -> dict[str, Any]:
    """
    :param demonstrations: What to write
    :param path: Where to
    :param args: With the options of :func:`add_output_options`
    :return: What was written, as plain values
    """
    return describe(demonstrations, demonstrations.save(path, args.force, _format(args)))


def describe(demonstrations: Demonstrations, path: str | Path) -> dict[str, Any]:
    """
    :param demonstrations: What was written
    :param path: Where to
    :return: What to :func:`report`, as plain values
    """
    return {
        "path": str(path),
        "n_episodes": demonstrations.n_episodes,
        "n_transitions": len(demonstrations),
        **demonstrations.summary(),
    }


def report(result: dict[str, Any], args: argparse.Namespace) -> None:
    """
    :param result: What :func:`write` returns, or ``{"parts": [...]}``
    :param args: With ``json``
    """
    if args.json:
        print(json.dumps(result, allow_nan=False))
        return
    for part in result.get("parts", [result]):
        success = "" if part["success_rate"] is None else f", success rate {part['success_rate']:.0%}"
        episodes = "1 episode" if part["n_episodes"] == 1 else f"{part['n_episodes']} episodes"
        print(
            f"{part['path']}: {episodes}, {part['n_transitions']:,} transitions, "
            f"mean return {part['mean_return']:.4g}{success}"
        )


def _format(args: argparse.Namespace) -> Literal["npz", "minari"] | None:
    """Not every command lets the user choose."""
    return getattr(args, "format", None)
