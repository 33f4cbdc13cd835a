"""Updates on demonstrations alone, before the first environment step."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from small_models import WatchedBuffer, own_priorities, own_rows
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, ProgressBarCallback
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from sb3_pgfd import DDPGfD, Demonstrations

MakeModel = Callable[..., DDPGfD]


class AtStart(BaseCallback):
    """Keeps what a callback finds when learning starts."""

    def __init__(self) -> None:
        super().__init__()
        self.n_updates = -1
        self.num_timesteps_found = -1
        self.parameters: list[th.Tensor] = []

    def _on_training_start(self) -> None:
        assert isinstance(self.model, DDPGfD)
        self.n_updates = self.model._n_updates
        self.num_timesteps_found = self.model.num_timesteps
        self.parameters = [parameter.detach().clone() for parameter in self.model.policy.parameters()]

    def _on_step(self) -> bool:
        return True


def fill_ring(model: DDPGfD, n: int = 20) -> None:
    observation = np.full((1, 1), -0.5, dtype=np.float32)
    for _ in range(n):
        model.buffer.add(observation, observation, np.zeros((1, 1)), np.zeros(1), np.zeros(1, dtype=bool), [{}])


def vec_normalize(**options: Any) -> VecNormalize:
    return VecNormalize(DummyVecEnv([lambda: gym.make("PointToGoal-v0")]), **options)


def test_pretraining_is_over_when_the_first_callback_is_called(make_model: MakeModel) -> None:
    model, callback = make_model(pretrain_steps=7), AtStart()
    before = [parameter.detach().clone() for parameter in model.policy.parameters()]
    model.learn(1, callback)
    assert callback.num_timesteps_found == 0
    assert callback.n_updates == 7
    assert not any(th.equal(one, other) for one, other in zip(before, callback.parameters, strict=True))


def test_pretraining_makes_no_environment_step(make_model: MakeModel) -> None:
    model = make_model(pretrain_steps=5).learn(0)
    assert model._n_updates == 5
    assert model.buffer.n_own == 0


@pytest.mark.parametrize("demo_fraction", [None, 0.5])
def test_pretraining_draws_demonstrations_only_even_if_there_are_other_transitions(
    make_model: MakeModel, demo_fraction: float | None
) -> None:
    options: dict[str, Any] = dict(replay_buffer_class=WatchedBuffer, replay_buffer_kwargs={"demo_fraction": demo_fraction})
    model = make_model(pretrain_steps=20, **options)
    fill_ring(model)
    before = own_priorities(model)
    model.learn(0)
    assert isinstance(model.buffer, WatchedBuffer)
    assert len(model.buffer.drawn) == 20
    assert np.concatenate(model.buffer.drawn).min() >= model.buffer.ring.n_rows
    np.testing.assert_array_equal(own_priorities(model), before)


def test_pretraining_happens_once_in_a_models_life(make_model: MakeModel, tmp_path: Path) -> None:
    model = make_model(pretrain_steps=5, learning_starts=1000).learn(2)
    model.learn(2)
    assert model._n_updates == 5
    model.save(tmp_path / "model")
    loaded = DDPGfD.load(tmp_path / "model", env=gym.make("PointToGoal-v0"), demonstrations=model.demonstrations, device="cpu")
    loaded.learn(2)
    assert loaded._n_updates == 5


def test_a_model_saved_before_it_learned_pretrains_when_it_does(make_model: MakeModel, tmp_path: Path) -> None:
    model = make_model(pretrain_steps=5)
    model.save(tmp_path / "model")
    loaded = DDPGfD.load(tmp_path / "model", env=gym.make("PointToGoal-v0"), demonstrations=model.demonstrations, device="cpu")
    assert loaded.learn(0)._n_updates == 5


def test_pretraining_is_logged_with_all_that_an_update_logs(
    make_model: MakeModel, attach: Callable[[DDPGfD], DDPGfD], recorder: Any
) -> None:
    attach(make_model(pretrain_steps=120, bc_coef=1.0)).learn(0)
    # About 50 points: one for every 120 // 50 = 2 updates
    assert recorder.column("pretrain/n_updates") == list(range(2, 121, 2))
    names = "actor_loss critic_loss critic_loss_n_step q_mean demo_fraction is_weight_mean bc_loss priority_mean priority_max"
    for name in names.split():
        values = recorder.column(f"pretrain/{name}")
        assert len(values) == 60
        assert np.isfinite(values).all()
    assert set(recorder.column("pretrain/demo_fraction")) == {1.0}
    assert not any(row.keys() & {"train/critic_loss", "time/fps"} for row in recorder.rows)


def test_pretraining_prints_one_table(make_model: MakeModel, capsys: pytest.CaptureFixture[str]) -> None:
    make_model(pretrain_steps=120, verbose=1).learn(0)
    printed = capsys.readouterr().out
    assert "Pretraining: 120 updates on demonstrations" in printed
    assert printed.count("| pretrain/") == printed.count("n_updates") == 1


def test_a_log_file_says_how_far_pretraining_is(
    make_model: MakeModel, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sb3_pgfd.common.pretraining.TELL_EVERY", 0.0)
    make_model(pretrain_steps=3, verbose=1).learn(0)
    printed = capsys.readouterr().out.splitlines()
    assert [line for line in printed if " of 3 " in line] == [f"Pretraining: {step} of 3 updates" for step in (1, 2, 3)]


def test_cloning_gets_better_while_pretraining(
    make_model: MakeModel, attach: Callable[[DDPGfD], DDPGfD], recorder: Any
) -> None:
    attach(make_model(pretrain_steps=200, bc_coef=10.0)).learn(0)
    losses = recorder.column("pretrain/bc_loss")
    assert losses[-1] < losses[0] / 10


@pytest.mark.filterwarnings("ignore::tqdm.TqdmExperimentalWarning")
@pytest.mark.parametrize(
    "options", [{"progress_bar": True}, {"callback": CallbackList([CallbackList([]), ProgressBarCallback()])}]
)
def test_a_progress_bar_shows_pretraining(
    make_model: MakeModel, capfd: pytest.CaptureFixture[str], options: dict[str, Any]
) -> None:
    model = make_model(pretrain_steps=3).learn(2, **options)
    assert model._n_updates == 3
    captured = capfd.readouterr()
    assert "Pretraining" in captured.out + captured.err


def test_there_is_no_progress_bar_unless_asked(make_model: MakeModel, capfd: pytest.CaptureFixture[str]) -> None:
    make_model(pretrain_steps=3).learn(2)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("pretrain_steps", [0, 5])
def test_warm_up_actions_are_random_only_without_pretraining(make_model: MakeModel, pretrain_steps: int) -> None:
    model = make_model(pretrain_steps=pretrain_steps, learning_starts=50).learn(10)
    with th.no_grad():
        wanted = model.actor(th.from_numpy(own_rows(model, "observations/"))).numpy()
    assert np.allclose(own_rows(model, "actions"), wanted, atol=1e-5) == (pretrain_steps > 0)


def test_pretraining_can_be_left_out(make_model: MakeModel, attach: Callable[[DDPGfD], DDPGfD], recorder: Any) -> None:
    callback = AtStart()
    attach(make_model(pretrain_steps=0)).learn(20, callback)
    assert callback.n_updates == 0
    assert not any(name.startswith("pretrain/") for row in recorder.rows for name in row)


def test_without_demonstrations_there_is_no_pretraining(make_model: MakeModel) -> None:
    callback = AtStart()
    make_model(demonstrations=None, pretrain_steps=100).learn(1, callback)
    assert callback.n_updates == 0


def hand_fed_returns(demonstrations: Demonstrations, gamma: float) -> RunningMeanStd:
    statistics = RunningMeanStd(shape=())
    returns, running = [], 0.0
    ended = demonstrations.terminated | demonstrations.truncated
    for reward, end in zip(demonstrations.rewards, ended, strict=True):
        running = gamma * running + float(reward)
        returns.append(running)
        if end:
            running = 0.0
    statistics.update(np.array(returns))
    return statistics


@pytest.mark.parametrize("pretrain_steps", [0, 5])
def test_normalisation_takes_in_the_demonstrations_first(
    make_model: MakeModel, demonstrations: Demonstrations, pretrain_steps: int
) -> None:
    env = vec_normalize(gamma=0.9)
    model = make_model(env=env, pretrain_steps=pretrain_steps).learn(0)
    expected = RunningMeanStd(shape=(1,))
    expected.update(np.asarray(demonstrations.observations))
    # learn() resets the environment, which counts as one more observation
    expected.update(env.get_original_obs())  # type: ignore[arg-type]  # a Box, not a dict
    assert isinstance(env.obs_rms, RunningMeanStd)
    for found, wanted in ((env.obs_rms, expected), (env.ret_rms, hand_fed_returns(demonstrations, 0.9))):
        np.testing.assert_allclose(found.mean, wanted.mean)
        np.testing.assert_allclose(found.var, wanted.var)
        assert found.count == pytest.approx(wanted.count)
    count = env.obs_rms.count
    model.learn(0)
    assert env.obs_rms.count == pytest.approx(count + 1), "demonstrations are taken in once"


def test_normalisation_of_dict_observations_takes_in_the_normalised_keys(record: Callable[..., Demonstrations]) -> None:
    dataset = record("dict")
    env = VecNormalize(DummyVecEnv([lambda: gym.make("PointToGoal-v0", view="dict")]), norm_obs_keys=["position"])
    options: dict[str, Any] = dict(demonstrations=dataset, pretrain_steps=2, buffer_size=100, batch_size=8, device="cpu")
    DDPGfD("MultiInputPolicy", env, **options).learn(0)
    assert isinstance(env.obs_rms, dict)
    assert list(env.obs_rms) == ["position"]
    assert env.obs_rms["position"].count == pytest.approx(len(dataset) + 1, abs=1e-3)


@pytest.mark.parametrize("options", [{"training": False}, {"norm_obs": False}])
def test_frozen_or_absent_statistics_are_left_alone(make_model: MakeModel, options: dict[str, Any]) -> None:
    env = vec_normalize(**options)
    make_model(env=env).learn(0)
    if "training" in options:
        assert isinstance(env.obs_rms, RunningMeanStd)
        assert env.obs_rms.mean.tolist() == [0.0]
        assert env.ret_rms.count == pytest.approx(0.0, abs=1e-3)
    else:
        assert env.ret_rms.count > 1.0
        assert not hasattr(env, "obs_rms")


def test_frames_per_second_are_those_of_the_environment(make_model: MakeModel) -> None:
    model = make_model(replay_buffer_class=WatchedBuffer).learn(0)
    assert isinstance(model.buffer, WatchedBuffer)
    assert model.start_time > model.buffer.last_time > 0
