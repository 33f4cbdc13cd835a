"""
Pickles: the list of ``(state, action, reward, next_state, done)`` tuples that the field's DDPGfD tutorials write, lists of
dicts (:mod:`~sb3_pgfd.demonstrations.formats.path_dicts`), or, if the file is trusted, what can be read in memory: a replay
buffer as SB3 saves it, trajectories of ``imitation``, demonstrations.

The tuples say neither what ``done`` means nor in which units the actions are, and in practice both differ from what the
environment says: the caller names them.

A pickle that is not trusted is read into plain Python values and NumPy arrays only, so it cannot run code.
"""

import pickle
import pickletools
from collections import deque
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from sb3_pgfd.demonstrations.arrays import frozen
from sb3_pgfd.demonstrations.editing import DoneMeans, mark_ends
from sb3_pgfd.demonstrations.episode import Transitions
from sb3_pgfd.demonstrations.errors import DemonstrationsError
from sb3_pgfd.demonstrations.formats import in_memory, path_dicts
from sb3_pgfd.demonstrations.formats.checks import check_size, one_number, starts_with

# Packages whose objects are pickled as demonstrations
_LIBRARIES = ("imitation", "sb3_contrib", "sb3_pgfd", "stable_baselines3")
_KNOWN = (
    "a list of (s, a, r, s', done), of path dicts {observations, actions, rewards} or of transition dicts {observations, "
    "actions, rewards, next_observations, dones}; or, with trusted=True, a replay buffer, trajectories of imitation or "
    "Demonstrations"
)


