"""Plots of a training run."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sb3_pgfd.demonstrations.inspection.plots import new_figure
from sb3_pgfd.utils.files import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Curve = tuple[np.ndarray, np.ndarray]

# Width of the pretraining, left of step 0, relative to the environment steps: its updates take no environment steps
PRETRAIN_WIDTH = 0.15
_STEPS, _PRETRAIN_UPDATES = "time/total_timesteps", "pretrain/n_updates"
_METRICS = {
    "critic_loss": "critic loss",
    "value_loss": "value loss",
    "q_mean": "mean Q",
    "actor_loss": "actor loss",
    "policy_loss": "policy loss",
    "bc_loss": "cloning loss",
    "demo_fraction": "demonstrations\nin the batches",
}
_INTERVENTIONS = "rollout/intervention_rate"
_PANEL_HEIGHT = 2.2


def plot_run(log_dir: str | Path, output: str | Path | None = None) -> Path:
    """
    Save the figure of :func:`run_figure`, which raises the same errors.

    :param log_dir: Folder of the run
    :param output: Path of the picture, by default ``run.png`` in that folder; an existing file is replaced
    :return: Path of the picture
    """
    path = Path(log_dir) / "run.png" if output is None else Path(output)
    figure = run_figure(log_dir)
    with write_whole(path, overwrite=True) as temporary:
        figure.savefig(temporary, dpi=100, format=path.suffix[1:] or "png")
    return path


def run_figure(log_dir: str | Path) -> Figure:
    """
    Draw one run over its environment steps: the return of every episode, the success of evaluations (their return, if the
    environment reports no success), losses and Q, the share of demonstrations in the batches where priorities decide it, and,
    if somebody could take over, the share of steps that were interventions. Pretraining is drawn left of step 0.

    :param log_dir: A folder with ``progress.csv`` (SB3's CSV logger), and optionally ``*.monitor.csv`` (SB3's
        ``Monitor``) and ``evaluations.npz`` (SB3's ``EvalCallback``), as ``python -m sb3_pgfd.train`` writes them
    :return: The figure, which pyplot does not keep alive
    :raises FileNotFoundError: If there is no ``progress.csv``
    :raises ImportError: If matplotlib is not installed
    """
    folder = Path(log_dir)
    rows = _read_progress(folder / "progress.csv")
    episodes, (evaluations, evaluated) = _episode_returns(folder), _evaluations(folder)
    steps = (episodes[0], evaluations[0], _curve(rows, _STEPS, _STEPS)[0])
    last_step = max((float(values[-1]) for values in steps if len(values)), default=1.0)
    n_pretrain = max(_curve(rows, _PRETRAIN_UPDATES, _PRETRAIN_UPDATES)[0], default=0.0)

    interventions = _curve(rows, _STEPS, _INTERVENTIONS)
    metrics = _metrics_to_draw(rows)
    n_panels = 2 + len(metrics) + (len(interventions[0]) > 0)
    figure = new_figure((9.0, _PANEL_HEIGHT * n_panels))
    axes: list[Axes] = list(figure.subplots(n_panels, 1, sharex=True))
    axes[0].set_title(folder.resolve().name)
    axes[0].plot(*episodes, color="0.75", linewidth=0.8, label="each episode")
    axes[0].plot(*_smooth(episodes), color="C0", label="mean of 10 episodes")
    axes[0].set_ylabel("episode return\n(with exploration)")
    axes[0].legend(loc="lower right", fontsize="small")
    axes[1].plot(*evaluations, color="C1", marker="o", markersize=4)
    axes[1].set_ylabel(f"evaluation {evaluated}")
    shares = [axes[1]] if evaluated == "success" else []
    for axis, name in zip(axes[2:], metrics, strict=False):
        _draw_metric(axis, rows, name, n_pretrain, PRETRAIN_WIDTH * last_step)
        axis.set_ylabel(_METRICS[name])
        shares += [axis] if name == "demo_fraction" else []
    if len(interventions[0]):
        axes[-1].plot(*interventions, color="C3")
        axes[-1].set_ylabel("interventions\n(share of steps)")
        shares.append(axes[-1])
    for axis in shares:
        axis.set_ylim(-0.05, 1.05)
    axes[-1].set_xlabel("environment steps")
    for axis in axes:
        axis.grid(alpha=0.3)
        if n_pretrain:
            axis.axvspan(-PRETRAIN_WIDTH * last_step, 0.0, color="C2", alpha=0.08, linewidth=0)
            axis.axvline(0.0, color="C2", linewidth=0.8)
    if n_pretrain:
        axes[0].set_title(f"pretraining: {n_pretrain:,.0f} updates", loc="left", fontsize="small", color="C2")
    # Left of 0 the axis counts updates
    axes[-1].set_xticks([tick for tick in axes[-1].get_xticks() if 0.0 <= tick <= last_step])
    return figure


def _metrics_to_draw(rows: list[dict[str, str]]) -> list[str]:
    """:return: Those that were logged and say something"""
    values = {name: _curve(rows, _STEPS, f"train/{name}")[1] for name in _METRICS}
    logged = [name for name in _METRICS if len(values[name])]
    if "q_mean" in logged:
        # The actor's loss is Q again, and constant in units of Q
        logged = [name for name in logged if name != "actor_loss"]
    # A share that is a setting does not move
    return [name for name in logged if name != "demo_fraction" or np.ptp(values[name]) > 0.01]


def _draw_metric(axis: Axes, rows: list[dict[str, str]], name: str, n_pretrain: float, pretrain_width: float) -> None:
    updates, before = _curve(rows, _PRETRAIN_UPDATES, f"pretrain/{name}")
    steps, after = _curve(rows, _STEPS, f"train/{name}")
    if len(updates):
        axis.plot((updates / n_pretrain - 1.0) * pretrain_width, before, color="C2")
    axis.plot(steps, after, color="C0")
    values = np.concatenate((before, after))
    # Losses can fall by orders of magnitude
    if len(values) and values.min() > 0.0 and values.max() / values.min() > 100.0:
        axis.set_yscale("log")


def _read_progress(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: found no such file. Train with `python -m sb3_pgfd.train`, with the ProgressLog callback, "
            'or with set_logger(configure(folder, ["csv"]))'
        )
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _curve(rows: list[dict[str, str]], x: str, y: str) -> Curve:
    points = [(float(row[x]), float(row[y])) for row in rows if row.get(x) and row.get(y)]
    values = np.array(points, dtype=np.float64).reshape(-1, 2)
    return values[:, 0], values[:, 1]


def _episode_returns(folder: Path) -> Curve:
    """Return of each episode at the step it ended, over all environments of the run."""
    episodes = []
    for path in folder.glob("*monitor.csv"):
        with path.open(newline="") as file:
            file.readline()  # Monitor's header, a JSON comment
            begun, last = 0.0, 0.0
            for row in csv.DictReader(file):
                if not all(row.get(key) for key in ("r", "l", "t")):
                    # A power cut leaves half of the last row
                    continue
                # The clock of a resumed run may begin anew
                begun = last if begun + float(row["t"]) < last else begun
                last = begun + float(row["t"])
                episodes.append((last, float(row["l"]), float(row["r"])))
    table = np.array(sorted(episodes), dtype=np.float64).reshape(-1, 3)
    return np.cumsum(table[:, 1]), table[:, 2]


def _evaluations(folder: Path) -> tuple[Curve, str]:
    """:return: Means of evaluations, and of what they are"""
    path = folder / "evaluations.npz"
    if not path.is_file():
        return (np.empty(0), np.empty(0)), "return"
    with np.load(path) as evaluations:
        name, what = ("successes", "success") if "successes" in evaluations else ("results", "return")
        return (evaluations["timesteps"].astype(np.float64), evaluations[name].mean(axis=1)), what


def _smooth(curve: Curve, width: int = 10) -> Curve:
    steps, values = curve[0][width - 1 :], curve[1]
    return steps, np.convolve(values, np.ones(width) / width, mode="valid") if len(steps) else steps
