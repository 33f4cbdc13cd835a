import pickle
from pathlib import Path

import numpy as np
import pytest

from sb3_pgfd import Demonstrations
from sb3_pgfd.demonstrations import Episode


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """Five episodes of 2 to 6 steps that return 0 to 4, of which the even ones are successes."""
    episodes = [
        Episode(
            observations={
                "joints": np.arange(3.0 * number, 3.0 * number + 2 * (number + 3)).reshape(-1, 2),
                "goal": np.full((number + 3, 1), float(number)),
            },
            actions=np.linspace(-1, 0.5, 2 * (number + 2)).reshape(-1, 2),
            rewards=np.eye(1, number + 2)[0] * number,
            terminated=True,
            success=number % 2 == 0,
        )
        for number in range(5)
    ]
    return Demonstrations.from_episodes(episodes, {"producer": "a test"}).save(tmp_path / "toy.npz")


@pytest.fixture
def tutorial(tmp_path: Path) -> Path:
    """A pickle of two episodes of three steps."""
    rows = [(np.ones(2) * k, np.array([0.5]), 1.0, np.ones(2) * (k + 1), k % 3 == 2) for k in range(6)]
    path = tmp_path / "tutorial.pkl"
    path.write_bytes(pickle.dumps(rows))
    return path
