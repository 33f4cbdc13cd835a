"""Observation and action spaces as JSON, in the words of Minari's files."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces

from sb3_pgfd.demonstrations.errors import DemonstrationsError

KINDS = ("Box", "Dict", "Discrete", "MultiBinary", "MultiDiscrete")


def space_to_json(space: spaces.Space) -> dict[str, Any]:
    """
    :param space: Of one of the ``KINDS``
    :return: What Minari's ``serialize_space`` gives, as an object; infinite bounds are Python's infinity, which ``json``
        writes as ``Infinity``
    :raises DemonstrationsError: If it is of another kind, which demonstrations cannot hold
    """
    if isinstance(space, spaces.Box):
        bounds = {"low": space.low.tolist(), "high": space.high.tolist()}
        return {"type": "Box", "dtype": str(space.dtype), "shape": list(space.shape), **bounds}
    if isinstance(space, spaces.Discrete):
        return {"type": "Discrete", "dtype": str(space.dtype), "start": int(space.start), "n": int(space.n)}
    if isinstance(space, spaces.MultiDiscrete):
        choices = {"nvec": space.nvec.tolist(), "start": space.start.tolist()}
        return {"type": "MultiDiscrete", "dtype": str(space.dtype), **choices}
    if isinstance(space, spaces.MultiBinary):
        return {"type": "MultiBinary", "n": space.n if isinstance(space.n, int) else [int(size) for size in space.n]}
    if isinstance(space, spaces.Dict):
        return {"type": "Dict", "subspaces": {str(key): space_to_json(value) for key, value in space.spaces.items()}}
    raise DemonstrationsError(f"found the space {space}, expected one of {', '.join(KINDS)}")


def space_from_json(record: Any) -> spaces.Space:
    """
    :param record: As :func:`space_to_json` and Minari's ``serialize_space`` write it
    :return: The space
    :raises DemonstrationsError: If it describes none
    """
    kind = record.get("type") if isinstance(record, Mapping) else None
    if not isinstance(kind, str) or kind not in _READERS:
        raise DemonstrationsError(f"space: found {_brief(record)}, expected an object with a 'type' of {', '.join(KINDS)}")
    try:
        return _READERS[kind](record)
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


def _box(record: Mapping[str, Any]) -> spaces.Box:
    dtype, shape = _number_dtype(record), tuple(record["shape"])
    low, high = (np.array(record[name], dtype=dtype) for name in ("low", "high"))
    if low.shape != shape or high.shape != shape:
        raise ValueError(f"bounds of shapes {low.shape} and {high.shape}")
    # NaN is not below anything
    if not (low <= high).all():
        raise ValueError("a lower bound above the upper one")
    return spaces.Box(low, high, shape, dtype.type)


def _discrete(record: Mapping[str, Any]) -> spaces.Discrete:
    n, start = _whole(record["n"]), _whole(record["start"])
    dtype = _number_dtype(record, "iu") if "dtype" in record else np.dtype(np.int64)
    # Older versions of Gymnasium know this one alone, and have no such argument
    return spaces.Discrete(n, start=start) if dtype == np.int64 else spaces.Discrete(n, start=start, dtype=dtype.type)


def _multi_discrete(record: Mapping[str, Any]) -> spaces.MultiDiscrete:
    dtype = _number_dtype(record, "iu")
    nvec = np.array(record["nvec"], dtype=dtype)
    start = np.array(record["start"], dtype=dtype) if "start" in record else np.zeros_like(nvec)
    return spaces.MultiDiscrete(nvec, dtype=dtype.type, start=start)


def _multi_binary(record: Mapping[str, Any]) -> spaces.MultiBinary:
    n = record["n"]
    return spaces.MultiBinary([_whole(size) for size in n] if isinstance(n, list) else _whole(n))


def _dict(record: Mapping[str, Any]) -> spaces.Dict:
    return spaces.Dict({key: space_from_json(value) for key, value in record["subspaces"].items()})


def _number_dtype(record: Mapping[str, Any], kinds: str = "biuf") -> np.dtype:
    dtype = np.dtype(str(record["dtype"]))
    if dtype.kind not in kinds:
        raise TypeError(f"dtype {dtype}")
    return dtype


def _whole(number: Any) -> int:
    if not isinstance(number, int):
        raise TypeError(f"{number!r} is no whole number")
    return number


_READERS = {
    "Box": _box,
    "Dict": _dict,
    "Discrete": _discrete,
    "MultiBinary": _multi_binary,
    "MultiDiscrete": _multi_discrete,
}
