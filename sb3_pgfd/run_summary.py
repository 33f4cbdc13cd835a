"""Summary of a run: how the agent compares with its demonstrations."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import EvalCallback

from sb3_pgfd.demonstrations import Demonstrations, DemonstrationsError
from sb3_pgfd.replay import DemoReplayBuffer
from sb3_pgfd.replay.conversion import load_reference
from sb3_pgfd.replay.storage import Origin
from sb3_pgfd.utils.files import write_whole


@dataclass(frozen=True)
class EpisodeStatistics:
    """Statistics of some episodes; returns are raw and undiscounted."""

    n_episodes: int
    mean_return: float
    std_return: float
    mean_length: float
    success_rate: float | None
    """None: the environment does not report success"""

    @classmethod
    def of(cls, returns: Any, lengths: Any, successes: Collection[Any] | None) -> EpisodeStatistics:
        """Statistics of these returns, lengths and successes of episodes; successes None or empty: unknown."""
        rate = None if successes is None or len(successes) == 0 else float(np.mean(list(successes)))
        return cls(len(returns), float(np.mean(returns)), float(np.std(returns)), float(np.mean(lengths)), rate)


@dataclass(frozen=True)
class RunSummary:
    """Result of a run; ``str()`` gives three lines."""

    timesteps: int
    """Environment steps of the run"""
    source: str
    """Where the agent's numbers come from: ``"evaluation"`` (the last one) or ``"training"`` (the last episodes)"""
    agent: EpisodeStatistics | None
    """None: no episode was finished"""
    best_evaluation: dict[str, float] | None
    """``mean_return`` and ``timesteps`` of the best evaluation"""
    demonstrations: EpisodeStatistics | None
    evaluated_at: int | None = None
    """``timesteps`` of the last evaluation"""

    def __str__(self) -> str:
        if self.agent is None:
            remark = "no episode was finished"
        elif self.best_evaluation is None:
            remark = f"last {self.agent.n_episodes} training episodes, with exploration"
        else:
            best, steps = self.best_evaluation["mean_return"], self.best_evaluation["timesteps"]
            last = "" if self.evaluated_at is None else f"{self.agent.n_episodes} episodes at {self.evaluated_at:,} steps; "
            remark = f"{last}best evaluation {_number(best)} at {steps:,} steps"
        agent = [f"agent {cell}" for cell in _cells(self.agent)]
        agent[0] += f" ({remark})"
        demonstrations = (
            [f"   demonstrations {cell}" for cell in _cells(self.demonstrations)] if self.demonstrations else [""] * 3
        )
        rows = zip(("return", "success", "episode length"), agent, demonstrations, strict=True)
        return "\n".join(f"{name:<16}{left:<{max(map(len, agent))}}{right}".rstrip() for name, left, right in rows)


def summarize_run(
    model: BaseAlgorithm, evaluation: EvalCallback | None = None, demonstrations: Demonstrations | str | Path | None = None
) -> RunSummary:
    """
    :param model: The trained model
    :param evaluation: The callback that evaluated it, with a ``log_path``, because SB3 keeps no results without one. Without
        evaluations the last ``stats_window_size`` training episodes are used
    :param demonstrations: Demonstrations to compare with; None: the model's own, or those in its replay buffer
    :return: Return, success and episode length of both
    :raises DemonstrationsError: If the demonstrations cannot be read
    """
    source, agent, best, evaluated_at = "training", None, None, None
    if model.ep_info_buffer:
        returns, lengths = ([float(episode[key]) for episode in model.ep_info_buffer] for key in ("r", "l"))
        agent = EpisodeStatistics.of(returns, lengths, model.ep_success_buffer)
    if evaluation is not None and evaluation.evaluations_results:
        source, evaluated_at = "evaluation", int(evaluation.evaluations_timesteps[-1])
        results, successes = evaluation.evaluations_results, evaluation.evaluations_successes
        agent = EpisodeStatistics.of(results[-1], evaluation.evaluations_length[-1], successes[-1] if successes else None)
        means = [float(np.mean(returns)) for returns in results]
        number = int(np.argmax(means))
        best = {"mean_return": means[number], "timesteps": evaluation.evaluations_timesteps[number]}
    compared = _demonstrations_of(model) if demonstrations is None else _statistics(Demonstrations.load(demonstrations))
    return RunSummary(model.num_timesteps, source, agent, best, compared, evaluated_at)


def write_summary(summary: RunSummary, folder: str | Path) -> Path:
    """
    :param summary: Summary of a run
    :param folder: Folder of the run; an existing file is replaced
    :return: Path of the file, ``summary.json``
    """
    path = Path(folder) / "summary.json"
    with write_whole(path, overwrite=True) as temporary:
        temporary.write_text(json.dumps(asdict(summary), indent=2) + "\n")
    return path


def _demonstrations_of(model: BaseAlgorithm) -> EpisodeStatistics | None:
    own, buffer = getattr(model, "demonstrations", None), getattr(model, "replay_buffer", None)
    if isinstance(own, Demonstrations):
        return _statistics(own)
    # The agent's own successes and interventions are not what it is compared with
    if not isinstance(buffer, DemoReplayBuffer) or buffer.n_given == 0:
        return None
    source = (getattr(model, "replay_buffer_kwargs", None) or {}).get("demonstrations")
    try:
        dataset = None if source is None else load_reference(source)
    except DemonstrationsError:
        # The file has been removed since
        dataset = None
    if dataset is not None and len(dataset) == buffer.n_given:
        return _statistics(dataset)
    # The buffer does not know the success of an episode. Its rows of demonstrations come first
    stored = buffer.to_demonstrations()
    starts = stored.episode_starts[stored.episode_starts < buffer.n_demonstrations]
    given = np.flatnonzero(buffer.demonstrations.origins[starts] == Origin.GIVEN)
    return EpisodeStatistics.of(stored.episode_returns[given], stored.episode_lengths[given], None)


def _statistics(demonstrations: Demonstrations) -> EpisodeStatistics:
    return EpisodeStatistics.of(demonstrations.episode_returns, demonstrations.episode_lengths, demonstrations.successes)


def _cells(statistics: EpisodeStatistics | None) -> tuple[str, str, str]:
    if statistics is None:
        return "unknown", "unknown", "unknown"
    rate = "unknown" if statistics.success_rate is None else f"{statistics.success_rate:.2f}"
    spread = f"{_number(statistics.mean_return)} +- {_number(statistics.std_return)}"
    return spread, rate, f"{statistics.mean_length:,.1f}"


def _number(value: float) -> str:
    return f"{value:,.1f}" if abs(value) >= 10.0 else f"{value:.2f}"
