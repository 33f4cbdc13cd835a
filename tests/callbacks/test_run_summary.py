"""How the end of a training compares the agent with its demonstrations."""

import json
from collections import deque
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.monitor import Monitor

from sb3_pgfd import A2CfD, DDPGfD, Demonstrations, DemonstrationsError
from sb3_pgfd.callbacks import DemonstrationsSummary, RunSummary, summarize_run
from sb3_pgfd.replay import DemoReplayBuffer
from sb3_pgfd.run_summary import EpisodeStatistics

SMALL: dict[str, Any] = {"seed": 0, "device": "cpu"}
SMALL_BUFFER: dict[str, Any] = {"batch_size": 4, "learning_starts": 10, "train_freq": 10, "buffer_size": 100, **SMALL}


def statistics(mean_return: float, success_rate: float | None = None) -> EpisodeStatistics:
    return EpisodeStatistics(4, mean_return, 80.14, 1050.04, success_rate)


def test_the_three_lines() -> None:
    best = {"mean_return": -138.41, "timesteps": 4500}
    summary = RunSummary(5100, "evaluation", statistics(-140.2, 0.984), best, statistics(-1199.1, 1.0), evaluated_at=5000)
    remark = "4 episodes at 5,000 steps; best evaluation -138.4 at 4,500 steps"
    assert str(summary).splitlines() == [
        f"return          agent -140.2 +- 80.1 ({remark})   demonstrations -1,199.1 +- 80.1",
        f"success         agent 0.98             {' ' * len(remark)}   demonstrations 1.00",
        f"episode length  agent 1,050.0          {' ' * len(remark)}   demonstrations 1,050.0",
    ]


def test_without_demonstrations_there_is_one_column() -> None:
    assert str(RunSummary(5000, "training", statistics(0.5), None, None)).splitlines() == [
        "return          agent 0.50 +- 80.1 (last 4 training episodes, with exploration)",
        "success         agent unknown",
        "episode length  agent 1,050.0",
    ]


def test_without_a_finished_episode_it_says_so() -> None:
    assert str(RunSummary(5, "training", None, None, statistics(1.0, 1.0))).splitlines() == [
        "return          agent unknown (no episode was finished)   demonstrations 1.00 +- 80.1",
        "success         agent unknown                             demonstrations 1.00",
        "episode length  agent unknown                             demonstrations 1,050.0",
    ]


def test_statistics_are_those_of_the_episodes() -> None:
    found = EpisodeStatistics.of([1.0, 3.0], [10, 20], deque([True, False, True, True]))
    assert found == EpisodeStatistics(2, 2.0, 1.0, 15.0, 0.75)
    assert EpisodeStatistics.of([1.0], [1], []).success_rate is None


def evaluation(folder: Path | None, eval_freq: int = 20) -> EvalCallback:
    log_path = None if folder is None else str(folder)
    env = Monitor(gym.make("PointToGoal-v0"))
    return EvalCallback(env, n_eval_episodes=2, eval_freq=eval_freq, log_path=log_path, verbose=0)


def make_sac(source: Any, **options: Any) -> SAC:
    buffer = {"replay_buffer_class": DemoReplayBuffer, "replay_buffer_kwargs": {"demonstrations": source}}
    return SAC("MlpPolicy", "PointToGoal-v0", **{**SMALL_BUFFER, **buffer, **options})


def test_it_is_said_and_written_when_the_training_ends(
    tmp_path: Path, demonstrations: Demonstrations, capsys: pytest.CaptureFixture[str]
) -> None:
    model = A2CfD("MlpPolicy", "PointToGoal-v0", demonstrations, pretrain_steps=1, n_steps=10, **SMALL)
    judge = evaluation(tmp_path)
    callback = DemonstrationsSummary(judge, folder=tmp_path / "summary")
    model.learn(50, callback=[judge, callback])
    # As the RL Zoo does
    callback.on_training_end()
    summary = callback.summary
    assert summary is not None
    assert capsys.readouterr().out == f"{summary}\n"
    assert json.loads((tmp_path / "summary" / "summary.json").read_text()) == asdict(summary)
    with np.load(tmp_path / "evaluations.npz") as log:
        results, lengths = log["results"], log["ep_lengths"]
    assert (summary.timesteps, summary.source) == (50, "evaluation")
    assert summary.agent == EpisodeStatistics.of(results[1], lengths[1], results[1])
    assert summary.best_evaluation is not None
    assert summary.best_evaluation["mean_return"] == results.mean(axis=1).max()
    lengths = demonstrations.episode_lengths
    assert summary.demonstrations == EpisodeStatistics(3, 1.0, 0.0, float(lengths.mean()), 1.0)
    # Another training has another summary
    model.learn(50, callback=callback, reset_num_timesteps=False)
    assert callback.summary is not summary
    assert capsys.readouterr().out == f"{callback.summary}\n"


@pytest.mark.parametrize("judge", [None, evaluation(None), evaluation(None, eval_freq=1000)])
def test_without_results_of_evaluations_the_training_episodes_count(judge: EvalCallback | None) -> None:
    model = PPO("MlpPolicy", "PointToGoal-v0", n_steps=20, batch_size=10, n_epochs=1, stats_window_size=2, **SMALL)
    callback = DemonstrationsSummary(judge, verbose=0)
    model.learn(80, callback=callback if judge is None else [judge, callback])
    assert callback.summary is not None
    assert callback.summary.agent is not None
    episodes = list(model.ep_info_buffer or ())
    assert (callback.summary.source, callback.summary.agent.n_episodes) == ("training", len(episodes) == 2 and 2)
    assert callback.summary.agent.mean_length == np.mean([episode["l"] for episode in episodes])
    assert callback.summary.agent.success_rate == np.mean([episode["r"] for episode in episodes])
    assert callback.summary.best_evaluation is None
    assert callback.summary.demonstrations is None


