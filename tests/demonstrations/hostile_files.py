"""Small files that ask for much time or memory."""

import copy
import pickle
import zipfile
import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np


def nested_pickle(path: Path, depth: int = 40) -> Path:
    """Lists that hold the next one twice: about 300 bytes that unfold to 2 ** depth numbers."""
    value: list[object] = [0.0]
    for _ in range(depth):
        value = [value, value]
    path.write_bytes(pickle.dumps([(value, 0.0, 0.0, value, False)], 4))
    return path


def crowded_zip(path: Path, n_entries: int = 300, n_bytes: int = 80_000_000) -> Path:
    """One member of zeros, which the directory lists many times."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("observations.npy", "w") as file:
            np.lib.format.write_array(file, np.zeros(n_bytes, np.uint8))
        for _ in range(n_entries - 1):
            archive.filelist.append(copy.copy(archive.filelist[0]))
        archive._didModify = True  # type: ignore[attr-defined]
    return path


def incomplete_npz(path: Path, n_bytes: int = 2**26) -> Path:
    """One large member of zeros, and none of the others."""
    options: dict[str, Any] = {"compression": zipfile.ZIP_DEFLATED, "compresslevel": 9}
    with zipfile.ZipFile(path, "w", **options) as archive, archive.open("observations.npy", "w", force_zip64=True) as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (n_bytes,)}
        np.lib.format.write_array_header_1_0(file, header)
        zeros = bytes(2**24)
        for _ in range(n_bytes // len(zeros)):
            file.write(zeros)
    return path


def dense_d4rl(path: Path, n_bytes: int) -> Path:
    """Observations of zeros in the layout of D4RL; the same compressed chunk again and again."""
    rows, width = 2**14, 2**10
    n_chunks = -(-n_bytes // (rows * width * 4))
    chunk = zlib.compress(bytes(rows * width * 4), 9)
    with h5py.File(path, "w") as file:
        array = file.create_dataset(
            "observations", (n_chunks * rows, width), np.float32, chunks=(rows, width), compression="gzip"
        )
        for number in range(n_chunks):
            array.id.write_direct_chunk((number * rows, 0), chunk)
        ends = np.arange(n_chunks * rows) % 1000 == 999
        for name in ("actions", "rewards", "terminals", "timeouts"):
            file.create_dataset(name, data=ends.astype(np.float32), compression="gzip")
    return path
