"""Checkpoints, statistics and pictures that callbacks leave."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import pyplot
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback, StopTrainingOnRewardThreshold
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.save_util import load_from_pkl
from stable_baselines3.common.vec_env import VecNormalize
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sb3_pgfd import DDPGfD, Demonstrations
from sb3_pgfd.callbacks import (
    Checkpoints,
    EvaluateFirst,
    Evaluation,
    ProgressLog,
    RunFigure,
    SaveNormalization,
    SaveTrainingState,
)

SMALL: dict[str, Any] = {"batch_size": 4, "policy_kwargs": {"net_arch": [4]}, "seed": 0, "device": "cpu"}


def make_ddpgfd(demonstrations: Demonstrations, env: Any = "PointToGoal-v0", **options: Any) -> DDPGfD:
    few = {"pretrain_steps": 2, "learning_starts": 10, "train_freq": 10}
    return DDPGfD("MlpPolicy", env, demonstrations, **{**SMALL, **few, **options})


def numbers(folder: Path, pattern: str) -> list[int]:
    found = (re.fullmatch(pattern, path.name) for path in folder.iterdir())
    return sorted(int(match[1]) for match in found if match)


def test_only_the_newest_buffer_is_kept(tmp_path: Path, demonstrations: Demonstrations) -> None:
    model = make_ddpgfd(demonstrations)
    callback = Checkpoints(20, str(tmp_path), save_replay_buffer=True)
    for expected in ([20, 40], [20, 40, 60, 80, 100]):
        model.learn(50, callback=callback, reset_num_timesteps=False)
        assert numbers(tmp_path, r"rl_model_(\d+)_steps.zip") == expected
        assert numbers(tmp_path, r"rl_model_replay_buffer_(\d+)_steps.pkl") == expected[-1:]
        assert not list(tmp_path.glob("*vecnormalize*"))
    model.load_replay_buffer(tmp_path / "rl_model_replay_buffer_100_steps.pkl")
    # A checkpoint is made before its last step is stored
    assert (model.buffer.size(), model.buffer.n_demonstrations) == (99, len(demonstrations))


def test_a_checkpoint_at_the_same_step_again_stays(tmp_path: Path, demonstrations: Demonstrations) -> None:
    callback = Checkpoints(20, str(tmp_path), save_replay_buffer=True)
    for _ in range(2):
        make_ddpgfd(demonstrations).learn(20, callback=callback)
        assert numbers(tmp_path, r"rl_model_replay_buffer_(\d+)_steps.pkl") == [20]


def test_models_without_a_buffer_have_checkpoints(tmp_path: Path) -> None:
    env = VecNormalize(make_vec_env("PointToGoal-v0", n_envs=2))
    model = PPO("MlpPolicy", env, n_steps=10, n_epochs=1, **SMALL)
    model.learn(40, callback=Checkpoints(10, str(tmp_path), save_replay_buffer=True, save_vecnormalize=True))
    expected = {f"rl_model_{n}_steps.zip" for n in (20, 40)} | {f"rl_model_vecnormalize_{n}_steps.pkl" for n in (20, 40)}
    assert {path.name for path in tmp_path.iterdir()} == expected


def test_statistics_are_saved_when_a_model_is_the_best(tmp_path: Path, demonstrations: Demonstrations) -> None:
    env = VecNormalize(make_vec_env("PointToGoal-v0"))
    judge_env = VecNormalize(make_vec_env("PointToGoal-v0"), training=False, norm_reward=False)
    callback = SaveNormalization(tmp_path / "sub" / "best.pkl")
    judge = EvalCallback(judge_env, callback, n_eval_episodes=1, eval_freq=20, log_path=str(tmp_path), verbose=0)
    make_ddpgfd(demonstrations, env).learn(60, callback=judge)
    returns = [results[0] for results in judge.evaluations_results]
    best = judge.evaluations_timesteps[returns.index(max(returns))]
    # Besides the steps: the demonstrations and the first observation
    count = load_from_pkl(tmp_path / "sub" / "best.pkl").obs_rms.count
    assert count == pytest.approx(len(demonstrations) + 1 + best, abs=1e-3)
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["best.pkl"]


def test_without_normalisation_no_statistics_are_saved(tmp_path: Path) -> None:
    PPO("MlpPolicy", "PointToGoal-v0", n_steps=8, n_epochs=1, **SMALL).learn(8, callback=SaveNormalization(tmp_path / "a.pkl"))
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def figures(tmp_path: Path, demonstrations: Demonstrations) -> Callable[..., list[int]]:
    """Learn 60 steps with a callback, and say at which ones there are pictures in TensorBoard."""

    def _learn(*callbacks: Any, **options: Any) -> list[int]:
        model = make_ddpgfd(demonstrations, tensorboard_log=str(tmp_path / "tb"))
        model.learn(60, callback=[ProgressLog(str(tmp_path)), *callbacks], log_interval=1)
        events = EventAccumulator(str(tmp_path / "tb" / "DDPGfD_1"), size_guidance={"images": 0})
        events.Reload()
        assert "run/figure" not in (tmp_path / "progress.csv").read_text()
        return [event.step for event in events.Images("run/figure")]

    return _learn


def test_the_picture_is_drawn_in_between_and_at_the_end(figures: Callable[..., list[int]], tmp_path: Path) -> None:
    before = pyplot.get_fignums()
    assert figures(RunFigure(tmp_path, draw_freq=45)) == [45, 60]
    assert pyplot.get_fignums() == before


def test_the_picture_is_drawn_after_evaluations(figures: Callable[..., list[int]], tmp_path: Path) -> None:
    after = RunFigure(str(tmp_path), draw_freq=2)
    assert figures(EvalCallback(make_vec_env("PointToGoal-v0"), None, after, n_eval_episodes=1, eval_freq=20)) == [40]


def test_a_picture_without_a_log_does_not_end_a_run(tmp_path: Path, demonstrations: Demonstrations) -> None:
    model = make_ddpgfd(demonstrations, tensorboard_log=str(tmp_path / "tb"))
    with pytest.warns(UserWarning, match="RunFigure: found no .*progress.csv, expected one: put a ProgressLog"):
        model.learn(20, callback=RunFigure(tmp_path / "nowhere"))
    assert model.num_timesteps == 20


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keep": 0}, "keep: found 0, expected a whole number >= 1"),
        ({"max_share": 0.0}, "max_share: found 0.0, expected a number > 0"),
        ({"every": -1.0}, r"every \(seconds\): found -1.0, expected a number >= 0"),
    ],
)
def test_states_that_would_not_be_kept_or_never_be_saved_are_refused(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        SaveTrainingState(tmp_path / "state", **options)


def test_a_pretrained_policy_that_is_good_enough_ends_the_run(tmp_path: Path, demonstrations: Demonstrations) -> None:
    stop = StopTrainingOnRewardThreshold(-1e9)
    evaluation = Evaluation(make_vec_env("PointToGoal-v0"), callback_on_new_best=stop, n_eval_episodes=1, eval_freq=10**6)
    model = make_ddpgfd(demonstrations).learn(60, callback=[evaluation, EvaluateFirst(evaluation)])
    assert model.num_timesteps == 1


def test_without_tensorboard_nothing_is_drawn(tmp_path: Path, demonstrations: Demonstrations) -> None:
    make_ddpgfd(demonstrations).learn(20, callback=RunFigure(tmp_path / "nowhere", draw_freq=5))
    assert list(tmp_path.iterdir()) == []


def test_a_run_goes_on_in_another_folder_and_without_the_last_buffer(
    tmp_path: Path, demonstrations: Demonstrations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    callback = Checkpoints(20, "run", save_replay_buffer=True)
    make_ddpgfd(demonstrations).learn(20, callback=callback)
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.chdir(other)
    callback.save_path = "../run"
    model = make_ddpgfd(demonstrations)
    model.learn(40, callback=callback)
    assert numbers(tmp_path / "run", r"rl_model_replay_buffer_(\d+)_steps.pkl") == [40]
    # As after a kill behind a later checkpoint
    (tmp_path / "run" / "rl_model_replay_buffer_40_steps.pkl").unlink()
    model.learn(20, callback=callback, reset_num_timesteps=False)
    assert numbers(tmp_path / "run", r"rl_model_replay_buffer_(\d+)_steps.pkl") == [60]


class Reads(BaseCallback):
    """How many evaluations are in the file."""

    def __init__(self, path: Path):
        super().__init__()
        self.path = path
        self.found: list[int] = []

    def _on_step(self) -> bool:
        self.found.append(len(np.load(self.path)["timesteps"]))
        return len(self.found) < 3


def test_callbacks_of_an_evaluation_read_its_file(tmp_path: Path, demonstrations: Demonstrations) -> None:
    after, best = Reads(tmp_path / "evaluations.npz"), Reads(tmp_path / "evaluations.npz")
    evaluation = Evaluation(
        make_vec_env("PointToGoal-v0"),
        n_eval_episodes=1,
        eval_freq=10,
        log_path=str(tmp_path),
        callback_after_eval=after,
        callback_on_new_best=best,
        verbose=0,
    )
    model = make_ddpgfd(demonstrations)
    model.learn(100, callback=evaluation)
    # The callback stops the training
    assert after.found == [1, 2, 3]
    assert model.num_timesteps == 30
    assert best.found[0] == 1


def test_a_resumed_run_evaluates_as_many_episodes_as_before(tmp_path: Path, demonstrations: Demonstrations) -> None:
    def callbacks(n_eval_episodes: int) -> list[BaseCallback]:
        env = make_vec_env("PointToGoal-v0")
        evaluation = Evaluation(env, n_eval_episodes=n_eval_episodes, eval_freq=10, log_path=str(tmp_path), verbose=0)
        return [evaluation, SaveTrainingState(tmp_path / "state")]

    make_ddpgfd(demonstrations).learn(20, callback=callbacks(2))
    model = DDPGfD.resume(tmp_path / "state", make_vec_env("PointToGoal-v0"))
    with pytest.raises(ValueError, match="found n_eval_episodes=3, expected 2 as in the evaluations of the run"):
        model.learn(40, callback=callbacks(3))
    assert model.num_timesteps == 20
