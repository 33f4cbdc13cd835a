"""No transition is invented or lost, whatever ends learning."""

import os
import random
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from small_models import own_rows
from stable_baselines3.common.callbacks import BaseCallback, StopTrainingOnMaxEpisodes

from sb3_pgfd import A2CfD, DDPGfD
from sb3_pgfd.common.stepping import DeferredSignals


class Diary(gym.Env):
    """Counts its steps; each observation is the number of the step, so that every transition is known. Notes all of them."""

    observation_space = spaces.Box(-1.0, 1e9, (1,), np.float64)
    action_space = spaces.Box(-1.0, 1.0, (1,))

    def __init__(self, length: int = 7):
        self.length, self.now, self.in_episode = length, 0, 0
        self.happened: list[tuple[float, float, float]] = []
        self.fails_at = -1

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.now += 1
        self.in_episode = 0
        return np.full(1, float(self.now)), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        before, self.now = self.now, self.now + 1
        if self.now == self.fails_at:
            raise RuntimeError("the simulator has failed")
        self.in_episode += 1
        reward = 0.5 * self.now
        self.happened.append((float(before), reward, float(self.now)))
        over = self.in_episode == self.length
        return np.full(1, float(self.now)), reward, over, False, {}


class EndAt(BaseCallback):
    """Ends learning in a step, in one of several ways."""

    def __init__(self, step: int, how: str):
        super().__init__()
        self.step, self.how = step, how

    def _on_step(self) -> bool:
        if self.n_calls < self.step:
            return True
        if self.how == "false":
            return False
        if self.how == "signal":
            signal.raise_signal(signal.SIGINT)
            return True
        raise {"raises": ValueError, "interrupt": KeyboardInterrupt}[self.how]("told to")


def learn_until(model: Any, env: Diary, n_steps: int, how: str, reset: bool) -> None:
    callback: BaseCallback | None = EndAt(n_steps, how)
    if how == "episodes":
        callback = StopTrainingOnMaxEpisodes(1 + n_steps % 3)
    elif how == "environment":
        callback, env.fails_at = None, env.now + n_steps
    ends: dict[str, type[BaseException]] = {
        "raises": ValueError,
        "interrupt": KeyboardInterrupt,
        "signal": KeyboardInterrupt,
        "environment": RuntimeError,
    }
    # The error of the environment may come later than learning ends
    with suppress(ends.get(how, StopIteration)):
        model.learn(60, callback=callback, reset_num_timesteps=reset)


# SB3_PGFD_INTERRUPTIONS=300 is what the README's table has
N_INTERRUPTIONS = int(os.environ.get("SB3_PGFD_INTERRUPTIONS", 50))
WAYS = ["false", "raises", "interrupt", "signal", "episodes", "environment"]


@pytest.mark.parametrize("how", WAYS)
def test_the_buffer_has_what_happened(how: str) -> None:
    env = Diary()
    model = DDPGfD("MlpPolicy", env, learning_starts=10**9, buffer_size=20_000, policy_kwargs={"net_arch": [4]}, device="cpu")
    draw = random.Random(1)
    for _ in range(N_INTERRUPTIONS):
        learn_until(model, env, draw.randint(1, 20), how, reset=draw.random() < 0.3)
    names = ("observations/", "rewards", "next_observations/")
    stored = np.stack([own_rows(model, name).ravel() for name in names], axis=1)
    assert len(env.happened) > 100
    np.testing.assert_array_equal(stored, np.array(env.happened))


class WatchedA2CfD(A2CfD):
    """Notes the rows of each whole rollout instead of learning from them."""

    rows: list[tuple[float, float]]

    def train(self) -> None:
        buffer = self.rollout_buffer
        self.rows += zip(buffer.observations[:, 0, 0].tolist(), buffer.rewards[:, 0].tolist(), strict=True)


@pytest.mark.parametrize("how", WAYS)
def test_rollouts_have_what_happened(how: str) -> None:
    env = Diary()
    model = WatchedA2CfD("MlpPolicy", env, n_steps=8, gamma=0.0, policy_kwargs={"net_arch": [4]}, device="cpu")
    model.rows = []
    draw = random.Random(2)
    for _ in range(N_INTERRUPTIONS):
        learn_until(model, env, draw.randint(1, 20), how, reset=draw.random() < 0.3)
    buffer = model.rollout_buffer
    if model._is_collecting:
        unfinished = slice(0, buffer.pos)
        model.rows += zip(buffer.observations[unfinished, 0, 0].tolist(), buffer.rewards[unfinished, 0].tolist(), strict=True)
    assert len(env.happened) > 100
    assert model.rows == [(before, reward) for before, reward, _ in env.happened]


def test_a_rollout_goes_on_after_an_episode_that_was_broken_off() -> None:
    """The last row before the break gets gamma V(s'), as after a time limit."""
    env = Diary(length=100)
    model = WatchedA2CfD("MlpPolicy", env, n_steps=8, gamma=0.5, policy_kwargs={"net_arch": [4]}, device="cpu")
    model.rows = []
    learn_until(model, env, 3, "false", reset=True)
    value = model.policy.predict_values(model.policy.obs_to_tensor(model._last_obs)[0]).item()  # type: ignore[arg-type]
    learn_until(model, env, 5, "false", reset=True)
    rewards = [reward for _, reward, _ in env.happened]
    assert model.rollout_buffer.rewards[:, 0].tolist() == pytest.approx(
        [*rewards[:2], rewards[2] + 0.5 * value, *rewards[3:8]]
    )


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Python's own handler of Ctrl-C: a shell lets commands in the background ignore it, and so would the model."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_waits_for_the_end_of_a_step(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    env = Diary()
    model = DDPGfD("MlpPolicy", env, learning_starts=10**9, policy_kwargs={"net_arch": [4]}, device="cpu")
    step: Callable[..., Any] = env.step

    def interrupted(action: np.ndarray) -> Any:
        result = step(action)
        if len(env.happened) == 5:
            signal.raise_signal(signal.SIGINT)
        return result

    monkeypatch.setattr(env, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.learn(100)
    assert model.buffer.n_own == len(env.happened) == 5
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert capsys.readouterr().err == (
        "SIGINT: learning ends after this step, or this evaluation; once more ends it at once\n"
    )


@pytest.mark.usefixtures("ctrl_c")
def test_a_signal_that_cannot_print_waits_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """The terminal may be gone, which is what SIGHUP says."""
    closed = open(os.devnull, "w")  # noqa: SIM115
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    with DeferredSignals([signal.SIGINT]) as signals:
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt, match="SIGINT"):
            signals.check()


@pytest.mark.usefixtures("ctrl_c")
def test_a_second_ctrl_c_ends_at_once() -> None:
    class Twice(BaseCallback):
        def _on_step(self) -> bool:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            raise AssertionError("went on")

    model = DDPGfD("MlpPolicy", Diary(), policy_kwargs={"net_arch": [4]}, device="cpu")
    with pytest.raises(KeyboardInterrupt):
        model.learn(100, callback=Twice())
    assert model.buffer.n_own == 1
