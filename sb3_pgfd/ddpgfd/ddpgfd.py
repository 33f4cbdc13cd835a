"""Deep deterministic policy gradient from demonstrations."""

import pathlib
from typing import Any, ClassVar, TypeVar

import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, Schedule
from stable_baselines3.common.utils import FloatSchedule
from stable_baselines3.td3.policies import Actor

from sb3_pgfd.common.descent import descend
from sb3_pgfd.common.metrics import RunningMean
from sb3_pgfd.common.networks import TargetNetworks
from sb3_pgfd.common.off_policy_algorithm import OffPolicyFromDemonstrations
from sb3_pgfd.ddpgfd.losses import (
    action_gradient,
    agent_mean,
    behavior_cloning_loss,
    policy_gradient,
    prefers,
    priorities,
    smoothed,
    squared_errors,
    td_target,
    transition_errors,
)
from sb3_pgfd.ddpgfd.options import check_options
from sb3_pgfd.ddpgfd.policies import CnnPolicy, Critic, DDPGfDPolicy, MlpPolicy, MultiInputPolicy
from sb3_pgfd.demonstrations import Demonstrations
from sb3_pgfd.replay import DemoBatch

SelfDDPGfD = TypeVar("SelfDDPGfD", bound="DDPGfD")


class DDPGfD(OffPolicyFromDemonstrations):
    """
    Deep Deterministic Policy Gradient from Demonstrations.

    Paper: Vecerik et al. 2017, "Leveraging Demonstrations for Deep Reinforcement Learning on Robotics Problems with
    Sparse Rewards", https://arxiv.org/abs/1707.08817. Symbols below are the paper's. Without demonstrations it is a
    prioritised DDPG with a mix of 1-step and n-step returns.

    :param policy: The policy model to use (MlpPolicy, CnnPolicy, MultiInputPolicy)
    :param env: The environment to learn from (if registered in Gymnasium, can be str)
    :param demonstrations: Kept in the replay buffer for ever: a dataset, a path, or the name of packaged ones. More can
        join them at any time, see :meth:`add_demonstrations`
    :param learning_rate: Learning rate of the critic, and of the actor unless it has its own; a number or a schedule
    :param actor_learning_rate: Learning rate of the actor, None: the same
    :param buffer_size: The agent's own transitions kept at most; demonstrations are not counted
    :param learning_starts: Environment steps before the first update; actions are random until the first update or
        pretraining has been made
    :param batch_size: Transitions per update
    :param tau: Soft update coefficient of the target networks
    :param gamma: Discount factor
    :param train_freq: Update every ``train_freq`` steps, or ``(n, "step")``, ``(n, "episode")``
    :param gradient_steps: Updates each time, -1: as many as there were steps
    :param action_noise: Exploration noise on the actions scaled to [-1, 1]
    :param pretrain_steps: Updates on demonstrations alone, inside the first ``learn()``, before its first step
    :param n_steps: n, the length of the n-step return; with 1 there is no n-step loss
    :param n_step_coef: lambda_1, weight of the n-step loss
    :param l2_coef: lambda_2, L2 regularisation of actor and critic (as weight decay: lambda_2 / 2 |theta|^2)
    :param action_gradient_coef: lambda_3, weight of |grad_a Q|^2 in the priority
    :param priority_exponent: alpha, 0: uniform
    :param importance_exponent: beta, 0: no importance weights; a number or a schedule
    :param priority_epsilon: eps, added to every priority
    :param demo_bonus: eps_D, added to the priority of demonstrations
    :param relative_priorities: Whether errors count in units of their running mean over the agent's own transitions, so
        that eps, eps_D and the priority of new transitions mean the same at any reward scale
    :param demo_fraction: Share of demonstrations in each batch, uniform otherwise, instead of priorities (RLPD, Ball
        et al. 2023, arXiv 2302.02948, section 4.1)
    :param her_ratio: Share of each batch whose goal is replaced by one achieved later in the same episode (HER,
        Andrychowicz et al. 2017, arXiv 1707.01495; with demonstrations: Nair et al. 2018, arXiv 1709.10089)
    :param keep_successes: Whether successful episodes of the agent, by ``is_success`` or ``success`` in their last info and
        not in their first, are kept for ever like demonstrations, for which the buffer grows (self-imitation, Oh et al.
        2018, arXiv 1806.05635)
    :param bc_coef: Weight of a behaviour cloning loss on demonstrations (Nair et al. 2018, arXiv 1709.10089, section 4.2)
    :param q_filter: Whether to clone only demonstrations that Q prefers to the policy (same, 4.3); not in pretraining
    :param normalize_actor_loss: Whether to divide the policy gradient by the batch's mean |Q|, so that ``bc_coef``
        means the same at any reward scale (TD3+BC, Fujimoto and Gu 2021, arXiv 2106.06860, equation 5)
    :param q_range: Smallest and largest possible return; targets are clipped to it (Andrychowicz et al. 2017, arXiv
        1707.01495, appendix A)
    :param policy_delay: Update the policy and the targets every so many updates (TD3, Fujimoto et al. 2018, arXiv
        1802.09477, section 5.2)
    :param target_policy_noise: Standard deviation of the noise that smooths the target policy (same, section 5.3)
    :param target_noise_clip: Its largest absolute value
    :param pretrain_clone_only: Whether the actor does nothing but clone in pretraining (``bc_coef`` must be positive):
        Q knows no action but the demonstrations' yet, so that its gradient leads away from them
    :param critic_warmup_steps: Environment steps after pretraining in which the actor goes on to do nothing but clone,
        while the critic meets the agent's own actions (counted by what the replay buffer holds)
    :param replay_buffer_class: ``DemoReplayBuffer`` or a subclass, None: the former
    :param replay_buffer_kwargs: Further arguments of the replay buffer
    :param optimize_memory_usage: Not supported
    :param stats_window_size: Episodes to average rollout statistics over
    :param tensorboard_log: TensorBoard log location
    :param policy_kwargs: Arguments of the policy (``n_critics``, ``layer_norm``, ...), see :class:`DDPGfDPolicy`
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
    policy: DDPGfDPolicy
    actor: Actor
    actor_target: Actor
    critic: Critic
    critic_target: Critic

    def __init__(
        self,
        policy: str | type[DDPGfDPolicy],
        env: GymEnv | str,
        demonstrations: Demonstrations | str | pathlib.Path | None = None,
        learning_rate: float | Schedule = 1e-3,
        actor_learning_rate: float | Schedule | None = None,
        buffer_size: int = 1_000_000,  # 1e6
        learning_starts: int = 100,
        batch_size: int = 256,
        tau: float = 0.005,
        gamma: float = 0.99,
        train_freq: int | tuple[int, str] = 1,
        gradient_steps: int = 1,
        action_noise: ActionNoise | None = None,
        pretrain_steps: int = 1000,
        n_steps: int = 5,
        n_step_coef: float = 1.0,
        l2_coef: float = 1e-5,
        action_gradient_coef: float = 1.0,
        priority_exponent: float = 0.3,
        importance_exponent: float | Schedule = 1.0,
        priority_epsilon: float = 1e-6,
        demo_bonus: float = 1.0,
        relative_priorities: bool = False,
        demo_fraction: float | None = None,
        her_ratio: float = 0.0,
        keep_successes: bool = False,
        bc_coef: float = 0.0,
        q_filter: bool = False,
        normalize_actor_loss: bool = False,
        q_range: tuple[float, float] | None = None,
        policy_delay: int = 1,
        target_policy_noise: float = 0.0,
        target_noise_clip: float = 0.5,
        pretrain_clone_only: bool = False,
        critic_warmup_steps: int = 0,
        replay_buffer_class: type[ReplayBuffer] | None = None,
        replay_buffer_kwargs: dict[str, Any] | None = None,
        optimize_memory_usage: bool = False,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: th.device | str = "auto",
        _init_setup_model: bool = True,
    ):
        super().__init__(
            policy,
            env,
            learning_rate,
            buffer_size,
            learning_starts,
            batch_size,
            tau,
            gamma,
            train_freq,
            gradient_steps,
            action_noise=action_noise,
            replay_buffer_class=replay_buffer_class,
            replay_buffer_kwargs=replay_buffer_kwargs,
            optimize_memory_usage=optimize_memory_usage,
            n_steps=n_steps,
            policy_kwargs=policy_kwargs,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            verbose=verbose,
            device=device,
            seed=seed,
            supported_action_spaces=(spaces.Box,),
        )
        self.demonstrations = demonstrations
        self.actor_learning_rate = actor_learning_rate
        self.pretrain_steps = pretrain_steps
        self.n_step_coef = n_step_coef
        self.l2_coef = l2_coef
        self.action_gradient_coef = action_gradient_coef
        self.priority_exponent = priority_exponent
        self.importance_exponent = importance_exponent
        self.priority_epsilon = priority_epsilon
        self.demo_bonus = demo_bonus
        self.relative_priorities = relative_priorities
        self._mean_error = RunningMean()
        self.demo_fraction = demo_fraction
        self.her_ratio = her_ratio
        self.keep_successes = keep_successes
        self.bc_coef = bc_coef
        self.q_filter = q_filter
        self.normalize_actor_loss = normalize_actor_loss
        self.q_range = q_range
        self.policy_delay = policy_delay
        self.target_policy_noise = target_policy_noise
        self.target_noise_clip = target_noise_clip
        self.pretrain_clone_only = pretrain_clone_only
        self.critic_warmup_steps = critic_warmup_steps
        if _init_setup_model:
            self._setup_model()

    def _setup_model(self) -> None:
        check_options(vars(self))
        super()._setup_model()
        self._create_aliases()

    def _setup_lr_schedule(self) -> None:
        super()._setup_lr_schedule()
        self.importance_schedule = FloatSchedule(self.importance_exponent)

    def _create_aliases(self) -> None:
        self.actor = self.policy.actor
        self.actor_target = self.policy.actor_target
        self.critic = self.policy.critic
        self.critic_target = self.policy.critic_target
        # 1 and lambda_1, the weights of the two returns
        coefs = [1.0] if self.n_steps == 1 or self.n_step_coef == 0.0 else [1.0, self.n_step_coef]
        self._return_coefs = th.tensor(coefs, device=self.device)[:, None]
        self._targets = TargetNetworks((self.critic, self.actor), (self.critic_target, self.actor_target))

    def _clones_only(self, demos_only: bool) -> bool:
        """:param demos_only: Whether this is pretraining"""
        if demos_only:
            return self.pretrain_clone_only
        n_own = self.buffer.n_filled - self.buffer.n_demonstrations
        return self.buffer.n_demonstrations > 0 and not self.buffer.full and n_own < self.critic_warmup_steps

    def _update(self, batch_size: int, demos_only: bool = False) -> None:
        self._n_updates += 1
        beta = self.importance_schedule(self._current_progress_remaining)
        batch = self.buffer.sample_batch(batch_size, beta, self._vec_normalize_env, demos_only)
        td_errors = self._update_critic(batch)

        update_actor = self._n_updates % self.policy_delay == 0
        if update_actor or self.demo_fraction is None:
            actions = self.actor(batch.observations)
            q_values, gradient = action_gradient(self.critic, batch.observations, actions)
            if update_actor:
                clone_only = self._clones_only(demos_only)
                self._update_actor(batch, actions, q_values, gradient, clone_only, trust_q=not (demos_only or clone_only))
            if self.demo_fraction is None:
                self._update_priorities(batch, td_errors, gradient)
        if update_actor:
            self._targets.update(self.tau)
            self.policy.update_mean_actor()

    def _update_critic(self, batch: DemoBatch) -> th.Tensor:
        """
        :param batch: B transitions
        :return: delta_i^2 = (1-step error)^2 + lambda_1 (n-step error)^2, mean over the critics, shape ``(B, 1)``
        """
        targets = self._compute_targets(batch)
        q_values = self.critic(batch.observations, batch.actions)
        errors = squared_errors(q_values, targets)
        td_errors = errors @ self._return_coefs
        # L = mean(w_i delta_i^2), plus the L2 term that is the optimiser's weight decay
        descend(self.critic.optimizer, td_errors, batch.weights / len(td_errors))

        td_errors, errors = td_errors.detach(), errors.detach()
        metrics = {
            "critic_loss": batch.weights * td_errors,
            "q_mean": q_values[0].detach(),
            "demo_fraction": batch.is_demo,
            "is_weight_mean": batch.weights,
        }
        if len(self._return_coefs) > 1:
            metrics["critic_loss_n_step"] = batch.weights * errors[:, 1:]
        self._metrics.add(metrics)
        return td_errors if len(q_values) == 1 else td_errors / len(q_values)

    def _compute_targets(self, batch: DemoBatch) -> th.Tensor:
        """
        :param batch: B transitions
        :return: y_1 and y_n, shape ``(B, 2)``; y_1 alone, ``(B, 1)``, if there is no n-step loss
        """
        rewards, bootstrap, next_observations = batch.rewards, batch.bootstrap, batch.next_observations
        n_returns = len(self._return_coefs)
        if n_returns == 1:
            n = len(batch.indices)
            rewards, bootstrap, next_observations = rewards[:n], bootstrap[:n], batch.one_step.next_observations
        next_q = self._next_q_values(next_observations)
        return td_target(rewards, bootstrap, next_q, self.q_range).view(n_returns, -1).T

    @th.no_grad()
    def _next_q_values(self, next_observations: Any) -> th.Tensor:
        """Q'(s', pi'(s')), the smallest of the critics', shape ``(rows, 1)``."""
        next_actions = self.actor_target(next_observations)
        if self.target_policy_noise > 0.0:
            next_actions = smoothed(next_actions, self.target_policy_noise, self.target_noise_clip)
        next_q_values = self.critic_target(next_observations, next_actions)
        return next_q_values[0] if len(next_q_values) == 1 else th.cat(next_q_values, dim=1).min(dim=1, keepdim=True).values

    def _update_actor(
        self, batch: DemoBatch, actions: th.Tensor, q_values: th.Tensor, gradient: th.Tensor, clone_only: bool, trust_q: bool
    ) -> None:
        """
        :param batch: B transitions
        :param actions: pi(s), with its graph, shape ``(B, action_dim)``
        :param q_values: Q(s, pi(s)), shape ``(B, 1)``
        :param gradient: grad_a Q(s, pi(s)), shape ``(B, action_dim)``
        :param clone_only: Whether to leave out the policy gradient
        :param trust_q: Whether the critic has seen actions of the agent: otherwise it has no reason to prefer others to the
            demonstrations', and there is no Q-filter
        """
        if self.normalize_actor_loss:
            scale = q_values.abs().mean().clamp(min=1e-8)
            q_values, gradient = q_values / scale, gradient / scale
        if clone_only:
            gradient = th.zeros_like(gradient)
        outputs, gradients = [actions], [policy_gradient(gradient, batch.weights)]
        metrics = {"actor_loss": -batch.weights * q_values}
        if self.bc_coef > 0.0:
            mask = batch.is_demo
            if self.q_filter and trust_q:
                mask = mask & prefers(self.critic, batch.observations, batch.actions, actions)
            bc_loss = behavior_cloning_loss(actions, batch.actions, mask, batch.is_demo.sum())
            outputs.append(bc_loss)
            gradients.append(th.full_like(bc_loss, self.bc_coef))
            metrics["bc_loss"] = bc_loss.detach()
        descend(self.actor.optimizer, outputs, gradients)
        self._metrics.add(metrics)

    def _update_priorities(self, batch: DemoBatch, td_errors: th.Tensor, gradient: th.Tensor) -> None:
        """From delta_i^2, shape ``(B, 1)``, and grad_a Q(s_i, pi(s_i)), shape ``(B, action_dim)``."""
        errors = transition_errors(td_errors, gradient, self.action_gradient_coef)
        if self.relative_priorities:
            errors = errors / self._mean_error.update(float(agent_mean(errors, batch.weights, batch.is_demo)))
        values = priorities(errors, batch.is_demo, self.priority_epsilon, self.demo_bonus)
        self._metrics.add({"priority_mean": values})
        self.buffer.update_priorities(batch.indices, values.flatten().cpu().numpy())

    def learn(
        self: SelfDDPGfD,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 4,
        tb_log_name: str = "DDPGfD",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfDDPGfD:
        """cf ``OffPolicyAlgorithm``. The first call pretrains before its first environment step."""
        return super().learn(total_timesteps, callback, log_interval, tb_log_name, reset_num_timesteps, progress_bar)

    def _excluded_save_params(self) -> list[str]:
        networks = ["actor", "critic", "actor_target", "critic_target", "_targets"]
        return [*super()._excluded_save_params(), *networks, "_return_coefs"]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy", "actor.optimizer", "critic.optimizer"], []
