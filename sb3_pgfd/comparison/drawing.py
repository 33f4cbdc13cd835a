"""The picture: one row of plots for each environment."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sb3_pgfd.comparison.aggregate import Band, Curve
from sb3_pgfd.comparison.references import Reference
from sb3_pgfd.demonstrations.inspection.plots import check_picture_path, new_figure
from sb3_pgfd.utils.files import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's, which people with any kind of colour vision can tell apart; yellow is too pale for a line, and black
# is kept for the demonstrations
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
# When colours begin again
_LINES = ("-", "-.", ":")
_DEMONSTRATIONS = ("--", (0, (1, 1.5)), (0, (6, 2, 1, 2)))
# Curves of so few evaluations show them as points
_MAX_POINTS = 25


def draw(
    curves: Sequence[Curve],
    references: Sequence[Reference],
    output: str | Path,
    title: str | None = None,
    overwrite: bool = False,
) -> Path:
    """
    Draw the return and, for environments where every curve knows it, the success rate against environment steps, each
    with its interval, and the demonstrations' own as a dashed line.

    :param curves: By environment, see :func:`~sb3_pgfd.comparison.aggregate`
    :param references: The demonstrations
    :param output: Path of the picture, e.g. ending ``.png`` or ``.pdf``
    :param title: Above all
    :param overwrite: Whether an existing file may be replaced
    :return: The path
    :raises FileExistsError: If there is a file already
    :raises DemonstrationsError: If the ending is that of no picture
    :raises ImportError: If matplotlib is not installed
    """
    path = check_picture_path(output, overwrite)
    rows = {env: [curve for curve in curves if curve.env == env] for env in dict.fromkeys(curve.env for curve in curves)}
    styles = _styles(curves)
    with_success = {env: all(curve.successes is not None for curve in row) for env, row in rows.items()}
    n_columns = 2 if any(with_success.values()) else 1
    figure = new_figure((2.6 + 4.8 * n_columns, 0.4 + 3.1 * len(rows)))
    axes = figure.subplots(len(rows), n_columns, squeeze=False)
    for (env, row), row_axes in zip(rows.items(), axes, strict=True):
        own = [reference for reference in references if reference.env == env]
        _draw_row(row_axes, row, own, styles, with_success[env])
        row_axes[0].set_title(env, loc="left", fontweight="bold")
    if title is not None:
        figure.suptitle(title)
    with write_whole(path, overwrite) as temporary:
        figure.savefig(temporary, format=path.suffix[1:].lower(), dpi=120)
    return path


def _styles(curves: Sequence[Curve]) -> dict[str, dict[str, Any]]:
    """A label looks the same in all environments."""
    labels = list(dict.fromkeys(curve.label for curve in curves))
    n = len(COLORS)
    return {
        label: {"color": COLORS[i % n], "linestyle": _LINES[i // n % len(_LINES)], "zorder": 3}
        for i, label in enumerate(labels)
    }


def _draw_row(
    axes: Sequence[Axes],
    curves: Sequence[Curve],
    references: Sequence[Reference],
    styles: dict[str, dict[str, Any]],
    with_success: bool,
) -> None:
    for curve in curves:
        seeds = "1 seed" if curve.n_seeds == 1 else f"{curve.n_seeds} seeds"
        _draw_curve(axes[0], curve, curve.returns, {**styles[curve.label], "label": f"{curve.label} ({seeds})"})
        if with_success:
            _draw_curve(axes[1], curve, curve.successes, styles[curve.label])
    for number, reference in enumerate(references):
        style: dict[str, Any] = {
            "color": "black",
            "linestyle": _DEMONSTRATIONS[number % len(_DEMONSTRATIONS)],
            "linewidth": 1.2,
        }
        name = "demonstrations" if len(references) == 1 else f"demonstrations\n{reference.name}"
        axes[0].axhline(reference.mean_return, label=name, **style)
        if with_success and reference.success_rate is not None:
            axes[1].axhline(reference.success_rate, **style)
    for axis, label in zip(axes, ("return", "success rate") if with_success else ("return",), strict=False):
        axis.set_ylabel(label)
        _format(axis)
    if with_success:
        axes[1].set_ylim(-0.04, 1.04)
    for axis in axes[2 if with_success else 1 :]:
        axis.set_axis_off()
    # Beside the plots, nothing is hidden behind it; in the empty place of a missing plot if there is one
    x = 1.01 if with_success or len(axes) == 1 else 0.0
    handles, labels = axes[0].get_legend_handles_labels()
    axes[-1].legend(handles, labels, loc="upper left", bbox_to_anchor=(x, 1.02), frameon=False, fontsize="small")


def _draw_curve(axis: Axes, curve: Curve, band: Band | None, style: dict[str, Any]) -> None:
    if band is None:
        return
    marker = "o" if len(curve.timesteps) <= _MAX_POINTS else ""
    axis.plot(curve.timesteps, band.values, marker=marker, markersize=3, linewidth=1.6, **style)
    if band.low is not None and band.high is not None:
        axis.fill_between(curve.timesteps, band.low, band.high, color=style["color"], alpha=0.18, linewidth=0, zorder=2)


def _format(axis: Axes) -> None:
    axis.grid(alpha=0.3)
    axis.set_xlabel("environment steps (thousands)")
    axis.xaxis.set_major_formatter(lambda step, _: f"{step / 1000:,g}")
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
