"""Advantage actor-critic from demonstrations."""

import pathlib
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, RolloutBufferSamples, Schedule
from stable_baselines3.common.utils import FloatSchedule, explained_variance
from torch.nn import functional as F

from sb3_pgfd.a2cfd.policies import CnnPolicy, MlpPolicy, MultiInputPolicy, check_action_space
from sb3_pgfd.common.compilation import UpdateState
from sb3_pgfd.common.demonstration_batches import CloningBatch, DemonstrationBatches, join_observations
from sb3_pgfd.common.metrics import MeanMetrics
from sb3_pgfd.common.optimization import LearningRates, descend
from sb3_pgfd.common.option_warnings import ON_POLICY_NEEDS, Need
from sb3_pgfd.common.rollouts import CollectsRollouts
from sb3_pgfd.common.updates import SingleUpdates, tensors_of, with_tensors
from sb3_pgfd.demonstrations import Demonstrations
from sb3_pgfd.utils.checks import check_learning_rate, is_number, is_switch, is_whole
from sb3_pgfd.utils.keywords import accepted_keywords

SelfA2CfD = TypeVar("SelfA2CfD", bound="A2CfD")


class A2CfD(CollectsRollouts):
    """
    Advantage Actor-Critic from Demonstrations.

    Paper: Mnih et al. 2016, "Asynchronous Methods for Deep Reinforcement Learning", https://arxiv.org/abs/1602.01783, in
    its synchronous form. With demonstrations the actor first clones them and the critic learns their returns. Then each
    update of the actor adds a demonstration term that decays, after DAPG (Rajeswaran et al. 2018, "Learning Complex
    Dexterous Manipulation with Deep Reinforcement Learning and Demonstrations", https://arxiv.org/abs/1709.10087); its
    symbols are used below. Without demonstrations the algorithm is plain A2C.

    :param policy: The policy model to use: MlpPolicy, CnnPolicy or MultiInputPolicy, with separate networks for actor and
        critic, or a subclass of SB3's ``ActorCriticPolicy``, which learns at ``learning_rate`` alone
    :param env: The environment to learn from (if registered in Gymnasium, can be str)
    :param demonstrations: Demonstrations to learn from: a dataset, a path, or the name of packaged ones
    :param learning_rate: Learning rate of the critic, a number or a schedule
    :param actor_learning_rate: Learning rate of the actor, None: the critic's
    :param n_steps: Steps of each environment per update
    :param gamma: Discount factor
    :param gae_lambda: lambda of generalised advantage estimation (Schulman et al. 2016, arXiv 1506.02438). With 1 the
        advantage is the n-step return minus V(s); with ``n_steps=1`` it is r + gamma V(s') - V(s)
    :param ent_coef: Weight of the entropy of the policy
    :param vf_coef: Weight of the critic's loss. It matters where actor and critic share layers
    :param max_grad_norm: Largest norm of the gradient, of each group of parameters by itself
    :param normalize_advantage: Whether to scale the advantages of a batch to mean 0 and standard deviation 1
    :param pretrain_steps: Updates on demonstrations alone, inside the first ``learn()``, before its first step: maximum
        likelihood for the actor, discounted returns for the critic
    :param pretrain_learning_rate: Learning rate of both in these updates, None: as in learning
    :param bc_coef: lambda_0, weight of the demonstration term in units of the batch's largest advantage
    :param bc_decay: lambda_1, the factor by which this weight shrinks with each update of the actor
    :param demo_batch_size: M, demonstrations per update
    :param critic_warmup_steps: Environment steps after pretraining, rounded up to whole rollouts, in which only the critic
        learns: a critic that knows only demonstrations would destroy the cloned policy. Layers that it shares with the
        actor are not held
    :param use_rms_prop: Whether to use RMSprop, as the paper does, instead of Adam
    :param rms_prop_eps: epsilon of RMSprop
    :param use_sde: Whether to explore by generalised state-dependent exploration (gSDE)
    :param sde_sample_freq: Steps after which gSDE draws a new noise matrix, -1: only at the start of a rollout
    :param rollout_buffer_class: Rollout buffer class, None: SB3's
    :param rollout_buffer_kwargs: Further arguments of the rollout buffer
    :param stats_window_size: Episodes to average rollout statistics over
    :param tensorboard_log: TensorBoard log location
    :param policy_kwargs: Arguments of the policy, e.g. ``log_std_min`` and ``log_std_max``
    :param verbose: 0: no output, 1: info, 2: debug
    :param seed: Seed for the pseudo random generators
    :param device: Device (cpu, cuda, auto)
    :param compile: Whether to compile the updates: on a CPU with ``torch.compile``, on a GPU as a CUDA graph. Those of
        pretraining, of the critic's warm-up and of both networks are compiled one after the other, each in half a minute
    :param _init_setup_model: Whether to build the networks at once
    :raises ValueError: If an option is out of range, or the policy or the action space is not supported
    :raises DemonstrationsError: If demonstrations cannot be read or do not belong to this environment
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": MlpPolicy,
        "CnnPolicy": CnnPolicy,
        "MultiInputPolicy": MultiInputPolicy,
    }
    _option_needs: ClassVar[Mapping[str, Need]] = ON_POLICY_NEEDS
    _options_of_optimizer = frozenset({"use_rms_prop", "rms_prop_eps", "use_sde"})
    policy: ActorCriticPolicy

    def __init__(
        self,
        policy: str | type[ActorCriticPolicy],
        env: GymEnv | str,
        demonstrations: Demonstrations | str | pathlib.Path | None = None,
        learning_rate: float | Schedule = 1e-3,
        actor_learning_rate: float | Schedule | None = 1e-4,
        n_steps: int = 5,
        gamma: float = 0.99,
        gae_lambda: float = 1.0,
        ent_coef: float = 0.0,
        vf_coef: float = 1.0,
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
        use_sde: bool = False,
        sde_sample_freq: int = -1,
        rollout_buffer_class: type[RolloutBuffer] | None = None,
        rollout_buffer_kwargs: dict[str, Any] | None = None,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: th.device | str = "auto",
        compile: bool = False,
        _init_setup_model: bool = True,
    ):
        policy_kwargs = dict(policy_kwargs or {})
        if use_rms_prop and "optimizer_class" not in policy_kwargs:
            policy_kwargs["optimizer_class"] = th.optim.RMSprop
            policy_kwargs["optimizer_kwargs"] = dict(alpha=0.99, eps=rms_prop_eps) | (
                policy_kwargs.get("optimizer_kwargs") or {}
            )
        super().__init__(
            policy,
            env,
            learning_rate=learning_rate,
            n_steps=n_steps,
            gamma=gamma,
            gae_lambda=gae_lambda,
            ent_coef=ent_coef,
            vf_coef=vf_coef,
            max_grad_norm=max_grad_norm,
            use_sde=use_sde,
            sde_sample_freq=sde_sample_freq,
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
        self.compile = compile
        self._pretrained = False
        self._n_actor_updates, self._n_held_steps = 0, 0
        self._metrics = MeanMetrics()
        self._batches: DemonstrationBatches | None = None
        if _init_setup_model:
            self._setup_model()

    def _setup_model(self) -> None:
        self._check_options()
        if not issubclass(self.policy_class, ActorCriticPolicy):
            found = f"{self.policy_class.__module__}.{self.policy_class.__name__}"
            names = ", ".join(f'"{name}"' for name in self.policy_aliases)
            raise ValueError(f"policy: found {found}, expected one of {names} or a subclass of SB3's ActorCriticPolicy")
        self._check_kwargs("policy_kwargs", accepted_keywords(self.policy_class))
        check_action_space(self.action_space)
        self._resolve_demonstrations()
        super()._setup_model()
        self._rates = LearningRates(self.compile, self.device)
        state = UpdateState([self.policy], [self.policy.optimizer])
        self._updates = SingleUpdates(self.device, state if self.compile else None)
        if isinstance(self.action_space, spaces.Box):
            half_width = ((self.action_space.high - self.action_space.low) / 2).flatten()
            unit = np.ones_like(half_width) if self.policy.squash_output else half_width
            self._std_unit = th.as_tensor(unit, dtype=th.float32, device=self.device)

    def _check_options(self) -> None:
        """:raises ValueError: If an option is out of range"""
        options = vars(self)
        limits = dict.fromkeys(("gamma", "gae_lambda", "bc_decay"), 1.0)
        limits |= dict.fromkeys(("ent_coef", "vf_coef", "bc_coef", "rms_prop_eps"), np.inf)
        for name, high in limits.items():
            if not is_number(options[name], 0.0, high):
                raise ValueError(f"{name}: found {options[name]!r}, expected a number from 0 to {high:g}")
        if not is_number(self.max_grad_norm, 0.0) or self.max_grad_norm == 0:
            raise ValueError(f"max_grad_norm: found {self.max_grad_norm!r}, expected a number > 0")
        for name, smallest in (("n_steps", 1), ("pretrain_steps", 0), ("critic_warmup_steps", 0), ("demo_batch_size", 1)):
            if not is_whole(options[name], smallest):
                raise ValueError(f"{name}: found {options[name]!r}, expected a whole number >= {smallest}")
        for name in ("normalize_advantage", "use_rms_prop", "use_sde", "compile"):
            if not is_switch(options[name]):
                raise ValueError(f"{name}: found {options[name]!r}, expected True or False")
        check_learning_rate("learning_rate", self.learning_rate, required=True)
        check_learning_rate("actor_learning_rate", self.actor_learning_rate)
        if self.pretrain_learning_rate is not None and not is_number(self.pretrain_learning_rate, 0.0):
            raise ValueError(f"pretrain_learning_rate: found {self.pretrain_learning_rate!r}, expected a number >= 0 or None")

    def _setup_lr_schedule(self) -> None:
        super()._setup_lr_schedule()
        rate = self.actor_learning_rate
        self.actor_lr_schedule = self.lr_schedule if rate is None else FloatSchedule(rate)

    def _setup_learn(self, *args: Any, **kwargs: Any) -> Any:
        # They are made at the first draw: by then VecNormalize has taken in the demonstrations
        self._batches = None
        return super()._setup_learn(*args, **kwargs)

    def add_demonstrations(self, demonstrations: Demonstrations | str | pathlib.Path) -> None:
        """
        Learn from more demonstrations from now on. Call it before, between or, from a callback, during ``learn()``.

        Before the first ``learn()`` they count as if given to the constructor. Afterwards there is neither pretraining
        nor a warm-up of the critic: they join the demonstration term, whose weight goes on shrinking from where it is, and
        the statistics of ``VecNormalize`` if it is training. To give all back to a saved model, merge them for ``load()``.

        :param demonstrations: A dataset, a path, or the name of packaged demonstrations
        :raises DemonstrationsError: If they do not fit, or a loaded model lacks its own; nothing changes then
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

    @property
    def _actor_is_held(self) -> bool:
        return self._has_demonstrations and self._n_held_steps < self.critic_warmup_steps

    def train(self) -> None:
        """Make an update with a rollout and, unless the actor is held, with demonstrations."""
        self.policy.set_training_mode(True)
        self._update_learning_rates()
        (rollout,) = self.rollout_buffer.get(batch_size=None)
        taken = ~rollout.old_log_prob.isnan()
        if not taken.all():
            rollout = with_tensors(rollout, iter([tensor[taken] for tensor in tensors_of(rollout)]))
            if len(rollout.returns) == 0:
                return
        with_actor, demos, share = not self._actor_is_held, None, None
        if with_actor and self._has_demonstrations and self.bc_coef > 0.0:
            demos = self._demonstration_batches.sample(self.demo_batch_size)
            share = th.tensor(self.bc_coef * self.bc_decay**self._n_actor_updates, device=self.device)
        options = with_actor, self.vf_coef, self.ent_coef, self.normalize_advantage, self.max_grad_norm
        self._metrics.add(self._updates(self.update, (rollout, demos, share, with_actor), options))
        if with_actor:
            self._n_actor_updates += 1
        else:
            self._n_held_steps += len(rollout.returns)
        self._n_updates += 1
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")

    def update(
        self, rollout: RolloutBufferSamples, demos: CloningBatch | None, share: th.Tensor | None, with_actor: bool
    ) -> dict[str, th.Tensor]:
        """
        One update on a rollout of B steps (s, a) with advantages A and returns R, and on M demonstrations (s_D, a_D).

        Critic: vf_coef mean Huber(V(s) - R).
        Actor, unless it is held: -mean A log pi(a | s) - ent_coef mean H(pi(s)) - w mean log pi(a_D | s_D).

        It does not branch on values of tensors, so that it can be compiled.

        :param rollout: B steps
        :param demos: M demonstrations, None: no demonstration term
        :param share: lambda_0 lambda_1^k, which w is as a share of the largest advantage
        :param with_actor: Whether the actor is updated too
        :return: What to log the means of
        """
        n_steps = len(rollout.returns)
        values = self.policy.predict_values(rollout.observations).flatten()
        value_loss = F.smooth_l1_loss(values, rollout.returns)
        loss = self.vf_coef * value_loss
        metrics = {"value_loss": value_loss}

        if with_actor:
            observations, actions, advantages = rollout.observations, rollout.actions, rollout.advantages
            if isinstance(self.action_space, spaces.Discrete):
                actions = actions.long().flatten()
            # A single advantage has no standard deviation
            if self.normalize_advantage and n_steps > 1:
                advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
            if demos is not None:
                # One pass for both, for speed
                observations = join_observations(observations, demos.observations)
                actions = th.cat([actions, demos.actions])

            distribution: Any = self.policy.get_distribution(observations)
            log_prob, demo_log_prob = distribution.log_prob(actions).tensor_split([n_steps])
            entropy = distribution.entropy()
            # A squashed distribution has no entropy in closed form
            entropy = -log_prob if entropy is None else entropy[:n_steps]

            policy_loss = -(advantages * log_prob).mean()
            loss = loss + policy_loss - self.ent_coef * entropy.mean()
            metrics |= {"policy_loss": policy_loss, "entropy": entropy}
            if share is not None:
                weight = demonstration_weight(share, advantages)
                bc_loss = -weight * demo_log_prob.mean()
                loss = loss + bc_loss
                metrics |= {"bc_weight": weight, "bc_loss": bc_loss, "demo_log_likelihood": demo_log_prob}
            if isinstance(self.action_space, spaces.Box):
                metrics["std"] = distribution.distribution.stddev[:n_steps] / self._std_unit

        descend(self.policy.optimizer, loss, self.max_grad_norm)
        return {name: value.detach() for name, value in metrics.items()}

    @property
    def _demonstration_batches(self) -> DemonstrationBatches:
        if self._batches is None:
            assert isinstance(self.demonstrations, Demonstrations)
            self._batches = DemonstrationBatches(self.demonstrations, self.policy, self.gamma, self._vec_normalize_env)
        return self._batches

    def _pretrain_update(self) -> None:
        self.policy.set_training_mode(True)
        self._update_learning_rates(self.pretrain_learning_rate)
        demos = self._demonstration_batches.sample(self.demo_batch_size)
        targets = self._demonstration_batches.value_targets(demos.rows)
        self._metrics.add(self._updates(self.pretrain_update, (demos, targets), (self.vf_coef, self.max_grad_norm)))

    def pretrain_update(self, demos: CloningBatch, targets: th.Tensor) -> dict[str, th.Tensor]:
        """
        One update on M demonstrations: vf_coef mean Huber(V(s_D) - y) - mean log pi(a_D | s_D).

        :param demos: M demonstrations
        :param targets: y, shape ``(M,)``
        :return: What to log the means of
        """
        values = self.policy.predict_values(demos.observations).flatten()
        value_loss = F.smooth_l1_loss(values, targets)
        log_prob = self.policy.get_distribution(demos.observations).log_prob(demos.actions)
        bc_loss = -log_prob.mean()
        descend(self.policy.optimizer, self.vf_coef * value_loss + bc_loss, self.max_grad_norm)
        metrics = {"value_loss": value_loss, "bc_loss": bc_loss, "demo_log_likelihood": log_prob}
        return {name: value.detach() for name, value in metrics.items()}

    def _pretrain_logs(self) -> dict[str, float]:
        return self._metrics.flush()

    def _update_learning_rates(self, rate: float | None = None) -> None:
        """:param rate: For actor and critic, None: by their schedules"""
        of_critic, of_actor = (
            schedule(self._current_progress_remaining) if rate is None else rate
            for schedule in (self.lr_schedule, self.actor_lr_schedule)
        )
        # A policy of SB3 has one group without a name
        self._rates.set(self.policy.optimizer, of_critic, of_groups={"actor": of_actor})

    def dump_logs(self, iteration: int = 0) -> None:
        """Write log data: means over the updates since the last time."""
        for name, value in self._metrics.flush().items():
            self.logger.record(f"train/{name}", value)
        explained = explained_variance(self.rollout_buffer.values.flatten(), self.rollout_buffer.returns.flatten())
        # Equal returns, or a single one, have no variance to be explained
        if np.isfinite(explained):
            self.logger.record("train/explained_variance", explained)
        self.logger.record("train/learning_rate", self.lr_schedule(self._current_progress_remaining))
        # A policy of SB3 learns at one rate
        if any(group.get("name") == "actor" for group in self.policy.optimizer.param_groups):
            self.logger.record("train/actor_learning_rate", self.actor_lr_schedule(self._current_progress_remaining))
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
        return [*super()._excluded_save_params(), "_metrics", "_batches", "_std_unit", "_rates", "_updates"]


def demonstration_weight(share: th.Tensor, advantages: th.Tensor) -> th.Tensor:
    """
    w = lambda_0 lambda_1^k max A, the weight of a demonstration instead of its advantage (DAPG, equation 4).

    :param share: lambda_0 lambda_1^k, where k is the number of updates of the actor so far
    :param advantages: A of the agent's own transitions, shape ``(B,)``. Without a positive one the weight is 0
    """
    return advantages.max().clamp(min=0.0) * share
