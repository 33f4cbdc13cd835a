"""What a monitor that does not know the environment writes of its successes."""

import csv
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from stable_baselines3.common.atari_wrappers import EpisodicLifeEnv
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor, load_results
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

from sb3_pgfd import DDPGfD
from sb3_pgfd.wrappers import ReportSuccess, monitor_successes, tell_monitor
from sb3_pgfd.zoo.experiment_manager import PgfdExperimentManager

Info = dict[str, Any]


class Teller(gym.Env):
    """Episodes of two steps with these infos, one after the other, again and again."""

    observation_space = spaces.Box(-1.0, 1.0, (1,))
    action_space = spaces.Box(-1.0, 1.0, (1,))

    def __init__(self, infos: list[Info]):
        self.infos, self.time = infos, 0

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[np.ndarray, Info]:
        super().reset(seed=seed)
        return np.zeros(1, dtype=np.float32), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, Info]:
        info = dict(self.infos[self.time % len(self.infos)])
        self.time += 1
        return np.zeros(1, dtype=np.float32), 0.5, False, self.time % 2 == 0, info


def play(env: gym.Env, n_steps: int = 4) -> list[Info]:
    env.reset(seed=0)
    infos = []
    for _ in range(n_steps):
        *_, truncated, info = env.step(np.zeros(1))
        infos.append(info)
        if truncated:
            env.reset()
    env.close()
    return infos


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "0.monitor.csv").open() as file:
        assert file.readline().startswith('#{"t_start": ')
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("infos", "column"),
    [
        ([{}, {"is_success": True}, {}, {"is_success": False}], ["1.0", "0.0"]),
        ([{"success": np.True_}, {"success": np.False_}, {}, {"success": np.True_}], ["0.0", "1.0"]),
        # The first episode that ends decides on the columns
        ([{}, {"is_success": 1.0}, {}, {}], ["1.0", ""]),
        ([{}, {}, {}, {"is_success": 1.0}], None),
        ([{"is_success": True}, {}], None),
    ],
)
def test_the_log_has_the_column_if_the_environment_tells(infos: list[Info], column: Any, tmp_path: Path) -> None:
    seen = play(monitor_successes(Monitor(Teller(infos), str(tmp_path / "0"))))
    log = rows(tmp_path)
    assert [(float(row["r"]), row["l"]) for row in log] == [(1.0, "2"), (1.0, "2")]
    assert list(log[0]) == ["r", "l", "t"] + (["is_success"] if column else [])
    if column:
        assert [row["is_success"] for row in log] == column
        assert len(load_results(str(tmp_path))) == 2
    for index in (1, 3):
        told = infos[index % len(infos)]
        expected = told.get("is_success", told.get("success"))
        assert seen[index].get("is_success") == expected == seen[index]["episode"].get("is_success")
    # Nothing is said in the middle of an episode that the environment did not say
    assert all(seen[index] == infos[index % len(infos)] for index in (0, 2))


def test_an_episode_that_a_wrapper_around_ends_is_one(tmp_path: Path) -> None:
    cut = partial(gym.wrappers.TimeLimit, max_episode_steps=1)
    # The environment itself would go on for two steps
    seen = play(monitor_successes(Monitor(Teller([{"is_success": True}, {}]), str(tmp_path / "0")), then=cut))
    log = [(float(row["r"]), row["l"], row["is_success"]) for row in rows(tmp_path)]
    assert log == [(0.5, "1", "1.0"), (0.5, "1", "")] * 2
    assert [info["episode"]["l"] for info in seen] == [1, 1, 1, 1]
    # It would have waited for ever
    env = monitor_successes(Monitor(Teller([{}])), then=cut)
    model = DDPGfD("MlpPolicy", env, buffer_size=10, policy_kwargs={"net_arch": [4]})
    assert evaluate_policy(model, env, n_eval_episodes=3)[0] == 0.5


class Lives(Teller):
    """A life is lost after the first of two steps."""

    ale = property(lambda self: SimpleNamespace(lives=lambda: 3 - self.time % 2))


def test_lives_of_a_game_are_no_episodes(tmp_path: Path) -> None:
    env = monitor_successes(Monitor(Lives([{}]), str(tmp_path / "0")), then=EpisodicLifeEnv)
    env.reset(seed=0)
    for _ in range(6):
        # It ends with the life, and its reset makes the second step of the game
        assert env.step(0)[2]
        env.reset()
    env.close()
    assert [row["l"] for row in rows(tmp_path)] == ["2"] * 6


def test_a_monitor_with_columns_of_its_own_is_told_too(tmp_path: Path) -> None:
    monitor = Monitor(Teller([{"speed": 3.0}]), str(tmp_path / "0"), info_keywords=("speed",))
    seen = play(tell_monitor(monitor, partial(gym.wrappers.TimeLimit, max_episode_steps=1)))
    assert [info["episode"]["speed"] for info in seen] == [3.0] * 4
    assert [(row["l"], row["speed"]) for row in rows(tmp_path)] == [("1", "3.0")] * 4
    assert monitor.get_episode_lengths() == [1] * 4


def test_without_a_file_there_is_none(tmp_path: Path) -> None:
    seen = play(monitor_successes(Monitor(Teller([{"success": True}]))))
    assert seen[1]["episode"]["r"] == 1.0
    assert seen[1]["is_success"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("vec_env_cls", [DummyVecEnv, SubprocVecEnv])
def test_a_wrapper_goes_around_it(vec_env_cls: Any, tmp_path: Path) -> None:
    env = make_vec_env(
        partial(Teller, [{"success": True}]),
        n_envs=1,
        monitor_dir=str(tmp_path),
        wrapper_class=partial(monitor_successes, then=ReportSuccess),
        vec_env_cls=vec_env_cls,
    )
    assert env.env_is_wrapped(Monitor) == env.env_is_wrapped(ReportSuccess) == [True]
    env.reset()
    for _ in range(2):
        *_, infos = env.step(np.zeros((1, 1)))
    env.close()
    assert infos[0]["is_success"]
    assert infos[0]["episode"]["is_success"] == 1.0
    assert [row["is_success"] for row in rows(tmp_path)] == ["1.0"]


def test_the_manager_watches_any_environment(
    tmp_path: Path, make_manager: Callable[..., PgfdExperimentManager], entry: dict[str, Any], monkeypatch: Any
) -> None:
    spec = EnvSpec("Teller-v0", entry_point=lambda **_: Teller([{"success": True}]), max_episode_steps=9)
    monkeypatch.setitem(gym.registry, "Teller-v0", spec)
    entry = {**entry, "env_wrapper": "gymnasium.wrappers.TimeAwareObservation"}
    manager = make_manager(tmp_path, entry, env_id="Teller-v0")
    experiment = manager.setup_experiment()
    assert experiment is not None
    model = experiment[0]
    assert isinstance(model, DDPGfD)
    successes: list[Any] = []
    evaluate_policy(model, manager.create_envs(1, eval_env=True), 2, callback=lambda here, _: successes.append(here["info"]))
    # Of the last step of each
    assert [info.get("is_success") for info in successes] == [None, True, None, True]
    # Who names columns knows the environment
    named = make_manager(tmp_path, {**entry, "monitor_kwargs": "dict(info_keywords=('success',))"}, env_id="Teller-v0")
    assert named.setup_experiment() is not None
    env = named.create_envs(1)
    env.reset()
    for _ in range(2):
        *_, infos = env.step(np.zeros((1, 1)))
    env.close()
    assert infos[0]["episode"]["success"] is True
    assert "is_success" not in infos[0]
    assert not manager.is_robotics_env("Teller-v0")
