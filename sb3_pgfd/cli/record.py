"""``sb3-pgfd demos record``: from a model, a function, a scripted expert or a person."""

from __future__ import annotations

import argparse
from contextlib import closing
from pathlib import Path
from typing import Any

from sb3_pgfd.cli.arguments import add_environment_options, import_packages
from sb3_pgfd.cli.output import check_output, describe, report, write
from sb3_pgfd.cli.policies import make_source
from sb3_pgfd.demonstrations import Demonstrations, DemonstrationsError, record
from sb3_pgfd.demonstrations.environment import make_env
from sb3_pgfd.demonstrations.formats.minari import PREFIX
from sb3_pgfd.demonstrations.formats.npz import with_ending
from sb3_pgfd.demonstrations.recording.session import session_folder
from sb3_pgfd.zoo.environments import find_in_current_folder, register_environments, require_installed

# Options that mean nothing to the other sources of actions
_ONLY_WITH = {
    "algo": ("model", "zoo"),
    "vecnormalize": ("model", "zoo"),
    "stochastic": ("model", "zoo", "policy"),
    "exp_id": ("zoo",),
    "load_best": ("zoo",),
    "noise": ("model", "zoo", "policy", "expert"),
    "max_attempts": ("model", "zoo", "policy", "expert"),
    "fps": ("keyboard",),
    "scale": ("keyboard",),
    "keys": ("keyboard",),
    "axes": ("keyboard",),
    "no_pause": ("keyboard",),
}


def add_parser(subcommands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """:param subcommands: Where to add ``record``"""
    parser = subcommands.add_parser(
        "record",
        help="record from a model, a function, a scripted expert or a person",
        description="Record demonstrations. Each episode is on disk when it ends, in the folder OUT.recording; the file is "
        "written when all are recorded. After a crash, --resume goes on. Models and their statistics can run code when they "
        "are loaded: give your own files only.",
    )
    parser.add_argument("out", metavar="OUT", help="file to write (.npz); minari:ID is recorded to ID.npz first")
    add_environment_options(parser, required=True)
    parser.add_argument("--episodes", type=int, metavar="N", help="episodes to keep; a person may stop at any time")
    _add_sources(parser)
    _add_keyboard(parser)
    parser.add_argument("--seed", type=int, default=0, help="of the first episode, of the noise (default: 0)")
    parser.add_argument("--noise", type=float, help="standard deviation of action noise, in units of half the action range")
    parser.add_argument("--successes-only", action="store_true", help="keep episodes that solve the task")
    parser.add_argument("--max-attempts", type=int, metavar="N", help="episodes to try (default: 10 for each to keep)")
    parser.add_argument("--stochastic", action="store_true", default=None, help="draw the model's actions at random")
    parser.add_argument("--resume", action="store_true", help="go on with an unfinished recording, if there is one")
    parser.add_argument("--force", action="store_true", help="replace a file or an unfinished recording that is there")
    parser.add_argument("--no-progress", action="store_true", help="show no progress bar")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=run)


def _add_sources(parser: argparse.ArgumentParser) -> None:
    options = parser.add_argument_group("where the actions come from")
    group = options.add_mutually_exclusive_group(required=True)
    group.add_argument("--model", type=Path, metavar="FILE.zip", help="a model saved by SB3, with --algo")
    group.add_argument("--zoo", type=Path, metavar="LOGFOLDER", help="the RL Zoo's model for --algo and --env")
    group.add_argument(
        "--policy",
        metavar="WHERE:NAME",
        help="a function from an observation to an action, or a class of such: module:name or file.py:name",
    )
    group.add_argument("--expert", action="store_true", help="the expert that Gymnasium has for LunarLander and BipedalWalker")
    group.add_argument("--keyboard", action="store_true", help="you, by keyboard or gamepad")
    options.add_argument("--algo", help="the model's algorithm, as the RL Zoo calls it: ppo, sac, ddpgfd, ...")
    options.add_argument(
        "--vecnormalize", type=Path, metavar="FILE.pkl", help="statistics of VecNormalize; those of a Zoo run are found"
    )
    options.add_argument("--exp-id", type=int, metavar="N", help="number of the Zoo's run (default: the latest)")
    options.add_argument("--load-best", action="store_true", default=None, help="the Zoo's best model instead of the last")


