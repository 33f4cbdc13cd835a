"""
Figures and tables of the benchmark, from its CSV alone.

    python -m benchmarks.sparse_suite.report
    python -m benchmarks.sparse_suite.report --readme docs/benchmarks.md   # puts the tables there

The report prints the tables in Markdown, writes benchmarks/results/sparse_suite*.png, and names every cell of the grid that
failed or is missing. The tables have finished runs of the grid with the present settings and nothing else.
The score of a run is the mean success of its last three evaluations up to the task's number of steps.
The score of several seeds is the interquartile mean, with a 95 % bootstrap interval from five seeds on and otherwise with the
range.
"""

import argparse
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.learning import read_results
from benchmarks.sparse_suite.cells import (
    ABLATION_METHODS,
    ABLATION_TASKS,
    FEW_DEMOS,
    FEW_METHODS,
    MAIN,
    Selection,
    demos_of,
    finished_rows,
    runs_of_grid,
    status_of,
)
from benchmarks.sparse_suite.figures import (
    NAMES,
    ablation_name,
    draw_ablation,
    draw_demonstrations,
    draw_learning,
    draw_scores,
    rows_with_results,
    with_results,
)
from benchmarks.sparse_suite.results import RESULTS_FILE, failures_file
from benchmarks.sparse_suite.scores import GOOD, Outcome, estimate, outcomes_of, select
from benchmarks.sparse_suite.settings import ABLATION_STEPS
from benchmarks.sparse_suite.tasks import TASKS, Task
from sb3_pgfd.utils.files import write_whole


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """
    :param rows: Cells of the table, the header first
    :return: The table in Markdown
    """
    header, *body = rows
    return "\n".join("| " + " | ".join(row) + " |" for row in (header, ["---"] * len(header), *body))


def score_of(
    outcomes: Sequence[Outcome], task: Task, method: str, demos: int | None = None, last_step: int | None = None
) -> str:
    """:return: The score over the seeds as text, empty if there is none"""
    own = select(outcomes, task.name, method, demos_of(method, task.n_demos if demos is None else demos))
    found = estimate([outcome.score(last_step or task.steps) for outcome in own])
    return "" if found is None else str(found)


def score_table(outcomes: Sequence[Outcome]) -> str:
    """:return: The scores, one row per task and number of demonstrations, and one column per method"""
    methods = with_results(MAIN, outcomes)
    rows = [["task", "demonstrations", *(NAMES[method] for method in methods)]]
    for task, demos in rows_with_results(outcomes):
        rows.append([task.env_id, str(demos), *(score_of(outcomes, task, method, demos) for method in methods)])
    return markdown(rows)


def steadiness_table(outcomes: Sequence[Outcome], method: str = "td3fd") -> str:
    """:return: For each task: the score, the first good evaluation, the lowest one after it and the time of each seed"""
    lowest_name = f"lowest evaluation after the first >= {GOOD:g}"
    rows = [["task, demonstrations", "score of each seed", f"steps to {GOOD:g}", lowest_name, "minutes"]]
    for task, demos in rows_with_results(outcomes):
        own = [item for item in select(outcomes, task.name, method, demos) if item.steps[-1] >= task.steps]
        if own:
            lowest = [item.lowest_after_good() for item in own]
            rows.append(
                [
                    f"{task.env_id}, {demos}",
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
    """:return: The scores, one row per task and one column per method and number of demonstrations"""
    columns = [(method, demos) for method in FEW_METHODS for demos in FEW_DEMOS]
    rows = [["task", *(f"{NAMES[method]}, {demos}" for method, demos in columns)]]
    for task in TASKS.values():
        rows.append([task.env_id, *(score_of(outcomes, task, method, demos) for method, demos in columns)])
    return markdown(rows)


def ablation_table(outcomes: Sequence[Outcome]) -> str:
    """:return: The scores half way, one row per change that has run, one column per task"""
    tasks = [TASKS[name] for name in ABLATION_TASKS]
    rows = [[f"score at {ABLATION_STEPS:,} steps", *(task.env_id for task in tasks)]]
    for method in with_results(("td3fd", *ABLATION_METHODS), outcomes):
        scores = [score_of(outcomes, task, method, last_step=ABLATION_STEPS) for task in tasks]
        rows.append([ablation_name(method), *scores])
    return markdown(rows)


TABLES = {
    "scores": score_table,
    "steadiness": steadiness_table,
    "demonstrations": demonstrations_table,
    "ablation": ablation_table,
}
FIGURES = {
    "scores": {"": draw_learning, "_scores": draw_scores},
    "demonstrations": {"_demonstrations": draw_demonstrations},
    "ablation": {"_ablation": draw_ablation},
}
"""What to add to the CSV's name, and what draws it, for the tables that have figures"""

OLD_TABLE = re.compile(r"\A(\|.*\n)*")


def with_tables(text: str, tables: Mapping[str, str]) -> str:
    """
    :param text: Markdown with a line ``<!-- report.py: scores -->`` before each table
    :param tables: Tables by name
    :return: The text with these tables in place of its old ones
    :raises ValueError: If the text has no such line for one of them
    """
    for name, table in tables.items():
        mark = f"<!-- report.py: {name} -->\n"
        if mark not in text:
            raise ValueError(f"found no line {mark.strip()!r}, expected it before the table of that name")
        before, _, after = text.partition(mark)
        text = before + mark + table + "\n" + OLD_TABLE.sub("", after)
    return text


def report(results: Path, n_seeds: int | None = None, readme: Path | None = None, names: Sequence[str] = tuple(TABLES)) -> str:
    """
    :param results: The CSV; the figures are written beside it
    :param n_seeds: Largest number of seeds of each method, None: no limit
    :param readme: Markdown file to put the tables into
    :param names: Of the tables that are made, with their figures
    :return: The tables and the cells that are missing, as text
    """
    rows, failures = read_results(results), read_results(failures_file(results))
    # Whoever tries other settings or seeds may have written to the same file
    outcomes = outcomes_of(finished_rows(runs_of_grid(Selection()), rows))
    tables = {name: TABLES[name](outcomes) for name in names}
    if readme is not None:
        filled = with_tables(readme.read_text(encoding="utf-8"), tables)
        with write_whole(readme, overwrite=True) as temporary:
            temporary.write_text(filled, encoding="utf-8")
    parts = list(tables.values())
    figures = {ending: draw for name in names for ending, draw in FIGURES.get(name, {}).items()}
    paths = [draw(outcomes, results.with_name(f"{results.stem}{name}.png")) for name, draw in figures.items()]
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
    """:param arguments: Arguments of the command line"""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS_FILE, metavar="FILE")
    parser.add_argument("--seeds", type=int, metavar="N", help="largest number of seeds of each method")
    parser.add_argument("--readme", type=Path, metavar="FILE", help="Markdown file to put the tables into")
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=tuple(TABLES), help="and their figures (default: all)")
    args = parser.parse_args(arguments)
    print(report(args.results, args.seeds, args.readme, args.tables))


if __name__ == "__main__":
    main()
