"""Prioritised replay in which demonstrations are kept for ever, with 1-step and n-step returns of the same rows."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.type_aliases import DictReplayBufferSamples, ReplayBufferSamples
from stable_baselines3.common.vec_env import VecNormalize

from sb3_pgfd.demonstrations import Demonstrations
from sb3_pgfd.replay.n_step import NStepWindow, RowLayout, n_step_return, n_step_window
from sb3_pgfd.replay.storage import BOX_KEY, TransitionStorage
from sb3_pgfd.replay.sum_tree import SumTree

Samples = ReplayBufferSamples | DictReplayBufferSamples
TorchObs = th.Tensor | dict[str, th.Tensor]


class DemoBatch(NamedTuple):
    """A batch of B transitions, as DDPGfD uses it."""

    one_step: Samples
    """(s, a, r, s', terminated), ``discounts`` = gamma"""
    n_step: Samples
    """The same (s, a) with R_n, the state after k <= n steps, whether it is terminal, ``discounts`` = gamma^k"""
    weights: th.Tensor
    """w_i = (N P(i))^-beta over the batch's largest, shape ``(B, 1)``"""
    indices: np.ndarray
    """Rows in the buffer, shape ``(B,)``, int64"""
    is_demo: th.Tensor
    """Whether the transition is a demonstration, shape ``(B, 1)``, bool"""


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
            self._store_demonstrations(dataset)

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
        truncated = timeout & self.handle_timeout_termination
        rows = slice(start, start + self.n_envs)
        self.storage.write(rows, obs, next_obs, action, reward, done & ~truncated, truncated)
        self._set_priority(np.arange(rows.start, rows.stop), self.max_priority)

        self.pos += 1
        if self.pos == self.buffer_size:
            self.full = True
            self.pos = 0

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
        observations = self._to_policy(self.storage.observations, rows, env)
        next_observations = self._to_policy(self.storage.next_observations, window.last_rows, env)
        return self._n_step_samples(observations, self._actions(rows), next_observations, window, self._rewards(window, env))

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
        observations, actions = self._to_policy(self.storage.observations, rows, env), self._actions(rows)
        both = self._to_policy(self.storage.next_observations, np.concatenate((rows, window.last_rows)), env)
        next_observations, last_observations = _halves(both, batch_size)
        one_step = self._samples(
            observations,
            actions,
            next_observations,
            self.storage.terminated[rows],
            rewards[:, 0],
            np.full(batch_size, self.gamma),
        )
        return DemoBatch(
            one_step=one_step,
            n_step=self._n_step_samples(observations, actions, last_observations, window, rewards),
            weights=self._column(self._importance_weights(rows, beta)),
            indices=rows,
            is_demo=self.to_torch((rows < self.n_demonstrations).reshape(-1, 1), copy=False),
        )

    def update_priorities(self, indices: np.ndarray, priorities: np.ndarray) -> None:
        """
        :param indices: Rows, shape ``(B,)``; where one is repeated, its last priority counts
        :param priorities: p_i, positive, shape ``(B,)``
        :raises ValueError: If a priority is not a positive number
        """
        priorities = np.asarray(priorities, dtype=np.float64)
        smallest, largest = priorities.min(), priorities.max()
        if not (smallest > 0.0 and largest < np.inf):
            raise ValueError(
                f"priorities: found values from {smallest} to {largest}, expected positive numbers: "
                "the critic has diverged, lower the learning rate or the reward scale"
            )
        self.max_priority = max(self.max_priority, float(largest))
        self._set_priority(indices, priorities)

    def _set_priority(self, rows: np.ndarray, priorities: np.ndarray | float) -> None:
        self.tree.update(rows, priorities**self.priority_exponent)

    def _draw(self, batch_size: int, demos_only: bool) -> np.ndarray:
        n_demonstrations, n_filled = self.n_demonstrations, self.n_filled
        if (n_demonstrations if demos_only else n_filled) == 0:
            raise ValueError("sample: found an empty buffer, expected at least one transition")
        if self.demo_fraction is None:
            below = float(self.tree.weights[:n_demonstrations].sum()) if demos_only else None
            return self.tree.sample(batch_size, below)
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
        return n_step_window(rows, self.n_steps, self.storage.terminated, self.storage.truncated, layout)

    def _rewards(self, window: NStepWindow, env: VecNormalize | None) -> np.ndarray:
        return self._normalize_reward(self.storage.rewards.take(window.rows), env)  # (batch, n_steps)

    def _actions(self, rows: np.ndarray) -> th.Tensor:
        return self.to_torch(self.storage.actions.take(rows, axis=0), copy=False)

    def _to_policy(self, stored: dict[str, np.ndarray], rows: np.ndarray, env: VecNormalize | None) -> TorchObs:
        """Some rows of stored observations, normalised, as the policy takes them."""
        taken = {key: array.take(rows, axis=0) for key, array in stored.items()}
        normalized = self._normalize_obs(taken if isinstance(self.observation_space, spaces.Dict) else taken[BOX_KEY], env)
        if isinstance(normalized, dict):
            return {key: self.to_torch(array, copy=False) for key, array in normalized.items()}
        return self.to_torch(normalized, copy=False)

    def _n_step_samples(
        self,
        observations: TorchObs,
        actions: th.Tensor,
        next_observations: TorchObs,
        window: NStepWindow,
        rewards: np.ndarray,
    ) -> Samples:
        returns = n_step_return(rewards, window.included, self.gamma)
        discounts = (self.gamma ** np.arange(self.n_steps + 1)).take(window.lengths)
        terminated = self.storage.terminated.take(window.last_rows)
        return self._samples(observations, actions, next_observations, terminated, returns, discounts)

    def _samples(
        self,
        observations: Any,
        actions: th.Tensor,
        next_observations: Any,
        terminated: np.ndarray,
        rewards: np.ndarray,
        discounts: np.ndarray,
    ) -> Samples:
        samples = DictReplayBufferSamples if isinstance(self.observation_space, spaces.Dict) else ReplayBufferSamples
        columns = (self._column(array) for array in (terminated, rewards, discounts))
        return samples(observations, actions, next_observations, *columns)

    def _column(self, array: np.ndarray) -> th.Tensor:
        return self.to_torch(array.astype(np.float32).reshape(-1, 1), copy=False)

    def _store_demonstrations(self, dataset: Demonstrations) -> None:
        actions = dataset.actions
        if isinstance(self.action_space, spaces.Box):
            low, high = self.action_space.low, self.action_space.high
            actions = np.clip(2.0 * (actions - low) / (high - low) - 1.0, -1.0, 1.0)
        self.storage.write(
            slice(0, len(dataset)),
            dataset.observations,
            dataset.next_observations,
            actions,
            dataset.rewards,
            dataset.terminated,
            # An environment may say both: then there is nothing to bootstrap from
            dataset.truncated & ~dataset.terminated,
        )
        self._set_priority(np.arange(len(dataset)), self.max_priority)

    def __getstate__(self) -> dict[str, Any]:
        n = self.n_filled
        return {**self.__dict__, "storage": self.storage.state(n), "tree": self.tree.weights[:n].copy()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.storage = TransitionStorage.from_state(state["storage"])
        self.tree = SumTree(self.n_rows)
        self.tree.update(np.arange(self.n_filled), state["tree"])


def check_buffer_options(
    n_steps: int, gamma: float, priority_exponent: float, demo_fraction: float | None, optimize_memory_usage: bool
) -> None:
    """:raises ValueError: If one is out of range, naming what was found and expected"""
    if isinstance(n_steps, bool) or not isinstance(n_steps, (int, np.integer)) or n_steps < 1:
        raise ValueError(f"n_steps: found {n_steps!r}, expected a whole number >= 1")
    if not 0.0 <= gamma <= 1.0:
        raise ValueError(f"gamma: found {gamma}, expected 0 to 1")
    if not 0.0 <= priority_exponent < np.inf:
        raise ValueError(f"priority_exponent (alpha): found {priority_exponent}, expected a number >= 0")
    if demo_fraction is not None and not 0.0 <= demo_fraction <= 1.0:
        raise ValueError(f"demo_fraction: found {demo_fraction}, expected 0 to 1, or None to let priorities decide")
    if optimize_memory_usage:
        raise ValueError(
            "optimize_memory_usage: found True, expected False: it keeps no next observations, "
            "which demonstrations and n-step returns need"
        )


def _halves(both: Any, n: int) -> tuple[Any, Any]:
    if isinstance(both, dict):
        return {key: value[:n] for key, value in both.items()}, {key: value[n:] for key, value in both.items()}
    return both[:n], both[n:]