def test_it_can_be_told_whom_to_compare_with(tmp_path: Path, demonstrations: Demonstrations) -> None:
    path = demonstrations.save(tmp_path / "demo.npz")
    model = PPO("MlpPolicy", "PointToGoal-v0", n_steps=20, batch_size=10, n_epochs=1, **SMALL)
    callback = DemonstrationsSummary(demonstrations=path, verbose=0)
    model.learn(20, callback=callback)
    assert callback.summary is not None
    assert callback.summary.demonstrations == summarize_run(model, demonstrations=demonstrations).demonstrations
    with pytest.raises(DemonstrationsError, match="found no such file"):
        model.learn(20, callback=DemonstrationsSummary(demonstrations=tmp_path / "nothing.npz"))
    assert model.num_timesteps == 0


def test_demonstrations_in_a_buffer_are_found(tmp_path: Path, record: Callable[..., Demonstrations]) -> None:
    demonstrations = record(n_episodes=4)
    path = demonstrations.save(tmp_path / "demo.npz")
    expected = summarize_run(make_sac(demonstrations), demonstrations=demonstrations).demonstrations
    assert expected is not None
    assert expected.success_rate == 1.0
    for source in (demonstrations, str(path)):
        assert summarize_run(make_sac(source).learn(20)).demonstrations == expected
    # The buffer alone knows returns and lengths
    model = make_sac(str(path))
    path.unlink()
    from_rows = summarize_run(model).demonstrations
    assert from_rows is not None
    assert from_rows == EpisodeStatistics(4, 1.0, 0.0, expected.mean_length, None)


def test_added_demonstrations_count(demonstrations: Demonstrations, record: Callable[..., Demonstrations]) -> None:
    model = DDPGfD("MlpPolicy", "PointToGoal-v0", demonstrations, **SMALL_BUFFER)
    model.add_demonstrations(record(n_episodes=2))
    both = summarize_run(model).demonstrations
    assert both is not None
    assert (both.n_episodes, both.success_rate) == (5, 1.0)
    sac = make_sac(demonstrations)
    assert isinstance(sac.replay_buffer, DemoReplayBuffer)
    sac.replay_buffer.add_demonstrations(record(n_episodes=2))
    assert summarize_run(sac).demonstrations == EpisodeStatistics(5, 1.0, 0.0, both.mean_length, None)


def test_a_buffer_without_demonstrations_has_none() -> None:
    assert summarize_run(make_sac(None)).demonstrations is None


class AlwaysSuccessful(gym.Wrapper):
    """Says so at the end of each episode."""

    def step(self, action: Any) -> Any:
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, reward, terminated, truncated, {**info, "is_success": terminated or truncated}


@pytest.mark.parametrize("through_file", [False, True])
def test_the_agents_own_successes_are_no_demonstrations_to_compare_with(
    tmp_path: Path, record: Callable[..., Demonstrations], through_file: bool
) -> None:
    demonstrations = record(n_episodes=3)
    path = demonstrations.save(tmp_path / "demo.npz")
    for source in (path, None):
        kwargs = {"demonstrations": source, "keep_successes": True}
        model = SAC(
            "MlpPolicy",
            AlwaysSuccessful(gym.make("PointToGoal-v0")),
            replay_buffer_class=DemoReplayBuffer,
            replay_buffer_kwargs=kwargs,
            **SMALL_BUFFER,
        )
        model.learn(60)
        assert isinstance(model.replay_buffer, DemoReplayBuffer)
        assert model.replay_buffer.kept_successes.any()
        if source is not None and not through_file:
            path.unlink()
        found = summarize_run(model).demonstrations
        if source is None:
            assert found is None
        else:
            assert found is not None
            assert (found.n_episodes, found.success_rate) == (3, 1.0 if through_file else None)
            assert found.mean_length == np.mean(demonstrations.episode_lengths)


class TakenOver(gym.Wrapper):
    """A person repeats every action of the agent, which makes it an intervention."""

    def step(self, action: Any) -> Any:
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, reward, terminated, truncated, {**info, "intervene_action": action}


@pytest.mark.parametrize("through_file", [False, True])
def test_interventions_are_no_demonstrations_to_compare_with(
    tmp_path: Path, record: Callable[..., Demonstrations], through_file: bool
) -> None:
    demonstrations = record(n_episodes=3)
    path = demonstrations.save(tmp_path / "demo.npz")
    kwargs = {"demonstrations": path}
    env = TakenOver(gym.make("PointToGoal-v0"))
    model = SAC("MlpPolicy", env, replay_buffer_class=DemoReplayBuffer, replay_buffer_kwargs=kwargs, **SMALL_BUFFER).learn(60)
    buffer = model.replay_buffer
    assert isinstance(buffer, DemoReplayBuffer)
    assert buffer.n_demonstrations > buffer.n_given == len(demonstrations)
    if not through_file:
        path.unlink()
    found = summarize_run(model).demonstrations
    assert found is not None
    assert (found.n_episodes, found.success_rate) == (3, 1.0 if through_file else None)
    assert (found.mean_return, found.mean_length) == (1.0, np.mean(demonstrations.episode_lengths))
