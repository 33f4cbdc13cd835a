"""Prioritised replay in which demonstrations are kept for ever, with 1-step and n-step returns of the same rows."""

import sys
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.type_aliases import DictReplayBufferSamples, ReplayBufferSamples
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from sb3_pgfd.demonstrations import Demonstrations, DemonstrationsError
from sb3_pgfd.replay.conversion import Reference, from_columns, load_reference, steps_of, to_columns
from sb3_pgfd.replay.hindsight import goal_rewards, relabel
from sb3_pgfd.replay.incoming import check_rows, step_columns
from sb3_pgfd.replay.n_step import Stores
from sb3_pgfd.replay.options import (
    OPTIONS,
    check_action_range,
    check_options,
    usable_storage,
    warn_of_memory,
    warn_of_other_gamma,
)
from sb3_pgfd.replay.own_episodes import ENV_RESTARTED, OwnEpisodes, executed_actions
from sb3_pgfd.replay.priorities import RunningMean, agent_mean, check_errors, importance_weights, priorities
from sb3_pgfd.replay.samples import DemoBatch, Draw, Samples, draw_by_priority, draw_by_share, read_batch, read_drawn
from sb3_pgfd.replay.storage import INTENDED, RUNNING, DemonstrationStore, Origin, Schema, TransitionStore
from sb3_pgfd.utils.checks import SAVE_FORMAT, check_save_format
from sb3_pgfd.utils.keywords import accepted_keywords, check_keywords
from sb3_pgfd.utils.warning import OptionWarning, warn_user


