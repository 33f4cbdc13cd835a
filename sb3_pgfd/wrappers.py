"""
Environment wrappers: report success, for the ``env_wrapper`` and the monitor of the RL Zoo; reward it; start in
demonstrations; let somebody take over (``InterventionWrapper``, ``Person``); step in real time (``RealTime``).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.atari_wrappers import EpisodicLifeEnv
from stable_baselines3.common.monitor import Monitor, ResultsWriter
from stable_baselines3.common.vec_env import VecEnv

from sb3_pgfd.common.environment_state import layers
from sb3_pgfd.common.real_time import RealTime
from sb3_pgfd.demonstrations import Demonstrations, DemonstrationsError
from sb3_pgfd.demonstrations.inspection.replay import replay
from sb3_pgfd.demonstrations.recording.camera import CameraObservation
from sb3_pgfd.demonstrations.recording.interventions import InterventionWrapper, Person
from sb3_pgfd.demonstrations.recording.session import success_of
from sb3_pgfd.utils.checks import is_number, is_whole
from sb3_pgfd.utils.warning import warn_user

__all__ = ["CameraObservation", "InterventionWrapper", "Person", "RealTime", "ReportSuccess", "StartInDemonstrations"]
__all__ += ["SuccessMonitor", "SuccessReward", "leave_demonstrations", "monitor_successes"]

SUCCESS = "is_success"


class ReportSuccess(gym.Wrapper, gym.utils.RecordConstructorArgs):
    """
    Report success under the name that Stable-Baselines3 and the RL Zoo read: ``EvalCallback`` and ``rollout/success_rate``
    use ``info["is_success"]`` of the last step of an episode. PointMaze and Meta-World call it ``success``. In the yaml::

        env_wrapper: sb3_pgfd.wrappers.ReportSuccess

    Every step reports success. If the info lacks the key, its own ``is_success`` counts, or else False. The value holds after
    this step; it does not say whether the task was solved earlier in the episode.

    :param env: Environment to wrap
    :param key: Name of success in the environment's info
    """

    def __init__(self, env: gym.Env, key: str = "success"):
        gym.utils.RecordConstructorArgs.__init__(self, key=key)
        super().__init__(env)
        self.key = key

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """:return: The result of the environment, with ``is_success`` in the info"""
        observation, reward, terminated, truncated, info = self.env.step(action)
        success = info.get(self.key, info.get(SUCCESS, False))
        return observation, reward, terminated, truncated, {**info, SUCCESS: bool(success)}


class SuccessReward(gym.Wrapper):
    """
    The reward of a judge: 1 for a success, which ends the episode, otherwise 0. The environment's own reward, and its word on
    success, do not count. ``SuccessReward(env, person.succeeded)`` takes the word of a person, who presses RETURN; put it
    outside of the :class:`InterventionWrapper`.

    :param env: Environment to wrap
    :param judge: Of the observation after a step and its info to whether the task is solved, such as a trained classifier
    """

    def __init__(self, env: gym.Env, judge: Callable[[Any, dict[str, Any]], Any]):
        super().__init__(env)
        self.judge = judge

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """:return: The result of the environment, with the judge's reward"""
        observation, _, terminated, truncated, info = self.env.step(action)
        success = bool(self.judge(observation, info))
        return observation, float(success), bool(terminated or success), truncated, {**info, SUCCESS: success}


