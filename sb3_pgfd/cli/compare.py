"""``sb3-pgfd compare``: learning curves of several runs and algorithms."""

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sb3_pgfd.cli.output import number, table
from sb3_pgfd.comparison import Curve, Reference, Run, aggregate, draw, find_references, find_runs, write_csv
from sb3_pgfd.comparison.curves import MIN_SEEDS, STATISTICS
from sb3_pgfd.comparison.references import name_references, reached_at
from sb3_pgfd.comparison.runs import folder_name
from sb3_pgfd.demonstrations.inspection.plots import check_picture_path
from sb3_pgfd.utils.files import refuse_existing


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """:param subparsers: Commands of ``sb3-pgfd``"""
    parser = subparsers.add_parser(
        "compare",
        help="plot the learning curves of several runs and algorithms",
        description="Plot the evaluations of several runs and algorithms, averaged over seeds, with bootstrap intervals "
        "(below five seeds: their range), and the return of the demonstrations as a dashed line. The numbers go to a .csv "
        "file beside the picture.",
    )
    parser.add_argument("folders", nargs="+", metavar="LOGDIR", help="a log root, an algorithm's folder or a run's folder")
    labels = "names in the legend, one for each LOGDIR in their order; runs of the same name make one curve (the algorithm)"
    parser.add_argument("--labels", nargs="+", metavar="LABEL", help=labels)
    parser.add_argument("--env", nargs="+", metavar="ID", help="only these environments")
    parser.add_argument("--algos", nargs="+", metavar="ALGO", help="only these algorithms")
    parser.add_argument("--max-timesteps", type=int, metavar="N", help="leave out later evaluations")
    parser.add_argument("--statistic", choices=tuple(STATISTICS), default="mean", help="statistic over the seeds (mean)")
    parser.add_argument("--confidence", type=float, default=0.95, metavar="P", help="confidence of the intervals (0.95)")
    parser.add_argument("--reps", type=int, default=2000, metavar="N", help="bootstrap resamples (2000)")
    sources = "files, packaged names or minari:ID (default: those that the runs learned from)"
    parser.add_argument("--demonstrations", nargs="+", metavar="NAME", help=sources)
    parser.add_argument("--title", help="title of the picture")
    parser.add_argument("-o", "--output", type=Path, default="comparison.png", metavar="FILE", help="picture (%(default)s)")
    parser.add_argument("--force", action="store_true", help="replace an existing picture and table")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=_run, error=parser.error)


def _run(args: argparse.Namespace) -> None:
    if args.labels is not None and len(args.labels) != len(args.folders):
        args.error(f"--labels: found {len(args.labels)}, expected {len(args.folders)}, one for each LOGDIR")
    picture, numbers = check_picture_path(args.output, args.force), args.output.with_suffix(".csv")
    refuse_existing(numbers, args.force)
    # Some libraries print a greeting on standard output, which is for the result
    with redirect_stdout(sys.stderr):
        found, notes = find_runs(args.folders, args.labels)
        curves, doubts = aggregate(_select(found, args), args.statistic, args.confidence, args.reps, args.max_timesteps)
        if args.demonstrations is not None:
            references = name_references(args.demonstrations, list(dict.fromkeys(curve.env for curve in curves)))
        else:
            references, missing = find_references([run for curve in curves for run in curve.runs])
            doubts += missing
        notes += doubts
        draw(curves, references, picture, args.title, args.force)
        write_csv(curves, numbers, args.force)
    if args.json:
        options = {"statistic": args.statistic, "confidence": args.confidence, "reps": args.reps}
        described = {"environments": _describe(curves, references), "notes": notes}
        print(json.dumps({"picture": str(picture), "csv": str(numbers), **options, **described}, allow_nan=False))
    else:
        print(f"At the end, {args.statistic} over seeds, and the first step with the return of the demonstrations:")
        print("\n".join(table(_rows(curves, references, f"{args.confidence * 100:g} %"), left=(0, 1))))
        print("\n".join(["", *(f"note: {note}" for note in notes), f"picture: {picture}", f"numbers: {numbers}"]))


def _select(runs: Sequence[Run], args: argparse.Namespace) -> list[Run]:
    """Upper and lower case of algorithms are the same, as in the plots of the RL Zoo."""
    envs, algos = ({folder_name(env) for env in args.env or ()}, {algo.lower() for algo in args.algos or ()})
    for option, wanted, known in (
        ("--env", envs, {run.env for run in runs}),
        ("--algos", algos, {run.algo.lower() for run in runs}),
    ):
        for name in sorted(wanted - known):
            args.error(f"{option}: found no run of {name}, expected some of {', '.join(sorted(known))}")
    return [run for run in runs if (not envs or run.env in envs) and (not algos or run.algo.lower() in algos)]


def _describe(curves: Sequence[Curve], references: Sequence[Reference]) -> list[dict[str, Any]]:
    """:return: The result for programs, a mapping for each environment"""
    result: dict[str, dict[str, Any]] = {}
    for curve in curves:
        values = {"label": curve.label, "n_seeds": len(curve.runs), "runs": [str(run.folder) for run in curve.runs]}
        last = {"timesteps": int(curve.timesteps[-1]), **curve.at(-1)}
        reached = {"demonstrations_reached_at": reached_at(curve, references)}
        of_env = result.setdefault(curve.env, {"env": curve.env, "demonstrations": [], "curves": []})
        of_env["curves"].append({**values, **last, **reached})
    for reference in references:
        described = asdict(reference)
        result[described.pop("env")]["demonstrations"].append(described)
    return list(result.values())


def _rows(curves: Sequence[Curve], references: Sequence[Reference], interval: str) -> list[list[str]]:
    """:return: The result for people"""
    rows = [["environment", "label", "seeds", "steps", "return", interval, "success", interval, "reached at"]]
    for env in dict.fromkeys(curve.env for curve in curves):
        for curve in (curve for curve in curves if curve.env == env):
            row = [env, curve.label, str(len(curve.runs)), f"{curve.timesteps[-1]:,.0f}"]
            last = curve.at(-1)
            for name, form in (("return", "{:.4g}"), ("success", "{:.0%}")):
                ends = [number(last[name + end], form) for end in ("_low", "_high")]
                kind = f" (range of {len(curve.runs)})" if len(curve.runs) < MIN_SEEDS else ""
                row += [number(last[name], form), "-" if "-" in ends else " to ".join(ends) + kind]
            rows.append([*row, number(reached_at(curve, references), "{:,.0f}")])
        own = [reference for reference in references if reference.env == env]
        for reference in own:
            name = "demonstrations" if len(own) == 1 else f"demonstrations {reference.name}"
            success = number(reference.success_rate, "{:.0%}")
            rows.append([env, name, "", "", number(reference.mean_return), "", success, "", ""])
    return rows
