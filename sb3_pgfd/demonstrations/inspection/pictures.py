"""A picture of demonstrations."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium import spaces

from sb3_pgfd.demonstrations.dataset import Demonstrations
from sb3_pgfd.demonstrations.environment import recorded_action_space
from sb3_pgfd.demonstrations.errors import DemonstrationsError
from sb3_pgfd.demonstrations.inspection.coverage import Coverage, state_coverage
from sb3_pgfd.demonstrations.inspection.findings import fits
from sb3_pgfd.utils.files import refuse_existing, write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Components of the actions that get a histogram
MAX_HISTOGRAMS = 8
# Of so few episodes the paths are drawn
_MAX_PATHS = 10
_SUCCESS, _FAILURE, _UNKNOWN, _BOUND, _START = "C0", "C3", "C0", "C1", "C3"


def plot_demonstrations(
    demonstrations: Demonstrations,
    output: str | Path,
    action_space: spaces.Space | None = None,
    overwrite: bool = False,
) -> Path:
    """
    Draw the return and the length of every episode (of one episode its rewards), a histogram of each component of the
    actions, and the states in their first two principal components.

    :param demonstrations: What to draw
    :param output: Path of the picture, e.g. ending ``.png`` or ``.pdf``
    :param action_space: Whose bounds are marked; by default that of the recorded environment, if it is known
    :param overwrite: Whether an existing file may be replaced
    :return: Path of the picture
    :raises FileExistsError: If there is a file already
    :raises DemonstrationsError: If the ending is that of no picture
    :raises ImportError: If matplotlib is not installed
    """
    path = check_picture_path(output, overwrite)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    space = action_space if action_space is not None else recorded_action_space(demonstrations)
    histograms = _histogram_data(demonstrations.actions)
    n_rows = max(1, -(-len(histograms) // 4))
    figure = Figure(figsize=(9.0, 4.4 + 1.9 * n_rows), layout="constrained")
    FigureCanvasAgg(figure)
    halves: Any = figure.subfigures(2, 1, height_ratios=(4.4, 1.9 * n_rows))
    left, right = halves[0].subfigures(1, 2)
    first, second = left.subplots(2, 1, sharex=True)
    if demonstrations.n_episodes == 1:
        _draw_rewards(first, second, demonstrations)
    else:
        _draw_episodes(first, second, demonstrations)
    _draw_states(right.subplots(), state_coverage(demonstrations), demonstrations.n_episodes)
    _draw_actions(halves[1], demonstrations.actions, histograms, space)
    figure.suptitle(_title(demonstrations))
    with write_whole(path, overwrite) as temporary:
        figure.savefig(temporary, format=path.suffix[1:].lower(), dpi=96)
    return path


def check_picture_path(output: str | Path, overwrite: bool) -> Path:
    """
    :param output: Where a picture is to be
    :param overwrite: Whether an existing file may be replaced
    :return: The same as a path
    :raises FileExistsError: If there is a file already
    :raises DemonstrationsError: If the ending is that of no picture
    :raises ImportError: If matplotlib is not installed
    """
    try:
        from matplotlib.backend_bases import FigureCanvasBase
    except ImportError as error:
        raise ImportError(f"Pictures need matplotlib ({error}): pip install sb3-pgfd[plots]") from error
    path, endings = Path(output).expanduser(), FigureCanvasBase.get_supported_filetypes()
    if path.suffix[1:].lower() not in endings:
        raise DemonstrationsError(f"{path}: found the ending {path.suffix!r}, expected one of {', '.join(sorted(endings))}")
    refuse_existing(path, overwrite)
    return path


def _title(demonstrations: Demonstrations) -> str:
    name = demonstrations.metadata.get("env_id") or demonstrations.source or "demonstrations"
    n = demonstrations.n_episodes
    return f"{name}: {n} episode{'s' if n > 1 else ''}, {len(demonstrations):,} transitions"


def _draw_rewards(upper: Axes, lower: Axes, demonstrations: Demonstrations) -> None:
    steps = np.arange(1, len(demonstrations) + 1)
    upper.plot(steps, np.cumsum(demonstrations.rewards, dtype=np.float64), color=_UNKNOWN)
    upper.set_ylabel("sum of rewards so far")
    lower.plot(steps, demonstrations.rewards, color=_UNKNOWN, linewidth=0.8)
    lower.set_ylabel("reward")
    lower.set_xlabel("step")
    for axis in (upper, lower):
        axis.grid(alpha=0.3)


def _draw_episodes(upper: Axes, lower: Axes, demonstrations: Demonstrations) -> None:
    lengths, n = demonstrations.episode_lengths, demonstrations.n_episodes
    terminated = demonstrations.terminated[demonstrations.episode_starts + lengths - 1]
    successes = demonstrations.successes
    groups = [("", _UNKNOWN, np.ones(n, dtype=bool))]
    if successes is not None:
        groups = [("success, ", _SUCCESS, successes), ("failure, ", _FAILURE, ~successes)]
    size = float(np.clip(600 / n, 6, 30))
    for axis, values, label in ((upper, demonstrations.episode_returns, "return"), (lower, lengths, "length")):
        axis.axhline(values.mean(), color="0.6", linewidth=0.8, zorder=0)
        for word, color, chosen in groups:
            for end, which, face in (("terminated", terminated, color), ("truncated", ~terminated, "white")):
                numbers = np.flatnonzero(chosen & which)
                if len(numbers):
                    axis.scatter(numbers, values[numbers], s=size, facecolor=face, edgecolor=color, label=f"{word}{end}")
        axis.set_ylabel(f"{label}\n(line: mean)")
        axis.grid(alpha=0.3)
    upper.legend(fontsize="small", ncols=2, loc="lower left", bbox_to_anchor=(0.0, 1.0), frameon=False)
    lower.set_ylim(0, 1.1 * lengths.max())
    lower.set_xlabel("episode")
    _count(lower.xaxis)


def _histogram_data(actions: np.ndarray) -> list[np.ndarray]:
    """The components that are drawn, each of shape ``(n_transitions,)``."""
    return list(actions.reshape(len(actions), -1).T[:MAX_HISTOGRAMS])


def _draw_actions(figure: Any, actions: np.ndarray, components: list[np.ndarray], space: spaces.Space | None) -> None:
    bounds = _bounds(actions, space)
    n_columns = min(max(len(components), 1), 4)
    axes = figure.subplots(max(1, -(-len(components) // 4)), n_columns, squeeze=False, sharey=len(components) > 1).ravel()
    for number, (axis, values) in enumerate(zip(axes, components, strict=False)):
        _draw_histogram(axis, values, None if bounds is None else (float(bounds[0][number]), float(bounds[1][number])))
        axis.set_title("actions" if len(components) == 1 else f"action {number}", fontsize="medium")
    for axis in axes[len(components) :]:
        axis.set_axis_off()
    for axis in axes[::n_columns]:
        axis.set_ylabel("share of steps")
    n_left_out = int(np.prod(actions.shape[1:])) - len(components)
    notes = [] if bounds is None else ["dashed: bounds of the action space"]
    notes += [f"{n_left_out} more components of the actions are not drawn"] if n_left_out else []
    figure.supxlabel("; ".join(notes), fontsize="small", color="0.5")


def _bounds(actions: np.ndarray, space: spaces.Space | None) -> tuple[np.ndarray, np.ndarray] | None:
    if not isinstance(space, spaces.Box) or not fits(actions, space):
        return None
    return space.low.ravel(), space.high.ravel()


def _draw_histogram(axis: Axes, values: np.ndarray, bounds: tuple[float, float] | None) -> None:
    weights = np.full(len(values), 1 / len(values))
    if values.dtype.kind in "iub":
        actions, counts = np.unique(values, return_counts=True)
        axis.bar(actions, counts / len(values), color=_UNKNOWN)
        _count(axis.xaxis)
    else:
        low, high = float(values.min()), float(values.max())
        if bounds is not None:
            low, high = (min(low, bounds[0]), max(high, bounds[1])) if np.isfinite(bounds).all() else (low, high)
        # One value only still has a place on the axis
        margin = 0.0 if high > low else 0.5
        axis.hist(values, bins=41, range=(low - margin, high + margin), weights=weights, color=_UNKNOWN)
    for bound in bounds or ():
        if np.isfinite(bound):
            axis.axvline(bound, color=_BOUND, linestyle="--", linewidth=1.0)
    axis.grid(alpha=0.3)


def _draw_states(axis: Axes, coverage: Coverage, n_episodes: int) -> None:
    n_components = coverage.points.shape[1]
    note = f"left out: {', '.join(coverage.left_out)}" if coverage.left_out else ""
    if n_components == 0:
        axis.text(0.5, 0.5, f"no states to draw\n{note}", ha="center", color="0.5", transform=axis.transAxes)
        axis.set_axis_off()
        return
    axis.set_title(note, fontsize="small", color="0.5", loc="left")
    # Drawn in random order, or late steps would hide early ones
    order = np.random.default_rng(0).permutation(len(coverage.points))
    x, y = coverage.points.T if n_components == 2 else (coverage.steps, coverage.points[:, 0])
    if n_episodes <= _MAX_PATHS and len(x) > 1:
        # Consecutive states of an episode
        breaks = np.flatnonzero(np.diff(coverage.steps) != 1) + 1
        for rows in np.split(np.arange(len(x)), breaks):
            axis.plot(x[rows], y[rows], color="0.8", linewidth=0.6, zorder=1)
    size = float(np.clip(6000 / len(x), 2, 14))
    points = axis.scatter(x[order], y[order], c=coverage.steps[order], s=size, linewidth=0, zorder=2, rasterized=True)
    colors = axis.figure.colorbar(points, ax=axis, label="step in episode", pad=0.02)
    _count(colors.ax.yaxis)
    start_x, start_y = coverage.starts.T if n_components == 2 else (np.zeros(n_episodes), coverage.starts[:, 0])
    size = float(np.clip(1200 / n_episodes, 8, 40))
    axis.scatter(
        start_x, start_y, s=size, facecolor="none", edgecolor=_START, linewidth=0.2 * size**0.5, label="start", zorder=3
    )
    axis.legend(loc="upper right", fontsize="small")
    names = [f"principal component {i + 1} ({share:.0%} of the variance)" for i, share in enumerate(coverage.variance)]
    axis.set_xlabel(names[0] if n_components == 2 else "step in episode")
    if n_components == 1:
        _count(axis.xaxis)
    axis.set_ylabel(names[-1])
    axis.grid(alpha=0.3)


def _count(axis: Any) -> None:
    """Ticks at whole numbers only."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(integer=True))
