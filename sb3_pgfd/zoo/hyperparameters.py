"""Hyperparameters from a yaml entry, ``-params`` and a trial: numbers, schedules, nested mappings, demonstrations."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import rl_zoo3.exp_manager
import yaml
from rl_zoo3.utils import SimpleLinearSchedule
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv

from sb3_pgfd.common.pretraining import LearnsFromDemonstrations
from sb3_pgfd.demonstrations import Demonstrations, DemonstrationsError
from sb3_pgfd.demonstrations.formats import locate
from sb3_pgfd.utils.files import hyperparams_file, near
from sb3_pgfd.utils.keywords import accepted_keywords, check_keywords
from sb3_pgfd.zoo.command_line import CommandError

# Hyperparameters that are mappings of options
_NESTED = ("policy_kwargs", "replay_buffer_kwargs")

# YAML 1.1, which PyYAML reads, wants a dot and a sign in an exponent: it reads 1e-3 and 1.5e4 as text
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")
_SCHEDULE = re.compile(r"[^_]+_[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
# Options that may be a schedule: the Zoo's own, and those of our algorithms
_ZOO_SCHEDULES = ("learning_rate", "clip_range", "clip_range_vf", "delta_std")
_OUR_SCHEDULES = ("actor_learning_rate", "importance_exponent")
# What the Zoo reads itself
_ZOO_OPTIONS = {"n_timesteps", "n_envs", "normalize", "frame_stack", "env_kwargs", "env_wrapper", "vec_env_wrapper"}
_ZOO_OPTIONS |= {"monitor_kwargs", "callback", "noise_type", "noise_std", "vec_env", "vec_env_kwargs"}

VEC_ENVS = ("dummy", "subproc", "ray", "ray-collector")


def default_algorithm(env_id: str) -> str:
    """:return: The algorithm of commands without ``--algo``: ``ddpgfd`` if it is tuned for the environment, or ``td3fd``"""
    return "ddpgfd" if env_id in yaml.safe_load(hyperparams_file("ddpgfd").read_text()) else "td3fd"


def check_config(config: str, env_id: str, may_be_atari: bool) -> None:
    """
    Check a yaml before the Zoo reads it. Other configurations are Python, which the Zoo runs.

    :param config: Path of the yaml, or something else
    :param env_id: The environment
    :param may_be_atari: Whether the entry ``atari`` is for it
    :raises CommandError: If there is no such file, it is no mapping, or it has no entry for the environment
    """
    path = Path(config)
    if path.suffix not in (".yml", ".yaml"):
        return
    if not path.is_file():
        raise CommandError(f"{config}: found no such file, expected YAML with options by environment{near(path)}")
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        reason = " ".join(str(getattr(error, "problem", None) or error).split())
        raise CommandError(
            f"{config}: found a mistake{place} ({reason}), expected YAML with options by environment"
        ) from error
    if not isinstance(entries, dict) or not isinstance(entries.get(env_id, {}), dict):
        found = entries.get(env_id) if isinstance(entries, dict) else entries
        raise CommandError(f"{config}: found {found!r:.100}, expected YAML with options by environment")
    if not {env_id, "default", *(["atari"] if may_be_atari else [])} & entries.keys():
        raise CommandError(
            f"{config}: found entries for {', '.join(map(str, entries)) or 'nothing'}, expected one for {env_id}, or 'default'"
        )


def with_numbers(value: Any) -> Any:
    """:return: The same value of a yaml, with texts like ``1e-3`` as numbers"""
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return float(value)
    if isinstance(value, Mapping):
        return {key: with_numbers(item) for key, item in value.items()}
    return [with_numbers(item) for item in value] if isinstance(value, list) else value


def with_schedules(hyperparams: dict[str, Any]) -> dict[str, Any]:
    """
    Make schedules of values that are spelled ``lin_1e-3``, in place as the Zoo does it.

    :raises ValueError: If a text is no schedule
    """
    for name in (*_ZOO_SCHEDULES, *_OUR_SCHEDULES):
        value = hyperparams.get(name)
        if isinstance(value, str):
            if not _SCHEDULE.fullmatch(value):
                raise ValueError(f"{name}: found {value!r}, expected a number, or lin_<number>, which falls to 0 over the run")
            hyperparams[name] = SimpleLinearSchedule(float(value.split("_")[1]))
    return hyperparams


def vec_env_class(name: Any) -> type[VecEnv]:
    """
    :param name: Value of ``vec_env``
    :raises CommandError: If it is unknown
    :raises ImportError: If it needs Ray, which is not installed
    """
    if name in ("ray", "ray-collector"):
        from sb3_pgfd.distributed import RayCollector, RayVecEnv

        return RayVecEnv if name == "ray" else RayCollector
    if name not in VEC_ENVS:
        raise CommandError(f"vec_env: found {name!r}, expected one of {', '.join(VEC_ENVS)}")
    return DummyVecEnv if name == "dummy" else SubprocVecEnv


def as_mapping(value: Any) -> dict[str, Any]:
    """:return: A copy of a mapping, None, or the Zoo's text for one: ``"dict(net_arch=[64], activation_fn=nn.Tanh)"``"""
    # In the names that the Zoo itself evaluates these texts with
    return dict(eval(value, vars(rl_zoo3.exp_manager)) if isinstance(value, str) else value or {})


