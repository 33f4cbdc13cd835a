"""How often demonstrations are validated: once, when they are made of arrays that come from outside."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from toy_dataset import ACTION_SPACE, FIELDS, OBSERVATION_SPACE, make

from sb3_pgfd import A2CfD, DDPGfD, Demonstrations
from sb3_pgfd.demonstrations.validation import check_finite


@contextmanager
def counted() -> Iterator[list[int]]:
    """:return: The number of transitions at each validation inside the ``with`` block"""
    found: list[int] = []

    def profile(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code is check_finite.__code__:
            found.append(len(frame.f_locals["arrays"].get("rewards", ())))

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        yield found
    finally:
        sys.setprofile(before)


@pytest.mark.parametrize("algorithm", [DDPGfD, A2CfD])
def test_making_a_model_validates_a_file_once(algorithm: Any):
    with counted() as found:
        model = algorithm("MlpPolicy", gym.make("Pendulum-v1"), demonstrations="Pendulum-v1")
    assert found == [len(model.demonstrations)]


def test_making_a_model_validates_no_dataset():
    demonstrations = Demonstrations.load("Pendulum-v1", n_episodes=1)
    with counted() as found:
        DDPGfD("MlpPolicy", "Pendulum-v1", demonstrations=demonstrations)
    assert found == []


OPERATIONS: dict[str, Callable[[Demonstrations], Any]] = {
    "load": lambda d: Demonstrations.load(d, n_episodes=1, done_means="truncated"),
    "select": lambda d: d.select([1]),
    "fit": lambda d: d.fit_to_spaces(OBSERVATION_SPACE, ACTION_SPACE),
    "merge": lambda d: Demonstrations.merge([d, d]),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_what_is_made_of_a_dataset_is_not_validated(name: str):
    demonstrations = make()
    with counted() as found:
        OPERATIONS[name](demonstrations)
    assert found == []


@pytest.mark.parametrize("name", OPERATIONS)
def test_what_is_made_of_a_dataset_would_be_valid_and_cannot_be_written_to(name: str):
    made = OPERATIONS[name](make(episode_info={"success": [True, False]}, metadata={"env_id": "Toy-v0"}))
    again = Demonstrations(**vars(made))
    assert again.episode_lengths.tolist() == made.episode_lengths.tolist()
    for field in FIELDS:
        with pytest.raises(ValueError, match="read-only"):
            getattr(made, field)[0] = 0
        assert getattr(made, field).dtype == getattr(again, field).dtype


def test_an_edited_file_is_validated_once(tmp_path: Path):
    path = make(next_observations=FIELDS["observations"] + 2).save(tmp_path / "a.npz")
    with counted() as found:
        assert Demonstrations.load(path, n_episodes=1, seed=0).n_episodes == 1
    assert found == [5]


def test_bounds_that_make_infinity_of_actions_are_still_refused():
    with pytest.raises(ValueError, match=r"actions: episode 0, step 0, component 0: found .*, expected a finite number"):
        make().rescale_actions(-np.inf, np.float32(1))
