"""Load trained models as policies, with the environment, wrapper and normalisation statistics of their RL Zoo run."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import stable_baselines3 as sb3
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from sb3_pgfd.common.environment_state import layers
from sb3_pgfd.demonstrations import DemonstrationsError
from sb3_pgfd.demonstrations.arrays import channels_first, map_observations
from sb3_pgfd.demonstrations.environment import make_env
from sb3_pgfd.demonstrations.recording.policy import AnyPolicy
from sb3_pgfd.demonstrations.validation import check_observations
from sb3_pgfd.utils.files import install, near
from sb3_pgfd.utils.run_folders import require_trust
from sb3_pgfd.wrappers import StartInDemonstrations
from sb3_pgfd.zoo import ALGORITHMS, register
from sb3_pgfd.zoo.agents import load_without_buffer, pickles_of, read_run, saved_with

# What SB3 raises for a file that another algorithm saved
_LOAD_ERRORS = (AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
_INSTALL = install("zoo")


class PolicySource(NamedTuple):
    """A policy, the environment that it acts in, its name for the metadata, and its normalisation."""

    policy: AnyPolicy
    env: gym.Env
    producer: str
    vec_normalize: VecNormalize | None = None


def render_mode_of(args: argparse.Namespace) -> str | None:
    """:return: What ``--camera`` needs"""
    return None if args.camera is None else "rgb_array"


def load_policy(args: argparse.Namespace) -> PolicySource:
    """
    :param args: Arguments of ``demos record`` with ``--model`` or ``--zoo``
    :raises DemonstrationsError: If there is no such model, or it does not fit the environment
    :raises ImportError: If the model is of the RL Zoo, which is not installed
    """
    if args.algo is None:
        raise DemonstrationsError("--algo: found none, expected the name of the model's algorithm: ppo, sac, ddpgfd, ...")
    path = args.model or _find_in_zoo(args)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: found no such file, expected a model saved by SB3{near(path)}")
    folder = path.parent / args.env.split(":")[-1].replace("/", "-")
    require_trust([*pickles_of(path, folder), *([args.vecnormalize] if args.vecnormalize else [])], bool(args.trust))
    env_kwargs, wrap, wrapper, statistics = dict(args.env_kwargs), None, None, None
    if (folder / "config.yml").is_file():
        run_kwargs, wrap, wrapper, statistics = _read_run(folder, path)
        env_kwargs = {**run_kwargs, **env_kwargs}
        statistics = args.vecnormalize or statistics
        for name, value in (("arguments of the environment", run_kwargs), ("wrapper", wrapper), ("statistics", statistics)):
            if value and value != args.vecnormalize:
                print(f"{folder}: found a run of the RL Zoo, using its {name}: {value}", file=sys.stderr)
    # A model that sees pictures was trained with it
    draws = env_kwargs.get("render_mode") == "rgb_array"
    env = make_env(args.env, env_kwargs, "rgb_array" if draws else render_mode_of(args))
    env = wrap(env) if wrap else env
    for layer in layers(env):
        if isinstance(layer, StartInDemonstrations):
            layer.leave_demonstrations()
    producer = f"{args.algo} model {path.name}" + (f" in {wrapper}" if wrapper else "")
    statistics = args.vecnormalize or statistics
    vec_normalize = _load_statistics(statistics, env) if statistics else None
    return PolicySource(_load_model(path, args.algo, env, args.seed), env, producer, vec_normalize)


def _find_in_zoo(args: argparse.Namespace) -> Path:
    try:
        from rl_zoo3.utils import EnvironmentName, get_model_path
    except ImportError as error:
        raise ImportError(f"--zoo needs the RL Zoo ({error}): {_INSTALL}") from error
    try:
        # It prints the number of the run
        with redirect_stdout(sys.stderr):
            env_name = EnvironmentName(args.env)
            return Path(get_model_path(args.exp_id or 0, str(args.zoo), args.algo, env_name, bool(args.load_best))[1])
    except (AssertionError, ValueError) as error:
        expected = f"<log folder>/{args.algo}/<env id>_<number>/<env id>.zip"
        raise DemonstrationsError(f"--zoo: {error}: expected {expected}") from None


def _read_run(
    folder: Path, model: Path
) -> tuple[dict[str, Any], Callable[[gym.Env], gym.Env] | None, str | None, Path | None]:
    """:return: Arguments of the environment, its wrapper, the wrapper's name, and the file with ``VecNormalize`` statistics"""
    try:
        from rl_zoo3.utils import get_wrapper_class
    except ImportError as error:
        raise ImportError(f"{folder}: found a run of the RL Zoo, which is needed ({error}): {_INSTALL}") from error
    config, env_kwargs = read_run(folder)
    for key in ("frame_stack", "vec_env_wrapper"):
        if config.get(key):
            raise DemonstrationsError(
                f"{folder}: found a run with {key}={config[key]}, expected none: its model sees several steps or environments "
                "at once, while demonstrations hold the observations of one environment. Use an env_wrapper instead"
            )
    statistics = None
    if config["normalize"]:
        own = saved_with(model, "vecnormalize")
        statistics = own if own.is_file() else folder / "vecnormalize.pkl"
        if not statistics.is_file():
            raise DemonstrationsError(f"{statistics}: found no such file, expected the statistics of the run")
    wrapper = str(config["env_wrapper"]) if config.get("env_wrapper") else None
    return env_kwargs, get_wrapper_class(config), wrapper, statistics


def _load_statistics(path: Path, env: gym.Env) -> VecNormalize:
    try:
        statistics = VecNormalize.load(str(path), DummyVecEnv([lambda: env]))
    except (AssertionError, ValueError) as error:
        raise DemonstrationsError(f"{path}: found statistics of another environment ({error}), expected {env}") from None
    statistics.training = False
    return statistics


def _load_model(path: Path, algo: str, env: gym.Env, seed: int) -> BaseAlgorithm:
    sb3_algorithms = (sb3.A2C, sb3.DDPG, sb3.DQN, sb3.PPO, sb3.SAC, sb3.TD3)
    known: dict[str, type[BaseAlgorithm]] = {**{cls.__name__.lower(): cls for cls in sb3_algorithms}, **ALGORITHMS}
    with suppress(ImportError):
        register()
        from rl_zoo3.utils import ALGOS

        known = ALGOS
    if algo not in known:
        raise DemonstrationsError(f"--algo: found {algo!r}, expected one of {', '.join(sorted(known))}")
    try:
        model = load_without_buffer(known[algo], path, seed=seed)
    except _LOAD_ERRORS as error:
        found = f"a file that {known[algo].__name__} cannot load ({type(error).__name__}: {error})"
        raise DemonstrationsError(f"{path}: found {found}, expected a model that it saved: is --algo {algo} right?") from error
    _check_spaces(path, model, env)
    return model


def _check_spaces(path: Path, model: BaseAlgorithm, env: gym.Env) -> None:
    # Bounds differ between versions of an environment
    sample = map_observations(env.observation_space.sample(), lambda array: np.asarray(array)[None])
    try:
        check_observations(channels_first(sample, model.observation_space), model.observation_space, "observation")
    except DemonstrationsError as error:
        raise DemonstrationsError(f"{path}: the environment's {error}: was the model trained in it?") from None
    found, expected = env.action_space, model.action_space
    is_same = type(found) is type(expected) and found.shape == expected.shape
    if not is_same or (isinstance(found, spaces.Discrete) and found != expected):
        raise DemonstrationsError(f"{path}: found a model with actions in {expected}, expected {found} of the environment")
