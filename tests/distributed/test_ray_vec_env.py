"""Environments in Ray's workers: they step like those of this process, and what is lost with a worker is made anew."""

import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from benchmarks.logged_point import LoggedPoint, compare_with_log, demonstrations
from sb3_pgfd import DDPGfD
from sb3_pgfd.distributed import RayCollector, RayVecEnv, RayWorkerError


class Scene(gym.Env):
    """A picture and a number, of episodes of random length."""

    observation_space = spaces.Dict({"picture": spaces.Box(0, 255, (4, 4, 3), np.uint8), "number": spaces.Box(-9, 9, (1,))})
    action_space = spaces.Discrete(3)

    def __init__(self, length: int) -> None:
        self.length, self.offset, self.render_mode = length, 0.0, "rgb_array"

    def _observation(self) -> dict[str, Any]:
        picture = self.np_random.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        return {"picture": picture, "number": self.np_random.normal(size=1).astype(np.float32)}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.n_steps = 0
        return self._observation(), {"options": options}

    def step(self, action: int) -> Any:
        self.n_steps += 1
        if action == 2:
            raise ArithmeticError("the simulator is unstable")
        return (
            self._observation(),
            float(action) + self.offset,
            self.n_steps >= self.length,
            self.n_steps >= 5,
            {"n": self.n_steps},
        )

    def render(self) -> Any:
        return np.full((2, 2, 3), self.length, dtype=np.uint8)

    def process(self) -> int:
        return os.getpid()


FNS: Any = [lambda length=length: Monitor(Scene(length)) for length in (3, 9, 4)]


@pytest.fixture(scope="module")
def env(cluster: None) -> Iterator[RayVecEnv]:
    made = RayVecEnv(FNS, envs_per_worker=2, num_cpus=0.5, max_restarts_per_hour=3)
    yield made
    made.close()


def assert_equal(found: Any, expected: Any) -> None:
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in expected:
            assert_equal(found[key], expected[key])
    elif isinstance(expected, (list, tuple)):
        for one, other in zip(found, expected, strict=True):
            assert_equal(one, other)
    elif isinstance(expected, np.ndarray):
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)
    else:
        assert found == expected


def test_it_steps_like_environments_of_this_process(env: RayVecEnv) -> None:
    other = DummyVecEnv(FNS)
    for both in (env, other):
        both.seed(7)
        both.set_options([{"a": 1}, {}, {"b": 2}])
    assert_equal(env.reset(), other.reset())
    assert_equal(env.reset_infos, other.reset_infos)
    for number in range(12):
        actions = np.array([number, number + 1, 0]) % 2
        *found, infos = env.step(actions)
        *expected, expected_infos = other.step(actions)
        assert_equal(found, expected)
        for info in (*infos, *expected_infos):
            # The clock is another one
            info.get("episode", {}).pop("t", None)
        assert_equal(infos, expected_infos)
        assert_equal(env.reset_infos, other.reset_infos)
    other.close()


def test_attributes_and_methods_are_those_of_the_environments(env: RayVecEnv) -> None:
    assert env.get_attr("length") == [3, 9, 4]
    assert env.get_attr("length", [2, 0]) == [4, 3]
    assert env.env_is_wrapped(Monitor, -1) == [True]
    assert env.has_attr("length")
    assert not env.has_attr("width")
    env.set_attr("offset", 5.0, indices=[1])
    processes = env.env_method("process")
    assert processes[0] == processes[1] != processes[2]
    assert env.env_method("render", indices=2)[0].tolist() == np.full((2, 2, 3), 4).tolist()
    assert [picture[0, 0, 0] for picture in env.get_images()] == [3, 9, 4]  # type: ignore[index]


def test_a_worker_that_dies_is_made_anew_and_its_step_is_marked(env: RayVecEnv) -> None:
    env.seed(3)
    env.reset()
    before: Any
    obs: Any
    before, *_ = env.step(np.zeros(3, int))
    (process,) = env.env_method("process", indices=0)
    os.kill(process, signal.SIGKILL)
    with pytest.warns(UserWarning, match=r"worker 0 \(environments 0, 1\) is made anew, its episodes are cut: "):
        obs, rewards, dones, infos = env.step(np.zeros(3, int))
    assert dones.tolist() == [True, True, False]
    assert rewards[:2].tolist() == [0.0, 0.0]
    for i in (0, 1):
        assert infos[i]["env_restarted"]
        assert infos[i]["TimeLimit.truncated"]
        assert_equal(infos[i]["terminal_observation"], {key: before[key][i] for key in before})
        assert (obs["number"][i] != before["number"][i]).all()
    assert "env_restarted" not in infos[2]
    # The new environments have what was set, and have begun
    *_, infos = env.step(np.zeros(3, int))
    assert env.get_attr("offset") == [0.0, 5.0, 0.0]
    assert [info["n"] for info in infos] == [1, 1, 3]


