"""Small valid sources of every format, made of real files by the real libraries where those exist."""

import json
import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import minari
import numpy as np
from gymnasium import spaces
from lerobot_dataset import VERSION_2, VERSION_3, steps, write_dataset, write_table
from minari.data_collector import EpisodeBuffer
from toy_recording import begin

from sb3_pgfd import Demonstrations
from sb3_pgfd.demonstrations.validation import Observations


@dataclass(frozen=True)
class Source:
    make: Callable[[Path], Path]
    """Makes it in an empty folder, returns what to load"""
    options: dict[str, Any] = field(default_factory=dict)
    """For :func:`Demonstrations.load`"""


N = 12
RNG = np.random.default_rng(0)
VECTORS = RNG.normal(size=(N + 1, 3))
IMAGES = RNG.integers(0, 255, (N + 1, 8, 8, 3)).astype(np.uint8)
ACTIONS = RNG.uniform(-1, 1, (N, 2)).astype(np.float32)
# Three episodes of four steps
LAST = np.isin(np.arange(N), (3, 7, 11))
EPISODES = [slice(start, start + 4) for start in (0, 4, 8)]


def dataset() -> Demonstrations:
    first: Observations = {"joints": VECTORS[:-1], "camera": IMAGES[:-1]}
    second: Observations = {"joints": VECTORS[1:], "camera": IMAGES[1:]}
    metadata = {"env_id": "Toy-v0", "producer": "a test"}
    return Demonstrations.from_transitions(first, ACTIONS, VECTORS[:N, 0], second, LAST, np.zeros(N), metadata)


def make_npz(folder: Path) -> Path:
    return dataset().save(folder / "a.npz")


def make_recording(folder: Path) -> Path:
    begin(folder / "a.npz", 3)
    return folder / "a.npz.recording"


def make_pickle(protocol: int) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        rows = [(VECTORS[k], ACTIONS[k], np.float32(k), VECTORS[k + 1], bool(LAST[k])) for k in range(N)]
        (folder / "a.pkl").write_bytes(pickle.dumps(rows, protocol))
        return folder / "a.pkl"

    return make


def write_minari(folder: Path) -> Path:
    return dataset().save(folder / "toy-v0", format="minari")


def write_minari_file(folder: Path) -> Path:
    return write_minari(folder) / "data" / "main_data.hdf5"


def make_minari(data_format: str, **observations: np.ndarray) -> Callable[[Path], Path]:
    """By the library itself."""

    def make(folder: Path) -> Path:
        episodes = [
            EpisodeBuffer(
                id=number,
                observations={name: array[rows.start : rows.stop + 1] for name, array in observations.items()},
                actions=ACTIONS[rows],
                rewards=np.ones(4),
                terminations=LAST[rows],
                truncations=np.zeros(4, bool),
                # Of the other storages the library does not read infos of one number per step
                infos={"success": np.append(False, LAST[rows])} if data_format == "hdf5" else {},
            )
            for number, rows in enumerate(EPISODES)
        ]
        boxes: dict[str, spaces.Space] = {
            name: spaces.Box(-9 if array.dtype.kind == "f" else 0, 255, array.shape[1:], array.dtype.type)
            for name, array in observations.items()
        }
        before = os.environ.get("MINARI_DATASETS_PATH")
        os.environ["MINARI_DATASETS_PATH"] = str(folder)
        try:
            minari.create_dataset_from_buffers(
                "toy-v0",
                episodes,
                observation_space=spaces.Dict(boxes),
                action_space=spaces.Box(-1, 1, (2,)),
                data_format=data_format,
            )
        finally:
            del os.environ["MINARI_DATASETS_PATH"]
            os.environ.update({} if before is None else {"MINARI_DATASETS_PATH": before})
        return folder / "toy-v0"

    return make


