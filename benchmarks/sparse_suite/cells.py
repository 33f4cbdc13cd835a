"""The cells of the benchmark, and which of them are finished."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.sparse_suite.evaluation import FIRST_SEED
from benchmarks.sparse_suite.methods import METHODS
from benchmarks.sparse_suite.results import Cell, is_finished
from benchmarks.sparse_suite.run import Run
from benchmarks.sparse_suite.settings import ABLATIONS
from benchmarks.sparse_suite.tasks import TASKS

MAIN = (
    "td3fd",
    "td3fd_starts",
    "bc",
    "bc_plain",
    "td3fd_ibrl",
    "sacfd_as_sac",
    "rlpd",
    "sac_demos",
    "ddpgfd_relative",
    "ddpgfd_paper",
    "sac_her",
    "sac",
    "td3",
    "a2cfd",
    "expert",
)

MAIN_ROWS = tuple((task, demos) for task in TASKS.values() for demos in task.demos)
"""The tasks with their numbers of demonstrations"""

FEW_METHODS = ("td3fd", "bc")
FEW_DEMOS = (1, 3, 10)
"""Numbers of demonstrations that all tasks are learned with"""

ABLATION_TASKS = ("peg-insert-side", "fetch-pick-and-place")
ABLATION_METHODS = tuple(f"td3fd_{name}" for name in ABLATIONS)


@dataclass(frozen=True)
class Selection:
    """A part of the grid; None: no restriction."""

    tasks: Sequence[str] | None = None
    methods: Sequence[str] | None = None
    n_seeds: int | None = None
    """Largest number of seeds of each method"""
    parts: Sequence[str] | None = None

    def has(self, task: str, method: str, seed: int) -> bool:
        """:return: Whether this run is selected and the method has such a seed"""
        wanted_task = self.tasks is None or task in self.tasks
        wanted_method = self.methods is None or method in self.methods
        n_seeds = METHODS[method].n_seeds if self.n_seeds is None else min(self.n_seeds, METHODS[method].n_seeds)
        return wanted_task and wanted_method and seed < FIRST_SEED + n_seeds


def demos_of(method: str, demos: int) -> int:
    """:return: The number of demonstrated episodes, 0 for a method that uses none"""
    return demos if METHODS[method].uses_demonstrations else 0


def make_run(task: str, method: str, seed: int, demos: int | None = None, **changes: Any) -> Run:
    """
    :param task: Name of the task
    :param method: Name of the method
    :param seed: Seed of the run; :data:`~benchmarks.sparse_suite.evaluation.FIRST_SEED` is the first of the grid
    :param demos: Number of demonstrated episodes, None: the task's
    :param changes: Other fields of the run
    :return: The run with the settings of the method
    """
    chosen = METHODS[method]
    cell = Cell(task, method, demos_of(method, TASKS[task].n_demos if demos is None else demos), seed)
    return Run(cell, TASKS[task], chosen, chosen.settings_for(TASKS[task]), **{"steps": TASKS[task].steps, **changes})


def runs_of_grid(selection: Selection, **changes: Any) -> list[Run]:
    """
    :param selection: Part of the grid
    :param changes: Fields of all runs
    :return: The runs. The first seed of everything comes first, so that a stopped grid is useful
    """
    runs: dict[Cell, Run] = {}
    for seed in range(FIRST_SEED, FIRST_SEED + max(method.n_seeds for method in METHODS.values())):
        for name, part in PARTS.items():
            if selection.parts is not None and name not in selection.parts:
                continue
            for task, method, demos in part():
                if selection.has(task, method, seed):
                    run = make_run(task, method, seed, demos, **changes)
                    runs.setdefault(run.cell, run)
    return list(runs.values())


def _main() -> Iterator[tuple[str, str, int]]:
    for method in MAIN:
        for task, demos in MAIN_ROWS:
            if METHODS[method].is_for(task):
                yield task.name, method, demos


def _few() -> Iterator[tuple[str, str, int]]:
    for demos in FEW_DEMOS:
        for method in FEW_METHODS:
            for task in TASKS:
                yield task, method, demos


def _ablation() -> Iterator[tuple[str, str, int]]:
    for method in ABLATION_METHODS:
        for task in ABLATION_TASKS:
            yield task, method, TASKS[task].n_demos


PARTS = {"main": _main, "few": _few, "ablation": _ablation}


def finished_rows(runs: Sequence[Run], results: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """
    :param runs: Runs of the grid
    :param results: Rows of the CSV of evaluations, perhaps also of other settings, seeds and numbers of steps
    :return: The rows of the runs that are finished
    """
    finished = {run.cell: run.config for run in runs if is_finished(results, run.cell, run.config, run.last_step)}
    return [row for row in results if finished.get(Cell.of(row)) == row["config"]]


def status_of(
    runs: Sequence[Run], results: Sequence[Mapping[str, Any]], failures: Sequence[Mapping[str, Any]]
) -> dict[str, list[str]]:
    """
    :param runs: Runs of the grid
    :param results: Rows of the CSV of evaluations
    :param failures: Rows of the CSV of failures
    :return: The names of the cells that are ``finished``, ``failed`` (with the error), ran with ``other settings``, or are
        ``missing``
    """
    status: dict[str, list[str]] = {"finished": [], "failed": [], "other settings": [], "missing": []}
    for run in runs:
        failed = [row for row in failures if run.cell.owns(row)]
        if failed:
            status["failed"].append(f"{run.cell}: {failed[-1]['error']} (after {failed[-1]['steps']:,.0f} steps)")
        elif is_finished(results, run.cell, run.config, run.last_step):
            status["finished"].append(str(run.cell))
        else:
            has_others = any(run.cell.owns(row) for row in results)
            status["other settings" if has_others else "missing"].append(str(run.cell))
    return status
