"""Columns of numbers from parquet files, without a Python object for each value."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sb3_pgfd.demonstrations.errors import DemonstrationsError
from sb3_pgfd.demonstrations.formats.content import check_size

MAGIC = b"PAR1"
_MAX_SCHEMA = 2**26


def names_column(path: Path, name: str) -> bool:
    """
    :param path: A file that exists
    :param name: Of a column
    :return: Whether this is a parquet file whose schema has that name in it; tells without the library
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        if size < 12 or file.read(4) != MAGIC:
            return False
        # The file ends with the schema, its length and the magic bytes
        file.seek(size - 8)
        length = int.from_bytes(file.read(4), "little")
        file.seek(max(0, size - 8 - length))
        return name.encode() in file.read(min(length, _MAX_SCHEMA))


def column_types(path: Path) -> dict[str, Any]:
    """
    :param path: A parquet file
    :return: The Arrow type of each column
    :raises DemonstrationsError: If it is none
    :raises ImportError: If pyarrow is not installed
    """
    pa, pq = _libraries()
    try:
        with pq.ParquetFile(path) as file:
            return {field.name: field.type for field in file.schema_arrow}
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from error


def width(column_type: Any) -> int | None:
    """
    :param column_type: An Arrow type
    :return: Bytes that a number or list of numbers of this type takes in memory; a list of no fixed length counts as one of
        its elements. None: it holds something else, such as images
    """
    pa, _ = _libraries()
    types = pa.types
    n_values = 1
    while True:
        if isinstance(column_type, pa.BaseExtensionType):
            column_type = column_type.storage_type
        elif types.is_list(column_type) or types.is_large_list(column_type) or types.is_fixed_size_list(column_type):
            n_values *= column_type.list_size if types.is_fixed_size_list(column_type) else 1
            column_type = column_type.value_type
        elif types.is_integer(column_type) or types.is_floating(column_type) or types.is_boolean(column_type):
            return n_values * max(1, column_type.bit_width // 8)
        else:
            return None


def read_columns(paths: Sequence[Path], names: Sequence[str]) -> dict[str, np.ndarray]:
    """
    :param paths: Parquet files with the same columns
    :param names: Columns of numbers, or of lists of numbers of one length
    :return: Each of shape ``(N, *shape)``, the files one after the other
    :raises DemonstrationsError: If a file cannot be read, lacks a column or declares more than it can hold
    """
    pa, pq = _libraries()
    sizes = [_declared_bytes(path, names) for path in paths]
    check_size("tables", sum(sizes), sum(path.stat().st_size for path in paths))
    parts: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for path in paths:
        try:
            with pq.ParquetFile(path, page_checksum_verification=True) as file:
                table = file.read(columns=list(names), use_threads=False)
            for name in names:
                column = table.column(name)
                column.validate(full=True)
                parts[name].extend(_to_numpy(name, chunk) for chunk in column.chunks if len(chunk))
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(path, error) from error
    return {name: _concatenate(name, arrays) for name, arrays in parts.items()}


def _libraries() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ImportError("reading LeRobot datasets needs pyarrow: pip install sb3-pgfd[lerobot]") from error
    return pyarrow, parquet


def _unreadable(path: Path, error: Exception) -> DemonstrationsError:
    words = " ".join(str(error).split())
    return DemonstrationsError(
        f"{path.name}: found a parquet file that cannot be read to its end ({words:.200}), expected a whole one. Copy it again"
    )


def _declared_bytes(path: Path, names: Sequence[str]) -> int:
    """:return: What these columns say they take in memory, at least"""
    types = column_types(path)
    missing = [name for name in names if name not in types]
    if missing:
        raise DemonstrationsError(f"{path.name}: found columns {sorted(types)}, expected also {missing}")
    row = 0
    for name in names:
        bytes_per_row = width(types[name])
        if bytes_per_row is None:
            raise DemonstrationsError(f"{path.name}: {name}: found {types[name]}, expected numbers")
        row += bytes_per_row
    _, pq = _libraries()
    # Not the metadata of row groups and columns: of a damaged file pyarrow may not survive to read them
    with pq.ParquetFile(path) as file:
        return row * file.metadata.num_rows


def _to_numpy(name: str, array: Any) -> np.ndarray:
    pa, _ = _libraries()
    if isinstance(array, pa.ExtensionArray):
        return _to_numpy(name, array.storage)
    if array.null_count:
        raise DemonstrationsError(f"{name}: found {array.null_count} empty values, expected a number for each step")
    if pa.types.is_primitive(array.type):
        return array.to_numpy(zero_copy_only=False)
    lengths = np.unique(array.value_lengths().to_numpy(zero_copy_only=False))
    if len(lengths) > 1:
        raise DemonstrationsError(f"{name}: found lists of {lengths[0]} and of {lengths[1]} values, expected one length")
    values = _to_numpy(name, array.flatten())
    return values.reshape(len(array), int(lengths.sum()), *values.shape[1:])


def _concatenate(name: str, arrays: Sequence[np.ndarray]) -> np.ndarray:
    shapes = sorted({array.shape[1:] for array in arrays})
    if len(shapes) > 1:
        raise DemonstrationsError(f"{name}: found shapes {shapes} per step, expected one shape")
    return np.concatenate(arrays) if arrays else np.empty(0)
