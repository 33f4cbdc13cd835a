"""The figure of a comparison: one row of plots for each environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sb3_pgfd.comparison.curves import Curve
from sb3_pgfd.comparison.references import Reference
from sb3_pgfd.demonstrations.inspection.plots import check_picture_path, new_figure
from sb3_pgfd.utils.files import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's palette for all kinds of colour vision, without yellow, which is too pale, and black (demonstrations)
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
# For the labels beyond the colours
_LINES = ("-", "-.", ":")
_DEMONSTRATIONS = ("--", (0, (1, 1.5)), (0, (6, 2, 1, 2)))
# Curves of up to this many evaluations show them as points
_MAX_POINTS = 25


def draw(
    curves: Sequence[Curve],
    references: Sequence[Reference],
    output: str | Path,
    title: str | None = None,
    overwrite: bool = False,
) -> Path:
    """
    Plot the return against environment steps and, for environments where every curve has it, the success rate, each with its
    interval. A dashed line shows the demonstrations.

    :param curves: Curves of :func:`~sb3_pgfd.comparison.aggregate`
    :param references: Demonstrations
    :param output: Path of the picture, e.g. ending in ``.png`` or ``.pdf``
    :param overwrite: Whether an existing file may be replaced
    :return: The path
    :raises FileExistsError, DemonstrationsError, ImportError: See :func:`check_picture_path`
    """
    path = check_picture_path(output, overwrite)
    rows = {env: [curve for curve in curves if curve.env == env] for env in dict.fromkeys(curve.env for curve in curves)}
    has_success = {env: all(curve.successes is not None for curve in row) for env, row in rows.items()}
    n_columns = 1 + any(has_success.values())
    figure = new_figure((2.6 + 4.8 * n_columns, 0.4 + 3.1 * len(rows)))
    axes = figure.subplots(len(rows), n_columns, squeeze=False)
    # A label has the same style in all environments
    styles = {
        label: {"color": COLORS[i % len(COLORS)], "linestyle": _LINES[i // len(COLORS) % len(_LINES)], "zorder": 3}
        for i, label in enumerate(dict.fromkeys(curve.label for curve in curves))
    }
    for (env, row), row_axes in zip(rows.items(), axes, strict=True):
        plots = ("return", "success rate") if has_success[env] else ("return",)
        _draw_row(row_axes, plots, row, [reference for reference in references if reference.env == env], styles)
        row_axes[0].set_title(env, loc="left", fontweight="bold")
    if title is not None:
        figure.suptitle(title)
    with write_whole(path, overwrite) as temporary:
        figure.savefig(temporary, format=path.suffix[1:].lower(), dpi=120)
    return path


def _draw_row(
    axes: Sequence[Axes],
    plots: Sequence[str],
    curves: Sequence[Curve],
    references: Sequence[Reference],
    styles: Mapping[str, Any],
) -> None:
    for axis, name in zip(axes, plots, strict=False):
        for curve in curves:
            band = curve.returns if name == "return" else curve.successes
            assert band is not None
            steps, style = curve.timesteps, styles[curve.label]
            label = f"{curve.label} ({len(curve.runs)} seed{'' if len(curve.runs) == 1 else 's'})"
            marker = "o" if len(steps) <= _MAX_POINTS else ""
            axis.plot(steps, band.values, label=label, marker=marker, markersize=3, linewidth=1.6, **style)
            if band.low is not None and band.high is not None:
                axis.fill_between(steps, band.low, band.high, color=style["color"], alpha=0.18, linewidth=0, zorder=2)
        for i, reference in enumerate(references):
            value = reference.mean_return if name == "return" else reference.success_rate
            label = "demonstrations" if len(references) == 1 else f"demonstrations\n{reference.name}"
            if value is not None:
                line = _DEMONSTRATIONS[i % len(_DEMONSTRATIONS)]
                axis.axhline(value, label=label, color="black", linestyle=line, linewidth=1.2)
        axis.set_ylabel(name)
        axis.set_xlabel("environment steps (thousands)")
        axis.xaxis.set_major_formatter(lambda step, _: f"{step / 1000:,g}")
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    if len(plots) == 2:
        axes[1].set_ylim(-0.04, 1.04)
    for axis in axes[len(plots) :]:
        axis.set_axis_off()
    # The legend stands beside the plots, where it hides nothing, or in the place of a missing plot
    x = 1.01 if len(plots) == len(axes) else 0.0
    handles, labels = axes[0].get_legend_handles_labels()
    axes[-1].legend(handles, labels, loc="upper left", bbox_to_anchor=(x, 1.02), frameon=False, fontsize="small")
