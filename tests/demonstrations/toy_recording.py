"""A recording of small episodes."""

from pathlib import Path
from typing import Any

import numpy as np
from toy_dataset import assert_same

from sb3_pgfd.demonstrations import Episode
from sb3_pgfd.demonstrations.recording import Session

SETTINGS = {"env_id": "Toy-v0", "env_kwargs": {"size": 2}, "seed": 5, "bound": float("inf")}


def toy_episode(number: int = 0, length: int = 2, **changes: Any) -> Episode:
    fields: dict[str, Any] = {
        "observations": np.arange(length + 1, dtype=np.float32)[:, None] + 100 * number,
        "actions": np.full((length, 1), number, dtype=np.float32),
        "rewards": np.ones(length, dtype=np.float32),
        "terminated": number % 2 == 0,
        "success": number % 3 == 0,
        "seed": number,
    }
    return Episode(**{**fields, **changes})


def begin(path: Path, n_episodes: int = 2, **options: Any) -> Session:
    session = Session(path, SETTINGS, **options)
    for number in range(n_episodes):
        session.add(toy_episode(number), {"next": number + 1})
    return session


def assert_same_episode(found: Episode, expected: Episode) -> None:
    for name in ("observations", "actions", "rewards"):
        assert_same(getattr(found, name), getattr(expected, name))
    assert (found.terminated, found.success, found.seed) == (expected.terminated, expected.success, expected.seed)


def content(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
