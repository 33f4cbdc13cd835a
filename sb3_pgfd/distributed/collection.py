"""Workers of Ray that act by themselves, with copies of the policy."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import ray
from stable_baselines3.common.type_aliases import TrainFrequencyUnit
from stable_baselines3.common.vec_env import VecMonitor, VecNormalize, VecTransposeImage

from sb3_pgfd.common.acting import copy_to_act, own_noise, state_to_act
from sb3_pgfd.common.environment_state import layers
from sb3_pgfd.common.off_policy_algorithm import OffPolicyFromDemonstrations
from sb3_pgfd.common.real_time import Choice
from sb3_pgfd.distributed.acting import Block, Request, Result
from sb3_pgfd.distributed.ray_vec_env import RayVecEnv, RayWorkerError

# Copies of a policy see what the model would see under these
_WRAPPERS = (VecNormalize, VecTransposeImage, VecMonitor)


class RayCollector(RayVecEnv):
    """
    A :class:`RayVecEnv` whose workers hold copies of the policy, for this package's off-policy algorithms. A worker takes
    the ``train_freq`` steps between two rounds of updates by itself and brings them back in one block, which is then played
    to the algorithm step by step, so that wrappers, callbacks and the replay buffer see every step, once.

    With ``overlap`` the next block is collected while the model learns. Then the policy that acts is one round of updates
    old; ``rollout/policy_age`` in the log says how many updates. Without, the steps of a given seed are always the same.

    :param env_fns: Make the environments
    :param overlap: Whether to collect while the model learns
    :param options: See :class:`RayVecEnv`
    """

    def __init__(self, env_fns: Sequence[Callable[[], gym.Env]], overlap: bool = True, **options: Any):
        super().__init__(env_fns, **options)
        self.overlap = overlap
        self._model: Any = None
        self._copy: Any = None
        self._seed = 0
        # Lives of the workers in which they have a copy, and the numbers of their next blocks
        self._copied: dict[int, int] = {}
        self._sequences = [0] * len(self._workers)
        self._blocks: dict[int, Any] = {}
        self._state: Any = None
        self._asked_after, self._n_asked = 0, 0
        """Updates that the policy of the block had, and its steps"""
        self._steps: deque[list[tuple[Choice, Result]]] = deque()
        """Those that were taken and are not played yet, of all workers"""
        self._is_chosen = False

    def make_resumable(self) -> None:
        """Workers are ahead of what is played, so a training state begins new episodes."""

    def reset(self) -> Any:
        """cf ``VecEnv``. What was collected and not played is forgotten."""
        self._blocks = {}
        self._steps.clear()
        self._is_chosen = False
        return super().reset()

    def take(self, model: OffPolicyFromDemonstrations) -> Choice:
        """
        :param model: Which learns
        :return: What copies of its policy chose for the next step, that was taken already
        :raises ValueError: If they cannot act by themselves
        """
        if self._model is not model:
            self._attach(model)
        if not self._steps:
            self._collect()
        self._is_chosen = True
        choices = [choice for choice, _ in self._steps[0]]
        actions, stored = (np.concatenate([choice[part] for choice in choices]) for part in (0, 1))
        intended = [choice.without_noise for choice in choices if choice.without_noise is not None]
        names = {name for choice in choices for name in choice.means}
        means = {name: float(np.mean([one.means[name] for one in choices if name in one.means])) for name in names}
        means["policy_age"] = float(model._n_updates - self._asked_after)
        return Choice(actions, stored, np.concatenate(intended) if intended else None, means)

    def _attach(self, model: OffPolicyFromDemonstrations) -> None:
        assert model.env is not None
        others = [layer for layer in layers(model.env) if not isinstance(layer, (*_WRAPPERS, RayCollector))]
        if others:
            raise ValueError(
                f"RayCollector: found the wrapper {type(others[0]).__name__}, expected none but "
                f"{', '.join(wrapper.__name__ for wrapper in _WRAPPERS)}: wrap the single environments, or use RayVecEnv"
            )
        if model.train_freq.unit is not TrainFrequencyUnit.STEP:  # type: ignore[union-attr]
            raise ValueError(f"RayCollector: found train_freq={model.train_freq}, expected a number of steps")
        self._model, self._copied, self._sequences = model, {}, [0] * len(self._workers)
        self._copy = ray.put(copy_to_act(model))
        self._seed = int(np.random.randint(2**31)) if model.seed is None else model.seed

    def _send(self, n_more_steps: int = 0) -> None:
        """
        Ask all workers for the next block.

        :param n_more_steps: That are taken and not counted yet
        """
        model, state = self._model, state_to_act(self._model)
        state["counters"]["num_timesteps"] += n_more_steps
        self._asked_after, self._n_asked = model._n_updates, model.train_freq.frequency
        self._state = ray.put(state)
        self._blocks = {
            number: self._ask(number, self._n_asked)
            for number in range(len(self._workers))
            if number not in self._fresh and number not in self._coming
        }

    def _ask(self, number: int, n_steps: int) -> Any:
        worker, life, n_envs = self._workers[number], self._lives[number], len(self._of[number])
        if self._copied.get(number) != life:
            noise = own_noise(self._model.action_noise, n_envs)
            worker.copy_policy.remote(life, self._copy, noise, n_envs, self.num_envs)
            self._copied[number] = life
        sequence = self._sequences[number]
        self._sequences[number] += 1
        request = Request(sequence, n_steps, (self._seed, number, sequence), self._model.learning_starts)
        return worker.collect.remote(life, request, self._state)

    def _timeout(self, n_steps: int) -> float | None:
        return None if self._step_timeout is None else n_steps * self._step_timeout

    def _collect(self) -> None:
        """Wait for the blocks of all workers."""
        if not self._blocks:
            self._send()
        answers = self._gathered(self._blocks, self._timeout(self._n_asked))
        self._await(list(self._coming), 0.0)
        if len(self._coming) == len(self._workers):
            self._await([next(iter(self._coming))])
        taken = [self._whole(number, answers.get(number)) for number in range(len(self._workers))]
        self._blocks = {}
        self._steps.extend(list(step) for step in zip(*taken, strict=True))

    def _whole(self, number: int, answer: Any) -> list[tuple[Choice, Result]]:
        """
        :return: As many steps as were asked for. What was lost with a worker is one that may not have been taken, and so is
            each until the worker has come back: the others do not wait for it
        """
        steps: list[tuple[Choice, Result]] = []
        before = self._obs[number]
        while True:
            if isinstance(answer, Block):
                self._check(number, answer)
                steps += answer.steps
            else:
                steps.append((self._nothing(number), self._lost_step(number, answer, before)))
            n_left = self._n_asked - len(steps)
            if n_left == 0:
                return steps
            before = steps[-1][1].obs
            if number in self._coming:
                answer = None
                continue
            answer = self._gathered({number: self._ask(number, n_left)}, self._timeout(n_left))[number]

    def _check(self, number: int, block: Block) -> None:
        expected = self._sequences[number] - 1
        if block.sequence != expected:
            raise RayWorkerError(f"RayCollector: found block {block.sequence} of {self._name(number)}, expected {expected}")

    def _nothing(self, number: int) -> Choice:
        shape = (len(self._of[number]), *self.action_space.shape)  # type: ignore[misc]  # a Box
        stored = np.zeros(shape, dtype=np.float32)
        needed = self._model._needs_policy_actions()
        return Choice(self._model.policy.unscale_action(stored), stored, stored if needed else None, {})

    def _make_anew(self, number: int, error: Exception) -> None:
        self._coming[number] = time.monotonic(), self._sent_anew(number, error)

    def step_async(self, actions: np.ndarray) -> None:
        """cf ``VecEnv``"""
        if not self._is_chosen:
            if self._steps or self._blocks:
                raise RayWorkerError("RayCollector: found a step while workers act by themselves, expected reset() before it")
            super().step_async(actions)

    def step_wait(self) -> Any:
        """cf ``VecEnv``"""
        if not self._is_chosen:
            return super().step_wait()
        results = [result for _, result in self._steps.popleft()]
        self._is_chosen = False
        played = self._returned(results)
        if self.overlap and not self._steps:
            self._send(n_more_steps=self.num_envs)
        return played
