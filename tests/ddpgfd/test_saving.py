"""Saving, loading and going on."""

import base64
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import gymnasium as gym
import numpy as np
import pytest
import torch as th
from small_models import demo_rows, own_rows
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.save_util import save_to_pkl

from sb3_pgfd import DDPGfD, Demonstrations
from sb3_pgfd.demonstrations import DemonstrationsError
from sb3_pgfd.replay import DemoReplayBuffer
from sb3_pgfd.utils.checks import SAVE_FORMAT

MakeModel = Callable[..., DDPGfD]


def make_env() -> gym.Env:
    return gym.make("PointToGoal-v0")


@pytest.fixture
def demo_file(demonstrations: Demonstrations, tmp_path: Path) -> Path:
    return demonstrations.save(tmp_path / "to_goal.npz")


@pytest.fixture
def trained(make_model: MakeModel, demo_file: Path, tmp_path: Path) -> DDPGfD:
    """A model that learned from a file, saved as ``model.zip`` and ``buffer.pkl``."""
    model = make_model(demonstrations=demo_file).learn(60)
    model.save(tmp_path / "model")
    model.save_replay_buffer(tmp_path / "buffer")
    return model


def saved_size(model: DDPGfD) -> int:
    file = io.BytesIO()
    model.save(file)
    return len(file.getvalue())


