"""Demonstrations that come to a DDPGfD in use."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from add_at import AddAt
from gymnasium import spaces
from small_models import WatchedBuffer, demo_priorities, demo_rows, own_priorities, own_rows
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from sb3_pgfd import DDPGfD, Demonstrations, DemonstrationsError

MakeModel = Callable[..., DDPGfD]
Record = Callable[..., Demonstrations]


@pytest.fixture(scope="module")
def corrections(record: Record) -> Demonstrations:
    return record("box", 2)


def parameters(model: DDPGfD) -> list[th.Tensor]:
    return [value.clone() for value in model.policy.state_dict().values()]


COLUMNS = ("observations/", "actions", "rewards", "steps_left")


def demo_columns(model: DDPGfD, n: int) -> list[np.ndarray]:
    """:return: Columns of the first demonstrations"""
    return [demo_rows(model, name)[:n] for name in COLUMNS]


def own_columns(model: DDPGfD) -> list[np.ndarray]:
    return [own_rows(model, name) for name in COLUMNS]


def assert_same(found: list[np.ndarray], expected: list[np.ndarray]) -> None:
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def load(folder: Path, with_env: bool = True, **options: Any) -> DDPGfD:
    env = gym.make("PointToGoal-v0") if with_env else None
    return DDPGfD.load(folder / "model", env=env, device="cpu", **options)


def merged_length(model: DDPGfD) -> int:
    assert isinstance(model.demonstrations, Demonstrations)
    return len(model.demonstrations)


# --- When ------------------------------------------------------------------------------------------------------------


def test_before_learning_it_is_as_if_all_had_been_given_at_once(
    make_model: MakeModel, demonstrations: Demonstrations, corrections: Demonstrations
) -> None:
    one = make_model()
    one.add_demonstrations(corrections)
    one.learn(30)
    other = make_model(demonstrations=Demonstrations.merge([demonstrations, corrections])).learn(30)
    assert one._n_updates == other._n_updates > 5
    assert all(th.equal(x, y) for x, y in zip(parameters(one), parameters(other), strict=True))
    np.testing.assert_array_equal(one.buffer.priorities, other.buffer.priorities)


def test_between_two_calls_of_learn_everything_else_stays(
    make_model: MakeModel, demonstrations: Demonstrations, corrections: Demonstrations
) -> None:
    model = make_model().learn(40)
    n, n_added, n_updates = len(demonstrations), len(corrections), model._n_updates
    old, own, weights = demo_columns(model, n), own_columns(model), parameters(model)
    old_priorities, their_priorities = own_priorities(model), demo_priorities(model)
    model.add_demonstrations(corrections)
    assert_same(demo_columns(model, n), old)
    assert_same(own_columns(model), own)
    np.testing.assert_array_equal(own_priorities(model), old_priorities)
    np.testing.assert_array_equal(demo_priorities(model)[:n], their_priorities)
    assert demo_priorities(model)[n:] == pytest.approx(np.full(n_added, model.buffer.max_priority))
    assert all(th.equal(x, y) for x, y in zip(parameters(model), weights, strict=True))
    assert merged_length(model) == n + n_added
    # And it goes on without another pretraining
    assert model.learn(40)._n_updates == n_updates + 30


def test_a_callback_adds_them_while_learning_and_they_are_drawn_at_once(
    make_model: MakeModel, demonstrations: Demonstrations, corrections: Demonstrations
) -> None:
    model = make_model(replay_buffer_class=WatchedBuffer, replay_buffer_kwargs={"demo_fraction": 0.5})
    assert isinstance(model.buffer, WatchedBuffer)
    model.learn(40, AddAt(corrections, step=30))
    n, n_all = len(demonstrations), len(demonstrations) + len(corrections)
    assert model.buffer.n_demonstrations == n_all
    assert model.buffer.n_own == 40
    drawn = [rows - model.buffer.ring.n_rows for rows in model.buffer.drawn]
    new = [(rows >= n).any() for rows in drawn]
    assert sum(new[-10:]) > 5
    assert not any(new[:-11]), "they came after step 30"
    assert (np.concatenate(drawn[:5]) >= 0).all(), "pretraining was over before"


def test_adding_and_learning_depend_on_the_seed_alone(make_model: MakeModel, corrections: Demonstrations) -> None:
    models = [make_model().learn(40, AddAt(corrections, step=20)) for _ in range(2)]
    assert all(th.equal(x, y) for x, y in zip(parameters(models[0]), parameters(models[1]), strict=True))
    without = make_model().learn(40)
    assert not all(th.equal(x, y) for x, y in zip(parameters(models[0]), parameters(without), strict=True))


def test_it_works_with_several_environments_and_keys(record: Record) -> None:
    env = make_vec_env("PointToGoal-v0", n_envs=3, env_kwargs={"view": "dict"})
    first, second = record("dict", 1), record("dict", 2)
    model = DDPGfD("MultiInputPolicy", env, first, buffer_size=60, batch_size=8, pretrain_steps=2, device="cpu", seed=0)
    model.learn(90, AddAt(second, step=45))
    assert model.buffer.n_demonstrations == len(first) + len(second)
    assert model.buffer.n_own == 60
    found = demo_rows(model, "observations/position")[len(first) :]
    assert isinstance(second.observations, Mapping)
    np.testing.assert_array_equal(found, second.observations["position"])


# --- Pretraining -----------------------------------------------------------------------------------------------------


def test_a_model_without_any_pretrains_if_it_has_not_begun(make_model: MakeModel, corrections: Demonstrations) -> None:
    model = make_model(demonstrations=None, pretrain_steps=7)
    model.add_demonstrations(corrections)
    assert model.learn(0)._n_updates == 7


@pytest.mark.parametrize("n_steps", [5, 40])
def test_a_model_that_has_learned_without_any_does_not_pretrain_any_more(
    make_model: MakeModel, corrections: Demonstrations, n_steps: int, tmp_path: Path
) -> None:
    # Five steps are fewer than `learning_starts`: there are steps, but no updates
    model = make_model(demonstrations=None).learn(n_steps)
    n_updates = model._n_updates
    model.save(tmp_path / "model")
    loaded = load(tmp_path)
    for either in (model, loaded):
        either.add_demonstrations(corrections)
        assert either.learn(0)._n_updates == n_updates
        assert either.buffer.n_demonstrations == len(corrections)


@pytest.mark.parametrize("step", [0, 3])
def test_demonstrations_from_a_callback_of_the_first_learn_are_not_pretrained_on(
    make_model: MakeModel, corrections: Demonstrations, step: int
) -> None:
    model = make_model(demonstrations=None).learn(5, AddAt(corrections, step))
    assert model.learn(0)._n_updates == 0


def test_a_pretraining_that_is_still_to_come_takes_all(
    make_model: MakeModel, corrections: Demonstrations, demonstrations: Demonstrations, tmp_path: Path
) -> None:
    # A model that learned without demonstrations pretrains when it is loaded with some
    make_model(demonstrations=None).learn(5).save(tmp_path / "model")
    loaded = load(tmp_path, demonstrations=demonstrations)
    loaded.add_demonstrations(corrections)
    assert loaded.learn(0)._n_updates == 5
    assert loaded.buffer.n_demonstrations == len(demonstrations) + len(corrections)


# --- Saving ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def extended(make_model: MakeModel, demonstrations: Demonstrations, corrections: Demonstrations, tmp_path: Path) -> DDPGfD:
    """A model that learned from one file and got another and some from memory, saved with its buffer."""
    model = make_model(demonstrations=demonstrations.save(tmp_path / "first.npz")).learn(20)
    for _ in range(2):
        model.add_demonstrations(corrections.save(tmp_path / "second.npz", overwrite=True))
        model.add_demonstrations(corrections)
    model.learn(20)
    model.save(tmp_path / "model")
    model.save_replay_buffer(tmp_path / "buffer")
    return model


def test_a_saved_model_names_all_of_them_and_each_once(extended: DDPGfD, tmp_path: Path) -> None:
    loaded = load(tmp_path)
    expected = f"{tmp_path / 'first.npz'} + {tmp_path / 'second.npz'} + episodes added from memory"
    assert loaded.demonstrations_source == extended.demonstrations_source == expected
    for use in (lambda: loaded.learn(10), lambda: loaded.add_demonstrations("Pendulum-v1")):
        with pytest.raises(DemonstrationsError, match=r"first.npz \+ .*second.npz \+ episodes added from memory\. Pass them"):
            use()


def test_the_buffer_file_brings_them_back(extended: DDPGfD, corrections: Demonstrations, tmp_path: Path) -> None:
    loaded = load(tmp_path)
    loaded.load_replay_buffer(tmp_path / "buffer")
    n = extended.buffer.n_demonstrations
    assert loaded.buffer.n_demonstrations == n == merged_length(extended)
    assert_same(demo_columns(loaded, n), demo_columns(extended, n))
    assert_same(own_columns(loaded), own_columns(extended))
    np.testing.assert_array_equal(loaded.buffer.priorities, extended.buffer.priorities)
    assert loaded.learn(20)._n_updates > extended._n_updates
    # More can come
    loaded.add_demonstrations(corrections)
    assert loaded.buffer.n_demonstrations == n + len(corrections)
    assert loaded.learn(20).buffer.n_own == 80


def test_the_merged_dataset_brings_them_back(extended: DDPGfD, tmp_path: Path) -> None:
    loaded = load(tmp_path, demonstrations=extended.demonstrations)
    n = extended.buffer.n_demonstrations
    assert_same(demo_columns(loaded, n), demo_columns(extended, n))
    assert (loaded.learn(10).buffer.n_own, loaded.buffer.n_demonstrations) == (10, n)


def test_without_an_environment_the_buffer_is_made_with_all_of_them_later(
    extended: DDPGfD, demonstrations: Demonstrations, corrections: Demonstrations, tmp_path: Path
) -> None:
    loaded = load(tmp_path, with_env=False, demonstrations=demonstrations)
    loaded.add_demonstrations(corrections)
    assert loaded.replay_buffer is None
    assert merged_length(loaded) == len(demonstrations) + len(corrections)
    loaded.set_env(make_vec_env("PointToGoal-v0"))
    assert loaded.learn(10).buffer.n_demonstrations == len(demonstrations) + len(corrections)


def test_what_a_model_was_saved_with_cannot_be_replaced_by_adding_something_else(
    extended: DDPGfD, corrections: Demonstrations, tmp_path: Path
) -> None:
    for with_env in (False, True):
        loaded = load(tmp_path, with_env)
        with pytest.raises(DemonstrationsError, match=r"add_demonstrations: found no demonstrations, but .*source=None"):
            loaded.add_demonstrations(corrections)
        assert loaded.demonstrations is None
        on_purpose = load(tmp_path, with_env, demonstrations_source=None)
        on_purpose.add_demonstrations(corrections)
        assert merged_length(on_purpose) == len(corrections)


# --- Input -----------------------------------------------------------------------------------------------------------


def with_dtypes(dataset: Demonstrations, observations: Any, actions: Any) -> Demonstrations:
    return Demonstrations.from_transitions(
        np.asarray(dataset.observations).astype(observations),
        dataset.actions.astype(actions),
        dataset.rewards,
        np.asarray(dataset.next_observations).astype(observations),
        dataset.terminated,
        dataset.truncated,
    )


def test_another_precision_joins(make_model: MakeModel, corrections: Demonstrations) -> None:
    model = make_model()
    model.add_demonstrations(with_dtypes(corrections, np.float64, np.float64))
    model.add_demonstrations(with_dtypes(corrections, np.float32, np.float16))
    n = model.buffer.n_demonstrations
    assert n == merged_length(model)
    assert demo_rows(model, "observations/").dtype == np.float32
    assert model.learn(20).buffer.n_demonstrations == n


class WithStage(gym.ObservationWrapper):
    """A whole number beside the position."""

    def __init__(self) -> None:
        super().__init__(gym.make("PointToGoal-v0"))
        self.observation_space = spaces.Dict({"position": self.env.observation_space, "stage": spaces.Discrete(3)})

    def observation(self, observation: np.ndarray) -> dict[str, Any]:
        return {"position": observation, "stage": 1}


def test_dtypes_with_no_common_one_are_refused_before_anything_changes() -> None:
    # int64 and uint64 both fit the space, and NumPy joins them to float64, which does not
    signed, unsigned = (
        Demonstrations.from_transitions(
            {"position": np.zeros((2, 1)), "stage": np.ones(2, dtype)},
            np.zeros((2, 1)),
            np.zeros(2),
            {"position": np.zeros((2, 1)), "stage": np.ones(2, dtype)},
            np.zeros(2, bool),
            np.zeros(2, bool),
        )
        for dtype in (np.int64, np.uint64)
    )
    model = DDPGfD("MultiInputPolicy", WithStage(), signed, buffer_size=10, device="cpu")
    with pytest.raises(DemonstrationsError, match=r"observations\['stage'\]: found dtype float64, expected int64"):
        model.add_demonstrations(unsigned)
    assert model.buffer.n_demonstrations == merged_length(model) == 2
    model.add_demonstrations(signed)
    assert model.buffer.n_demonstrations == 4


@pytest.mark.parametrize("wrong", ["Pendulum-v1", "no such file", 5, None])
def test_what_does_not_fit_is_refused_before_anything_changes(
    make_model: MakeModel, demonstrations: Demonstrations, wrong: Any
) -> None:
    env = VecNormalize(DummyVecEnv([lambda: gym.make("PointToGoal-v0")]))
    model = make_model(env=env).learn(20)
    n, n_counted = len(demonstrations), env.ret_rms.count
    before, source, rows, own = model.demonstrations, model.demonstrations_source, demo_columns(model, n), own_columns(model)
    with pytest.raises(DemonstrationsError):
        model.add_demonstrations(wrong)
    assert model.demonstrations is before
    assert model.demonstrations_source == source
    assert_same(demo_columns(model, n), rows)
    assert_same(own_columns(model), own)
    assert model.buffer.n_demonstrations == n
    assert env.ret_rms.count == n_counted


def test_doubtful_ones_are_warned_of_like_by_the_constructor(make_model: MakeModel, corrections: Demonstrations) -> None:
    model = make_model()
    elsewhere = Demonstrations.from_episodes([corrections.episode(0)], metadata={"env_id": "Elsewhere-v0"})
    with pytest.warns(UserWarning, match=r"found episodes of Elsewhere-v0, expected PointToGoal-v0") as warned:
        model.add_demonstrations(elsewhere)
    assert len(warned) == 1
    outside = Demonstrations.from_transitions(
        np.asarray(corrections.observations) + 5.0,
        corrections.actions,
        corrections.rewards,
        np.asarray(corrections.next_observations) + 5.0,
        corrections.terminated,
        corrections.truncated,
    )
    with pytest.warns(UserWarning, match="outside the bounds"):
        model.add_demonstrations(outside)
