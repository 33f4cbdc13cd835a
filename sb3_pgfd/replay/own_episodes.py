"""What the agent's environments report beyond SB3's fields: interventions, and successes worth keeping."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from gymnasium import spaces

from sb3_pgfd.demonstrations.recording.interventions import INTERVENE_ACTION
from sb3_pgfd.demonstrations.recording.session import success_of
from sb3_pgfd.replay.conversion import scaled
from sb3_pgfd.replay.n_step import Stores
from sb3_pgfd.replay.storage import Origin
from sb3_pgfd.utils.warning import OptionWarning, warn_user

POLICY_ACTION = "policy_action"
"""Key of the info under which an algorithm gives the action of its policy without exploration noise, as it is stored"""
ENV_RESTARTED = "env_restarted"
"""Key of the info of a step that may not have been taken, because its environment was lost and made anew"""
# Enough to know that an environment does not report success
_SILENT_EPISODES = 10


def executed_actions(
    actions: np.ndarray, infos: Sequence[dict[str, Any]], space: spaces.Space
) -> tuple[np.ndarray, list[bool]]:
    """
    :param actions: Of the policy, as they are stored, shape ``(n_envs, action_dim)``
    :param infos: One per environment
    :param space: Action space of the environment, whose units the infos use
    :return: The actions that were executed, as they are stored, and whether each was an intervention
    :raises ValueError: If an intervention is no action of the environment
    """
    intervened = [info.get(INTERVENE_ACTION) is not None for info in infos]
    if any(intervened):
        actions = actions.copy()
    for env, info in enumerate(infos):
        if intervened[env]:
            taken = np.asarray(info[INTERVENE_ACTION])
            is_box = isinstance(space, spaces.Box)
            if not (taken.shape == space.shape and np.isfinite(taken).all() if is_box else space.contains(taken)):
                raise ValueError(
                    f"info[{INTERVENE_ACTION!r}]: found {taken.tolist()} of shape {taken.shape} in environment {env}, "
                    f"expected an action of {space}"
                )
            actions[env] = scaled(taken, space).reshape(-1)
    return actions, intervened


@dataclass
class _Running:
    """The running episode of one environment."""

    n_steps: int = 0
    n_intervened: int = 0
    """How many of the last steps were interventions, without a gap"""
    solved_at_start: bool = False
    """Whether it was a success after its first step, before anything was done"""
    intended: deque[np.ndarray] = field(default_factory=deque)
    """Of the last steps the action without exploration noise, as many as the ring holds"""


class OwnEpisodes:
    """
    Follows the running episode of each environment in the ring.

    :param n_envs: Number of environments
    """

    # Episodes that ended without a word on success; None: there was one, or the user has been told
    _n_silent: int | None = 0

    def __init__(self, n_envs: int):
        self._running = [_Running() for _ in range(n_envs)]

    def step_of(self, env: int) -> int:
        """:return: Number of the next step in the running episode of an environment, from 0"""
        return self._running[env].n_steps

    def warn_if_silent(self) -> None:
        """Warn once if ten episodes have ended and none of them said whether it was a success."""
        if self._n_silent is not None and self._n_silent >= _SILENT_EPISODES:
            warn_user(
                f"keep_successes: found {self._n_silent} episodes whose last info has neither 'is_success' nor 'success', "
                "expected one of them: no success is kept. Let the environment report it "
                "(sb3_pgfd.wrappers.ReportSuccess), or set keep_successes=False",
                OptionWarning,
            )
            self._n_silent = None

    def add_step(
        self,
        both: Stores,
        ended: np.ndarray,
        interrupted: np.ndarray,
        intervened: Sequence[bool],
        infos: Sequence[dict[str, Any]],
    ) -> Iterator[tuple[np.ndarray, Origin, list[np.ndarray]]]:
        """
        Write ``steps_left`` of the episodes that are over, and say which rows of the ring may join the demonstrations.

        :param both: With a new step of all environments at the head of the ring
        :param ended: Whether it ended an episode, shape ``(n_envs,)``, bool
        :param interrupted: Whether it does not go on where the step before stopped, whose episode is over if it was not yet
        :param intervened: Whether somebody took over in this step
        :param infos: Of this step
        :return: Rows in the order of time, and what they are: an intervention when it is over, and an episode that ended
            with success, with its actions without exploration noise, if the algorithm gives them. An episode that is a
            success from its first step on, like that of an object that lies at its goal, shows nothing and is left out
        """
        for env, info in enumerate(infos):
            running = self._running[env]
            if running.n_intervened > 0 and (interrupted[env] or not intervened[env]):
                yield both.last_rows(env, running.n_intervened + 1)[:-1], Origin.INTERVENTION, []
                running.n_intervened = 0
            if interrupted[env]:
                _end_episode(both, both.last_rows(env, running.n_steps + 1)[:-1])
                running = self._running[env] = _Running()
            if info.get(ENV_RESTARTED):
                continue
            running.n_steps += 1
            running.n_intervened += intervened[env]
            if POLICY_ACTION in info:
                taken = both.ring.columns["actions"][both.last_rows(env, 1)[0]]
                running.intended.append(taken.copy() if intervened[env] else info[POLICY_ACTION])
                if len(running.intended) > both.n_ring_steps:
                    running.intended.popleft()
            if running.n_steps == 1:
                running.solved_at_start = bool(success_of(info)) and not ended[env]
            if ended[env]:
                if self._n_silent is not None:
                    self._n_silent = self._n_silent + 1 if success_of(info) is None else None
                rows = both.last_rows(env, running.n_steps)
                _end_episode(both, rows)
                if running.n_intervened > 0:
                    yield rows[-running.n_intervened :], Origin.INTERVENTION, []
                if success_of(info) and not running.solved_at_start:
                    yield rows, Origin.SUCCESS, list(running.intended)[-len(rows) :]
                self._running[env] = _Running()


def _end_episode(both: Stores, rows: np.ndarray) -> None:
    both.ring.columns["steps_left"][rows] = np.arange(len(rows))[::-1]
