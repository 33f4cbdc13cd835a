"""Plots of demonstrations: returns, lengths, actions, the states they cover, and strips of their images."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from gymnasium import spaces

from sb3_pgfd.demonstrations.dataset import Demonstrations
from sb3_pgfd.demonstrations.environment import recorded_action_space
from sb3_pgfd.demonstrations.errors import DemonstrationsError
from sb3_pgfd.utils.files import install, refuse_existing, write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Action components with a histogram, and episodes with a path, at most
MAX_HISTOGRAMS, _MAX_PATHS = 8, 10
# The state coverage leaves out larger images, and takes at most this many states, and numbers in them
MAX_IMAGE, MAX_STATES, _MAX_NUMBERS = 256, 20_000, 4_000_000
# Episodes with a strip of images, and frames in it
_MAX_STRIPS, _STRIP_FRAMES = 4, 10
_SUCCESS, _FAILURE, _UNKNOWN, _BOUND, _START = "C0", "C3", "C0", "C1", "C3"


def new_figure(size: tuple[float, float]) -> Figure:
    """
    :return: A figure of this width and height in inches, which pyplot does not keep alive
    :raises ImportError: If matplotlib is not installed
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(f"Pictures need matplotlib ({error}): {install('plots')}") from error
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def check_picture_path(output: str | Path, overwrite: bool) -> Path:
    """
    :param output: Path of a picture to be written
    :param overwrite: Whether an existing file may be replaced
    :raises FileExistsError: If there is a file already
    :raises DemonstrationsError: If matplotlib cannot write files with this ending
    :raises ImportError: If matplotlib is not installed
    """
    endings, path = new_figure((1.0, 1.0)).canvas.get_supported_filetypes(), Path(output).expanduser()
    if path.suffix[1:].lower() not in endings:
        raise DemonstrationsError(f"{path}: found the ending {path.suffix!r}, expected one of {', '.join(sorted(endings))}")
    refuse_existing(path, overwrite)
    return path


def plot_demonstrations(
    demonstrations: Demonstrations, output: str | Path, action_space: spaces.Space | None = None, overwrite: bool = False
) -> Path:
    """
    Draw the return and the length of every episode (the rewards if there is only one), a histogram of each action component,
    and the states in their first two principal components; of images also strips, from the beginning to the end of some
    episodes.

    :param demonstrations: Demonstrations to draw
    :param output: Path of the picture, e.g. ending ``.png`` or ``.pdf``
    :param action_space: Action space whose bounds are marked; by default that of the recorded environment, if it is known
    :param overwrite: Whether an existing file may be replaced
    :return: Path of the picture
    :raises FileExistsError, DemonstrationsError, ImportError: See :func:`check_picture_path`
    """
    path = check_picture_path(output, overwrite)
    space = action_space if action_space is not None else recorded_action_space(demonstrations)
    components = list(demonstrations.actions.reshape(len(demonstrations), -1).T[:MAX_HISTOGRAMS])
    n_rows = max(1, math.ceil(len(components) / 4))
    strips = image_strips(demonstrations)
    heights = (4.4, 1.9 * n_rows, *(9.0 * strip.shape[0] / strip.shape[1] + 0.4 for strip in strips.values()))
    figure = new_figure((9.0, sum(heights)))
    halves: Any = figure.subfigures(len(heights), 1, height_ratios=heights)
    left, right = halves[0].subfigures(1, 2)
    draw = _draw_rewards if demonstrations.n_episodes == 1 else _draw_episodes
    upper, lower = left.subplots(2, 1, sharex=True)
    draw(upper, lower, demonstrations)
    _draw_states(right.subplots(), state_coverage(demonstrations), demonstrations.n_episodes)
    _draw_actions(halves[1], demonstrations.actions, components, space)
    for part, (title, strip) in zip(halves[2:], strips.items(), strict=True):
        axis = part.subplots()
        axis.imshow(strip, aspect="equal", interpolation="nearest")
        axis.set_title(title, fontsize="small", color="0.5", loc="left")
        axis.set_axis_off()
    name, n = demonstrations.metadata.get("env_id") or demonstrations.source or "demonstrations", demonstrations.n_episodes
    figure.suptitle(f"{name}: {n} episode{'s' if n > 1 else ''}, {len(demonstrations):,} transitions")
    with write_whole(path, overwrite) as temporary:
        figure.savefig(temporary, format=path.suffix[1:].lower(), dpi=96)
    return path


