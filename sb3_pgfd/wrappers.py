"""Environment wrappers that report success: for the ``env_wrapper`` of the RL Zoo, and its monitor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
from stable_baselines3.common.monitor import Monitor, ResultsWriter

from sb3_pgfd.demonstrations.recording.session import success_of

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
        info = result[-1]
        if self.needs_reset:
            success = success_of(info)
            if success is not None:
                info.setdefault(SUCCESS, success)
                info["episode"][SUCCESS] = float(success)
            if self.filename is not None:
                self._write(self.filename, info["episode"])
        return result

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


def _has_rows(filename: str) -> bool:
    """:return: Whether a log goes on, because its run was resumed. A new one has nothing but Monitor's two lines"""
    path = Path(filename)
    return path.is_file() and len(path.read_text().splitlines()) > 2


def monitor_successes(env: gym.Env, then: Callable[[gym.Env], gym.Env] | None = None) -> gym.Env:
    """
    Replace SB3's ``Monitor`` by a :class:`SuccessMonitor`. This is a wrapper for the RL Zoo, which puts wrappers around a
    ``Monitor`` of its own.

    :param env: Under a ``Monitor`` that has not been used yet and has no columns of its own
    :param then: Wrapper to put around
    """
    if isinstance(env, Monitor):
        writer, filename = env.results_writer, None
        if writer is not None:
            writer.close()
            filename = writer.file_handler.name
        env = SuccessMonitor(env.env, filename)
    return env if then is None else then(env)
