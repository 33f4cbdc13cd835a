"""
The state of environments, so that an interrupted run goes on where it was.

Most simulators cannot be pickled. So :class:`Resumable` remembers the random generators before the last reset and the actions
since: a new environment that does the same arrives in the same state. What wrappers and environments written in Python hold
is restored on top. Whether the state is right is tested: the last observation must be the same, bit for bit.
"""

import inspect
import io
import pickle
import random
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv, VecEnvWrapper, VecFrameStack
from stable_baselines3.common.vec_env.stacked_observations import StackedObservations

from sb3_pgfd.common.real_time import real_time_of

# Longer episodes are cut when a run is resumed: doing them again would take long
LONGEST_EPISODE = 100_000
# Nothing of the state; a file's position or a function cannot be pickled anyway
_SKIPPED = {"env", "venv", "spec", "_cached_spec", "class_attributes", "render_mode", "metadata", "_metadata"}
# What is more than a value: its copy would not be the thing itself
_THINGS = (gym.Env, VecEnv, spaces.Space, BaseAlgorithm, BaseCallback, th.nn.Module, io.IOBase)
_PLAIN = (np.ndarray, np.generic, np.dtype, np.random.Generator, np.random.BitGenerator, np.random.SeedSequence, deque)
_SCALARS = (bool, int, float, str, type(None))
# What pickling raises for what cannot be pickled
PICKLE_ERRORS = (pickle.PicklingError, AttributeError, NotImplementedError, RecursionError, TypeError, ValueError)


class _ValuePickler(pickle.Pickler):
    """:param plain: Whether to refuse all but numbers, texts, arrays and containers"""

    def __init__(self, file: Any, plain: bool):
        super().__init__(file, protocol=5)
        self._plain = plain

    def persistent_id(self, obj: Any) -> None:
        if isinstance(obj, _THINGS):
            raise pickle.PicklingError(f"a {type(obj).__name__} is no value")

    def reducer_override(self, obj: Any) -> Any:
        known = isinstance(obj, (*_PLAIN, OrderedDict)) or getattr(obj, "__module__", "").startswith("numpy")
        if self._plain and not known and obj not in (deque, OrderedDict):
            raise pickle.PicklingError(f"a {type(obj).__name__} is not plain")
        return NotImplemented


def _dump(value: Any, plain: bool) -> bytes:
    file = io.BytesIO()
    _ValuePickler(file, plain).dump(value)
    return file.getvalue()


def values_of(thing: Any, leave: set[str], plain: bool = False) -> dict[str, Any]:
    """
    :param thing: Any object
    :param leave: Attributes that are not part of its state
    :param plain: Whether to take numbers, texts, arrays and containers alone
    :return: Those of its attributes that can be pickled
    """
    values = {}
    for name, value in vars(thing).items():
        if name not in leave | _SKIPPED and not isinstance(value, (*_THINGS, np.random.Generator)):
            try:
                _dump(value, plain)
            except PICKLE_ERRORS:
                continue
            values[name] = value
    return values


def options_of(thing: Any) -> set[str]:
    """:return: Names of the arguments of its constructor: how it was set up, and not its state"""
    return set(inspect.signature(type(thing).__init__).parameters)


def layers(env: Any) -> Iterator[Any]:
    """:return: The wrappers of an environment from the outside, and the environment; of a ``VecEnv`` likewise"""
    yield env
    while isinstance(env, (gym.Wrapper, VecEnvWrapper)):
        env = env.venv if isinstance(env, VecEnvWrapper) else env.env
        yield env


def _spaces(space: Any) -> Iterator[spaces.Space]:
    if isinstance(space, spaces.Space):
        yield space
        inner = getattr(space, "spaces", ())
        for subspace in inner.values() if isinstance(inner, Mapping) else inner:
            yield from _spaces(subspace)


def _owners(thing: Any) -> dict[str, tuple[Any, str]]:
    """:return: By place, objects and the name of their attribute that is, or may become, a random generator"""
    owners: dict[str, tuple[Any, str]] = {}
    for depth, layer in enumerate(layers(thing)):
        for name, value in vars(layer).items():
            if name == "_np_random" or isinstance(value, np.random.Generator):
                owners[f"{depth}.{name}"] = layer, name
            for number, space in enumerate(_spaces(value)):
                owners[f"{depth}.{name}.{number}"] = space, "_np_random"
    return owners


def generators_of(thing: Any) -> dict[str, np.random.Generator | None]:
    """:return: Copies of the random generators of an environment, its wrappers and their spaces, or of any object"""
    return {place: deepcopy(vars(owner).get(name)) for place, (owner, name) in _owners(thing).items()}


