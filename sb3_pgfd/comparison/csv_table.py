"""The numbers behind the picture."""

import csv
from collections.abc import Sequence
from pathlib import Path

from sb3_pgfd.comparison.aggregate import Band, Curve
from sb3_pgfd.utils.files import write_whole

COLUMNS = (
    "env",
    "label",
    "n_seeds",
    "timesteps",
    "return",
    "return_low",
    "return_high",
    "success",
    "success_low",
    "success_high",
)


def write_csv(curves: Sequence[Curve], path: str | Path, overwrite: bool = False) -> Path:
    """
    One row for each step of each curve. What is not known (the interval of a single seed) is empty.

    :param curves: What to write
    :param path: Of the file
    :param overwrite: Whether an existing file may be replaced
    :return: The path
    :raises FileExistsError: If there is a file already
    """
    path = Path(path)
    with write_whole(path, overwrite) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for curve in curves:
            for i, step in enumerate(curve.timesteps):
                first = (curve.env, curve.label, curve.n_seeds, f"{step:.0f}")
                writer.writerow((*first, *at(curve.returns, i), *at(curve.successes, i)))
    return path


def at(band: Band | None, index: int) -> tuple[float | None, float | None, float | None]:
    """
    :param band: None: nothing is known
    :param index: Of the step
    :return: Value, lower and upper end there
    """
    if band is None:
        return None, None, None
    low, high = (None if ends is None else float(ends[index]) for ends in (band.low, band.high))
    return float(band.values[index]), low, high
