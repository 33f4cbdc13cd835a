"""Saving an A2CfD, loading it and going on."""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from parameter_groups import learning_rate
from stable_baselines3 import A2C
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from sb3_pgfd import A2CfD, Demonstrations, DemonstrationsError

MakeModel = Callable[..., A2CfD]
OPTIONS: list[dict[str, Any]] = [{}, {"use_rms_prop": True}, {"n_steps": 8, "gae_lambda": 0.9, "normalize_advantage": True}]


def make_env() -> gym.Env:
    return gym.make("PointToGoal-v0")


@pytest.fixture
def demo_file(demonstrations: Demonstrations, tmp_path: Path) -> Path:
    return demonstrations.save(tmp_path / "to_goal.npz")


@pytest.fixture
def trained(make_model: MakeModel, demo_file: Path, tmp_path: Path) -> A2CfD:
    """A model that learned from a file, saved as ``model.zip``."""
    model = make_model(demonstrations=demo_file, critic_warmup_steps=10).learn(60)
    model.save(tmp_path / "model")
    return model


def load(tmp_path: Path, **options: Any) -> A2CfD:
    return A2CfD.load(tmp_path / "model", env=make_env(), device="cpu", **options)


def parameters(model: Any) -> list[th.Tensor]:
    return [value.clone() for value in model.policy.state_dict().values()]


def same(first: list[th.Tensor], second: list[th.Tensor]) -> bool:
    return all(th.equal(one, other) for one, other in zip(first, second, strict=True))


def test_the_zip_holds_no_demonstrations_but_their_source(trained: A2CfD, demo_file: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.zip") as archive:
        data = json.loads(archive.read("data"))
        names = set(archive.namelist())
    assert data["demonstrations_source"] == str(demo_file)
    assert not {"demonstrations", "rollout_buffer", "_metrics", "_batches", "_std_unit", "policy"} & data.keys()
    assert {"policy.pth", "policy.optimizer.pth"} <= names


def test_the_size_of_the_zip_does_not_depend_on_the_demonstrations(
    make_model: MakeModel, record: Callable[..., Demonstrations]
) -> None:
    sizes = []
    for n_episodes in (1, 100):
        file = io.BytesIO()
        make_model(demonstrations=record("box", n_episodes)).learn(5).save(file)
        sizes.append(len(file.getvalue()))
    # Numbers in its text may be a digit longer
    assert abs(sizes[0] - sizes[1]) < 1000


def test_a_loaded_model_predicts_the_same_without_an_environment_or_demonstrations(trained: A2CfD, tmp_path: Path) -> None:
    loaded = A2CfD.load(tmp_path / "model", device="cpu")
    assert loaded.demonstrations is None
    observations = np.linspace(-1, 1, 20, dtype=np.float32)[:, None]
    expected, _ = trained.predict(observations, deterministic=True)
    np.testing.assert_array_equal(loaded.predict(observations, deterministic=True)[0], expected)
    drawn = []
    for model in (loaded, trained):
        th.manual_seed(0)
        drawn.append(model.predict(observations)[0])
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], expected)


def test_a_loaded_model_does_not_learn_without_its_demonstrations(trained: A2CfD, demo_file: Path, tmp_path: Path) -> None:
    loaded = load(tmp_path)
    for use in (lambda: loaded.learn(10), lambda: loaded.add_demonstrations("Pendulum-v1")):
        with pytest.raises(DemonstrationsError) as error:
            use()
        for part in (str(demo_file), "A2CfD.load(path, env=env, demonstrations=...)", "demonstrations_source=None"):
            assert part in str(error.value)
        # There is none
        assert "buffer" not in str(error.value)
    assert loaded.num_timesteps == trained.num_timesteps


@pytest.mark.parametrize("again", [True, False])
def test_each_way_out_that_the_message_names_works(
    trained: A2CfD, demo_file: Path, tmp_path: Path, recorder: Any, attach: Callable[[A2CfD], A2CfD], again: bool
) -> None:
    options: dict[str, Any] = {"demonstrations": demo_file} if again else {"demonstrations_source": None}
    loaded = attach(load(tmp_path, **options)).learn(30)
    assert loaded._n_updates == trained._n_updates + 6
    loaded.dump_logs()
    assert ("train/bc_loss" in recorder.rows[-1]) == again
    assert loaded.demonstrations_source == (str(demo_file) if again else None)


def test_optimisers_and_counters_are_kept(trained: A2CfD, tmp_path: Path) -> None:
    loaded = A2CfD.load(tmp_path / "model", device="cpu")
    found, expected = loaded.policy.optimizer.state_dict(), trained.policy.optimizer.state_dict()
    assert found["param_groups"] == expected["param_groups"]
    assert found["state"].keys() == expected["state"].keys() != set()
    for number, state in expected["state"].items():
        assert all(th.equal(found["state"][number][key], value) for key, value in state.items())
    assert loaded._n_held_steps == trained._n_held_steps == 10
    assert loaded._n_actor_updates == trained._n_actor_updates == 10
    assert loaded._n_updates == trained._n_updates == 12
    assert loaded._pretrained


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("with_demonstrations", [True, False])
def test_going_on_from_a_file_is_going_on_in_memory(
    make_model: MakeModel, demo_file: Path, tmp_path: Path, options: dict[str, Any], with_demonstrations: bool
) -> None:
    demonstrations = demo_file if with_demonstrations else None
    model = make_model(env=make_env(), demonstrations=demonstrations, critic_warmup_steps=20, **options).learn(40)
    model.save(tmp_path / "model")
    loaded = load(tmp_path, demonstrations=demonstrations)
    for one in (model, loaded):
        # Loading discards the last observation and draws random numbers
        one._last_obs = None
        one.set_random_seed(3)
        one.learn(80, reset_num_timesteps=False)
    assert model.num_timesteps == loaded.num_timesteps == 120
    assert model._n_actor_updates == loaded._n_actor_updates
    assert same(parameters(model), parameters(loaded))