def test_the_zip_holds_no_demonstrations_but_their_source(trained: DDPGfD, demo_file: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.zip") as archive:
        data = json.loads(archive.read("data"))
    assert data["demonstrations_source"] == str(demo_file)
    assert not {"demonstrations", "replay_buffer", "actor", "critic", "_metrics"} & data.keys()


def test_the_size_of_the_zip_does_not_depend_on_the_demonstrations(
    make_model: MakeModel, record: Callable[..., Demonstrations]
) -> None:
    few, many = (saved_size(make_model(demonstrations=record("box", n))) for n in (1, 100))
    assert abs(few - many) < 500


def test_a_loaded_model_predicts_the_same_without_an_environment_or_a_buffer(trained: DDPGfD, tmp_path: Path) -> None:
    loaded = DDPGfD.load(tmp_path / "model", device="cpu")
    assert loaded.replay_buffer is None
    assert loaded.demonstrations is None
    observations = np.linspace(-1, 1, 20, dtype=np.float32)[:, None]
    np.testing.assert_array_equal(loaded.predict(observations)[0], trained.predict(observations)[0])


def test_a_loaded_model_does_not_learn_without_its_demonstrations(trained: DDPGfD, demo_file: Path, tmp_path: Path) -> None:
    loaded = DDPGfD.load(tmp_path / "model", env=make_env(), device="cpu")
    with pytest.raises(DemonstrationsError) as error:
        loaded.learn(10)
    for part in (str(demo_file), "demonstrations=...", "load_replay_buffer", "demonstrations_source=None"):
        assert part in str(error.value)
    assert loaded.num_timesteps == trained.num_timesteps


def test_the_message_names_demonstrations_that_were_only_in_memory(make_model: MakeModel, tmp_path: Path) -> None:
    make_model().save(tmp_path / "model")
    loaded = DDPGfD.load(tmp_path / "model", env=make_env(), device="cpu")
    with pytest.raises(DemonstrationsError, match="dataset in memory, Demonstrations\\(3 episodes"):
        loaded.learn(10)


def resume_with_demonstrations(tmp_path: Path) -> DDPGfD:
    return DDPGfD.load(tmp_path / "model", env=make_env(), device="cpu", demonstrations=tmp_path / "to_goal.npz")


def resume_with_the_buffer(tmp_path: Path) -> DDPGfD:
    loaded = DDPGfD.load(tmp_path / "model", env=make_env(), device="cpu")
    loaded.load_replay_buffer(tmp_path / "buffer")
    return loaded


def resume_without_demonstrations(tmp_path: Path) -> DDPGfD:
    return DDPGfD.load(tmp_path / "model", env=make_env(), device="cpu", demonstrations_source=None)


@pytest.mark.parametrize(
    ("resume", "n_demonstrations", "n_own"),
    [
        (resume_with_demonstrations, None, 30),
        (resume_with_the_buffer, None, 90),
        (resume_without_demonstrations, 0, 30),
    ],
)
def test_each_way_out_that_the_message_names_works(
    trained: DDPGfD, tmp_path: Path, resume: Callable[[Path], DDPGfD], n_demonstrations: int | None, n_own: int
) -> None:
    loaded = resume(tmp_path)
    n_updates = loaded._n_updates
    loaded.learn(30)
    expected = trained.buffer.n_demonstrations if n_demonstrations is None else n_demonstrations
    assert loaded.buffer.n_demonstrations == expected
    assert loaded.buffer.n_own == n_own
    assert loaded._n_updates > n_updates
    # What a second save tells is still true
    assert (loaded.demonstrations_source is None) == (n_demonstrations == 0)


def test_the_environment_may_be_named_by_its_id(trained: DDPGfD, tmp_path: Path) -> None:
    trained.save(tmp_path / "model")
    loaded = DDPGfD.load(tmp_path / "model", env="PointToGoal-v0", demonstrations=trained.demonstrations)
    assert loaded.env is not None
    assert loaded.learn(2).num_timesteps == 2


def test_an_environment_set_later_is_enough_to_go_on(trained: DDPGfD, tmp_path: Path) -> None:
    loaded = DDPGfD.load(tmp_path / "model", device="cpu", demonstrations=tmp_path / "to_goal.npz")
    loaded.set_env(make_env())
    assert loaded.learn(20).buffer.n_own == 20
    assert loaded.buffer.n_demonstrations == trained.buffer.n_demonstrations


def test_a_model_goes_on_counting_if_asked(trained: DDPGfD, tmp_path: Path) -> None:
    loaded = resume_with_the_buffer(tmp_path)
    assert loaded.learn(30, reset_num_timesteps=False).num_timesteps == trained.num_timesteps + 30
    assert resume_with_the_buffer(tmp_path).learn(30).num_timesteps == 30


def test_a_resumed_model_acts_by_its_policy_from_the_first_step(trained: DDPGfD, tmp_path: Path) -> None:
    loaded = resume_with_demonstrations(tmp_path)
    loaded.learning_starts = 1000
    loaded.learn(10)
    with th.no_grad():
        wanted = trained.actor(th.from_numpy(own_rows(loaded, "observations/"))).numpy()
    np.testing.assert_allclose(own_rows(loaded, "actions"), wanted, atol=1e-5)


def test_the_buffer_comes_back_with_rows_priorities_and_marks(trained: DDPGfD, tmp_path: Path) -> None:
    loaded = resume_with_the_buffer(tmp_path)
    found, expected = loaded.buffer, trained.buffer
    assert found.n_demonstrations == expected.n_demonstrations > 0
    assert found.max_priority == expected.max_priority
    assert (found.pos, found.full, found.n_own) == (expected.pos, expected.full, expected.n_own)
    np.testing.assert_array_equal(found.priorities, expected.priorities)
    assert len(set(found.priorities)) > 1
    for rows in (demo_rows, own_rows):
        for name in found.schema.names:
            np.testing.assert_array_equal(rows(loaded, name), rows(trained, name))
    assert found.sample_batch(100).is_demo.any()


def test_going_on_from_files_is_going_on_in_memory(trained: DDPGfD, tmp_path: Path) -> None:
    loaded = resume_with_the_buffer(tmp_path)
    for model in (trained, loaded):
        model._setup_learn(0)
        np.random.seed(0)
        model.train(5, 8)
    found, expected = (list(model.policy.state_dict().values()) for model in (loaded, trained))
    assert all(th.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_the_state_of_the_optimisers_is_kept(trained: DDPGfD, tmp_path: Path) -> None:
    loaded = DDPGfD.load(tmp_path / "model", device="cpu")
    for name in ("actor", "critic"):
        found, expected = (getattr(model, name).optimizer.state_dict() for model in (loaded, trained))
        assert found["param_groups"] == expected["param_groups"]
        assert found["state"].keys() == expected["state"].keys() != set()
        for number, state in expected["state"].items():
            assert all(th.equal(found["state"][number][key], value) for key, value in state.items())


def test_other_hyperparameters_take_effect_on_loading(trained: DDPGfD, tmp_path: Path) -> None:
    changed: dict[str, Any] = dict(gamma=0.5, n_steps=2, l2_coef=0.25, actor_learning_rate=1e-5)
    changed["replay_buffer_kwargs"] = {"demo_fraction": 0.5}
    loaded = DDPGfD.load(tmp_path / "model", env=make_env(), device="cpu", **changed)
    loaded.load_replay_buffer(tmp_path / "buffer")
    loaded.learn(20)
    batch = loaded.buffer.sample_batch(200)
    # 1-step and 2-step discounts
    assert set(batch.discounts[:, 0]) == {0.5}
    assert set(batch.discounts[:, 1]) == {0.5, 0.25}
    assert int(batch.is_demo.sum()) == 100
    for network in (loaded.actor, loaded.critic):
        assert network.optimizer.param_groups[0]["weight_decay"] == 0.25
    assert loaded.actor.optimizer.param_groups[0]["lr"] == 1e-5


def test_options_are_checked_on_loading_too(trained: DDPGfD, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"bc_coef.*found -1"):
        DDPGfD.load(tmp_path / "model", bc_coef=-1.0)


def test_n_step_returns_can_be_switched_off_and_on_by_loading(trained: DDPGfD, tmp_path: Path) -> None:
    loaded = DDPGfD.load(tmp_path / "model", env=make_env(), n_steps=1, demonstrations=tmp_path / "to_goal.npz", device="cpu")
    loaded.learn(20)
    assert "critic_loss_n_step" not in loaded._metrics.flush()
    loaded.save(tmp_path / "again")
    again = DDPGfD.load(tmp_path / "again", env=make_env(), n_steps=3, demonstrations=tmp_path / "to_goal.npz", device="cpu")
    again.learn(20)
    assert "critic_loss_n_step" in again._metrics.flush()


def test_a_buffer_of_another_kind_is_refused_and_the_present_one_kept(trained: DDPGfD, tmp_path: Path) -> None:
    save_to_pkl(tmp_path / "plain", ReplayBuffer(10, trained.observation_space, trained.action_space, device="cpu"))
    present = trained.replay_buffer
    with pytest.raises(ValueError, match=r"found a ReplayBuffer, expected a DemoReplayBuffer"):
        trained.load_replay_buffer(tmp_path / "plain")
    assert trained.replay_buffer is present
    save_to_pkl(tmp_path / "text", "no buffer")
    with pytest.raises(ValueError, match=r"found a str, expected a DemoReplayBuffer"):
        trained.load_replay_buffer(tmp_path / "text")
    assert trained.replay_buffer is present


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"env": "Pendulum-v1", "demonstrations": None}, r"found observation_space=.*\(3,\).*expected Box\(.*\(1,\)"),
        ({"n_envs": 2}, "found n_envs=2 in the file, expected 1"),
        ({"replay_buffer_kwargs": {"priority_exponent": 0.5}}, "priority_exponent: found 0.5 in the buffer, expected 0.3"),
    ],
)
def test_a_buffer_that_does_not_fit_the_model_is_refused(
    trained: DDPGfD, make_model: MakeModel, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    if "n_envs" in options:
        options = {"env": make_vec_env("PointToGoal-v0", options["n_envs"])}
    make_model(**options).save_replay_buffer(tmp_path / "other")
    present = trained.replay_buffer
    with pytest.raises(ValueError, match=message):
        trained.load_replay_buffer(tmp_path / "other")
    assert trained.replay_buffer is present


@pytest.mark.parametrize("through_file", [False, True])
def test_parameters_can_be_set_in_place(trained: DDPGfD, make_model: MakeModel, tmp_path: Path, through_file: bool) -> None:
    other = make_model(seed=7)
    # SB3 types the state dicts that it returns and takes as different things
    parameters: Any = str(tmp_path / "model") if through_file else trained.get_parameters()
    other.set_parameters(parameters, device="cpu")
    expected = trained.policy.state_dict()
    assert all(th.equal(value, expected[name]) for name, value in other.policy.state_dict().items())
    # Targets must follow these parameters, not those that were replaced
    other.learn(20)
    assert not th.equal(other.policy.state_dict()["actor_target.mu.0.weight"], expected["actor_target.mu.0.weight"])


def test_a_model_learns_on_more_environments_than_before(trained: DDPGfD, tmp_path: Path) -> None:
    env = make_vec_env("PointToGoal-v0", n_envs=3)
    loaded = DDPGfD.load(tmp_path / "model", env=env, demonstrations=tmp_path / "to_goal.npz", device="cpu").learn(30)
    assert loaded.buffer.n_envs == 3
    assert (loaded.buffer.n_demonstrations, loaded.buffer.n_own) == (trained.buffer.n_demonstrations, 30)


# --- Format -----------------------------------------------------------------------------------------------------------


class Trap:
    """Fails when it is unpickled."""

    def __reduce__(self) -> Any:
        return (pytest.fail, ("it was unpickled before the format was checked",))


def with_data(path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """:return: A copy of a saved model whose attributes are changed"""
    changed = path.with_name("changed.zip")
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(changed, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name == "data":
                data = json.loads(content)
                change(data)
                content = json.dumps(data).encode()
            target.writestr(name, content)
    return changed


def test_a_saved_model_carries_the_number_of_its_format(trained: DDPGfD, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.zip") as archive:
        assert json.loads(archive.read("data"))["save_format"] == SAVE_FORMAT


@pytest.mark.parametrize("found", [None, SAVE_FORMAT + 1])
@pytest.mark.parametrize("as_file", [False, True])
def test_a_model_of_another_format_is_refused_before_anything_is_unpickled(
    trained: DDPGfD, tmp_path: Path, found: int | None, as_file: bool
) -> None:
    def change(data: dict[str, Any]) -> None:
        del data["save_format"]
        if found is not None:
            data["save_format"] = found
        pickled = base64.b64encode(cloudpickle.dumps(Trap())).decode()
        data["_last_obs"] = {":type:": "x", ":serialized:": pickled}

    path = with_data(tmp_path / "model.zip", change)
    message = (
        rf"found a model of save format {found or 1}, expected {SAVE_FORMAT}: .*Load it with that version, or train again"
    )
    with path.open("rb") as file, pytest.raises(ValueError, match=message):
        DDPGfD.load(file if as_file else path, device="cpu")


def test_a_model_is_loaded_from_a_file_object_wherever_it_is_read(trained: DDPGfD, tmp_path: Path) -> None:
    observations = np.linspace(-1, 1, 20, dtype=np.float32)[:, None]
    expected = trained.predict(observations)[0]
    memory = io.BytesIO()
    trained.save(memory)
    with (tmp_path / "model.zip").open("rb") as file:
        for source in (memory, file):
            # Twice, and from where the last one left it
            for _ in range(2):
                np.testing.assert_array_equal(DDPGfD.load(source, device="cpu").predict(observations)[0], expected)


def test_what_is_no_saved_model_is_refused(trained: DDPGfD, tmp_path: Path) -> None:
    (tmp_path / "text.zip").write_text("no zip")
    trained.policy.save(str(tmp_path / "policy.zip"))
    for name in ("text", "policy.zip"):
        with pytest.raises(
            ValueError, match=r"(text|policy)\S*: found no saved model, expected a zip file written by save\(\)"
        ):
            DDPGfD.load(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        DDPGfD.load(tmp_path / "nowhere")


@pytest.mark.parametrize("found", [None, SAVE_FORMAT + 1])
def test_a_replay_buffer_of_another_format_is_refused_and_the_present_one_kept(
    trained: DDPGfD, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: int | None
) -> None:
    def state_of_another_version(self: DemoReplayBuffer) -> dict[str, Any]:
        return {**vars(self), "_goal_rewards": None} | ({} if found is None else {"save_format": found})

    with monkeypatch.context() as context:
        context.setattr(DemoReplayBuffer, "__getstate__", state_of_another_version)
        trained.save_replay_buffer(tmp_path / "other")
    present = trained.replay_buffer
    message = rf"found a replay buffer of save format {found or 1}, expected {SAVE_FORMAT}: .*Load it with that version"
    with pytest.raises(ValueError, match=message):
        trained.load_replay_buffer(tmp_path / "other")
    assert trained.replay_buffer is present


def test_a_replay_buffer_whose_classes_are_gone_is_refused(trained: DDPGfD, tmp_path: Path) -> None:
    # A pickle of an attribute that no module has, as those of earlier versions have some
    (tmp_path / "old.pkl").write_bytes(b"csb3_pgfd.replay.storage\nRowsOfOnce\n.")
    present = trained.replay_buffer
    with pytest.raises(ValueError, match=r"RowsOfOnce.*it was saved by another version"):
        trained.load_replay_buffer(tmp_path / "old")
    assert trained.replay_buffer is present


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gama": 0.9}, r"DDPGfD\.load: found the unknown argument 'gama', did you mean 'gamma'\?"),
        ({"demo_fraction": 0.5}, r"DDPGfD\.load: found the argument 'demo_fraction', expected it in replay_buffer_kwargs"),
    ],
)
def test_an_unknown_option_is_refused_on_loading(trained: DDPGfD, tmp_path: Path, options: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        DDPGfD.load(tmp_path / "model", device="cpu", **options)


def test_what_the_rl_zoo_and_sb3_pass_on_loading_is_taken(trained: DDPGfD, tmp_path: Path) -> None:
    options: dict[str, Any] = dict(buffer_size=1, optimize_memory_usage=False, seed=3, custom_objects={"learning_rate": 0.5})
    loaded = DDPGfD.load(tmp_path / "model", env=None, device="cpu", print_system_info=False, **options)
    assert (loaded.buffer_size, loaded.seed, loaded.learning_rate) == (1, 3, 0.5)


def test_a_new_model_pretrains_on_demonstrations_that_come_with_a_buffer(
    trained: DDPGfD, make_model: MakeModel, tmp_path: Path
) -> None:
    new = make_model(demonstrations=None, pretrain_steps=5)
    new.load_replay_buffer(tmp_path / "buffer")
    assert isinstance(new.demonstrations, Demonstrations)
    assert isinstance(trained.demonstrations, Demonstrations)
    np.testing.assert_allclose(new.demonstrations.actions, trained.demonstrations.actions, atol=1e-6)
    assert new.learn(1)._pretrain_updates == 5
    # Its own file names what is missing when it is loaded without them
    new.save(tmp_path / "new")
    with pytest.raises(DemonstrationsError, match=r"learned from .*buffer"):
        DDPGfD.load(tmp_path / "new", make_env(), device="cpu").learn(1)
