"""Advantage actor-critic from demonstrations."""

import pathlib
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import (
    DictRolloutBufferSamples,
    GymEnv,
    MaybeCallback,
    RolloutBufferSamples,
    Schedule,
)
from stable_baselines3.common.utils import FloatSchedule, explained_variance

from sb3_pgfd.a2cfd.demonstration_batches import DemonstrationBatches, joined
from sb3_pgfd.a2cfd.losses import cloning_loss, demonstration_weight, normalized, policy_gradient_loss, value_loss
from sb3_pgfd.a2cfd.options import check_options
from sb3_pgfd.a2cfd.policies import A2CfDPolicy, CnnPolicy, MlpPolicy, MultiInputPolicy
from sb3_pgfd.common.descent import descend
from sb3_pgfd.common.metrics import MeanMetrics
from sb3_pgfd.common.pretraining import LearnsFromDemonstrations
from sb3_pgfd.demonstrations import Demonstrations

SelfA2CfD = TypeVar("SelfA2CfD", bound="A2CfD")


class A2CfD(LearnsFromDemonstrations, OnPolicyAlgorithm):
    """
    Advantage Actor-Critic from Demonstrations.

    Paper: Mnih et al. 2016, "Asynchronous Methods for Deep Reinforcement Learning", https://arxiv.org/abs/1602.01783, in
    its synchronous form, with actor and critic apart. With demonstrations the actor clones them and the critic learns
    their returns first; then each update of the actor adds a demonstration term that decays, after DAPG (Rajeswaran et al.
    2018, "Learning Complex Dexterous Manipulation with Deep Reinforcement Learning and Demonstrations",
    https://arxiv.org/abs/1709.10087), whose symbols are used below. Without demonstrations it is plain A2C.

    :param policy: The policy model to use (MlpPolicy, CnnPolicy, MultiInputPolicy)
    :param env: The environment to learn from (if registered in Gymnasium, can be str)
    :param demonstrations: What to learn from first: a dataset, a path, or the name of packaged ones
    :param learning_rate: Learning rate of the critic, a number or a schedule
    :param actor_learning_rate: Learning rate of the actor, None: the critic's
    :param n_steps: Steps of each environment per update
    :param gamma: Discount factor
    :param gae_lambda: lambda of generalised advantage estimation (Schulman et al. 2016, arXiv 1506.02438). With 1 the
        advantage is the n-step return minus V(s); with ``n_steps=1`` it is r + gamma V(s') - V(s)
    :param ent_coef: Weight of the entropy of the policy
    :param max_grad_norm: Largest norm of the gradient, of the actor's and of the critic's
    :param normalize_advantage: Whether to scale the advantages of a batch to mean 0 and standard deviation 1
    :param pretrain_steps: Updates on demonstrations alone, inside the first ``learn()``, before its first step: maximum
        likelihood for the actor, discounted returns for the critic
    :param pretrain_learning_rate: Learning rate of both in these updates, None: as in learning. Supervised learning bears
        more than the policy gradient
    :param bc_coef: lambda_0, weight of the demonstration term in units of the batch's largest advantage
    :param bc_decay: lambda_1, by which it shrinks with each update of the actor
    :param demo_batch_size: Demonstrations per update
    :param critic_warmup_steps: Environment steps after pretraining, rounded up to whole rollouts, in which the critic
        learns and the actor is held: a critic that knows demonstrations only would destroy the cloned policy
    :param use_rms_prop: Whether to use RMSprop, as the paper does, in the place of Adam
    :param rms_prop_eps: Its epsilon
    :param rollout_buffer_class: Rollout buffer class, None: SB3's
    :param rollout_buffer_kwargs: Its further arguments
    :param stats_window_size: Episodes to average rollout statistics over
    :param tensorboard_log: TensorBoard log location
    :param policy_kwargs: Arguments of the policy, among them ``log_std_min`` and ``log_std_max``
    :param verbose: 0: no output, 1: info, 2: debug
    :param seed: Seed for the pseudo random generators
    :param device: Device (cpu, cuda, auto)
    :param _init_setup_model: Whether to build the networks at once
    :raises ValueError: If an option is out of range
    :raises DemonstrationsError: If demonstrations cannot be read or do not belong to this environment
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": MlpPolicy,
        "CnnPolicy": CnnPolicy,
        "MultiInputPolicy": MultiInputPolicy,
    }
    policy: A2CfDPolicy

    def __init__(
        self,
        policy: str | type[A2CfDPolicy],
        env: GymEnv | str,
        demonstrations: Demonstrations | str | pathlib.Path | None = None,
        learning_rate: float | Schedule = 1e-3,
        actor_learning_rate: float | Schedule | None = 1e-4,
        n_steps: int = 5,
        gamma: float = 0.99,
        gae_lambda: float = 1.0,
        ent_coef: float = 0.0,
        max_grad_norm: float = 0.5,
        normalize_advantage: bool = False,
        pretrain_steps: int = 1000,
        pretrain_learning_rate: float | None = 1e-3,
        bc_coef: float = 0.1,
        bc_decay: float = 0.999,
        demo_batch_size: int = 64,
        critic_warmup_steps: int = 2000,
        use_rms_prop: bool = False,
        rms_prop_eps: float = 1e-5,
        rollout_buffer_class: type[RolloutBuffer] | None = None,
        rollout_buffer_kwargs: dict[str, Any] | None = None,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: th.device | str = "auto",
        _init_setup_model: bool = True,
    ):
        policy_kwargs = dict(policy_kwargs or {})
        # SB3 passes it on by itself
        if policy_kwargs.pop("use_sde", False):
            raise ValueError("use_sde: found True, expected False: the standard deviation depends on the state anyway")
        if use_rms_prop and "optimizer_class" not in policy_kwargs:
            policy_kwargs["optimizer_class"] = th.optim.RMSprop
            given = policy_kwargs.get("optimizer_kwargs") or {}
            policy_kwargs["optimizer_kwargs"] = {"alpha": 0.99, "eps": rms_prop_eps, **given}
        super().__init__(
            policy,
            env,
            learning_rate=learning_rate,
            n_steps=n_steps,
            gamma=gamma,
            gae_lambda=gae_lambda,
            ent_coef=ent_coef,
            # Actor and critic share no parameters, so their losses are never added
            vf_coef=1.0,
            max_grad_norm=max_grad_norm,
            use_sde=False,
            sde_sample_freq=-1,
            rollout_buffer_class=rollout_buffer_class,
            rollout_buffer_kwargs=rollout_buffer_kwargs,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            policy_kwargs=policy_kwargs,
            verbose=verbose,
            seed=seed,
            device=device,
            _init_setup_model=False,
            supported_action_spaces=(spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary),
        )
        self.demonstrations = demonstrations
        self.demonstrations_source = None
        self.actor_learning_rate = actor_learning_rate
        self.normalize_advantage = normalize_advantage
        self.pretrain_steps = pretrain_steps
        self.pretrain_learning_rate = pretrain_learning_rate
        self.bc_coef = bc_coef
        self.bc_decay = bc_decay
        self.demo_batch_size = demo_batch_size
        self.critic_warmup_steps = critic_warmup_steps
        self.use_rms_prop = use_rms_prop
        self.rms_prop_eps = rms_prop_eps
        self._pretrained = False
        self._n_actor_updates = 0
        self._n_held_steps = 0
        self._metrics = MeanMetrics()
        self._batches: DemonstrationBatches | None = None
        if _init_setup_model:
            self._setup_model()

    def _setup_model(self) -> None:
        check_options(vars(self))
        self._resolve_demonstrations()
        super()._setup_model()

    def _setup_lr_schedule(self) -> None:
        super()._setup_lr_schedule()
        rate = self.actor_learning_rate
        self.actor_lr_schedule = self.lr_schedule if rate is None else FloatSchedule(rate)

    def _setup_learn(self, *args: Any, **kwargs: Any) -> Any:
        self._require_demonstrations(self._has_demonstrations)
        # Made when they are first drawn, by then VecNormalize has taken in the demonstrations
        self._batches = None
        return super()._setup_learn(*args, **kwargs)

    def add_demonstrations(self, demonstrations: Demonstrations | str | pathlib.Path) -> None:
        """
        Learn from more demonstrations from now on, e.g. from corrections recorded in the meantime. Call it before,
        between or, from a callback, during ``learn()``.

        Before the first ``learn()`` they count as if given to the constructor. Afterwards there is neither pretraining
        nor a warm-up of the critic: they join the demonstration term, whose weight goes on shrinking from where it is; the
        running statistics of ``VecNormalize`` take them in if it is training. A saved model names them; to give all back
        to it, merge them: ``A2CfD.load(..., demonstrations=...)``.

        :param demonstrations: A dataset, a path, or the name of packaged demonstrations
        :raises DemonstrationsError: If they cannot be read or do not belong to this environment, or those that the model
            was saved with have not been given back; nothing changes then
        """
        had_none = self.demonstrations is None
        self._require_demonstrations(not had_none, "add_demonstrations")
        dataset = self._load_fitting(demonstrations)
        self._join_demonstrations(dataset, self._merge_with_present(dataset))
        # A critic that has learned from the agent's own steps needs no warm-up
        if had_none and self._pretrained:
            self._n_held_steps = self.critic_warmup_steps
        self._batches = None

    @property
    def _has_demonstrations(self) -> bool:
        return isinstance(self.demonstrations, Demonstrations)

    def train(self) -> None:
        """One update of the critic and, unless it is held, of the actor on the rollout."""
        self.policy.set_training_mode(True)
        self._update_learning_rates()
        (rollout,) = self.rollout_buffer.get(batch_size=None)
        self._update_critic(self.policy.predict_values(rollout.observations).flatten(), rollout.returns)
        if self._actor_is_held:
            self._n_held_steps += len(rollout.returns)
        else:
            self._update_actor(rollout)
        self._n_updates += 1

    @property
    def _actor_is_held(self) -> bool:
        return self._has_demonstrations and self._n_held_steps < self.critic_warmup_steps

    def _update_critic(self, values: th.Tensor, returns: th.Tensor) -> None:
        """
        :param values: V(s), with its graph, shape ``(B,)``
        :param returns: Their targets, shape ``(B,)``
        """
        loss = value_loss(values, returns)
        descend(self.policy.critic_optimizer, loss, max_grad_norm=self.max_grad_norm)
        self._metrics.add({"value_loss": loss.detach()})

    def _update_actor(self, rollout: RolloutBufferSamples | DictRolloutBufferSamples) -> None:
        """:param rollout: B transitions of the agent"""
        observations, actions, advantages = rollout.observations, rollout.actions, rollout.advantages
        if isinstance(self.action_space, spaces.Discrete):
            actions = actions.long().flatten()
        if self.normalize_advantage:
            advantages = normalized(advantages)
        clones = self._has_demonstrations and self.bc_coef > 0.0
        if clones:
            # One pass for both: on small networks it costs what each of two would
            batch = self._demonstration_batches.sample(self.demo_batch_size)
            observations, actions = joined(observations, batch.observations), th.cat([actions, batch.actions])
        distribution = self.policy.get_distribution(observations)
        own, demonstrated = distribution.log_prob(actions).tensor_split([len(advantages)])
        entropy = distribution.entropy()
        assert entropy is not None
        entropy = entropy[: len(advantages)]

        loss = policy_loss = policy_gradient_loss(own, advantages)
        if self.ent_coef > 0.0:
            loss = loss - self.ent_coef * entropy.mean()
        if clones:
            weight = demonstration_weight(self.bc_coef, self.bc_decay, self._n_actor_updates, advantages)
            bc_loss = weight * cloning_loss(demonstrated)
            loss = loss + bc_loss
            self._metrics.add({"bc_weight": weight, "bc_loss": bc_loss.detach(), "demo_log_likelihood": demonstrated.detach()})
        descend(self.policy.actor_optimizer, loss, max_grad_norm=self.max_grad_norm)
        self._n_actor_updates += 1
        self._metrics.add({"policy_loss": policy_loss.detach(), "entropy": entropy.detach()})
        if isinstance(self.action_space, spaces.Box):
            self._metrics.add({"std": self.policy.relative_std[: len(advantages)]})

    @property
    def _demonstration_batches(self) -> DemonstrationBatches:
        if self._batches is None:
            assert isinstance(self.demonstrations, Demonstrations)
            self._batches = DemonstrationBatches(
                self.demonstrations, self.action_space, self.gamma, self.device, self._vec_normalize_env
            )
        return self._batches

    def _pretrain_update(self) -> None:
        self.policy.set_training_mode(True)
        self._update_learning_rates(self.pretrain_learning_rate)
        batch = self._demonstration_batches.sample(self.demo_batch_size)
        targets = self._demonstration_batches.value_targets(batch.rows)
        with th.no_grad():
            end_values = self.policy.predict_values(targets.end_observations).flatten()
        values = self.policy.predict_values(batch.observations).flatten()
        self._update_critic(values, targets.returns + targets.end_discounts * end_values)
        log_prob = self.policy.get_distribution(batch.observations).log_prob(batch.actions)
        loss = cloning_loss(log_prob)
        descend(self.policy.actor_optimizer, loss, max_grad_norm=self.max_grad_norm)
        self._metrics.add({"bc_loss": loss.detach(), "demo_log_likelihood": log_prob.detach()})

    def _pretrain_logs(self) -> dict[str, float]:
        return self._metrics.flush()

    def _update_learning_rates(self, rate: float | None = None) -> None:
        """:param rate: For both networks, None: by their schedules"""
        for optimizer, schedule in (
            (self.policy.critic_optimizer, self.lr_schedule),
            (self.policy.actor_optimizer, self.actor_lr_schedule),
        ):
            for group in optimizer.param_groups:
                group["lr"] = schedule(self._current_progress_remaining) if rate is None else rate

    def dump_logs(self, iteration: int = 0) -> None:
        """Write log data: means over the updates since the last time."""
        for name, value in self._metrics.flush().items():
            self.logger.record(f"train/{name}", value)
        explained = explained_variance(self.rollout_buffer.values.flatten(), self.rollout_buffer.returns.flatten())
        # Equal returns, or a single one, have no variance to be explained
        if np.isfinite(explained):
            self.logger.record("train/explained_variance", explained)
        self.logger.record("train/learning_rate", self.lr_schedule(self._current_progress_remaining))
        self.logger.record("train/actor_learning_rate", self.actor_lr_schedule(self._current_progress_remaining))
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        super().dump_logs(iteration)

    def learn(
        self: SelfA2CfD,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 100,
        tb_log_name: str = "A2CfD",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfA2CfD:
        """cf ``OnPolicyAlgorithm``. The first call pretrains before its first environment step."""
        return super().learn(total_timesteps, callback, log_interval, tb_log_name, reset_num_timesteps, progress_bar)

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_metrics", "_batches"]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy", "policy.actor_optimizer", "policy.critic_optimizer"], []
