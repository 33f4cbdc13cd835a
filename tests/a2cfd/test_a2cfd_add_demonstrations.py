"""Demonstrations that come to an A2CfD in use."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from add_at import AddAt
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from sb3_pgfd import A2CfD, Demonstrations, DemonstrationsError

MakeModel = Callable[..., A2CfD]
Record = Callable[..., Demonstrations]


class Watched(A2CfD):
    """Notes how many demonstrations each batch was drawn from, and counts updates of pretraining."""

    drawn_from: list[int]
    n_pretrained: int

    def __init__(self, *args: Any, **kwargs: Any):
        self.drawn_from, self.n_pretrained = [], 0
        super().__init__(*args, **kwargs)

    @property
    def _demonstration_batches(self) -> Any:
        batches = super()._demonstration_batches
        self.drawn_from.append(len(batches.demonstrations))
        return batches

    def _pretrain_update(self) -> None:
        self.n_pretrained += 1
        super()._pretrain_update()


@pytest.fixture(scope="module")
def corrections(record: Record) -> Demonstrations:
    return record("box", 2)


def parameters(model: A2CfD) -> list[th.Tensor]:
    return [value.clone() for value in model.policy.state_dict().values()]


def same(first: A2CfD, second: A2CfD) -> bool:
    return all(th.equal(one, other) for one, other in zip(parameters(first), parameters(second), strict=True))


def length(model: A2CfD) -> int:
    assert isinstance(model.demonstrations, Demonstrations)
    return len(model.demonstrations)


def test_before_learning_it_is_as_if_all_had_been_given_at_once(
    make_model: MakeModel, demonstrations: Demonstrations, corrections: Demonstrations
) -> None:
    one = make_model(critic_warmup_steps=10)
    one.add_demonstrations(corrections)
    one.learn(40)
    other = make_model(demonstrations=Demonstrations.merge([demonstrations, corrections]), critic_warmup_steps=10).learn(40)
    assert same(one, other)
    assert length(one) == len(demonstrations) + len(corrections)


def test_between_two_calls_of_learn_everything_else_stays(
    make_model: MakeModel, demonstrations: Demonstrations, corrections: Demonstrations
) -> None:
    model = make_model(algorithm=Watched, critic_warmup_steps=10).learn(40)
    assert isinstance(model, Watched)
    counters = (model._n_updates, model._n_actor_updates, model._n_held_steps, model.n_pretrained)
    weights, model.drawn_from = parameters(model), []
    model.add_demonstrations(corrections)
    assert counters == (model._n_updates, model._n_actor_updates, model._n_held_steps, model.n_pretrained)
    assert all(th.equal(one, other) for one, other in zip(weights, parameters(model), strict=True))
    model.learn(20)
    assert model.n_pretrained == 5
    assert model.drawn_from == [len(demonstrations) + len(corrections)] * 4


def test_a_callback_adds_them_while_learning(
    make_model: MakeModel, demonstrations: Demonstrations, corrections: Demonstrations
) -> None:
    model = make_model(algorithm=Watched, pretrain_steps=0).learn(40, AddAt(corrections, step=20))
    assert isinstance(model, Watched)
    n, n_all = len(demonstrations), len(demonstrations) + len(corrections)
    # They come in the last step of the fourth rollout
    assert model.drawn_from == [n] * 3 + [n_all] * 5


def test_a_warm_up_goes_on(make_model: MakeModel, corrections: Demonstrations) -> None:
    model = make_model(critic_warmup_steps=30).learn(40, AddAt(corrections, step=10))
    assert (model._n_held_steps, model._n_actor_updates) == (30, 2)


def test_a_model_without_any_pretrains_and_warms_up_if_it_has_not_begun(
    make_model: MakeModel, corrections: Demonstrations
) -> None:
    model = make_model(algorithm=Watched, demonstrations=None, pretrain_steps=7, critic_warmup_steps=10)
    model.add_demonstrations(corrections)
    assert model.learn(20)._n_held_steps == 10
    assert isinstance(model, Watched)
    assert model.n_pretrained == 7


@pytest.mark.parametrize("from_file", [False, True])
def test_a_model_that_has_learned_without_any_neither_pretrains_nor_warms_up_any_more(
    make_model: MakeModel, corrections: Demonstrations, from_file: bool, tmp_path: Path
) -> None:
    model = make_model(algorithm=Watched, demonstrations=None, critic_warmup_steps=1000).learn(10)
    if from_file:
        model.save(tmp_path / "model")
        model = Watched.load(tmp_path / "model", env=gym.make("PointToGoal-v0"), device="cpu")
    model.add_demonstrations(corrections)
    assert model.learn(20)._n_actor_updates == 2 + 4
    assert isinstance(model, Watched)
    assert model.n_pretrained == 0
    assert model.drawn_from == [len(corrections)] * 4


@pytest.mark.parametrize("step", [0, 3])
def test_demonstrations_from_a_callback_of_the_first_learn_are_not_pretrained_on(
    make_model: MakeModel, corrections: Demonstrations, step: int
) -> None:
    model = make_model(algorithm=Watched, demonstrations=None, critic_warmup_steps=1000).learn(10, AddAt(corrections, step))
    assert isinstance(model, Watched)
    assert model.learn(10).n_pretrained == 0
    assert model._n_actor_updates == 4


def test_a_saved_model_names_all_of_them(
    make_model: MakeModel, demonstrations: Demonstrations, corrections: Demonstrations, tmp_path: Path
) -> None:
    first, second = (
        dataset.save(tmp_path / name) for dataset, name in ((demonstrations, "first.npz"), (corrections, "second.npz"))
    )
    model = make_model(demonstrations=first).learn(10)
    model.add_demonstrations(second)
    model.save(tmp_path / "model")
    env = gym.make("PointToGoal-v0")
    with pytest.raises(DemonstrationsError, match=r"first.npz \+ .*second.npz\. Pass them again"):
        A2CfD.load(tmp_path / "model", env=env, device="cpu").learn(10)
    loaded = A2CfD.load(tmp_path / "model", env=env, demonstrations=model.demonstrations, device="cpu")
    assert length(loaded.learn(10)) == len(demonstrations) + len(corrections)


@pytest.mark.parametrize("wrong", ["Pendulum-v1", "no such file", 5, None])
def test_what_does_not_fit_is_refused_before_anything_changes(make_model: MakeModel, wrong: Any) -> None:
    env = VecNormalize(DummyVecEnv([lambda: gym.make("PointToGoal-v0")]))
    model = make_model(env=env).learn(10)
    before, source, count = model.demonstrations, model.demonstrations_source, env.ret_rms.count
    with pytest.raises(DemonstrationsError):
        model.add_demonstrations(wrong)
    assert (model.demonstrations, model.demonstrations_source, env.ret_rms.count) == (before, source, count)


@pytest.mark.parametrize("with_first", [False, True])
def test_the_statistics_take_in_new_ones_at_once_and_once(
    make_model: MakeModel, demonstrations: Demonstrations, corrections: Demonstrations, with_first: bool
) -> None:
    env = VecNormalize(DummyVecEnv([lambda: gym.make("PointToGoal-v0")]))
    model = make_model(env=env, demonstrations=demonstrations if with_first else None).learn(10)
    assert isinstance(env.obs_rms, RunningMeanStd)
    expected = env.obs_rms.copy()
    expected.update(np.asarray(corrections.observations))
    model.add_demonstrations(corrections)
    assert (env.obs_rms.mean, env.obs_rms.count) == (expected.mean, expected.count)
    # learn() resets the environment, which counts as one more observation
    model.learn(0)
    assert env.obs_rms.count == pytest.approx(expected.count + 1)
