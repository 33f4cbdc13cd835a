"""Twin delayed deterministic policy gradient from demonstrations."""

import pathlib
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch as th
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, Schedule

from sb3_pgfd.common.demonstration_batches import DemonstrationBatches
from sb3_pgfd.common.images import detached
from sb3_pgfd.common.losses import (
    action_gradient,
    batch_metrics,
    behavior_cloning_loss,
    mean_size,
    policy_gradient_loss,
    prefers,
    smoothed,
    squared_errors,
    td_targets,
)
from sb3_pgfd.common.optimization import FALLING_RATE, descend
from sb3_pgfd.common.updates import ERRORS, Turn
from sb3_pgfd.ddpgfd import DDPGfD
from sb3_pgfd.demonstrations import Demonstrations
from sb3_pgfd.replay import DemoBatch
from sb3_pgfd.td3fd.clone_training import CloneTraining
from sb3_pgfd.td3fd.policies import CnnPolicy, MlpPolicy, MultiInputPolicy, TD3fDPolicy
from sb3_pgfd.utils.checks import check_not_negative, check_whole, is_switch


class TD3fD(DDPGfD):
    """
    Twin Delayed DDPG from Demonstrations: the choice for sparse rewards and few demonstrations. Its defaults are the
    setting that was chosen on the sparse suite (benchmarks/sparse_suite); ``gamma``, ``q_range`` and features belong to the
    task.

    It is DDPGfD with what later work found:

    * TD3 (Fujimoto et al. 2018, https://arxiv.org/abs/1802.09477): smoothed targets, a delayed actor.
    * RLPD (Ball et al. 2023, https://arxiv.org/abs/2302.02948): five critics with LayerNorm, the smaller value of a
      random two of them in targets, half of each batch demonstrations.
    * Cloning with a Q-filter (Nair et al. 2018, https://arxiv.org/abs/1709.10089) in units of Q. The actor does nothing
      but clone as long as the critic knows no actions but the demonstrations': in pretraining and in the first
      ``critic_warmup_steps``.
    * The agent's own successes are kept like demonstrations (Oh et al. 2018, https://arxiv.org/abs/1806.05635).
      They are cloned without their exploration noise.
    * A running mean of the actors acts in evaluations.
    * A frozen clone proposes actions beside the actor, ``proposals`` (IBRL, Hu et al. 2023,
      https://arxiv.org/abs/2311.02198).

    With ``replay_buffer_kwargs=dict(demo_fraction=None)`` priorities decide what is drawn; they are TD errors.

    :param policy: The policy model to use (MlpPolicy, CnnPolicy, MultiInputPolicy)
    :param env: The environment to learn from (if registered in Gymnasium, can be str)
    :param demonstrations: A dataset, a path, or the name of packaged ones
    :param learning_rate: Learning rate of the critic, and of the actor unless it has its own; a number or a schedule. By
        default it falls from 1e-3 to 0
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
    :param l2_coef: lambda_2, L2 regularisation of actor and critic
    :param bc_coef: Weight of the cloning loss; with 0 the actor follows Q from the first update on
    :param q_filter: Whether to clone only demonstrations that Q prefers to the policy, once the actor follows Q
    :param normalize_actor_loss: Whether to divide the policy gradient by the batch's mean |Q|, so that ``bc_coef``
        means the same at any reward scale (TD3+BC, Fujimoto and Gu 2021, arXiv 2106.06860, equation 5)
    :param q_range: Smallest and largest possible return; targets are clipped to it
    :param policy_delay: Update the policy and the targets every so many updates (TD3, section 5.2)
    :param target_policy_noise: Standard deviation of the noise that smooths the target policy (same, section 5.3)
    :param target_noise_clip: Its largest absolute value
    :param critic_warmup_steps: Environment steps after pretraining in which the actor goes on to clone alone, while the
        critic meets the agent's own actions
    :param proposals: Whether a policy mu, cloned from the demonstrations in pretraining and then frozen, proposes an action
        beside the actor's (IBRL): the one with the higher target Q is taken, with exploration as in
        ``predict(deterministic=True)``, and in targets the larger value counts. "hard", the same as True, or "soft":
        exploration draws one by exp(Q / T), targets have the mean over this choice. With ``bc_coef=0`` pretraining trains
        nothing but the clone, as in IBRL. Without demonstrations or pretraining there is no clone that could propose
    :param replay_buffer_class: ``DemoReplayBuffer`` or a subclass, None: the former
    :param replay_buffer_kwargs: Options of the replay buffer, on top of ``demo_fraction=0.5``, ``keep_successes=True``,
        ``denoise_successes=True``, ``her_skip_reached=True`` and ``her_random_share=0.5``; the last two need ``her_ratio``
    :param stats_window_size: Episodes to average rollout statistics over
    :param tensorboard_log: TensorBoard log location
    :param policy_kwargs: Options of the networks, see :class:`~sb3_pgfd.td3fd.policies.TD3fDPolicy`
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
    policy: TD3fDPolicy
    _options_of_policy: ClassVar[frozenset[str]] = frozenset({"proposals"})
    buffer_defaults: ClassVar[Mapping[str, Any]] = {
        "demo_fraction": 0.5,
        "keep_successes": True,
        "denoise_successes": True,
        "her_skip_reached": True,
        "her_random_share": 0.5,
    }

    def __init__(
        self,
        policy: str | type[TD3fDPolicy],
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
        gradient_steps: int = 2,
        action_noise: ActionNoise | float | str | None = 0.1,
        pretrain_steps: int = 20_000,
        n_steps: int = 10,
        n_step_coef: float = 1.0,
        l2_coef: float = 1e-5,
        bc_coef: float = 1.5,
        q_filter: bool = True,
        normalize_actor_loss: bool = True,
        q_range: tuple[float, float] | None = None,
        policy_delay: int = 2,
        target_policy_noise: float = 0.2,
        target_noise_clip: float = 0.5,
        critic_warmup_steps: int = 2000,
        proposals: bool | str = True,
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
            demonstrations,
            learning_rate,
            actor_learning_rate,
            buffer_size,
            learning_starts,
            batch_size,
            tau,
            gamma,
            train_freq,
            gradient_steps,
            action_noise,
            pretrain_steps,
            n_steps,
            n_step_coef,
            l2_coef,
            bc_coef=bc_coef,
            q_filter=q_filter,
            normalize_actor_loss=normalize_actor_loss,
            q_range=q_range,
            replay_buffer_class=replay_buffer_class,
            replay_buffer_kwargs=replay_buffer_kwargs,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            policy_kwargs=policy_kwargs,
            verbose=verbose,
            seed=seed,
            device=device,
            compile=compile,
            _init_setup_model=False,
        )
        self.policy_delay = policy_delay
        self.target_policy_noise = target_policy_noise
        self.target_noise_clip = target_noise_clip
        self.critic_warmup_steps = critic_warmup_steps
        self.proposals = proposals
        if _init_setup_model:
            self._setup_model()

    def _check_options(self) -> None:
        super()._check_options()
        check_not_negative(vars(self), {"target_policy_noise": "standard deviation", "target_noise_clip": "largest noise"})
        check_whole(vars(self), {"policy_delay": 1, "critic_warmup_steps": 0})
        if not is_switch(self.proposals) and self.proposals not in ("hard", "soft"):
            raise ValueError(f'proposals: found {self.proposals!r}, expected "hard", which is True, "soft", or False')

    def _setup_model(self) -> None:
        super()._setup_model()
        self._clone_training: CloneTraining | None = None

    def _pretrain(self, progress_bar: bool) -> None:
        # A pretraining that was interrupted goes on with what it has
        if self.proposals and (self._clone_training is None or self._clone_training.demonstrations is not self.demonstrations):
            assert isinstance(self.demonstrations, Demonstrations)
            batches = DemonstrationBatches(self.demonstrations, self.policy, self.gamma, self._vec_normalize_env)
            n_updates = self.pretrain_steps - self._pretrain_updates
            self._clone_training = CloneTraining(self.policy, batches, n_updates, self.batch_size, self.actor_lr_schedule(1.0))
        super()._pretrain(progress_bar)
        if self._clone_training is not None:
            kept = self._clone_training.finish()
            self._clone_training = None
            if self.verbose >= 1:
                print(f"Proposals come from {kept}." + (" The actor goes on to clone" if self.bc_coef > 0.0 else ""))

    def _pretrain_update(self) -> None:
        if self._clone_training is not None:
            self._clone_training.update()
        # IBRL pretrains nothing but the clone
        if self._clone_training is None or self.bc_coef > 0.0:
            super()._pretrain_update()

    def _train_on_one_draw(self, n_batches: int, batch_size: int, demos_only: bool) -> None:
        super()._train_on_one_draw(n_batches, batch_size, demos_only)
        if self.proposals:
            self.policy.critics_are_trained.fill_(True)

    def _pretrain_logs(self) -> dict[str, float]:
        return {**super()._pretrain_logs(), **(self._clone_training.logs() if self._clone_training else {})}

    @property
    def acting_networks(self) -> tuple[str, ...]:
        """Parts of the policy that choose actions for the environment."""
        of_clone = ("clone", "clone_is_trained", "critics_are_trained", "critic_target")
        return ("actor", *of_clone) if self.proposals else ("actor",)

    def _needs_policy_actions(self) -> bool:
        return bool(self.proposals) or super()._needs_policy_actions()

    @th.no_grad()
    def _choose_actions(self, intended: np.ndarray, explored: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if not self.proposals:
            return intended, explored
        observations, _ = self.policy.obs_to_tensor(self._last_obs)  # type: ignore[arg-type]  # there is one
        actions = th.as_tensor(explored.reshape(len(explored), -1), dtype=th.float32, device=self.device)
        cloned, weight = self.policy.propose(observations, actions, greedy=False)
        takes_clone = th.rand_like(weight) < weight if self.policy.proposals == "soft" else weight > 0.5
        self._rollout_metrics.add({"clone_share": takes_clone.float()})
        one_for_all = (-1, *([1] * (explored.ndim - 1)))
        mask, proposed = takes_clone.cpu().numpy().reshape(one_for_all), cloned.cpu().numpy().reshape(explored.shape)
        return np.where(mask, proposed, intended), np.where(mask, proposed, explored)

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_clone_training"]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        names, variables = super()._get_torch_save_params()
        return [*names, "policy.clone.optimizer"] if self.proposals else names, variables

    def update(self, batch: DemoBatch, clones_only: th.Tensor, turn: Turn) -> dict[str, th.Tensor]:
        """
        One update (TD3, algorithm 1, with demonstrations).

        :param batch: B transitions
        :param clones_only: Whether the actor clones all demonstrations and does not follow Q, one bool
        :param turn: What changes from one update to the next
        :return: e_i, the part of the priorities that the critics give, a column, and what to log the means of
        """
        observations, weights = self.policy.encoded(batch.observations, self.critic), batch.weights
        cloned = batch.actions if batch.intended_actions is None else batch.intended_actions

        # y_k = R_k + gamma^k (1 - terminated) min_j Q_j'(s_k, pi'(s_k) + noise) for one step and for n steps; with proposals
        # the larger one of that and min_j Q_j'(s_k, mu(s_k))
        with th.no_grad():
            next_observations = self.policy.encoded(batch.next_observations, self.critic_target)
            next_actions = self.actor_target(next_observations)
            next_actions = smoothed(next_actions, self.target_policy_noise, self.target_noise_clip)
            next_q = self.policy.target_q(next_observations, next_actions)
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

        # Actor: -mean of w_i Q(s_i, pi(s_i)) / mean |Q|, and cloning
        if turn.with_actor:
            actions = self.actor(observations)
            q_pi, gradient = action_gradient(self.policy.followed_q, observations, actions)
            if self.normalize_actor_loss:
                weights = weights / mean_size(q_pi)
            actor_loss = policy_gradient_loss(actions, gradient, weights) * ~clones_only
            metrics["actor_loss"] = -weights * q_pi
            if self.bc_coef > 0.0:
                mask = batch.is_demo
                if self.q_filter:
                    mask = mask & (prefers(self.policy.followed_q, observations, cloned, q_pi) | clones_only)
                bc_loss = behavior_cloning_loss(actions, cloned, mask, batch.is_demo)
                actor_loss = actor_loss + self.bc_coef * bc_loss
                metrics["bc_loss"] = bc_loss.detach()
            descend(self.actor.optimizer, actor_loss)

            self._targets.update(self.tau)
            self.policy.update_mean_actor(turn.mean_rate)
        return metrics | batch_metrics(batch, errors, q_values[0])
