"""Small datasets and files, and how to change them."""

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from sb3_pgfd import Demonstrations

METADATA = {"env_id": "Toy-v0", "env_kwargs": {"size": 2}, "seed": 5, "success_rate": None, "producer": "a test"}


def following(observations: Any) -> Any:
    """:return: The observation of the next row for each row, as one array or by key"""
    if isinstance(observations, dict):
        return {key: following(array) for key, array in observations.items()}
    return np.concatenate([observations[1:], observations[-1:]], dtype=observations.dtype)


def make(observations: Any, actions: Any = None, **changes: Any) -> Demonstrations:
    fields: dict[str, Any] = {
        "observations": observations,
        "actions": np.array([[0.1], [-0.0], [3e-44]], dtype=np.float32) if actions is None else actions,
        "rewards": np.array([0.1, -1, 1e-30], dtype=np.float32),
        "next_observations": following(observations),
        "terminated": [False, True, False],
        "truncated": [False, False, True],
        "episode_lengths": [2, 1],
        "metadata": METADATA,
    }
    return Demonstrations(**{**fields, **changes})


IMAGES = np.arange(36, dtype=np.uint8).reshape(3, 2, 2, 3)
BOX = make(np.array([[0.1, 1e300], [2, -0.0], [1 / 3, 5e-324]]))
FIELDS = ("observations", "actions", "rewards", "next_observations", "terminated", "truncated", "episode_lengths")


def valid_bytes() -> bytes:
    """Of a stored file: compression would hide most of the damage that can be done to it."""
    members = BytesIO()
    record = json.dumps({"format": "sb3-pgfd demonstrations", "version": 1, **METADATA})
    np.savez(members, metadata=np.array(record), **{name: getattr(BOX, name) for name in FIELDS})
    return members.getvalue()


def with_members(path: Path, **changes: Any) -> Path:
    """A valid file with other members; None leaves one out."""
    with np.load(BytesIO(valid_bytes())) as archive:
        members = {**archive, **changes}
    np.savez(path, **{name: array for name, array in members.items() if array is not None})
    return path
