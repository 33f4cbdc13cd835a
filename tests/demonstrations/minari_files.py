"""Minari datasets, written by the ``minari`` library."""

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import minari
import numpy as np
import pytest
from gymnasium import spaces
from minari.data_collector.episode_buffer import EpisodeBuffer

from sb3_pgfd import Demonstrations

ARRAYS = ("observations", "actions", "rewards", "next_observations", "terminated", "truncated", "episode_lengths")
ACTIONS = spaces.Box(-1, 1, (2,), np.float32)
OBSERVATIONS = spaces.Box(-10, 10, (3,), np.float64)
SMALL_IMAGES, IMAGES = (spaces.Box(0, 255, (size, size + 4, 3), np.uint8) for size in (16, 36))
NESTED = spaces.Dict({"arm": spaces.Dict({"joints": OBSERVATIONS, "mode": spaces.Discrete(3)}), "camera": IMAGES})


def use_root(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """:param folder: Where Minari's datasets are from now on"""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(folder))
    return folder


def sample(space: spaces.Space, n: int, rng: np.random.Generator) -> Any:
    """:return: Stacked values, as Minari takes them: a dict of arrays for a Dict, a tuple for a Tuple"""
    if isinstance(space, spaces.Dict):
        return {key: sample(value, n, rng) for key, value in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(sample(value, n, rng) for value in space.spaces)
    if isinstance(space, spaces.Discrete):
        return rng.integers(0, space.n, n)
    if isinstance(space, spaces.MultiDiscrete):
        return rng.integers(0, space.nvec, (n, *space.shape))
    assert isinstance(space, spaces.Box)
    if space.dtype == np.uint8:
        # Smooth: JPEG files of different lengths, which are nearly the same pictures
        row = np.linspace(0, 200, space.shape[0])[None, :, None, None] + rng.integers(0, 50, (n, 1, 1, space.shape[2]))
        return np.broadcast_to(row, (n, *space.shape)).astype(np.uint8)
    return rng.uniform(-1, 1, (n, *space.shape)).astype(space.dtype)


def buffers(
    observation_space: spaces.Space, action_space: spaces.Space = ACTIONS, lengths: Sequence[int] = (4, 1, 3), **changes: Any
) -> list[EpisodeBuffer]:
    """Episodes whose last steps are terminated, truncated and, as in datasets converted from D4RL, neither."""
    rng = np.random.default_rng(0)
    made = []
    for number, length in enumerate(lengths):
        ends = [step == length - 1 for step in range(length)]
        fields: dict[str, Any] = {
            "seed": 100 + number,
            "observations": sample(observation_space, length + 1, rng),
            "actions": sample(action_space, length, rng),
            "rewards": rng.normal(size=length).tolist(),
            "terminations": [end and number == 0 for end in ends],
            "truncations": [end and number == 1 for end in ends],
        }
        made.append(EpisodeBuffer(**{**fields, **changes}))
    return made


def create(dataset_id: str, episodes: Sequence[EpisodeBuffer], observation_space: spaces.Space, **options: Any) -> Any:
    """:return: A ``minari.MinariDataset``, in the folder of :func:`use_root`"""
    with warnings.catch_warnings():
        # It recommends to name an author, an e-mail address, a link and more
        warnings.simplefilter("ignore", UserWarning)
        return minari.create_dataset_from_buffers(
            dataset_id, list(episodes), **{"observation_space": observation_space, "action_space": ACTIONS, **options}
        )


def bits(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    return {key: bits(array) for key, array in value.items()}


def assert_same_bits(found: Demonstrations, expected: Demonstrations) -> None:
    for name in (*ARRAYS, "episode_info"):
        assert bits(getattr(found, name)) == bits(getattr(expected, name)), name
    assert json.dumps(dict(found.metadata)) == json.dumps(dict(expected.metadata))
