"""The base of the off-policy algorithms that learn from demonstrations."""

import io
import pathlib
import warnings
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import ActionNoise, NormalActionNoise, VectorizedActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import ContinuousCritic
from stable_baselines3.common.save_util import load_from_pkl
from stable_baselines3.common.type_aliases import (
    GymEnv,
    MaybeCallback,
    RolloutReturn,
    Schedule,
    TrainFreq,
    TrainFrequencyUnit,
)
from stable_baselines3.common.utils import FloatSchedule
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack, unwrap_vec_wrapper
from stable_baselines3.her.her_replay_buffer import HerReplayBuffer

from sb3_pgfd.common.acting import Collector, collector_of, own_noise
from sb3_pgfd.common.compilation import UpdateState
from sb3_pgfd.common.exploration import noise_of_demonstrations
from sb3_pgfd.common.images import has_images
from sb3_pgfd.common.incoming import warn_if_clipped
from sb3_pgfd.common.losses import behavior_cloning_loss
from sb3_pgfd.common.metrics import MeanMetrics
from sb3_pgfd.common.optimization import LearningRates
from sb3_pgfd.common.option_warnings import OFF_POLICY_NEEDS, Need, other_rewards
from sb3_pgfd.common.policies import matmul_precision
from sb3_pgfd.common.pretraining import LearnsFromDemonstrations, check_integers, check_normalization
from sb3_pgfd.common.real_time import PolicyCopy, real_time_of
from sb3_pgfd.common.updates import Turn, Updates
from sb3_pgfd.demonstrations import Demonstrations
from sb3_pgfd.demonstrations.recording.interventions import INTERVENE_ACTION
from sb3_pgfd.replay import DemoBatch, DemoReplayBuffer
from sb3_pgfd.replay.own_episodes import POLICY_ACTION
from sb3_pgfd.replay.storage import Schema
from sb3_pgfd.utils.checks import (
    OptionWarning,
    check_learning_rate,
    check_not_negative,
    check_switches,
    check_whole,
    is_number,
    is_range,
)
from sb3_pgfd.utils.files import write_whole
from sb3_pgfd.utils.keywords import accepted_keywords, keyword_defaults
from sb3_pgfd.utils.memory import GIB

SelfOffPolicy = TypeVar("SelfOffPolicy", bound="OffPolicyFromDemonstrations")
# Batches that are drawn together: the last of them do not see the priorities of the first. A run that makes an episode's worth
# of updates at its end would otherwise draw all of them at once
MAX_BATCHES = 20
MAX_DRAWN_BYTES = 64 * 2**20
COMPARED_STEPS = 200
"""Own steps after which their rewards are compared with the demonstrations'"""