class DemoReplayBuffer(ReplayBuffer):
    """
    Replay buffer of DDPGfD (Vecerik et al. 2017, arXiv 1707.08817, section 3) and of any off-policy algorithm of SB3.

    It has two stores with the same columns. ``demonstrations`` are kept for ever; ``ring`` holds the agent's own
    transitions, the newest ``buffer_size`` of them. Observations, actions (scaled to [-1, 1] like SB3 does it) and
    rewards are stored raw: ``VecNormalize`` is applied when sampling, to each reward of an n-step return.

    Either priorities decide what is drawn, P(i) = p_i^alpha / sum_k p_k^alpha, or, with ``demo_fraction``, each batch
    has a fixed share of demonstrations and is uniform otherwise (RLPD, Ball et al. 2023, arXiv 2302.02948, section
    4.1). If you never call :meth:`update_priorities`, all priorities stay equal and sampling is uniform.

    Where a person or a controller took over, ``info["intervene_action"]`` is the action that was executed, in environment
    units. It is stored in place of the policy's, and the rows of an intervention join the demonstrations when it ends.

    :param buffer_size: Transitions of the agent kept at most, over all environments
    :param observation_space: Observation space
    :param action_space: Action space; the bounds of a Box are finite
    :param device: PyTorch device of the samples
    :param n_envs: Number of parallel environments
    :param optimize_memory_usage: Not supported, because it overwrites the observations that n-step returns need
    :param handle_timeout_termination: Whether to bootstrap after a time limit
    :param demonstrations: Kept for ever: a dataset, a path, the name of packaged demonstrations, or a mapping with one of them
        as ``source`` and options of ``Demonstrations.load``. If they cannot be read, the buffer warns and is refused its first
        step: a model that is loaded to act needs none
    :param demo_fraction: Share of demonstrations in each batch, 0 to 1; None: priorities decide
    :param n_steps: n of the n-step return
    :param gamma: Discount factor of the n-step return
    :param priority_exponent: alpha, 0: uniform
    :param priority_epsilon: eps, added to every priority
    :param demo_bonus: eps_D, added to the priority of demonstrations
    :param relative_priorities: Whether errors count in units of their running mean over the agent's own transitions, so
        that eps, eps_D and the priority of new transitions mean the same at any reward scale
    :param her_ratio: Share of each batch whose goal is replaced by one achieved later in the same episode, 0 to 1
        (hindsight experience replay, see :mod:`sb3_pgfd.replay.hindsight`)
    :param her_skip_reached: Whether a transition keeps its own goal where the new one is reached already in its state, as
        long as an object has not moved: nothing is to be learned from it there
    :param her_random_share: Share of the replaced goals that other transitions of the batch achieved. So values are passed on
        between episodes whose paths cross, and the agent learns to join them. Such a row is not cloned: ``is_demo`` is False
    :param keep_successes: Whether successful episodes of the agent, by ``is_success`` or ``success`` in their last info
        and not in their first, join the demonstrations (self-imitation, Oh et al. 2018, arXiv 1806.05635)
    :param max_success_transitions: Transitions of own successes kept at most; the oldest episodes go first
    :param denoise_successes: Whether batches have ``intended_actions``, those of own successes without exploration noise, for
        an algorithm that clones
    :param frame_stack: Of how many frames images are stacks, as ``VecFrameStack`` makes them. Each frame is stored once. An
        algorithm of this package whose environment has that wrapper sets it
    :param storage_device: Where observations are stored, e.g. "cuda" for images; None: in the CPU's memory. Rows are drawn on
        the CPU and read there, without a copy of the observations. Goals stay on the CPU; with ``VecNormalize`` or replaced
        goals a batch is copied to the CPU and back
    :param env: Computes the rewards of replaced goals (``her_ratio``); not pickled with the buffer, see :meth:`set_env`
    :raises ValueError: If an option is out of range, actions cannot be scaled, or goals cannot be replaced
    :raises DemonstrationsError: If the demonstrations do not fit the spaces
    """

    # Demonstrations that could not be read when the buffer was made
    _unread: Reference | None = None
    _gamma_is_checked = False

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        device: th.device | str = "auto",
        n_envs: int = 1,
        optimize_memory_usage: bool = False,
        handle_timeout_termination: bool = True,
        demonstrations: Reference | None = None,
        demo_fraction: float | None = None,
        n_steps: int = 1,
        gamma: float = 0.99,
        priority_exponent: float = 0.3,
        priority_epsilon: float = 1e-6,
        demo_bonus: float = 1.0,
        relative_priorities: bool = False,
        her_ratio: float = 0.0,
        her_skip_reached: bool = False,
        her_random_share: float = 0.0,
        keep_successes: bool = False,
        max_success_transitions: int = 100_000,
        denoise_successes: bool = False,
        frame_stack: int = 1,
        storage_device: str | None = None,
        env: VecEnv | None = None,
    ):
        # ReplayBuffer's own constructor would allocate arrays of another layout
        super(ReplayBuffer, self).__init__(buffer_size, observation_space, action_space, device, n_envs=n_envs)
        self.optimize_memory_usage = optimize_memory_usage
        self.handle_timeout_termination = handle_timeout_termination
        self.demo_fraction = demo_fraction
        self.n_steps = n_steps
        self.gamma = gamma
        self.priority_exponent = priority_exponent
        self.priority_epsilon = priority_epsilon
        self.demo_bonus = demo_bonus
        self.relative_priorities = relative_priorities
        self.her_ratio = her_ratio
        self.her_skip_reached = her_skip_reached
        self.her_random_share = her_random_share
        self.keep_successes = keep_successes
        self.max_success_transitions = max_success_transitions
        self.denoise_successes = denoise_successes
        self.frame_stack = frame_stack
        self.storage_device = storage_device
        check_options(vars(self))
        check_action_range(action_space)
        self._goal_rewards = goal_rewards(her_ratio, observation_space, env)
        self._own_episodes = OwnEpisodes(n_envs)
        self._mean_error = RunningMean()
        # Steps kept per environment, like SB3's
        self.buffer_size = max(buffer_size // n_envs, 1)
        self.max_priority = 1.0
        """The largest priority seen so far, given to new transitions"""
        storage = usable_storage(storage_device, self.device)
        self.schema = Schema(observation_space, action_space, frame_stack, storage)
        # The system reserves memory when rows are written, so a buffer that is too large would fail after hours
        warn_of_memory(self.buffer_size * n_envs, self.schema.row_nbytes)
        self.ring = TransitionStore(self.schema, self.buffer_size * n_envs)
        self.demonstrations = DemonstrationStore(self.schema)
        self._unread = demonstrations
        # SB3's load() makes a buffer, also for a model that is only to act, where the file need not be
        self._read_demonstrations(may_fail=True)

    def _read_demonstrations(self, may_fail: bool = False) -> None:
        """
        Add the constructor's demonstrations, if that has not been done.

        :param may_fail: Warn if they cannot be read
        :raises DemonstrationsError: If they cannot be read, or do not fit the spaces
        """
        if self._unread is None:
            return
        try:
            dataset = load_reference(self._unread)
        except (DemonstrationsError, ImportError, OSError) as error:
            if not may_fail:
                raise DemonstrationsError(
                    f"demonstrations: {error}. To learn on, load the model with "
                    "replay_buffer_kwargs=dict(demonstrations=..., ...), or its replay buffer with load_replay_buffer(path)"
                ) from error
            warn_user(f"demonstrations: {error}. The model can act, but it cannot learn", OptionWarning)
            return
        self._unread = None
        self.add_demonstrations(dataset)

    @property
    def n_demonstrations(self) -> int:
        """Transitions in the demonstration store: given ones, interventions and kept successes."""
        return self.demonstrations.n_live

    @property
    def n_given(self) -> int:
        """Transitions that were given as demonstrations."""
        return self.demonstrations.n_given

    @property
    def n_own(self) -> int:
        """Transitions in the ring."""
        return self.size() * self.n_envs - self.ring.n_gaps

    @property
    def kept_successes(self) -> np.ndarray:
        """Which demonstrations are the agent's own successes, shape ``(n_demonstrations,)``, bool."""
        return self.demonstrations.origins == Origin.SUCCESS

    @property
    def priorities(self) -> np.ndarray:
        """
        p_i of every row of the ring, then of every row of the demonstration store, as ``DemoBatch.indices`` counts them,
        float64; 0 where nothing is stored. With alpha = 0 all are 1.
        """
        leaves = np.concatenate((self.ring.tree.weights, self.demonstrations.tree.weights[: self.demonstrations.size]))
        return leaves ** (1.0 / self.priority_exponent) if self.priority_exponent > 0 else leaves

    @property
    def nbytes(self) -> int:
        """Memory of everything that grows with the number of rows, in bytes."""
        return self.ring.nbytes + self.demonstrations.nbytes

    @property
    def _stores(self) -> Stores:
        # Nothing is written as long as `pos` is 0 and the ring is not full
        head = (self.pos - 1) % self.buffer_size * self.n_envs if self.full or self.pos > 0 else -1
        return Stores(self.demonstrations, self.ring, self.n_envs, head)

    def configure(self, **options: Any) -> None:
        """
        :param options: New values of constructor arguments; others stay. ``priority_exponent`` stays too, because the
            stored weights are p^alpha, and ``frame_stack``
        :raises ValueError: If an option is out of range or one that stays is another one; the buffer stays as it was
        :raises TypeError: If an option is unknown
        """
        of_subclass = accepted_keywords(type(self)) - accepted_keywords(DemoReplayBuffer)
        check_keywords("DemoReplayBuffer.configure", options, OPTIONS.keys() | of_subclass)
        check_options({**vars(self), **options})
        for name in ("priority_exponent", "frame_stack"):
            if options.get(name, vars(self)[name]) != vars(self)[name]:
                raise ValueError(f"{name}: found {vars(self)[name]} in the buffer, expected {options[name]}")
        vars(self).update(options)
        storage = usable_storage(self.storage_device, self.device)
        if storage != self.schema.storage_device:
            self.schema.storage_device = storage
            for store in (self.ring, self.demonstrations):
                store.reallocate()

    def set_env(self, env: VecEnv) -> None:
        """
        :param env: Computes the rewards of replaced goals from now on; needed after unpickling
        :raises ValueError: If ``her_ratio`` is positive and it cannot compute them
        """
        self._goal_rewards = goal_rewards(self.her_ratio, self.observation_space, env)

    @property
    def needs_policy_actions(self) -> bool:
        """Whether own successes are kept for an algorithm that clones them without their exploration noise"""
        return self.keep_successes and self.denoise_successes

    def add(
        self,
        obs: np.ndarray | dict[str, np.ndarray],
        next_obs: np.ndarray | dict[str, np.ndarray],
        action: np.ndarray,
        reward: np.ndarray,
        done: np.ndarray,
        infos: list[dict[str, Any]],
    ) -> None:
        """
        Store one step of all environments.

        :param obs: s, shape ``(n_envs, *obs_shape)``, raw
        :param next_obs: s', likewise; the terminal observation where an episode ended
        :param action: a of the policy, shape ``(n_envs, action_dim)``, scaled to [-1, 1] if continuous
        :param reward: r, shape ``(n_envs,)``, raw
        :param done: Terminated or truncated, shape ``(n_envs,)``
        :param infos: ``infos[i]["TimeLimit.truncated"]`` tells the two apart, ``infos[i]["intervene_action"]`` is the
            action that was executed, if it was not the policy's, ``infos[i]["policy_action"]`` the policy's without
            exploration noise, scaled like ``action``. A step with ``infos[i]["env_restarted"]`` may not have been taken:
            it is left out, and the episode before it is truncated
        :raises ValueError: If an array has another shape, or a number is NaN or infinite; nothing is stored then
        """
        self._read_demonstrations()
        self._store(obs, next_obs, action, reward, done, infos)
        if self.keep_successes:
            self._own_episodes.warn_if_silent()

    def _store(self, obs: Any, next_obs: Any, action: Any, reward: Any, done: Any, infos: list[dict[str, Any]]) -> None:
        """See :meth:`add`."""
        columns = step_columns(self.schema, obs, next_obs, action, reward, self.n_envs, self._own_episodes.step_of)
        done = np.asarray(done, dtype=bool)
        timeout = np.array([info.get("TimeLimit.truncated", False) for info in infos], dtype=bool)
        check_rows("dones", done, self.n_envs)
        check_rows("infos", timeout, self.n_envs)
        self.ring.check_frames(columns)
        columns["actions"], intervened = executed_actions(columns["actions"], infos, self.action_space)
        rows = slice(self.pos * self.n_envs, (self.pos + 1) * self.n_envs)
        columns |= {
            "terminated": done & ~(timeout & self.handle_timeout_termination),
            "steps_left": np.full(self.n_envs, RUNNING),
        }
        self.ring.write(rows, columns, self._new_weight)
        interrupted = np.zeros(self.n_envs, dtype=bool)
        if self.buffer_size > 1 and (self.full or self.pos > 0):
            previous = (self.pos - 1) % self.buffer_size * self.n_envs
            interrupted = self.ring.is_interrupted(slice(previous, previous + self.n_envs), rows)
        restarted = np.array([bool(info.get(ENV_RESTARTED)) for info in infos])
        if restarted.any():
            self.ring.leave_out(rows.start + np.flatnonzero(restarted))
            interrupted |= restarted
        self.pos += 1
        if self.pos == self.buffer_size:
            self.full = True
            self.pos = 0
        over = self._own_episodes.add_step(self._stores, done | timeout, interrupted, intervened, infos)
        for kept, origin, intended in over:
            if origin is Origin.INTERVENTION or self.keep_successes:
                self._keep_own(kept, origin, intended)

    def add_replay_buffer(self, buffer: ReplayBuffer) -> None:
        """
        Store the transitions of SB3's own replay buffer as the agent's, the oldest first, as far as they fit. An episode that
        it has only in part is truncated where it stops.

        :param buffer: Of the same environment, without ``optimize_memory_usage``
        :raises ValueError: If it is another kind of buffer, or of another environment or number of them
        """
        steps = steps_of(buffer, self)
        if buffer.size() == 0:
            return
        self._read_demonstrations()
        for step in steps:
            self._store(*step)
        # All of them have ended
        self._own_episodes = OwnEpisodes(self.n_envs)

    @property
    def _new_weight(self) -> float:
        return self.max_priority**self.priority_exponent

    def add_demonstrations(self, demonstrations: Reference) -> None:
        """
        Keep more demonstrations for ever, with the largest priority seen so far, like new transitions. It costs what
        they cost, not what the buffer holds.

        :param demonstrations: As the constructor takes them
        :raises DemonstrationsError: If they cannot be read or do not fit the spaces; the buffer stays as it was
        """
        dataset = load_reference(demonstrations).fit_to_spaces(self.observation_space, self.action_space)
        columns = to_columns(dataset, self.schema)
        if not self.handle_timeout_termination:
            columns["terminated"] = columns["steps_left"] == 0
        self.demonstrations.add(columns, Origin.GIVEN, self._new_weight)

    def _keep_own(self, rows: np.ndarray, origin: Origin, intended: list[np.ndarray]) -> None:
        if len(rows) == 0 or (origin is Origin.SUCCESS and len(rows) > self.max_success_transitions):
            return
        if origin is Origin.SUCCESS:
            self.demonstrations.drop_oldest_successes(self.max_success_transitions - len(rows))
        # A window must not go on behind an intervention that was given back
        columns = {**self.ring.take(rows), "steps_left": np.arange(len(rows))[::-1]}
        # Of each step, unless the algorithm began to give them in the middle of the episode
        if len(intended) == len(rows):
            columns[INTENDED] = np.asarray(intended)
        self.demonstrations.add(columns, origin, self._new_weight)

    def given_demonstrations(self) -> Demonstrations:
        """
        :return: What was given as demonstrations, of :meth:`to_demonstrations`
        :raises DemonstrationsError: If nothing was
        """
        rows = self.demonstrations.live_rows[self.demonstrations.origins == Origin.GIVEN]
        return from_columns(self.demonstrations.take(rows), self.schema)

    def to_demonstrations(self, agent_only: bool = False) -> Demonstrations:
        """
        The buffer's transitions as demonstrations in environment units; images as the model sees them, channels first.

        The demonstrations come first, then the agent's own episodes, environment by environment, the oldest first. The
        oldest may lack its beginning, which was overwritten. An episode that was interrupted, or is not over yet, is
        truncated where it stops. A success that was kept is among both as long as the ring holds it.

        :param agent_only: Leave out the demonstrations
        :raises DemonstrationsError: If there is no transition
        """
        parts = [] if agent_only or self.n_demonstrations == 0 else [self.demonstrations.take(self.demonstrations.live_rows)]
        if self.size() > 0:
            rows = self._stores.ring_rows(self.size())
            own = self.ring.take(rows.ravel())
            own["steps_left"].reshape(rows.shape)[:, -1] = 0
            held = self.ring.tree.weights[rows.ravel()] > 0.0
            parts.append(own if held.all() else {name: column[held] for name, column in own.items()})
        if not parts:
            raise DemonstrationsError("to_demonstrations: found no transition in the replay buffer, expected at least one")
        return from_columns({name: np.concatenate([part[name] for part in parts]) for name in parts[0]}, self.schema)

    def reset(self) -> None:
        """Forget the agent's own transitions. Demonstrations stay, with their priorities."""
        super().reset()
        self._own_episodes = OwnEpisodes(self.n_envs)
        self.ring.clear()

    def sample(self, batch_size: int, env: VecNormalize | None = None) -> Samples:  # type: ignore[override]  # Dict too
        """
        What SB3's algorithms ask for: the n-step batch alone.

        :param batch_size: Number of transitions
        :param env: Wrapper to normalise observations and rewards with
        :return: ``rewards`` is R_n, ``next_observations`` the state after k steps, ``discounts`` gamma^k; with ``n_steps=1``
            None, so that the algorithm takes its own gamma
        """
        if self.n_steps > 1 and not self._gamma_is_checked:
            # SB3 does not tell a replay buffer the gamma of the algorithm. Whoever calls has it
            warn_of_other_gamma(self.gamma, sys._getframe(1).f_locals.get("self"))
            self._gamma_is_checked = True
        batch = self._read(1, batch_size, slice(1, 2), 0.0, env, demos_only=False).to(self.device)
        samples: Any = DictReplayBufferSamples if isinstance(batch.observations, dict) else ReplayBufferSamples
        return samples(
            observations=batch.observations,
            actions=batch.actions,
            next_observations=batch.next_observations,
            dones=th.as_tensor(batch.terminated, dtype=th.float32, device=self.device),
            rewards=batch.rewards,
            discounts=None if self.n_steps == 1 else th.as_tensor(batch.discounts, dtype=th.float32, device=self.device),
        )

    def sample_batch(
        self, batch_size: int, beta: float = 1.0, env: VecNormalize | None = None, demos_only: bool = False
    ) -> DemoBatch:
        """
        What the algorithms of this package ask for: 1-step and n-step returns of the same rows, with importance weights.

        :param batch_size: Number of transitions, B
        :param beta: Exponent of the importance weights; with a fixed ``demo_fraction`` all weights are 1
        :param env: Wrapper to normalise observations and rewards with
        :param demos_only: Draw demonstrations only (pretraining)
        """
        return self.sample_batches(1, batch_size, beta, env, demos_only).to(self.device)

    def sample_batches(
        self,
        n_batches: int,
        batch_size: int,
        beta: float = 1.0,
        env: VecNormalize | None = None,
        demos_only: bool = False,
    ) -> DemoBatch:
        """
        Several batches drawn in one go, which costs less than one after the other. Where priorities decide, all of them
        are drawn by the present ones; the updates of the first batches do not change what the last ones hold.

        :param n_batches: Number of batches
        :param batch_size: Transitions of each, B
        :param beta: Exponent of the importance weights; with a fixed ``demo_fraction`` all weights are 1
        :param env: Wrapper to normalise observations and rewards with
        :param demos_only: Draw demonstrations only (pretraining)
        :return: ``n_batches * B`` transitions in the CPU's memory, batch by batch, see :meth:`DemoBatch.split`
        """
        return self._read(n_batches, batch_size, slice(0, min(self.n_steps, 2)), beta, env, demos_only)

    def _read(
        self, n_batches: int, batch_size: int, kinds: slice, beta: float, env: VecNormalize | None, demos_only: bool
    ) -> DemoBatch:
        """:param kinds: Which of r and R_n"""
        both = self._stores
        draw = self._draw(n_batches, batch_size, demos_only)
        drawn = read_drawn(draw.rows, self.n_steps, both)
        if self.her_ratio > 0.0:
            how = self.her_ratio, both, self._goal_rewards, self.her_skip_reached, self.her_random_share
            drawn = relabel(drawn, draw, n_batches, *how)
        beta = beta if self.demo_fraction is None else 0.0
        batch = read_batch(drawn, both, kinds, self.gamma, beta, env, self.needs_policy_actions)
        if draw.order is not None:
            batch = batch.in_order(draw.order)
            # Over the largest of each batch
            largest = batch.weights.view(n_batches, batch_size).amax(dim=1)
            batch.weights.view(n_batches, batch_size).div_(largest[:, None])
        return batch

    def update_priorities(self, indices: np.ndarray, errors: np.ndarray) -> np.ndarray:
        """
        p_i = e_i + eps + eps_D [i is a demonstration], with ``relative_priorities`` e_i in units of its running mean over
        the agent's own transitions.

        :param indices: ``DemoBatch.indices``, shape ``(B,)``; where one is repeated, its last error counts
        :param errors: e_i = delta_i^2 + lambda_3 |grad_a Q|^2, not negative, shape ``(B,)``
        :return: p_i, shape ``(B,)``
        :raises IndexError: If a row holds nothing
        :raises ValueError: If an error is negative, infinite or not a number, or p^alpha is infinite; nothing changes then
        """
        indices, errors = np.asarray(indices), np.asarray(errors, dtype=np.float64)
        is_demo = indices >= self.ring.n_rows
        demo_rows, own_rows = indices[is_demo] - self.ring.n_rows, indices[~is_demo]
        self.ring.check_rows(own_rows, "ring")
        self.demonstrations.check_rows(demo_rows, "demonstrations")
        check_errors(errors)
        if self.relative_priorities:
            leaves = np.empty(len(indices))
            leaves[is_demo] = self.demonstrations.tree.weights[demo_rows]
            leaves[~is_demo] = self.ring.tree.weights[own_rows]
            # Of a success that was dropped since it was drawn
            leaves[leaves == 0.0] = 1.0
            errors = errors / self._mean_error.update(agent_mean(errors, importance_weights(leaves, 1.0), is_demo))
        values = priorities(errors, is_demo, self.priority_epsilon, self.demo_bonus)
        largest = values.max()
        if np.isinf(largest**self.priority_exponent):
            raise ValueError(
                f"priorities: found {largest}, whose power alpha={self.priority_exponent} is infinite, expected a finite one: "
                "lower priority_exponent or the reward scale"
            )
        self.max_priority = max(self.max_priority, float(largest))
        weights = values**self.priority_exponent
        self.ring.tree.update(own_rows, weights[~is_demo], check=False)
        self.demonstrations.update_weights(demo_rows, weights[is_demo])
        return values

    def _draw(self, n_batches: int, batch_size: int, demos_only: bool) -> Draw:
        self._read_demonstrations()
        n_own = 0 if demos_only else self.n_own
        if self.n_demonstrations + n_own == 0:
            raise ValueError("sample: found an empty buffer, expected at least one transition")
        if self.demo_fraction is None:
            ring = None if n_own == 0 else self.ring.tree
            return draw_by_priority(n_batches, batch_size, self.demonstrations.tree, ring)
        return draw_by_share(n_batches, batch_size, self.demo_fraction, self.demonstrations, self.ring if n_own else None)

    def __getstate__(self) -> dict[str, Any]:
        # Environments in general cannot be pickled
        return {**vars(self), "_goal_rewards": None, "save_format": SAVE_FORMAT}

    def __setstate__(self, state: dict[str, Any]) -> None:
        check_save_format("replay buffer", state.get("save_format", 1))
        self.__dict__.update(state)
