"""Replaying recorded actions in their environment, and videos of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from sb3_pgfd.demonstrations.dataset import Demonstrations
from sb3_pgfd.demonstrations.environment import ENVIRONMENT_ERRORS
from sb3_pgfd.demonstrations.errors import DemonstrationsError
from sb3_pgfd.demonstrations.validation import Locator, as_dict, check_actions, check_observations
from sb3_pgfd.utils.files import install, write_whole

# Largest distance that counts as the recorded start, and default for no drift, in standard deviations
START_TOLERANCE = 1e-3
DRIFT_THRESHOLD = 0.1
# Rounding error of an observation, relative to its value; rows that are converted to double precision at a time
_ROUNDING, _CHUNK = 1e-5, 4096


@dataclass
class ReplayedEpisode:
    """
    One replayed episode. A distance between observations is that of the component that differs most, in standard deviations
    of this component over all recorded observations.
    """

    number: int
    seed: int | None
    """Seed of the reset in the recording, None: unknown"""
    start_distance: float
    """Distance between the recorded and the replayed first observation"""
    reached_start: bool
    """Whether they are the same up to rounding; if not, no action is replayed"""
    recorded_return: float
    recorded_end: str
    """``"terminated"`` or ``"truncated"``"""
    recorded_steps: int
    n_steps: int = 0
    """Number of replayed steps; fewer than recorded if the environment ends the episode earlier"""
    largest_distance: float | None = None
    """Largest distance between recorded and replayed observations, None: nothing was replayed"""
    final_distance: float | None = None
    """Distance after the last step"""
    drift_step: int | None = None
    """First step, counted from 0, after which the distance was above the threshold"""
    drift_component: str | None = None
    """The component that differed most there"""
    replayed_return: float | None = None
    replayed_end: str | None = None
    """``"terminated"``, ``"truncated"`` or ``"not over"``"""

    def to_json(self) -> dict[str, Any]:
        """:return: Plain values by field name, None for infinity and NaN, which JSON does not have"""
        values = asdict(self).items()
        return {name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in values}


def recorded_seed(demonstrations: Demonstrations, number: int) -> int | None:
    """:return: Seed of the reset of an episode, None: unknown"""
    seeds = demonstrations.episode_info.get("seed")
    return None if seeds is None else int(seeds[number])


def replay(
    demonstrations: Demonstrations,
    env: gym.Env,
    episodes: Sequence[int] | None = None,
    on_frame: Callable[[np.ndarray], object] | None = None,
    threshold: float = DRIFT_THRESHOLD,
) -> list[ReplayedEpisode]:
    """
    Reset the environment with the recorded seed and, if that leads to the recorded start, replay the actions. A
    deterministic environment that has not changed repeats the recording without drift.

    :param demonstrations: Demonstrations recorded in such an environment
    :param env: The environment to replay them in
    :param episodes: Numbers of the episodes, None: all
    :param on_frame: Called with the RGB array of ``env.render()`` at the start and after every replayed step
    :param threshold: Distance above which observations have drifted
    :raises DemonstrationsError: If they do not fit the environment, or it cannot be reset, stepped or rendered
    """
    if on_frame is not None and env.render_mode != "rgb_array":
        raise DemonstrationsError(f"replay: found render_mode={env.render_mode!r}, expected an env made with 'rgb_array'")
    check_observations(demonstrations.observations, env.observation_space)
    # Shape and dtype only: whether actions may leave the bounds is up to the environment
    check_actions(demonstrations.actions[:0], env.action_space, Locator(demonstrations.episode_lengths))
    player = _Player(demonstrations, env, on_frame, threshold)
    return [player.play(int(number)) for number in (range(demonstrations.n_episodes) if episodes is None else episodes)]


class _Player:
    """Replays episodes and measures distances in standard deviations of the whole dataset."""

    def __init__(
        self, demonstrations: Demonstrations, env: gym.Env, on_frame: Callable[[np.ndarray], object] | None, threshold: float
    ):
        self.demonstrations, self.env, self.on_frame, self.threshold = demonstrations, env, on_frame, threshold
        self.arrays, self.next_arrays = as_dict(demonstrations.observations), as_dict(demonstrations.next_observations)
        self.scale = np.concatenate([_standard_deviations(array).ravel() for array in self.arrays.values()])

    def _distances(self, found: Any, recorded: np.ndarray) -> np.ndarray:
        """:return: Distance of each component, infinity for NaN"""
        keys = self.demonstrations.observations
        difference = np.abs(_vector([found[key] for key in keys] if isinstance(keys, Mapping) else [found]) - recorded)
        return np.where(np.isnan(difference), np.inf, difference) / self.scale

    def _name(self, component: int) -> str:
        """:return: The component's place in the observation, e.g. ``observations[3]``"""
        names = [
            f"{name}[{', '.join(map(str, index))}]" if index else name
            for name, array in self.arrays.items()
            for index in np.ndindex(array.shape[1:])
        ]
        return names[component]

    def play(self, number: int) -> ReplayedEpisode:
        data, seed = self.demonstrations, recorded_seed(self.demonstrations, number)
        first = int(data.episode_starts[number])
        rows = range(first, first + int(data.episode_lengths[number]))
        recorded = _vector([array[first] for array in self.arrays.values()])
        # Without a known seed try that of the attempt: the start is compared, and a start without randomness needs no seed
        base = data.metadata.get("seed")
        guess = number + (base if isinstance(base, int) and base >= 0 else 0)
        observation, _ = self._call(number, self.env.reset, seed=guess if seed is None else seed)
        distances = self._distances(observation, recorded)
        tolerance = START_TOLERANCE + _ROUNDING * np.abs(recorded) / self.scale
        reached, end = bool((distances <= tolerance).all()), "terminated" if data.terminated[rows[-1]] else "truncated"
        start_distance, episode_return = float(distances.max(initial=0.0)), float(data.episode_returns[number])
        episode = ReplayedEpisode(number, seed, start_distance, reached, episode_return, end, len(rows))
        if reached:
            self._replay_actions(episode, rows)
        return episode

    def _replay_actions(self, episode: ReplayedEpisode, rows: range) -> None:
        data, number, largest, total = self.demonstrations, episode.number, 0.0, 0.0
        episode.replayed_end = "not over"
        self._draw(number)
        for step, row in enumerate(rows):
            # A copy, because an environment may scale its action in place
            observation, reward, terminated, truncated, _ = self._call(number, self.env.step, data.actions[row].copy())
            self._draw(number)
            distances = self._distances(observation, _vector([array[row] for array in self.next_arrays.values()]))
            distance = float(distances.max(initial=0.0))
            largest, total = max(largest, distance), total + float(reward)
            episode.n_steps, episode.final_distance = step + 1, distance
            episode.largest_distance, episode.replayed_return = largest, total
            if episode.drift_step is None and distance > self.threshold:
                episode.drift_step, episode.drift_component = step, self._name(int(distances.argmax()))
            if terminated or truncated:
                episode.replayed_end = "terminated" if terminated else "truncated"
                break

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


