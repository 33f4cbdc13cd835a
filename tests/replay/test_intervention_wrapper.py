"""A controller takes over and gives back while a model learns: what is executed, stored and logged."""

import re
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from clockwork import Clockwork
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_buffer import PickedRows, as_expected
from small_models import demo_rows, own_rows, small_model
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_pgfd import DDPGfD, TD3fD
from sb3_pgfd.callbacks import ProgressLog
from sb3_pgfd.plotting import run_figure
from sb3_pgfd.replay.storage import Origin
from sb3_pgfd.wrappers import InterventionWrapper, Person, RealTime, SuccessReward  # noqa: F401  # where users find them

TAKEN = 1.5
SPACE = spaces.Box(-2.0, 2.0, (1,))


class Watched(Clockwork):
    """Notes what is executed."""

    def __init__(self, rewards: list[float]):
        super().__init__(rewards, action_space=SPACE)
        self.executed: list[float] = []

    def step(self, action: Any) -> Any:
        self.executed.append(float(action[0]))
        # As some environments do
        action *= 0
        return super().step(action)


class TakesOver:
    """:param line: "x" for each step of an episode in which it takes over"""

    def __init__(self, line: str):
        self.line = line
        self.n_episodes, self.n_closed = 0, 0

    def reset(self, observation: np.ndarray) -> None:
        assert observation == [0.0]
        self.n_episodes += 1

    def __call__(self, observation: np.ndarray, action: np.ndarray) -> Any:
        assert SPACE.contains(action)
        return [TAKEN] if self.line[int(observation[0])] == "x" else None

    def close(self) -> None:
        self.n_closed += 1


def learn(line: str, rewards: list[float], n_episodes: int = 1, **options: Any) -> tuple[DDPGfD, Watched]:
    env = Watched(rewards)
    model = small_model(
        DDPGfD,
        env=InterventionWrapper(env, TakesOver(line)),
        replay_buffer_class=PickedRows,
        gamma=0.5,
        n_steps=3,
        pretrain_steps=0,
        learning_starts=0,
        action_noise=0.3,
        **options,
    )
    model.learn(n_episodes * len(rewards), log_interval=1)
    return model, env


def naive_windows(rewards: list[float], first: int, end: int) -> list[tuple[float, float]]:
    """:return: R_n over at most three steps and the discount of the state behind, of each step from first to end"""
    found = []
    for t in range(first, end):
        steps = range(t, min(t + 3, end))
        found.append((sum(0.5 ** (i - t) * rewards[i] for i in steps), 0.5 ** len(steps)))
    return found


@settings(max_examples=25, deadline=None)
@given(line=st.text("x.", min_size=1, max_size=9), seed=st.integers(0, 99))
def test_windows_across_take_over_and_give_back_are_those_of_the_naive_model(line: str, seed: int) -> None:
    rewards = np.random.default_rng(seed).integers(-9, 9, len(line)).astype(float).tolist()
    model, env = learn(line, rewards)
    buffer = model.buffer
    assert isinstance(buffer, PickedRows)
    # The executed action, in [-1, 1]
    np.testing.assert_allclose(own_rows(model, "actions")[:, 0], np.array(env.executed) / 2.0, atol=1e-6)
    assert [executed == TAKEN for executed in env.executed] == [sign == "x" for sign in line]
    parts = [(m.start(), m.end()) for m in re.finditer("x+", line)]
    expected = [row for first, end in parts for row in naive_windows(rewards, first, end)]
    # In the ring a window goes on across take-over and give-back, because the executed actions are one trajectory
    expected += naive_windows(rewards, 0, len(line))
    rows = as_expected(buffer.read(range(buffer.n_filled)))
    assert [(row.n_step_return, row.discount) for row in rows] == expected
    assert buffer.demonstrations.origins[: buffer.n_demonstrations].tolist() == [Origin.INTERVENTION] * line.count("x")
    assert demo_rows(model, "actions").flatten().tolist() == [TAKEN / 2.0] * line.count("x")


