"""What is changed in the RL Zoo's plots, which only show their figures."""

from __future__ import annotations

import argparse
import pickle
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sb3_pgfd.demonstrations.inspection.plots import check_picture_path
from sb3_pgfd.utils.files import write_whole
from sb3_pgfd.zoo.commands.parsing import Option
from sb3_pgfd.zoo.errors import CommandError
from sb3_pgfd.zoo.replacing import replaced

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def picture_option(*names: str) -> Option:
    """
    :param names: What it is called in a command, where something else may be called ``--output``
    :return: The option that saves the figures
    """
    explained = "save the figure here, e.g. as out.png, and do not show it; several: out-1.png, out-2.png, ..."
    return names, {"dest": "picture", "type": Path, "metavar": "PICTURE", "help": explained}


@contextmanager
def saved_figures(options: argparse.Namespace) -> Iterator[None]:
    """
    Save figures instead of showing them if ``options.picture`` says where to, and say so if they can be neither.

    :param options: The command's
    :raises CommandError: If nothing is drawn in any figure
    """
    from matplotlib import pyplot as plt

    show, figures = plt.show, []

    def show_or_keep(*positional: Any, **keywords: Any) -> None:
        current = [plt.figure(number) for number in plt.get_fignums()]
        _require_something(current)
        figures.extend(current)
        if options.picture is None and all(figure.canvas.required_interactive_framework for figure in current):
            show(*positional, **keywords)
        elif options.picture is None:
            print(f"Found no screen to show the figures on: {_name_of(options)} PICTURE saves them", file=sys.stderr)
        plt.close("all")

    try:
        with replaced(plt, "show", show_or_keep):
            yield
            # all-plots --no-display
            figures.extend(plt.figure(number) for number in plt.get_fignums())
        if options.picture is not None:
            _require_something(figures)
            _save(figures, options.picture)
    finally:
        plt.close("all")


def _name_of(options: argparse.Namespace) -> str:
    # Where the Zoo itself has an --output, ours has another name
    return "--picture" if hasattr(options, "output") else "-o"


def _require_something(figures: list[Figure]) -> None:
    if not any(axes.has_data() for figure in figures for axes in figure.axes):
        raise CommandError(
            "found nothing to draw, expected finished runs: are the names of the folder, the algorithm and the environment "
            "right? A curve of plot-train takes as many episodes as its window: see -w"
        )


def _save(figures: list[Figure], picture: Path) -> None:
    for number, figure in enumerate(figures, start=1):
        path = picture if len(figures) == 1 else picture.with_stem(f"{picture.stem}-{number}")
        with write_whole(path, overwrite=True) as temporary:
            # The temporary name does not say which kind of picture it is
            figure.savefig(temporary, format=path.suffix[1:].lower())
        print(f"Picture: {path}")


def check_picture(options: argparse.Namespace) -> None:
    """:raises DemonstrationsError: If the ending is that of no picture"""
    if options.picture is not None:
        check_picture_path(options.picture, overwrite=True)


def check_plot_from_file(options: argparse.Namespace) -> None:
    """
    The Zoo writes SVG into any file, unless ``--format`` says otherwise.

    :raises CommandError: If there are too few runs: the Zoo would drop them, and fail for want of any
    """
    check_picture(options)
    if options.output is not None:
        options.format = options.format or Path(options.output).suffix[1:].lower() or "svg"
    with open(options.input.removesuffix(".pkl") + ".pkl", "rb") as file:
        results = pickle.load(file)
    del results["results_table"]
    for env in _kept(results, options.keep_envs, options.skip_envs):
        for key in _kept(results[env], options.keep_keys, options.skip_keys):
            if np.ndim(results[env][key]["last_evals"]) == 0:
                raise CommandError(
                    f"{options.input}: found one run of {key} on {env}, or one episode in each evaluation, expected several "
                    "of both: train with other seeds and --eval-episodes, or leave it out with --skip-keys"
                )


def _kept(names: Iterable[str], keep: Sequence[str], skip: Sequence[str]) -> list[str]:
    return [name for name in names if name not in skip and (not keep or name in keep)]


def check_all_plots(options: argparse.Namespace) -> None:
    """:raises CommandError: If there is no evaluation to gather, or labels are missing"""
    check_picture(options)
    folders, algos = options.exp_folders, [algo.lower() for algo in options.algos]
    found = [path for folder in folders for algo in algos for path in Path(folder, algo).glob("*/evaluations.npz")]
    if not any(env in path.parent.name for env in options.env for path in found):
        raise CommandError(
            f"found no evaluations.npz of {', '.join(algos)} on {', '.join(options.env)} in {', '.join(folders)}, expected "
            "<folder>/<algorithm>/<environment>_<number>/evaluations.npz: were the runs evaluated (--eval-freq)?"
        )
    if options.labels is not None and len(options.labels) != len(folders):
        raise CommandError(f"--labels: found {len(options.labels)}, expected one for each of the {len(folders)} folders")