def set_generators(thing: Any, generators: Mapping[str, np.random.Generator | None]) -> None:
    """:param generators: Of :func:`generators_of`. One that is not there is made by the environment when it is reset"""
    owners = _owners(thing)
    for place in generators.keys() & owners.keys():
        (owner, name), saved = owners[place], generators[place]
        present = vars(owner).get(name)
        # In place, because the same generator may have several owners
        if isinstance(present, np.random.Generator) and saved is not None:
            present.bit_generator.state = saved.bit_generator.state
        else:
            setattr(owner, name, deepcopy(saved))


def global_generators() -> tuple[Any, ...]:
    """:return: The states of the generators of Python, NumPy and PyTorch"""
    gpus = th.cuda.get_rng_state_all() if th.cuda.is_initialized() else None
    return random.getstate(), np.random.get_state(), th.get_rng_state(), gpus


def set_global_generators(states: tuple[Any, ...]) -> None:
    """:param states: Of :func:`global_generators`"""
    random.setstate(states[0])
    np.random.set_state(states[1])
    th.set_rng_state(states[2])
    if states[3] is not None and th.cuda.is_available() and len(states[3]) == th.cuda.device_count():
        th.cuda.set_rng_state_all(states[3])


class Resumable(gym.Wrapper, gym.utils.RecordConstructorArgs):
    """
    Remembers how the environment came into its state. The models of this package put it around each environment of a
    ``DummyVecEnv``. Around those of a ``SubprocVecEnv`` put it yourself, as ``wrapper_class`` of ``make_vec_env``. An
    environment with ``metadata["repeatable"]`` False, as a real robot should have, never repeats actions: its episode is cut.
    A wrapper whose ``reset`` depends on attributes that change from episode to episode names them in ``read_by_reset``.

    :param env: The environment with all its wrappers
    """

    def __init__(self, env: gym.Env):
        gym.utils.RecordConstructorArgs.__init__(self)
        super().__init__(env)
        self._start: tuple[Any, ...] | None = None
        self._actions: list[Any] = []
        self._last: Any = None

    def __setattr__(self, name: str, value: Any) -> None:
        # What a VecEnv sets is meant for the environment inside
        if "_last" in vars(self) and name not in vars(self):
            setattr(self.env, name, value)
        else:
            super().__setattr__(name, value)

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """:return: The result of the environment"""
        # Otherwise the environment makes an unknown one
        getattr(self.env.unwrapped, "np_random", None)
        self._start = generators_of(self.env), random.getstate(), np.random.get_state(), deepcopy(kwargs)
        self._actions = []
        result = self.env.reset(**kwargs)
        self._last = result[0]
        return result

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """:return: The result of the environment"""
        # A copy, because an environment may scale its action in place
        taken = np.array(action)
        result = self.env.step(action)
        if len(self._actions) <= LONGEST_EPISODE:
            self._actions.append(taken)
        self._last = result[0]
        return result

    def resumable_state(self) -> bytes:
        """:return: Everything that :meth:`restore_resumable` needs"""
        base = self.env.unwrapped
        plain = values_of(base, set(), plain=True)
        others = set(vars(base)) - set(plain) - _SKIPPED
        is_plain = all(isinstance(vars(base)[name], (spaces.Space, np.random.Generator)) for name in others)
        state = {
            "start": self._start if len(self._actions) <= LONGEST_EPISODE and self.metadata.get("repeatable", True) else None,
            "actions": np.array(self._actions),
            "last": self._last,
            # Arrays of a simulator may be views of its memory, which a copy would not be
            "base": plain if is_plain else {name: value for name, value in plain.items() if isinstance(value, _SCALARS)},
            "is_plain": is_plain,
            "classes": [type(layer).__name__ for layer in layers(self.env)],
            "wrappers": [values_of(layer, options_of(layer)) for layer in list(layers(self.env))[:-1]],
            "generators": generators_of(self.env),
        }
        return pickle.dumps(state, protocol=5)

    def restore_resumable(self, saved: bytes, in_episode: bool = True) -> bool:
        """
        Bring the environment into a state. This also changes the global random generators.

        :param saved: Of :meth:`resumable_state`
        :param in_episode: Whether to go on inside the episode; otherwise the environment must be reset next
        :return: Whether it is in the same state inside the episode
        :raises ValueError: If the environment is another one, or has other wrappers
        """
        state = pickle.loads(saved)
        found = [type(layer).__name__ for layer in layers(self.env)]
        if found != state["classes"]:
            raise ValueError(f"env: found {found} from the outside, expected {state['classes']} as in the saved run")
        # A new environment has none, and its place would not be found
        getattr(self.env.unwrapped, "np_random", None)
        *wrappers, base = layers(self.env)
        for layer, values in zip(wrappers, state["wrappers"], strict=True):
            vars(layer).update({name: values[name] for name in getattr(type(layer), "read_by_reset", ()) if name in values})
        is_same = in_episode and state["start"] is not None and self._repeat(state["start"], state["actions"])
        is_same = is_same and (state["is_plain"] or _equal(self._last, state["last"]))
        for layer, values in zip((base, *wrappers), (state["base"], *state["wrappers"]), strict=True):
            vars(layer).update(values)
        set_generators(self.env, state["generators"])
        return is_same

    def _repeat(self, start: tuple[Any, ...], actions: np.ndarray) -> bool:
        generators, python, numpy, kwargs = start
        set_generators(self.env, generators)
        random.setstate(python)
        np.random.set_state(numpy)
        self.reset(**kwargs)
        for number, action in enumerate(actions, start=1):
            *_, terminated, truncated, _ = self.step(action)
            if (terminated or truncated) and number < len(actions):
                return False
        return True


