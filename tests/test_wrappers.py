from pathlib import Path
from typing import Any

import gymnasium as gym
import gymnasium_robotics
import numpy as np
import pytest
from gymnasium import spaces
from point_to_goal import PointToGoal, to_goal
from stable_baselines3 import A2C
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_pgfd import Demonstrations, TD3fD
from sb3_pgfd.common.environment_state import Resumable
from sb3_pgfd.demonstrations import DemonstrationsError, record
from sb3_pgfd.wrappers import ReportSuccess, StartInDemonstrations, leave_demonstrations

gym.register_envs(gymnasium_robotics)


class Reports(gym.Env):
    """
    Its infos are given, the last one ends the episode.

    :param infos: What the steps report, one after another
    """

    observation_space = spaces.Box(-1, 1, (1,))
    action_space = spaces.Box(-1, 1, (1,))

    def __init__(self, *infos: dict[str, Any]):
        self.infos = infos

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.n_steps = 0
        return np.zeros(1, dtype=np.float32), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.n_steps += 1
        return np.zeros(1, dtype=np.float32), 0.0, False, self.n_steps == len(self.infos), self.infos[self.n_steps - 1]


def reported(*infos: dict[str, Any], **kwargs: Any) -> list[Any]:
    env = ReportSuccess(Reports(*infos), **kwargs)
    env.reset()
    return [env.step(np.zeros(1))[4]["is_success"] for _ in infos]


def test_success_goes_by_the_name_that_others_read():
    assert reported({"success": False}, {"success": True}, {"success": False}) == [False, True, False]


def test_a_number_or_an_array_becomes_a_bool():
    found = reported({"success": 1.0}, {"success": np.array(0.0)}, {"success": np.bool_(True)})
    assert found == [True, False, True]
    assert all(type(value) is bool for value in found)


def test_a_step_that_says_nothing_is_no_success():
    assert reported({}, {"success": True}, {"other": True}) == [False, True, False]


def test_a_report_of_the_environment_itself_is_kept_where_the_key_is_missing():
    assert reported({"is_success": True}, {"is_success": True, "success": False}) == [True, False]


def test_the_key_can_be_another_one():
    assert reported({"solved": True, "success": False}, {"success": True}, key="solved") == [True, False]


def test_the_info_of_the_environment_is_not_changed():
    info = {"success": True}
    reported(info)
    assert info == {"success": True}


def test_the_environment_can_be_made_again_from_its_spec():
    env = ReportSuccess(gym.make("PointMaze_UMaze-v3", continuing_task=False), key="success")
    assert env.spec is not None
    assert (env.spec.id, env.spec.kwargs["continuing_task"]) == ("PointMaze_UMaze-v3", False)
    again = gym.make(env.spec)
    assert isinstance(again, ReportSuccess)
    assert again.key == "success"
    again.reset(seed=0)
    assert again.step(again.action_space.sample())[4]["is_success"] is False


def test_a_recording_names_the_environment():
    env = ReportSuccess(gym.make("PointMaze_UMaze-v3", continuing_task=False, max_episode_steps=5))
    demonstrations = record(lambda observation: np.zeros(2), env, 1)
    assert demonstrations.metadata["env_id"] == "PointMaze_UMaze-v3"
    assert demonstrations.metadata["env_kwargs"]["continuing_task"] is False
    assert demonstrations.metadata["success_rate"] == 0.0


@pytest.mark.parametrize("success", [False, True])
def test_evaluation_and_training_count_successes(success: bool, tmp_path: Path):
    def make() -> gym.Env:
        # As the RL Zoo does, outside the monitor
        return ReportSuccess(Monitor(Reports({}, {"success": success})))

    model = A2C("MlpPolicy", make(), n_steps=5, seed=0)
    callback = EvalCallback(make(), eval_freq=5, n_eval_episodes=2, log_path=str(tmp_path), verbose=0)
    model.learn(10, callback)
    with np.load(tmp_path / "evaluations.npz") as file:
        assert file["successes"].tolist() == [[success] * 2] * 2
    assert list(model.ep_success_buffer or []) == [success] * 5


def to_the_goal() -> tuple[gym.Env, Demonstrations]:
    """:return: A world of 20 steps at most, and a demonstration whose steps are 0.095 long"""
    env = gym.wrappers.TimeLimit(PointToGoal(), 20)
    return env, record(to_goal, env, 1, seed=3)


def run_from_the_start(env: gym.Env, action: float) -> float:
    """:return: Where the episode started"""
    observation, _ = env.reset()
    over, start = False, float(observation[0])
    while not over:
        _, _, terminated, truncated, _ = env.step(np.full(1, action))
        over = terminated or truncated
    return start


