"""
Figures and tables of the benchmark, from its CSV alone.

    python benchmarks/sparse_suite/report.py
    python benchmarks/sparse_suite/report.py --readme README.md      # puts the tables there

Prints the tables in Markdown, writes benchmarks/results/sparse_suite*.png, and names every cell of the grid that failed or is
missing. The score of a run is the mean success of its last three evaluations up to the task's number of steps; over seeds it
is the interquartile mean with a 95 % bootstrap interval.
"""

import argparse
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from suite_figures import NAMES, ablation_name, draw_ablation, draw_demonstrations, draw_learning, draw_scores
from suite_grid import (
    ABLATION_METHODS,
    ABLATION_TASKS,
    CURVE_DEMOS,
    CURVE_TASK,
    CURVES,
    MAIN,
    Selection,
    runs_of_grid,
    status_of,
    usual_demos,
)
from suite_paths import RESULTS_FILE
from suite_results import failures_file, read_results
from suite_scores import GOOD, Outcome, estimate, outcomes_of, select
from suite_settings import ABLATION_STEPS
from suite_tasks import TASKS, Task

from sb3_pgfd.utils.files import write_whole


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """:param rows: The first is the header"""
    header, *body = rows
    return "\n".join("| " + " | ".join(row) + " |" for row in (header, ["---"] * len(header), *body))


def score_of(
    outcomes: Sequence[Outcome], task: Task, method: str, demos: int | None = None, last_step: int | None = None
) -> str:
    """:return: Score over the seeds, empty if there is none"""
    own = select(outcomes, task.name, method, usual_demos(task, method) if demos is None else demos)
    found = estimate([outcome.score(last_step or task.steps) for outcome in own])
    return "" if found is None else str(found)


def score_table(outcomes: Sequence[Outcome]) -> str:
    """:return: Tasks by methods"""
    methods = [method for method in MAIN if any(outcome.cell.method == method for outcome in outcomes)]
    rows = [["task", "demonstrations", *(NAMES[method] for method in methods)]]
    for task in TASKS.values():
        rows.append([task.env_id, str(task.n_demos), *(score_of(outcomes, task, method) for method in methods)])
    return markdown(rows)


def steadiness_table(outcomes: Sequence[Outcome], method: str = "ddpgfd") -> str:
    """:return: Of each task: every seed's score, when it became good, what came after that, and the time that it took"""
    rows = [["task", "score of each seed", f"steps to {GOOD:g}", f"lowest evaluation after the first >= {GOOD:g}", "minutes"]]
    for task in TASKS.values():
        own = [item for item in select(outcomes, task.name, method, task.n_demos) if item.steps[-1] >= task.steps]
        if own:
            lowest = [item.lowest_after_good() for item in own]
            rows.append(
                [
                    task.env_id,
                    ", ".join(f"{item.score(task.steps):.2f}" for item in own),
                    ", ".join(_steps(item.first_good()) for item in own),
                    ", ".join("-" if value is None else f"{value:.2f}" for value in lowest),
                    ", ".join(f"{item.seconds / 60:.1f}" for item in own),
                ]
            )
    return markdown(rows)


def _steps(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def demonstrations_table(outcomes: Sequence[Outcome]) -> str:
    """:return: Methods by numbers of demonstrations"""
    rows = [[f"{TASKS[CURVE_TASK].env_id}, demonstrations:", *map(str, CURVE_DEMOS)]]
    for method in CURVES:
        scores = [score_of(outcomes, TASKS[CURVE_TASK], method, demos) for demos in CURVE_DEMOS]
        rows.append([NAMES[method], *scores])
    return markdown(rows)


def ablation_table(outcomes: Sequence[Outcome]) -> str:
    """:return: What is taken away by tasks, while it learns"""
    tasks = [TASKS[name] for name in ABLATION_TASKS]
    rows = [[f"score at {ABLATION_STEPS:,} steps", *(task.env_id for task in tasks)]]
    for method in ("ddpgfd", *ABLATION_METHODS):
        scores = [score_of(outcomes, task, method, last_step=ABLATION_STEPS) for task in tasks]
        rows.append([ablation_name(method), *scores])
    return markdown(rows)


TABLES = {
    "scores": score_table,
    "steadiness": steadiness_table,
    "demonstrations": demonstrations_table,
    "ablation": ablation_table,
}


OLD_TABLE = re.compile(r"\A(\|.*\n)*")


def with_tables(text: str, tables: Mapping[str, str]) -> str:
    """
    :param text: Markdown with a line ``<!-- report.py: scores -->`` before each table
    :param tables: By name
    :return: The text with these tables in place of those that it has
    :raises ValueError: If there is no place for one
    """
    for name, table in tables.items():
        mark = f"<!-- report.py: {name} -->\n"
        if mark not in text:
            raise ValueError(f"found no line {mark.strip()!r}, expected it before the table of that name")
        before, _, after = text.partition(mark)
        text = before + mark + table + "\n" + OLD_TABLE.sub("", after)
    return text


def report(results: Path, n_seeds: int | None = None, readme: Path | None = None) -> str:
    """
    :param results: The CSV; pictures go beside it
    :param n_seeds: That have been asked of the grid, None: all
    :param readme: Markdown to put the tables into
    :return: Tables, and what is missing
    """
    rows, failures = read_results(results), read_results(failures_file(results))
    outcomes = outcomes_of(rows)
    tables = {name: table(outcomes) for name, table in TABLES.items()}
    if readme is not None:
        filled = with_tables(readme.read_text(encoding="utf-8"), tables)
        with write_whole(readme, overwrite=True) as temporary:
            temporary.write_text(filled, encoding="utf-8")
    parts = list(tables.values())
    pictures = {"": draw_learning, "_scores": draw_scores, "_demonstrations": draw_demonstrations, "_ablation": draw_ablation}
    paths = [draw(outcomes, results.with_name(f"{results.stem}{name}.png")) for name, draw in pictures.items()]
    parts.append("\n".join(f"Figure: {path}" for path in paths))
    if outcomes:
        longest = max(outcomes, key=lambda item: item.seconds)
        parts.append(f"The longest cell took {longest.seconds / 60:.1f} minutes of one core: {longest.cell}")
    status = status_of(runs_of_grid(Selection(n_seeds=n_seeds)), rows, failures)
    for kind in ("failed", "other settings", "missing"):
        if status[kind]:
            parts.append("\n".join([f"{kind}, {len(status[kind])} cells:", *(f"  {line}" for line in status[kind])]))
    parts.append(", ".join(f"{len(lines)} {kind}" for kind, lines in status.items()))
    return "\n\n".join(parts)


def main(arguments: Sequence[str] | None = None) -> None:
    """:param arguments: Of the command line"""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS_FILE, metavar="FILE")
    parser.add_argument("--seeds", type=int, metavar="N", help="that have been asked of the grid, by default all")
    parser.add_argument("--readme", type=Path, metavar="FILE", help="Markdown to put the tables into")
    args = parser.parse_args(arguments)
    print(report(args.results, args.seeds, args.readme))


if __name__ == "__main__":
    main()
