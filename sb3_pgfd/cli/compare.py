"""``sb3-pgfd compare``: learning curves of several runs and algorithms beside each other."""

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

from sb3_pgfd.cli.arguments import picture_path
from sb3_pgfd.cli.tables import number, table
from sb3_pgfd.comparison import (
    Curve,
    Reference,
    Run,
    aggregate,
    draw,
    find_references,
    find_runs,
    name_references,
    reached_at,
    write_csv,
)
from sb3_pgfd.comparison.csv_table import at
from sb3_pgfd.comparison.intervals import STATISTICS
from sb3_pgfd.comparison.runs import folder_name
from sb3_pgfd.demonstrations.inspection.plots import check_picture_path
from sb3_pgfd.utils.files import refuse_existing


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """:param subparsers: Where to add the command"""
    parser = subparsers.add_parser(
        "compare",
        help="draw learning curves of several runs and algorithms",
        description="Draw the evaluations of several runs and algorithms, averaged over seeds, with bootstrap intervals, and "
        "the return of the demonstrations as a dashed line. The numbers go to a .csv beside the picture.",
    )
    parser.add_argument(
        "folders", nargs="+", metavar="LOGDIR", help="a log root, an algorithm's folder or a run's: logs, logs/sac, ..."
    )
    parser.add_argument(
        "--labels", nargs="+", metavar="LABEL", help="one for each LOGDIR; equal ones are one curve (default: the algorithm)"
    )
    parser.add_argument("--env", nargs="+", metavar="ID", help="these environments only")
    parser.add_argument("--algos", nargs="+", metavar="ALGO", help="these algorithms only")
    parser.add_argument("--max-timesteps", type=_positive, metavar="N", help="leave out later evaluations")
    parser.add_argument("--statistic", choices=tuple(STATISTICS), default="mean", help="over the seeds (mean)")
    parser.add_argument("--confidence", type=_share, default=0.95, metavar="P", help="of the intervals (0.95)")
    parser.add_argument("--reps", type=_positive, default=2000, metavar="N", help="resamples of the bootstrap (2000)")
    parser.add_argument(
        "--demonstrations",
        nargs="+",
        metavar="NAME",
        help="a file, a packaged name or minari:ID (default: what the runs learned from)",
    )
    parser.add_argument("--title", help="above the picture")
    parser.add_argument(
        "-o", "--output", type=picture_path, default=Path("comparison.png"), metavar="FILE", help="picture (comparison.png)"
    )
    parser.add_argument("--force", action="store_true", help="replace picture and table if they are there")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=partial(run, parser))


