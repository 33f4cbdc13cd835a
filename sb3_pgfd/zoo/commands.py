"""The commands ``train``, ``enjoy``, ``push-to-hub``, ``load-from-hub`` and ``zoo`` of ``sb3-pgfd``."""

import argparse
import multiprocessing
import os
import runpy
import sys
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sb3_pgfd.utils.files import near
from sb3_pgfd.utils.screen import can_show_progress, draw_without_screen
from sb3_pgfd.zoo import register
from sb3_pgfd.zoo.command_line import (
    CommandError,
    EndedRunError,
    expected_errors,
    find_in_current_folder,
    print_warnings_plainly,
    register_environments,
    report,
    require_registered,
    stop_writing,
)

COMMANDS = {
    "train": "train an agent, or search hyperparameters with -optimize",
    "enjoy": "watch a trained agent, or film it with --video",
    "push-to-hub": "upload a trained agent to the Hugging Face hub",
    "load-from-hub": "download a trained agent from the Hugging Face hub",
    "zoo": "run another module of the RL Zoo, with this package's algorithms and environments registered",
}
"""The commands and what they do, in the order of ``sb3-pgfd --help``"""

MODULES = {name: f"rl_zoo3.{name}" for name in ("benchmark", "record_training", "record_video")}
MODULES |= {name: f"rl_zoo3.plots.{name}" for name in ("all_plots", "plot_from_file", "plot_train")}
"""The RL Zoo's modules that ``zoo`` runs, by their short name"""

# What Python raises for a value of `name:value` that it cannot read
_UNREADABLE = (AttributeError, NameError, SyntaxError, TypeError, ValueError)


def main(name: str, command_line: Sequence[str] | None = None, prog: str | None = None) -> int:
    """
    Run one of ``COMMANDS``.

    :param command_line: Its arguments, by default those of this process
    :param prog: How it was called, by default as a module
    :return: 0, 1 if it failed, or 128 + the number of the signal that ended it; then one line on standard error says why
    """
    command_line = sys.argv[1:] if command_line is None else command_line
    try:
        print_warnings_plainly()
        if name != "train":
            # Before anything imports MuJoCo
            draw_without_screen()
        # The server that SubprocVecEnv forks its processes from: without this each of them would import PyTorch and SB3 again
        multiprocessing.set_forkserver_preload(["sb3_pgfd"])
        register()
        register_environments()
        find_in_current_folder()
        prog = prog or f"python -m sb3_pgfd.{name}"
        if name == "train":
            _train(command_line, prog)
        elif name == "zoo":
            _zoo(command_line, prog)
        else:
            from sb3_pgfd.zoo import agents, hub

            functions = {"enjoy": agents.enjoy, "push-to-hub": hub.push_to_hub, "load-from-hub": hub.load_from_hub}
            functions[name](_parse(name, prog, command_line))
        sys.stdout.flush()
    except BrokenPipeError:
        stop_writing()
        return 1
    except EndedRunError as ended:
        print(f"sb3-pgfd {name}: {ended}", file=sys.stderr)
        # As shells report a process that a signal ended
        return 128 + ended.signum
    except expected_errors() as error:
        if not report(error, name):
            raise
        return 1
    return 0


def _parse(name: str, prog: str, command_line: Sequence[str]) -> argparse.Namespace:
    """:return: The arguments. Of ``train`` only those that it shares with the others: the Zoo's own parser reads all"""
    from huggingface_sb3 import EnvironmentName
    from rl_zoo3.utils import ALGOS, StoreDict

    from sb3_pgfd.zoo.agents import add_agent_arguments
    from sb3_pgfd.zoo.hyperparameters import default_algorithm

    whole = name != "train"
    usage = None if whole else argparse.SUPPRESS
    parser = argparse.ArgumentParser(prog=prog, usage=usage, description=COMMANDS[name], add_help=whole, allow_abbrev=whole)
    parser.add_argument("--env", type=EnvironmentName, default="CartPole-v1", required=name.endswith("hub"), help="its id")
    parser.add_argument("--algo", choices=list(ALGOS), help="default: ddpgfd if it is tuned for --env, otherwise td3fd")
    parser.add_argument("--gym-packages", nargs="+", default=[], help="packages to import, which register environments")
    parser.add_argument("--env-kwargs", nargs="+", action=StoreDict, help="arguments of the environment, name:value")
    if name in ("enjoy", "push-to-hub"):
        add_agent_arguments(parser)
    if name.endswith("hub"):
        parser.add_argument("-orga", "--organization", required=True, help="user or organization of the Hugging Face hub")
        parser.add_argument("-name", "--repo-name", help="of the repository (default: <algo>-<env>)")
    if name == "train":
        parser.add_argument("-i", "--trained-agent", type=Path)
        for names in (("-params", "--hyperparams"), ("--eval-env-kwargs",)):
            parser.add_argument(*names, nargs="+", action=StoreDict)
    elif name == "enjoy":
        parser.add_argument("--video", type=Path, metavar="FILE.mp4", help="film it instead of showing it; needs no screen")
        parser.add_argument("--failures", action="store_true", help="with --video: film only the episodes without success")
        parser.add_argument("--force", action="store_true", help="replace an existing video")
        parser.add_argument("--reward-log", default="", metavar="FOLDER", help="write the returns of the episodes there")
        parser.add_argument("-P", "--progress", action="store_true", help="show a progress bar")
    elif name == "push-to-hub":
        parser.add_argument("-m", "--commit-message", default="Initial commit")
    else:
        parser.add_argument("-f", "--folder", default="logs", help="log folder")
        parser.add_argument("--exp-id", type=int, default=0, help="number of the run (default: 0: next, -1: no run folder)")
        parser.add_argument("--force", action="store_true", help="replace the run of this number")
    try:
        options = parser.parse_args(command_line) if whole else parser.parse_known_args(command_line)[0]
    except _UNREADABLE as error:
        parser.error(
            f"found a value that Python cannot read ({error}), expected name:value; texts need quotes within quotes, "
            "as in demonstrations:'\"my_demos.npz\"'"
        )
    options.algo = options.algo or default_algorithm(options.env.gym_id)
    if name != "load-from-hub" and (whole or not {"-h", "--help"} & set(command_line)):
        require_registered(options.env.gym_id, options.gym_packages)
    return options


