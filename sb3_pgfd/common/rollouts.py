"""Rollouts of an on-policy algorithm, which go on where learning was stopped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback, ConvertCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback
from stable_baselines3.common.vec_env import VecEnv

from sb3_pgfd.common.incoming import CheckFinite
from sb3_pgfd.common.pretraining import LearnsFromDemonstrations
from sb3_pgfd.demonstrations.recording.interventions import INTERVENE_ACTION, InterventionWrapper
from sb3_pgfd.replay.own_episodes import ENV_RESTARTED

# Its gradient is that of actions which its own policy chose
_NO_INTERVENTIONS = (
    "{self}: found {found}, expected an environment in which nobody takes over: TD3fD, SACfD and DDPGfD learn from "
    "interventions"
)


class CollectsRollouts(LearnsFromDemonstrations, OnPolicyAlgorithm):
    """
    An ``OnPolicyAlgorithm`` whose rollouts may be interrupted between any two steps, whose environments may be restarted,
    and which refuses interventions.
    """

    _is_collecting: bool = False
    """Whether the rollout buffer holds the beginning of a rollout"""
    _restarted: np.ndarray
    """Which environments were restarted in the last step"""

    def _init_callback(self, callback: MaybeCallback, progress_bar: bool = False) -> BaseCallback:
        if not isinstance(callback, list):
            callback = [callback if isinstance(callback, BaseCallback) else ConvertCallback(callback)]
        return super()._init_callback([CheckFinite(), *callback], progress_bar)

    def collect_rollouts(self, env: VecEnv, callback: BaseCallback, *args: Any, **kwargs: Any) -> bool:
        """cf ``OnPolicyAlgorithm``. A rollout that was interrupted goes on: the policy is still the same."""
        rollout = self.rollout_buffer
        if not self._is_collecting:
            rollout.reset()
            self._is_collecting = True
        n_left = self.n_steps - rollout.pos
        if n_left == 0:
            # Learning was ended by its last step, before the update
            assert self._last_obs is not None
            with th.no_grad():
                values = self.policy.predict_values(self.policy.obs_to_tensor(self._last_obs)[0])
            rollout.compute_returns_and_advantage(last_values=values, dones=np.asarray(self._last_episode_starts))
            go_on = True
        else:
            go_on = super().collect_rollouts(env, callback, _Rollout(rollout, self), n_left)
        self._is_collecting = not go_on
        return go_on

    def _update_info_buffer(self, infos: list[dict[str, Any]], dones: np.ndarray | None = None) -> None:
        if any(INTERVENE_ACTION in info for info in infos):
            raise ValueError(_NO_INTERVENTIONS.format(self=type(self).__name__, found=f"info[{INTERVENE_ACTION!r}]"))
        super()._update_info_buffer(infos, dones)
        self._restarted = np.array([bool(info.get(ENV_RESTARTED)) for info in infos])

    def _finish_step(self, step: Mapping[str, Any]) -> None:
        if self._last_obs is None:
            # The episode was broken off: its last step is not finite
            return
        infos, dones, rewards, actions = (step[name] for name in ("infos", "dones", "rewards", "actions"))
        self._update_info_buffer(infos, dones)
        for env in np.flatnonzero(dones).tolist():
            if infos[env].get("terminal_observation") is not None and infos[env].get("TimeLimit.truncated", False):
                last, _ = self.policy.obs_to_tensor(infos[env]["terminal_observation"])
                with th.no_grad():
                    rewards[env] += self.gamma * self.policy.predict_values(last)[0].item()
        actions = actions.reshape(-1, 1) if isinstance(self.action_space, spaces.Discrete) else actions
        starts, buffer = self._last_episode_starts, step["rollout_buffer"]
        buffer.add(self._last_obs, actions, rewards, starts, step["values"], step["log_probs"])
        self._last_obs, self._last_episode_starts = step["new_obs"], dones

    def set_env(self, env: GymEnv, force_reset: bool = True) -> None:
        """cf ``BaseAlgorithm``. What a stopped rollout holds ends as at a time limit."""
        if force_reset:
            self._break_off_episodes()
        super().set_env(env, force_reset)

    def _break_off_episodes(self) -> None:
        n_present = self.rollout_buffer.pos if self._is_collecting else 0
        # The rollout goes on: what follows in it is another episode, as after a time limit
        if n_present > 0 and self._last_obs is not None:
            with th.no_grad():
                values = self.policy.predict_values(self.policy.obs_to_tensor(self._last_obs)[0]).flatten().cpu().numpy()
            self.rollout_buffer.rewards[n_present - 1] += self.gamma * values * ~np.asarray(self._last_episode_starts)
        super()._break_off_episodes()

    def _setup_learn(self, *args: Any, **kwargs: Any) -> Any:
        assert self.env is not None
        # Before it pretrains
        if any(self.env.env_is_wrapped(InterventionWrapper)):
            raise ValueError(_NO_INTERVENTIONS.format(self=type(self).__name__, found="an InterventionWrapper"))
        return super()._setup_learn(*args, **kwargs)


class _Rollout:
    """
    What SB3 fills.

    :param buffer: May hold the beginning of a rollout, which SB3 would forget
    :param model: Knows which environments were restarted in the last step
    """

    def __init__(self, buffer: RolloutBuffer, model: CollectsRollouts):
        self._buffer, self._model = buffer, model
        self.compute_returns_and_advantage = buffer.compute_returns_and_advantage

    def reset(self) -> None:
        """cf ``RolloutBuffer``. The rows stay."""

    def add(self, obs: Any, action: Any, reward: Any, episode_start: Any, value: th.Tensor, log_prob: th.Tensor) -> None:
        """cf ``RolloutBuffer``. A step that may not have been taken gets the advantage 0, and NaN as a mark."""
        restarted = self._model._restarted
        if restarted.any():
            # The step before it is the end of its episode, cut as by a time limit
            reward = np.where(restarted, value.flatten().cpu().numpy(), reward)
            log_prob = log_prob.masked_fill(th.as_tensor(restarted, device=log_prob.device), th.nan)
        self._buffer.add(obs, action, reward, episode_start, value, log_prob)
