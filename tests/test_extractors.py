"""Features extractors."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from point_to_goal import PointToGoal
from stable_baselines3 import SAC
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecFrameStack, VecNormalize

from sb3_pgfd import DDPGfD, TD3fD
from sb3_pgfd.extractors import RelativePositions
from sb3_pgfd.utils.warning import OptionWarning

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


def test_a_position_in_a_dict_has_a_key_and_an_entry():
    space = spaces.Dict({"state": box(4), "goal": box(2)})
    # From yaml come lists; a key alone starts at 0. The keys are joined in the space's order, which is by name
    extractor = RelativePositions(space, pairs=[[["state", 1], "goal"], ["goal", ["state", 2]]], size=2, scale=10.0)
    state, goal = th.tensor([[1.0, 2.0, 3.0, 4.0]]), th.tensor([[8.0, 16.0]])
    # (8, 16) - (2, 3) and (3, 4) - (8, 16), in tens
    expected = [[8.0, 16.0, 1.0, 2.0, 3.0, 4.0, 60.0, 130.0, -50.0, -120.0]]
    assert extractor.features_dim == 10
    assert extractor({"state": state, "goal": goal}).tolist() == expected
    assert extractor({"goal": goal, "state": state}).tolist() == expected


@pytest.mark.parametrize(
    ("space", "kwargs", "match"),
    [
        (spaces.Discrete(3), {"pairs": [(0, 1)]}, "observation_space: found Discrete"),
        (spaces.Dict({"a": box(3), "b": spaces.Discrete(2)}), {"pairs": [("a", "a")]}, "found Discrete.* of the key 'b'"),
        (spaces.Dict({"a": box(6), "b": box(3)}), {"pairs": [("b", ("a", 4))]}, "3 starts, .* 6 entries of 'a' and 3 entries"),
        (
            spaces.Dict({"a": box(6), "b": box(3)}),
            {"pairs": [("b", "c")]},
            r"pairs: found 'c', expected a key, or \(key, entry\)",
        ),
        (spaces.Dict({"a": box(6), "b": box(3)}), {"pairs": [(0, 3)]}, "pairs: found 0, expected a key"),
        (box(6), {"pairs": ["ab"]}, "pairs: found "),
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


def said_of_positions(env: VecEnv, pairs: Any, text: str) -> list[str]:
    """:return: The warnings with this text of a model that compares positions"""
    kwargs = {"features_extractor_class": RelativePositions, "features_extractor_kwargs": {"pairs": pairs, "size": 1}}
    policy = "MultiInputPolicy" if isinstance(env.observation_space, spaces.Dict) else "MlpPolicy"
    model = TD3fD(policy, env, policy_kwargs=kwargs, device="cpu")
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always", OptionWarning)
        model.check_options_for_learning()
    return [str(one.message) for one in found if text in str(one.message)]


@pytest.mark.parametrize(
    ("view", "pairs", "options", "is_named"),
    [
        ("box", [(0, 0)], {}, True),
        ("box", [(0, 0)], {"norm_obs": False}, False),
        ("dict", [("position", "goal")], {}, True),
        ("dict", [("position", "position")], {"norm_obs_keys": ["goal"]}, False),
    ],
)
def test_positions_that_are_standardised_apart_are_named(view: str, pairs: Any, options: dict[str, Any], is_named: bool):
    env = VecNormalize(DummyVecEnv([lambda: PointToGoal(view)]), **options)
    assert len(said_of_positions(env, pairs, "norm_obs=True with RelativePositions")) == is_named


@pytest.mark.parametrize(
    ("view", "pairs", "newest"),
    [
        # Three frames of one number, or three positions and three goals
        ("box", [(0, 1)], "2 and 2"),
        ("box", [(2, 2)], None),
        # A velocity
        ("box", [(2, 1)], None),
        ("dict", [("position", ("goal", 1))], "2 and 2"),
        ("dict", [(("position", 2), ("goal", 2))], None),
    ],
)
def test_positions_in_older_frames_are_named(view: str, pairs: Any, newest: str | None):
    env = VecFrameStack(DummyVecEnv([lambda: PointToGoal(view)]), 3)
    named = said_of_positions(env, pairs, "RelativePositions: found a pair")
    assert len(named) == (newest is not None)
    if newest is not None:
        assert f"expected them in the newest of VecFrameStack's 3, at {newest}" in named[0]


def test_a_model_learns_with_it_and_comes_back(tmp_path: Path):
    model = DDPGfD("MlpPolicy", "Pendulum-v1", policy_kwargs={"net_arch": [8], **PENDULUM}, pretrain_steps=0, seed=0)
    model.learn(120)
    assert next(model.actor.mu.parameters()).shape == (8, 4)
    model.save(tmp_path / "model")
    observation = np.array([0.1, 0.2, 0.3], dtype=np.float32)
    (loaded, _), (before, _) = (m.predict(observation, deterministic=True) for m in (DDPGfD.load(tmp_path / "model"), model))
    assert np.array_equal(loaded, before)


def test_models_with_dict_observations_learn_with_it(tmp_path: Path):
    networks = {
        "net_arch": [8],
        "features_extractor_class": RelativePositions,
        "features_extractor_kwargs": {"pairs": [["position", "goal"]], "size": 1},
    }
    model = TD3fD("MultiInputPolicy", PointToGoal("dict"), policy_kwargs=networks, learning_starts=10, seed=0).learn(20)
    assert next(model.actor.mu.parameters()).shape == (8, 3)
    model.save(tmp_path / "model")
    loaded = TD3fD.load(tmp_path / "model")
    observation = {name: np.full(1, value, dtype=np.float32) for name, value in (("position", 0.25), ("goal", 0.8))}
    assert np.array_equal(loaded.predict(observation)[0], model.predict(observation)[0])


def test_sb3_s_own_algorithms_take_it():
    model = SAC("MlpPolicy", "Pendulum-v1", policy_kwargs={"net_arch": [8], **PENDULUM}, learning_starts=10)
    model.learn(20)
    assert next(model.critic.q_networks[0].parameters()).shape == (8, 5)
