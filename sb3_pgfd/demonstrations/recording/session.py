"""What every recorder needs: collect an episode step by step, describe its environment, keep it on disk."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from copy import deepcopy
from operator import itemgetter
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import stable_baselines3 as sb3
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from stable_baselines3.common.vec_env import VecEnv, unwrap_vec_normalize

from sb3_pgfd.demonstrations.arrays import json_copy, map_observations
from sb3_pgfd.demonstrations.dataset import Demonstrations
from sb3_pgfd.demonstrations.environment import make_env
from sb3_pgfd.demonstrations.episode import Episode
from sb3_pgfd.demonstrations.errors import DemonstrationsError
from sb3_pgfd.demonstrations.formats import recording_folder
from sb3_pgfd.demonstrations.formats.npz import with_ending, write_npz
from sb3_pgfd.demonstrations.spaces import space_to_json
from sb3_pgfd.demonstrations.time_limit import with_time_limit
from sb3_pgfd.demonstrations.validation import Observations
from sb3_pgfd.utils.files import Lock, hold, refuse_existing, sync, write_whole


def success_of(info: Mapping[str, Any]) -> bool | None:
    """:return: ``is_success`` or ``success`` in the info of an episode's last step; None if it has neither"""
    success = info.get("is_success", info.get("success"))
    return None if success is None else bool(success)


class EpisodeBuilder:
    """Collects the steps of one episode. It copies everything: an environment may write all observations to one array."""

    def __init__(self, observation: Any, seed: int | None = None):
        self.seed = seed
        self.observations: list[Any] = [deepcopy(observation)]
        self.actions: list[np.ndarray] = []
        self.rewards: list[float] = []

    def __len__(self) -> int:
        return len(self.rewards)

    @property
    def episode_return(self) -> float:
        """Sum of the rewards so far"""
        return sum(self.rewards)

    def add(self, action: Any, observation: Any, reward: Any) -> None:
        """Add a step: the action in environment units, the observation after it and the reward for it."""
        self.actions.append(np.array(action))
        self.observations.append(deepcopy(observation))
        self.rewards.append(float(reward))

    def build(self, terminated: bool, success: bool | None = None) -> Episode:
        """:return: The episode; ``terminated``: whether the last step reached a terminal state, ``success`` None: unknown"""
        first, observations = self.observations[0], self.observations
        if isinstance(first, dict):
            stacked: Observations = {key: np.stack([observation[key] for observation in observations]) for key in first}
        else:
            stacked = np.stack(observations)
        rewards = np.array(self.rewards, dtype=np.float32)
        return Episode(stacked, np.array(self.actions), rewards, bool(terminated), success, self.seed)


class Rollout(EpisodeBuilder):
    """One episode in an environment, which is reset; without a seed it continues its own random numbers."""

    def __init__(self, env: gym.Env, seed: int | None):
        self.env = env
        self.observation, self.info = env.reset(seed=seed)
        self.terminated = self.over = False
        super().__init__(self.observation, seed)

    def step(self, action: Any) -> None:
        """:param action: In environment units, within the bounds"""
        # A copy, because an environment may scale its action in place
        taken = np.array(action)
        self.observation, reward, terminated, truncated, self.info = self.env.step(action)
        self.terminated, self.over = bool(terminated), bool(terminated or truncated)
        self.add(taken, self.observation, reward)

    def episode(self) -> Episode:
        """:return: The steps so far; an episode that is not over counts as truncated"""
        return self.build(self.terminated, success_of(self.info))


class OnlyEnv(gym.Env):
    """
    The environment of a ``VecEnv`` that has one, which resets itself at the end of an episode.

    :param vec_env: It stays open
    :raises DemonstrationsError: If it has several, or normalises what others wrap
    """

    def __init__(self, vec_env: VecEnv):
        if vec_env.num_envs != 1:
            found = f"a VecEnv of {vec_env.num_envs} environments"
            raise DemonstrationsError(
                f"record: found {found}, expected one: a policy with a memory can follow one episode at a time"
            )
        if unwrap_vec_normalize(vec_env) is not None:
            raise DemonstrationsError("record: found VecNormalize inside other wrappers, expected it outermost or none")
        self.vec_env, self.spec = vec_env, vec_env.get_attr("spec")[0]
        self.observation_space, self.action_space = vec_env.observation_space, vec_env.action_space
        self.render_mode = vec_env.render_mode

    def render(self) -> Any:
        return self.vec_env.get_images()[0]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        if seed is not None:
            self.vec_env.seed(seed)
        observations: Any = self.vec_env.reset()
        return map_observations(observations, itemgetter(0)), dict(self.vec_env.reset_infos[0])

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observations: Any
        observations, rewards, dones, infos = self.vec_env.step(np.asarray([action]))
        info, done = infos[0], bool(dones[0])
        seen: Any = info["terminal_observation"] if done else map_observations(observations, itemgetter(0))
        truncated = done and bool(info.get("TimeLimit.truncated", False))
        return seen, float(rewards[0]), done and not truncated, truncated, info