def image_strips(demonstrations: Demonstrations) -> dict[str, np.ndarray]:
    """
    :return: For each image among the observations, by a title: a row of frames for each of the first episodes, from its first
        to its last, uint8 of shape ``(height, width, 3)``
    """
    observations, after = demonstrations.observations, demonstrations.next_observations
    by_key = observations if isinstance(observations, Mapping) else {"images": observations}
    strips: dict[str, np.ndarray] = {}
    for key, array in by_key.items():
        if array.dtype != np.uint8 or array.ndim != 4 or math.prod(array.shape[1:]) <= MAX_IMAGE:
            continue
        ends = after[key] if isinstance(after, Mapping) else after
        numbers = np.arange(min(demonstrations.n_episodes, _MAX_STRIPS))
        lines = []
        for start, length in zip(demonstrations.episode_starts[numbers], demonstrations.episode_lengths[numbers], strict=True):
            steps = np.linspace(0, length, _STRIP_FRAMES).round().astype(int)
            frames = [ends[start + length - 1] if step == length else array[start + step] for step in steps]
            lines.append(np.concatenate([_rgb(frame) for frame in frames], axis=1))
        name = key if isinstance(observations, Mapping) else "observations"
        strips[f"{name}: episodes {', '.join(map(str, numbers))}, from the first frame to the last"] = np.concatenate(lines)
    return strips


def _rgb(frame: np.ndarray) -> np.ndarray:
    """:return: An image with three channels, which come last; of a stack of frames the newest"""
    frame = np.moveaxis(frame, 0, -1) if frame.shape[0] < min(frame.shape[1:]) else frame
    return np.repeat(frame[..., -1:], 3, axis=-1) if frame.shape[-1] in (1, 2) else frame[..., -3:]


def _draw_rewards(upper: Axes, lower: Axes, demonstrations: Demonstrations) -> None:
    rewards = demonstrations.rewards
    for axis, values, label in (
        (upper, rewards.cumsum(dtype=np.float64), "sum of rewards so far"),
        (lower, rewards, "reward"),
    ):
        axis.plot(np.arange(1, len(rewards) + 1), values, color=_UNKNOWN)
        axis.set_ylabel(label)
        axis.grid(alpha=0.3)
    lower.set_xlabel("step")


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
    lower.set(ylim=(0, 1.1 * lengths.max()), xlabel="episode")
    _use_integer_ticks(lower.xaxis)


def _draw_actions(figure: Any, actions: np.ndarray, components: list[np.ndarray], space: spaces.Space | None) -> None:
    bounds = None
    if isinstance(space, spaces.Box) and actions.shape[1:] == space.shape:
        bounds = np.stack((space.low.ravel(), space.high.ravel()), axis=1).tolist()
    n_columns, n_rows = min(max(len(components), 1), 4), max(1, math.ceil(len(components) / 4))
    axes = figure.subplots(n_rows, n_columns, squeeze=False, sharey=len(components) > 1).ravel()
    for number, (axis, values) in enumerate(zip(axes, components, strict=False)):
        _draw_histogram(axis, values, () if bounds is None else tuple(bounds[number]))
        axis.set_title("actions" if len(components) == 1 else f"action {number}", fontsize="medium")
    for axis in axes[len(components) :]:
        axis.set_axis_off()
    for axis in axes[::n_columns]:
        axis.set_ylabel("share of steps")
    n_left_out = math.prod(actions.shape[1:]) - len(components)
    notes = [] if bounds is None else ["dashed: bounds of the action space"]
    notes += [f"{n_left_out} more action components are not drawn"] if n_left_out else []
    figure.supxlabel("; ".join(notes), fontsize="small", color="0.5")


def _draw_histogram(axis: Axes, values: np.ndarray, bounds: tuple[float, ...]) -> None:
    if values.dtype.kind in "iub":
        actions, counts = np.unique(values, return_counts=True)
        axis.bar(actions, counts / len(values), color=_UNKNOWN)
        _use_integer_ticks(axis.xaxis)
    else:
        ends = bounds if np.isfinite(bounds).all() else ()
        low, high = min([float(values.min()), *ends]), max([float(values.max()), *ends])
        # A single value still needs some width
        margin = 0.0 if high > low else 0.5
        weights = np.full(len(values), 1 / len(values))
        axis.hist(values, bins=41, range=(low - margin, high + margin), weights=weights, color=_UNKNOWN)
    for bound in bounds:
        if np.isfinite(bound):
            axis.axvline(bound, color=_BOUND, linestyle="--", linewidth=1.0)
    axis.grid(alpha=0.3)


def _use_integer_ticks(axis: Any) -> None:
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(integer=True))


class Coverage(NamedTuple):
    """States in their first two principal components, or fewer if fewer numbers change."""

    points: np.ndarray  # Shape (n_states, n_components)
    steps: np.ndarray  # Step of each state in its episode, shape (n_states,)
    starts: np.ndarray  # First states of the episodes, shape (n_episodes, n_components)
    variance: np.ndarray  # Share of the variance along each component, shape (n_components,)
    left_out: list[str]  # Observations that are too large, with their shapes


