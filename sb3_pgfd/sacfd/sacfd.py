"""Soft actor-critic from demonstrations."""

import io
import pathlib
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, Schedule

from sb3_pgfd.common.compilation import UpdateState
from sb3_pgfd.common.images import detached
from sb3_pgfd.common.losses import (
    action_gradient,
    batch_metrics,
    behavior_cloning_loss,
    mean_size,
    policy_gradient_loss,
    prefers,
    squared_errors,
    td_targets,
)
from sb3_pgfd.common.off_policy_algorithm import OffPolicyFromDemonstrations
from sb3_pgfd.common.optimization import FALLING_RATE, descend
from sb3_pgfd.common.policies import TargetNetworks
from sb3_pgfd.common.pretraining import read_saved_data
from sb3_pgfd.common.updates import ERRORS, Turn
from sb3_pgfd.demonstrations import Demonstrations
from sb3_pgfd.replay import DemoBatch
from sb3_pgfd.sacfd.policies import CnnPolicy, MlpPolicy, MultiInputPolicy, SACfDPolicy
from sb3_pgfd.utils.checks import check_switches, check_whole, is_number


class SACfD(OffPolicyFromDemonstrations):
    """
    Soft Actor-Critic from Demonstrations: a stochastic policy for sparse rewards and few demonstrations.

    It is SB3's SAC (Haarnoja et al. 2018, https://arxiv.org/abs/1801.01290) with

    * RLPD (Ball et al. 2023, https://arxiv.org/abs/2302.02948): half of each batch demonstrations, an ensemble of critics
      with LayerNorm, targets of a random two of them, as many updates per step as ``gradient_steps`` says, and no entropy in
      the targets.
    * Little entropy from the first step on: the policy begins with a small standard deviation, and the entropy coefficient
      with a small value. SAC's own, which begins at 1, is worth more than a reward of 1 at the end of an episode.
    * What :class:`~sb3_pgfd.td3fd.TD3fD` has: both 1-step and n-step returns, cloning in units of Q, pretraining and a first
      time of learning that only clone, own successes kept like demonstrations, a running mean of the actors in evaluations.

    With ``replay_buffer_kwargs=dict(demo_fraction=None)`` priorities decide what is drawn; they are TD errors.

    :param policy: The policy model to use (MlpPolicy, CnnPolicy, MultiInputPolicy)
    :param env: The environment to learn from (if registered in Gymnasium, can be str)
    :param demonstrations: A dataset, a path, or the name of packaged ones
    :param learning_rate: Learning rate of the critics and of the entropy coefficient, and of the actor unless it has its own;
        a number or a schedule. By default it falls from 1e-3 to 0
    :param actor_learning_rate: Learning rate of the actor, None: the same
    :param buffer_size: The agent's own transitions kept at most; demonstrations are not counted
    :param learning_starts: Environment steps before the first update; actions are random until the first update or
        pretraining has been made
    :param batch_size: Transitions per update
    :param tau: Soft update coefficient of the target critics
    :param gamma: Discount factor
    :param train_freq: Update every ``train_freq`` steps, or ``(n, "step")``, ``(n, "episode")``
    :param gradient_steps: Updates each time, -1: as many as there were steps
    :param action_noise: Exploration noise beside the policy's own, on the actions scaled to [-1, 1]; a number is the standard
        deviation of Gaussian noise, ``"demonstrations"`` takes what they leave open (:mod:`sb3_pgfd.common.exploration`)
    :param pretrain_steps: Updates on demonstrations alone, inside the first ``learn()``, before its first step
    :param n_steps: n, the length of the n-step return; with 1 there is no n-step loss
    :param n_step_coef: lambda_1, weight of the n-step loss
    :param l2_coef: lambda_2, L2 regularisation of actor and critics
    :param bc_coef: Weight of the cloning loss, of the actions without noise; with 0 the actor follows Q from the first update
        on
    :param q_filter: Whether to clone only demonstrations that Q prefers to the policy, once the actor follows Q
    :param normalize_actor_loss: Whether to divide the policy's objective by the batch's mean |Q|, so that ``bc_coef`` means
        the same at any reward scale (TD3+BC, Fujimoto and Gu 2021, arXiv 2106.06860, equation 5)
    :param q_range: Smallest and largest possible return, with the entropy if ``entropy_backup``; targets are clipped to it
    :param policy_delay: Update the policy and the entropy coefficient every so many updates
    :param critic_warmup_steps: Environment steps after pretraining in which the actor goes on to clone alone, while the
        critics meet the agent's own actions
    :param ent_coef: Entropy coefficient alpha: a number, or "auto" to learn it, "auto_0.1" to begin with 0.1
    :param target_entropy: Entropy that "auto" aims at; "auto": minus the number of dimensions of an action, which is that of
        a Gaussian with a standard deviation of 0.09
    :param entropy_backup: Whether the targets have the entropy too, as in SAC
    :param replay_buffer_class: ``DemoReplayBuffer`` or a subclass, None: the former
    :param replay_buffer_kwargs: Options of the replay buffer, on top of ``demo_fraction=0.5`` and ``keep_successes=True``
    :param stats_window_size: Episodes to average rollout statistics over
    :param tensorboard_log: TensorBoard log location
    :param policy_kwargs: Options of the networks, see :class:`~sb3_pgfd.sacfd.policies.SACfDPolicy`
    :param verbose: 0: no output, 1: info, 2: debug
    :param seed: Seed for the pseudo random generators
    :param device: Device (cpu, cuda, auto)
    :param compile: Whether to compile the updates: on a CPU with ``torch.compile``, on a GPU as a CUDA graph of all
        ``gradient_steps``. The first updates then take minutes longer (docs/speed.md), all others are faster
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
    policy: SACfDPolicy
    log_ent_coef: th.Tensor | None
    """log alpha, None if alpha is given"""
    ent_coef_optimizer: th.optim.Optimizer | None
    ent_coef_tensor: th.Tensor
    """alpha if it is given"""
    buffer_defaults: ClassVar[Mapping[str, Any]] = {"demo_fraction": 0.5, "keep_successes": True}

    def __init__(
        self,
        policy: str | type[SACfDPolicy],
        env: GymEnv | str,
        demonstrations: Demonstrations | str | pathlib.Path | None = None,
        learning_rate: float | Schedule = FALLING_RATE,
        actor_learning_rate: float | Schedule | None = None,
        buffer_size: int = 1_000_000,  # 1e6
        learning_starts: int = 100,
        batch_size: int = 128,
        tau: float = 0.01,
        gamma: float = 0.99,
        train_freq: int | tuple[int, str] = 1,
        gradient_steps: int = 1,
        action_noise: ActionNoise | float | str | None = None,
        pretrain_steps: int = 10_000,
        n_steps: int = 10,
        n_step_coef: float = 1.0,
        l2_coef: float = 1e-5,
        bc_coef: float = 1.5,
        q_filter: bool = False,
        normalize_actor_loss: bool = True,
        q_range: tuple[float, float] | None = None,
        policy_delay: int = 2,
        critic_warmup_steps: int = 2000,
        ent_coef: str | float = "auto_0.001",
        target_entropy: str | float = "auto",
        entropy_backup: bool = False,
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
        self.bc_coef = bc_coef
        self.q_filter = q_filter
        self.normalize_actor_loss = normalize_actor_loss
        self.q_range = q_range
        self.policy_delay = policy_delay
        self.critic_warmup_steps = critic_warmup_steps
        self.ent_coef = ent_coef
        self.target_entropy = target_entropy
        self.entropy_backup = entropy_backup
        self.compile = compile
        if _init_setup_model:
            self._setup_model()

    @classmethod
    def _check_arguments(cls, kwargs: Mapping[str, Any]) -> None:
        if kwargs.get("use_sde") or (kwargs.get("policy_kwargs") or {}).get("use_sde"):
            raise ValueError(
                f"{cls.__name__}: found use_sde=True, expected none: its noise is drawn anew in each step. SB3's SAC has gSDE "
                "and takes demonstrations with replay_buffer_class=DemoReplayBuffer"
            )
        super()._check_arguments(kwargs)

    def _check_options(self) -> None:
        super()._check_options()
        check_whole(vars(self), {"policy_delay": 1, "critic_warmup_steps": 0})
        check_switches(vars(self), ["entropy_backup"])
        self._initial_ent_coef()
        if self.target_entropy != "auto" and not is_number(self.target_entropy):
            raise ValueError(f'target_entropy: found {self.target_entropy!r}, expected a number or "auto"')

    def _initial_ent_coef(self) -> float:
        """
        :return: alpha at the beginning
        :raises ValueError: If it is none
        """
        text = str(self.ent_coef)
        learned, initial = _is_learned(text), text.removeprefix("auto").removeprefix("_") or "1"
        try:
            value = float(initial)
        except ValueError:
            value = -1.0
        if not is_number(value, 0.0) or (learned and value == 0.0):
            raise ValueError(
                f'ent_coef: found {self.ent_coef!r}, expected a number >= 0, "auto", or "auto_0.01" to begin with'
            )
        return value

    @classmethod
    def load(cls, path: str | pathlib.Path | io.BufferedIOBase, env: Any = None, *args: Any, **kwargs: Any) -> Any:
        """
        cf ``BaseAlgorithm``. Another ``ent_coef`` than the saved one is alpha from now on, or where its learning begins anew.

        :raises ValueError: If alpha was learned and is to be fixed, or the other way round
        """
        saved = read_saved_data(path).get("ent_coef")
        wanted = kwargs.get("ent_coef", saved)
        if _is_learned(wanted) != _is_learned(saved):
            raise ValueError(
                f"{cls.__name__}.load: found ent_coef={wanted!r}, expected "
                f"{'auto, or auto_0.01 to begin with,' if _is_learned(saved) else 'a number'} as saved ({saved!r})"
            )
        model = super().load(path, env, *args, **kwargs)
        if wanted != saved:
            model._set_ent_coef()
        return model

    def _set_ent_coef(self) -> None:
        coef = th.tensor([self._initial_ent_coef()], device=self.device)
        if self.log_ent_coef is None:
            self.ent_coef_tensor = coef
        else:
            self.log_ent_coef.data.copy_(coef.log())

    def _setup_model(self) -> None:
        super()._setup_model()
        self._targets = TargetNetworks((self.critic,), (self.critic_target,))
        if self.target_entropy == "auto":
            self.target_entropy = -float(np.prod(self.action_space.shape or ()))
        self.log_ent_coef = self.ent_coef_optimizer = None
        if _is_learned(self.ent_coef):
            self.log_ent_coef = th.zeros(1, device=self.device, requires_grad=True)
            self.ent_coef_optimizer = th.optim.Adam([self.log_ent_coef], lr=self.lr_schedule(1))
        self._set_ent_coef()

    def _update_learning_rates(self) -> None:
        super()._update_learning_rates()
        if self.ent_coef_optimizer is not None:
            self._rates.set(self.ent_coef_optimizer, self.lr_schedule(self._current_progress_remaining))

    def _update_state(self) -> UpdateState:
        modules, optimizers, _ = super()._update_state()
        if self.ent_coef_optimizer is None or self.log_ent_coef is None:
            return UpdateState(modules, optimizers)
        return UpdateState(modules, [*optimizers, self.ent_coef_optimizer], [self.log_ent_coef])

    def _choose_actions(self, intended: np.ndarray, explored: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        # Before the first update actions are random
        if self._n_updates == 0:
            return intended, explored
        observations, _ = self.policy.obs_to_tensor(self._last_obs)  # type: ignore[arg-type]  # there is one
        with th.no_grad():
            modes = self.policy.actor(observations, deterministic=True)
        return modes.cpu().numpy().reshape(explored.shape), explored

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "ent_coef_optimizer", "log_ent_coef", "ent_coef_tensor"]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        names, _ = super()._get_torch_save_params()
        if self.ent_coef_optimizer is None:
            return names, ["ent_coef_tensor"]
        return [*names, "ent_coef_optimizer"], ["log_ent_coef"]

    def update(self, batch: DemoBatch, clones_only: th.Tensor, turn: Turn) -> dict[str, th.Tensor]:
        """
        One update (SAC, algorithm 1, with demonstrations).

        :param batch: B transitions
        :param clones_only: Whether the actor clones all demonstrations and does not follow Q, one bool
        :param turn: What changes from one update to the next
        :return: e_i, the part of the priorities that the critics give, a column, and what to log the means of
        """
        observations, weights = self.policy.encoded(batch.observations, self.critic), batch.weights
        cloned = batch.actions if batch.intended_actions is None else batch.intended_actions
        ent_coef = self.ent_coef_tensor if self.log_ent_coef is None else self.log_ent_coef.detach().exp()
        # Actions before those of the targets, as in SB3
        drawn = self.policy.draw(detached(observations)) if turn.with_actor else None

        # y_k = R_k + gamma^k (1 - terminated) min_j Q_j'(s_k, a'), a' ~ pi(s_k), for one step and for n steps; with
        # `entropy_backup` Q' has -alpha log pi(a'|s_k) too
        with th.no_grad():
            # The actor shares the encoder of the critic, not of its target
            following = self.policy.draw(self.policy.encoded(batch.next_observations, self.critic))
            next_observations = self.policy.encoded(batch.next_observations, self.critic_target)
            next_q = self.policy.target_q(next_observations, following.actions)
            if self.entropy_backup:
                next_q = next_q - ent_coef * following.log_prob
            targets = td_targets(batch.rewards, batch.bootstrap, next_q, self.q_range)

        # Critics: mean of w_i sum_j [(Q_j - y_1)^2 + lambda_1 (Q_j - y_n)^2]
        q_values = self.critic(observations, batch.actions)
        errors = squared_errors(q_values, targets)
        td_errors = errors @ self._return_coefs
        critic_loss = weights * td_errors
        descend(self.critic.optimizer, critic_loss.mean() + self._encoder_loss(observations, cloned, batch, clones_only))
        observations = detached(observations)
        # p_i = delta_i^2 + eps + eps_D [i is a demonstration]
        metrics = {ERRORS: td_errors.detach() / len(q_values), "critic_loss": critic_loss.detach()}

        if drawn is not None:
            # Actor: mean of w_i (alpha log pi(a|s_i) - Q(s_i, a)) / mean |Q| with a ~ pi(s_i), and cloning
            q_pi, gradient = action_gradient(self.policy.followed_q, observations, drawn.actions)
            if self.normalize_actor_loss:
                weights = weights / mean_size(q_pi)
            log_prob = drawn.log_prob
            actor_loss = policy_gradient_loss(drawn.actions, gradient, weights) + (weights * ent_coef * log_prob).mean()
            # As long as it only clones, its standard deviation stays as it began
            held = (drawn.log_std - self.policy.log_std_init).square().mean()
            actor_loss = actor_loss * ~clones_only + held * clones_only
            metrics["actor_loss"] = (weights * (ent_coef * log_prob - q_pi)).detach()
            if self.bc_coef > 0.0:
                mask = batch.is_demo
                if self.q_filter:
                    with th.no_grad():
                        q_modes = self.policy.followed_q(observations, drawn.modes)
                    mask = mask & (prefers(self.policy.followed_q, observations, cloned, q_modes) | clones_only)
                bc_loss = behavior_cloning_loss(drawn.modes, cloned, mask, batch.is_demo)
                actor_loss = actor_loss + self.bc_coef * bc_loss
                metrics["bc_loss"] = bc_loss.detach()
            descend(self.actor.optimizer, actor_loss)
            self.policy.update_mean_actor(turn.mean_rate)

            # Entropy coefficient: mean of -log alpha (log pi(a|s_i) + target entropy)
            if self.ent_coef_optimizer is not None and self.log_ent_coef is not None:
                surplus = (log_prob + float(self.target_entropy)).detach() * ~clones_only
                descend(self.ent_coef_optimizer, -(self.log_ent_coef * surplus).mean())
            metrics |= {"ent_coef": ent_coef, "entropy": -log_prob.detach()}

        self._targets.update(self.tau)
        return metrics | batch_metrics(batch, errors, q_values[0])


def _is_learned(ent_coef: Any) -> bool:
    return str(ent_coef).startswith("auto")