@contextmanager
def open_env(env: gym.Env | str, recorder: str, render_mode: str | None = None) -> Iterator[gym.Env]:
    """
    Yield an environment, which stays open, or the environment of an id, which is made and closed.

    :raises DemonstrationsError: If it is neither, or the environment cannot be made
    """
    if isinstance(env, str):
        with closing(make_env(env, render_mode=render_mode)) as made:
            yield made
    elif isinstance(env, gym.Env):
        yield env
    else:
        raise DemonstrationsError(f"{recorder}: found env of type {type(env).__name__}, expected a gymnasium.Env or its id")


def describe_env(spec: EnvSpec | None, observation_space: spaces.Space, action_space: spaces.Space) -> dict[str, Any]:
    """
    :return: Id and arguments of the environment, if there is a ``spec``, and its spaces, for the settings of a session
    :raises DemonstrationsError: If demonstrations cannot have such a space
    """
    described = {"observation_space": space_to_json(observation_space), "action_space": space_to_json(action_space)}
    if spec is None:
        return described
    # The render mode does not change what is recorded
    kwargs = {key: value for key, value in spec.kwargs.items() if key != "render_mode"}
    return {"env_id": spec.id, "env_kwargs": with_time_limit(spec.id, kwargs, spec.max_episode_steps), **described}


