"""
Time and memory of reading demonstrations, next to reading the bare arrays of the same file with NumPy or h5py alone.

    python -m benchmarks.reading_speed

It writes 1,000,000 transitions in 1,000 episodes, with 30-dimensional observations and 7-dimensional actions in float32, as
our ``.npz`` and as a Minari dataset. Each measurement is a process of its own with one thread. The bare arrays and
``Demonstrations.load`` take turns, so that a change of the machine's speed changes both; the medians are compared. Memory is
the peak of the process minus the peak of a process that imports the same and reads nothing, as a multiple of the size of the
bare arrays. A Minari file holds T + 1 observations of an episode, which become T observations and T next observations.
"""

import argparse
import csv
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from sb3_pgfd import Demonstrations
from sb3_pgfd.demonstrations import Episode

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "reading_speed.csv"
OBSERVATION_DIM, ACTION_DIM, EPISODE_LENGTH = 30, 7, 1000
MAX_TIME_RATIO, MAX_MEMORY_RATIO = 3.0, 2.2
FILES = {".npz": "demonstrations.npz", "Minari HDF5": "demonstrations-v0"}


def write_files(folder: Path, n_episodes: int) -> None:
    """
    :param folder: Folder of the files
    :param n_episodes: Number of episodes of 1,000 transitions
    """
    rng = np.random.default_rng(0)
    episodes = [
        Episode(
            observations=rng.standard_normal((EPISODE_LENGTH + 1, OBSERVATION_DIM), dtype=np.float32),
            actions=rng.standard_normal((EPISODE_LENGTH, ACTION_DIM), dtype=np.float32),
            rewards=rng.standard_normal(EPISODE_LENGTH, dtype=np.float32),
            terminated=False,
        )
        for _ in range(n_episodes)
    ]
    demonstrations = Demonstrations.from_episodes(episodes, {"producer": "random numbers"})
    demonstrations.save(folder / FILES[".npz"])
    demonstrations.save(folder / FILES["Minari HDF5"], format="minari")


def read_npz_members(path: Path) -> list[np.ndarray]:
    with np.load(path) as archive:
        return [archive[name] for name in archive.files]


def read_hdf5_arrays(path: Path) -> list[np.ndarray]:
    with h5py.File(path / "data" / "main_data.hdf5") as file:
        return [array[()] for episode in file.values() for array in episode.values()]


def nothing(path: Path) -> list[np.ndarray]:
    return []


BARE: dict[str, Callable[[Path], list[np.ndarray]]] = {".npz": read_npz_members, "Minari HDF5": read_hdf5_arrays}
READERS: dict[str, Callable[[Path], Any]] = {
    **{f"{name} bare": reader for name, reader in BARE.items()},
    **{f"{name} load": Demonstrations.load for name in FILES},
    "nothing": nothing,
}


def peak_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def measure_here(reader: str, path: Path) -> dict[str, float]:
    """:return: Seconds, peak memory of this process, and the bytes of bare arrays"""
    start = time.perf_counter()
    result = READERS[reader](path)
    seconds = time.perf_counter() - start
    arrays = sum(array.nbytes for array in result) if isinstance(result, list) else 0
    return {"seconds": seconds, "peak": peak_bytes(), "arrays": arrays}


def in_process(*arguments: str) -> dict[str, float]:
    """
    Run this module in a process of its own. This process must not read files itself: a child inherits its peak of memory.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "benchmarks.reading_speed", *arguments]
    text = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, env=environment).stdout
    return json.loads(text or "{}")


def compare(folder: Path, repetitions: int) -> list[dict[str, float | str]]:
    """:return: One row of the table for each format"""
    empty = min(in_process("--read", "nothing", str(folder))["peak"] for _ in range(repetitions))
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in READERS if name != "nothing"}
    # The first round brings the files into the system's cache
    for repetition in range(repetitions + 1):
        for name, found in runs.items():
            run = in_process("--read", name, str(folder / FILES[name.rsplit(" ", 1)[0]]))
            if repetition:
                found.append(run)
    rows: list[dict[str, float | str]] = []
    for name in FILES:
        bare, load = (
            {key: float(np.median([run[key] for run in runs[f"{name} {kind}"]])) for key in ("seconds", "peak", "arrays")}
            for kind in ("bare", "load")
        )
        rows.append(
            {
                "format": name,
                "bare_seconds": round(bare["seconds"], 3),
                "load_seconds": round(load["seconds"], 3),
                "time_ratio": round(load["seconds"] / bare["seconds"], 3),
                "arrays_mib": round(bare["arrays"] / 2**20, 1),
                "peak_mib": round((load["peak"] - empty) / 2**20, 1),
                "memory_ratio": round((load["peak"] - empty) / bare["arrays"], 3),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=1000, help="number of episodes of 1,000 transitions")
    parser.add_argument("--repetitions", type=int, default=5, help="number of measurements, of which the median is taken")
    parser.add_argument("--write", metavar="FOLDER", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--read", metavar=("READER", "PATH"), nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.write:
        write_files(args.write, args.episodes)
        return
    if args.read:
        print(json.dumps(measure_here(args.read[0], Path(args.read[1]))))
        return
    with tempfile.TemporaryDirectory() as folder:
        in_process("--write", folder, "--episodes", str(args.episodes))
        rows = compare(Path(folder), args.repetitions)
    print(f"{'':<14}{'bare':>10}{'load':>10}{'ratio':>8}{'target':>9}{'arrays':>12}{'peak':>12}{'ratio':>8}{'target':>9}")
    for row in rows:
        print(
            f"{row['format']:<14}{row['bare_seconds']:>8.2f} s{row['load_seconds']:>8.2f} s{row['time_ratio']:>8.2f}"
            f"{f'<= {MAX_TIME_RATIO:g}':>9}{row['arrays_mib']:>8.0f} MiB{row['peak_mib']:>8.0f} MiB{row['memory_ratio']:>8.2f}"
            f"{f'<= {MAX_MEMORY_RATIO:g}':>9}"
        )
    with RESULTS.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