def _parse_own(command_line: Sequence[str], prog: str) -> tuple[argparse.Namespace, list[str]]:
    """:return: The options of ``train`` that the Zoo does not know, and the rest of the command line"""
    from sb3_pgfd.zoo.agents import TRUST_HELP
    from sb3_pgfd.zoo.beside_the_robot import add_options
    from sb3_pgfd.zoo.hyperparameters import VEC_ENVS

    parser = argparse.ArgumentParser(prog=prog, usage=argparse.SUPPRESS, add_help=False, allow_abbrev=False)
    group = parser.add_argument_group("options of this package")
    group.add_argument("--trust", action="store_true", help=f"with -i and --resume: {TRUST_HELP}")
    group.add_argument("--no-progress", action="store_true", help="show no progress bars, which a terminal has by default")
    text = "with -optimize: prune a trial that takes longer, pretraining included (default: no limit)"
    group.add_argument("--trial-timeout", type=_seconds, metavar="SECONDS", help=text)
    add_options(parser)
    text = "go on with a run that was interrupted, e.g. logs/td3fd/FetchReach-v4_1, with all arguments as they were"
    group.add_argument("--resume", type=Path, metavar="RUN_FOLDER", help=text)
    group.add_argument("--seeds", type=int, nargs="+", help="train once with each of these seeds, one after the other")
    text = "parallel environments: in this process, one process each, in Ray's workers, or with copies of the policy there"
    group.add_argument("--vec-env", choices=VEC_ENVS, help=f"{text} (default: the entry's vec_env, or dummy)")
    text = "with -optimize, --storage, --study-name and --max-total-trials: search with N workers of Ray"
    group.add_argument("--ray-workers", type=int, metavar="N", help=text)
    text = "stop before the first step and write nothing: say which values are not defaults, and where they came from"
    group.add_argument("--dry-run", action="store_true", help=text)
    text = "print every value that is used and where it came from: constructor, yaml entry, trial, -params, command line"
    group.add_argument("--explain", action="store_true", help=text)
    if {"-h", "--help"} & set(command_line):
        print(parser.format_help())
    own, rest = parser.parse_known_args(command_line)
    if (own.dry_run or own.explain) and {"-optimize", "--optimize-hyperparameters"} & set(rest):
        parser.error("found -optimize, expected none with --dry-run and --explain: each trial has values of its own")
    if own.seeds is not None and (own.resume is not None or "--seed" in rest):
        parser.error(f"found --seeds and {'--seed' if own.resume is None else '--resume'}, expected one of them")
    return own, rest


def _seconds(text: str) -> float:
    value = float(text)
    if not value > 0.0:
        raise argparse.ArgumentTypeError(f"found {text}, expected a number of seconds above 0")
    return value


def _train(command_line: Sequence[str], prog: str) -> None:
    from sb3_pgfd.zoo.resuming import Run, check_changes

    given = command_line
    own, command_line = _parse_own(given, prog)
    if own.ray_workers is not None:
        _search(command_line, own, prog)
    if own.resume is not None:
        if own.vec_env is not None:
            raise CommandError(f"--vec-env: found it with --resume {own.resume}, which has its own, expected one of them")
        check_changes(command_line, prog)
        run = Run(own.resume, own.trust)
        # A person may stand elsewhere today
        own, arguments = _parse_own([*run.command, *given, "--resume", str(own.resume)], prog)
        _train_once(arguments, prog, own, run)
        return
    for seed in own.seeds or [None]:
        arguments = command_line if seed is None else [*command_line, "--seed", str(seed)]
        shared = _parse("train", prog, arguments)
        model = shared.trained_agent
        if model is not None and {"-optimize", "--optimize-hyperparameters"} & set(arguments):
            raise CommandError(f"-i {model}: found it with -optimize, expected one of them: trials begin anew")
        if model is not None and not (model.suffix == ".zip" and model.is_file()):
            raise CommandError(f"-i {model}: found no such model, expected the .zip file of one{near(model)}")
        _train_once(["--algo", shared.algo, *arguments], prog, own)