class OffPolicyFromDemonstrations(LearnsFromDemonstrations, OffPolicyAlgorithm):
    """
    SB3's ``OffPolicyAlgorithm`` on a :class:`~sb3_pgfd.replay.DemoReplayBuffer`: makes, saves and loads the buffer, sets
    the learning rates of actor and critic, and logs the means of what the updates compute.

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
    _n_own_steps: int = 0
    """Environment steps that were stored: the buffer may not be saved, or hold transitions of another agent"""
    _rewards_are_compared: bool = False
    """Whether those of demonstrations and of own steps have been"""
    _has_clipped: bool = False
    """Whether the user has been told that ``VecNormalize`` clips last observations"""
    _is_watched: bool = False
    """Whether somebody who can take over has been heard of"""
    _policy_copy: PolicyCopy | None = None
    """Acts in an environment that does not wait for updates"""
    _n_late_steps: int = 0
    """How many were taken together with the one before, because updates take longer than a period"""
    policy: Any  # With `precision` and `mean_actor_rate()`, see DDPGfDPolicy
    actor: Any
    critic: ContinuousCritic
    critic_target: ContinuousCritic
    _policy_actions: np.ndarray
    """Of the last step, without exploration noise; only where they are needed"""
    # Of this process: environments in which copies of the policy act
    _collector: Collector | None = None
    buffer_defaults: ClassVar[Mapping[str, Any]] = {}
    """Options of the replay buffer, unless ``replay_buffer_kwargs`` has others"""
    _option_needs: ClassVar[Mapping[str, Need]] = OFF_POLICY_NEEDS
    _other_ways_back: ClassVar[str] = ", or load its replay buffer with load_replay_buffer(path)"

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **{"sde_support": False, "support_multi_env": True, **kwargs})
        self.policy_kwargs = dict(self.policy_kwargs)
        self.demonstrations_source = None
        self._pretrained = False
        self._metrics, self._rollout_metrics = MeanMetrics(), MeanMetrics()

    @classmethod
    def _keyword_places(cls) -> Mapping[str, set[str]]:
        return {"replay_buffer_kwargs": set(cls._buffer_options(DemoReplayBuffer)), **super()._keyword_places()}

    @classmethod
    def _buffer_options(cls, buffer_class: type[DemoReplayBuffer]) -> dict[str, Any]:
        """:return: Options of a replay buffer that the algorithm does not pass itself, with their defaults"""
        passed = accepted_keywords(cls) | {"observation_space", "action_space", "n_envs"}
        return {name: default for name, default in keyword_defaults(buffer_class).items() if name not in passed}

    def _setup_model(self) -> None:
        # Replaces OffPolicyAlgorithm's, to which `n_steps` > 1 means SB3's own n-step buffer
        self.replay_buffer_kwargs = {**self.buffer_defaults, **(self.replay_buffer_kwargs or {})}
        check_normalization(self._vec_normalize_env, self.observation_space)
        check_integers(self._vec_normalize_env)
        self._check_options()
        self._check_classes()
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

    def _check_classes(self) -> None:
        """
        :raises ValueError: If the policy or the replay buffer is none of this package
        :raises TypeError: If one of their options is unknown
        """
        base, policy, buffer = self.policy_aliases["MlpPolicy"], self.policy_class, self._buffer_class
        if not (isinstance(policy, type) and issubclass(policy, base)):
            raise ValueError(f"policy: found {policy}, expected {', '.join(self.policy_aliases)} or a subclass of {base}")
        if not (isinstance(buffer, type) and issubclass(buffer, DemoReplayBuffer)):
            why = (
                ": it keeps no demonstrations; her_ratio of the former replaces goals too" if buffer is HerReplayBuffer else ""
            )
            found = getattr(buffer, "__name__", buffer)
            raise ValueError(f"replay_buffer_class: found {found}, expected DemoReplayBuffer or a subclass{why}")
        self._check_kwargs("policy_kwargs", accepted_keywords(policy) - self._options_of_policy)
        if "weight_decay" in (self.policy_kwargs.get("optimizer_kwargs") or {}):
            raise ValueError("optimizer_kwargs: found weight_decay, expected it as l2_coef of the algorithm, which sets it")
        self._check_kwargs("replay_buffer_kwargs", set(self._buffer_options(buffer)))

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
        return NormalActionNoise(np.zeros(shape), np.full(shape, float(noise))) if noise > 0.0 else None

    @property
    def _buffer_class(self) -> type[DemoReplayBuffer]:
        # Another class is refused in _check_classes()
        return self.replay_buffer_class or DemoReplayBuffer  # type: ignore[return-value]

    def _make_replay_buffer(self) -> DemoReplayBuffer:
        wrapper = unwrap_vec_wrapper(self.env, VecFrameStack) if self.env is not None else None
        if wrapper is not None and has_images(self.observation_space):
            self.replay_buffer_kwargs = {"frame_stack": wrapper.stacked_obs.n_stack, **self.replay_buffer_kwargs}
        if self.verbose >= 1 and has_images(self.observation_space):
            schema = Schema(self.observation_space, self.action_space, self.replay_buffer_kwargs.get("frame_stack", 1))
            row, full = schema.row_nbytes / 1e3, self.buffer_size * schema.row_nbytes / GIB
            print(f"Replay buffer: {row:,.1f} kB for each transition, {full:,.2f} GiB when it is full")
        return self._buffer_class(
            self.buffer_size,
            self.observation_space,
            self.action_space,
            device=self.device,
            n_envs=self.n_envs,
            demonstrations=self.demonstrations,
            n_steps=self.n_steps,
            gamma=self.gamma,
            env=self.env,
            **self.replay_buffer_kwargs,
        )

    def set_env(self, env: GymEnv, force_reset: bool = True) -> None:
        """cf ``BaseAlgorithm``. The replay buffer computes the rewards of replaced goals with this environment."""
        super().set_env(env, force_reset)
        self._is_watched = False
        if self.replay_buffer is not None and self.env is not None:
            self.buffer.set_env(self.env)

    @property
    def buffer(self) -> DemoReplayBuffer:
        """The replay buffer, with its type."""
        assert isinstance(self.replay_buffer, DemoReplayBuffer)
        return self.replay_buffer

    def add_demonstrations(self, demonstrations: Demonstrations | str | pathlib.Path) -> None:
        """
        Learn from more demonstrations from now on, e.g. from corrections recorded in the meantime. Call it before or
        between calls of ``learn()``, or during one from a callback. They are kept for ever, with the largest priority so
        far. Before the first ``learn()`` they count as if given to the constructor. Later there is no pretraining on them.

        :param demonstrations: A dataset, a path, or the name of packaged demonstrations
        :raises DemonstrationsError: If they cannot be read or do not belong to this environment, or if the model was
            saved with demonstrations that have not been given back. Nothing changes then
        """
        buffer = None if self.replay_buffer is None else self.buffer
        self._require_demonstrations(self.demonstrations is not None or self._has_demonstrations, "add_demonstrations")
        dataset = self._load_fitting(demonstrations)
        merged = self._merge_with_present(dataset)
        # Otherwise the model was loaded without an environment, and its buffer will be made with all of them
        if buffer is not None:
            buffer.add_demonstrations(dataset)
        self._join_demonstrations(dataset, merged)

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
            self._update_options = [
                name
                for name in accepted_keywords(type(self)) & vars(self).keys()
                if isinstance(vars(self)[name], int | float | tuple | None)
            ]
        options = tuple(vars(self)[name] for name in self._update_options) if self.compile else ()
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

    def _setup_learn(self, *args: Any, **kwargs: Any) -> Any:
        if self.replay_buffer is None:
            self.replay_buffer = self._make_replay_buffer()
        # Refuses what cannot be stepped in real time, before anything is learned
        real_time_of(self.env)
        self._collector = collector_of(self.env)
        return super()._setup_learn(*args, **kwargs)

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

    @property
    def acting_networks(self) -> tuple[str, ...]:
        """Parts of the policy that choose actions for the environment."""
        return ("actor",)

    @property
    def _has_demonstrations(self) -> bool:
        if self.replay_buffer is None:
            return self.demonstrations is not None
        return self.buffer.n_demonstrations > 0

    def _pretrain_logs(self) -> dict[str, float]:
        return {**self._metrics.flush(), "priority_max": self.buffer.max_priority}

    def _compare_rewards(self) -> None:
        """Warn once of demonstrations whose rewards have another scale, when there are enough own steps."""
        ring = self.buffer.ring
        if not isinstance(self.demonstrations, Demonstrations) or self._rewards_are_compared or ring.size < COMPARED_STEPS:
            return
        self._rewards_are_compared = True
        own = ring.columns["rewards"][: ring.size][~ring.columns["terminated"][: ring.size]]
        text = other_rewards(self.demonstrations.rewards[~self.demonstrations.terminated], own)
        if text is not None:
            warnings.warn(text, OptionWarning, stacklevel=2)

    def dump_logs(self) -> None:
        """cf ``OffPolicyAlgorithm``. Logs the means over the updates since the last time."""
        self._compare_rewards()
        means = self._metrics.flush()
        if means:
            for name, value in {**means, "priority_max": self.buffer.max_priority}.items():
                self.logger.record(f"train/{name}", value)
        for name, value in self._rollout_metrics.flush().items():
            self.logger.record(f"rollout/{name}", value)
        if self._policy_copy is not None:
            punctuality = self._policy_copy.env.punctuality
            self.logger.record("time/missed_deadlines", punctuality.n_missed)
            self.logger.record("time/largest_lateness_ms", 1e3 * punctuality.worst())
        self.logger.record("train/learning_rate", self.lr_schedule(self._current_progress_remaining))
        if self.actor_learning_rate is not None:
            self.logger.record("train/actor_learning_rate", self.actor_lr_schedule(self._current_progress_remaining))
        super().dump_logs()

    def save_replay_buffer(self, path: str | pathlib.Path | io.BufferedIOBase) -> None:
        """cf ``OffPolicyAlgorithm``. The file is written whole or not at all."""
        if isinstance(path, (str, pathlib.Path)):
            target = pathlib.Path(path) if pathlib.Path(path).suffix else pathlib.Path(f"{path}.pkl")
            with write_whole(target, overwrite=True) as temporary, temporary.open("wb") as file:
                super().save_replay_buffer(file)
        else:
            super().save_replay_buffer(path)

    def load_replay_buffer(self, path: str | pathlib.Path | io.BufferedIOBase, truncate_last_traj: bool = True) -> None:
        """
        cf ``OffPolicyAlgorithm``. Demonstrations and priorities come back with the buffer. A model that has not learned, and
        has no demonstrations of its own, pretrains on them, also if its parameters were set; not with ``pretrain_steps=0``.

        :param truncate_last_traj: Without effect: an episode that does not go on is cut when the next transition comes
        :raises ValueError: If it is another kind of buffer, or of another environment or number of them; the model then
            keeps the buffer that it has
        """
        try:
            loaded = load_from_pkl(path, self.verbose)
        except (AttributeError, ModuleNotFoundError) as error:
            # Its classes are where another version had them
            raise ValueError(f"load_replay_buffer: cannot read it ({error}): it was saved by another version") from error
        if not isinstance(loaded, DemoReplayBuffer):
            raise ValueError(
                f"load_replay_buffer: found a {type(loaded).__name__}, expected a DemoReplayBuffer: it has no demonstrations, "
                "so they would be gone. model.buffer.add_replay_buffer(load_from_pkl(path)) adds its transitions to the "
                "buffer that the model has (load_from_pkl is in stable_baselines3.common.save_util)"
            )
        for name in ("observation_space", "action_space", "n_envs"):
            found, expected = getattr(loaded, name), getattr(self, name)
            if found != expected:
                raise ValueError(f"load_replay_buffer: found {name}={found} in the file, expected {expected} of the model")
        # An option that the model was not given has its default, whatever the file says
        options = {**self._buffer_options(type(loaded)), **self.replay_buffer_kwargs}
        loaded.device = self.device
        loaded.configure(n_steps=self.n_steps, gamma=self.gamma, **options)
        if self.env is not None:
            loaded.set_env(self.env)
        self.replay_buffer = loaded
        if self.demonstrations is None and not self._pretrained and self.start_time == 0.0 and loaded.n_given > 0:
            # A new model that is given them this way pretrains on them too
            source = str(path) if isinstance(path, (str, pathlib.Path)) else "a replay buffer"
            self.demonstrations = loaded.given_demonstrations().changed(source=source)
            self.demonstrations_source = source

    def _excluded_save_params(self) -> list[str]:
        of_process = [
            "_metrics",
            "_rollout_metrics",
            "_policy_actions",
            "_policy_copy",
            "_updates",
            "_update_options",
            "_rates",
            "_collector",
            "_targets",
            "_return_coefs",
            "_returns",
        ]
        return [*super()._excluded_save_params(), "actor", "critic", "critic_target", *of_process]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy", "actor.optimizer", "critic.optimizer"], []