def _add_keyboard(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("keyboard and gamepad")
    group.add_argument("--fps", type=float, help="steps per second (default: what the environment says)")
    group.add_argument("--scale", type=float, help="how far a full deflection goes towards the bounds, in (0, 1] (default: 1)")
    group.add_argument("--keys", nargs="+", type=_key_pair, metavar="LESS,MORE", help="two keys for each action dimension")
    group.add_argument(
        "--axes", nargs="+", metavar="AXIS", help="the gamepad's axis for each action dimension, -1: axis 1 turned round"
    )
    group.add_argument("--no-pause", action="store_true", default=None, help="begin the next episode at once")


def _key_pair(text: str) -> tuple[str, str]:
    less, comma, more = text.partition(",")
    if not (less and comma and more):
        raise argparse.ArgumentTypeError(f"found {text!r}, expected two keys with a comma between: left,right")
    return less, more


def run(args: argparse.Namespace) -> None:
    """
    :param args: The command line's
    :raises DemonstrationsError: If nothing can be recorded so
    """
    _check_options(args)
    find_in_current_folder()
    register_environments()
    import_packages(args.gym_packages)
    require_installed(args.env)
    path = Path(args.out)
    if args.out.startswith(PREFIX):
        check_output(args.out, args)
        path = Path(args.out.removeprefix(PREFIX).replace("/", "-"))
    try:
        demonstrations = _from_a_person(args, path) if args.keyboard else _from_a_policy(args, path)
    except KeyboardInterrupt:
        folder = session_folder(path)
        raise DemonstrationsError(f"stopped. Episodes that were finished are in {folder}: --resume goes on") from None
    report(_move_to_minari(demonstrations, path, args) or describe(demonstrations, with_ending(path)), args)


def _move_to_minari(demonstrations: Demonstrations, path: Path, args: argparse.Namespace) -> dict[str, Any] | None:
    """:return: What was written, None: the demonstrations are to stay where they are"""
    if not args.out.startswith(PREFIX):
        return None
    try:
        written = write(demonstrations, args.out, args)
    except (DemonstrationsError, ImportError, OSError) as error:
        hint = f"The demonstrations are in {with_ending(path)}: 'sb3-pgfd demos convert' makes a dataset of them"
        raise DemonstrationsError(f"{error}. {hint}") from error
    with_ending(path).unlink()
    return written


def _check_options(args: argparse.Namespace) -> None:
    source = next(name for name in ("model", "zoo", "policy", "expert", "keyboard") if getattr(args, name))
    for name, sources in _ONLY_WITH.items():
        if getattr(args, name) is not None and source not in sources:
            wanted = " or ".join(f"--{other}" for other in sources)
            raise DemonstrationsError(f"--{name.replace('_', '-')}: found it with --{source}, expected {wanted}")
    if args.episodes is None and not args.keyboard:
        raise DemonstrationsError("--episodes: found none, expected how many episodes to keep")


def _from_a_policy(args: argparse.Namespace, path: Path) -> Demonstrations:
    source = make_source(args)
    with closing(source.env):
        return record(
            source.policy,
            source.env,
            args.episodes,
            seed=args.seed,
            deterministic=not args.stochastic,
            action_noise=args.noise or 0.0,
            successes_only=args.successes_only,
            max_attempts=args.max_attempts,
            vec_normalize=source.vec_normalize,
            producer=source.producer,
            path=path,
            resume=args.resume,
            overwrite=args.force,
            progress_bar=not (args.no_progress or args.json),
        )


def _from_a_person(args: argparse.Namespace, path: Path) -> Demonstrations:
    from sb3_pgfd.demonstrations.recording.person import record_person

    with closing(make_env(args.env, dict(args.env_kwargs), render_mode="rgb_array")) as env:
        return record_person(
            env,
            args.episodes,
            path,
            seed=args.seed,
            fps=args.fps,
            scale=1.0 if args.scale is None else args.scale,
            keys=args.keys,
            axes=args.axes,
            successes_only=args.successes_only,
            pause_between=not args.no_pause,
            resume=args.resume,
            overwrite=args.force,
        )
