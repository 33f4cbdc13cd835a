"""Successes in the log of a run's episodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
from stable_baselines3.common.monitor import Monitor, ResultsWriter

from sb3_pgfd.demonstrations.recording.session import success_of

SUCCESS = "is_success"


class SuccessMonitor(Monitor):
    """
    SB3's ``Monitor`` for environments that nobody knows: its file has a column ``is_success`` if the first episode says in
    its last info whether it was a success, as ``is_success`` or ``success``, and the info then has ``is_success``, which
    SB3 looks for. ``Monitor(info_keywords=("is_success",))`` must be told beforehand, and one episode without is an error.

    :param env: The environment
    :param filename: Of the log, None: no log
    """

    def __init__(self, env: gym.Env, filename: str | None = None):
        super().__init__(env)
        self.filename = filename
        # Not Monitor's own, which would write each row before the column is in it
        self._writer: ResultsWriter | None = None
        self._columns: tuple[str, ...] = ("r", "l", "t")

    @classmethod
    def instead_of(cls, monitor: Monitor) -> SuccessMonitor:
        """
        :param monitor: That has not been used yet and has no columns of its own
        """
        if monitor.results_writer is None:
            return cls(monitor.env)
        monitor.results_writer.close()
        return cls(monitor.env, monitor.results_writer.file_handler.name)

    def step(self, action: Any) -> Any:
        """cf ``Monitor``"""
        result = super().step(action)
        info = result[-1]
        if self.needs_reset:
            success = success_of(info)
            if success is not None:
                info.setdefault(SUCCESS, success)
                info["episode"][SUCCESS] = float(success)
            self._write(info["episode"])
        return result

    def _write(self, episode: dict[str, Any]) -> None:
        if self.filename is None:
            return
        if self._writer is None:
            if SUCCESS in episode:
                self._columns += (SUCCESS,)
            # As Monitor writes it
            env_id = None if self.env.spec is None else self.env.spec.id
            header: dict[str, float | str] = {"t_start": self.t_start, "env_id": str(env_id)}
            self._writer = ResultsWriter(self.filename, header, self._columns[3:])
        self._writer.write_row({name: episode[name] for name in self._columns if name in episode})

    def close(self) -> None:
        """cf ``Monitor``"""
        super().close()
        if self._writer is not None:
            self._writer.close()


def monitor_successes(env: gym.Env, then: Callable[[gym.Env], gym.Env] | None = None) -> gym.Env:
    """
    What the RL Zoo may be given as a wrapper: it puts its own around a ``Monitor``.

    :param env: Under a ``Monitor``
    :param then: Wrapper to put around
    """
    watched = SuccessMonitor.instead_of(env) if isinstance(env, Monitor) else env
    return watched if then is None else then(watched)
