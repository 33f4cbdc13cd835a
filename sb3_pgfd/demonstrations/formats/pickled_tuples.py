"""
The list of ``(state, action, reward, next_state, done)`` tuples that the field's DDPGfD tutorials pickle.

Such files say neither what ``done`` means nor in which units the actions are, and in practice both differ from what
the environment says: the caller names them.
"""

import pickle
import pickletools
from collections import deque
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

from sb3_pgfd.demonstrations.dataset import Demonstrations
from sb3_pgfd.demonstrations.errors import DemonstrationsError
from sb3_pgfd.demonstrations.formats.content import starts_with


class _Dtype:
    """
    Stands in for ``numpy.dtype``. NumPy's own takes its flags and fields from the file: a forged one makes NumPy follow
    any address the file names.
    """

    def __init__(self, code: str, align: bool = False, copy: bool = False):
        self.dtype = np.dtype(code)
        if self.dtype.kind not in "biuf":
            raise DemonstrationsError(f"found dtype {self.dtype}, expected numbers")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        # The rest of the state describes dtypes of other kinds
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """Stands in for ``numpy.ndarray``, whose own state holds such a dtype."""

    array = np.empty(0)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, is_fortran, content = state
        self.array = np.frombuffer(content, dtype.dtype).reshape(shape, order="F" if is_fortran else "C")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.array, dtype=dtype)


def _reconstruct(subtype: Any, shape: Any, typecode: Any) -> _Array:
    return _Array()


def _scalar(dtype: _Dtype, content: bytes) -> Any:
    return np.frombuffer(content, dtype.dtype, count=1)[0]


def _frombuffer(content: Any, dtype: _Dtype, shape: Any, order: Any, axis_order: Any = None) -> np.ndarray:
    array = np.frombuffer(content, dtype.dtype)
    if axis_order is not None:
        return array.reshape(shape).transpose(axis_order)
    return array.reshape(shape, order=order)


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
    _ADMITTED[f"{_core}.multiarray", "_reconstruct"] = _reconstruct
    _ADMITTED[f"{_core}.multiarray", "scalar"] = _scalar
    _ADMITTED[f"{_core}.numeric", "_frombuffer"] = _frombuffer


def recognizes(path: Path) -> bool:
    """:param path: Whether this is a pickle of protocol 2 to 5"""
    return starts_with(path, b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


class _ArraysOnly(pickle.Unpickler):
    """An unpickler that admits NumPy arrays and Python's plain types: a hostile file cannot run code."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ADMITTED:
            raise DemonstrationsError(
                f"found a reference to {module}.{name}, expected NumPy arrays and plain Python values only. "
                "This file could run code: nothing was executed"
            )
        return _ADMITTED[module, name]


def read_pickled_tuples(path: Path, done_means: Literal["truncated", "terminated"] | None = None) -> Demonstrations:
    """
    :param path: A pickled list of ``(state, action, reward, next_state, done)``
    :param done_means: What ``done`` marks: ``"truncated"`` for a time limit, ``"terminated"`` for a terminal state
    :raises DemonstrationsError: If the file holds anything else, or ``done_means`` is not named
    """
    if done_means not in ("truncated", "terminated"):
        raise DemonstrationsError(
            f"found done_means={done_means!r}, expected 'truncated' or 'terminated': "
            "the file does not say whether `done` marks a time limit or a terminal state"
        )
    return _assemble(_unpickle(path), done_means == "terminated")


def _unpickle(path: Path) -> list[tuple[Any, ...]]:
    try:
        with path.open("rb") as file:
            _check_memo(file, path.stat().st_size)
            file.seek(0)
            transitions = _ArraysOnly(file).load()
    except DemonstrationsError:
        raise
    # A damaged pickle can make the unpickler raise nearly anything (the documentation of `pickle` says so)
    except Exception as error:  # noqa: BLE001
        raise DemonstrationsError(
            f"found a pickle that cannot be read to its end ({type(error).__name__}: {error}), expected a list of tuples"
        ) from None
    if not isinstance(transitions, (list, tuple, deque)) or len(transitions) == 0:
        raise DemonstrationsError(f"found {_describe(transitions)}, expected a list of at least one tuple")
    for row, transition in enumerate(transitions):
        if not isinstance(transition, (tuple, list)) or len(transition) != 5:
            raise DemonstrationsError(f"transition {row}: found {_describe(transition)}, expected (s, a, r, s', done)")
    return list(transitions)


def _check_memo(file: BinaryIO, size: int) -> None:
    """The unpickler makes room for as many objects as the file says it holds: one flipped bit asks for all memory."""
    for opcode, number, _ in pickletools.genops(file):
        if opcode.name.endswith("PUT") and isinstance(number, int) and number > size:
            raise DemonstrationsError(f"found a pickle of {size} bytes that numbers an object {number}, expected a whole one")


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