def test_an_error_in_an_environment_restarts_it_until_it_comes_again_and_again(env: RayVecEnv) -> None:
    env.reset()
    with pytest.warns(
        UserWarning, match="worker 1 .environment 2. is made anew, .*: ArithmeticError: the simulator is unstable"
    ):
        *_, infos = env.step(np.array([0, 0, 2]))
    assert [info.get("env_restarted") for info in infos] == [None, None, True]
    with pytest.warns(UserWarning, match="made anew"):
        env.step(np.array([0, 0, 2]))
    with pytest.raises(
        RayWorkerError, match=r"expected at most 3 in an hour and 2 in a row: (.|\n)*in step(.|\n)*unstable"
    ) as raised:
        env.step(np.array([0, 0, 2]))
    assert isinstance(raised.value.__cause__, ArithmeticError)


class Faults(DDPGfD):
    """Notes the age of the policy that acted, and kills a process of its environments after some updates."""

    kill: Any = None
    ages: ClassVar[list[float]] = []

    def train(self, *args: Any, **kwargs: Any) -> None:
        self.ages.append(self._rollout_metrics.flush().get("policy_age", 0.0))
        super().train(*args, **kwargs)
        if self.kill is not None and self._n_updates == 5 + 3 * 3:
            self.kill()


def learn(env: VecEnv, n_steps: int, kill: Any = None) -> Faults:
    options: dict[str, Any] = {
        "learning_starts": 0,
        "batch_size": 8,
        "train_freq": 4,
        "gradient_steps": 3,
        "action_noise": 0.2,
    }
    model = Faults("MlpPolicy", env, demonstrations(), pretrain_steps=5, policy_kwargs={"net_arch": [8]}, seed=1, **options)
    model.kill = kill
    model.ages.clear()
    return model.learn(n_steps)


def test_workers_act_with_copies_and_each_step_is_stored_once(cluster: None, tmp_path: Path) -> None:
    fns: Any = [partial(LoggedPoint, 0.0, str(tmp_path / "log"))] * 2
    env = RayCollector(fns, num_cpus=0.5, overlap=False)
    first, second = learn(env, 40), learn(env, 40)
    # Without overlap the steps of a seed are always the same
    for name, column in first.buffer.ring.columns.items():
        np.testing.assert_array_equal(column, second.buffer.ring.columns[name])
    assert set(Faults.ages) == {0.0}

    env.overlap = True

    def kill() -> None:
        os.kill(int(next((tmp_path / "log").iterdir()).name.partition("_")[0]), signal.SIGKILL)

    with pytest.warns(UserWarning, match="is made anew"):
        third = learn(env, 80, kill)
    # Blocks of four steps are three updates old, but for the first one
    assert Faults.ages[5] == 0.0
    assert 0.0 < max(Faults.ages) <= 3.0
    assert third.num_timesteps == 80
    lost = third.buffer.ring.n_gaps
    # The other environment does not wait
    assert 1 <= lost <= 40
    assert third.buffer.n_own == 80 - lost
    # This waits until the worker has come back: one step tells the end of its episode
    assert env.has_attr("n_steps")
    third.learn(40, reset_num_timesteps=False)
    assert third.buffer.ring.n_gaps <= lost + 1
    assert third.buffer.n_own >= 119 - lost
    assert compare_with_log(third.buffer, tmp_path / "log") == (0, 0)
    env.close()


def test_options_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="envs_per_worker: found 0"):
        RayVecEnv(FNS, envs_per_worker=0)
    with pytest.raises(ValueError, match="num_cpus: found -1"):
        RayVecEnv(FNS, num_cpus=-1)
    with pytest.raises(ValueError, match="resources: found num_cpus, expected it as an argument of its own"):
        RayVecEnv(FNS, resources={"num_cpus": 0.5})
