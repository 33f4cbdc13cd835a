"""Deep deterministic policy gradient from demonstrations."""

import pathlib
from typing import Any, ClassVar

import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.policies import BasePolicy, ContinuousCritic
from stable_baselines3.common.type_aliases import GymEnv, Schedule
from stable_baselines3.td3.policies import Actor

from sb3_pgfd.common.images import detached
from sb3_pgfd.common.losses import (
    action_gradient,
    batch_metrics,
    behavior_cloning_loss,
    mean_size,
    policy_gradient_loss,
    prefers,
    smallest,
    squared_errors,
    td_targets,
)
from sb3_pgfd.common.off_policy_algorithm import OffPolicyFromDemonstrations
from sb3_pgfd.common.optimization import descend
from sb3_pgfd.common.policies import TargetNetworks
from sb3_pgfd.common.updates import ERRORS, Turn
from sb3_pgfd.ddpgfd.policies import CnnPolicy, DDPGfDPolicy, MlpPolicy, MultiInputPolicy
from sb3_pgfd.demonstrations import Demonstrations
from sb3_pgfd.replay import DemoBatch
from sb3_pgfd.utils.checks import check_not_negative, is_number


class DDPGfD(OffPolicyFromDemonstrations):
    """
    Deep Deterministic Policy Gradient from Demonstrations.

    Paper: Vecerik et al. 2017, "Leveraging Demonstrations for Deep Reinforcement Learning on Robotics Problems with
    Sparse Rewards", https://arxiv.org/abs/1707.08817. Symbols below are the paper's. Beyond the paper it can clone
    demonstrations with a Q-filter (Nair et al. 2018, https://arxiv.org/abs/1709.10089). Without demonstrations it is a
    prioritised DDPG with a mix of 1-step and n-step returns.

    Options of the replay buffer, like ``priority_exponent`` (alpha), ``demo_bonus`` (eps_D) or ``her_ratio``, go into
    ``replay_buffer_kwargs``, see :class:`~sb3_pgfd.replay.DemoReplayBuffer`; options of the networks, like ``n_critics`` or
    ``layer_norm``, go into ``policy_kwargs``, see :class:`~sb3_pgfd.ddpgfd.policies.DDPGfDPolicy`.

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
    :param action_noise: Exploration noise on the actions scaled to [-1, 1]; a number is the standard deviation of
        Gaussian noise, ``"demonstrations"`` takes what they leave open (:mod:`sb3_pgfd.common.exploration`)
    :param pretrain_steps: Updates on demonstrations alone, inside the first ``learn()``, before its first step
    :param n_steps: n, the length of the n-step return; with 1 there is no n-step loss
    :param n_step_coef: lambda_1, weight of the n-step loss
    :param l2_coef: lambda_2, L2 regularisation of actor and critic (as weight decay: lambda_2 / 2 |theta|^2)
    :param action_gradient_coef: lambda_3, weight of |grad_a Q|^2 in the priority
    :param importance_exponent: beta, 0: no importance weights; a number or a schedule
    :param bc_coef: Weight of a behaviour cloning loss on demonstrations (Nair et al. 2018, section 4.2)
    :param q_filter: Whether to clone only demonstrations that Q prefers to the policy (same, 4.3); not in pretraining,
        where the critic knows no other actions than the demonstrations'
    :param normalize_actor_loss: Whether to divide the policy gradient by the batch's mean |Q|, so that ``bc_coef``
        means the same at any reward scale (TD3+BC, Fujimoto and Gu 2021, arXiv 2106.06860, equation 5)
    :param q_range: Smallest and largest possible return; targets are clipped to it (Andrychowicz et al. 2017, arXiv
        1707.01495, appendix A)
    :param replay_buffer_class: ``DemoReplayBuffer`` or a subclass, None: the former
    :param replay_buffer_kwargs: Options of the replay buffer
    :param stats_window_size: Episodes to average rollout statistics over
    :param tensorboard_log: TensorBoard log location
    :param policy_kwargs: Options of the networks
    :param verbose: 0: no output, 1: info, 2: debug
    :param seed: Seed for the pseudo random generators
    :param device: Device (cpu, cuda, auto)
    :param compile: Whether to compile the updates: on a CPU with ``torch.compile``, on a GPU as a CUDA graph of all
        ``gradient_steps``. The first updates then take half a minute longer, all others are faster
    :param _init_setup_model: Whether to build the networks at once
    :raises TypeError: If an option is unknown
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
    critic: ContinuousCritic
    critic_target: ContinuousCritic

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
        action_noise: ActionNoise | float | str | None = None,
        pretrain_steps: int = 1000,
        n_steps: int = 5,
        n_step_coef: float = 1.0,
        l2_coef: float = 1e-5,
        action_gradient_coef: float = 1.0,
        importance_exponent: float | Schedule = 1.0,
        bc_coef: float = 0.0,
        q_filter: bool = False,
        normalize_actor_loss: bool = False,
        q_range: tuple[float, float] | None = None,
        replay_buffer_class: type[ReplayBuffer] | None = None,
        replay_buffer_kwargs: dict[str, Any] | None = None,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: th.device | str = "auto",
        compile: bool = False,
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
        self.importance_exponent = importance_exponent
        self.bc_coef = bc_coef
        self.q_filter = q_filter
        self.normalize_actor_loss = normalize_actor_loss
        self.q_range = q_range
        self.compile = compile
        if _init_setup_model:
            self._setup_model()

    def _setup_model(self) -> None:
        super()._setup_model()
        self.actor_target = self.policy.actor_target
        self._targets = TargetNetworks((self.critic, self.actor), (self.critic_target, self.actor_target))

    def _check_options(self) -> None:
        super()._check_options()
        check_not_negative(vars(self), {"action_gradient_coef": "lambda_3"})
        if not callable(self.importance_exponent) and not is_number(self.importance_exponent, 0.0):
            found = self.importance_exponent
            raise ValueError(f"importance_exponent (beta): found {found!r}, expected a number >= 0 or a schedule")

    def update(self, batch: DemoBatch, clones_only: th.Tensor, turn: Turn) -> dict[str, th.Tensor]:
        """
        One update (Vecerik et al. 2017, algorithm 1).

        :param batch: B transitions
        :param clones_only: Whether demonstrations are cloned that Q does not prefer (pretraining), one bool
        :param turn: What changes from one update to the next
        :return: e_i, the part of the priorities that the critic gives, a column, and what to log the means of
        """
        observations, weights = self.policy.encoded(batch.observations, self.critic), batch.weights
        cloned = batch.actions if batch.intended_actions is None else batch.intended_actions

        # y_k = R_k + gamma^k (1 - terminated) Q'(s_k, pi'(s_k)) for one step and for n steps
        with th.no_grad():
            next_observations = self.policy.encoded(batch.next_observations, self.critic_target)
            next_actions = self.actor_target(next_observations)
            next_q = smallest(self.critic_target(next_observations, next_actions))
            targets = td_targets(batch.rewards, batch.bootstrap, next_q, self.q_range)

        # Critic: mean of w_i delta_i^2 with delta_i^2 = (Q - y_1)^2 + lambda_1 (Q - y_n)^2
        q_values = self.critic(observations, batch.actions)
        errors = squared_errors(q_values, targets)
        td_errors = errors @ self._return_coefs
        critic_loss = weights * td_errors
        descend(self.critic.optimizer, critic_loss.mean() + self._encoder_loss(observations, cloned, batch, clones_only))
        observations = detached(observations)

        # Actor: -mean of w_i Q(s_i, pi(s_i)), by the chain rule, and cloning
        actions = self.actor(observations)
        q_pi, gradient = action_gradient(self.critic.q1_forward, observations, actions)
        if self.normalize_actor_loss:
            weights = weights / mean_size(q_pi)
        actor_loss = policy_gradient_loss(actions, gradient, weights)
        metrics = {"critic_loss": critic_loss.detach(), "actor_loss": -weights * q_pi}
        if self.bc_coef > 0.0:
            mask = batch.is_demo
            if self.q_filter:
                mask = mask & (prefers(self.critic.q1_forward, observations, cloned, q_pi) | clones_only)
            bc_loss = behavior_cloning_loss(actions, cloned, mask, batch.is_demo)
            actor_loss = actor_loss + self.bc_coef * bc_loss
            metrics["bc_loss"] = bc_loss.detach()
        descend(self.actor.optimizer, actor_loss)

        self._targets.update(self.tau)
        self.policy.update_mean_actor(turn.mean_rate)

        # p_i = delta_i^2 + lambda_3 |grad_a Q(s_i, pi(s_i))|^2 + eps + eps_D [i is a demonstration]
        slope = gradient.square().sum(dim=1, keepdim=True)
        metrics[ERRORS] = td_errors.detach() / len(q_values) + self.action_gradient_coef * slope
        return metrics | batch_metrics(batch, errors, q_values[0])

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "actor_target"]
