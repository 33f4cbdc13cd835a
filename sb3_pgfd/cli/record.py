"""``sb3-pgfd demos record``: record a model, a function, a scripted expert or a person."""

from __future__ import annotations

import argparse
import importlib
import inspect
import os
import runpy
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import gymnasium as gym

from sb3_pgfd.cli.arguments import add_environment_options
from sb3_pgfd.cli.models import PolicySource, load_policy, render_mode_of
from sb3_pgfd.cli.output import check_output, describe, report
from sb3_pgfd.demonstrations import Demonstrations, DemonstrationsError, record, record_person
from sb3_pgfd.demonstrations.environment import make_env
from sb3_pgfd.demonstrations.formats.minari import PREFIX
from sb3_pgfd.demonstrations.formats.npz import with_ending
from sb3_pgfd.demonstrations.recording.policy import scripted_expert
from sb3_pgfd.demonstrations.recording.session import session_folder
from sb3_pgfd.utils.files import near, refuse_existing
from sb3_pgfd.utils.screen import can_show_progress
from sb3_pgfd.zoo.agents import TRUST_HELP
from sb3_pgfd.zoo.command_line import add_control_options, import_packages, register_environments, require_installed

# Options that have a meaning for some sources of actions only
_ONLY_WITH = {
    ("model", "zoo"): ("algo", "vecnormalize", "trust"),
    ("zoo",): ("exp_id", "load_best"),
    ("model", "zoo", "policy"): ("stochastic",),
    ("model", "zoo", "policy", "expert"): ("noise", "max_attempts", "max_episode_steps"),
    ("keyboard",): ("fps", "scale", "keys", "axes", "no_pause"),
}


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """:param subparsers: Subcommands of ``demos``"""
    parser = subparsers.add_parser(
        "record",
        help="record a model, a function, a scripted expert or a person",
        description="Record demonstrations. Each episode is on disk when it ends, in the folder OUT.recording; the file is "
        "written when all are recorded. After a crash, --resume continues. Models and their statistics can run code when "
        "they are loaded: only use files that you trust. Files of another user need --trust.",
    )
    parser.add_argument("out", metavar="OUT", help="file to write (.npz); minari:ID is recorded to ID.npz first")
    add_environment_options(parser, required=True)
    parser.add_argument("--episodes", type=int, metavar="N", help="episodes to keep; a person may stop at any time")
    _add_sources(parser)
    _add_keyboard(parser)
    parser.add_argument("--seed", type=int, default=0, help="seed of the first episode and of the noise (0)")
    parser.add_argument("--noise", type=float, help="standard deviation of action noise, in units of half the action range")
    parser.add_argument("--successes-only", action="store_true", help="keep only episodes that solve the task")
    text = "cut an episode after N steps, as truncated; an environment without a time limit needs it"
    parser.add_argument("--max-episode-steps", type=int, metavar="N", help=text)
    parser.add_argument("--max-attempts", type=int, metavar="N", help="episodes to try (10 for each to keep)")
    text = "record pictures of N x N pixels beside the observations (84); the policy does not see them"
    parser.add_argument("--camera", type=int, nargs="?", const=84, metavar="N", help=text)
    parser.add_argument("--stochastic", action="store_true", default=None, help="sample the model's actions")
    parser.add_argument("--resume", action="store_true", help="continue an unfinished recording, if there is one")
    parser.add_argument("--force", action="store_true", help="replace an existing file or unfinished recording")
    parser.add_argument("--no-progress", action="store_true", help="show no progress bar, which a terminal has by default")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=_run)


def _add_sources(parser: argparse.ArgumentParser) -> None:
    options = parser.add_argument_group("source of the actions")
    group = options.add_mutually_exclusive_group(required=True)
    group.add_argument("--model", type=Path, metavar="FILE.zip", help="a model saved by SB3, with --algo")
    group.add_argument("--zoo", type=Path, metavar="LOGFOLDER", help="the RL Zoo's model for --algo and --env")
    policy = "module:name or file.py:name of a function from an observation to an action, or of a class of such, "
    policy += "which is made with the environment if it takes an argument"
    group.add_argument("--policy", metavar="WHERE:NAME", help=policy)
    group.add_argument("--expert", action="store_true", help="Gymnasium's own expert for LunarLander and BipedalWalker")
    group.add_argument("--keyboard", action="store_true", help="you, by keyboard or gamepad")
    options.add_argument("--algo", help="the model's algorithm, as named in the RL Zoo: ppo, sac, ddpgfd, ...")
    options.add_argument("--vecnormalize", type=Path, metavar="FILE.pkl", help="VecNormalize statistics (the Zoo run's)")
    options.add_argument("--exp-id", type=int, metavar="N", help="number of the Zoo's run (the latest)")
    options.add_argument("--load-best", action="store_true", default=None, help="the Zoo's best model instead of the last")
    options.add_argument("--trust", action="store_true", default=None, help=TRUST_HELP)


