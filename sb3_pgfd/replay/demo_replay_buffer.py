"""Prioritised replay in which demonstrations are kept for ever, with 1-step and n-step returns of the same rows."""

from pathlib import Path
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.type_aliases import DictReplayBufferSamples, ReplayBufferSamples
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from sb3_pgfd.demonstrations import Demonstrations, DemonstrationsError
from sb3_pgfd.replay.batch import DemoBatch, Samples, TorchObs
from sb3_pgfd.replay.conversion import from_rows, to_storage
from sb3_pgfd.replay.drawn import Drawn, NewGoals, draw_by_priority, draw_by_share, importance_weights, read_drawn
from sb3_pgfd.replay.episode_ends import EpisodeEnds
from sb3_pgfd.replay.hindsight import DESIRED, goal_rewards, relabel
from sb3_pgfd.replay.n_step import RowLayout, discount_powers, n_step_return
from sb3_pgfd.replay.options import check_buffer_options, check_priorities
from sb3_pgfd.replay.storage import BOX_KEY, TransitionStorage
from sb3_pgfd.replay.successes import Successes
from sb3_pgfd.replay.sum_tree import SumTree


class DemoReplayBuffer(ReplayBuffer):
    """
    Replay buffer of DDPGfD (Vecerik et al. 2017, arXiv 1707.08817, section 3) and of any off-policy algorithm of SB3.

    Row = one transition of one environment. Rows ``[0, n_demonstrations)`` are demonstrations and are never
    overwritten; the rows behind them are a ring of the agent's own transitions. Observations, actions (scaled to
    [-1, 1] like SB3 does it) and rewards are stored raw: ``VecNormalize`` is applied when sampling, to each reward of
    an n-step return.

    Either priorities decide what is drawn, P(i) = p_i^alpha / sum_k p_k^alpha, or, with ``demo_fraction``, each batch
    has a fixed share of demonstrations and is uniform otherwise (RLPD, Ball et al. 2023, arXiv 2302.02948, section
    4.1). Who does not call :meth:`update_priorities` samples uniformly, as all priorities stay equal.

    :param buffer_size: Transitions of the agent kept at most, over all environments
    :param observation_space: Observation space
    :param action_space: Action space
    :param device: PyTorch device of the samples
    :param n_envs: Number of parallel environments
    :param optimize_memory_usage: Not supported, for it overwrites the observations that n-step returns need
    :param handle_timeout_termination: Whether to bootstrap after a time limit
    :param demonstrations: What to keep for ever: a dataset, a path, or the name of packaged demonstrations
    :param demo_fraction: Share of demonstrations in each batch, 0 to 1; None: priorities decide
    :param n_steps: n of the n-step return
    :param gamma: Discount factor of the n-step return
    :param priority_exponent: alpha
    :param her_ratio: Share of each batch whose goal is replaced by one achieved later in the same episode, 0 to 1
        (hindsight experience replay, see :mod:`sb3_pgfd.replay.hindsight`)
    :param keep_successes: Whether successful episodes of the agent, by ``is_success`` or ``success`` in their last info and
        not in their first, are kept for ever like demonstrations, for which the buffer grows (self-imitation, Oh et al.
        2018, arXiv 1806.05635)
    :param env: With ``her_ratio``, what computes the rewards of new goals; not pickled with the buffer, see :meth:`set_env`
    :raises ValueError: If an option is out of range, or goals cannot be replaced
    :raises DemonstrationsError: If the demonstrations do not fit the spaces
    """

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        device: th.device | str = "auto",
        n_envs: int = 1,
        optimize_memory_usage: bool = False,
        handle_timeout_termination: bool = True,
        demonstrations: Demonstrations | str | Path | None = None,
        demo_fraction: float | None = None,
        n_steps: int = 1,
        gamma: float = 0.99,
        priority_exponent: float = 0.3,
        her_ratio: float = 0.0,
        keep_successes: bool = False,
        env: VecEnv | None = None,
    ):
        # Not ReplayBuffer's constructor: it allocates arrays of its own layout
        super(ReplayBuffer, self).__init__(buffer_size, observation_space, action_space, device, n_envs=n_envs)
        check_buffer_options(
            n_steps, gamma, priority_exponent, demo_fraction, her_ratio, keep_successes, optimize_memory_usage
        )
        self.optimize_memory_usage = False
        self.handle_timeout_termination = handle_timeout_termination
        self.demo_fraction = demo_fraction
        self.n_steps = n_steps
        self.gamma = gamma
        self.priority_exponent = priority_exponent
        self.her_ratio = her_ratio
        self.keep_successes = keep_successes
        self._successes = Successes()
        self._goal_rewards = goal_rewards(her_ratio, observation_space, env)
        # Made when goals are first replaced, and again after rows have moved
        self._episode_ends: EpisodeEnds | None = None
        # Steps kept per environment, like SB3's
        self.buffer_size = max(buffer_size // n_envs, 1)
        self.max_priority = 1.0
        """The largest priority seen so far, given to new transitions"""
        self.n_demonstrations = 0
        self.storage = TransitionStorage(self.n_rows, observation_space, action_space)
        self.tree = SumTree(self.n_rows)
        if demonstrations is not None:
            self.add_demonstrations(demonstrations)

    @property
    def n_rows(self) -> int:
        """Rows in all, filled or not."""
        return self.n_demonstrations + self.buffer_size * self.n_envs

    @property
    def n_filled(self) -> int:
        """N, the rows that hold a transition; they are the first ones."""
        return self.n_demonstrations + self.size() * self.n_envs

    @property
    def priorities(self) -> np.ndarray:
        """p_i of every row, shape ``(n_rows,)``, float64; 0 where nothing is stored. With alpha = 0 all are 1."""
        leaves = self.tree.weights
        return leaves ** (1.0 / self.priority_exponent) if self.priority_exponent > 0 else leaves.copy()

    @property
    def kept_successes(self) -> np.ndarray:
        """Which demonstrations are the agent's own successes, shape ``(n_demonstrations,)``, bool."""
        return self._successes.mask(self.n_demonstrations)

    @property
    def nbytes(self) -> int:
        """Memory of everything that grows with the number of rows, in bytes."""
        return self.storage.nbytes + self.tree.nbytes + (0 if self._episode_ends is None else self._episode_ends.nbytes)

    @property
    def _layout(self) -> RowLayout:
        # Nothing is written as long as `pos` is 0 and the ring is not full
        head = (self.pos - 1) % self.buffer_size * self.n_envs if self.full or self.pos > 0 else -1
        return RowLayout(self.n_demonstrations, self.n_envs, self.buffer_size * self.n_envs, head)

    def set_env(self, env: VecEnv) -> None:
        """
        :param env: What the rewards of replaced goals are computed with from now on; needed after unpickling
        :raises ValueError: If ``her_ratio`` is positive and it cannot compute them
        """
        self._goal_rewards = goal_rewards(self.her_ratio, self.observation_space, env)

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
        :param action: a, shape ``(n_envs, action_dim)``, scaled to [-1, 1] if continuous
        :param reward: r, shape ``(n_envs,)``, raw
        :param done: Terminated or truncated, shape ``(n_envs,)``
        :param infos: ``infos[i]["TimeLimit.truncated"]`` tells the two apart
        """
        start = self.n_demonstrations + self.pos * self.n_envs
        done = np.asarray(done, dtype=bool)
        timeout = np.array([info.get("TimeLimit.truncated", False) for info in infos], dtype=bool)
        terminated = done & ~(timeout & self.handle_timeout_termination)
        rows = slice(start, start + self.n_envs)
        self.storage.write(rows, obs, next_obs, action, reward, terminated, done | timeout)
        if self.buffer_size > 1 and (self.full or self.pos > 0):
            previous = self.n_demonstrations + (self.pos - 1) % self.buffer_size * self.n_envs
            self.storage.end_interrupted(slice(previous, previous + self.n_envs), rows)
        self.tree.update(np.arange(rows.start, rows.stop), self.max_priority**self.priority_exponent, check=False)

        self.pos += 1
        if self.pos == self.buffer_size:
            self.full = True
            self.pos = 0
        if self._episode_ends is not None:
            self._episode_ends.add_step(self.storage.ended, self._layout)
        if self.keep_successes:
            self._keep_successes(infos)

    def _keep_successes(self, infos: list[dict[str, Any]]) -> None:
        due = self._successes.collect(self.storage, self._layout, self.size(), infos)
        if due is not None:
            self._insert(due)
            self._successes.keep(self.n_demonstrations - due.n_rows, due.n_rows)

    def add_demonstrations(self, demonstrations: Demonstrations | str | Path) -> None:
        """
        Keep more demonstrations for ever. They lie behind the present ones and get the largest priority seen so far,
        like new transitions. The ring keeps its contents, its order and its priorities.

        The rows of the ring move back by the number of transitions added, so the ``indices`` of batches drawn before
        mean other rows now. The buffer's arrays are copied once: add many episodes at a time rather than one by one.

        :param demonstrations: A dataset, a path, or the name of packaged demonstrations
        :raises DemonstrationsError: If they cannot be read or do not fit the spaces; the buffer stays as it was
        """
        dataset = Demonstrations.load(demonstrations).fit_to_spaces(self.observation_space, self.action_space)
        self._insert(to_storage(dataset, self.observation_space, self.action_space))

    def _insert(self, added: TransitionStorage) -> None:
        at, n_filled = self.n_demonstrations, self.n_filled
        weights = np.full(added.n_rows, self.max_priority**self.priority_exponent)
        tree = SumTree.from_weights(self.n_rows + added.n_rows, np.insert(self.tree.weights[:n_filled], at, weights))
        self.storage.insert(at, added, n_filled)
        self.tree = tree
        self.n_demonstrations += added.n_rows
        self._episode_ends = None

    def to_demonstrations(self, agent_only: bool = False) -> Demonstrations:
        """
        What the buffer holds as demonstrations in environment units; images as the model sees them, channels first.

        The demonstrations come first, then the agent's own episodes, environment by environment, the oldest first. The
        oldest may lack its beginning, which was overwritten. An episode that was interrupted, or is not over yet, is
        truncated where it stops. A success that was kept is among both as long as the ring holds it.

        :param agent_only: Leave out the demonstrations
        :raises DemonstrationsError: If there is no transition
        """
        ring = self._layout.ring_rows(self.size())
        ended = self.storage.ended.copy()
        ended[ring[:, -1:]] = True
        rows = ring.ravel() if agent_only else np.concatenate((np.arange(self.n_demonstrations), ring.ravel()))
        if len(rows) == 0:
            raise DemonstrationsError("to_demonstrations: found no transition in the replay buffer, expected at least one")
        return from_rows(self.storage, rows, ended[rows])

    def reset(self) -> None:
        """Forget the agent's own transitions. Demonstrations stay, with their priorities."""
        super().reset()
        self._episode_ends = None
        self.tree.update(np.arange(self.n_demonstrations, self.n_rows), 0.0)

    def sample(self, batch_size: int, env: VecNormalize | None = None) -> Samples:  # type: ignore[override]  # Dict too
        """
        What SB3's algorithms ask for: the n-step batch alone.

        :param batch_size: Number of transitions
        :param env: Wrapper to normalise observations and rewards with
        :return: ``rewards`` is R_n, ``next_observations`` the state after k steps, ``discounts`` gamma^k
        """
        drawn = self._read(self._draw(batch_size, demos_only=False))
        rows, window, goals = drawn.rows, drawn.window, drawn.new_goals
        observations: Any = self._to_policy(self.storage.observations, rows, env, goals)
        next_observations: Any = self._to_policy(self.storage.next_observations, window.last_rows, env, goals)
        samples = DictReplayBufferSamples if isinstance(observations, dict) else ReplayBufferSamples
        return samples(
            observations=observations,
            actions=self.to_torch(self.storage.actions.take(rows, axis=0)),
            next_observations=next_observations,
            dones=self._column(drawn.terminated[batch_size:]),
            rewards=self._column(n_step_return(self._normalize_reward(drawn.rewards, env), window.included, self.gamma)),
            discounts=self._column(discount_powers(self.gamma, self.n_steps).take(window.lengths)),
        )

    def sample_batch(
        self, batch_size: int, beta: float = 1.0, env: VecNormalize | None = None, demos_only: bool = False
    ) -> DemoBatch:
        """
        What DDPGfD asks for: 1-step and n-step returns of the same rows, with importance weights.

        :param batch_size: Number of transitions, B
        :param beta: Exponent of the importance weights
        :param env: Wrapper to normalise observations and rewards with
        :param demos_only: Draw demonstrations only (pretraining)
        """
        drawn = self._read(self._draw(batch_size, demos_only))
        rows, window, goals = drawn.rows, drawn.window, drawn.new_goals
        rewards = self._normalize_reward(drawn.rewards, env)
        both_rewards = np.concatenate((rewards[:, 0], n_step_return(rewards, window.included, self.gamma)))
        discounts = discount_powers(self.gamma, self.n_steps).take(drawn.both_lengths)
        # A fixed share is wanted as it is
        weights = importance_weights(self.tree.weights.take(rows), beta if self.demo_fraction is None else 0.0)
        return DemoBatch(
            observations=self._to_policy(self.storage.observations, rows, env, goals),
            actions=self.to_torch(self.storage.actions.take(rows, axis=0)),
            next_observations=self._to_policy(self.storage.next_observations, drawn.both_rows, env, goals),
            rewards=self._column(both_rewards),
            bootstrap=self._column(discounts * ~drawn.terminated),
            weights=self._column(weights),
            is_demo=self.to_torch((rows < self.n_demonstrations).reshape(-1, 1)),
            indices=rows,
            terminated=drawn.terminated,
            discounts=discounts,
        )

    def update_priorities(self, indices: np.ndarray, priorities: np.ndarray) -> None:
        """
        :param indices: Rows that hold a transition, shape ``(B,)``; where one is repeated, its last priority counts
        :param priorities: p_i, positive, shape ``(B,)``
        :raises IndexError: If a row holds nothing
        :raises ValueError: If a priority is not a positive number, or so large that p^alpha is none
        """
        indices, priorities = np.asarray(indices), np.asarray(priorities, dtype=np.float64)
        check_priorities(indices, priorities, self.n_filled, self.priority_exponent)
        self.max_priority = max(self.max_priority, float(priorities.max()))
        self.tree.update(indices, priorities**self.priority_exponent, check=False)

    def _draw(self, batch_size: int, demos_only: bool) -> np.ndarray:
        n_demonstrations, n_filled = self.n_demonstrations, self.n_filled
        if (n_demonstrations if demos_only else n_filled) == 0:
            raise ValueError("sample: found an empty buffer, expected at least one transition")
        if self.demo_fraction is None:
            return draw_by_priority(batch_size, self.tree, n_demonstrations if demos_only else None)
        return draw_by_share(batch_size, 1.0 if demos_only else self.demo_fraction, n_demonstrations, n_filled)

    def _read(self, rows: np.ndarray) -> Drawn:
        layout = self._layout
        drawn = read_drawn(self.storage, rows, self.n_steps, layout)
        if self.her_ratio == 0.0:
            return drawn
        if self._episode_ends is None:
            self._episode_ends = EpisodeEnds(self.storage.ended, layout, self.size())
        return relabel(drawn, self.her_ratio, self.storage, self._episode_ends, layout, self._goal_rewards)

    def _to_policy(
        self, stored: dict[str, np.ndarray], rows: np.ndarray, env: VecNormalize | None, new_goals: NewGoals | None
    ) -> TorchObs:
        """Some rows of stored observations, normalised, as the policy takes them."""
        taken = {key: array.take(rows, axis=0) for key, array in stored.items()}
        if new_goals is not None:
            new_goals.put_into(taken[DESIRED])
        normalized = self._normalize_obs(taken if isinstance(self.observation_space, spaces.Dict) else taken[BOX_KEY], env)
        if isinstance(normalized, dict):
            return {key: self.to_torch(array) for key, array in normalized.items()}
        return self.to_torch(normalized)

    def _column(self, array: np.ndarray) -> th.Tensor:
        return self.to_torch(array.astype(np.float32).reshape(-1, 1))

    def to_torch(self, array: np.ndarray, copy: bool = False) -> th.Tensor:
        # Whatever is sampled was gathered into an array of its own, so nothing is gained by another copy
        tensor = th.tensor(array) if copy else th.from_numpy(array)
        return tensor if self.device.type == "cpu" else tensor.to(self.device)

    def __getstate__(self) -> dict[str, Any]:
        n = self.n_filled
        # Environments in general cannot be pickled
        left_out = {"_goal_rewards": None, "_episode_ends": None}
        return {**vars(self), **left_out, "storage": self.storage.state(n), "tree": self.tree.weights[:n].copy()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Those of version 0.1 lack what came later
        later = {"her_ratio": 0.0, "keep_successes": False, "_goal_rewards": None, "_episode_ends": None}
        self.__dict__.update({**later, "_successes": Successes(), **state})
        self.storage = TransitionStorage.from_state(state["storage"])
        self.tree = SumTree.from_weights(self.n_rows, state["tree"])
