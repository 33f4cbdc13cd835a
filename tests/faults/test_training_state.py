"""Training states on disk: whole or not there, and damaged ones are named."""

import os
import resource
import signal
import threading
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from point_to_goal import PointToGoal
from small_models import small_model
from stable_baselines3.common.callbacks import BaseCallback, CheckpointCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import SubprocVecEnv

from benchmarks.faults import Victim, learn, overwrite
from benchmarks.resume_equality import KINDS, compare
from sb3_pgfd import DDPGfD, Demonstrations, TD3fD
from sb3_pgfd.callbacks import SaveTrainingState
from sb3_pgfd.common.environment_state import Resumable
from sb3_pgfd.common.training_state import TrainingStateError, sets, verify


def in_processes(n_envs: int = 1, resumable: bool = False) -> SubprocVecEnv:
    def make_env() -> gym.Env:
        env = Monitor(gym.wrappers.TimeLimit(PointToGoal(), 20))
        return Resumable(env) if resumable else env

    # Forked, which is faster
    env = SubprocVecEnv([make_env] * n_envs, start_method="fork")
    env.seed(5)
    return env


def make(demonstrations: Demonstrations, **options: Any) -> DDPGfD:
    return small_model(DDPGfD, "MlpPolicy", "PointToGoal-v0", demonstrations=demonstrations, **options)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("td3fd_her_successes", "ddpgfd_4_envs")])
def test_a_resumed_run_is_the_same_run(kind: str) -> None:
    row = compare(kind, after=60, steps=30, at_end=False)
    assert row["steps_compared"] > 20
    assert row["steps_equal"] == row["steps_compared"]
    assert row["final_parameters_equal"]


def test_a_part_that_is_damaged_or_missing_is_named(tmp_path: Path, demonstrations: Demonstrations) -> None:
    make(demonstrations).learn(30, callback=SaveTrainingState(tmp_path, save_freq=10, every=0.0, keep=3))
    newest, second, third = sets(tmp_path)
    assert [path.name for path in (newest, second, third)] == ["step_30", "step_20", "step_10"]
    with (newest / "networks.pkl").open("r+b") as file:
        file.seek(500)
        file.write(b"damage")
    (second / "replay_buffer.pkl").unlink()
    with pytest.warns(UserWarning, match=r"networks.pkl has another checksum.*replay_buffer.pkl is missing.*from step_10"):
        resumed = DDPGfD.resume(tmp_path, make_vec_env("PointToGoal-v0"))
    assert resumed.num_timesteps == 10
    (third / "run.pkl").write_bytes(b"")
    with pytest.raises(TrainingStateError, match=r"run.pkl has 0 of \d+ bytes.*expected a training state"):
        DDPGfD.resume(tmp_path, make_vec_env("PointToGoal-v0"))


def test_another_environment_is_refused(tmp_path: Path, demonstrations: Demonstrations) -> None:
    make(demonstrations).learn(30, callback=SaveTrainingState(tmp_path))
    wider = gym.wrappers.RescaleAction(gym.make("PointToGoal-v0"), np.float32(-5.0), np.float32(5.0))
    with warnings.catch_warnings():
        # Of the demonstrations, whose actions are in other units
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match="Action spaces do not match"):
            DDPGfD.resume(tmp_path, wider)
    more = gym.wrappers.TransformReward(gym.make("PointToGoal-v0"), lambda reward: reward)
    with pytest.raises(ValueError, match=r"env: found \[.*'TransformReward'.*, expected \[.*\] as in the saved"):
        DDPGfD.resume(tmp_path, more).learn(40)