class StartInDemonstrations(gym.Wrapper):
    """
    Start episodes inside demonstrations, first shortly before their end, then earlier and earlier: the reverse curriculum of
    RFCL (Tao et al. 2024, https://arxiv.org/abs/2405.03379). It needs a simulator. A start is reached by a reset with the
    demonstration's seed and its first actions, so any deterministic environment will do and a file needs no states; each
    demonstration is replayed once to see that it does. Wrap the environment that is learned from, not that of evaluations::

        env = StartInDemonstrations(gym.make("FetchPush-v4"), "my_demos.npz")
        model = TD3fD("MultiInputPolicy", env, demonstrations="my_demos.npz")

    As the ``env_wrapper`` of a yaml it acts while an agent learns, and not in evaluations and ``sb3-pgfd enjoy``.

    The actions before the start count for the time limit, but are no part of the episode. A demonstration is done with when
    episodes from its beginning succeed. All other episodes start as the environment does.

    :param env: Environment to wrap, whose last info reports ``is_success`` or ``success``
    :param demonstrations: Demonstrations with the seed of each reset, or what ``Demonstrations.load`` takes
    :param share: Share of episodes that start in demonstrations, as long as some are not done with
    :param stride: By how many steps a start moves, and how far the first one is from the end
    :param window: Episodes from one demonstration whose success rate counts
    :param success_rate: Rate from which on its start moves
    :raises ValueError: If a number is out of range
    :raises DemonstrationsError: If no demonstration can be replayed in the environment, or it reports no success
    """

    read_by_reset = ("starts",)
    """What :class:`~sb3_pgfd.common.environment_state.Resumable` must restore before it repeats an episode"""

    def __init__(
        self,
        env: gym.Env,
        demonstrations: Demonstrations | str | Path,
        share: float = 0.5,
        stride: int = 5,
        window: int = 4,
        success_rate: float = 0.75,
    ):
        super().__init__(env)
        for name, value in (("share", share), ("success_rate", success_rate)):
            if not is_number(value, 0.0, 1.0):
                raise ValueError(f"{name}: found {value!r}, expected 0 to 1")
        for name, value in (("stride", stride), ("window", window)):
            if not is_whole(value, 1):
                raise ValueError(f"{name}: found {value!r}, expected a whole number >= 1")
        self.demonstrations = Demonstrations.load(demonstrations)
        # A monitor is not to take what is repeated for episodes
        self._unmonitored = env.env if isinstance(env, Monitor) else env
        self.share, self.stride, self.success_rate = share, stride, success_rate
        self.starts = {i: max(0, n - stride) for i, n in self._replayable().items()}
        """Where episodes start in the demonstrations that are not done with, by their number"""
        self._successes: dict[int, deque[bool]] = {i: deque(maxlen=window) for i in self.starts}
        self._current: int | None = None
        self._n_replayed, self._replayed_return = 0, 0.0
        self._rng = np.random.default_rng()

    def _replayable(self) -> dict[int, int]:
        """:return: The lengths of the demonstrations that the environment repeats, by their number"""
        seeds, n = self.demonstrations.episode_info.get("seed"), self.demonstrations.n_episodes
        if seeds is None:
            raise DemonstrationsError(
                "StartInDemonstrations: found demonstrations without the seeds of their resets, expected those that record() "
                "makes"
            )
        seen = _LastInfo(self._unmonitored)
        lengths, found = self.demonstrations.episode_lengths.tolist(), replay(self.demonstrations, seen)
        same = {e.number: e.n_steps for e in found if e.drift_step is None and e.n_steps == lengths[e.number]}
        if not same:
            raise DemonstrationsError(
                f"StartInDemonstrations: found none of {n} demonstrations that the environment repeats, expected a "
                "deterministic simulator, as recorded from: see sb3-pgfd demos show --replay"
            )
        if len(same) < n:
            warn_user(
                f"StartInDemonstrations: the environment repeats {len(same)} of {n} demonstrations; episodes start in these",
            )
        if seen.info is not None:
            _success_in(seen.info)
        return same

    def leave_demonstrations(self) -> None:
        """Start all episodes as the environment does, as evaluations should."""
        self.share = 0.0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """:return: The first observation and the info, inside a demonstration or not"""
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        self._current, self._n_replayed, self._replayed_return = None, 0, 0.0
        if self.starts and self._rng.random() < self.share:
            return self._start_in(int(self._rng.choice(list(self.starts))))
        # A demonstration's seed would otherwise decide all starts after it
        return self.env.reset(seed=int(self._rng.integers(2**31)) if seed is None else seed, options=options)

    def _start_in(self, number: int) -> tuple[Any, dict[str, Any]]:
        demonstrations, self._current = self.demonstrations, number
        first = int(demonstrations.episode_starts[number])
        observation, info = self.env.reset(seed=int(demonstrations.episode_info["seed"][number]))
        for action in demonstrations.actions[first : first + self.starts[number]]:
            # A copy, because an environment may scale its action in place
            observation, reward, _, _, info = self._unmonitored.step(action.copy())
            if self._unmonitored is self.env:
                self._n_replayed += 1
                self._replayed_return += float(reward)
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """:return: The result of the environment"""
        *result, info = self.env.step(action)
        if self._current is not None and (result[2] or result[3]):
            self._finish(self._current, _success_in(info))
            self._current = None
            # Of a monitor further inside, which has seen the actions before the start
            if "episode" in info:
                whole = info["episode"]
                info["episode"] = {**whole, "r": whole["r"] - self._replayed_return, "l": whole["l"] - self._n_replayed}
        return (*result, info)

    def _finish(self, number: int, success: bool) -> None:
        successes = self._successes[number]
        successes.append(success)
        if len(successes) < (successes.maxlen or 0) or np.mean(successes) < self.success_rate:
            return
        successes.clear()
        if self.starts[number] == 0:
            del self.starts[number]
        else:
            self.starts[number] = max(0, self.starts[number] - self.stride)


class _LastInfo(gym.Wrapper):
    """Remembers the info of the last step of an episode."""

    info: dict[str, Any] | None = None

    def step(self, action: Any) -> Any:
        result = self.env.step(action)
        if result[2] or result[3]:
            self.info = result[4]
        return result


def _success_in(info: dict[str, Any]) -> bool:
    success = success_of(info)
    if success is None:
        raise DemonstrationsError(
            "StartInDemonstrations: found neither 'is_success' nor 'success' in the last info, expected one of them"
        )
    return success


