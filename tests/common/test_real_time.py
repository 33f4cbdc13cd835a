"""Environments that do not wait for the learner."""

import time
import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from small_models import own_rows, small_model
from stable_baselines3 import TD3
from stable_baselines3.common.callbacks import BaseCallback, StopTrainingOnMaxEpisodes
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize

from sb3_pgfd import DDPGfD, TD3fD
from sb3_pgfd.callbacks import SaveTrainingState
from sb3_pgfd.common.real_time import Punctuality, RealTime
from sb3_pgfd.demonstrations import record
from sb3_pgfd.replay.storage import BOX_KEY, obs_column


class Clock(gym.Env):
    """Each observation is the number of the step; some steps take long."""

    observation_space = spaces.Box(-1.0, 1e6, (1,), np.float64)
    action_space = spaces.Box(-2.0, 2.0, (1,))

    def __init__(self, length: int = 7, slow: dict[int, float] | None = None, fails_at: int = -1):
        self.length, self.slow, self.fails_at = length, slow or {}, fails_at
        self.now, self.in_episode, self.times, self.executed = 0, 0, list[float](), list[float]()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.now, self.in_episode = self.now + 1, 0
        return np.full(1, float(self.now)), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.times.append(time.perf_counter())
        time.sleep(self.slow.get(len(self.times), 0.0))
        if len(self.times) == self.fails_at:
            raise RuntimeError("the motor is too hot")
        self.executed.append(float(action[0]))
        self.now, self.in_episode = self.now + 1, self.in_episode + 1
        return np.full(1, float(self.now)), 0.5 * self.now, self.in_episode == self.length, False, {}


def model_in(env: Any, algorithm: Any = DDPGfD, **options: Any) -> Any:
    return small_model(algorithm, env=env, **{"pretrain_steps": 0, "learning_starts": 0, "action_noise": 0.2, **options})


def slowly(model: Any, seconds: float) -> Any:
    """:return: The model, whose every update takes so long"""
    update = model.update

    def slow(*arguments: Any) -> Any:
        time.sleep(seconds)
        return update(*arguments)

    model.update = slow
    return model


