"""Trained models, and what they need of the run that trained them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import stable_baselines3 as sb3
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from sb3_pgfd.demonstrations import DemonstrationsError
from sb3_pgfd.demonstrations.arrays import channels_first, map_observations
from sb3_pgfd.demonstrations.validation import check_observations
from sb3_pgfd.zoo import ALGORITHMS, register
from sb3_pgfd.zoo.saved_models import saved_with

# What SB3 raises for a file that another algorithm saved
_LOAD_ERRORS = (AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


@dataclass(frozen=True)
class Run:
    """What the RL Zoo keeps of a run, beside the model."""

    folder: Path | None = None
    """``<env id>/`` in the run's folder, None: the model is not of the Zoo"""
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    wrap: Callable[[gym.Env], gym.Env] | None = None
    """Makes of the environment what the model was trained in"""
    wrapper: str | None = None
    """What that is, in words"""
    statistics: Path | None = None
    """Of ``VecNormalize``"""


def algorithms() -> dict[str, type[BaseAlgorithm]]:
    """
    :return: Algorithms by the name that the RL Zoo gives them; without the Zoo those of Stable-Baselines3 and of this
        package
    """
    try:
        register()
        from rl_zoo3.utils import ALGOS
    except ImportError:
        own: dict[str, type[BaseAlgorithm]]
        own = {"a2c": sb3.A2C, "ddpg": sb3.DDPG, "dqn": sb3.DQN, "ppo": sb3.PPO, "sac": sb3.SAC, "td3": sb3.TD3}
        return {**own, **ALGORITHMS}
    return dict(ALGOS)


def find_in_zoo(log_folder: Path, algo: str, env_id: str, exp_id: int, best: bool) -> Path:
    """
    :param log_folder: Of the RL Zoo
    :param algo: Name of the algorithm
    :param env_id: Of the environment
    :param exp_id: Number of the run, 0: the latest, -1: there are no runs below the algorithm's folder
    :param best: The model that was evaluated best instead of the last one
    :raises DemonstrationsError: If there is no such model
    """
    try:
        from rl_zoo3.utils import EnvironmentName, get_model_path
    except ImportError as error:
        raise ImportError(f"--zoo needs the RL Zoo ({error}): pip install sb3-pgfd[zoo]") from error
    try:
        # It prints the number of the run
        with redirect_stdout(sys.stderr):
            return Path(get_model_path(exp_id, str(log_folder), algo, EnvironmentName(env_id), best)[1])
    except (AssertionError, ValueError) as error:
        raise DemonstrationsError(f"--zoo: {error}: expected <log folder>/{algo}/<env id>_<number>/<env id>.zip") from None


def read_run(model: Path, env_id: str) -> Run:
    """
    :param model: A file that may be of a run of the RL Zoo
    :param env_id: Of the environment
    :raises DemonstrationsError: If the run used what demonstrations cannot be recorded with
    :raises ImportError: If it is of the RL Zoo, which is not installed
    """
    folder = model.parent / env_id.split(":")[-1].replace("/", "-")
    if not (folder / "config.yml").is_file():
        return Run()
    try:
        from rl_zoo3.utils import get_saved_hyperparams, get_wrapper_class
    except ImportError as error:
        raise ImportError(
            f"{folder}: found a run of the RL Zoo, which is needed ({error}): pip install sb3-pgfd[zoo]"
        ) from error
    config = get_saved_hyperparams(str(folder))[0]
    for key in ("frame_stack", "vec_env_wrapper"):
        if config.get(key):
            raise DemonstrationsError(
                f"{folder}: found a run with {key}={config[key]}, expected none: its model sees what is made of several "
                "steps or environments, while demonstrations hold what one environment hands out. Put it into an env_wrapper"
            )
    own = saved_with(model, "vecnormalize")
    statistics = own if own.is_file() else folder / "vecnormalize.pkl"
    if config["normalize"] and not statistics.is_file():
        raise DemonstrationsError(f"{statistics}: found no such file, expected the statistics that the run was trained with")
    return Run(
        folder,
        _env_kwargs(folder, config),
        get_wrapper_class(config),
        str(config["env_wrapper"]) if config.get("env_wrapper") else None,
        statistics if config["normalize"] else None,
    )


def _env_kwargs(folder: Path, config: Mapping[str, Any]) -> Mapping[str, Any]:
    """As the Zoo's ``enjoy`` does: those of the training's command line, or else those of its configuration."""
    import yaml

    arguments = folder / "args.yml"
    typed = yaml.unsafe_load(arguments.read_text()).get("env_kwargs") if arguments.is_file() else None
    return typed or config.get("env_kwargs") or {}


def load_statistics(path: Path, env: gym.Env) -> VecNormalize:
    """
    :param path: Where ``VecNormalize`` was saved
    :param env: The environment that the policy acts in
    :raises DemonstrationsError: If they are of another environment
    """
    try:
        statistics = VecNormalize.load(str(path), DummyVecEnv([lambda: env]))
    except (AssertionError, ValueError) as error:
        raise DemonstrationsError(f"{path}: found statistics of another environment ({error}), expected {env}") from None
    statistics.training = False
    return statistics


def load_model(path: Path, algo: str, env: gym.Env, seed: int) -> BaseAlgorithm:
    """
    :param path: A model saved by SB3
    :param algo: Name of its algorithm
    :param env: The environment that it is to act in
    :param seed: Of its stochastic actions
    :raises DemonstrationsError: If there is no such algorithm, it is of another one, or of another environment
    """
    known = algorithms()
    if algo not in known:
        raise DemonstrationsError(f"--algo: found {algo!r}, expected one of {', '.join(sorted(known))}")
    # What is for learning only may be of another Python version, or as large as the memory
    replaced = {"learning_rate": 0.0, "lr_schedule": _zero, "clip_range": _zero}
    options: dict[str, Any] = {"seed": seed}
    if issubclass(known[algo], OffPolicyAlgorithm):
        replaced |= {"replay_buffer_class": None, "replay_buffer_kwargs": {}, "optimize_memory_usage": False}
        options["buffer_size"] = 1
    try:
        model = known[algo].load(path, custom_objects=replaced, **options)
    except _LOAD_ERRORS as error:
        raise DemonstrationsError(
            f"{path}: found what {known[algo].__name__} cannot load ({type(error).__name__}: {error}), expected a model that "
            f"it saved: is --algo {algo} right?"
        ) from error
    _check_spaces(path, model, env)
    return model


def _zero(_: float) -> float:
    return 0.0


def _check_spaces(path: Path, model: BaseAlgorithm, env: gym.Env) -> None:
    """Shapes alone: bounds differ between versions of an environment."""
    sample = map_observations(env.observation_space.sample(), lambda array: np.asarray(array)[None])
    try:
        check_observations(channels_first(sample, model.observation_space), model.observation_space, "observation")
    except DemonstrationsError as error:
        raise DemonstrationsError(f"{path}: the environment's {error}: was the model trained in it?") from None
    found, expected = env.action_space, model.action_space
    is_same = type(found) is type(expected) and found.shape == expected.shape
    if not is_same or (isinstance(found, spaces.Discrete) and found != expected):
        raise DemonstrationsError(f"{path}: found a model with actions in {expected}, expected {found} of the environment")
