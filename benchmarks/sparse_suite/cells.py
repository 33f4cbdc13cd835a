"""The cells of the benchmark, and which of them are finished."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.sparse_suite.methods import METHODS
from benchmarks.sparse_suite.results import Cell, is_finished
from benchmarks.sparse_suite.run import Run
from benchmarks.sparse_suite.settings import ABLATIONS
from benchmarks.sparse_suite.tasks import TASKS, Task

MAIN = ("td3fd", "bc", "ddpgfd_paper", "sac_demos", "sac_her", "sac", "td3", "a2cfd", "expert")

CURVE_TASK = "peg-insert-side"
CURVE_DEMOS = (0, 1, 3, 10, 50)
CURVES = {
    "td3fd": CURVE_DEMOS,
    "td3fd_plain": (3, 10),
    "bc": CURVE_DEMOS[1:],
    "bc_plain": CURVE_DEMOS[1:],
    "ddpgfd_paper": CURVE_DEMOS[1:],
    "ddpgfd_constant": (10, 50),
    "ddpgfd_paper_plain": (50,),
    "ddpgfd_constant_plain": (50,),
}
"""The numbers of demonstrations of each method"""

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
        wanted_seed = self.n_seeds is None or seed < self.n_seeds
        return wanted_task and wanted_method and wanted_seed and seed < METHODS[method].n_seeds


def usual_demos(task: Task, method: str) -> int:
    """:return: Number of demonstrated episodes in the main comparison: the task's, 0 for a method that uses none"""
    return task.n_demos if METHODS[method].uses_demonstrations else 0


def make_run(task: str, method: str, seed: int, demos: int | None = None, **changes: Any) -> Run:
    """
    :param task: Name of the task
    :param method: Name of the method
    :param seed: Seed of the run
    :param demos: Number of demonstrated episodes, None: the task's
    :param changes: Other fields of the run
    :return: The run with the settings of the method
    """
    chosen = METHODS[method]
    cell = Cell(task, method, usual_demos(TASKS[task], method) if demos is None else demos, seed)
    return Run(cell, TASKS[task], chosen, chosen.settings, **{"steps": TASKS[task].steps, **changes})


def runs_of_grid(selection: Selection, **changes: Any) -> list[Run]:
    """
    :param selection: Part of the grid
    :param changes: Fields of all runs
    :return: The runs. The first seed of everything comes first, so that a stopped grid is useful
    """
    runs: dict[Cell, Run] = {}
    for seed in range(max(method.n_seeds for method in METHODS.values())):
        for name, part in PARTS.items():
            if selection.parts is not None and name not in selection.parts:
                continue
            for task, method, demos in part():
                if selection.has(task, method, seed):
                    run = make_run(task, method, seed, demos, **changes)
                    runs.setdefault(run.cell, run)
    return list(runs.values())


def _main() -> Iterator[tuple[str, str, int | None]]:
    for method in MAIN:
        for task in TASKS.values():
            if METHODS[method].is_for(task):
                yield task.name, method, None


def _curves() -> Iterator[tuple[str, str, int | None]]:
    for method, numbers in CURVES.items():
        for demos in numbers:
            yield CURVE_TASK, method, demos


def _ablation() -> Iterator[tuple[str, str, int | None]]:
    for method in ABLATION_METHODS:
        for task in ABLATION_TASKS:
            yield task, method, None


PARTS = {"main": _main, "curves": _curves, "ablation": _ablation}


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