def _add_keyboard(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("keyboard and gamepad")
    group.add_argument("--fps", type=float, help="steps per second (those of the environment)")
    add_control_options(group)
    group.add_argument("--no-pause", action="store_true", default=None, help="start the next episode at once")


def _run(args: argparse.Namespace) -> None:
    _check_options(args)
    import_packages(args.gym_packages)
    register_environments()
    require_installed(args.env)
    is_minari = args.out.startswith(PREFIX)
    path = Path(args.out.removeprefix(PREFIX).replace("/", "-") if is_minari else args.out)
    if is_minari:
        check_output(args.out, args.force)
        # --force is for the dataset: this file would be removed when that is written
        refuse_existing(with_ending(path), overwrite=False)
    try:
        demonstrations = _record(args, path)
    except KeyboardInterrupt:
        if not session_folder(path).is_dir():
            raise DemonstrationsError(
                "stopped before the first episode was finished, so nothing was kept. Without a time limit an episode may "
                "go on for ever: see --max-episode-steps"
            ) from None
        found = f"stopped. Finished episodes are in {session_folder(path)}"
        raise DemonstrationsError(f"{found}: continue with --resume") from None
    result = describe(demonstrations, with_ending(path))
    if is_minari:
        try:
            result = describe(demonstrations, demonstrations.save(args.out, args.force))
        except (DemonstrationsError, ImportError, OSError) as error:
            hint = f"The demonstrations are in {with_ending(path)}: 'sb3-pgfd demos convert' makes a dataset of them"
            raise DemonstrationsError(f"{error}. {hint}") from error
        with_ending(path).unlink()
    report(result, args.json)


def _check_options(args: argparse.Namespace) -> None:
    source = next(name for name in ("model", "zoo", "policy", "expert", "keyboard") if getattr(args, name))
    for sources, names in _ONLY_WITH.items():
        for name in names:
            if getattr(args, name) is not None and source not in sources:
                expected = " or ".join(f"--{other}" for other in sources)
                raise DemonstrationsError(f"--{name.replace('_', '-')}: found it with --{source}, expected {expected}")
    if args.episodes is None and not args.keyboard:
        raise DemonstrationsError("--episodes: found none, expected the number of episodes to keep")


def _record(args: argparse.Namespace, path: Path) -> Demonstrations:
    common = {"path": path, "seed": args.seed, "successes_only": args.successes_only}
    common |= {"resume": args.resume, "overwrite": args.force}
    if args.keyboard:
        own = {"fps": args.fps, "scale": 1.0 if args.scale is None else args.scale, "keys": args.keys, "axes": args.axes}
        made = make_env(args.env, dict(args.env_kwargs), render_mode="rgb_array")
        with closing(made) as env:
            return record_person(env, args.episodes, pause_between=not args.no_pause, camera=args.camera, **own, **common)
    if args.model or args.zoo:
        source = load_policy(args)
    else:
        env = make_env(args.env, dict(args.env_kwargs), render_mode_of(args))
        if args.expert:
            source = PolicySource(scripted_expert(env), env, "Gymnasium's scripted expert")
        else:
            name = args.policy.replace(os.sep, "/").split("/")[-1]
            source = PolicySource(_load_function(args.policy, env), env, f"function {name}")
    with closing(source.env):
        return record(
            source.policy,
            source.env,
            args.episodes,
            deterministic=not args.stochastic,
            action_noise=args.noise or 0.0,
            max_attempts=args.max_attempts,
            max_episode_steps=args.max_episode_steps,
            vec_normalize=source.vec_normalize,
            camera=args.camera,
            producer=source.producer,
            progress_bar=can_show_progress() and not (args.no_progress or args.json),
            **common,
        )


def _load_function(name: str, env: gym.Env) -> Callable[[Any], Any]:
    """:return: The function called ``module:function`` or ``file.py:function``; an object of it if it is a class"""
    where, _, attribute = name.rpartition(":")
    if not where or not attribute:
        raise DemonstrationsError(f"--policy: found {name!r}, expected module:function or file.py:function")
    if where.endswith(".py"):
        if not Path(where).is_file():
            raise FileNotFoundError(f"{where}: found no such file, expected Python code{near(Path(where))}")
        # The file can import its neighbours, as if it were run
        sys.path.append(str(Path(where).resolve().parent))
        values = runpy.run_path(where, run_name=f"policy_of_{Path(where).stem}")
    else:
        values = vars(importlib.import_module(where))
    function: Any = values.get(attribute)
    if isinstance(function, type):
        function = function(env) if _needs_argument(function) else function()
    if not (callable(function) or hasattr(function, "predict")):
        names = [key for key, value in values.items() if callable(value) and not key.startswith("_")]
        raise DemonstrationsError(f"--policy: found no function {attribute!r} in {where}, expected one of {names}")
    return function


def _needs_argument(function: Any) -> bool:
    """:return: Whether it cannot be called without arguments: a controller that looks into the environment"""
    try:
        inspect.signature(function).bind()
    except TypeError:
        return True
    return False