def state_coverage(demonstrations: Demonstrations) -> Coverage:
    """
    Principal components of the observations, with each number standardised. The arrays of Dict observations are joined;
    images of more than ``MAX_IMAGE`` numbers and numbers that never change are left out. If there are more than
    ``MAX_STATES`` transitions, a random choice of them is used.
    """
    observations = demonstrations.observations
    arrays = observations if isinstance(observations, Mapping) else {"images": observations}
    large = [name for name, array in arrays.items() if array.ndim > 2 and math.prod(array.shape[1:]) > MAX_IMAGE]
    chosen = [array.reshape(len(array), -1) for name, array in arrays.items() if name not in large]
    starts, n_rows = demonstrations.episode_starts, len(demonstrations)
    n_wanted = min(n_rows, MAX_STATES, max(100, _MAX_NUMBERS // max(sum(array.shape[1] for array in chosen), 1)))
    rows = np.sort(np.random.default_rng(0).permutation(n_rows)[:n_wanted])
    states, first = _join(chosen, rows), _join(chosen, starts)
    # Not by the standard deviation: that of equal numbers may be a rounding error
    low, high = states.min(axis=0), states.max(axis=0)
    moving = low < high
    # In units whose squares cannot overflow
    unit = np.maximum(np.abs(low), np.abs(high))[moving]
    states, first = states[:, moving] / unit, first[:, moving] / unit
    mean, scale = states.mean(axis=0), states.std(axis=0)
    states, first = (states - mean) / scale, (first - mean) / scale
    _, singular, directions = np.linalg.svd(states, full_matrices=False)
    directions = directions[:2]
    # The sign of a direction is arbitrary; the same file must give the same picture
    directions *= np.sign(directions.sum(axis=1, keepdims=True) + 1e-12)
    return Coverage(
        points=states @ directions.T,
        steps=rows - starts[np.searchsorted(starts, rows, side="right") - 1],
        starts=first @ directions.T,
        variance=(singular**2 / max((singular**2).sum(), 1e-300))[:2],
        left_out=[f"{name} {'x'.join(map(str, arrays[name].shape[1:]))}" for name in large],
    )


def _join(arrays: list[np.ndarray], rows: np.ndarray) -> np.ndarray:
    return np.concatenate([np.empty((len(rows), 0)), *(array[rows].astype(np.float64) for array in arrays)], axis=1)


def _draw_states(axis: Axes, coverage: Coverage, n_episodes: int) -> None:
    n_components = coverage.points.shape[1]
    note = f"left out: {', '.join(coverage.left_out)}" if coverage.left_out else ""
    if n_components == 0:
        axis.text(0.5, 0.5, f"no states to draw\n{note}", ha="center", color="0.5", transform=axis.transAxes)
        axis.set_axis_off()
        return
    axis.set_title(note, fontsize="small", color="0.5", loc="left")
    # In random order, otherwise late steps hide early ones
    order = np.random.default_rng(0).permutation(len(coverage.points))
    x, y = coverage.points.T if n_components == 2 else (coverage.steps, coverage.points[:, 0])
    if n_episodes <= _MAX_PATHS and len(x) > 1:
        # Split where the states are not consecutive steps of an episode
        breaks = np.flatnonzero(np.diff(coverage.steps) != 1) + 1
        for rows in np.split(np.arange(len(x)), breaks):
            axis.plot(x[rows], y[rows], color="0.8", linewidth=0.6, zorder=1)
    size = float(np.clip(6000 / len(x), 2, 14))
    points = axis.scatter(x[order], y[order], c=coverage.steps[order], s=size, linewidth=0, zorder=2, rasterized=True)
    _use_integer_ticks(axis.figure.colorbar(points, ax=axis, label="step in episode", pad=0.02).ax.yaxis)
    start_x, start_y = coverage.starts.T if n_components == 2 else (np.zeros(n_episodes), coverage.starts[:, 0])
    size = float(np.clip(1200 / n_episodes, 8, 40))
    style = {"s": size, "facecolor": "none", "edgecolor": _START, "linewidth": 0.2 * size**0.5}
    axis.scatter(start_x, start_y, label="start", zorder=3, **style)
    axis.legend(loc="upper right", fontsize="small")
    names = [f"principal component {i + 1} ({share:.0%} of the variance)" for i, share in enumerate(coverage.variance)]
    axis.set(xlabel=names[0] if n_components == 2 else "step in episode", ylabel=names[-1])
    if n_components == 1:
        _use_integer_ticks(axis.xaxis)
    axis.grid(alpha=0.3)