def test_starts_move_from_the_end_of_a_demonstration_to_its_beginning():
    world, demonstrations = to_the_goal()
    positions, n = np.asarray(demonstrations.observations)[:, 0], len(demonstrations)
    assert n > 6
    env = StartInDemonstrations(world, demonstrations, share=1.0, stride=3, window=2, success_rate=0.75)
    env.reset(seed=0)
    # Two successes move the start by 3; one success and one failure, a rate of 0.5, do not
    assert [run_from_the_start(env, 1.9) for _ in range(3)] == [positions[n - 3]] * 2 + [positions[n - 6]]
    assert run_from_the_start(env, -1.0) == positions[n - 6]
    assert env.starts == {0: n - 6}
    for _ in range(2 * n):
        run_from_the_start(env, 1.9)
    # Done with: episodes start where the environment starts them, each elsewhere
    assert env.starts == {}
    assert len({run_from_the_start(env, 1.9) for _ in range(3)}) == 3


def test_other_episodes_start_as_the_environment_does():
    world, demonstrations = to_the_goal()
    starts = [StartInDemonstrations(world, demonstrations, share=0.0).reset(seed=seed)[0].item() for seed in (1, 2, 1)]
    assert starts == [PointToGoal().reset(seed=seed)[0].item() for seed in (1, 2, 1)]


def test_evaluations_and_monitors_know_nothing_of_what_was_replayed():
    world, demonstrations = to_the_goal()
    n = len(demonstrations)
    env = DummyVecEnv([lambda: StartInDemonstrations(Monitor(world), demonstrations, share=1.0, stride=2)])
    env.reset()
    # Two steps of the demonstration are left; the way to the goal is as long
    episodes = [env.step(np.full((1, 1), 1.9, dtype=np.float32)) for _ in range(2)][-1][3][0]["episode"]
    assert (episodes["l"], episodes["r"]) == (2, 1.0)
    assert leave_demonstrations(env) is env
    env.reset()
    lengths = [info["episode"]["l"] for _ in range(3 * n) for info in env.step(np.full((1, 1), 1.9))[3] if "episode" in info]
    assert min(lengths) > 2


def test_the_log_of_a_monitor_has_what_was_learned_from(tmp_path: Path):
    world, demonstrations = to_the_goal()
    env = StartInDemonstrations(Monitor(world, str(tmp_path / "0")), demonstrations, share=1.0, stride=2)
    # Two steps of the demonstration are left
    run_from_the_start(env, 1.9)
    log = (tmp_path / "0.monitor.csv").read_text().splitlines()
    assert [row.split(",")[:2] for row in log[2:]] == [["1.0", "2"]]


def test_such_starts_are_repeated_when_a_run_goes_on():
    _, demonstrations = to_the_goal()

    def make() -> Resumable:
        inner = gym.wrappers.TimeLimit(PointToGoal(), 20)
        return Resumable(StartInDemonstrations(inner, demonstrations, share=1.0, stride=2, window=1))

    env = make()
    env.reset(seed=4)
    for _ in range(2):
        run_from_the_start(env, 1.9)
    # In the third episode, which starts 6 steps before the end
    env.reset()
    position = env.step(np.full(1, -0.5))[0]
    resumed = make()
    assert resumed.restore_resumable(env.resumable_state())
    assert resumed.step(np.zeros(1))[0] == pytest.approx(position)
    assert run_from_the_start(resumed, 1.9) == run_from_the_start(env, 1.9)


def test_a_model_learns_from_such_starts():
    world, demonstrations = to_the_goal()
    env = StartInDemonstrations(world, demonstrations)
    model = TD3fD("MlpPolicy", env, demonstrations=demonstrations, pretrain_steps=5, policy_kwargs={"net_arch": [4]}, seed=0)
    assert model.learn(60).num_timesteps == 60


def test_demonstrations_that_cannot_be_repeated_are_refused():
    world, demonstrations = to_the_goal()
    with pytest.raises(DemonstrationsError, match="without the seeds"):
        StartInDemonstrations(world, demonstrations.changed(episode_info={}))
    moved = demonstrations.changed(observations=np.asarray(demonstrations.observations) + 0.5)
    with pytest.raises(DemonstrationsError, match="found none of 1 demonstrations that the environment repeats"):
        StartInDemonstrations(world, moved)
    with pytest.raises(ValueError, match="share: found 2"):
        StartInDemonstrations(world, demonstrations, share=2)
    with pytest.raises(DemonstrationsError, match="found neither 'is_success' nor 'success' in the last info"):
        StartInDemonstrations(WithoutInfos(world), demonstrations)


class WithoutInfos(gym.Wrapper):
    """An environment that reports nothing."""

    def step(self, action: Any) -> Any:
        return (*self.env.step(action)[:4], {})
