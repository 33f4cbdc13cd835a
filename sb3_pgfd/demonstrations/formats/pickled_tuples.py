"""
The list of ``(state, action, reward, next_state, done)`` tuples that the field's DDPGfD tutorials pickle.

Such files say neither what ``done`` means nor in which units the actions are, and in practice both differ from what
the environment says: the caller names them.
"""

from collections import deque
from typing import Any

import numpy as np

from sb3_pgfd.demonstrations.dataset import Demonstrations
from sb3_pgfd.demonstrations.editing import DoneMeans
from sb3_pgfd.demonstrations.errors import DemonstrationsError


def from_tuples(transitions: Any, done_means: DoneMeans | None) -> Demonstrations:
    """
    :param transitions: A list of ``(state, action, reward, next_state, done)``
    :param done_means: What ``done`` marks: ``"truncated"`` for a time limit, ``"terminated"`` for a terminal state
    :raises DemonstrationsError: If this is anything else, or ``done_means`` is not named
    """
    if done_means not in ("truncated", "terminated"):
        raise DemonstrationsError(
            f"found done_means={done_means!r}, expected 'truncated' or 'terminated': "
            "the file does not say whether `done` marks a time limit or a terminal state"
        )
    if not isinstance(transitions, (list, tuple, deque)) or len(transitions) == 0:
        raise DemonstrationsError(f"found {_describe(transitions)}, expected a list of at least one tuple")
    for row, transition in enumerate(transitions):
        if not isinstance(transition, (tuple, list)) or len(transition) != 5:
            raise DemonstrationsError(f"transition {row}: found {_describe(transition)}, expected (s, a, r, s', done)")
    return _assemble(list(transitions), done_means == "terminated")


def _describe(value: Any) -> str:
    """Without its contents: a hostile file may hold some that cannot be printed."""
    length = f" of {len(value)}" if hasattr(value, "__len__") else ""
    return f"{type(value).__name__.lstrip('_').lower()}{length}"


def _assemble(transitions: list[tuple[Any, ...]], done_is_terminal: bool) -> Demonstrations:
    columns = dict(zip(("state", "action", "reward", "next_state", "done"), zip(*transitions, strict=True), strict=True))
    arrays = {name: _stack(name, values) for name, values in columns.items()}
    done = _one_number("done", arrays["done"]).astype(bool)
    actions = arrays["action"]
    return Demonstrations.from_transitions(
        observations=arrays["state"],
        actions=actions if actions.dtype.kind in "iu" else actions.reshape(len(actions), actions[0].size),
        rewards=_one_number("reward", arrays["reward"]),
        next_observations=arrays["next_state"],
        terminated=done & done_is_terminal,
        # A file may stop in the middle of an episode
        truncated=done & (not done_is_terminal),
        metadata={"producer": "imported from pickled tuples"},
    )


def _one_number(name: str, array: np.ndarray) -> np.ndarray:
    """Tutorials write rewards and ``done`` as numbers or as arrays of one."""
    if array[0].size != 1:
        raise DemonstrationsError(f"{name}: found shape {array.shape[1:]}, expected one number per transition")
    return array.reshape(len(array))


def _stack(name: str, values: tuple[Any, ...]) -> np.ndarray:
    arrays = []
    for row, value in enumerate(values):
        try:
            arrays.append(np.asarray(value))
        except ValueError:
            raise DemonstrationsError(f"{name}: transition {row}: found rows of different shapes, expected one") from None
        if arrays[row].dtype.kind not in "biuf":
            raise DemonstrationsError(f"{name}: transition {row}: found dtype {arrays[row].dtype}, expected numbers")
    shapes = sorted({array.shape for array in arrays})
    if len(shapes) > 1:
        raise DemonstrationsError(f"{name}: found shapes {shapes}, expected one shape for all transitions")
    return np.stack(arrays)