def merge(hyperparams: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """:return: New hyperparameters with these changes. A nested mapping changes the options that it names"""
    both = {**hyperparams, **changes}
    for name in _NESTED:
        if name in hyperparams and name in changes:
            both[name] = {**as_mapping(hyperparams[name]), **as_mapping(changes[name])}
    return both


def flatten(hyperparams: Mapping[str, Any]) -> dict[str, Any]:
    """:return: The same and the options of nested mappings, all by name"""
    options = {key: value for name in _NESTED for key, value in as_mapping(hyperparams.get(name)).items()}
    return {**hyperparams, **options}


def check_names(algorithm: type[LearnsFromDemonstrations], hyperparams: Mapping[str, Any], own: set[str], origin: str) -> None:
    """
    :param algorithm: Which is to be trained
    :param hyperparams: By name
    :param own: Nested mappings of a class that is not the algorithm's usual one, which may have more options
    :param origin: Where they are from, for messages
    :raises CommandError: If a name is unknown
    """
    places = algorithm._keyword_places()
    try:
        accepted = accepted_keywords(algorithm) | _ZOO_OPTIONS
        check_keywords(f"{origin}: {algorithm.__name__}", hyperparams, accepted, places)
        for place in places.keys() - own:
            check_keywords(f"{origin}: {place}", as_mapping(hyperparams.get(place)), places[place])
    except TypeError as error:
        raise CommandError(str(error)) from None


def resolve_demonstrations(named: Any, folders: Sequence[Path], origin: str) -> Any:
    """
    Make a relative path of demonstrations absolute, so that it holds in every folder. Names and ids stay as they are.

    :param named: A path, a name, an id, a list of them, or a mapping with one of these as ``source`` and options of
        :meth:`Demonstrations.load`. None means no demonstrations
    :param folders: What a relative path may be relative to. The first one where it exists counts
    :param origin: Where it is named, for messages
    :raises DemonstrationsError: If there are no such demonstrations
    """
    if named is None:
        return None
    if isinstance(named, Mapping) and "source" in named:
        return {**named, "source": resolve_demonstrations(named["source"], folders, origin)}
    if isinstance(named, list) and named:
        return [resolve_demonstrations(item, folders, origin) for item in named]
    if not isinstance(named, (str, os.PathLike)):
        raise DemonstrationsError(
            f"{origin}: demonstrations: found {named!r:.200}, expected a path, the name of packaged demonstrations, the id of "
            "a Minari dataset, a list of them, or a mapping with one of them as 'source' and options of Demonstrations.load"
        )
    path = Path(named).expanduser()
    for folder in folders:
        if (folder / path).exists():
            return os.path.abspath(folder / path)
    try:
        locate(named)
    except DemonstrationsError as error:
        is_path = not path.is_absolute() and ":" not in str(named)
        searched = f" (looked in {' and in '.join(map(str, folders))})" if is_path else ""
        raise DemonstrationsError(f"{origin}: demonstrations: {error}{searched}") from None
    return str(named)


def resolve_in_wrappers(wrappers: Any, folders: Sequence[Path], origin: str) -> Any:
    """
    :param wrappers: Value of ``env_wrapper``: names, or options by name
    :return: The same, with the demonstrations among the options as :func:`resolve_demonstrations` gives them
    """
    if isinstance(wrappers, list):
        return [resolve_in_wrappers(one, folders, origin) for one in wrappers]
    if not isinstance(wrappers, Mapping):
        return wrappers
    return {
        name: {**options, "demonstrations": resolve_demonstrations(options["demonstrations"], folders, origin)}
        if isinstance(options, Mapping) and "demonstrations" in options
        else options
        for name, options in wrappers.items()
    }


RESOLVERS = {"demonstrations": resolve_demonstrations, "env_wrapper": resolve_in_wrappers}
"""By option, what makes the paths of demonstrations in it absolute"""


def stacked(resolved: Any, n_stack: int) -> dict[str, Any]:
    """
    :param resolved: By :func:`resolve_demonstrations`
    :param n_stack: Frames per observation, unless ``resolved`` has its own number
    """
    return {"stack_frames": n_stack, **(resolved if isinstance(resolved, Mapping) else {"source": resolved})}


def load_demonstrations(resolved: Any) -> Demonstrations | None:
    """:param resolved: By :func:`resolve_demonstrations`"""
    if resolved is None:
        return None
    return Demonstrations.load(**resolved) if isinstance(resolved, Mapping) else Demonstrations.load(resolved)
