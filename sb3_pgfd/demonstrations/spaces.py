"""Observation and action spaces as JSON, in the words of Minari's files."""

from collections import OrderedDict
from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
from gymnasium import spaces

from sb3_pgfd.demonstrations.errors import DemonstrationsError

_ATTRIBUTES = {
    "Box": ("dtype", "shape", "low", "high"),
    "Discrete": ("dtype", "start", "n"),
    "MultiBinary": ("n",),
    "MultiDiscrete": ("dtype", "nvec", "start"),
}
_BRIEF = 100
"""Bounds of more entries that are all the same become one number: those of pictures would take longer than the pictures"""
_LARGEST = 2**26
"""Numbers of an observation, more than any picture has: one number for all bounds lets a small file ask for any memory"""
KINDS = tuple(sorted({*_ATTRIBUTES, "Dict"}))


def space_to_json(space: spaces.Space, in_full: bool = False) -> dict[str, Any]:
    """
    :param space: Of one of the ``KINDS``
    :param in_full: Whether to write each bound, as Minari does, where one number could stand for many
    :return: What Minari's ``serialize_space`` gives, as an object; infinite bounds are Python's infinity, which ``json``
        writes as ``Infinity``
    :raises DemonstrationsError: If it is of another kind, which demonstrations cannot hold
    """
    if isinstance(space, spaces.Dict):
        return {"type": "Dict", "subspaces": {str(key): space_to_json(value, in_full) for key, value in space.spaces.items()}}
    for kind, names in _ATTRIBUTES.items():
        if isinstance(space, getattr(spaces, kind)):
            values = {name: getattr(space, name) for name in names}
            return {"type": kind, **{name: _to_json(name, value, in_full) for name, value in values.items()}}
    raise DemonstrationsError(f"found the space {space}, expected one of {', '.join(KINDS)}")


def _to_json(name: str, value: Any, in_full: bool) -> Any:
    if name == "dtype":
        return str(value)
    array = np.array(value)
    is_brief = not in_full and name in ("low", "high") and array.size > _BRIEF and (array == array.flat[0]).all()
    return array.flat[0].item() if is_brief else array.tolist()


def space_from_json(record: Any) -> spaces.Space:
    """
    :param record: As :func:`space_to_json` and Minari's ``serialize_space`` write it
    :return: The space
    :raises DemonstrationsError: If it describes none
    """
    kind = record.get("type") if isinstance(record, Mapping) else None
    if not isinstance(kind, str) or kind not in KINDS:
        raise DemonstrationsError(f"space: found {_brief(record)}, expected an object with a 'type' of {', '.join(KINDS)}")
    try:
        return _make(kind, record)
    except DemonstrationsError:
        raise
    # Gymnasium's constructors check with assertions too
    except (ArithmeticError, AssertionError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise DemonstrationsError(
            f"space: found {_brief(record)}, expected a {kind} as Minari describes it ({type(error).__name__}: {error!s:.200})"
        ) from None


def _brief(record: Any) -> str:
    """Without what is nested in it, which may be deep and large."""
    if not isinstance(record, Mapping):
        return type(record).__name__
    plain = {key: value for key, value in record.items() if isinstance(value, (str, int, float))}
    return f"an object with {sorted(map(str, record))}, of which {plain!r:.200}"


def _make(kind: str, record: Mapping[str, Any]) -> spaces.Space:
    if kind == "Dict":
        # Gymnasium sorts the keys of a plain dict
        return spaces.Dict(OrderedDict((key, space_from_json(value)) for key, value in record["subspaces"].items()))
    if kind == "MultiBinary":
        n = record["n"]
        return spaces.MultiBinary([_whole(size) for size in n] if isinstance(n, list) else _whole(n))
    dtype = np.dtype(str(record.get("dtype", "int64") if kind == "Discrete" else record["dtype"]))
    if dtype.kind not in ("biuf" if kind == "Box" else "iu"):
        raise TypeError(f"dtype {dtype}")
    if kind == "Discrete":
        # Older versions of Gymnasium know int64 alone, and have no such argument
        n, start = _whole(record["n"]), _whole(record["start"])
        return spaces.Discrete(n, start=start) if dtype == np.int64 else spaces.Discrete(n, start=start, dtype=dtype.type)
    if kind == "MultiDiscrete":
        nvec = np.array(record["nvec"], dtype=dtype)
        return spaces.MultiDiscrete(nvec, dtype=dtype.type, start=np.array(record.get("start", 0 * nvec), dtype=dtype))
    low, high, shape = (*(np.array(record[name], dtype=dtype) for name in ("low", "high")), tuple(record["shape"]))
    if prod(shape) > _LARGEST:
        raise ValueError(f"bounds of {prod(shape):,} numbers")
    low, high = (np.full(shape, bound) if bound.ndim == 0 else bound for bound in (low, high))
    # NaN is not below anything
    if low.shape != shape or high.shape != shape or not (low <= high).all():
        raise ValueError(f"bounds of shapes {low.shape} and {high.shape}, or a lower bound above the upper one")
    return spaces.Box(low, high, shape, dtype.type)


def _whole(number: Any) -> int:
    if not isinstance(number, int):
        raise TypeError(f"{number!r} is no whole number")
    return number