def test_the_rate_is_logged_and_drawn(tmp_path: Any) -> None:
    env = Watched([0.0] * 4)
    model = small_model(TD3fD, env=InterventionWrapper(env, TakesOver("x.xx")), pretrain_steps=0)
    model.learn(8, callback=ProgressLog(str(tmp_path)), log_interval=2)
    header, row = (tmp_path / "progress.csv").read_text().splitlines()
    assert float(dict(zip(header.split(","), row.split(","), strict=True))["rollout/intervention_rate"]) == 0.75
    labels = [axis.get_ylabel() for axis in run_figure(tmp_path).axes]
    assert labels[-1] == "interventions\n(share of steps)"
    # Without somebody who could take over there is no rate
    model.set_env(Watched([0.0] * 4))
    model.learn(8, callback=ProgressLog(str(tmp_path / "other")), log_interval=2)
    assert "intervention" not in (tmp_path / "other" / "progress.csv").read_text()
    assert len(run_figure(tmp_path / "other").axes) == len(labels) - 1


def test_the_controller_is_told_of_episodes_and_closed_with_the_environment() -> None:
    controller = TakesOver("..")
    model = small_model(DDPGfD, env=InterventionWrapper(Watched([0.0] * 2), controller), pretrain_steps=0)
    model.learn(4)
    assert model.env is not None
    model.env.close()
    assert (controller.n_episodes, controller.n_closed) == (3, 1)


@pytest.mark.parametrize("action", [[0.1, 0.2], 0.1, [np.nan]])
def test_what_is_no_action_is_refused_before_it_is_executed(action: Any) -> None:
    env = InterventionWrapper(Watched([0.0]), lambda observation, policy: action)
    env.reset()
    with pytest.raises(ValueError, match=r"controller: found the action .* of shape .*, expected one of Box"):
        env.step(np.zeros(1, dtype=np.float32))


def test_an_action_beyond_the_bounds_is_executed_at_the_bound() -> None:
    inner = Watched([0.0])
    env = InterventionWrapper(inner, lambda observation, policy: [9.0])
    env.reset()
    info = env.step(np.zeros(1, dtype=np.float32))[-1]
    # Whatever the environment does to its action
    assert (inner.executed, info["intervene_action"].tolist()) == ([2.0], [2.0])


def test_a_controller_can_end_an_episode() -> None:
    class GivesUp(TakesOver):
        ends_episode = True

    env = InterventionWrapper(Watched([0.0] * 3), GivesUp("..."))
    env.reset()
    assert env.step(np.zeros(1, dtype=np.float32))[2:4] == (False, True)


def test_a_judge_gives_the_reward_and_ends_the_episode() -> None:
    env: gym.Env = SuccessReward(Clockwork([5.0] * 9), lambda observation, info: observation[0] == 2.0)
    env.reset()
    results = [env.step(np.zeros(1, dtype=np.float32)) for _ in range(2)]
    assert [(reward, terminated, info) for _, reward, terminated, _, info in results] == [
        (0.0, False, {"is_success": False}),
        (1.0, True, {"is_success": True}),
    ]


class NamesItWhenItActs(gym.Wrapper):
    """:param env: Environment in which somebody acts in every fourth step, and nothing is said otherwise"""

    n_steps = 0

    def step(self, action: Any) -> Any:
        *result, info = self.env.step(action)
        self.n_steps += 1
        return (*result, {**info, "intervene_action": np.zeros(1, dtype=np.float32)} if self.n_steps % 4 == 0 else info)


@pytest.mark.parametrize("first", [True, False])
def test_the_rate_counts_steps_in_which_nothing_is_said(first: bool) -> None:
    makers: list[Any] = [lambda: NamesItWhenItActs(gym.make("PointToGoal-v0")), lambda: gym.make("PointToGoal-v0")]
    model = small_model(TD3fD, env=DummyVecEnv(makers if first else makers[::-1]), pretrain_steps=0)
    model.learn(2 * 12)
    # Of twelve steps of both, from the first one on in which somebody acted: 3 of 18
    assert model._rollout_metrics.flush()["intervention_rate"] == pytest.approx(3 / 18)


def test_a_discrete_environment_gets_a_number() -> None:
    """FrozenLake looks its actions up in a table."""
    env = InterventionWrapper(gym.make("FrozenLake-v1"), lambda observation, action: 1)
    env.reset(seed=0)
    assert env.step(0)[-1]["intervene_action"] == 1
