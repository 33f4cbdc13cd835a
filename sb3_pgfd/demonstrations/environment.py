"""The environment that demonstrations were recorded in, as far as they say."""

from collections.abc import Mapping
from contextlib import closing, suppress
from typing import Any

import gymnasium as gym
from gymnasium import spaces

from sb3_pgfd.demonstrations.dataset import Demonstrations
from sb3_pgfd.demonstrations.errors import DemonstrationsError
from sb3_pgfd.demonstrations.spaces import space_from_json

# What environments raise for arguments they do not know, missing libraries and states they cannot be in
_BUILT_IN = (ArithmeticError, AssertionError, AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError)
ENVIRONMENT_ERRORS = (*_BUILT_IN, gym.error.Error)


def make_env(env_id: str, env_kwargs: Mapping[str, Any] | None = None, render_mode: str | None = None) -> gym.Env:
    """
    :param env_id: Named by the user, so it may be ``"module:Env-v0"``, which imports that module
    :param env_kwargs: Arguments of the environment
    :param render_mode: ``"rgb_array"`` for pictures, None: nothing is drawn
    :raises DemonstrationsError: If there is no such environment or it cannot be made
    """
    # How the recording was watched is no matter here; and not every environment knows the argument
    arguments = {name: value for name, value in (env_kwargs or {}).items() if name != "render_mode"}
    if render_mode is not None:
        arguments["render_mode"] = render_mode
    try:
        return gym.make(env_id, **arguments)
    except (*ENVIRONMENT_ERRORS, ImportError) as error:
        raise DemonstrationsError(
            f"{env_id}: found no environment of this id that can be made{f' with {arguments}' if arguments else ''} "
            f"({type(error).__name__}: {error}), expected one: --gym-packages names the module that registers it, see also "
            "--env and --env-kwargs"
        ) from error


def recorded_env(
    demonstrations: Demonstrations, env_kwargs: Mapping[str, Any] | None = None, render_mode: str | None = None
) -> gym.Env:
    """
    Make the environment that the metadata name. A file may name what is registered already, and nothing that imports code.

    :param demonstrations: With ``env_id`` and perhaps ``env_kwargs`` in their metadata
    :param env_kwargs: Arguments that replace or complete the recorded ones
    :param render_mode: See :func:`make_env`
    :raises DemonstrationsError: If they name none, or it is not registered or cannot be made
    """
    env_id, kwargs = demonstrations.metadata.get("env_id"), demonstrations.metadata.get("env_kwargs") or {}
    if not isinstance(env_id, str):
        raise DemonstrationsError("metadata: found no environment id, expected one: name the environment with --env")
    # An id with a colon is in no registry: gym.make() would import the module before it
    if env_id not in gym.registry or ":" in env_id:
        raise DemonstrationsError(
            f"metadata: found the environment id {env_id!r}, which is not registered, expected one that is: import the "
            "package that registers it (--gym-packages), or name the environment yourself (--env)"
        )
    if not isinstance(kwargs, Mapping) or _names_a_module(kwargs):
        raise DemonstrationsError(
            f"metadata: found env_kwargs {kwargs}, expected names and values without a colon, as 'module:Env' would import "
            "code that a file names: give the environment yourself (--env, --env-kwargs)"
        )
    return make_env(env_id, {**kwargs, **(env_kwargs or {})}, render_mode)


def recorded_action_space(demonstrations: Demonstrations) -> spaces.Space | None:
    """
    :param demonstrations: With ``action_space`` in their metadata, or the id of a registered environment
    :return: The action space of their environment, None: unknown
    """
    described = demonstrations.metadata.get("action_space")
    with suppress(DemonstrationsError):
        if described is not None:
            return space_from_json(described)
    with suppress(DemonstrationsError), closing(recorded_env(demonstrations)) as env:
        return env.action_space
    return None


def _names_a_module(value: Any) -> bool:
    """Some environments make another one by the id they are given."""
    if isinstance(value, Mapping):
        return any(_names_a_module(item) for item in value.values())
    if isinstance(value, (list, tuple)):
        return any(_names_a_module(item) for item in value)
    return isinstance(value, str) and ":" in value
