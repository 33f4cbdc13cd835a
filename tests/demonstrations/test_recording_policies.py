"""Policies that remember, and recordings to a file."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from sb3_contrib import RecurrentPPO
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv
from toy_dataset import assert_same, box
from toy_walk import Walk, half

from sb3_pgfd import Demonstrations, DemonstrationsError
from sb3_pgfd.demonstrations import record

FIELDS = ("observations", "actions", "rewards", "next_observations", "terminated", "truncated", "episode_lengths")


def assert_same_demonstrations(found: Demonstrations, expected: Demonstrations) -> None:
    for name in (*FIELDS, "episode_info"):
        assert_same(getattr(found, name), getattr(expected, name))
    assert found.metadata == expected.metadata


class Interrupted(Walk):
    """
    The power fails in the third step of an attempt.

    :param attempt: Which, from 1; 0: never
    """

    def __init__(self, attempt: int):
        super().__init__(success_key="success")
        self.attempt = attempt

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if self.n_resets == self.attempt and self.observation[1] == 2:
            raise KeyboardInterrupt
        return super().step(action)

    def info(self, over: bool) -> dict[str, Any]:
        return {"success": over and self.observation[0] % 2 == 0}


@pytest.mark.parametrize("successes_only", [False, True])
@pytest.mark.parametrize("attempt", [1, 2, 5])
def test_a_resumed_recording_is_what_it_would_have_been(attempt: int, successes_only: bool, tmp_path: Path):
    options: dict[str, Any] = {"seed": 4, "action_noise": 0.3, "successes_only": successes_only}
    whole = record(half, Interrupted(0), 5, **options, producer="a test")
    with pytest.raises(KeyboardInterrupt):
        record(half, Interrupted(attempt), 5, **options, path=tmp_path / "a.npz", producer="a test")
    assert not (tmp_path / "a.npz").exists()
    resumed = record(half, Interrupted(0), 5, **options, path=tmp_path / "a.npz", resume=True, producer="a test")
    assert_same_demonstrations(resumed, whole)
    assert_same_demonstrations(Demonstrations.load(tmp_path / "a.npz"), whole)


def test_more_episodes_are_recorded_than_were_wanted_before(tmp_path: Path):
    path = tmp_path / "a.npz"
    with pytest.raises(KeyboardInterrupt):
        record(half, Interrupted(3), 9, path=path, producer="a test")
    assert Demonstrations.load(tmp_path / "a.npz.recording").n_episodes == 2
    with pytest.raises(DemonstrationsError, match=r"record: found 2 episodes in .*a.npz.recording, expected at most 1"):
        record(half, Interrupted(0), 1, path=path, producer="a test", resume=True)
    # As many as there are: nothing is left to record
    assert record(half, Interrupted(1), 2, path=path, producer="a test", resume=True).n_episodes == 2


def test_too_few_successes_are_kept_for_later(tmp_path: Path):
    # Every second seed, from the first one on, is a success
    options: dict[str, Any] = {"successes_only": True, "path": tmp_path / "a.npz"}
    expected = r"record: found 3 successes in 6 attempts, expected 4. They are in .*a.npz.recording: resume with more attempts"
    with pytest.raises(DemonstrationsError, match=expected):
        record(half, Interrupted(0), 4, max_attempts=6, **options)
    resumed = record(half, Interrupted(0), 4, max_attempts=7, **options, resume=True)
    assert resumed.metadata["n_attempts"] == 7
    assert resumed.episode_info["seed"].tolist() == [0, 2, 4, 6]


@pytest.mark.parametrize("change", [{"seed": 1}, {"action_noise": 0.1}, {"deterministic": False}])
def test_a_recording_is_resumed_as_it_was_begun(change: dict[str, Any], tmp_path: Path):
    options: dict[str, Any] = {"producer": "a test", "path": tmp_path / "a.npz"}
    with pytest.raises(KeyboardInterrupt):
        record(half, Interrupted(3), 9, **options)
    (name,) = change
    with pytest.raises(DemonstrationsError, match=f"found a recording with {name}=.*, expected {name}="):
        record(half, Interrupted(0), 9, **{**options, **change}, resume=True)


def test_numpy_numbers_are_the_same_settings(tmp_path: Path):
    options: dict[str, Any] = {"producer": "a test", "path": tmp_path / "a.npz"}
    with pytest.raises(KeyboardInterrupt):
        record(half, Interrupted(3), 9, seed=np.int64(4), action_noise=np.float32(0.5), **options)
    resumed = record(half, Interrupted(0), 3, seed=4, action_noise=0.5, resume=True, **options)
    assert resumed.episode_info["seed"].tolist() == [4, 5, 6]


def test_an_existing_file_is_refused_before_the_first_step(tmp_path: Path):
    path = record(half, Walk(), 1, path=tmp_path / "a").save(tmp_path / "b.npz")
    with pytest.raises(FileExistsError, match=r"b.npz: found a file, expected none"):
        record(half, Interrupted(1), 1, path=path)
    assert record(half, Walk(), 2, path=path, overwrite=True).n_episodes == 2
    assert Demonstrations.load(path).n_episodes == 2
    assert sorted(item.name for item in tmp_path.iterdir()) == ["a.npz", "b.npz"]


def test_a_progress_bar_counts_the_episodes(capsys: pytest.CaptureFixture[str]):
    record(half, Walk(success_key="success"), 2, successes_only=True, progress_bar=True)
    output = capsys.readouterr()
    assert "Recording" in output.out + output.err
    assert "2/2" in output.out + output.err


def test_a_policy_is_reset_when_an_episode_begins():
    class CountsSteps:
        def reset(self) -> None:
            self.n_steps = 0

        def __call__(self, observation: Any) -> float:
            self.n_steps += 1
            return 0.25 * self.n_steps

    assert record(CountsSteps(), Walk(), 2).actions[:, 0].tolist() == [0.25, 0.5, 0.75] * 2


class Adds:
    """Its state is the sum of what it has seen in this episode; its action tells it."""

    def predict(
        self, observation: np.ndarray, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[Any, Any]:
        assert episode_start.shape == (1,)
        assert episode_start[0] == (state is None)
        total = (0.0 if state is None else state) + observation[1]
        return np.array([total / 4]), total


def test_a_policy_gets_the_state_back_that_it_returned():
    # 0, 0 + 1, 0 + 1 + 2
    assert record(Adds(), Walk(), 2).actions[:, 0].tolist() == [0, 0.25, 0.75] * 2


def test_a_recurrent_model_remembers_its_episode():
    policy_kwargs = {"lstm_hidden_size": 4, "net_arch": [4]}
    model = RecurrentPPO("MlpLstmPolicy", "CartPole-v1", n_steps=2, batch_size=2, policy_kwargs=policy_kwargs, seed=1)
    demonstrations = record(model, "CartPole-v1", 3, seed=5)
    # The actions of a model that remembers nothing, to see that there is a difference
    memories: dict[bool, list[Any]] = {True: [], False: []}
    for remembers, actions in memories.items():
        starts = set(demonstrations.episode_starts.tolist())
        state: Any = None
        for row, observation in enumerate(box(demonstrations.observations)):
            begins = row in starts or not remembers
            action, state = model.predict(observation, state, np.array([begins]), deterministic=True)
            actions.append(action)
    np.testing.assert_array_equal(demonstrations.actions, memories[True])
    assert (demonstrations.actions != memories[False]).any()


def test_an_environment_made_by_its_id_is_closed(monkeypatch: pytest.MonkeyPatch):
    closed = []
    monkeypatch.setattr("gymnasium.envs.classic_control.PendulumEnv.close", lambda env: closed.append(env), raising=False)

    def breaks(observation: Any) -> Any:
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        record(breaks, "Pendulum-v1", 1)
    assert len(closed) == 1
    record(half, gym.make("Pendulum-v1"), 1)
    assert len(closed) == 1


class Switches(gym.Env):
    """Asks for actions as its table needs them: a number that can be looked up, or whole numbers."""

    observation_space = spaces.Box(0, 9, (1,), np.float32)

    def __init__(self, action_space: spaces.Space):
        self.action_space, self.effects = action_space, dict.fromkeys(range(3), 1.0)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        reward = self.effects[action] if isinstance(self.action_space, spaces.Discrete) else float(action.sum())
        return np.ones(1, np.float32), reward, True, False, {}


@pytest.mark.parametrize("space", [spaces.Discrete(3), spaces.MultiBinary(2), spaces.MultiDiscrete([2, 3])])
def test_what_a_model_gives_is_handed_over_as_the_space_has_it(space: spaces.Space):
    model = PPO("MlpPolicy", DummyVecEnv([lambda: Switches(space)]), n_steps=8, batch_size=8)
    recorded = record(model, Switches(space), 1)
    assert recorded.actions.dtype == space.dtype
    recorded.check_spaces(Switches.observation_space, space)


def test_a_seed_below_zero_is_refused():
    with pytest.raises(DemonstrationsError, match="found seed=-1, expected a whole number >= 0"):
        record(half, Walk(), 1, seed=-1)
