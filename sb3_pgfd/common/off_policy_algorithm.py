"""The base of the off-policy algorithms that learn from demonstrations: options, learning rates, updates, logs."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch as th
from stable_baselines3.common.policies import ContinuousCritic
from stable_baselines3.common.type_aliases import MaybeCallback, Schedule, TrainFreq, TrainFrequencyUnit
from stable_baselines3.common.utils import FloatSchedule

from sb3_pgfd.common.collecting import CollectsSteps
from sb3_pgfd.common.compilation import UpdateState
from sb3_pgfd.common.losses import behavior_cloning_loss
from sb3_pgfd.common.metrics import MeanMetrics
from sb3_pgfd.common.normalization import check_integers, check_normalization
from sb3_pgfd.common.optimization import LearningRates
from sb3_pgfd.common.option_warnings import OFF_POLICY_NEEDS, Need
from sb3_pgfd.common.policies import matmul_precision
from sb3_pgfd.common.updates import Turn, Updates
from sb3_pgfd.replay import DemoBatch
from sb3_pgfd.utils.checks import (
    check_learning_rate,
    check_not_negative,
    check_switches,
    check_whole,
    is_number,
    is_range,
)
from sb3_pgfd.utils.keywords import accepted_keywords

SelfOffPolicy = TypeVar("SelfOffPolicy", bound="OffPolicyFromDemonstrations")
# Batches that are drawn together: the last of them do not see the priorities of the first. A run that makes an episode's worth
# of updates at its end would otherwise draw all of them at once
MAX_BATCHES = 20
MAX_DRAWN_BYTES = 64 * 2**20


# A callback may change these as it likes: nothing is compiled anew
_NOT_IN_UPDATES = {
    *("buffer_size", "demonstrations", "learning_starts", "train_freq", "gradient_steps", "batch_size", "policy_delay"),
    *("pretrain_steps", "critic_warmup_steps", "seed", "stats_window_size", "tensorboard_log", "verbose"),
}


class OffPolicyFromDemonstrations(CollectsSteps):
    """
    Pretrains on the demonstrations, draws batches of the replay buffer for the updates, sets the learning rates of actor and
    critic, and logs the means of what the updates compute.

    A subclass sets the attributes below in its constructor and implements :meth:`update`.
    """

    actor_learning_rate: float | Schedule | None
    compile: bool
    importance_exponent: float | Schedule = 1.0
    importance_schedule: Schedule
    policy_delay: int = 1
    """Updates of the critic for one of the actor"""
    critic_warmup_steps: int = 0
    """Environment steps after pretraining in which the actor clones alone"""
    n_step_coef: float
    l2_coef: float
    bc_coef: float
    q_range: tuple[float, float] | None
    actor: Any
    critic: ContinuousCritic
    critic_target: ContinuousCritic
    _option_needs: ClassVar[Mapping[str, Need]] = OFF_POLICY_NEEDS

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **{"sde_support": False, "support_multi_env": True, **kwargs})
        self.policy_kwargs = dict(self.policy_kwargs)
        self.demonstrations_source = None
        self._pretrained = False
        self._metrics = MeanMetrics()

    def _setup_model(self) -> None:
        # Replaces OffPolicyAlgorithm's, to which `n_steps` > 1 means SB3's own n-step buffer
        self.replay_buffer_kwargs = {**self.buffer_defaults, **(self.replay_buffer_kwargs or {})}
        check_normalization(self._vec_normalize_env, self.observation_space)
        check_integers(self._vec_normalize_env)
        self._check_options()
        self._check_policy()
        self._check_buffer()
        self._resolve_demonstrations()
        self.action_noise = self._make_noise(self.action_noise)
        self._setup_lr_schedule()
        self.set_random_seed(self.seed)
        # A model loaded without an environment, to predict, needs no buffer: one is made when it learns
        if self.replay_buffer is None and self.env is not None:
            self.replay_buffer = self._make_replay_buffer()
        elif self.replay_buffer is not None and self.env is not None:
            # Of a training state: environments are not in it
            self.buffer.set_env(self.env)
        options = {name: vars(self)[name] for name in self._options_of_policy if vars(self)[name]}
        policy = self.policy_class(
            self.observation_space, self.action_space, self.lr_schedule, **options, **self.policy_kwargs
        )
        self.policy = policy.to(self.device)
        self.actor, self.critic, self.critic_target = self.policy.actor, self.policy.critic, self.policy.critic_target
        self._set_return_coefs()
        self._updates: Updates | None = None
        self._rates = LearningRates(self.compile, self.device)
        self._convert_train_freq()
        assert isinstance(self.train_freq, TrainFreq)
        if self.train_freq.frequency < 1:
            raise ValueError(
                f"train_freq: found {self.train_freq.frequency} {self.train_freq.unit.value}s, expected at least one"
            )

    def _set_return_coefs(self) -> None:
        # 1 and lambda_1, the weights of the two returns
        coefs = [1.0] if self.n_steps == 1 else [1.0, self.n_step_coef]
        self._return_coefs = th.tensor(coefs, device=self.device)[:, None]
        self._returns = self.gamma, self.n_steps, self.n_step_coef

    def _check_options(self) -> None:
        """:raises ValueError: If an option is out of range"""
        check_whole(vars(self), {"n_steps": 1, "pretrain_steps": 0, "batch_size": 1, "buffer_size": 1, "gradient_steps": -1})
        if not is_number(self.learning_starts, 0.0):
            raise ValueError(f"learning_starts: found {self.learning_starts!r}, expected a number >= 0")
        for name in ("tau", "gamma"):
            if not is_number(getattr(self, name), 0.0, 1.0):
                raise ValueError(f"{name}: found {getattr(self, name)!r}, expected 0 to 1")
        names = {"l2_coef": "lambda_2", "n_step_coef": "lambda_1", "bc_coef": "weight of cloning"}
        check_not_negative(vars(self), names)
        check_switches(vars(self), ["q_filter", "normalize_actor_loss", "compile"])
        if self.q_range is not None and not is_range(self.q_range):
            raise ValueError(f"q_range: found {self.q_range!r}, expected (smallest, largest) possible return, or None")
        check_learning_rate("learning_rate", self.learning_rate, required=True)
        check_learning_rate("actor_learning_rate", self.actor_learning_rate)

    def check_options_for_learning(self) -> None:
        """cf :class:`~sb3_pgfd.common.pretraining.LearnsFromDemonstrations`. A model that is loaded to act is not refused."""
        super().check_options_for_learning()
        assert isinstance(self.train_freq, TrainFreq)
        # SB3 would refuse it, but only after pretraining
        if self.train_freq.unit == TrainFrequencyUnit.EPISODE and self.n_envs > 1:
            raise ValueError(f"train_freq: found episodes with {self.n_envs} environments, expected steps, or one environment")

    def _check_policy(self) -> None:
        """
        :raises ValueError: If the policy is none of this package, or one of its options belongs elsewhere
        :raises TypeError: If one of its options is unknown
        """
        base, policy = self.policy_aliases["MlpPolicy"], self.policy_class
        if not (isinstance(policy, type) and issubclass(policy, base)):
            raise ValueError(f"policy: found {policy}, expected {', '.join(self.policy_aliases)} or a subclass of {base}")
        self._check_kwargs("policy_kwargs", accepted_keywords(policy) - self._options_of_policy)
        if "weight_decay" in (self.policy_kwargs.get("optimizer_kwargs") or {}):
            raise ValueError("optimizer_kwargs: found weight_decay, expected it as l2_coef of the algorithm, which sets it")

    def _setup_lr_schedule(self) -> None:
        super()._setup_lr_schedule()
        rate = self.actor_learning_rate
        self.actor_lr_schedule = self.lr_schedule if rate is None else FloatSchedule(rate)
        self.importance_schedule = FloatSchedule(self.importance_exponent)

    def _update_learning_rates(self) -> None:
        for network, schedule in ((self.critic, self.lr_schedule), (self.actor, self.actor_lr_schedule)):
            # The weight decay is set here and not in the policy, so that it holds too when a model is loaded with
            # another value
            self._rates.set(network.optimizer, schedule(self._current_progress_remaining), self.l2_coef)

    def train(self, gradient_steps: int, batch_size: int = 256, demos_only: bool = False) -> None:
        """
        Draw some batches in one go, make an update with each, and write their priorities back, until all updates are made.

        :param gradient_steps: How many updates
        :param batch_size: Transitions for each, B
        :param demos_only: Whether to draw demonstrations only (pretraining)
        """
        # Setting it walks through all modules, which shows in updates of small networks
        if not self.policy.training:
            self.policy.set_training_mode(True)
        self._update_learning_rates()
        if self._returns != (self.gamma, self.n_steps, self.n_step_coef):
            # A callback has changed them
            self.buffer.configure(gamma=self.gamma, n_steps=self.n_steps)
            self._set_return_coefs()
        at_once = min(MAX_BATCHES, max(int(MAX_DRAWN_BYTES / (batch_size * self.buffer.schema.drawn_nbytes)), 1))
        for n_made in range(0, gradient_steps, at_once):
            self._train_on_one_draw(min(at_once, gradient_steps - n_made), batch_size, demos_only)
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")

    def _train_on_one_draw(self, n_batches: int, batch_size: int, demos_only: bool) -> None:
        beta = self.importance_schedule(self._current_progress_remaining)
        batch = self.buffer.sample_batches(n_batches, batch_size, beta, self._vec_normalize_env, demos_only)
        turns = [self._turn(self._n_updates + number) for number in range(1, n_batches + 1)]
        if self._updates is None:
            self._updates = Updates(self.update, self.device, self._update_state() if self.compile else None)
            self._update_options = sorted((accepted_keywords(type(self)) & vars(self).keys()) - _NOT_IN_UPDATES)
        options = tuple(_constant(vars(self)[name]) for name in self._update_options) if self.compile else ()
        with matmul_precision(self.policy.precision, self.device):
            errors, metrics = self._updates(batch, turns, self._clones_only(demos_only), options)
        self._n_updates += n_batches
        if self.buffer.demo_fraction is None:
            priorities = self.buffer.update_priorities(batch.indices, self._updates.to_host(errors).numpy())
            metrics.append({"priority_mean": th.from_numpy(priorities)})
        for found in metrics:
            self._metrics.add(found)

    @abstractmethod
    def update(self, batch: DemoBatch, clones_only: th.Tensor, turn: Turn) -> dict[str, th.Tensor]:
        """
        One update of the networks. It does not branch on values of tensors, so that it can be compiled.

        :param batch: B transitions
        :param clones_only: Whether the actor clones and does not follow Q, one bool
        :param turn: What changes from one update to the next
        :return: ``errors``, the part of the priorities that the critic gives, a column, and what to log the means of
        """

    def _encoder_loss(
        self, observations: Any, cloned: th.Tensor, batch: DemoBatch, clones_only: th.Tensor
    ) -> th.Tensor | float:
        """
        :return: Cloning as a loss of the shared encoder, as long as the actor does nothing else: from demonstrations alone Q
            teaches the encoder little of what their actions depend on
        """
        if self.bc_coef == 0.0 or not self.policy.share_features_extractor:
            return 0.0
        return behavior_cloning_loss(self.policy.modes(observations), cloned, batch.is_demo, batch.is_demo) * clones_only

    def _turn(self, n_updates: int) -> Turn:
        """:param n_updates: The number of an update, from 1"""
        n_actor_updates = n_updates // self.policy_delay
        return Turn(n_updates % self.policy_delay == 0, self.policy.mean_actor_rate(n_actor_updates))

    def _clones_only(self, demos_only: bool) -> bool:
        """
        :param demos_only: Whether this is pretraining
        :return: Whether the critic knows hardly any actions but the demonstrations', so that its gradient leads away from
            them. Own successes are no demonstrations here: they come when the warm-up should be over
        """
        if self.bc_coef == 0.0 or self.buffer.n_given == 0:
            return False
        return demos_only or self._n_own_steps < self._n_warmup_steps

    @property
    def _n_warmup_steps(self) -> int:
        # A ring that is smaller and full holds all that the critic will ever learn from
        return min(self.critic_warmup_steps, self.buffer_size)

    @property
    def n_warmup_steps_left(self) -> int:
        """Environment steps in which the actor will still clone alone."""
        return self._n_warmup_steps - self._n_own_steps if self._clones_only(demos_only=False) else 0

    def _update_state(self) -> UpdateState:
        return UpdateState([self.policy], [self.critic.optimizer, self.actor.optimizer])

    def _pretrain_update(self) -> None:
        self.train(gradient_steps=1, batch_size=self.batch_size, demos_only=True)

    def _pretrain_logs(self) -> dict[str, float]:
        return {**self._metrics.flush(), "priority_max": self.buffer.max_priority}

    def learn(
        self: SelfOffPolicy,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 4,
        tb_log_name: str | None = None,
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfOffPolicy:
        """
        cf ``OffPolicyAlgorithm``. The first call pretrains before its first environment step.

        :param tb_log_name: Name of the run in TensorBoard, None: the name of the class
        """
        name = tb_log_name or type(self).__name__
        return super().learn(total_timesteps, callback, log_interval, name, reset_num_timesteps, progress_bar)

    def dump_logs(self) -> None:
        """cf ``OffPolicyAlgorithm``. Logs the means over the updates since the last time."""
        means = self._metrics.flush()
        if means:
            for name, value in {**means, "priority_max": self.buffer.max_priority}.items():
                self.logger.record(f"train/{name}", value)
        self.logger.record("train/learning_rate", self.lr_schedule(self._current_progress_remaining))
        if self.actor_learning_rate is not None:
            self.logger.record("train/actor_learning_rate", self.actor_lr_schedule(self._current_progress_remaining))
        super().dump_logs()

    def _excluded_save_params(self) -> list[str]:
        of_process = ["_metrics", "_updates", "_update_options", "_rates", "_targets", "_return_coefs", "_returns"]
        return [*super()._excluded_save_params(), "actor", "critic", "critic_target", *of_process]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy", "actor.optimizer", "critic.optimizer"], []


def _constant(value: Any) -> Any:
    """:return: An option as a compiled update has read it, so that a change is found; the type of an object"""
    if isinstance(value, (list, tuple)):
        return tuple(_constant(item) for item in value)
    return value if isinstance(value, (int, float, str, np.generic, type(None))) else type(value)
