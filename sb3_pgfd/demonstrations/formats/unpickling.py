"""Reading pickles: of plain Python values and NumPy arrays alone, which cannot run code, or of anything if it is trusted."""

import pickle
import pickletools
from collections import deque
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from sb3_pgfd.demonstrations.errors import DemonstrationsError

# Whose objects are pickled as demonstrations
_LIBRARIES = ("imitation", "sb3_contrib", "sb3_pgfd", "stable_baselines3")


def unpickle(path: Path, trusted: bool = False) -> Any:
    """
    :param path: A pickle
    :param trusted: Admit objects of any class: whoever wrote the file can run any code
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


# How far the argument of an operation reaches, by the operation's byte: so many bytes; a length of so many bytes and as many
# bytes as that says; so many lines
_FIXED: list[int | None] = [None] * 256
_PRECEDED_BY_LENGTH: dict[int, int] = {}
_LINES: dict[int, int] = {}
for _operation in pickletools.opcodes:
    _code, _argument = ord(_operation.code), _operation.arg
    if _argument is None or _argument.n >= 0:
        _FIXED[_code] = 0 if _argument is None else _argument.n
    elif _argument.n == pickletools.UP_TO_NEWLINE:
        _LINES[_code] = 2 if _argument.name.endswith("_pair") else 1
    else:
        _widths = {pickletools.TAKEN_FROM_ARGUMENT1: 1, pickletools.TAKEN_FROM_ARGUMENT8U: 8}
        _PRECEDED_BY_LENGTH[_code] = _widths.get(_argument.n, 4)
_PUT, _LONG_BINPUT, _STOP = b"pr."


def _check_claims(content: bytes) -> None:
    """
    The unpickler makes room for as many objects and bytes as the file says it holds: one flipped bit asks for all memory.
    This walks through the operations, as ``pickletools.genops`` does in many times the time.
    """
    position, end = 0, len(content)
    while position < end:
        code = content[position]
        position += 1
        width = _FIXED[code]
        if width is not None:
            if code == _LONG_BINPUT:
                _check_number(int.from_bytes(content[position : position + 4], "little"), end)
            elif code == _STOP:
                return
            position += width
        elif code in _PRECEDED_BY_LENGTH:
            width = _PRECEDED_BY_LENGTH[code]
            position += width + int.from_bytes(content[position : position + width], "little")
        elif code in _LINES:
            start = position
            for _ in range(_LINES[code]):
                position = content.find(b"\n", position) + 1 or end
            if code == _PUT:
                _check_number(int(content[start:position]), end)
        else:
            raise DemonstrationsError(f"found a pickle with an operation {code}, expected those of protocol 0 to 5")
    if position > end:
        missing = f"its last value is {position - end} bytes short"
        raise DemonstrationsError(f"found a pickle that cannot be read to its end ({missing}), expected a whole one")


def _check_number(number: int, size: int) -> None:
    if number > size:
        raise DemonstrationsError(f"found a pickle of {size} bytes that numbers an object {number}, expected a whole one")
