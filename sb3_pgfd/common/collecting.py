"""Steps of the environment: how an off-policy algorithm chooses its actions, takes the steps, and stores them."""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import ActionNoise, NormalActionNoise, VectorizedActionNoise
from stable_baselines3.common.type_aliases import GymEnv, RolloutReturn, TrainFreq, TrainFrequencyUnit
from stable_baselines3.common.vec_env import VecEnv

from sb3_pgfd.common.acting import Collector, collector_of, own_noise
from sb3_pgfd.common.buffering import LearnsFromReplay
from sb3_pgfd.common.exploration import noise_of_demonstrations
from sb3_pgfd.common.metrics import MeanMetrics
from sb3_pgfd.common.normalization import warn_if_clipped
from sb3_pgfd.common.real_time import PolicyCopy, real_time_of
from sb3_pgfd.demonstrations.recording.interventions import INTERVENE_ACTION
from sb3_pgfd.replay.own_episodes import POLICY_ACTION
from sb3_pgfd.utils.checks import is_number


class CollectsSteps(LearnsFromReplay):
    """
    An ``OffPolicyAlgorithm`` that goes on after pretraining without random actions, stores the policy's action without its
    noise where it is needed, and acts in environments that do not wait for it.
    """

    policy: Any  # With `precision` and `mean_actor_rate()`, see DDPGfDPolicy
    _n_own_steps: int = 0
    """Environment steps that were stored: the buffer may not be saved, or hold transitions of another agent"""
    _has_clipped: bool = False
    """Whether the user has been told that ``VecNormalize`` clips last observations"""
    _is_watched: bool = False
    """Whether somebody who can take over has been heard of"""
    _policy_copy: PolicyCopy | None = None
    """Acts in an environment that does not wait for updates"""
    _n_late_steps: int = 0
    """How many were taken together with the one before, because updates take longer than a period"""
    _policy_actions: np.ndarray
    """Of the last step, without exploration noise; only where they are needed"""
    # Of this process: environments in which copies of the policy act
    _collector: Collector | None = None

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._rollout_metrics = MeanMetrics()

    def _make_noise(self, noise: ActionNoise | float | str | None) -> ActionNoise | None:
        if isinstance(noise, VectorizedActionNoise) and noise.n_envs != self.n_envs:
            # Of a model that goes on in another number of environments; SB3 makes as many as there are
            return own_noise(noise, 1)
        if noise is None or isinstance(noise, ActionNoise):
            return noise
        if noise == "demonstrations":
            assert isinstance(self.action_space, spaces.Box)
            assert not isinstance(self.demonstrations, (str, pathlib.Path))
            found = noise_of_demonstrations(self.demonstrations, self.action_space)
            if self.verbose >= 1:
                print(f"Exploration noise from demonstrations, of actions in [-1, 1]: {np.round(found._sigma, 3).tolist()}")
            return found
        if isinstance(noise, str) or not is_number(noise, 0.0):
            wanted = "an ActionNoise, a standard deviation >= 0, 'demonstrations', or None"
            raise ValueError(f"action_noise: found {noise!r}, expected {wanted}")
        shape = self.action_space.shape
        assert shape is not None
        if shape == () and noise > 0.0:
            # NumPy draws no array for it, and SB3 fails in the first step
            raise ValueError(f"action_noise: found {noise!r} and actions of shape (), expected 0, or actions of shape (1,)")
        return NormalActionNoise(np.zeros(shape), np.full(shape, float(noise))) if noise > 0.0 else None

    def set_env(self, env: GymEnv, force_reset: bool = True) -> None:
        """cf :class:`~sb3_pgfd.common.buffering.LearnsFromReplay`. Whether somebody can take over is asked anew."""
        super().set_env(env, force_reset)
        self._is_watched = False

    def _setup_learn(self, *args: Any, **kwargs: Any) -> Any:
        # Refuses what cannot be stepped in real time, before anything is learned
        real_time_of(self.env)
        self._collector = collector_of(self.env)
        return super()._setup_learn(*args, **kwargs)

    @property
    def acting_networks(self) -> tuple[str, ...]:
        """Parts of the policy that choose actions for the environment."""
        return ("actor",)

    def _sample_action(
        self, learning_starts: int, action_noise: ActionNoise | None = None, n_envs: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        choice = None if self._collector is None else self._collector.take(self)
        if self._policy_copy is not None:
            choice = self._policy_copy.env.take()
        if choice is not None:
            self._rollout_metrics.add({name: th.tensor([mean]) for name, mean in choice.means.items()})
            if choice.without_noise is not None:
                self._policy_actions = choice.without_noise
            return choice.actions, choice.stored
        # Random actions are for an untrained policy: neither after pretraining nor when a run goes on (the RL Zoo sets
        # the step counter back to 0)
        learning_starts = 0 if self._n_updates > 0 else learning_starts
        if not self._needs_policy_actions():
            return super()._sample_action(learning_starts, action_noise, n_envs)
        _, intended = super()._sample_action(learning_starts, None, n_envs)
        explored = intended if action_noise is None else np.clip(intended + action_noise(), -1.0, 1.0)
        self._policy_actions, explored = self._choose_actions(intended, explored)
        return self.policy.unscale_action(explored), explored

    def _needs_policy_actions(self) -> bool:
        """:return: Whether the action without exploration noise is needed"""
        return self.buffer.needs_policy_actions

    def _choose_actions(self, intended: np.ndarray, explored: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """
        :param intended: Actions of the policy, shape ``(n_envs, *action_shape)``, scaled to [-1, 1]
        :param explored: The same with exploration noise
        :return: Both, as they are to be taken
        """
        return intended, explored

    def _store_transition(
        self, replay_buffer: Any, buffer_action: Any, new_obs: Any, reward: Any, dones: Any, infos: list[dict[str, Any]]
    ) -> None:
        # Some environments name it only where somebody acts
        self._is_watched |= any(INTERVENE_ACTION in info for info in infos)
        if self._is_watched:
            taken = [info.get(INTERVENE_ACTION) is not None for info in infos]
            self._rollout_metrics.add({"intervention_rate": th.tensor(taken, dtype=th.float32)})
        if self._vec_normalize_env is not None and not self._has_clipped and dones.any():
            self._has_clipped = warn_if_clipped(self._vec_normalize_env, infos)
        if self.buffer.needs_policy_actions:
            # Copies: callbacks see what the environment gave
            actions = self._policy_actions.reshape(self.n_envs, -1)
            infos = [{**info, POLICY_ACTION: action} for info, action in zip(infos, actions, strict=True)]
        super()._store_transition(replay_buffer, buffer_action, new_obs, reward, dones, infos)
        self._n_own_steps += self.n_envs

    def collect_rollouts(
        self, env: VecEnv, callback: BaseCallback, train_freq: TrainFreq, *args: Any, **kwargs: Any
    ) -> RolloutReturn:
        """cf ``OffPolicyAlgorithm``. In real time all steps are taken that were made during the last updates."""
        real_time = real_time_of(env)
        if real_time is not None:
            if self._policy_copy is None:
                n_left = (self._total_timesteps - self.num_timesteps) // self.n_envs - real_time.n_waiting
                self._policy_copy = PolicyCopy(self, real_time)
                real_time.begin(self._policy_copy, n_left)
            self._policy_copy.update(self)
            n_more = real_time.n_waiting - train_freq.frequency
            if train_freq.unit == TrainFrequencyUnit.STEP and n_more > 0:
                self._n_late_steps += n_more
                train_freq = TrainFreq(real_time.n_waiting, TrainFrequencyUnit.STEP)
        return super().collect_rollouts(env, callback, train_freq, *args, **kwargs)

    def _leave_environment(self) -> None:
        if self._policy_copy is not None:
            real_time, self._policy_copy = self._policy_copy.env, None
            real_time.end()
            if self.verbose >= 1:
                print(f"Real time, {real_time.punctuality}")
                if self._n_late_steps > 0:
                    print(
                        f"{self._n_late_steps:,} steps had no updates of their own, because updates take longer than a period"
                    )

    def _finish_step(self, step: Mapping[str, Any]) -> None:
        dones = step["dones"]
        self._update_info_buffer(step["infos"], dones)
        names = ("replay_buffer", "buffer_actions", "new_obs", "rewards", "dones", "infos")
        self._store_transition(*(step[name] for name in names))
        self._update_current_progress_remaining(self.num_timesteps, self._total_timesteps)
        self._on_step()
        self._episode_num += int(dones.sum())
        if self.action_noise is not None:
            for index in np.flatnonzero(dones).tolist():
                self.action_noise.reset(**({"indices": [index]} if self.n_envs > 1 else {}))

    def dump_logs(self) -> None:
        """cf ``OffPolicyAlgorithm``. Logs the means over the steps since the last time."""
        for name, value in self._rollout_metrics.flush().items():
            self.logger.record(f"rollout/{name}", value)
        if self._policy_copy is not None:
            punctuality = self._policy_copy.env.punctuality
            self.logger.record("time/missed_deadlines", punctuality.n_missed)
            self.logger.record("time/largest_lateness_ms", 1e3 * punctuality.worst())
        super().dump_logs()

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_rollout_metrics", "_policy_actions", "_policy_copy", "_collector"]
