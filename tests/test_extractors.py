"""Features extractors."""

from pathlib import Path

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import SAC

from sb3_pgfd import DDPGfD
from sb3_pgfd.extractors import RelativePositions

PENDULUM = {"features_extractor_class": RelativePositions, "features_extractor_kwargs": {"pairs": [(0, 2)], "size": 1}}


def box(n: int) -> spaces.Box:
    return spaces.Box(-np.inf, np.inf, (n,))


def test_differences_follow_the_observation():
    extractor = RelativePositions(box(6), pairs=[(0, 2), (4, 1)], size=2, scale=10.0)
    observations = th.tensor([[1.0, 2.0, 4.0, 8.0, 16.0, 32.0], [0.0, 0.5, 0.0, 0.0, 0.0, 0.0]])
    # (4, 8) - (1, 2) and (2, 4) - (16, 32), in tens
    expected = [[30.0, 60.0, -140.0, -280.0], [0.0, -5.0, 5.0, 0.0]]
    assert extractor.features_dim == 10
    features = extractor(observations)
    assert th.equal(features[:, :6], observations)
    assert features[:, 6:].tolist() == expected


def test_positions_have_three_entries_unless_said_otherwise():
    features = RelativePositions(box(7), pairs=[(0, 4)])(th.tensor([[1.0, 2.0, 3.0, 9.0, 2.0, 4.0, 6.0]]))
    assert features[0, 7:].tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("space", "kwargs", "match"),
    [
        (spaces.Discrete(3), {"pairs": [(0, 1)]}, "observation_space: found Discrete"),
        (box(6), {"pairs": []}, "pairs: found "),
        (box(6), {"pairs": [(0, 4)]}, "a position of size 3 starts, in an observation of 6 entries"),
        (box(6), {"pairs": [(0, 1, 2)]}, "pairs: found "),
        (box(6), {"pairs": [(0, 3)], "scale": 0.0}, "scale: found 0.0, expected a number > 0"),
        (box(6), {"pairs": [(0, 3)], "size": 0}, "size: found 0"),
    ],
)
def test_what_cannot_be_is_refused(space: spaces.Space, kwargs: dict[str, object], match: str):
    with pytest.raises(ValueError, match=match):
        RelativePositions(space, **kwargs)  # type: ignore[arg-type]  # some are wrong on purpose


def test_a_model_learns_with_it_and_comes_back(tmp_path: Path):
    model = DDPGfD("MlpPolicy", "Pendulum-v1", policy_kwargs={"net_arch": [8], **PENDULUM}, pretrain_steps=0, seed=0)
    model.learn(120)
    assert next(model.actor.mu.parameters()).shape == (8, 4)
    model.save(tmp_path / "model")
    observation = np.array([0.1, 0.2, 0.3], dtype=np.float32)
    (loaded, _), (before, _) = (m.predict(observation, deterministic=True) for m in (DDPGfD.load(tmp_path / "model"), model))
    assert np.array_equal(loaded, before)


def test_sb3_s_own_algorithms_take_it():
    model = SAC("MlpPolicy", "Pendulum-v1", policy_kwargs={"net_arch": [8], **PENDULUM}, learning_starts=10)
    model.learn(20)
    assert next(model.critic.q_networks[0].parameters()).shape == (8, 5)
