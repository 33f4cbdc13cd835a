"""
The list of ``(state, action, reward, next_state, done)`` tuples that the field's DDPGfD tutorials pickle.

Such files say neither what ``done`` means nor in which units the actions are, and in practice both differ from what
the environment says: the caller names them.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sb3_pgfd.demonstrations.errors import DemonstrationsError

if TYPE_CHECKING:
    from sb3_pgfd.demonstrations.dataset import Demonstrations

# All that a list of tuples of NumPy arrays refers to, in the spelling of NumPy 1 and 2. None of them runs code.
_ALLOWED = {
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy._core.numeric", "_frombuffer"),
    ("numpy.core.numeric", "_frombuffer"),
    ("_codecs", "encode"),
    ("collections", "deque"),
}


class _ArraysOnly(pickle.Unpickler):
    """An unpickler that admits NumPy arrays and Python's plain types: a hostile file cannot run code."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise DemonstrationsError(
                f"found a reference to {module}.{name}, expected NumPy arrays and plain Python values only. "
                "This file could run code: nothing was executed"
            )
        return super().find_class(module, name)


def read_pickled_tuples(
    path: Path,
    source: str | None = None,
    done_means: Literal["truncated", "terminated"] | None = None,
    action_low: Any = None,
    action_high: Any = None,
) -> Demonstrations:
    """
    :param path: A pickled list of ``(state, action, reward, next_state, done)``
    :param source: What the caller asked for, kept as the dataset's ``source``
    :param done_means: What ``done`` marks: ``"truncated"`` for a time limit, ``"terminated"`` for a terminal state
    :param action_low: The environment's lower action bound, if the file's actions are in [-1, 1]
    :param action_high: The environment's upper action bound
    :raises DemonstrationsError: If the file holds anything else, or ``done_means`` is not named
    """
    if done_means not in ("truncated", "terminated"):
        raise DemonstrationsError(
            f"{path}: found done_means={done_means!r}, expected 'truncated' or 'terminated': "
            "the file does not say whether `done` marks a time limit or a terminal state"
        )
    if (action_low is None) != (action_high is None):
        raise DemonstrationsError(f"{path}: found only one of action_low and action_high, expected both or none")
    try:
        demonstrations = _assemble(_unpickle(path), done_means == "terminated", source or str(path))
        if action_low is not None:
            demonstrations = demonstrations.rescale_actions(action_low, action_high)
    except DemonstrationsError as error:
        raise DemonstrationsError(f"{path}: {error}") from None
    return demonstrations


def _unpickle(path: Path) -> list[tuple[Any, ...]]:
    try:
        with path.open("rb") as file:
            transitions = _ArraysOnly(file).load()
    except DemonstrationsError:
        raise
    # A damaged pickle can make the unpickler raise nearly anything (the documentation of `pickle` says so)
    except Exception as error:  # noqa: BLE001
        raise DemonstrationsError(
            f"found a pickle that cannot be read to its end ({type(error).__name__}: {error}), expected a list of tuples"
        ) from None
    if not hasattr(transitions, "__len__") or isinstance(transitions, (str, bytes, dict)) or len(transitions) == 0:
        raise DemonstrationsError(f"found {type(transitions).__name__}, expected a list of at least one tuple")
    for row, transition in enumerate(transitions):
        if not isinstance(transition, (tuple, list)) or len(transition) != 5:
            raise DemonstrationsError(f"transition {row}: found {transition!r:.80}, expected (s, a, r, s', done)")
    return list(transitions)


def _assemble(transitions: list[tuple[Any, ...]], done_is_terminal: bool, source: str) -> Demonstrations:
    from sb3_pgfd.demonstrations.dataset import Demonstrations

    columns = dict(zip(("state", "action", "reward", "next_state", "done"), zip(*transitions, strict=True), strict=True))
    arrays = {name: _stack(name, values) for name, values in columns.items()}
    done = arrays["done"].reshape(len(transitions), -1)[:, 0].astype(bool)
    terminated = done & done_is_terminal
    # A file may stop in the middle of an episode
    last = done.copy()
    last[-1] = True
    actions = arrays["action"]
    return Demonstrations(
        observations=arrays["state"],
        actions=actions if np.issubdtype(actions.dtype, np.integer) else actions.reshape(len(actions), -1),
        rewards=arrays["reward"].reshape(len(transitions), -1)[:, 0],
        next_observations=arrays["next_state"],
        terminated=terminated,
        truncated=last & ~terminated,
        episode_lengths=np.diff(np.flatnonzero(last), prepend=-1),
        metadata={"producer": "imported from pickled tuples"},
        source=source,
    )


def _stack(name: str, values: tuple[Any, ...]) -> np.ndarray:
    try:
        array = np.array([np.asarray(value) for value in values])
    except ValueError:
        shapes = sorted({np.shape(value) for value in values})
        raise DemonstrationsError(f"{name}: found shapes {shapes}, expected one shape for all transitions") from None
    if array.dtype.kind not in "biuf":
        raise DemonstrationsError(f"{name}: found dtype {array.dtype}, expected numbers")
    return array
