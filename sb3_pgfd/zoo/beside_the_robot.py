"""``train --intervene`` and ``--control-hz``: a person beside the robot, and a robot that does not wait."""

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import load_env_creator
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper

from sb3_pgfd.demonstrations.recording.interventions import DEVICES
from sb3_pgfd.wrappers import InterventionWrapper, Person, RealTime, SuccessReward, monitor_successes
from sb3_pgfd.zoo.command_line import CommandError, add_control_options

_NAMES = ("intervene", "success_key", "control_hz", "scale", "keys", "axes")


def add_options(parser: argparse.ArgumentParser) -> None:
    """:param parser: Gets the options of :class:`BesideTheRobot`"""
    group = parser.add_argument_group("a person beside the robot")
    text = "open a window in which you take over while it learns: hold a key or push a stick"
    group.add_argument("--intervene", choices=DEVICES, help=text)
    text = "with --intervene: the reward is yours alone, 1 when you press RETURN or button 3, which ends the episode"
    group.add_argument("--success-key", action="store_true", help=text)
    text = "steps per second: the environment does not wait for updates"
    group.add_argument("--control-hz", type=float, metavar="HZ", help=text)
    add_control_options(group)


def given_options(own: argparse.Namespace) -> list[str]:
    """:return: The arguments of the command line that these options came from"""
    found = []
    for name in _NAMES:
        value = getattr(own, name)
        if value not in (None, False):
            words = value if isinstance(value, list) else [] if value is True else [value]
            texts = (
                ",".join(word) if isinstance(word, tuple) else f"{word:.12g}" if isinstance(word, float) else word
                for word in words
            )
            found += [f"--{name.replace('_', '-')}", *texts]
    return found


class BesideTheRobot:
    """
    The wrappers of the environment that is learned from.

    :param options: With the options of :func:`add_options`
    :raises CommandError: If some of them have no meaning without others
    """

    def __init__(self, options: argparse.Namespace):
        self.device, self.success_key, self.control_hz = options.intervene, options.success_key, options.control_hz
        self._controls = {name: getattr(options, name) for name in ("keys", "axes")}
        self._controls["scale"] = 1.0 if options.scale is None else options.scale
        if self.device is None:
            for name in ("success_key", "scale", "keys", "axes"):
                if getattr(options, name) not in (None, False):
                    raise CommandError(f"--{name.replace('_', '-')}: found it alone, expected --intervene with it")
        if self.control_hz is not None and not self.control_hz > 0.0:
            raise CommandError(f"--control-hz: found {self.control_hz:g}, expected a number of steps per second above 0")

    @property
    def changes_nothing(self) -> bool:
        """Whether there is nothing to wrap"""
        return self.device is None and self.control_hz is None

    def env_kwargs(self, spec: Any) -> dict[str, Any]:
        """:return: Arguments with which the environment draws pictures for the window, if it can"""
        if self.device is None or spec.entry_point is None:
            return {}
        creator = spec.entry_point if callable(spec.entry_point) else load_env_creator(spec.entry_point)
        draws = "rgb_array" in getattr(creator, "metadata", {}).get("render_modes", ())
        return {"render_mode": "rgb_array"} if draws else {}

    def wrapper(self, then: Callable[[gym.Env], gym.Env] | None) -> Callable[[gym.Env], gym.Env]:
        """
        :param then: Wrapper of the hyperparameters
        :return: One that lets a person take over outside of it, and logs the rewards that the person gives
        """
        return partial(monitor_successes, inside=partial(self._wrap, then=then))

    def _wrap(self, env: gym.Env, then: Callable[[gym.Env], gym.Env] | None) -> gym.Env:
        env = env if then is None else then(env)
        # In real time the environment sets the pace
        person = Person(env, self.device, fps=None if self.control_hz is None else 0.0, **self._controls)
        env = InterventionWrapper(env, person)
        return SuccessReward(env, person.succeeded) if self.success_key else env

    def set_pace(self, env: VecEnv, eval_env: bool) -> VecEnv:
        """:return: The environment, at a fixed rate if one was given, but in evaluations"""
        if self.control_hz is None:
            return env
        return AtAnyPace(env) if eval_env else RealTime(env, self.control_hz)


class AtAnyPace(VecEnvWrapper):
    """Changes nothing. SB3 passes the statistics of ``VecNormalize`` on between environments with as many wrappers."""

    def reset(self) -> Any:
        """cf ``VecEnv``"""
        return self.venv.reset()

    def step_wait(self) -> Any:
        """cf ``VecEnv``"""
        return self.venv.step_wait()
