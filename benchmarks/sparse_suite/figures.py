"""The figures of the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.sparse_suite.cells import (
    ABLATION_METHODS,
    ABLATION_TASKS,
    FEW_DEMOS,
    FEW_METHODS,
    MAIN,
    MAIN_ROWS,
    demos_of,
)
from benchmarks.sparse_suite.scores import Estimate, Outcome, curve_of, estimate, select
from benchmarks.sparse_suite.settings import ABLATION_STEPS
from benchmarks.sparse_suite.tasks import TASKS, Task
from sb3_pgfd.demonstrations.inspection.plots import new_figure
from sb3_pgfd.utils.files import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAMES = {
    "td3fd": "TD3fD",
    "td3fd_starts": "TD3fD, starts in demonstrations",
    "td3fd_ibrl": "IBRL",
    "sacfd": "SACfD",
    "sacfd_as_sac": "SACfD without cloning, as SAC",
    "ddpgfd_paper": "DDPGfD as in the paper",
    "ddpgfd_relative": "DDPGfD, relative bonus and return range",
    "bc": "behaviour cloning",
    "bc_plain": "cloning, observations alone",
    "rlpd": "RLPD",
    "sac_demos": "SAC, half of the batches demonstrations",
    "sac_her": "SAC + HER, no demonstrations",
    "sac": "SAC, no demonstrations",
    "td3": "TD3, no demonstrations",
    "a2cfd": "A2CfD",
    "expert": "the expert",
}
# Okabe and Ito's colours, which people with any kind of colour vision can tell apart. The strongest is for TD3fD
COLORS = {
    "td3fd": "#D55E00",
    "td3fd_starts": "#8F3F00",
    "ddpgfd_paper": "#0072B2",
    "ddpgfd_relative": "#7FB8D8",
    "bc": "#000000",
    "bc_plain": "#6E6E6E",
    "td3fd_ibrl": "#F0A07A",
    "sacfd_as_sac": "#00C49A",
    "rlpd": "#004D38",
    "sac_demos": "#009E73",
    "sac_her": "#CC79A7",
    "sac": "#8A4FBF",
    "td3": "#E69F00",
    "a2cfd": "#8C8C8C",
}
ABLATION_NAMES = {
    "td3fd_uniform": "uniform replay, no half batches",
    "td3fd_priorities": "priorities in place of half batches",
    "td3fd_no_n_step": "1-step returns only",
    "td3fd_no_pretraining": "no pretraining, so no proposals",
    "td3fd_no_warmup": "no warm-up of the critic",
    "td3fd_no_l2": "no L2",
    "td3fd_no_bc": "no cloning loss, proposals stay",
    "td3fd_no_q_filter": "no Q-filter",
    "td3fd_no_proposals": "no proposals of the clone",
    "td3fd_two_critics": "two critics",
    "td3fd_with_noise": "successes cloned with their noise",
    "td3fd_no_layer_norm": "no LayerNorm",
    "td3fd_no_successes": "own successes not kept",
    "td3fd_no_averaging": "no averaged actor",
}
LEARNING = tuple(method for method in MAIN if method in COLORS)
_MARKERS = dict(zip(LEARNING, "oH^sDvP*Xd<>ph", strict=True))
_N_COLUMNS = 3


def rows_with_results(outcomes: Sequence[Outcome]) -> list[tuple[Task, int]]:
    """:return: The tasks with their numbers of demonstrations that a method has learned from"""
    learned = {(outcome.cell.task, outcome.cell.demos) for outcome in outcomes if outcome.cell.method in MAIN}
    return [(task, demos) for task, demos in MAIN_ROWS if (task.name, demos) in learned]


def with_results(methods: Sequence[str], outcomes: Sequence[Outcome]) -> list[str]:
    """:return: The methods that have a finished run"""
    finished = {outcome.cell.method for outcome in outcomes}
    return [method for method in methods if method in finished]


def draw_learning(outcomes: Sequence[Outcome], path: Path) -> Path:
    """
    Success rate against environment steps, one plot per task and number of demonstrations.

    :param outcomes: All outcomes
    :param path: Path of the figure
    :return: The path
    """
    rows = rows_with_results(outcomes)
    figure, axes = _plots(len(rows), 3.6)
    for (task, demos), axis in zip(rows, axes.flat, strict=False):
        for method in LEARNING:
            own = select(outcomes, task.name, method, demos_of(method, demos))
            if own:
                _draw_curve(axis, own, task, method)
        _format(axis, f"{task.env_id}, {_count(demos)}")
        axis.set_xlim(0, task.steps / 1000)
        axis.set_xlabel("1,000 environment steps")
    for plots in axes:
        plots[0].set_ylabel("success rate")
    _legend(figure, axes.flat)
    return _save(figure, path)


def _plots(n_plots: int, height: float, **kwargs: Any) -> tuple[Figure, Any]:
    """:return: A figure with so many plots, each this high in inches"""
    n_rows = max(-(-n_plots // _N_COLUMNS), 1)
    figure = new_figure((12.0, height * n_rows))
    axes = figure.subplots(n_rows, _N_COLUMNS, squeeze=False, **kwargs)
    for axis in axes.flat[n_plots:]:
        axis.set_axis_off()
    return figure, axes


def _draw_curve(axis: Axes, own: Sequence[Outcome], task: Task, method: str) -> None:
    steps, estimates = curve_of(own)
    if len(steps) == 1:
        # A method that takes no steps is a horizontal line
        steps, estimates = np.array([0.0, task.steps]), estimates * 2
    best = method == LEARNING[0]
    lines: dict[str, Any] = {"linewidth": 2.8 if best else 1.4, "zorder": 4 if best else 3, "color": COLORS[method]}
    points = {"marker": _MARKERS[method], "markersize": 4 if best else 3}
    style = {"linestyle": "--"} if len(own[0].steps) == 1 else points
    axis.plot(steps / 1000, [item.value for item in estimates], label=NAMES[method], **lines, **style)
    low, high = [item.low for item in estimates], [item.high for item in estimates]
    axis.fill_between(steps / 1000, low, high, color=COLORS[method], alpha=0.25 if best else 0.12, linewidth=0)


def draw_scores(outcomes: Sequence[Outcome], path: Path) -> Path:
    """
    Score of every method, one plot per task and number of demonstrations.

    :param outcomes: All outcomes
    :param path: Path of the figure
    :return: The path
    """
    rows = rows_with_results(outcomes)
    methods = with_results(LEARNING, outcomes)
    figure, axes = _plots(len(rows), 3.4, sharey=True)
    for (task, demos), axis in zip(rows, axes.flat, strict=False):
        for place, method in enumerate(reversed(methods)):
            own = select(outcomes, task.name, method, demos_of(method, demos))
            _draw_bar(axis, place, estimate([outcome.score(task.steps) for outcome in own]), COLORS[method])
        _format(axis, f"{task.env_id}\n{_count(demos)}", vertical=False)
        axis.set_yticks(range(len(methods)), [NAMES[method] for method in reversed(methods)])
    for axis in axes[-1]:
        axis.set_xlabel("score")
    return _save(figure, path)


def _draw_bar(axis: Axes, place: int, found: Estimate | None, color: str) -> None:
    if found is None:
        return
    axis.barh(place, found.value, color=color, height=0.7, zorder=2)
    if found.n_seeds > 1:
        # The white rim makes the line visible on any colour
        for color, width in (("white", 3.5), ("black", 1.5)):
            axis.plot([found.low, found.high], [place, place], color=color, linewidth=width, zorder=3, solid_capstyle="butt")
    axis.text(max(found.value, found.high) + 0.02, place, f"{found.value:.2f}", va="center", fontsize="small")


def draw_demonstrations(outcomes: Sequence[Outcome], path: Path) -> Path:
    """
    Score against the number of demonstrations, one plot per task.

    :param outcomes: All outcomes
    :param path: Path of the figure
    :return: The path
    """
    figure, axes = _plots(len(TASKS), 3.4)
    for task, axis in zip(TASKS.values(), axes.flat, strict=False):
        for method in FEW_METHODS:
            found = {
                place: estimate([outcome.score(task.steps) for outcome in select(outcomes, task.name, method, demos)])
                for place, demos in enumerate(FEW_DEMOS)
            }
            known = {place: item for place, item in found.items() if item is not None}
            items = list(known.values())
            style = {"marker": _MARKERS[method], "color": COLORS[method], "linewidth": 2.0}
            axis.plot(list(known), [item.value for item in items], label=NAMES[method], **style)
            low, high = [item.low for item in items], [item.high for item in items]
            axis.fill_between(list(known), low, high, color=COLORS[method], alpha=0.15, linewidth=0)
        _format(axis, task.env_id)
        axis.set_xticks(range(len(FEW_DEMOS)), [str(demos) for demos in FEW_DEMOS])
        axis.set_xlabel("demonstrations")
    for row in axes:
        row[0].set_ylabel("score")
    _legend(figure, axes.flat)
    return _save(figure, path)


def draw_ablation(outcomes: Sequence[Outcome], path: Path) -> Path:
    """
    Score of TD3fD, and with each of the changes of the ablation.

    :param outcomes: All outcomes
    :param path: Path of the figure
    :return: The path
    """
    methods = with_results(("td3fd", *ABLATION_METHODS), outcomes)
    figure = new_figure((9.6, 3.8))
    axes = figure.subplots(1, len(ABLATION_TASKS), sharey=True)
    for name, axis in zip(ABLATION_TASKS, axes, strict=True):
        task = TASKS[name]
        for place, method in enumerate(reversed(methods)):
            own = select(outcomes, name, method, task.n_demos)
            color = COLORS["td3fd"] if method == "td3fd" else COLORS["ddpgfd_paper"]
            _draw_bar(axis, place, estimate([outcome.score(ABLATION_STEPS) for outcome in own]), color)
        _format(axis, f"{task.env_id}, {_count(task.n_demos)}", vertical=False)
        axis.set_yticks(range(len(methods)), [ablation_name(method) for method in reversed(methods)])
        axis.set_xlabel(f"score at {ABLATION_STEPS:,} steps")
    return _save(figure, path)


def ablation_name(method: str) -> str:
    """:return: Name of a method of the ablation"""
    return {**NAMES, **ABLATION_NAMES}.get(method, method.removeprefix("td3fd_").replace("_", " "))


def _count(n_demos: int) -> str:
    return "1 demonstration" if n_demos == 1 else f"{n_demos} demonstrations"


def _format(axis: Axes, title: str, vertical: bool = True) -> None:
    axis.set_title(title, loc="left", fontsize="medium")
    axis.grid(alpha=0.3, axis="both" if vertical else "x")
    axis.set_axisbelow(True)
    if vertical:
        axis.set_ylim(-0.03, 1.03)
    else:
        axis.set_xlim(0.0, 1.15)
        axis.set_xticks(np.linspace(0.0, 1.0, 6))
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


def _legend(figure: Figure, axes: Any) -> None:
    """Draw one legend for all plots, below them."""
    handles: dict[str, Any] = {}
    for axis in axes:
        handles.update({label: handle for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)})
    order = [name for name in NAMES.values() if name in handles]
    if order:
        # The longest name takes about 3.5 inches
        columns = min(len(order), int(figure.get_figwidth() // 3.5))
        figure.legend([handles[name] for name in order], order, loc="outside lower center", ncols=columns, frameon=False)


def _save(figure: Figure, path: Path) -> Path:
    with write_whole(path, overwrite=True) as temporary:
        figure.savefig(temporary, format="png", dpi=100)
    return path
