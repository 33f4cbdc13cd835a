"""The RL Zoo's commands with this package's algorithms, run in this process after registration."""

from __future__ import annotations

import argparse
import importlib
import runpy
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sb3_pgfd.utils.screen import draw_without_screen
from sb3_pgfd.zoo.commands import figures, hub, playing, subprocesses, videos
from sb3_pgfd.zoo.commands.parsing import Arguments, Option, parsed_by_us
from sb3_pgfd.zoo.environments import find_in_current_folder, register_environments
from sb3_pgfd.zoo.errors import expected_errors, report, stop_writing
from sb3_pgfd.zoo.registration import register
from sb3_pgfd.zoo.replacing import replaced


def _accept(_: argparse.Namespace) -> None:
    """All arguments are right."""


@contextmanager
def _as_it_is(_: argparse.Namespace) -> Iterator[None]:
    """Nothing is changed in the Zoo."""
    yield


@dataclass(frozen=True)
class Command:
    """One of the RL Zoo's commands."""

    body: str
    """``module:function``, or a module of the Zoo that does its work when it is run"""
    arguments: Arguments
    check: Callable[[argparse.Namespace], None] = _accept
    """Called with the arguments before the Zoo gets them"""
    around: Callable[[argparse.Namespace], AbstractContextManager[None]] = _as_it_is
    """What is changed in the Zoo while the body runs; its parameter is empty until the body has read the arguments"""
    draws: bool = False
    """Whether it draws pictures of environments"""


@contextmanager
def _our_manager(_: argparse.Namespace) -> Iterator[None]:
    import rl_zoo3.train

    from sb3_pgfd.zoo.experiment_manager import PgfdExperimentManager

    # The Zoo's command names its manager's class, there is no other way to give it one
    with replaced(rl_zoo3.train, "ExperimentManager", PgfdExperimentManager):
        yield


@contextmanager
def _pushed(options: argparse.Namespace) -> Iterator[None]:
    with ExitStack() as stack:
        stack.enter_context(playing.configured_environments(options))
        stack.enter_context(hub.metadata_for_the_zoo())
        stack.enter_context(hub.model_card_with_our_commands(options))
        stack.enter_context(videos.ffmpeg_on_path())
        yield


_OURS = {"algo": "ddpgfd", "folder": "logs"}
_PACKAGES: Option = (
    ("--gym-packages",),
    {"nargs": "+", "default": [], "help": "Additional external Gym environment package modules to import"},
)
_VIDEO: Option = (
    ("--video",),
    {"type": Path, "metavar": "FILE.mp4", "help": "film what is played instead of showing it, without a screen"},
)
_PICTURE = figures.picture_option("--picture")

COMMANDS = {
    "train": Command(
        "rl_zoo3.train:train",
        Arguments("train an agent, or search hyperparameters with -optimize", {"algo": "ddpgfd"}),
        playing.check_env,
        _our_manager,
    ),
    "enjoy": Command(
        "rl_zoo3.enjoy:enjoy",
        Arguments("watch a trained agent, or film it with --video", _OURS, added=[_VIDEO]),
        playing.check_enjoy,
        playing.filmed,
        draws=True,
    ),
    "record-video": Command(
        "rl_zoo3.record_video",
        Arguments("film a trained agent", _OURS, added=[_PACKAGES]),
        playing.check_env,
        playing.configured_environments,
        draws=True,
    ),
    "record-training": Command(
        "rl_zoo3.record_training",
        Arguments("film every saved model of a run, one after the other", _OURS, added=[_PACKAGES]),
        videos.check_record_training,
        videos.recorded_elsewhere,
        draws=True,
    ),
    "plot-train": Command(
        "rl_zoo3.plots.plot_train:plot_train",
        Arguments(
            "plot the reward, success rate or length of training episodes", added=[figures.picture_option("-o", "--output")]
        ),
        figures.check_picture,
        figures.saved_figures,
    ),
    "all-plots": Command(
        "rl_zoo3.plots.all_plots:all_plots",
        Arguments(
            "plot the evaluations of several algorithms and environments, with a table",
            required=("algos", "env", "exp_folders"),
            added=[_PICTURE],
        ),
        figures.check_all_plots,
        figures.saved_figures,
    ),
    "plot-from-file": Command(
        "rl_zoo3.plots.plot_from_file:plot_from_file",
        Arguments("plot what all-plots has saved, also with rliable", {"format": None}, required=("input",), added=[_PICTURE]),
        figures.check_plot_from_file,
        figures.saved_figures,
    ),
    "benchmark": Command(
        "rl_zoo3.benchmark",
        Arguments("evaluate every trained agent, and write a table", {"log_dir": "logs"}, added=[_PACKAGES]),
        around=subprocesses.our_subprocesses,
    ),
    "push-to-hub": Command(
        "rl_zoo3.push_to_hub",
        Arguments("upload a trained agent to the Hugging Face hub", added=[_PACKAGES]),
        playing.check_env,
        _pushed,
        draws=True,
    ),
    "load-from-hub": Command(
        "rl_zoo3.load_from_hub",
        Arguments("download a trained agent from the Hugging Face hub"),
        around=hub.optional_statistics,
    ),
}
"""The RL Zoo's commands by their name, in the order of ``sb3-pgfd --help``"""


def main(name: str, command_line: Sequence[str] | None = None, prog: str | None = None) -> int:
    """
    Run one of the RL Zoo's commands.

    :param name: One of ``COMMANDS``
    :param command_line: Its arguments, by default this process's
    :param prog: How it was called, by default as a module
    :return: 0, or 1 if it could not be done; what was found and what was expected is on standard error
    """
    command = COMMANDS[name]
    try:
        _run(
            command,
            sys.argv[1:] if command_line is None else command_line,
            prog or f"python -m sb3_pgfd.{name.replace('-', '_')}",
        )
        sys.stdout.flush()
    except BrokenPipeError:
        stop_writing()
        return 1
    except expected_errors() as error:
        if not report(error, name):
            raise
        return 1
    return 0


def _run(command: Command, command_line: Sequence[str], prog: str) -> None:
    # Before anything imports MuJoCo
    if command.draws:
        draw_without_screen()
    register()
    register_environments()
    find_in_current_folder()
    options = argparse.Namespace()
    with command.around(options), parsed_by_us(prog, command_line, command.arguments, options, command.check):
        module, _, function = command.body.partition(":")
        if function:
            getattr(importlib.import_module(module), function)()
        else:
            runpy.run_module(module, run_name="__main__")
