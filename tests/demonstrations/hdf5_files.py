"""HDF5 files in the layouts of Minari, robomimic and D4RL, written with h5py."""

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from PIL import Image

ENV_ARGS = {"env_name": "Lift", "type": 1, "env_version": "1.4.1", "env_kwargs": {"robots": ["Panda"]}}


def write_arrays(
    path: Path, arrays: Mapping[str, Any], change: Callable[[h5py.File], Any] | None = None, **options: Any
) -> Path:
    """
    :param arrays: By their paths in the file; what is None is left out
    :param change: What else to do to the file
    :param options: Of ``h5py.File``
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", **options) as file:
        for name, array in arrays.items():
            if array is not None:
                file[name] = array
        if change is not None:
            change(file)
    return path


def minari_arrays(**changes: Any) -> dict[str, Any]:
    """
    Episodes of 2 and 3 steps, the first terminated and the second truncated: episode k observes [10 k + t, -t], acts 10 k + t
    and is rewarded with t. Changes name arrays with two underlines for a slash.
    """
    arrays: dict[str, Any] = {}
    for episode, length in enumerate((2, 3)):
        step = np.arange(length + 1)
        arrays |= {
            f"episode_{episode}/observations": np.stack([10.0 * episode + step, -step], axis=1),
            f"episode_{episode}/actions": (10 * episode + step[:-1, None]).astype(np.float32),
            f"episode_{episode}/rewards": step[:-1].astype(np.float64),
            f"episode_{episode}/terminations": (step[1:] == length) & (episode == 0),
            f"episode_{episode}/truncations": (step[1:] == length) & (episode == 1),
        }
    return {**arrays, **{name.replace("__", "/"): array for name, array in changes.items()}}


def robomimic_arrays(**changes: Any) -> dict[str, Any]:
    """
    ``demo_2`` of 2 steps and ``demo_10`` of 3, of which the first is solved: demo k has joints k + t, a camera filled with t,
    actions [k, t], and a reward and ``done`` in its last step if it is solved.
    """
    arrays: dict[str, Any] = {}
    for demo, length in ((2, 2), (10, 3)):
        step = np.arange(length + 1)
        solved = (step[1:] == length) & (demo == 2)
        camera = np.ones((length + 1, 4, 4, 3), np.uint8) * step[:, None, None, None].astype(np.uint8)
        rows: dict[str, np.ndarray] = {"joints": (demo + step)[:, None].astype(np.float64), "camera": camera}
        arrays |= {
            f"data/demo_{demo}/actions": np.stack([np.full(length, demo), step[:-1]], axis=1).astype(np.float64),
            f"data/demo_{demo}/rewards": solved.astype(np.float64),
            f"data/demo_{demo}/dones": solved.astype(np.int64),
            **{f"data/demo_{demo}/obs/{key}": row[:-1] for key, row in rows.items()},
            **{f"data/demo_{demo}/next_obs/{key}": row[1:] for key, row in rows.items()},
        }
    arrays |= {"mask/train": np.array(["demo_10"], dtype="S"), "mask/valid": np.array(["demo_2"], dtype="S")}
    return {**arrays, **{name.replace("__", "/"): array for name, array in changes.items()}}


def describe_robomimic(file: h5py.File) -> None:
    """What robomimic keeps in attributes."""
    file["data"].attrs["env_args"] = json.dumps(ENV_ARGS)
    file["data"].attrs["total"] = 5
    for name in ("demo_2", "demo_10"):
        file["data"][name].attrs["num_samples"] = len(file["data"][name]["actions"])


def d4rl_arrays(**changes: Any) -> dict[str, Any]:
    """Seven steps: terminal after the third, a timeout after the fifth, the last two of an unfinished episode."""
    step = np.arange(7)
    arrays: dict[str, Any] = {
        "observations": np.stack([step, -step], axis=1).astype(np.float32),
        "actions": step[:, None].astype(np.float32) / 10,
        "rewards": step.astype(np.float32),
        "terminals": step == 2,
        "timeouts": step == 4,
        "infos/qpos": np.zeros((7, 5)),
    }
    return {**arrays, **{name.replace("__", "/"): array for name, array in changes.items()}}


def jpeg(height: int, width: int, value: int = 7) -> np.ndarray:
    """:return: The bytes of a JPEG file, an image of one colour"""
    content = io.BytesIO()
    Image.fromarray(np.full((height, width, 3), value, np.uint8)).save(content, "JPEG", quality=20 + value)
    return np.frombuffer(content.getvalue(), np.uint8)


def encode_images(file: h5py.File) -> None:
    """Observations as Minari keeps images: one JPEG file of its own length for each row."""
    for episode in (0, 1):
        name = f"episode_{episode}/observations"
        images = [jpeg(8, 8, 9 * row) for row in range(len(file[name]))]
        del file[name]
        rows = file.create_dataset(name, (len(images),), h5py.vlen_dtype(np.uint8), chunks=True, maxshape=(None,))
        for row, image in enumerate(images):
            rows[row] = image