def test_that_is_also_how_sb3s_a2c_goes_on(tmp_path: Path) -> None:
    # So that the test above asks for no less than SB3 promises
    model = A2C("MlpPolicy", make_env(), seed=0, device="cpu").learn(40)
    model.save(tmp_path / "model")
    loaded = A2C.load(tmp_path / "model", env=make_env(), device="cpu")
    for one in (model, loaded):
        one._last_obs = None
        one.set_random_seed(3)
        one.learn(80, reset_num_timesteps=False)
    assert same(parameters(model), parameters(loaded))


def test_other_hyperparameters_take_effect_on_loading(trained: A2CfD, demo_file: Path, tmp_path: Path) -> None:
    changed: dict[str, Any] = dict(n_steps=10, gamma=0.5, gae_lambda=0.75, learning_rate=lambda remaining: 1e-2 * remaining)
    changed |= dict(actor_learning_rate=2e-4, demonstrations=demo_file)
    loaded = load(tmp_path, **changed).learn(20)
    assert loaded._n_updates == trained._n_updates + 2
    assert (loaded.rollout_buffer.buffer_size, loaded.rollout_buffer.gamma, loaded.rollout_buffer.gae_lambda) == (
        10,
        0.5,
        0.75,
    )
    assert (learning_rate(loaded.policy, "critic"), learning_rate(loaded.policy, "actor")) == (0.0, 2e-4)


def test_options_are_checked_on_loading_too(trained: A2CfD, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"bc_coef.*found -1"):
        A2CfD.load(tmp_path / "model", bc_coef=-1.0)


@pytest.mark.parametrize("through_file", [False, True])
def test_parameters_can_be_set_in_place(trained: A2CfD, make_model: MakeModel, tmp_path: Path, through_file: bool) -> None:
    other = make_model(seed=7)
    # SB3 types the state dicts that it returns and takes as different things
    given: Any = str(tmp_path / "model") if through_file else trained.get_parameters()
    other.set_parameters(given, device="cpu")
    assert same(parameters(other), parameters(trained))
    other.learn(20)
    assert not same(parameters(other), parameters(trained))


def test_a_model_learns_on_more_environments_than_before(trained: A2CfD, demo_file: Path, tmp_path: Path) -> None:
    env = make_vec_env("PointToGoal-v0", n_envs=3)
    loaded = A2CfD.load(tmp_path / "model", env=env, demonstrations=demo_file, device="cpu").learn(30)
    assert loaded.rollout_buffer.n_envs == 3
    assert loaded._n_updates == trained._n_updates + 2


def test_an_environment_set_later_is_enough_to_go_on(trained: A2CfD, demo_file: Path, tmp_path: Path) -> None:
    loaded = A2CfD.load(tmp_path / "model", device="cpu", demonstrations=demo_file)
    loaded.set_env(make_vec_env("PointToGoal-v0"))
    assert loaded.learn(20)._n_updates == trained._n_updates + 4


def test_normalised_runs_go_on_with_their_statistics(make_model: MakeModel, demo_file: Path, tmp_path: Path) -> None:
    env = VecNormalize(DummyVecEnv([make_env]))
    make_model(env=env, demonstrations=demo_file).learn(20).save(tmp_path / "model")
    env.save(str(tmp_path / "normalize.pkl"))
    again = VecNormalize.load(str(tmp_path / "normalize.pkl"), DummyVecEnv([make_env]))
    count = again.ret_rms.count
    A2CfD.load(tmp_path / "model", env=again, demonstrations=demo_file, device="cpu").learn(20)
    assert again.ret_rms.count == pytest.approx(count + 20), "demonstrations are taken in once"


@pytest.mark.parametrize("changes", [{"use_rms_prop": True}, {"rms_prop_eps": 1e-2}, {"use_sde": True}])
def test_an_optimiser_stays_as_it_was_made(trained: A2CfD, tmp_path: Path, changes: dict[str, Any]) -> None:
    name = next(iter(changes))
    with pytest.raises(ValueError, match=rf"A2CfD.load: found {name}=.*, expected .* as saved: .* another optimiser"):
        load(tmp_path, **changes)
    # What it was saved with may be said again, as the RL Zoo does
    assert load(tmp_path, use_rms_prop=False, rms_prop_eps=1e-5, use_sde=False).use_rms_prop is False


def test_a_stopped_rollout_ends_as_at_a_time_limit_when_the_environment_changes(make_model: MakeModel) -> None:
    model = make_model(n_steps=6, gamma=0.5, demonstrations=None)
    model.learn(6, callback=lambda variables, _: variables["self"].num_timesteps < 3)
    before = model.rollout_buffer.rewards[:3].copy()
    observations: Any = model._last_obs
    with th.no_grad():
        value = model.policy.predict_values(model.policy.obs_to_tensor(observations)[0]).item()
    model.set_env(make_env())
    np.testing.assert_allclose(model.rollout_buffer.rewards[:3] - before, [[0.0], [0.0], [0.5 * value]], rtol=1e-5)
