"""Checks of a step of the environments before it is stored."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from gymnasium import spaces

from sb3_pgfd.replay.storage import BOX_KEY, Columns, Schema, next_obs_column, obs_column


def step_columns(
    schema: Schema,
    observations: Any,
    next_observations: Any,
    actions: Any,
    rewards: Any,
    n_envs: int,
    step_of: Callable[[int], int],
) -> Columns:
    """
    :param schema: Of the buffer
    :param observations: s of each environment: one array, or one per key
    :param next_observations: s', likewise
    :param actions: a, as they are stored
    :param rewards: r
    :param n_envs: Number of environments
    :param step_of: Says which step of its episode an environment is in, for messages
    :return: Columns of the stored shapes
    :raises ValueError: If an array has another shape, which NumPy might broadcast, or holds NaN or infinity
    """
    columns: Columns = {}
    for key, shape in schema.obs_shapes.items():
        for column, given in ((obs_column(key), observations), (next_obs_column(key), next_observations)):
            array = np.asarray(given[key] if isinstance(given, Mapping) else given)
            columns[column] = array if array.shape == (n_envs, *shape) else _with_axis(column, array, schema, key, n_envs)
    columns["actions"] = np.asarray(actions).reshape(n_envs, schema.action_dim)
    # As it is stored: a number beyond single precision is infinite there
    columns["rewards"] = np.asarray(rewards, dtype=np.float32)
    check_rows("rewards", columns["rewards"], n_envs)
    if not are_finite(columns.values()):
        # In the order in which one causes the next
        for name in ("observations", "actions", "next_observations", "rewards"):
            for column, array in columns.items():
                if column.partition("/")[0] == name:
                    check_finite(_label(column), array, step_of)
    return columns


def are_finite(arrays: Iterable[np.ndarray]) -> bool:
    """
    :return: Whether no number is NaN or infinite, False if in doubt: the sum of their squares tells in a fraction of the time
        of np.isfinite()
    """
    squares = 0.0
    for array in arrays:
        if array.dtype.kind == "f":
            # The square of any number of single precision is finite in double precision
            flat = array.reshape(-1).astype(np.float64, copy=False)
            squares += float(flat.dot(flat))
    return math.isfinite(squares)


def check_rows(name: str, array: np.ndarray, n_envs: int) -> None:
    """:raises ValueError: Unless there is one value for each environment"""
    if array.shape != (n_envs,):
        raise ValueError(f"{name}: found shape {array.shape}, expected {(n_envs,)}, one for each environment")


def _with_axis(column: str, array: np.ndarray, schema: Schema, key: str, n_envs: int) -> np.ndarray:
    """:return: Discrete observations with the axis that SB3 gives them (its issue 970); anything else is refused"""
    space = schema.observation_space
    subspace = space[key] if isinstance(space, spaces.Dict) else space
    expected = (n_envs, *(subspace.shape or ()))
    if array.shape != expected:
        raise ValueError(
            f"{_label(column)}: found shape {array.shape}, expected {expected}, a row for each environment. "
            "Nothing of this step was stored"
        )
    return array.reshape(n_envs, *schema.obs_shapes[key])


def _label(column: str) -> str:
    name, _, key = column.partition("/")
    return name if key == BOX_KEY else f"{name}[{key!r}]"


def check_finite(name: str, array: np.ndarray, step_of: Callable[[int], int]) -> None:
    """
    :param name: Of the array, for the message
    :param array: A row for each environment
    :param step_of: Says which step of its episode an environment is in
    :raises ValueError: If a number is NaN or infinite
    """
    if array.dtype.kind != "f" or np.isfinite(array).all():
        return
    index = tuple(int(number) for number in np.argwhere(~np.isfinite(array))[0])
    env, *component = index
    value = array[index]
    why = ": the policy has diverged, lower the learning rate or the reward scale" if name == "actions" else ""
    place = f", component {component[0] if len(component) == 1 else component}" if component else ""
    raise ValueError(
        f"{name}: environment {env}, step {step_of(env)} of its episode{place}: found {value}, expected a finite number{why}. "
        "Nothing of this step was stored: learning from it would make all weights NaN"
    )