def recognizes(path: Path) -> bool:
    """:param path: Whether this is a pickle of protocol 2 to 5"""
    return starts_with(path, b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def read_pickle(
    path: Path,
    done_means: DoneMeans | None = None,
    trusted: bool = False,
    scaled_actions: bool | None = None,
    final_reward: float | None = None,
) -> Transitions:
    """
    :param path: A pickled list of ``(state, action, reward, next_state, done)`` or of dicts, see
        :mod:`~sb3_pgfd.demonstrations.formats.path_dicts`; or what ``model.save_replay_buffer`` wrote, trajectories of
        ``imitation``, or demonstrations
    :param done_means: What ``done`` of the tuples marks: ``"truncated"`` for a time limit, ``"terminated"`` for a terminal
        state
    :param trusted: Whether you wrote the file yourself. Only then objects such as a replay buffer are read, as reading
        them can run any code that was put there
    :param scaled_actions: Of a replay buffer, see :func:`~sb3_pgfd.demonstrations.formats.in_memory.read_buffer`
    :param final_reward: For sources without rewards, see :func:`sb3_pgfd.demonstrations.editing.edit`
    :raises DemonstrationsError: If the file holds anything else, or ``done_means`` is not named for tuples
    """
    content = unpickle(path, trusted)
    if in_memory.recognizes_buffer(content):
        return mark_ends(in_memory.read_buffer(content, scaled_actions), done_means)
    if scaled_actions is not None:
        raise DemonstrationsError(
            f"found scaled_actions={scaled_actions} for what is no replay buffer, expected none: "
            "action_low and action_high map actions to environment units"
        )
    if isinstance(content, Transitions):
        return mark_ends(content, done_means)
    if in_memory.recognizes_trajectories(content):
        return mark_ends(in_memory.read_trajectories(content, final_reward), done_means)
    _check_elements(content, path.stat().st_size)
    if path_dicts.recognizes(content):
        is_steps = path_dicts.is_steps(content)
        return (
            path_dicts.read_steps(content, done_means)
            if is_steps
            else path_dicts.read_paths(content, done_means, final_reward)
        )
    rows = _rows(content)
    if done_means not in ("truncated", "terminated"):
        raise DemonstrationsError(
            f"found done_means={done_means!r}, expected 'truncated' or 'terminated': "
            "the file does not say whether `done` marks a time limit or a terminal state"
        )
    return _from_tuples(rows, done_means == "terminated")


def _rows(content: Any) -> Sequence[Any]:
    """:raises DemonstrationsError: Unless it is a list of tuples of five"""
    if not isinstance(content, (list, tuple, deque)) or len(content) == 0:
        raise DemonstrationsError(f"found {_describe(content)}, expected {_KNOWN}")
    for row, transition in enumerate(content):
        if not isinstance(transition, (tuple, list)) or len(transition) != 5:
            keys = f" with the keys {sorted(map(str, transition))[:20]!r:.300}" if isinstance(transition, Mapping) else ""
            raise DemonstrationsError(f"transition {row}: found {_describe(transition)}{keys}, expected {_KNOWN}")
    return content


def _check_elements(content: Any, n_bytes: int) -> None:
    """
    A list that holds itself or another one twice takes two bytes and unfolds without end. What a file of this size lists
    itself, or names again as the next state of a step, is below the limits.

    :raises DemonstrationsError: If there are more elements than that, or arrays take more memory
    """
    left, n_array_bytes, pending = 64 * n_bytes + 4096, 0, [content]
    while pending:
        item = pending.pop()
        left -= 1
        if isinstance(item, (_Array, np.ndarray)):
            n_array_bytes += (item.array if isinstance(item, _Array) else item).nbytes
        elif isinstance(item, (list, tuple, deque)):
            left -= len(item)
            pending.extend(item if left > 0 else ())
        elif isinstance(item, Mapping):
            left -= len(item)
            pending.extend(item.values() if left > 0 else ())
        if left < 0:
            raise DemonstrationsError(
                f"found a pickle of {n_bytes} bytes whose lists unfold to more than {64 * n_bytes} elements, expected fewer: "
                "the file is damaged or hostile"
            )
    check_size("arrays", n_array_bytes, n_bytes, copies=2)


def _from_tuples(transitions: Sequence[Any], done_is_terminal: bool) -> Transitions:
    columns = dict(zip(("state", "action", "reward", "next_state", "done"), zip(*transitions, strict=True), strict=True))
    arrays = {name: _stack(name, values) for name, values in columns.items()}
    done = one_number("done", arrays["done"]).astype(bool)
    actions = arrays["action"]
    # A number, or a row of shape (1, n) as a batch of one has it, is a vector
    if actions.dtype.kind == "f" and max(actions.shape[1:], default=1) == actions[0].size:
        actions = actions.reshape(len(actions), -1)
    return Transitions.from_transitions(
        observations=arrays["state"],
        actions=actions,
        rewards=one_number("reward", arrays["reward"]),
        next_observations=arrays["next_state"],
        terminated=done & done_is_terminal,
        truncated=done & (not done_is_terminal),
        metadata={"producer": "imported from pickled tuples"},
    )


def _describe(value: Any) -> str:
    """Without its contents: a hostile file may hold some that cannot be printed."""
    length = f" of {len(value)}" if hasattr(value, "__len__") else ""
    return f"{type(value).__name__.lstrip('_').lower()}{length}"


def _stack(name: str, values: tuple[Any, ...]) -> np.ndarray:
    arrays = [frozen(value, None, f"{name}: transition {row}") for row, value in enumerate(values)]
    shapes = sorted({array.shape for array in arrays})
    if len(shapes) > 1:
        raise DemonstrationsError(f"{name}: found shapes {shapes}, expected one shape for all transitions")
    return np.stack(arrays)


def unpickle(path: Path, trusted: bool = False) -> Any:
    """
    :param path: A pickle
    :param trusted: Admit objects of any class, and with them any code of whoever wrote the file
    :return: What it holds; arrays as something that :func:`numpy.asarray` takes
    :raises DemonstrationsError: If it cannot be read, or refers to anything but arrays and plain values
    """
    # A text such as "no" must not count as trust
    if not isinstance(trusted, bool):
        raise DemonstrationsError(f"found trusted={trusted!r}, expected True or False")
    try:
        if trusted:
            with path.open("rb") as file:
                return pickle.load(file)
        content = path.read_bytes()
        _check_claims(content)
        return _ArraysOnly(BytesIO(content)).load()
    except DemonstrationsError:
        raise
    # A damaged pickle can make the unpickler raise nearly anything (the documentation of `pickle` says so)
    except Exception as error:  # noqa: BLE001
        raise DemonstrationsError(
            f"found a pickle that cannot be read to its end ({type(error).__name__}: {error}), "
            "expected a whole one, and the libraries of the objects in it"
        ) from None


class _ArraysOnly(pickle.Unpickler):
    """An unpickler that admits NumPy arrays and Python's plain types: a hostile file cannot run code."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ADMITTED:
            known = module.partition(".")[0] in _LIBRARIES
            raise DemonstrationsError(
                f"found a reference to {module}.{name}, expected NumPy arrays and plain Python values only. "
                "This file could run code: nothing was executed"
                + (". If you saved this file yourself, pass trusted=True" if known else "")
            )
        return _ADMITTED[module, name]


class _Dtype:
    """Stands in for ``numpy.dtype``, which takes its fields from the file: a forged one makes NumPy follow any address."""

    def __init__(self, code: str, align: bool = False, copy: bool = False):
        self.dtype = np.dtype(code)
        if self.dtype.kind not in "biuf":
            raise DemonstrationsError(f"found dtype {self.dtype}, expected numbers")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        # The rest of the state describes dtypes of other kinds
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """Stands in for ``numpy.ndarray``, whose own state holds such a dtype, and for the function that makes an empty one."""

    array = np.empty(0)

    def __init__(self, *ignored: Any):
        pass

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, is_fortran, content = state
        self.array = _frombuffer(content, dtype, shape, "F" if is_fortran else "C")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.array, dtype=dtype)


def _frombuffer(content: Any, dtype: _Dtype, shape: Any, order: Any, axis_order: Any = None) -> np.ndarray:
    array = np.frombuffer(content, dtype.dtype)
    return array.reshape(shape, order=order) if axis_order is None else array.reshape(shape).transpose(axis_order)


def _encode(text: str, encoding: str) -> bytes:
    # How protocol 2 writes bytes
    if encoding != "latin1":
        raise DemonstrationsError(f"found text encoded as {encoding!r}, expected 'latin1'")
    return text.encode("latin1")


# All that a list of tuples of NumPy arrays refers to, in the spelling of NumPy 1 and 2, and what is called in its place
_ADMITTED: dict[tuple[str, str], Any] = {
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): _Array,
    ("_codecs", "encode"): _encode,
    ("collections", "deque"): deque,
}
for _core in ("numpy.core", "numpy._core"):
    _ADMITTED[f"{_core}.multiarray", "_reconstruct"] = _Array
    _ADMITTED[f"{_core}.multiarray", "scalar"] = lambda dtype, content: _frombuffer(content, dtype, -1, "C")[0]
    _ADMITTED[f"{_core}.numeric", "_frombuffer"] = _frombuffer


def _check_claims(content: bytes) -> None:
    # The unpickler makes room for as many objects as the file says, so one flipped bit can ask for all memory
    for operation, argument, _ in pickletools.genops(content):
        if operation.name in ("PUT", "LONG_BINPUT") and argument is not None and int(argument) > len(content):
            raise DemonstrationsError(
                f"found a pickle of {len(content)} bytes that numbers an object {argument}, expected a whole one"
            )