def run(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """
    :param parser: Tells how the command is used
    :param args: With the arguments above
    """
    if args.labels is not None and len(args.labels) != len(args.folders):
        parser.error(f"--labels: found {len(args.labels)}, expected {len(args.folders)}, one for each LOGDIR")
    # Before the work, so that nobody waits for a refusal
    numbers = args.output.with_suffix(".csv")
    check_picture_path(args.output, args.force)
    refuse_existing(numbers, args.force)
    # Libraries greet on standard output, which is for the result
    with redirect_stdout(sys.stderr):
        found, unreadable = find_runs(args.folders, args.labels)
        runs = _select(parser, found, args)
        curves, doubts = aggregate(runs, args.statistic, args.confidence, args.reps, args.max_timesteps)
        references, missing = _references(curves, args)
        for note in (*unreadable, *doubts, *missing):
            print(f"note: {note}", file=sys.stderr)
        draw(curves, references, args.output, args.title, args.force)
        write_csv(curves, numbers, args.force)
    if args.json:
        print(json.dumps(_describe(curves, references, args, numbers), allow_nan=False))
    else:
        print(_text(curves, references, args, numbers))


def _select(parser: argparse.ArgumentParser, runs: Sequence[Run], args: argparse.Namespace) -> list[Run]:
    """Algorithms in any case: the Zoo's own plots spell them in capitals."""
    wanted = {
        "--env": None if args.env is None else [folder_name(env) for env in args.env],
        "--algos": None if args.algos is None else [algo.lower() for algo in args.algos],
    }
    names = {"--env": [run.env for run in runs], "--algos": [run.algo.lower() for run in runs]}
    for option, values in wanted.items():
        for value in values or ():
            if value not in names[option]:
                parser.error(f"{option}: found no run of {value}, expected some of {', '.join(sorted(set(names[option])))}")
    pairs = zip(runs, names["--env"], names["--algos"], strict=True)
    envs, algos = wanted["--env"], wanted["--algos"]
    return [run for run, env, algo in pairs if (envs is None or env in envs) and (algos is None or algo in algos)]


def _references(curves: Sequence[Curve], args: argparse.Namespace) -> tuple[list[Reference], list[str]]:
    if args.demonstrations is not None:
        return name_references(args.demonstrations, list(dict.fromkeys(curve.env for curve in curves))), []
    return find_references([run for curve in curves for run in curve.runs])


def _describe(
    curves: Sequence[Curve], references: Sequence[Reference], args: argparse.Namespace, numbers: Path
) -> dict[str, Any]:
    """For programs."""
    environments = []
    for env in dict.fromkeys(curve.env for curve in curves):
        own = [
            {"name": reference.name, "mean_return": reference.mean_return, "success_rate": reference.success_rate}
            for reference in references
            if reference.env == env
        ]
        found = [_describe_curve(curve, references) for curve in curves if curve.env == env]
        environments.append({"env": env, "demonstrations": own, "curves": found})
    options = {"statistic": args.statistic, "confidence": args.confidence, "reps": args.reps}
    return {"picture": str(args.output), "csv": str(numbers), **options, "environments": environments}


def _describe_curve(curve: Curve, references: Sequence[Reference]) -> dict[str, Any]:
    names = ("return", "return_low", "return_high", "success", "success_low", "success_high")
    last = (*at(curve.returns, -1), *at(curve.successes, -1))
    reached = reached_at(curve, references)
    return {
        "label": curve.label,
        "n_seeds": curve.n_seeds,
        "runs": [str(run.folder) for run in curve.runs],
        "timesteps": int(curve.timesteps[-1]),
        **dict(zip(names, last, strict=True)),
        "demonstrations_reached_at": None if reached is None else int(reached),
    }


def _text(curves: Sequence[Curve], references: Sequence[Reference], args: argparse.Namespace, numbers: Path) -> str:
    """For people."""
    interval = f"{args.confidence * 100:g} %"
    rows = [["environment", "label", "seeds", "steps", "return", interval, "success", interval, "reached at"]]
    for env in dict.fromkeys(curve.env for curve in curves):
        for curve in (curve for curve in curves if curve.env == env):
            value, *ends = at(curve.returns, -1)
            success, *success_ends = at(curve.successes, -1)
            reached = number(reached_at(curve, references), "{:,.0f}")
            first = [env, curve.label, str(curve.n_seeds), f"{curve.timesteps[-1]:,.0f}"]
            spread, success_spread = _interval(ends, "{:.4g}"), _interval(success_ends, "{:.0%}")
            rows.append([*first, number(value), spread, number(success, "{:.0%}"), success_spread, reached])
        own = [reference for reference in references if reference.env == env]
        for reference in own:
            success_rate = number(reference.success_rate, "{:.0%}")
            name = "demonstrations" if len(own) == 1 else f"demonstrations {reference.name}"
            rows.append([env, name, "", "", number(reference.mean_return), "", success_rate, "", ""])
    files = f"picture: {args.output}\nnumbers: {numbers}"
    heading = f"At the end, {args.statistic} over seeds, and the step at which the demonstrations' return was first reached:"
    return "\n".join([heading, *table(rows, left=(0, 1)), "", files])


def _interval(ends: Sequence[float | None], form: str) -> str:
    low, high = ends
    return "-" if low is None else f"{number(low, form)} to {number(high, form)}"


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a whole number of at least 1")
    return int(text)


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0.0 < share < 1.0:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a number between 0 and 1")
    return share
