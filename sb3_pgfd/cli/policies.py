"""Where recorded actions come from: a trained model, a function, a scripted expert."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
from stable_baselines3.common.vec_env import VecNormalize

from sb3_pgfd.cli.models import Run, find_in_zoo, load_model, load_statistics, read_run
from sb3_pgfd.demonstrations import DemonstrationsError
from sb3_pgfd.demonstrations.environment import make_env
from sb3_pgfd.demonstrations.recording import Policy
from sb3_pgfd.demonstrations.recording.policy import scripted_expert


@dataclass(frozen=True)
class Source:
    """A policy, and what it acts in."""

    policy: Policy | Callable[[Any], Any]
    env: gym.Env
    producer: str
    """In words, for the provenance"""
    vec_normalize: VecNormalize | None = None


def make_source(args: argparse.Namespace) -> Source:
    """
    :param args: Of ``sb3-pgfd demos record``
    :return: What they name
    :raises DemonstrationsError: If there is no such thing, or it does not fit the environment
    """
    if args.model is not None or args.zoo is not None:
        return _model(args)
    env = make_env(args.env, dict(args.env_kwargs))
    if args.expert:
        return Source(scripted_expert(env), env, "Gymnasium's scripted expert")
    return Source(load_function(args.policy), env, f"function {args.policy.replace(os.sep, '/').split('/')[-1]}")


def _model(args: argparse.Namespace) -> Source:
    if args.algo is None:
        raise DemonstrationsError("--algo: found none, expected the name of the model's algorithm: ppo, sac, ddpgfd, ...")
    path = args.model
    if args.zoo is not None:
        path = find_in_zoo(args.zoo, args.algo, args.env, args.exp_id or 0, bool(args.load_best))
    if not path.is_file():
        raise FileNotFoundError(f"{path}: found no such file, expected a model saved by SB3")
    run = read_run(path, args.env)
    env = make_env(args.env, {**run.env_kwargs, **dict(args.env_kwargs)})
    env = run.wrap(env) if run.wrap else env
    statistics = args.vecnormalize or run.statistics
    _say(run, None if args.vecnormalize else run.statistics)
    producer = f"{args.algo} model {path.name}" + (f" in {run.wrapper}" if run.wrapper else "")
    vec_normalize = load_statistics(statistics, env) if statistics else None
    return Source(load_model(path, args.algo, env, args.seed), env, producer, vec_normalize)


def _say(run: Run, statistics: Path | None) -> None:
    """What was not asked for is named."""
    found = {"arguments of the environment": dict(run.env_kwargs), "wrapper": run.wrapper, "statistics": statistics}
    for name, value in found.items():
        if value:
            print(f"{run.folder}: found a run of the RL Zoo, using its {name}: {value}", file=sys.stderr)


def load_function(name: str) -> Callable[[Any], Any]:
    """
    :param name: ``module:function`` or ``file.py:function``
    :return: The function; of a class, an object that is made without arguments
    :raises DemonstrationsError: If there is no such thing
    """
    where, _, attribute = name.rpartition(":")
    if not where or not attribute:
        raise DemonstrationsError(f"--policy: found {name!r}, expected module:function or file.py:function")
    module = _import_file(Path(where)) if where.endswith(".py") else importlib.import_module(where)
    function: Any = getattr(module, attribute, None)
    if isinstance(function, type):
        function = function()
    if not (callable(function) or hasattr(function, "predict")):
        names = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise DemonstrationsError(f"--policy: found no function {attribute!r} in {where}, expected one of {names}")
    return function


def _import_file(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: found no such file, expected Python code")
    # Its neighbours can be imported, as if it were run; it may be called like a module of Python's own
    sys.path.append(str(path.resolve().parent))
    spec = importlib.util.spec_from_file_location(f"policy_of_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up by its name
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
