"""Parts of the ring that join the demonstrations: the agent's own successes, and interventions."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from sb3_pgfd.demonstrations.recording.session import success_of
from sb3_pgfd.replay.n_step import Stores
from sb3_pgfd.replay.storage import Origin

INTERVENE_ACTION = "intervene_action"
"""Key of the info under which an environment gives the action that was executed in place of the policy's"""


class OwnEpisodes:
    """
    Follows the running episode of each environment and says which rows of the ring are worth keeping.

    :param n_envs: Number of environments
    """

    def __init__(self, n_envs: int):
        # Of each environment: steps of the running episode, the last of these that were interventions without a gap, and
        # whether the episode was a success after its first step, before anything was done
        self._n_steps = np.zeros(n_envs, dtype=np.int64)
        self._n_intervened = np.zeros(n_envs, dtype=np.int64)
        self._solved_at_start = np.zeros(n_envs, dtype=bool)

    def add_step(
        self, both: Stores, intervened: np.ndarray, infos: Sequence[dict[str, Any]], keep_successes: bool
    ) -> Iterator[tuple[np.ndarray, Origin]]:
        """
        :param both: With the new step at the head of the ring
        :param intervened: Whether somebody took over in this step, shape ``(n_envs,)``, bool
        :param infos: Of this step, one per environment
        :param keep_successes: Whether to look for successful episodes
        :return: Rows to keep, in the order of time, and what they are: an intervention when it ends, and an episode that
            ended with success. An episode that is a success from its first step on, like that of an object that lies at
            its goal, shows nothing and is left out
        """
        ended_before, ended = (both.ring["ended"][self._step_rows(both, back)] for back in (1, 0))
        for env, info in enumerate(infos):
            interrupted = self._n_steps[env] > 0 and ended_before[env]
            if self._n_intervened[env] > 0 and (interrupted or not intervened[env]):
                yield self._last_rows(both, env, self._n_intervened[env], back=1), Origin.INTERVENTION
                self._n_intervened[env] = 0
            self._n_steps[env] = 1 if interrupted else self._n_steps[env] + 1
            self._n_intervened[env] += intervened[env]
            if self._n_steps[env] == 1:
                self._solved_at_start[env] = bool(success_of(info)) and not ended[env]
            if ended[env]:
                if self._n_intervened[env] > 0:
                    yield self._last_rows(both, env, self._n_intervened[env]), Origin.INTERVENTION
                if keep_successes and success_of(info) and not self._solved_at_start[env]:
                    yield self._last_rows(both, env, self._n_steps[env]), Origin.SUCCESS
                self._n_steps[env] = self._n_intervened[env] = 0

    @staticmethod
    def _step_rows(both: Stores, back: int) -> np.ndarray:
        return (both.head - back * both.n_envs) % both.n_ring_rows + np.arange(both.n_envs)

    @staticmethod
    def _last_rows(both: Stores, env: int, n_steps: int, back: int = 0) -> np.ndarray:
        """:return: Rows of the last steps of an environment, without the newest ``back``; those overwritten are left out"""
        n_there = min(int(n_steps) + back, both.n_ring_rows // both.n_envs)
        return both.ring_rows(n_there)[env, : n_there - back]
