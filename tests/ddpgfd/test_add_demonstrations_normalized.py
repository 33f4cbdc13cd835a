"""What ``VecNormalize`` sees of demonstrations that come to a DDPGfD in use."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from sb3_pgfd import DDPGfD, Demonstrations

MakeModel = Callable[..., DDPGfD]


@pytest.fixture(scope="module")
def corrections(record: Callable[..., Demonstrations]) -> Demonstrations:
    return record("box", 2)


def vec_normalize(**options: Any) -> VecNormalize:
    return VecNormalize(DummyVecEnv([lambda: gym.make("PointToGoal-v0")]), **options)


def statistics(env: VecNormalize) -> list[float]:
    assert isinstance(env.obs_rms, RunningMeanStd)
    return [float(value) for rms in (env.obs_rms, env.ret_rms) for value in (rms.mean.item(), rms.var.item(), rms.count)]


@pytest.mark.parametrize("with_first", [False, True])
def test_before_learning_the_statistics_take_in_all_of_them_once(
    make_model: MakeModel, demonstrations: Demonstrations, corrections: Demonstrations, with_first: bool
) -> None:
    first = demonstrations if with_first else None
    one, other = vec_normalize(), vec_normalize()
    model = make_model(env=one, demonstrations=first)
    model.add_demonstrations(corrections)
    assert statistics(one) == statistics(vec_normalize()), "learn() shows them, not add_demonstrations()"
    model.learn(0)
    everything = Demonstrations.merge([demonstrations, corrections]) if with_first else corrections
    make_model(env=other, demonstrations=everything).learn(0)
    assert statistics(one) == pytest.approx(statistics(other))


@pytest.mark.parametrize("with_first", [False, True])
def test_afterwards_the_statistics_take_in_the_new_ones_at_once_and_once(
    make_model: MakeModel, demonstrations: Demonstrations, corrections: Demonstrations, with_first: bool
) -> None:
    env = vec_normalize(norm_reward=False)
    model = make_model(env=env, demonstrations=demonstrations if with_first else None).learn(15)
    assert isinstance(env.obs_rms, RunningMeanStd)
    expected = env.obs_rms.copy()
    expected.update(np.asarray(corrections.observations))
    model.add_demonstrations(corrections)
    assert (env.obs_rms.mean, env.obs_rms.var, env.obs_rms.count) == (expected.mean, expected.var, expected.count)
    # learn() resets the environment, which counts as one more observation
    model.learn(0)
    assert env.obs_rms.count == pytest.approx(expected.count + 1)


def test_frozen_statistics_are_left_alone(make_model: MakeModel, corrections: Demonstrations) -> None:
    env = vec_normalize()
    model = make_model(env=env).learn(15)
    env.training = False
    before = statistics(env)
    model.add_demonstrations(corrections)
    assert statistics(env) == before
