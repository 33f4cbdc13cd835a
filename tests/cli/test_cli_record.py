"""``sb3-pgfd demos record``."""

import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pygame
import pytest
from command_line import fails, misused, result, run
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from sb3_pgfd import Demonstrations

POLICIES = '''
import os

import numpy as np


def half(observation):
    return np.array([0.5], dtype=np.float32)


class Until:
    """The power fails in the second episode."""

    def __init__(self):
        self.n_steps = 0

    def __call__(self, observation):
        self.n_steps += 1
        if self.n_steps == 300 and os.environ.get("POWER") == "fails":
            raise KeyboardInterrupt
        return half(observation)


class Privileged:
    """A controller that sees the angle in the simulator, not the observation."""

    def __init__(self, env, gain=0.25):
        self.env, self.gain = env, gain

    def __call__(self, observation):
        return np.array([self.gain * np.sign(np.sin(self.env.unwrapped.state[0]))], dtype=np.float32)


number = 5
'''
PENDULUM = ("--env", "Pendulum-v1", "--no-progress")


@pytest.fixture
def policies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A file with functions, in the folder where the command is called."""
    monkeypatch.chdir(tmp_path)
    # It is added to by the command
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "my_policies.py").write_text(POLICIES)
    return "my_policies.py"


def box(path: str) -> np.ndarray:
    observations = Demonstrations.load(path).observations
    assert isinstance(observations, np.ndarray)
    return observations


def test_a_function_in_a_file_is_recorded(policies: str, capsys: pytest.CaptureFixture[str]):
    written = result(capsys, "record", "out", *PENDULUM, "--policy", f"{policies}:half", "--episodes", 2, "--seed", 3)
    demonstrations = Demonstrations.load("out.npz")
    assert written == {
        "path": "out.npz",
        "n_episodes": 2,
        "n_transitions": 400,
        "mean_return": demonstrations.episode_returns.mean(),
        "success_rate": None,
    }
    assert set(demonstrations.actions.ravel().tolist()) == {0.5}
    assert demonstrations.metadata["producer"] == "function my_policies.py:half"
    np.testing.assert_array_equal(box("out.npz")[0], gym.make("Pendulum-v1").reset(seed=3)[0])


def test_a_class_may_take_the_environment(policies: str):
    options = ("--policy", f"{policies}:Privileged", "--episodes", 1, "--max-episode-steps", 20)
    assert run("record", "out", *PENDULUM, *options) == 0
    demonstrations = Demonstrations.load("out.npz")
    assert len(demonstrations) == 20
    np.testing.assert_array_equal(demonstrations.actions.ravel(), 0.25 * np.sign(box("out.npz")[:, 1]))


def test_a_function_in_a_module_is_recorded_with_noise(policies: str):
    options = ("--policy", "my_policies:half", "--episodes", 1, "--noise", 0.1, "--env-kwargs", "g:9.0")
    assert run("record", "out.npz", *PENDULUM, *options) == 0
    demonstrations = Demonstrations.load("out.npz")
    assert demonstrations.metadata["env_kwargs"] == {"g": 9.0}
    expected = 0.5 + 0.1 * 2 * np.random.default_rng(0).standard_normal((200, 1))
    np.testing.assert_allclose(demonstrations.actions, expected, rtol=1e-6)


def test_what_was_done_is_said(policies: str, capsys: pytest.CaptureFixture[str]):
    assert run("record", "out.npz", "--env", "Pendulum-v1", "--policy", f"{policies}:half", "--episodes", 1) == 0
    output = capsys.readouterr()
    assert output.out.startswith("out.npz: 1 episode, 200 transitions, mean return -")
    # A bar of progress is for a terminal
    assert output.err == ""


def test_an_interrupted_recording_is_resumed(
    policies: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    command = ("record", "out.npz", *PENDULUM, "--policy", f"{policies}:Until", "--episodes", 3)
    monkeypatch.setenv("POWER", "fails")
    assert "stopped. Finished episodes are in out.npz.recording: continue with --resume" in fails(capsys, *command)
    assert Demonstrations.load("out.npz.recording").n_episodes == 1
    monkeypatch.setenv("POWER", "is back")
    assert "found an unfinished recording of 1 episodes, expected none: pass --resume" in fails(capsys, *command)
    assert "found a recording with seed=0, expected seed=1" in fails(capsys, *command, "--resume", "--seed", 1)
    assert run(*command, "--resume") == 0
    resumed = Demonstrations.load("out.npz")
    capsys.readouterr()
    assert "out.npz: found a file, expected none: --force (in Python overwrite=True)" in fails(capsys, *command, "--resume")
    assert run(*command, "--force") == 0
    whole = Demonstrations.load("out.npz")
    np.testing.assert_array_equal(resumed.actions, whole.actions)
    np.testing.assert_array_equal(resumed.rewards, whole.rewards)
    assert resumed.metadata == whole.metadata


def test_successes_alone_are_recorded_if_asked(policies: str, capsys: pytest.CaptureFixture[str]):
    options = ("--policy", f"{policies}:half", "--episodes", 1, "--successes-only", "--max-attempts", 2)
    expected = "successes_only found neither 'is_success' nor 'success' in the last info of 2 attempts"
    assert expected in fails(capsys, "record", "out.npz", *PENDULUM, *options)
    assert list(Path().glob("out*")) == []


def test_gymnasiums_expert_is_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "out.npz"
    written = result(capsys, "record", out, "--env", "LunarLander-v3", "--expert", "--episodes", 3)
    assert written["mean_return"] > 200
    assert Demonstrations.load(out).metadata["producer"] == "Gymnasium's scripted expert"
    message = fails(capsys, "record", tmp_path / "other", *PENDULUM, "--expert", "--episodes", 3)
    assert "expert: found Pendulum-v1, expected an environment that Gymnasium has an expert for: LunarLander" in message


def test_a_dataset_of_minari_is_recorded(
    policies: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    command = ("record", "minari:toy/half-v0", *PENDULUM, "--policy", f"{policies}:half", "--episodes", 2)
    assert result(capsys, *command)["path"] == str(tmp_path / "datasets" / "toy" / "half-v0")
    assert Demonstrations.load("minari:toy/half-v0").n_episodes == 2
    assert "found a folder, expected none" in fails(capsys, *command)
    assert list(Path().glob("toy*")) == []


def test_a_file_in_the_way_of_a_dataset_is_never_removed(
    policies: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    earlier = Demonstrations.load("Pendulum-v1").save("toy-half-v0.npz").read_bytes()
    command = ("record", "minari:toy/half-v0", *PENDULUM, "--policy", f"{policies}:half", "--episodes", 2, "--force")
    assert "toy-half-v0.npz: found a file, expected none" in fails(capsys, *command)
    assert Path("toy-half-v0.npz").read_bytes() == earlier


def test_a_model_is_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    model = PPO("MlpPolicy", "Pendulum-v1", policy_kwargs={"net_arch": [4]}, seed=0, device="cpu")
    model.save(tmp_path / "model")
    command = ("record", tmp_path / "out", *PENDULUM, "--model", tmp_path / "model.zip", "--episodes", 1)
    assert run(*command, "--algo", "ppo") == 0
    found = Demonstrations.load(tmp_path / "out.npz")
    expected = model.predict(box(str(tmp_path / "out.npz")), deterministic=True)[0]
    np.testing.assert_allclose(found.actions, expected, rtol=1e-4, atol=1e-6)
    assert found.metadata["producer"] == "ppo model model.zip"
    capsys.readouterr()
    assert "--algo: found none, expected the name of the model's algorithm" in fails(capsys, *command)
    assert "--algo: found 'pgfd', expected one of a2c, a2cfd" in fails(capsys, *command, "--algo", "pgfd")
    assert "found a file that SAC cannot load" in fails(capsys, *command, "--algo", "sac")
    other = fails(capsys, *command, "--algo", "ppo", "--env", "CartPole-v1")
    assert "model.zip: the environment's observation: found shape (4,) per step, expected (3,)" in other
    other = fails(capsys, *command, "--algo", "ppo", "--env", "CartPole-v1", "--model", tmp_path / "none.zip")
    assert "none.zip: found no such file, expected a model saved by SB3" in other


def test_stochastic_actions_are_drawn_with_the_seed(tmp_path: Path):
    model = PPO("MlpPolicy", "Pendulum-v1", policy_kwargs={"net_arch": [4]}, seed=0, device="cpu")
    model.save(tmp_path / "model")
    command = (*PENDULUM, "--model", tmp_path / "model.zip", "--algo", "ppo", "--episodes", 1, "--stochastic")
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        assert run("record", tmp_path / name, *command, "--seed", seed) == 0
    first, same, other = (Demonstrations.load(tmp_path / f"{name}.npz").actions for name in "abc")
    np.testing.assert_array_equal(first, same)
    assert (first != other).any()
    assert len(np.unique(first)) > 50


def test_statistics_are_used_if_they_are_given(tmp_path: Path):
    env = VecNormalize(DummyVecEnv([lambda: gym.make("Pendulum-v1")]))
    model = PPO("MlpPolicy", env, policy_kwargs={"net_arch": [4]}, seed=0, device="cpu", n_steps=64).learn(64)
    model.save(tmp_path / "model")
    env.save(str(tmp_path / "statistics.pkl"))
    options = ("--model", tmp_path / "model.zip", "--algo", "ppo", "--vecnormalize", tmp_path / "statistics.pkl")
    assert run("record", tmp_path / "out.npz", *PENDULUM, *options, "--episodes", 1) == 0
    raw = box(str(tmp_path / "out.npz"))
    expected = model.predict(env.normalize_obs(raw), deterministic=True)[0]
    np.testing.assert_allclose(Demonstrations.load(tmp_path / "out.npz").actions, expected, rtol=1e-4, atol=1e-5)
    # cos^2 + sin^2 = 1: not normalised
    np.testing.assert_allclose(raw[:, 0] ** 2 + raw[:, 1] ** 2, 1, rtol=1e-5)


class Keyboard(gym.Env):
    """Three steps; somebody presses the space bar when an episode begins, and the right arrow."""

    def __init__(self, render_mode: str | None = None):
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": 500}
        self.render_mode = render_mode
        self.observation_space = spaces.Box(0, 9, (1,), np.float32)
        self.action_space = spaces.Box(-2, 2, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.n_steps = 0
        for key in (pygame.K_SPACE, pygame.K_d):
            pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=key))
        return np.zeros(1, dtype=np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.n_steps += 1
        return np.full(1, self.n_steps, dtype=np.float32), 1.0, False, self.n_steps == 3, {}

    def render(self) -> Any:
        return np.zeros((4, 4, 3), dtype=np.uint8)


def test_a_person_is_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setitem(gym.registry, "Keyboard-v0", EnvSpec("Keyboard-v0", entry_point=lambda **options: Keyboard(**options)))
    options = ("--keyboard", "--episodes", 2, "--keys", "a,d", "--scale", 0.5, "--fps", 400)
    written = result(capsys, "record", tmp_path / "out.npz", "--env", "Keyboard-v0", *options)
    assert (written["n_episodes"], written["n_transitions"]) == (2, 6)
    assert Demonstrations.load(tmp_path / "out.npz").actions.ravel().tolist() == [1.0] * 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--policy", "half", "--episodes", "1"], "--policy: found 'half', expected module:function or file.py:function"),
        (["--policy", "none.py:half", "--episodes", "1"], "none.py: found no such file, expected Python code"),
        (["--policy", "my_policies.py:number", "--episodes", "1"], "found no function 'number' in my_policies.py, expected"),
        (["--policy", "my_policies.py:half"], "--episodes: found none, expected the number of episodes to keep"),
        (["--policy", "my_policies.py:half", "--episodes", "1", "--fps", "9"], "--fps: found it with --policy, expected --k"),
        (["--keyboard", "--noise", "0.1"], "--noise: found it with --keyboard, expected --model or --zoo or --policy"),
        (["--expert", "--gym-packages", "nowhere", "--episodes", "1"], "No module named 'nowhere'"),
    ],
)
def test_what_cannot_be_recorded_is_refused(
    options: list[str], message: str, policies: str, capsys: pytest.CaptureFixture[str]
):
    assert message in fails(capsys, "record", "out", *PENDULUM, *options)
    assert [path.name for path in Path().iterdir() if path.name != "__pycache__"] == ["my_policies.py"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "one of the arguments --model --zoo --policy --expert --keyboard is required"),
        (["--keyboard", "--keys", "left"], "found 'left', expected two keys with a comma between: left,right"),
    ],
)
def test_a_command_that_makes_no_sense_is_refused(options: list[str], message: str, capsys: pytest.CaptureFixture[str]):
    assert message in misused(capsys, "record", "out", *PENDULUM, *options)