def leave_demonstrations(env: VecEnv) -> VecEnv:
    """
    :param env: For evaluations
    :return: The same, whose episodes start as usual, also if it has a :class:`StartInDemonstrations`
    """
    for number in np.flatnonzero(env.env_is_wrapped(StartInDemonstrations)).tolist():
        env.env_method("leave_demonstrations", indices=number)
    return env


class SuccessMonitor(Monitor):
    """
    SB3's ``Monitor`` with a column ``is_success`` if the last info of the first episode has ``is_success`` or ``success``.
    The last infos then have ``is_success``, which SB3 looks for. ``Monitor(info_keywords=("is_success",))`` must be told
    beforehand, and one episode without is an error.

    :param env: The environment
    :param filename: Of the log, None: no log
    """

    def __init__(self, env: gym.Env, filename: str | None = None):
        super().__init__(env)
        self.filename = filename
        # Not Monitor's own, which would write each row before the column is in it
        self._writer: ResultsWriter | None = None
        self._columns: tuple[str, ...] = ("r", "l", "t")

    def step(self, action: Any) -> Any:
        result = super().step(action)
        if self.needs_reset:
            self.finish(result[-1])
        return result

    def finish(self, info: dict[str, Any]) -> None:
        """:param info: Of the last step of an episode, with ``episode``"""
        success = success_of(info)
        if success is not None:
            info.setdefault(SUCCESS, success)
            info["episode"][SUCCESS] = float(success)
        if self.filename is not None:
            self._write(self.filename, info["episode"])

    def _write(self, filename: str, episode: dict[str, Any]) -> None:
        if self._writer is None:
            if SUCCESS in episode and SUCCESS not in self._columns:
                self._columns += (SUCCESS,)
            # As Monitor writes it
            env_id = None if self.env.spec is None else self.env.spec.id
            header: dict[str, float | str] = {"t_start": self.t_start, "env_id": str(env_id)}
            self._writer = ResultsWriter(filename, header, self._columns[3:], override_existing=not _has_rows(filename))
        self._writer.write_row({name: episode[name] for name in self._columns if name in episode})

    def close(self) -> None:
        super().close()
        if self._writer is not None:
            self._writer.close()


class _TellsMonitor(gym.Wrapper):
    """Tells a monitor inside of episodes that a wrapper between has ended: it would wait for their end, and so would SB3."""

    def __init__(self, env: gym.Env, monitor: Monitor):
        super().__init__(env)
        self._monitor = monitor

    def step(self, action: Any) -> Any:
        result = self.env.step(action)
        if (result[2] or result[3]) and not self._monitor.needs_reset:
            self._finish(self._monitor, result[4])
        return result

    @staticmethod
    def _finish(monitor: Monitor, info: dict[str, Any]) -> None:
        # As Monitor does at an end
        episode_return, length, seconds = sum(monitor.rewards), len(monitor.rewards), time.time() - monitor.t_start
        monitor.episode_returns.append(episode_return)
        monitor.episode_lengths.append(length)
        monitor.episode_times.append(seconds)
        columns = {name: info[name] for name in monitor.info_keywords}
        info["episode"] = {"r": round(episode_return, 6), "l": length, "t": round(seconds, 6), **columns}
        if isinstance(monitor, SuccessMonitor):
            monitor.finish(info)
        elif monitor.results_writer is not None:
            monitor.results_writer.write_row(info["episode"])


def tell_monitor(env: gym.Env, then: Callable[[gym.Env], gym.Env] | None = None) -> gym.Env:
    """
    :param env: With a ``Monitor`` somewhere
    :param then: Wrapper to put around first
    :return: An environment whose monitor knows of all ends. Atari's lives are none: its monitor counts whole games
    """
    env = env if then is None else then(env)
    inside = list(layers(env))
    monitor = next((layer for layer in inside if isinstance(layer, Monitor)), None)
    if monitor is None or monitor is env or any(isinstance(layer, EpisodicLifeEnv) for layer in inside):
        return env
    return _TellsMonitor(env, monitor)


def _has_rows(filename: str) -> bool:
    """:return: Whether a log goes on, because its run was resumed. A new one has nothing but Monitor's two lines"""
    path = Path(filename)
    return path.is_file() and len(path.read_text().splitlines()) > 2


def monitor_successes(
    env: gym.Env,
    then: Callable[[gym.Env], gym.Env] | None = None,
    inside: Callable[[gym.Env], gym.Env] | None = None,
) -> gym.Env:
    """
    Replace SB3's ``Monitor`` by a :class:`SuccessMonitor`. This is a wrapper for the RL Zoo, which puts wrappers around a
    ``Monitor`` of its own.

    :param env: Under a ``Monitor`` that has not been used yet and has no columns of its own
    :param then: Wrapper to put around
    :param inside: Wrapper to put inside, whose rewards are logged
    """
    if isinstance(env, Monitor):
        writer, filename = env.results_writer, None
        if writer is not None:
            writer.close()
            filename = writer.file_handler.name
        env = SuccessMonitor(env.env if inside is None else inside(env.env), filename)
    return tell_monitor(env, then)