class Session:
    """
    An unfinished recording: the folder ``<path>.recording`` beside the file to be written, with one ``.npz`` per finished
    episode. The first episode creates the folder, ``Demonstrations.load`` reads it, :meth:`finish` turns it into the file.

    :param path: The file to write in the end; the ending ``.npz`` is added if it is missing. None: keep nothing on disk
    :param settings: What is recorded and how, as JSON values. They become metadata, and resuming needs the same settings
    :param resume: Continue the unfinished recording, if there is one
    :param overwrite: Allow replacing the file and, without ``resume``, an unfinished recording
    :raises FileExistsError: If there is a file or an unfinished recording that may not be replaced
    :raises DemonstrationsError: If the recording to resume has other settings or cannot be read
    """

    episodes: list[Episode]
    """Episodes kept so far, including those of a resumed recording"""
    unfinished: bool
    """Whether some episodes are not in the file yet"""

    def __init__(self, path: str | Path | None, settings: Mapping[str, Any], resume: bool = False, overwrite: bool = False):
        self.settings = json_copy(settings)
        self.path = None if path is None else with_ending(Path(path))
        self.folder = None if self.path is None else session_folder(self.path)
        self._overwrite, self.unfinished, self.episodes = overwrite, False, []
        self._states: list[Mapping[str, Any]] = []
        self._lock: Lock | None = None
        if self.path is not None and self.folder is not None:
            self._check_existing(self.path, self.folder, resume)
            if resume and self.folder.exists():
                # Before it is read: two recorders would write to the same files
                self._lock = hold(self.folder, str(self.path))
                self._resume(self.folder)

    def __reduce__(self) -> Any:
        raise TypeError("found a recording to pickle, expected none: a copy would not see what changes on disk")

    @property
    def state(self) -> Mapping[str, Any] | None:
        """The ``state`` of the last :meth:`add`; None if there is no episode"""
        return self._states[-1] if self._states else None

    def _check_existing(self, path: Path, folder: Path, resume: bool) -> None:
        unfinished = folder.exists() or folder.is_symlink()
        if path.exists() and unfinished and resume and not self._overwrite:
            raise FileExistsError(
                f"{path}: found the file and an unfinished recording of it, {folder.name}, expected one of them. A recorder "
                "killed at the very end leaves both: remove the folder to keep the file, or also pass --force "
                "(in Python overwrite=True) to replace the file with the recording"
            )
        refuse_existing(path, self._overwrite)
        if not unfinished:
            return
        if not recording_folder.recognizes(folder):
            raise FileExistsError(f"{folder}: found something that is no recording, expected nothing: move it away")
        # Counting fails on a damaged recording; one that is replaced need not be readable
        n_episodes = 0 if resume or self._overwrite else recording_folder.count_episodes(folder)
        if n_episodes:
            raise FileExistsError(
                f"{folder}: found an unfinished recording of {n_episodes} episodes, expected none: pass --resume "
                "(in Python resume=True) to continue it, or --force (overwrite=True) to start again without it"
            )

    def _resume(self, folder: Path) -> None:
        found = recording_folder.read_settings(folder)
        for key in (*self.settings, *found):
            if key not in found or key not in self.settings or found[key] != self.settings[key]:
                raise DemonstrationsError(
                    f"{folder}: found a recording with {key}={found.get(key)!r:.200}, expected "
                    f"{key}={self.settings.get(key)!r:.200}: resume with the settings of the recording, or pass "
                    "--force (in Python overwrite=True) without resume to start again"
                )
        for episode, state in recording_folder.read_episodes(folder):
            self.episodes.append(episode)
            self._states.append(state)
        self.unfinished = bool(self.episodes)

    def add(self, episode: Episode, state: Mapping[str, Any]) -> None:
        """
        Keep an episode. It is on disk when this method returns.

        :param episode: A finished episode
        :param state: What the recorder needs to continue after it when the recording is resumed, as JSON values
        :raises DemonstrationsError: If the episode is invalid; it is not kept
        """
        number = len(self.episodes)
        try:
            demonstrations = _one_episode(episode, state)
        except DemonstrationsError as error:
            raise DemonstrationsError(f"recording, episode {number} of those kept: {error}") from None
        if self.folder is not None:
            if not self.unfinished:
                self._create_folder(self.folder)
            write_npz(demonstrations, recording_folder.episode_file(self.folder, number))
        self.episodes.append(episode)
        self._states.append(demonstrations.metadata[recording_folder.STATE])
        self.unfinished = True

    def _create_folder(self, folder: Path) -> None:
        """Create the folder, with the episodes of an earlier :meth:`finish` in it."""
        replaces = self._overwrite or recording_folder.count_episodes(folder) == 0
        with write_whole(folder, overwrite=replaces, folder=True) as temporary:
            (temporary / recording_folder.RECORD).write_text(recording_folder.settings_text(self.settings), encoding="utf-8")
            for number, (episode, state) in enumerate(zip(self.episodes, self._states, strict=True)):
                write_npz(_one_episode(episode, state), recording_folder.episode_file(temporary, number))
        self._lock = hold(folder, str(self.path))

    def discard_last(self) -> None:
        """
        Remove the last episode, also from disk.

        :raises DemonstrationsError: If there is no episode, or the file has been written
        """
        if not self.unfinished:
            raise DemonstrationsError("recording: found no episode to discard, expected at least one in no file yet")
        if self.folder is not None:
            recording_folder.episode_file(self.folder, len(self.episodes) - 1).unlink()
            sync(self.folder)
        del self.episodes[-1], self._states[-1]
        self.unfinished = bool(self.episodes)

    def go_on_behind(self, n_episodes: int) -> None:
        """
        Go on where there were so many episodes: later ones are discarded, those of a finished file taken from it.

        :raises DemonstrationsError: If the file has fewer
        """
        while self.unfinished and len(self.episodes) > n_episodes:
            self.discard_last()
        if self.path is not None and not self.episodes and n_episodes > 0:
            finished = Demonstrations.load(self.path)
            if finished.n_episodes < n_episodes:
                found = f"found {finished.n_episodes} episodes"
                raise DemonstrationsError(f"{self.path}: {found}, expected the {n_episodes} of the recording that goes on")
            self.episodes = [finished.episode(number) for number in range(n_episodes)]
            self._states = [{} for _ in self.episodes]

    def finish(self, metadata: Mapping[str, Any]) -> Demonstrations:
        """
        Write the file and remove the folder. You may add more episodes and finish again, which replaces the file.

        :param metadata: Metadata beyond the settings, the success rate, the mean return and the versions of the libraries
        :return: All episodes
        :raises FileExistsError: If another process has written the file meanwhile
        :raises DemonstrationsError: If there is no episode, or they do not fit together
        """
        episodes = recording_folder.settle_successes(self.episodes)
        versions = {"gymnasium": gym.__version__, "numpy": np.__version__, "stable_baselines3": sb3.__version__}
        demonstrations = Demonstrations.from_episodes(episodes, {**self.settings, "versions": versions, **metadata})
        demonstrations = demonstrations.changed(metadata={**demonstrations.summary(), **demonstrations.metadata})
        if self.path is not None:
            write_npz(demonstrations, self.path, self._overwrite)
        if self.folder is not None and self.unfinished:
            # Renamed first: a folder that is half deleted would pass for a recording
            with tempfile.TemporaryDirectory(prefix=f".{self.folder.name}-", suffix=".tmp", dir=self.folder.parent) as trash:
                os.replace(self.folder, Path(trash) / self.folder.name)
        self.unfinished, self._overwrite, self._lock = False, True, None
        return demonstrations


def session_folder(path: Path) -> Path:
    """:return: The folder with the episodes of a file until it is written"""
    path = with_ending(path)
    return path.with_name(path.name + ".recording")


def _one_episode(episode: Episode, state: Mapping[str, Any]) -> Demonstrations:
    return Demonstrations.from_episodes([episode], {recording_folder.STATE: dict(state)})
