"""How an agent compares with its demonstrations."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import EvalCallback

from sb3_pgfd.demonstrations import Demonstrations, DemonstrationsError
from sb3_pgfd.replay import DemoReplayBuffer


@dataclass(frozen=True)
class EpisodeStatistics:
    """Of some episodes, raw and undiscounted."""

    n_episodes: int
    mean_return: float
    std_return: float
    mean_length: float
    success_rate: float | None
    """None: the environment does not say"""

    @classmethod
    def of(cls, returns: Any, lengths: Any, successes: Collection[Any] | None) -> EpisodeStatistics:
        """
        :param returns: Of each episode
        :param lengths: Likewise
        :param successes: Likewise, None or empty: nobody said
        """
        rate = None if successes is None or len(successes) == 0 else float(np.mean(list(successes)))
        return cls(len(returns), float(np.mean(returns)), float(np.std(returns)), float(np.mean(lengths)), rate)


@dataclass(frozen=True)
class RunSummary:
    """What a run came to; ``str()`` gives three lines."""

    timesteps: int
    """Environment steps of the run"""
    source: str
    """What the agent's numbers are from: ``"evaluation"``, the last one, or ``"training"``, the last episodes of it"""
    agent: EpisodeStatistics | None
    """None: no episode was finished"""
    best_evaluation: dict[str, float] | None
    """Its ``mean_return`` and ``timesteps``"""
    demonstrations: EpisodeStatistics | None
    """None: there are none"""

    def to_dict(self) -> dict[str, Any]:
        """:return: The same as plain numbers, for JSON"""
        return asdict(self)

    def __str__(self) -> str:
        mine = [f"agent {cell}" for cell in _cells(self.agent)]
        mine[0] += self._remark()
        width = max(map(len, mine))
        theirs = ["", "", ""]
        if self.demonstrations is not None:
            theirs = [f"   demonstrations {cell}" for cell in _cells(self.demonstrations)]
        names = ("return", "success", "episode length")
        rows = zip(names, mine, theirs, strict=True)
        return "\n".join(f"{name:<16}{left:<{width}}{right}".rstrip() for name, left, right in rows)

    def _remark(self) -> str:
        if self.agent is None:
            return " (no episode was finished)"
        if self.best_evaluation is None:
            return f" (last {self.agent.n_episodes} training episodes, with exploration)"
        best, steps = self.best_evaluation["mean_return"], self.best_evaluation["timesteps"]
        return f" (best evaluation {_number(best)} at {steps:,} steps)"


def summarize_run(
    model: BaseAlgorithm, evaluation: EvalCallback | None = None, demonstrations: Demonstrations | str | Path | None = None
) -> RunSummary:
    """
    :param model: That has learned
    :param evaluation: What evaluated it, with a ``log_path``: SB3 keeps no results without one. Without evaluations the
        last training episodes count, as many as the model's ``stats_window_size``
    :param demonstrations: To compare with; None: the model's own, or those in its replay buffer
    :return: Return, success and episode length of both
    :raises DemonstrationsError: If the demonstrations cannot be read
    """
    best = None
    source, agent = "training", _training_episodes(model)
    if evaluation is not None and evaluation.evaluations_results:
        source, agent, best = "evaluation", _last_evaluation(evaluation), _best_evaluation(evaluation)
    theirs = _demonstrations_of(model) if demonstrations is None else _statistics(Demonstrations.load(demonstrations))
    return RunSummary(model.num_timesteps, source, agent, best, theirs)


def _last_evaluation(evaluation: EvalCallback) -> EpisodeStatistics:
    successes = evaluation.evaluations_successes
    last = successes[-1] if successes else None
    return EpisodeStatistics.of(evaluation.evaluations_results[-1], evaluation.evaluations_length[-1], last)


def _best_evaluation(evaluation: EvalCallback) -> dict[str, float]:
    means = [float(np.mean(results)) for results in evaluation.evaluations_results]
    best = int(np.argmax(means))
    return {"mean_return": means[best], "timesteps": evaluation.evaluations_timesteps[best]}


def _training_episodes(model: BaseAlgorithm) -> EpisodeStatistics | None:
    episodes = list(model.ep_info_buffer or ())
    if not episodes:
        return None
    returns, lengths = ([float(episode[key]) for episode in episodes] for key in ("r", "l"))
    return EpisodeStatistics.of(returns, lengths, model.ep_success_buffer)


def _demonstrations_of(model: BaseAlgorithm) -> EpisodeStatistics | None:
    own, buffer = getattr(model, "demonstrations", None), getattr(model, "replay_buffer", None)
    if isinstance(own, Demonstrations):
        return _statistics(own)
    if not isinstance(buffer, DemoReplayBuffer):
        return None
    # The agent's own successes are no measure for it
    n_given = buffer.n_demonstrations - int(buffer.kept_successes.sum())
    if n_given == 0:
        return None
    source = (getattr(model, "replay_buffer_kwargs", None) or {}).get("demonstrations")
    dataset = None if source is None else _still_there(source)
    return _statistics(dataset) if dataset is not None and len(dataset) == n_given else _stored_statistics(buffer)


def _stored_statistics(buffer: DemoReplayBuffer) -> EpisodeStatistics:
    """Of demonstrations that are nowhere else. The buffer does not keep who succeeded."""
    ends = np.flatnonzero(buffer.storage.ended[: buffer.n_demonstrations])
    lengths = np.diff(ends, prepend=-1)
    rewards = buffer.storage.rewards[: buffer.n_demonstrations].astype(np.float64)
    returns = np.add.reduceat(rewards, ends - lengths + 1)
    given = ~buffer.kept_successes[ends]
    return EpisodeStatistics.of(returns[given], lengths[given], None)


def _still_there(source: Any) -> Demonstrations | None:
    try:
        return Demonstrations.load(source)
    except DemonstrationsError:
        return None


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