def assert_all_is_stored(model: DDPGfD, env: Clock, n: int) -> None:
    """The first n steps of the environment are in the buffer, with the actions that were executed."""
    states = own_rows(model, obs_column(BOX_KEY))[:, 0]
    # After 7 steps there is a reset, which counts too
    expected = [1.0 + step + step // env.length for step in range(n)]
    assert states.tolist() == expected
    assert own_rows(model, "rewards").tolist() == [0.5 * (state + 1.0) for state in expected]
    np.testing.assert_allclose(own_rows(model, "actions")[:, 0], np.array(env.executed[:n]) / 2.0, atol=1e-6)


def test_the_environment_goes_on_while_updates_run_and_every_step_is_stored_once() -> None:
    env = Clock()
    real_time = RealTime(env, 100.0)
    model = slowly(model_in(real_time), 0.25)
    model.learn(40)
    real_time.close()
    real_time.close()
    assert (model.num_timesteps, model.buffer.n_own, len(env.times)) == (40, 40, 40)
    assert_all_is_stored(model, env, 40)
    # 40 updates in turn would take 10 s. Some of the steps were taken together, and shared an update
    assert env.times[-1] - env.times[0] < 5.0
    assert 0 < model._n_updates < 40
    assert model._n_late_steps > 0
    # An episode's first step is due when it comes
    assert len(real_time.punctuality.lateness) == 40 - 6
    assert not real_time.is_acting


def test_steps_are_a_period_apart() -> None:
    env = Clock(length=100)
    RealTime(env, 50.0).close()
    real_time = RealTime(env, 50.0)
    model_in(real_time, gradient_steps=0).learn(15)
    gaps = np.diff(env.times)
    # Never less, but for the jitter of the clock; the median bears a busy machine
    assert gaps.sum() > 14 * 0.02 - 0.01
    assert 0.015 < np.median(gaps) < 0.04


def test_missed_deadlines_are_counted_and_said(capsys: pytest.CaptureFixture[str]) -> None:
    real_time = RealTime(Clock(length=100, slow={5: 0.5, 9: 0.5}), 20.0, tolerance=0.1)
    model = model_in(real_time, gradient_steps=0, verbose=1)
    model.learn(12)
    found = real_time.punctuality
    assert found.n_missed >= 2
    # The steps after the slow ones came 0.5 - 0.05 s late
    assert sorted(found.lateness)[-2] > 0.4
    assert f"Real time, 20 Hz: 12 steps, {found.n_missed} missed deadlines" in capsys.readouterr().out


def test_punctuality_in_words() -> None:
    found = Punctuality(0.1, 0.02)
    assert str(found) == "10 Hz: 0 steps"
    # A hundredth of them is late
    assert [found.add(lateness) for lateness in [0.001] * 99 + [0.05]] == [False] * 99 + [True]
    found.n_steps = 101
    late = "late by 1.0 ms (median), 1.5 ms (99 %), 50.0 ms (largest)"
    assert str(found) == f"10 Hz: 101 steps, 1 missed deadlines (1.0% later than 20 ms); {late}"
    assert (found.worst(), found.worst()) == (0.05, 0.0)


def test_the_newest_policy_acts() -> None:
    env = Clock(length=1000)
    real_time = RealTime(env, 100.0)
    model = model_in(real_time, action_noise=None, gradient_steps=0)

    class Turns(BaseCallback):
        """The policy always says 1, and from the 10th step on -1."""

        def _on_step(self) -> bool:
            with th.no_grad():
                last = self.model.actor.mu[-2]  # type: ignore[attr-defined]
                last.weight.zero_()
                last.bias.fill_(50.0 if self.n_calls < 10 else -50.0)
            return True

    model.learn(40, callback=Turns())
    # The steps before the learner said so were made by the policy before
    assert env.executed[3:10] == [2.0] * 7
    assert env.executed[-10:] == [-2.0] * 10


def test_an_error_of_the_environment_ends_learning() -> None:
    real_time = RealTime(Clock(fails_at=5), 200.0)
    model = model_in(real_time)
    with pytest.raises(RuntimeError, match="the motor is too hot"):
        model.learn(40)
    assert not real_time.is_acting
    # The four steps before are stored
    assert model.buffer.n_own == 4


def test_learning_that_a_callback_ends_goes_on_without_a_gap() -> None:
    env = Clock()
    real_time = RealTime(env, 200.0)
    model = slowly(model_in(real_time), 0.02)
    model.learn(100, callback=StopTrainingOnMaxEpisodes(2, verbose=0))
    assert_all_is_stored(model, env, 14)
    assert not real_time.is_acting
    n_made = len(env.times)
    assert n_made == 14 + real_time.n_waiting
    # What was made meanwhile is taken first
    model.learn(20, reset_num_timesteps=False)
    assert_all_is_stored(model, env, 34)
    assert len(env.times) == 34


def test_observations_are_normalised_for_the_policy_and_raw_in_the_buffer() -> None:
    env = Clock()
    normalize = VecNormalize(RealTime(env, 100.0), norm_reward=False)
    model = model_in(normalize, TD3fD)
    model.learn(20)
    assert_all_is_stored(model, env, 20)
    assert normalize.obs_rms.count > 20  # type: ignore[attr-defined]


def test_other_wrappers_around_it_are_refused_before_anything_is_learned() -> None:
    env = VecFrameStack(RealTime(Clock(), 100.0), 2)
    model = model_in(env)
    with pytest.raises(
        ValueError, match="env: found VecFrameStack around RealTime, expected VecNormalize and VecTransposeImage"
    ):
        model.learn(10)


@pytest.mark.parametrize("options", [{"control_hz": 0.0}, {"control_hz": "10"}, {"control_hz": 10.0, "tolerance": -1.0}])
def test_a_rate_that_is_none_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{list(options)[-1]}: found .*, expected a number of"):
        RealTime(Clock(), **options)


def test_sb3s_algorithms_are_slowed_to_the_rate() -> None:
    env = Clock()
    real_time = RealTime(DummyVecEnv([lambda: env]), 100.0)
    TD3("MlpPolicy", real_time, learning_starts=100, policy_kwargs={"net_arch": [4]}).learn(20)
    assert real_time.punctuality.n_steps == 20
    # Two resets; after each the first step is due at once
    assert env.times[-1] - env.times[0] > 17 * 0.01 - 0.005


def test_a_training_state_cuts_the_episodes_that_run(tmp_path: Any) -> None:
    env = Clock()
    model = model_in(RealTime(env, 200.0))
    model.learn(17, callback=SaveTrainingState(tmp_path / "state"))
    again = Clock()
    resumed = DDPGfD.resume(tmp_path / "state", RealTime(again, 200.0))
    with pytest.warns(UserWarning, match="resume: the running episodes are cut, .* they are in real time"):
        resumed.learn(30)
    # Nothing is made again on a machine that nobody has put back
    assert (resumed.num_timesteps, resumed.buffer.n_own, len(again.times)) == (30, 30, 13)


def test_a_robot_that_is_not_repeatable_never_repeats_its_actions(tmp_path: Any) -> None:
    moves: list[float] = []

    class Robot(Clock):
        metadata: dict[str, Any] = {"repeatable": False}  # noqa: RUF012

        def step(self, action: np.ndarray) -> Any:
            moves.append(float(action[0]))
            return super().step(action)

    model = model_in(Robot())
    model.learn(17, callback=SaveTrainingState(tmp_path / "state"))
    resumed = DDPGfD.resume(tmp_path / "state", Robot())
    with pytest.warns(UserWarning, match="resume: the running episodes are cut"):
        resumed.learn(30)
    assert len(moves) == 30


def test_proposals_are_logged_from_the_thread() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        demonstrations = record(lambda observation: np.ones(1, dtype=np.float32), Clock(), 2)
    model = model_in(RealTime(Clock(), 200.0), TD3fD, demonstrations=demonstrations, proposals=True, pretrain_steps=5)
    logged: list[float] = []

    class Look(BaseCallback):
        def _on_step(self) -> bool:
            logged.extend(value for name, value in self.logger.name_to_value.items() if name == "rollout/clone_share")
            return True

    model.learn(10, callback=Look(), log_interval=100)
    assert 0.0 <= model._rollout_metrics.flush()["clone_share"] <= 1.0


@pytest.mark.parametrize(
    ("train_freq", "n_envs", "total", "most"),
    # A last rollout of 4 steps, which begins anywhere as late ones take more; both environments; whole episodes of 7 steps
    [(4, 1, 42, 45), (1, 2, 41, 42), ((1, "episode"), 1, 40, 42)],
)
def test_a_run_ends_with_its_last_rollout(train_freq: Any, n_envs: int, total: int, most: int) -> None:
    env = RealTime(DummyVecEnv([Clock] * n_envs), 400.0)
    model = slowly(model_in(env, train_freq=train_freq), 0.01).learn(total)
    assert total <= model.num_timesteps <= most
    # The robot makes no step that was not asked for
    assert model.buffer.n_own == env.punctuality.n_steps * n_envs == model.num_timesteps
