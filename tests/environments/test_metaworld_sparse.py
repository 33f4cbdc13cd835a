"""Meta-World's tasks with a sparse reward: what they promise to a learner."""

import re
import sys
from collections.abc import Callable, Iterator

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils import env_checker
from stable_baselines3.common import env_checker as sb3_env_checker

from demos.experts.metaworld import shipped_policy
from sb3_pgfd.cli import main
from sb3_pgfd.environments import SparseMetaWorld, register
from sb3_pgfd.environments.metaworld import TASKS
from sb3_pgfd.utils.files import install
from sb3_pgfd.zoo.command_line import register_environments, require_installed

register()
ENV_IDS = sorted(TASKS)


@pytest.fixture(scope="module", params=ENV_IDS)
def env(request: pytest.FixtureRequest) -> Iterator[gym.Env]:
    made = gym.make(request.param)
    yield made
    made.close()


def trajectory(env: gym.Env, seed: int, n_steps: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    observations = [env.reset(seed=seed)[0]]
    observations += [env.step(rng.uniform(-1, 1, 4).astype(np.float32))[0] for _ in range(n_steps)]
    return np.array(observations)


def test_the_seed_decides_the_whole_episode_whatever_came_before(env: gym.Env):
    assert env.spec is not None
    with gym.make(env.spec.id) as fresh:
        expected = trajectory(fresh, 3, 30)
    trajectory(env, 4, 25)
    np.testing.assert_array_equal(trajectory(env, 3, 30), expected)
    # And what comes after it
    following = env.reset()[0]
    trajectory(env, 3, 10)
    np.testing.assert_array_equal(env.reset()[0], following)
    assert not np.array_equal(following, expected[0])


def test_each_seed_has_another_goal(env: gym.Env):
    goals = {tuple(env.reset(seed=seed)[0][-3:].tolist()) for seed in range(8)}
    assert len(goals) == 8
    assert all(0.4 < goal[1] < 1.0 for goal in goals)


def test_the_peg_lies_elsewhere_too():
    with gym.make("SparsePegInsertSide-v3") as env:
        pegs = np.array([env.reset(seed=seed)[0][4:7] for seed in range(8)])
    assert np.ptp(pegs[:, :2], axis=0).min() > 0.05


def test_nothing_but_success_is_rewarded_and_it_ends_the_episode(env: gym.Env):
    expert = shipped_policy(env)
    observation, _ = env.reset(seed=10_001)
    rewards, over = [], False
    while not over:
        observation, reward, terminated, truncated, info = env.step(expert(observation))
        assert env.observation_space.contains(observation)
        assert info["is_success"] is terminated
        rewards.append(float(reward))
        over = terminated or truncated
    assert terminated
    assert rewards == [0.0] * (len(rewards) - 1) + [1.0]
    assert 20 < len(rewards) < 200


def test_it_is_over_after_200_steps(env: gym.Env):
    env.reset(seed=0)
    ends = [env.step(np.zeros(4, dtype=np.float32))[1:4] for _ in range(200)]
    assert ends == [(0.0, False, False)] * 199 + [(0.0, False, True)]


@pytest.mark.filterwarnings("error", "ignore:.*is probably too:UserWarning")
@pytest.mark.parametrize("check", [env_checker.check_env, sb3_env_checker.check_env], ids=["gymnasium", "sb3"])
def test_it_is_an_environment_as_others_want_it(check: Callable[..., None]):
    check(SparseMetaWorld("peg-insert-side-v3"), skip_render_check=True)


def test_observations_are_single_precision_without_bounds(env: gym.Env):
    assert env.observation_space == gym.spaces.Box(-np.inf, np.inf, (39,), np.float32)


def test_the_expert_s_actions_are_within_the_bounds(env: gym.Env):
    expert = shipped_policy(env)
    for seed in range(3):
        assert env.action_space.contains(expert(env.reset(seed=seed)[0]))


def test_any_other_task_can_be_made():
    with gym.make(ENV_IDS[0], task_name="reach-v3", max_episode_steps=7) as env:
        env.reset(seed=0)
        assert [env.step(np.zeros(4, dtype=np.float32))[3] for _ in range(7)] == [False] * 6 + [True]
    with pytest.raises(ValueError, match=r"task_name: found 'reach', expected one of .*reach-v3"):
        SparseMetaWorld("reach")


def test_it_is_drawn():
    with gym.make(ENV_IDS[0], render_mode="rgb_array", width=64, height=48) as env:
        env.reset(seed=0)
        picture = env.render()
    assert isinstance(picture, np.ndarray)
    assert picture.shape == (48, 64, 3)
    assert picture.std() > 0


@pytest.fixture
def _without_metaworld(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "metaworld"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "metaworld", None)


@pytest.mark.usefixtures("_without_metaworld")
def test_a_missing_metaworld_is_named():
    with pytest.raises(ImportError, match=re.escape(install("benchmark"))):
        gym.make(ENV_IDS[0])


@pytest.mark.usefixtures("_without_metaworld")
def test_the_commands_name_it_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    for env_id in ENV_IDS:
        monkeypatch.delitem(gym.registry, env_id)
    register_environments()
    assert not set(ENV_IDS) & set(gym.registry)
    with pytest.raises(ImportError, match="a task of Meta-World"):
        require_installed(ENV_IDS[0])
    assert main(["train", "--env", ENV_IDS[0]]) == 1
    assert install("benchmark") in capsys.readouterr().err


def test_the_commands_know_them_and_registering_again_changes_nothing(monkeypatch: pytest.MonkeyPatch):
    for env_id in ENV_IDS:
        monkeypatch.delitem(gym.registry, env_id)
    register_environments()
    specs = [gym.registry[env_id] for env_id in ENV_IDS]
    register()
    assert [gym.registry[env_id] for env_id in ENV_IDS] == specs
    assert [spec.max_episode_steps for spec in specs] == [200] * len(ENV_IDS)
