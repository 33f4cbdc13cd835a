"""What any off-policy algorithm needs to learn from a replay buffer that keeps demonstrations."""

import io
import pathlib
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch as th
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.type_aliases import GymEnv, Schedule
from stable_baselines3.common.utils import FloatSchedule
from stable_baselines3.her.her_replay_buffer import HerReplayBuffer
from torch import nn

from sb3_pgfd.common.metrics import MeanMetrics
from sb3_pgfd.common.pretraining import LearnsFromDemonstrations, check_normalization
from sb3_pgfd.demonstrations import Demonstrations
from sb3_pgfd.replay import DemoReplayBuffer

# Arguments of the buffer that the algorithm has under the same name
_SHARED_OPTIONS = ("demo_fraction", "her_ratio", "keep_successes", "n_steps", "gamma", "priority_exponent")


class OffPolicyFromDemonstrations(LearnsFromDemonstrations, OffPolicyAlgorithm):
    """
    SB3's ``OffPolicyAlgorithm`` on a :class:`~sb3_pgfd.replay.DemoReplayBuffer`: builds it, saves and loads it, sets the
    learning rates of actor and critic, and collects the metrics of the updates until they are logged.

    The algorithm sets the attributes below in its constructor and implements :meth:`_update`.
    """

    demo_fraction: float | None
    her_ratio: float
    keep_successes: bool
    priority_exponent: float
    actor_learning_rate: float | Schedule | None
    l2_coef: float
    actor: nn.Module
    critic: nn.Module
    _other_ways_back: ClassVar[str] = ", or load its replay buffer with load_replay_buffer(path)"

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **{"sde_support": False, "support_multi_env": True, **kwargs})
        self.demonstrations_source = None
        self._pretrained = False
        self._metrics = MeanMetrics()

    def _setup_model(self) -> None:
        # Not OffPolicyAlgorithm's: it would take `n_steps` as a request for SB3's own n-step buffer
        check_replay_buffer(self.replay_buffer_class, self.replay_buffer_kwargs)
        check_normalization(self._vec_normalize_env, self.observation_space)
        self._resolve_demonstrations()
        self._setup_lr_schedule()
        self.set_random_seed(self.seed)
        # A model loaded without an environment, to predict, needs no buffer: one is made when it learns
        if self.replay_buffer is None and self.env is not None:
            self.replay_buffer = self._make_replay_buffer()
        policy = self.policy_class(self.observation_space, self.action_space, self.lr_schedule, **self.policy_kwargs)
        self.policy = policy.to(self.device)
        self._convert_train_freq()

    def _make_replay_buffer(self) -> DemoReplayBuffer:
        buffer_class = check_replay_buffer(self.replay_buffer_class, self.replay_buffer_kwargs)
        return buffer_class(
            self.buffer_size,
            self.observation_space,
            self.action_space,
            device=self.device,
            n_envs=self.n_envs,
            demonstrations=self.demonstrations,
            env=self.env,
            **{name: getattr(self, name) for name in _SHARED_OPTIONS},
            **self.replay_buffer_kwargs,
        )

    def set_env(self, env: GymEnv, force_reset: bool = True) -> None:
        """cf ``BaseAlgorithm``. The replay buffer computes the rewards of replaced goals with it from now on."""
        super().set_env(env, force_reset)
        if self.replay_buffer is not None and self.env is not None:
            self.buffer.set_env(self.env)

    @property
    def buffer(self) -> DemoReplayBuffer:
        """The replay buffer, for type checkers."""
        assert isinstance(self.replay_buffer, DemoReplayBuffer)
        return self.replay_buffer

    def add_demonstrations(self, demonstrations: Demonstrations | str | pathlib.Path) -> None:
        """
        Learn from more demonstrations from now on, e.g. from corrections recorded in the meantime. Call it before,
        between or, from a callback, during ``learn()``. They are kept for ever like the first ones, with the largest
        priority seen so far; the agent's own transitions stay. See :meth:`DemoReplayBuffer.add_demonstrations`.

        Before the first ``learn()`` they count as if given to the constructor. Afterwards there is no pretraining on them;
        the running statistics of ``VecNormalize`` take them in if it is training. A saved model names them, and its
        replay buffer holds them; to give all back without it, merge them: ``DDPGfD.load(..., demonstrations=...)``.

        :param demonstrations: A dataset, a path, or the name of packaged demonstrations
        :raises DemonstrationsError: If they cannot be read or do not belong to this environment, or those that the model
            was saved with have not been given back; nothing changes then
        """
        buffer = None if self.replay_buffer is None else self.buffer
        self._require_demonstrations(
            self.demonstrations is not None or (buffer is not None and buffer.n_demonstrations > 0), "add_demonstrations"
        )
        dataset = self._load_fitting(demonstrations)
        merged = self._merge_with_present(dataset)
        # Otherwise the model was loaded without an environment, and its buffer will be made with all of them
        if buffer is not None:
            buffer.add_demonstrations(dataset)
        self._join_demonstrations(dataset, merged)

    @abstractmethod
    def _update(self, batch_size: int, demos_only: bool = False) -> None:
        """
        One gradient update of everything.

        :param batch_size: Transitions
        :param demos_only: Whether to draw demonstrations only
        """

    def _setup_lr_schedule(self) -> None:
        super()._setup_lr_schedule()
        rate = self.actor_learning_rate
        self.actor_lr_schedule = self.lr_schedule if rate is None else FloatSchedule(rate)

    def _update_learning_rates(self) -> None:
        for network, schedule in ((self.critic, self.lr_schedule), (self.actor, self.actor_lr_schedule)):
            assert isinstance(network.optimizer, th.optim.Optimizer)
            for group in network.optimizer.param_groups:
                group["lr"] = schedule(self._current_progress_remaining)
                # Here and not in the policy, so that it holds too when a model is loaded with another value
                group["weight_decay"] = self.l2_coef

    def train(self, gradient_steps: int, batch_size: int = 256, demos_only: bool = False) -> None:
        """
        Sample the replay buffer and do the updates.

        :param gradient_steps: How many
        :param batch_size: Transitions for each
        :param demos_only: Whether to draw demonstrations only
        """
        # This affects batch normalisation and dropout
        if not self.policy.training:
            self.policy.set_training_mode(True)
        self._update_learning_rates()
        for _ in range(gradient_steps):
            self._update(batch_size, demos_only)

    def _pretrain_update(self) -> None:
        self.train(gradient_steps=1, batch_size=self.batch_size, demos_only=True)

    def _sample_action(
        self, learning_starts: int, action_noise: ActionNoise | None = None, n_envs: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        # Random actions are for a policy that knows nothing: not after pretraining, nor when a run is resumed (the RL
        # Zoo sets the step counter back to 0)
        return super()._sample_action(0 if self._n_updates > 0 else learning_starts, action_noise, n_envs)

    def _setup_learn(self, *args: Any, **kwargs: Any) -> Any:
        if self.replay_buffer is None:
            self.replay_buffer = self._make_replay_buffer()
        self._require_demonstrations(self.buffer.n_demonstrations > 0)
        return super()._setup_learn(*args, **kwargs)

    def _pretrain_logs(self) -> dict[str, float]:
        return {**self._metrics.flush(), "priority_max": self.buffer.max_priority}

    def dump_logs(self) -> None:
        """Write log data: means over the updates since the last time."""
        means = self._metrics.flush()
        if means:
            for name, value in {**means, "priority_max": self.buffer.max_priority}.items():
                self.logger.record(f"train/{name}", value)
        self.logger.record("train/learning_rate", self.lr_schedule(self._current_progress_remaining))
        if self.actor_learning_rate is not None:
            self.logger.record("train/actor_learning_rate", self.actor_lr_schedule(self._current_progress_remaining))
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        super().dump_logs()

    def load_replay_buffer(self, path: str | pathlib.Path | io.BufferedIOBase, truncate_last_traj: bool = True) -> None:
        """
        cf ``OffPolicyAlgorithm``. Demonstrations and priorities come back with the buffer.

        :raises ValueError: If it is another kind of buffer, or of another environment or number of them; the model then
            keeps the buffer that it has
        """
        present = self.replay_buffer
        super().load_replay_buffer(path, truncate_last_traj)
        loaded, self.replay_buffer = self.replay_buffer, present
        if not isinstance(loaded, DemoReplayBuffer):
            raise ValueError(f"load_replay_buffer: found a {type(loaded).__name__}, expected a DemoReplayBuffer")
        for name in ("observation_space", "action_space", "n_envs", "priority_exponent"):
            found, expected = getattr(loaded, name), getattr(self, name)
            if found != expected:
                raise ValueError(f"load_replay_buffer: found {name}={found} in the file, expected {expected} of the model")
        loaded.n_steps, loaded.gamma, loaded.demo_fraction = self.n_steps, self.gamma, self.demo_fraction
        loaded.her_ratio, loaded.keep_successes = self.her_ratio, self.keep_successes
        if self.env is not None:
            loaded.set_env(self.env)
        self.replay_buffer = loaded

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_metrics"]


def check_replay_buffer(buffer_class: type | None, buffer_kwargs: Mapping[str, Any]) -> type[DemoReplayBuffer]:
    """
    :param buffer_class: As given to the algorithm
    :param buffer_kwargs: Likewise
    :return: The class to use
    :raises ValueError: If the class cannot keep demonstrations, or an argument belongs to the algorithm
    """
    if buffer_class is None:
        buffer_class = DemoReplayBuffer
    if not (isinstance(buffer_class, type) and issubclass(buffer_class, DemoReplayBuffer)):
        why = "it relabels goals, as her_ratio does, but keeps no demonstrations" if buffer_class is HerReplayBuffer else ""
        raise ValueError(
            f"replay_buffer_class: found {getattr(buffer_class, '__name__', buffer_class)}, "
            f"expected DemoReplayBuffer or a subclass{': ' + why if why else ''}"
        )
    own = sorted(set(buffer_kwargs) & {"demonstrations", "env", *_SHARED_OPTIONS})
    if own:
        raise ValueError(f"replay_buffer_kwargs: found {own}, expected them as arguments of the algorithm itself")
    return buffer_class