def test_what_cannot_be_pickled_is_named(tmp_path: Path, demonstrations: Demonstrations) -> None:
    model = make(demonstrations).learn(10)
    model.own_lock = threading.Lock()  # type: ignore[attr-defined]
    with pytest.raises(TrainingStateError, match=r"DDPGfD\.own_lock: found lock, which cannot be pickled"):
        model.save_training_state(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_a_warning_and_the_last_state_stays(tmp_path: Path, demonstrations: Demonstrations) -> None:
    class FillDisk(BaseCallback):
        def _on_step(self) -> bool:
            if self.n_calls == 15:
                resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))
            return True

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    model = make(demonstrations)
    try:
        with pytest.warns(UserWarning, match=r"after 20 steps was not saved .*; the last one is .*step_10"):
            model.learn(25, callback=[FillDisk(), SaveTrainingState(tmp_path, save_freq=10, every=0.0)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert model.num_timesteps == 25
    assert [path.name for path in tmp_path.iterdir() if path.name != ".lock"] == ["step_10"]
    verify(tmp_path / "step_10")


def test_two_runs_do_not_write_to_one_training_state(tmp_path: Path, demonstrations: Demonstrations) -> None:
    class Second(BaseCallback):
        def _on_step(self) -> bool:
            with pytest.raises(FileExistsError, match=r"found another process that writes to it"):
                make(demonstrations).learn(5, callback=SaveTrainingState(tmp_path))
            return True

    make(demonstrations).learn(3, callback=[SaveTrainingState(tmp_path), Second()])
    # Free again
    make(demonstrations).learn(3, callback=SaveTrainingState(tmp_path))


@pytest.mark.parametrize("algorithm", [DDPGfD, TD3fD])
def test_an_interrupted_pretraining_goes_on(
    tmp_path: Path, record: Callable[..., Demonstrations], algorithm: type[DDPGfD | TD3fD]
) -> None:
    # TD3fD's clone holds one of five out
    demonstrations = record("box", 5)

    class Interrupted(algorithm):  # type: ignore[misc, valid-type]
        def _pretrain_update(self) -> None:
            super()._pretrain_update()
            if self._n_updates == 20:
                signal.raise_signal(signal.SIGTERM)

    options: dict[str, Any] = {
        "pretrain_steps": 50,
        "policy_kwargs": {"net_arch": [8]},
        "seed": 1,
        "device": "cpu",
        "learning_starts": 5,
    }
    whole = algorithm("MlpPolicy", make_vec_env("PointToGoal-v0", seed=1), demonstrations, **options).learn(30)
    model = Interrupted("MlpPolicy", make_vec_env("PointToGoal-v0", seed=1), demonstrations, **options)
    with pytest.raises(KeyboardInterrupt, match="SIGTERM"):
        model.learn(30, callback=SaveTrainingState(tmp_path))
    (path,) = sets(tmp_path)
    # Of another class only for this test
    (path / "manifest.json").write_text((path / "manifest.json").read_text().replace("Interrupted", algorithm.__name__))
    resumed = algorithm.resume(tmp_path, make_vec_env("PointToGoal-v0", seed=1))
    assert (resumed._n_updates, resumed.num_timesteps) == (20, 0)
    resumed.learn(30, callback=SaveTrainingState(tmp_path))
    assert resumed._n_updates == whole._n_updates
    assert all(th.equal(a, b) for a, b in zip(whole.policy.parameters(), resumed.policy.parameters(), strict=True))


def test_episodes_that_cannot_be_repeated_are_cut_and_the_run_says_so(tmp_path: Path, demonstrations: Demonstrations) -> None:
    model = make(demonstrations, learning_starts=10**6)
    model.learn(23, callback=SaveTrainingState(tmp_path))
    assert model.env is not None
    resumed = DDPGfD.resume(tmp_path, in_processes())
    with pytest.warns(UserWarning, match=r"the running episodes are cut.*see Resumable"):
        resumed.learn(60)
    # The 3 steps of the second episode end where they were cut, and 37 new ones follow
    steps_left = resumed.buffer.ring.columns["steps_left"][:60]
    assert steps_left[20:23].tolist() == [2, 1, 0]
    resumed.env.close()


def test_environments_in_processes_go_on_where_they_can_be_asked(tmp_path: Path, demonstrations: Demonstrations) -> None:
    env = partial(in_processes, 2, resumable=True)
    whole = small_model(DDPGfD, "MlpPolicy", env(), demonstrations=demonstrations)
    whole.learn(60, callback=SaveTrainingState(tmp_path, save_freq=13, every=0.0, keep=9))
    resumed = DDPGfD.resume(tmp_path / "step_26", env())
    resumed.learn(60, callback=SaveTrainingState(tmp_path / "other"))
    for name, column in whole.buffer.ring.columns.items():
        np.testing.assert_array_equal(column, resumed.buffer.ring.columns[name])
    for model in (whole, resumed):
        assert model.env is not None
        model.env.close()


@pytest.mark.parametrize("n_envs", [1, 3])
def test_a_killed_worker_ends_the_run(n_envs: int, tmp_path: Path, demonstrations: Demonstrations) -> None:
    class KillWorker(BaseCallback):
        def _on_step(self) -> bool:
            if self.n_calls == 4:
                env = self.training_env
                assert isinstance(env, SubprocVecEnv)
                os.kill(env.processes[-1].pid, signal.SIGKILL)
            return True

    env = in_processes(n_envs)
    model = small_model(DDPGfD, "MlpPolicy", env, demonstrations=demonstrations)
    begin = time.monotonic()
    with pytest.raises(RuntimeError, match=rf"environment {n_envs - 1} was killed by SIGKILL"):
        model.learn(90, callback=[KillWorker(), SaveTrainingState(tmp_path)])
    env.close()
    assert time.monotonic() - begin < 10.0
    (path,) = sets(tmp_path)
    assert path.name == f"step_{4 * n_envs}"
    resumed = DDPGfD.resume(tmp_path, make_vec_env("PointToGoal-v0", n_envs))
    with pytest.warns(UserWarning, match="episodes are cut"):
        resumed.learn(90)
    assert resumed.num_timesteps >= 90


def test_sb3_checkpoints_of_our_models_are_whole(tmp_path: Path, demonstrations: Demonstrations) -> None:
    """The file of a model is replaced in one step."""
    model = make(demonstrations)
    model.learn(10, callback=CheckpointCallback(5, str(tmp_path), save_replay_buffer=True))
    inode = (tmp_path / "rl_model_10_steps.zip").stat().st_ino
    model.save(tmp_path / "rl_model_10_steps")
    assert (tmp_path / "rl_model_10_steps.zip").stat().st_ino != inode
    assert not list(tmp_path.glob(".*"))


def test_a_run_that_is_killed_again_and_again_goes_on(tmp_path: Path) -> None:
    steps = [-1]
    for _ in range(3):
        victim = Victim(learn, tmp_path)
        for _ in range(3):
            victim.wait_for("save")
        victim.kill()
        steps.append(int(verify(sets(tmp_path)[0])["num_timesteps"]))
    assert steps == sorted(set(steps))
    # What the last one left is removed when a run begins
    assert len(list(tmp_path.glob(".step*.tmp"))) <= 1


@pytest.mark.parametrize("moment", range(5))
def test_a_model_that_is_overwritten_is_whole_when_the_writer_is_killed(moment: int, tmp_path: Path) -> None:
    victim = Victim(overwrite, tmp_path / "model.zip")
    victim.wait_for("ready")
    time.sleep(0.013 * moment)
    victim.kill()
    DDPGfD.load(tmp_path / "model.zip", device="cpu")
