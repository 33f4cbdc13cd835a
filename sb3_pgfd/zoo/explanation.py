"""``train --explain`` and ``--dry-run``: every value that a run uses, and where it came from."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from stable_baselines3.common.base_class import BaseAlgorithm

from sb3_pgfd.common.off_policy_algorithm import OffPolicyFromDemonstrations
from sb3_pgfd.demonstrations import Demonstrations
from sb3_pgfd.utils.files import hyperparams_file
from sb3_pgfd.utils.keywords import keyword_defaults
from sb3_pgfd.zoo.hyperparameters import as_mapping

# Arguments that `train` passes itself, or that say nothing of the run
_NOT_OPTIONS = {
    "env",
    "seed",
    "device",
    "verbose",
    "tensorboard_log",
    "_init_setup_model",
    "policy_kwargs",
    "replay_buffer_kwargs",
}
# Of the buffer: the algorithm and SB3 pass these
_NOT_BUFFER_OPTIONS = {"env", "demonstrations", "optimize_memory_usage"}
_NOT_POLICY_OPTIONS = {"observation_space", "action_space", "lr_schedule"}
# Arguments of the command that change what is learned or how it is measured
_OF_COMMAND = {
    "seed": ("seed", ("--seed", "--seeds")),
    "device": ("device", ("--device",)),
    "eval_freq": ("eval_freq", ("--eval-freq",)),
    "eval_episodes": ("eval_episodes", ("--eval-episodes",)),
    "save_freq": ("save_freq", ("--save-freq",)),
    "num_threads": ("num_threads", ("--num-threads",)),
}
_WIDTH = 56


class Layer(NamedTuple):
    """Options that were named in one place."""

    origin: str
    options: Mapping[str, Any]


class Row(NamedTuple):
    """One value that a run uses."""

    name: str
    value: str
    origin: str
    is_default: bool


def entry_name(config: str, env_id: str, is_atari: bool) -> str:
    """:return: A yaml, and which of its entries is taken for the environment; another configuration as it is named"""
    path = Path(config)
    if path.suffix not in (".yml", ".yaml"):
        return config
    entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    name = env_id if env_id in entries else "atari" if is_atari else "default"
    resolved, here = path.resolve(), Path.cwd()
    if resolved.parent == hyperparams_file("td3fd").resolve().parent:
        return f"packaged {path.name}, entry {name}"
    return f"{resolved.relative_to(here) if resolved.is_relative_to(here) else resolved}, entry {name}"


def explain(
    model: BaseAlgorithm, layers: Sequence[Layer], hyperparams: Mapping[str, Any], rest: str | None = None
) -> list[Row]:
    """
    :param model: That is about to learn
    :param layers: Where options are named. The last one counts
    :param hyperparams: What the layers give together, before the Zoo makes objects of it
    :param rest: Where all other values come from; None: they are defaults
    :return: A row for each option, those of the Zoo first
    """
    cls = type(model)
    defaults = {name: value for name, value in keyword_defaults(cls).items() if name not in _NOT_OPTIONS}
    # The Zoo makes one noise of these two
    noise = {"noise_type", "noise_std"} & hyperparams.keys()
    names = [name for name in hyperparams if name not in {*defaults, *_NOT_OPTIONS, *noise}] + list(defaults)
    rows = []
    for name in names:
        if name == "action_noise" and noise:
            value: Any = f"{hyperparams.get('noise_type')}, {hyperparams.get('noise_std')}"
            rows.append(Row(name, value, _origin(layers, "noise_std") or "", False))
            continue
        origin = _origin(layers, name) if name in hyperparams else None
        value = hyperparams[name] if origin else (defaults if rest is None else vars(model)).get(name)
        rows.append(_row(name, value, origin, rest, f"default of {cls.__name__}"))
    given = as_mapping(hyperparams.get("replay_buffer_kwargs"))
    if isinstance(model, OffPolicyFromDemonstrations):
        buffer_class = model._buffer_class
        options = {
            name: (value, f"default of {cls.__name__ if name in model.buffer_defaults else buffer_class.__name__}")
            for name, value in {**model._buffer_options(buffer_class), **model.replay_buffer_kwargs}.items()
            if name not in _NOT_BUFFER_OPTIONS
        }
    else:
        options = {name: (value, "") for name, value in given.items()}
    rows += _nested("replay_buffer_kwargs", options, given, layers, rest)
    own: frozenset[str] = getattr(cls, "_options_of_policy", frozenset())
    parameters = model.policy._get_constructor_parameters()
    options = {
        name: (value, f"default of {type(model.policy).__name__}")
        for name, value in parameters.items()
        if name not in _NOT_POLICY_OPTIONS | own
    }
    return rows + _nested("policy_kwargs", options, as_mapping(hyperparams.get("policy_kwargs")), layers, rest)


def _nested(
    place: str,
    options: Mapping[str, tuple[Any, str]],
    given: Mapping[str, Any],
    layers: Sequence[Layer],
    rest: str | None,
) -> list[Row]:
    rows = []
    for name, (value, default) in options.items():
        origin = _origin(layers, name, place) if name in given else None
        rows.append(_row(f"{place}.{name}", given[name] if origin else value, origin, rest, default))
    return rows


def _row(name: str, value: Any, origin: str | None, rest: str | None, default: str) -> Row:
    return Row(name, shown(value), origin or rest or default, origin is None)


def _origin(layers: Sequence[Layer], name: str, place: str | None = None) -> str | None:
    for layer in reversed(layers):
        options = layer.options if place is None else as_mapping(layer.options.get(place))
        if name in options:
            return layer.origin
    return None


def of_command(args: Any, command: Sequence[str]) -> list[Row]:
    """
    :param args: As the Zoo parsed them
    :param command: Arguments of the command
    :return: A row for each argument that changes what is learned or how it is measured
    """
    words = [word.split("=")[0] for word in command if word.startswith("-")]
    rows = []
    for name, (attribute, flags) in _OF_COMMAND.items():
        is_given = any(flag.startswith(word) and len(word) > 2 for flag in flags for word in words)
        default = "drawn at random" if name == "seed" else "default of train"
        rows.append(Row(flags[0], shown(getattr(args, attribute)), "command line" if is_given else default, not is_given))
    return rows


def shown(value: Any) -> str:
    """:return: A value in one line"""
    if isinstance(value, Demonstrations):
        return value.source or repr(value)
    if isinstance(value, type):
        return f"{value.__module__}.{value.__qualname__}"
    text = value if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else repr(value)
    text = " ".join(text.split())
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 4]} ..."


def table(rows: Sequence[Row], with_defaults: bool) -> str:
    """
    :param rows: Of :func:`explain` and :func:`of_command`
    :param with_defaults: Whether values that nobody named are shown too
    :return: Three columns: option, value, where it came from
    """
    picked = [row for row in rows if with_defaults or not row.is_default]
    lines = [("option", "value", "from"), *((row.name, row.value, row.origin) for row in picked)]
    widths = [max(len(line[i]) for line in lines) for i in (0, 1)]
    return "\n".join(f"  {name:<{widths[0]}}  {value:<{widths[1]}}  {origin}" for name, value, origin in lines)


def heading(model: BaseAlgorithm, env_id: str) -> str:
    """:return: Lines on the environment and the demonstrations"""
    lines = [f"{type(model).__name__} on {env_id}", f"  observations    {model.observation_space}"]
    lines.append(f"  actions         {model.action_space}")
    demonstrations = getattr(model, "demonstrations", None)
    if isinstance(demonstrations, Demonstrations):
        summary = demonstrations.summary()
        success = "unknown" if summary["success_rate"] is None else f"{summary['success_rate']:.0%}"
        sizes = f"{demonstrations.n_episodes} episodes, {len(demonstrations):,} transitions"
        lines.append(f"  demonstrations  {sizes}, mean return {summary['mean_return']:.4g}, success {success}")
    return "\n".join(lines)
