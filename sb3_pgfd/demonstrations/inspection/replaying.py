"""Playing recorded actions back in their environment."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import gymnasium as gym
import numpy as np

from sb3_pgfd.demonstrations.arrays import map_observations
from sb3_pgfd.demonstrations.dataset import Demonstrations
from sb3_pgfd.demonstrations.environment import ENVIRONMENT_ERRORS
from sb3_pgfd.demonstrations.errors import DemonstrationsError
from sb3_pgfd.demonstrations.validation import Locator, Observations, as_dict, check_actions, check_observations

# Largest distance that counts as the recorded start, and by default as no drift, in standard deviations
START_TOLERANCE = 1e-3
DRIFT_THRESHOLD = 0.1
# Rounding of an observation, relative to its value
_ROUNDING = 1e-5
# Rows that are converted to double precision at a time
_CHUNK = 4096


@dataclass(frozen=True)
class ReplayedEpisode:
    """
    One episode, played back. Distances are those of the component that differs most, in standard deviations of that
    component over all recorded observations.
    """

    number: int
    seed: int | None
    """What the environment was reset with for the recording, None: unknown"""
    start_distance: float
    """Between the recorded and the replayed first observation"""
    reached_start: bool
    """Whether they are the same, but for rounding; if not, the actions were not played back"""
    n_steps: int
    """Steps that were played back: the recorded ones, or fewer if the episode was over before"""
    largest_distance: float | None
    """Between recorded and replayed observations; None if nothing was played back"""
    final_distance: float | None
    """After the last step"""
    drift_step: int | None
    """The first step, from 0, after which the distance was above the threshold"""
    drift_component: str | None
    """What differed most there"""
    recorded_return: float
    replayed_return: float | None
    recorded_end: str
    """``"terminated"`` or ``"truncated"``"""
    replayed_end: str | None
    """The same, or ``"not over"``"""

    def to_json(self) -> dict[str, Any]:
        """:return: Plain values, by the names of the fields; None for what is not finite, which JSON cannot hold"""
        values = asdict(self).items()
        return {name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in values}


def recorded_seed(demonstrations: Demonstrations, number: int) -> int | None:
    """
    :param demonstrations: With ``episode_info["seed"]``, or as an older version recorded them: ``seed`` + k for attempt k,
        which are the episodes if all attempts were kept
    :param number: Of the episode
    :return: What the environment was reset with, None: unknown
    """
    if "seed" in demonstrations.episode_info:
        return int(demonstrations.episode_info["seed"][number])
    if "seed" in demonstrations.metadata and demonstrations.metadata.get("n_attempts") == demonstrations.n_episodes:
        return _first_seed(demonstrations) + number
    return None


def _first_seed(demonstrations: Demonstrations) -> int:
    seed = demonstrations.metadata.get("seed")
    return seed if isinstance(seed, int) and seed >= 0 else 0


def replay(
    demonstrations: Demonstrations,
    env: gym.Env,
    episodes: Sequence[int] | None = None,
    on_frame: Callable[[np.ndarray], object] | None = None,
    threshold: float = DRIFT_THRESHOLD,
) -> list[ReplayedEpisode]:
    """
    Reset the environment with the recorded seed and, if that leads to the recorded start, play the actions back. An
    environment that is deterministic and the same as then repeats the recording without drift.

    :param demonstrations: Recorded in such an environment
    :param env: Where to play them back
    :param episodes: Their numbers, None: all
    :param on_frame: Called with what ``env.render()`` returns, an RGB array, at the start and after every step that is
        played back
    :param threshold: Distance above which observations have drifted
    :raises DemonstrationsError: If they do not fit the environment, or it cannot be reset, stepped or rendered
    """
    if on_frame is not None and env.render_mode != "rgb_array":
        raise DemonstrationsError(f"replay: found render_mode={env.render_mode!r}, expected an env made with 'rgb_array'")
    check_observations(demonstrations.observations, env.observation_space)
    # Their bounds are the environment's business
    check_actions(demonstrations.actions[:0], env.action_space, Locator(demonstrations.episode_lengths))
    player = _Player(demonstrations, env, on_frame, threshold)
    return [player.play(int(number)) for number in (range(demonstrations.n_episodes) if episodes is None else episodes)]


class _Metric:
    """
    Distances between observations.

    :param observations: Of the whole dataset
    """

    def __init__(self, observations: Observations):
        arrays = as_dict(observations)
        self.keys = list(observations) if isinstance(observations, Mapping) else None
        self.scale = np.concatenate([_standard_deviations(array).ravel() for array in arrays.values()])
        self._names = list(arrays)
        self._shapes = [array.shape[1:] for array in arrays.values()]

    def vector(self, observation: Any) -> np.ndarray:
        """:return: All components of one observation, float64"""
        parts = [observation] if self.keys is None else [observation[key] for key in self.keys]
        return np.concatenate([np.asarray(part, dtype=np.float64).ravel() for part in parts])

    def distances(self, found: Any, recorded: np.ndarray) -> np.ndarray:
        """:return: Of each component; what is no number is infinitely far"""
        difference = np.abs(self.vector(found) - recorded)
        return np.where(np.isnan(difference), np.inf, difference) / self.scale

    def name(self, component: int) -> str:
        for name, shape in zip(self._names, self._shapes, strict=True):
            size = math.prod(shape)
            if component < size:
                index = ", ".join(str(int(i)) for i in np.unravel_index(component, shape)) if shape else ""
                return f"{name}[{index}]" if shape else name
            component -= size
        raise IndexError(component)


class _Player:
    def __init__(
        self, demonstrations: Demonstrations, env: gym.Env, on_frame: Callable[[np.ndarray], object] | None, threshold: float
    ):
        self.demonstrations, self.env, self.on_frame, self.threshold = demonstrations, env, on_frame, threshold
        self.metric = _Metric(demonstrations.observations)

    def play(self, number: int) -> ReplayedEpisode:
        data, seed = self.demonstrations, recorded_seed(self.demonstrations, number)
        first = int(data.episode_starts[number])
        rows = range(first, first + int(data.episode_lengths[number]))
        recorded = self.metric.vector(_row(data.observations, first))
        # A guess does no harm, as the start is compared; where nothing is left to chance any seed leads there
        guess = _first_seed(data) + number
        observation, _ = self._call(number, self.env.reset, seed=guess if seed is None else seed)
        distances = self.metric.distances(observation, recorded)
        tolerance = START_TOLERANCE + _ROUNDING * np.abs(recorded) / self.metric.scale
        reached_start = bool((distances <= tolerance).all())
        return ReplayedEpisode(
            number=number,
            seed=seed,
            start_distance=float(distances.max(initial=0.0)),
            reached_start=reached_start,
            recorded_return=float(data.episode_returns[number]),
            recorded_end="terminated" if data.terminated[rows[-1]] else "truncated",
            **(self._play_back(number, rows) if reached_start else _NOT_PLAYED),
        )

    def _play_back(self, number: int, rows: range) -> dict[str, Any]:
        data, largest, total, end = self.demonstrations, [], 0.0, "not over"
        drift_step = drift_component = None
        self._draw(number)
        for step, row in enumerate(rows):
            # A copy, as an environment may scale its action in place
            observation, reward, terminated, truncated, _ = self._call(number, self.env.step, data.actions[row].copy())
            self._draw(number)
            distances = self.metric.distances(observation, self.metric.vector(_row(data.next_observations, row)))
            largest.append(float(distances.max(initial=0.0)))
            total += float(reward)
            if drift_step is None and largest[-1] > self.threshold:
                drift_step, drift_component = step, self.metric.name(int(distances.argmax()))
            if terminated or truncated:
                end = "terminated" if terminated else "truncated"
                break
        return {
            "n_steps": len(largest),
            "largest_distance": max(largest),
            "final_distance": largest[-1],
            "drift_step": drift_step,
            "drift_component": drift_component,
            "replayed_return": total,
            "replayed_end": end,
        }

    def _draw(self, number: int) -> None:
        if self.on_frame is not None:
            frame = self._call(number, self.env.render)
            if not isinstance(frame, np.ndarray):
                raise DemonstrationsError(f"replay: render() gave {type(frame).__name__}, expected an RGB array")
            self.on_frame(frame)

    def _call(self, number: int, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        try:
            return function(*arguments, **options)
        except (*ENVIRONMENT_ERRORS, ImportError) as error:
            raise DemonstrationsError(
                f"replay: episode {number}: found an environment that fails in {function.__name__}() "
                f"({type(error).__name__}: {error}), expected the one that was recorded from: see --env and --env-kwargs"
            ) from error


_NOT_PLAYED: dict[str, Any] = {
    "n_steps": 0,
    **dict.fromkeys(
        ("largest_distance", "final_distance", "drift_step", "drift_component", "replayed_return", "replayed_end")
    ),
}


def _row(observations: Observations, row: int) -> Any:
    return map_observations(observations, lambda array: array[row])


def _standard_deviations(array: np.ndarray) -> np.ndarray:
    """Of each component, in parts: NumPy's own would make a copy of all images in double precision. Of constants 1."""
    mean = array.mean(axis=0, dtype=np.float64)
    squares = np.zeros_like(mean)
    for start in range(0, len(array), _CHUNK):
        squares += ((array[start : start + _CHUNK] - mean) ** 2).sum(axis=0)
    # The squares of equal numbers may be a rounding error
    return np.where(array.min(axis=0) == array.max(axis=0), 1.0, np.sqrt(squares / len(array)))
