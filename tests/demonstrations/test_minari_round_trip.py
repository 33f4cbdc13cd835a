"""Ours to Minari to ours, whatever the demonstrations are."""

from typing import Any

import minari
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from minari_files import assert_same_bits, bits

from sb3_pgfd import Demonstrations

DTYPES = ("<f4", ">f4", "<f8", "<f2", "|u1", "|i1", "<i8", ">i4", "<u8", "|b1")
NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=4)
KEYS = st.lists(NAMES.filter(lambda name: name not in (".", "_index_0")), min_size=1, max_size=3).map("/".join)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def overlap(keys: list[str]) -> bool:
    return any(other.startswith(f"{key}/") for key in keys for other in keys)


@st.composite
def arrays(draw: st.DrawFn, n_rows: int, max_dims: int = 2) -> np.ndarray:
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    shape = (n_rows, *draw(st.lists(st.integers(1, 3), max_size=max_dims)))
    content = draw(st.binary(min_size=int(np.prod(shape)) * dtype.itemsize, max_size=int(np.prod(shape)) * dtype.itemsize))
    array = np.frombuffer(content, np.uint8 if dtype.kind == "b" else dtype).reshape(shape)
    if dtype.kind == "b":
        return array % 2 == 1
    if dtype.kind == "f":
        # Any bits but those of NaN and infinity, and none whose sum is infinite
        with np.errstate(invalid="ignore"):
            return np.where(np.isfinite(array) & (np.abs(array) < 1e3), array, array.dtype.type(-0.0)).astype(dtype)
    return array


@st.composite
def datasets(draw: st.DrawFn) -> Demonstrations:
    lengths = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    n_steps, n_rows = sum(lengths), sum(lengths) + len(lengths)
    keys = draw(st.none() | st.lists(KEYS, min_size=1, max_size=3, unique=True).filter(lambda found: not overlap(found)))
    rows = draw(arrays(n_rows)) if keys is None else {key: draw(arrays(n_rows)) for key in keys}
    # Of T + 1 observations of an episode the first T, and the last T
    starts = np.cumsum(lengths) - lengths
    before = np.concatenate(
        [np.arange(start + k, start + k + length) for k, (start, length) in enumerate(zip(starts, lengths, strict=True))]
    )
    first, second = (
        {key: array[at] for key, array in rows.items()} if isinstance(rows, dict) else rows[at] for at in (before, before + 1)
    )
    ends = np.zeros((2, n_steps), dtype=bool)
    for end in np.cumsum(lengths) - 1:
        ends[:, end] = draw(st.sampled_from([(True, False), (False, True), (True, True)]))
    facts: dict[str, Any] = {}
    if draw(st.booleans()):
        facts["success"] = draw(st.lists(st.booleans(), min_size=len(lengths), max_size=len(lengths)))
    if draw(st.booleans()):
        facts["seed"] = draw(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=len(lengths), max_size=len(lengths)))
    rewards = draw(st.lists(st.floats(-1e6, 1e6, width=32), min_size=n_steps, max_size=n_steps))
    return Demonstrations(
        observations=first,
        actions=draw(arrays(n_steps)),
        rewards=np.array(rewards, dtype=np.float32),
        next_observations=second,
        terminated=ends[0],
        truncated=ends[1],
        episode_lengths=np.array(lengths),
        metadata=draw(st.dictionaries(st.text(max_size=9), VALUES, max_size=4)),
        episode_info={name: np.array(values) for name, values in facts.items()},
    )


@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(demonstrations=datasets())
def test_there_and_back_keeps_every_bit(demonstrations: Demonstrations, tmp_path_factory: pytest.TempPathFactory):
    path = tmp_path_factory.getbasetemp() / "bits-v0"
    assert demonstrations.save(path, overwrite=True, format="minari") == path
    assert_same_bits(Demonstrations.load(path), demonstrations)
    dataset = minari.MinariDataset(path / "data")
    for number, episode in enumerate(dataset.iterate_episodes()):
        assert bits(episode.actions) == bits(demonstrations.episode(number).actions)
        assert bits(episode.rewards) == bits(demonstrations.episode(number).rewards)
        if isinstance(demonstrations.observations, np.ndarray):
            assert bits(episode.observations) == bits(demonstrations.episode(number).observations)
