"""Prioritised replay in which demonstrations are kept for ever, with 1-step and n-step returns of the same rows."""

from pathlib import Path
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.type_aliases import DictReplayBufferSamples, ReplayBufferSamples
from stable_baselines3.common.vec_env import VecNormalize

from sb3_pgfd.demonstrations import Demonstrations, DemonstrationsError
from sb3_pgfd.replay.batch import DemoBatch, Samples, TorchObs
from sb3_pgfd.replay.conversion import from_rows, to_rows
from sb3_pgfd.replay.n_step import NStepWindow, RowLayout, discount_powers, n_step_return, n_step_window
from sb3_pgfd.replay.options import check_buffer_options
from sb3_pgfd.replay.storage import BOX_KEY, TransitionStorage
from sb3_pgfd.replay.sum_tree import SumTree


class DemoReplayBuffer(ReplayBuffer):
    """
    Replay buffer of DDPGfD (Vecerik et al. 2017, arXiv 1707.08817, section 3), and a replay buffer for any off-policy
    algorithm of SB3 and sb3-contrib.

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
    :raises ValueError: If an option is out of range
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
    ):
        # Not ReplayBuffer's constructor: it allocates arrays of its own layout
        super(ReplayBuffer, self).__init__(buffer_size, observation_space, action_space, device, n_envs=n_envs)
        check_buffer_options(n_steps, gamma, priority_exponent, demo_fraction, optimize_memory_usage)
        self.optimize_memory_usage = False
        self.handle_timeout_termination = handle_timeout_termination
        self.demo_fraction = demo_fraction
        self.n_steps = n_steps
        self.gamma = gamma
        self.priority_exponent = priority_exponent
        # Steps kept per environment, like SB3's
        self.buffer_size = max(buffer_size // n_envs, 1)
        self.max_priority = 1.0
        """The largest priority seen so far, given to new transitions"""
        dataset = None
        if demonstrations is not None:
            dataset = Demonstrations.load(demonstrations).fit_to_spaces(observation_space, action_space)
        self.n_demonstrations = 0 if dataset is None else len(dataset)
        self.storage = TransitionStorage(self.n_rows, observation_space, action_space)
        self.tree = SumTree(self.n_rows)
        if dataset is not None:
            self.storage.write(slice(0, len(dataset)), **to_rows(dataset, action_space))
            self._set_priority(np.arange(len(dataset)), self.max_priority)

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
    def nbytes(self) -> int:
        """Memory of everything that grows with the number of rows, in bytes."""
        return self.storage.nbytes + self.tree.nbytes

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
        if self.full or self.pos > 0:
            previous = self.n_demonstrations + (self.pos - 1) % self.buffer_size * self.n_envs
            self.storage.end_interrupted(slice(previous, previous + self.n_envs), rows)
        self._set_priority(np.arange(rows.start, rows.stop), self.max_priority)

        self.pos += 1
        if self.pos == self.buffer_size:
            self.full = True
            self.pos = 0

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
        added = TransitionStorage(len(dataset), self.observation_space, self.action_space)
        added.write(slice(0, len(dataset)), **to_rows(dataset, self.action_space))
        at, n_filled = self.n_demonstrations, self.n_filled
        weights = np.full(len(dataset), self.max_priority**self.priority_exponent)
        tree = SumTree.from_weights(self.n_rows + len(dataset), np.insert(self.tree.weights[:n_filled], at, weights))
        self.storage.insert(at, added, n_filled)
        self.tree = tree
        self.n_demonstrations += len(dataset)

    def to_demonstrations(self, agent_only: bool = False) -> Demonstrations:
        """
        What the buffer holds as demonstrations in environment units; images as the model sees them, channels first.

        The demonstrations come first, then the agent's own episodes, environment by environment, the oldest first. The
        oldest may lack its beginning, which was overwritten. An episode that was interrupted, or is not over yet, is
        truncated where it stops.

        :param agent_only: Leave out the demonstrations
        :raises DemonstrationsError: If there is no transition
        """
        oldest = self.pos if self.full else 0
        steps = (np.arange(self.size()) + oldest) % self.buffer_size
        ring = self.n_demonstrations + steps * self.n_envs + np.arange(self.n_envs)[:, None]  # (n_envs, n_steps)
        ended = self.storage.ended.copy()
        ended[ring[:, -1:]] = True
        rows = ring.ravel() if agent_only else np.concatenate((np.arange(self.n_demonstrations), ring.ravel()))
        if len(rows) == 0:
            raise DemonstrationsError("to_demonstrations: found no transition in the replay buffer, expected at least one")
        return from_rows(self.storage, rows, ended[rows])

    def reset(self) -> None:
        """Forget the agent's own transitions. Demonstrations stay, with their priorities."""
        super().reset()
        self.tree.update(np.arange(self.n_demonstrations, self.n_rows), 0.0)

    def sample(self, batch_size: int, env: VecNormalize | None = None) -> Samples:  # type: ignore[override]  # Dict too
        """
        What SB3's algorithms ask for: the n-step batch alone.

        :param batch_size: Number of transitions
        :param env: Wrapper to normalise observations and rewards with
        :return: ``rewards`` is R_n, ``next_observations`` the state after k steps, ``discounts`` gamma^k
        """
        rows = self._draw(batch_size, demos_only=False)
        window = self._window(rows)
        observations: Any = self._to_policy(self.storage.observations, rows, env)
        next_observations: Any = self._to_policy(self.storage.next_observations, window.last_rows, env)
        samples = DictReplayBufferSamples if isinstance(observations, dict) else ReplayBufferSamples
        return samples(
            observations=observations,
            actions=self._actions(rows),
            next_observations=next_observations,
            dones=self._column(self.storage.terminated.take(window.last_rows)),
            rewards=self._column(n_step_return(self._rewards(window, env), window.included, self.gamma)),
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
        rows = self._draw(batch_size, demos_only)
        window = self._window(rows)
        rewards = self._rewards(window, env)
        both_rows = np.concatenate((rows, window.last_rows))
        both_rewards = np.concatenate((rewards[:, 0], n_step_return(rewards, window.included, self.gamma)))
        both_lengths = np.concatenate((np.ones_like(window.lengths), window.lengths))
        discounts = discount_powers(self.gamma, self.n_steps).take(both_lengths)
        terminated = self.storage.terminated.take(both_rows)
        return DemoBatch(
            observations=self._to_policy(self.storage.observations, rows, env),
            actions=self._actions(rows),
            next_observations=self._to_policy(self.storage.next_observations, both_rows, env),
            rewards=self._column(both_rewards),
            bootstrap=self._column(discounts * ~terminated),
            weights=self._column(self._importance_weights(rows, beta)),
            is_demo=self.to_torch((rows < self.n_demonstrations).reshape(-1, 1)),
            indices=rows,
            terminated=terminated,
            discounts=discounts,
        )

    def update_priorities(self, indices: np.ndarray, priorities: np.ndarray) -> None:
        """
        :param indices: Rows that hold a transition, shape ``(B,)``; where one is repeated, its last priority counts
        :param priorities: p_i, positive, shape ``(B,)``
        :raises IndexError: If a row holds nothing
        :raises ValueError: If a priority is not a positive number, or so large that p^alpha is none
        """
        indices = np.asarray(indices)
        first, last = indices.min(), indices.max()
        if first < 0 or last >= self.n_filled:
            raise IndexError(f"indices: found rows {first} to {last}, expected 0 to {self.n_filled - 1} that hold transitions")
        priorities = np.asarray(priorities, dtype=np.float64)
        smallest, largest = priorities.min(), priorities.max()
        if not (smallest > 0.0 and largest**self.priority_exponent < np.inf):
            raise ValueError(
                f"priorities: found values from {smallest} to {largest}, expected positive numbers: "
                "the critic has diverged, lower the learning rate or the reward scale"
            )
        self.max_priority = max(self.max_priority, float(largest))
        self._set_priority(indices, priorities)

    def _set_priority(self, rows: np.ndarray, priorities: np.ndarray | float) -> None:
        self.tree.update(rows, priorities**self.priority_exponent, check=False)

    def _draw(self, batch_size: int, demos_only: bool) -> np.ndarray:
        n_demonstrations, n_filled = self.n_demonstrations, self.n_filled
        if (n_demonstrations if demos_only else n_filled) == 0:
            raise ValueError("sample: found an empty buffer, expected at least one transition")
        if self.demo_fraction is None and demos_only:
            rows = self.tree.sample(batch_size, below=float(self.tree.weights[:n_demonstrations].sum()))
            # That sum can differ from the tree's own in the last bits
            return np.minimum(rows, n_demonstrations - 1)
        if self.demo_fraction is None:
            return self.tree.sample(batch_size)
        if demos_only or n_filled == n_demonstrations:
            n_from_demos = batch_size
        else:
            n_from_demos = round(self.demo_fraction * batch_size) if n_demonstrations else 0
        from_demos = np.random.randint(0, max(n_demonstrations, 1), size=n_from_demos)
        if n_from_demos == batch_size:
            return from_demos
        return np.concatenate((from_demos, np.random.randint(n_demonstrations, n_filled, size=batch_size - n_from_demos)))

    def _importance_weights(self, rows: np.ndarray, beta: float) -> np.ndarray:
        # A fixed share is wanted as it is. Otherwise N and the sum of p^alpha are the same for all rows, so they cancel:
        # (N P(i))^-beta / max_j (N P(j))^-beta = (min_j p_j^alpha / p_i^alpha)^beta
        if self.demo_fraction is not None or beta == 0.0:
            return np.ones(len(rows))
        leaves = self.tree.weights.take(rows)
        ratios = leaves.min() / leaves
        return ratios if beta == 1.0 else ratios**beta

    def _window(self, rows: np.ndarray) -> NStepWindow:
        # Nothing is written as long as `pos` is 0 and the ring is not full
        head = (self.pos - 1) % self.buffer_size * self.n_envs if self.full or self.pos > 0 else -1
        layout = RowLayout(self.n_demonstrations, self.n_envs, self.buffer_size * self.n_envs, head)
        return n_step_window(rows, self.n_steps, self.storage.ended, layout)

    def _rewards(self, window: NStepWindow, env: VecNormalize | None) -> np.ndarray:
        return self._normalize_reward(self.storage.rewards.take(window.rows, mode="clip"), env)  # (batch, n_steps)

    def _actions(self, rows: np.ndarray) -> th.Tensor:
        return self.to_torch(self.storage.actions.take(rows, axis=0))

    def _to_policy(self, stored: dict[str, np.ndarray], rows: np.ndarray, env: VecNormalize | None) -> TorchObs:
        """Some rows of stored observations, normalised, as the policy takes them."""
        taken = {key: array.take(rows, axis=0) for key, array in stored.items()}
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
        return {**self.__dict__, "storage": self.storage.state(n), "tree": self.tree.weights[:n].copy()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.storage = TransitionStorage.from_state(state["storage"])
        self.tree = SumTree.from_weights(self.n_rows, state["tree"])