def _equal(first: Any, second: Any) -> bool:
    if isinstance(first, Mapping):
        return first.keys() == second.keys() and all(_equal(first[key], second[key]) for key in first)
    if isinstance(first, tuple):
        return len(first) == len(second) and all(map(_equal, first, second))
    first, second = np.asarray(first), np.asarray(second)
    return first.dtype == second.dtype and first.tobytes() == second.tobytes()


def make_resumable(env: VecEnv | None) -> None:
    """Put :class:`Resumable` around each environment of a ``DummyVecEnv``, or of one that can do so itself."""
    base: Any = None if env is None else list(layers(env))[-1]
    if hasattr(base, "make_resumable"):
        base.make_resumable()
    elif isinstance(base, DummyVecEnv):
        base.envs = [one if isinstance(one, Resumable) else Resumable(one) for one in base.envs]


def _is_resumable(base: VecEnv) -> bool:
    known = isinstance(base, (DummyVecEnv, SubprocVecEnv)) or getattr(base, "is_resumable", False)
    return known and not getattr(base, "closed", False) and all(base.env_is_wrapped(Resumable))


def save_environment(env: VecEnv) -> dict[str, Any]:
    """:return: The state of parallel environments and of the wrappers around all of them"""
    *wrappers, base = layers(env)
    return {
        "classes": [type(layer).__name__ for layer in wrappers],
        "wrappers": [values_of(layer, options_of(layer)) for layer in wrappers],
        "stacks": [stack.stacked_obs.copy() for stack in _stacks(wrappers)],
        "envs": base.env_method("resumable_state") if _is_resumable(base) and real_time_of(env) is None else None,
        "seeds": getattr(base, "_seeds", None),
        "options": getattr(base, "_options", None),
    }


def restore_environment(env: VecEnv, state: dict[str, Any], in_episode: bool = True) -> str | None:
    """
    :param env: New environments like those that were saved
    :param state: Of :func:`save_environment`
    :param in_episode: Whether to go on inside the episodes
    :return: None, or why the environments are not in the same state: they must be reset then
    :raises ValueError: If they have other wrappers
    """
    *wrappers, base = layers(env)
    found = [type(layer).__name__ for layer in wrappers]
    if found != state["classes"]:
        raise ValueError(f"env: found the wrappers {found}, expected {state['classes']} as in the saved run")
    problem = None
    make_resumable(env)
    if state["envs"] is None or not _is_resumable(base):
        problem = "they are in real time, in processes or of a kind that cannot be asked for their state (see Resumable)"
    elif len(state["envs"]) != env.num_envs:
        raise ValueError(f"env: found {env.num_envs} environments, expected {len(state['envs'])} as in the saved run")
    else:
        same = [base.env_method("restore_resumable", one, in_episode, indices=i)[0] for i, one in enumerate(state["envs"])]
        base._seeds, base._options = state["seeds"], state["options"]
        if in_episode and not all(same):
            problem = f"environment {same.index(False)} did not come into the same state when its episode was repeated"
    for layer, values in zip(wrappers, state["wrappers"], strict=True):
        vars(layer).update(values)
    for stack, frames in zip(_stacks(wrappers), state["stacks"], strict=True):
        stack.stacked_obs = frames
    return problem


def _stacks(wrappers: Iterable[Any]) -> list[StackedObservations]:
    """:return: The frames that ``VecFrameStack`` has of the running episodes, for each key"""
    found: list[StackedObservations] = []
    for wrapper in wrappers:
        if isinstance(wrapper, VecFrameStack):
            stacks = wrapper.stacked_obs
            found += stacks.sub_stacked_observations.values() if hasattr(stacks, "sub_stacked_observations") else [stacks]
    return found