def make_robomimic(folder: Path) -> Path:
    with h5py.File(folder / "a.hdf5", "w") as file:
        file.create_dataset("mask/train", data=np.array([b"demo_0", b"demo_2"]))
        for number, rows in enumerate(EPISODES):
            demo = file.create_group(f"data/demo_{number}")
            demo.attrs["num_samples"] = 4
            demo["actions"], demo["rewards"], demo["dones"] = ACTIONS[rows], LAST[rows].astype(float), LAST[rows].astype(int)
            for name, shift in (("obs", 0), ("next_obs", 1)):
                moved = slice(rows.start + shift, rows.stop + shift)
                demo.create_dataset(f"{name}/joints", data=VECTORS[moved], compression="gzip")
                demo[f"{name}/camera"] = IMAGES[moved]
        file["data"].attrs["env_args"] = json.dumps({"env_name": "Lift", "type": 1, "env_kwargs": {}})
    return folder / "a.hdf5"


def make_dicts(folder: Path, by_step: bool) -> Path:
    """Path dicts of hand_dapg, or transition dicts of SERL."""
    paths = [{"observations": VECTORS[rows], "actions": ACTIONS[rows], "rewards": VECTORS[rows, 0]} for rows in EPISODES]
    after = {"next_observations": VECTORS[1:], "dones": LAST, "masks": 1.0 - LAST}
    columns: dict[str, np.ndarray] = {"observations": VECTORS[:N], "actions": ACTIONS, "rewards": VECTORS[:N, 0], **after}
    dicts = [{name: column[row] for name, column in columns.items()} for row in range(N)] if by_step else paths
    (folder / "a.pkl").write_bytes(pickle.dumps(dicts, 4))
    return folder / "a.pkl"


def make_isaaclab(folder: Path) -> Path:
    with h5py.File(folder / "a.hdf5", "w") as file:
        for number, rows in enumerate(EPISODES):
            demo = file.create_group(f"data/demo_{number}")
            demo.attrs["num_samples"], demo.attrs["success"] = 4, number != 1
            demo["actions"], demo["obs/joints"], demo["states/arm/pose"] = ACTIONS[rows], VECTORS[rows], VECTORS[rows]
        file["data"].attrs["env_args"] = json.dumps({"env_name": "Isaac-Stack", "type": 2})
    return folder / "a.hdf5"


def make_d4rl(folder: Path) -> Path:
    with h5py.File(folder / "a.hdf5", "w") as file:
        file.create_dataset("observations", data=VECTORS[:N], compression="gzip", chunks=(5, 3))
        file.create_dataset("actions", data=ACTIONS, shuffle=True, compression="gzip")
        file["rewards"], file["terminals"], file["timeouts"] = LAST.astype(np.float32), np.zeros(N, bool), LAST
        file["infos/success"] = LAST
    return folder / "a.hdf5"


TUPLES = {"done_means": "truncated", "action_low": -9, "action_high": 9}
SOURCES = {
    "npz": Source(make_npz),
    "recording": Source(make_recording),
    "pickle 2": Source(make_pickle(2), TUPLES),
    "pickle 4": Source(make_pickle(4), TUPLES),
    "pickle 5": Source(make_pickle(5), TUPLES),
    "path dicts": Source(lambda folder: make_dicts(folder, by_step=False)),
    "transition dicts": Source(lambda folder: make_dicts(folder, by_step=True)),
    "IsaacLab": Source(make_isaaclab),
    "LeRobot 2": Source(lambda folder: write_dataset(folder / "demo", VERSION_2)),
    "LeRobot 3": Source(lambda folder: write_dataset(folder / "demo", VERSION_3)),
    "LeRobot table": Source(lambda folder: write_table(folder / "a.parquet", steps([30, 20]), row_group_size=20)),
    "Minari of ours": Source(write_minari),
    "Minari file": Source(write_minari_file),
    "Minari hdf5": Source(make_minari("hdf5", joints=VECTORS)),
    "Minari images": Source(make_minari("hdf5", joints=VECTORS, camera=IMAGES)),
    "Minari parquet": Source(make_minari("parquet", joints=VECTORS)),
    "Minari arrow": Source(make_minari("arrow", joints=VECTORS)),
    "robomimic": Source(make_robomimic),
    "robomimic mask": Source(make_robomimic, {"mask": "train", "observation_keys": "joints"}),
    "D4RL": Source(make_d4rl),
}