def _search(command_line: Sequence[str], own: argparse.Namespace, prog: str) -> None:
    """Let Ray's workers do the trials of a study. What is left of it, and the report, is for this process."""
    from sb3_pgfd.distributed import Job, run_jobs
    from sb3_pgfd.zoo.beside_the_robot import given_options

    if robot := given_options(own):
        raise CommandError(f"--ray-workers: found {robot[0]}, expected none: several trials cannot share one robot")
    if own.seeds:
        raise CommandError("--ray-workers: found --seeds, expected none: trials draw their own")
    if own.resume:
        raise CommandError("--ray-workers: found --resume, expected --study-name, with which a search goes on")
    parser = argparse.ArgumentParser(prog=prog, usage=argparse.SUPPRESS, add_help=False, allow_abbrev=False)
    needed = ("-optimize", "--storage", "--study-name", "--max-total-trials")
    parser.add_argument(needed[0], "--optimize-hyperparameters", action="store_true", required=True)
    for name in needed[1:]:
        parser.add_argument(name, required=True)
    parser.parse_known_args(command_line)
    if own.ray_workers < 1:
        parser.error(f"--ray-workers: found {own.ray_workers}, expected a whole number >= 1")
    options = [] if own.trial_timeout is None else ["--trial-timeout", str(own.trial_timeout)]
    options += [] if own.vec_env is None else ["--vec-env", own.vec_env]
    options += ["--trust"] if own.trust else []
    arguments = ["--no-progress", "--no-optim-plots", *options, *command_line]
    jobs = [Job(f"search {i}", run_in, (str(Path.cwd()), "train", arguments)) for i in range(own.ray_workers)]
    failed = [outcome for outcome in run_jobs(jobs, retries=2) if outcome.error is not None]
    for outcome in failed:
        print(f"{outcome.job.name} failed: {outcome.reason}", file=sys.stderr)
    if len(failed) == len(jobs):
        raise CommandError(f"--ray-workers: all {len(jobs)} failed, the last one: {failed[-1].reason}")


def run_in(folder: str, name: str, arguments: Sequence[str]) -> None:
    """
    Run a command in a folder, in a process that does nothing else.

    :raises RuntimeError: If it fails
    """
    os.chdir(folder)
    try:
        status: Any = main(name, arguments, f"sb3-pgfd {name}")
    except SystemExit as misused:
        status = misused.code
    if status != 0:
        raise RuntimeError(f"sb3-pgfd {name} ended with status {status}, its error is in the log of this worker")


def _train_once(arguments: list[str], prog: str, own: argparse.Namespace, run: Any = None) -> None:
    """:param run: That goes on, None: a new one"""
    import rl_zoo3.train

    from sb3_pgfd.zoo.beside_the_robot import BesideTheRobot, given_options
    from sb3_pgfd.zoo.experiment_manager import PgfdExperimentManager

    robot, command = BesideTheRobot(own), [*arguments, *given_options(own)]
    bars = ["--progress"] if not own.no_progress and can_show_progress() else []
    sys.argv = [prog, *arguments, *bars]
    # The Zoo's function names the class of its manager and has no argument for it
    options = {"trust": own.trust, "trial_timeout": own.trial_timeout, "vec_env": own.vec_env}
    options |= {"dry_run": own.dry_run, "explains": own.explain}
    manager = partial(PgfdExperimentManager, run=run, command=command, robot=robot, **options)
    rl_zoo3.train.ExperimentManager = manager  # type: ignore[misc, assignment]
    rl_zoo3.train.train()


def _zoo(command_line: Sequence[str], prog: str) -> None:
    names = ", ".join(MODULES)
    if command_line and command_line[0] in ("-h", "--help"):
        print(f"usage: {prog} <module> [arguments of the module]\n\nmodules: {names}")
        return
    name = command_line[0].replace("-", "_") if command_line else None
    if name not in MODULES:
        found = f"no module {command_line[0]!r} to run in the RL Zoo" if command_line else "no module"
        raise CommandError(f"found {found}, expected one of {names}")
    sys.argv = [f"{prog} {name}", *command_line[1:]]
    # The packages import these modules, which runpy warns of
    warnings.filterwarnings("ignore", ".*found in sys.modules after import", RuntimeWarning)
    runpy.run_module(MODULES[name], run_name="__main__")