def _vector(parts: Sequence[Any]) -> np.ndarray:
    return np.concatenate([np.asarray(part, dtype=np.float64).ravel() for part in parts])


def _standard_deviations(array: np.ndarray) -> np.ndarray:
    """Standard deviation of each component, 1 for constants. In parts, because ``array.std`` copies images as float64."""
    mean = array.mean(axis=0, dtype=np.float64)
    squares = np.zeros_like(mean)
    for start in range(0, len(array), _CHUNK):
        squares += ((array[start : start + _CHUNK] - mean) ** 2).sum(axis=0)
    # The squares of equal numbers may be a rounding error
    return np.where(array.min(axis=0) == array.max(axis=0), 1.0, np.sqrt(squares / len(array)))


@contextmanager
def write_video(path: Path, fps: float, overwrite: bool = False) -> Iterator[Callable[[np.ndarray], None]]:
    """
    Yield a function that adds one frame to a video. The file appears when the block is left. Frames go to the encoder at
    once, because a minute of small frames takes a gigabyte of memory.

    :param path: Path of the video, ending ``.mp4``
    :param fps: Frames per second
    :param overwrite: Whether an existing file may be replaced
    :raises DemonstrationsError: If the path has another ending, or no frame was added
    :raises FileExistsError: If there is a file already
    :raises ImportError: If moviepy is not installed
    """
    check_video_path(path)
    try:
        from moviepy.video.io.ffmpeg_writer import FFMPEG_VideoWriter
    except ImportError as error:
        raise ImportError(f"Videos need moviepy ({error}): {install('video')}") from error
    with write_whole(path, overwrite) as temporary:
        encoder: Any = None

        def add(frame: np.ndarray) -> None:
            nonlocal encoder
            # Players need an even number of rows and columns
            frame = np.pad(frame, ((0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0)), mode="edge")
            if encoder is None:
                # The ending of the temporary name does not tell the format
                encoder = FFMPEG_VideoWriter(str(temporary), frame.shape[1::-1], fps, ffmpeg_params=["-f", "mp4"])
            encoder.write_frame(frame)

        try:
            yield add
        finally:
            if encoder is not None:
                encoder.close()
        if temporary.stat().st_size == 0:
            raise DemonstrationsError(f"{path}: found no frame, expected at least one: is there an episode to show?")


def check_video_path(path: Path) -> None:
    """:raises DemonstrationsError: If the path does not end with ``.mp4``"""
    if path.suffix.lower() != ".mp4":
        raise DemonstrationsError(f"{path}: found the ending {path.suffix!r}, expected '.mp4'")
