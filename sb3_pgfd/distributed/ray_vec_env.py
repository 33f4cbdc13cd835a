"""Environments in Ray's workers, on one machine or many, as an SB3 ``VecEnv``."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import gymnasium as gym
import numpy as np
import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError, RayTaskError
from stable_baselines3.common.vec_env import VecEnv

from sb3_pgfd.distributed.acting import Result
from sb3_pgfd.distributed.cluster import connect, cpus
from sb3_pgfd.distributed.worker import EnvWorker, LostEpisodesError, Start
from sb3_pgfd.replay.own_episodes import ENV_RESTARTED
from sb3_pgfd.utils.checks import is_number, is_whole
from sb3_pgfd.utils.warning import warn_user

# A worker that fails so often without a step between is not lost by chance
_IN_A_ROW = 3
_LOST = (RayActorError, RayTaskError, GetTimeoutError)


class RayWorkerError(RuntimeError):
    """The environments of a worker cannot be had. The message holds the worker's traceback, if there is one."""


class RayVecEnv(VecEnv):
    """
    Environments in workers of Ray, spread over the nodes of its cluster; without one they run on this machine. See
    docs/distributed.md.

    A worker whose process or node dies, or in whose environments an error is raised, is made anew. The episodes that ran in
    it end as truncated, with ``env_restarted`` in their last info. That step may or may not have been taken: it is not taken
    again, and :class:`~sb3_pgfd.replay.DemoReplayBuffer` and ``A2CfD`` leave it out. SB3's own buffers store it, with reward
    0 and the last observation that is known.

    :param env_fns: Make the environments
    :param envs_per_worker: Environments in one process, stepped one after the other
    :param num_cpus: CPUs that each worker reserves; a fraction where environments wait more than they compute
    :param resources: What else each reserves, as Ray names it, e.g. ``{"num_gpus": 0.5}``
    :param max_restarts_per_hour: How often workers may be made anew, all together. The next time is an error
    :param step_timeout: Seconds after which a step counts as lost, None: no limit
    :param start_timeout: Seconds to wait for a worker and the reset of its environments
    :param address: Of the cluster, None: as Ray finds it
    :raises ValueError: If an option is out of range
    :raises RayWorkerError: If a worker cannot be started
    """

    def __init__(
        self,
        env_fns: Sequence[Callable[[], gym.Env]],
        envs_per_worker: int = 1,
        num_cpus: float = 1.0,
        resources: dict[str, Any] | None = None,
        max_restarts_per_hour: int = 60,
        step_timeout: float | None = None,
        start_timeout: float = 300.0,
        address: str | None = None,
    ):
        for name, value, least in (
            ("envs_per_worker", envs_per_worker, 1),
            ("max_restarts_per_hour", max_restarts_per_hour, 0),
        ):
            if not is_whole(value, least):
                raise ValueError(f"{name}: found {value!r}, expected a whole number >= {least}")
        if not is_number(num_cpus, 0.0):
            raise ValueError(f"num_cpus: found {num_cpus!r}, expected a number >= 0")
        if "num_cpus" in (resources or {}):
            raise ValueError("resources: found num_cpus, expected it as an argument of its own")
        connect(address)
        n_envs = len(env_fns)
        self._wanted = {"num_cpus": num_cpus, **(resources or {})}
        self._of = [range(first, min(first + envs_per_worker, n_envs)) for first in range(0, n_envs, envs_per_worker)]
        self._max_restarts, self._step_timeout, self._start_timeout = max_restarts_per_hour, step_timeout, start_timeout
        self.closed = False
        if (needed := num_cpus * len(self._of)) > cpus():
            warn_user(
                f"RayVecEnv: found {cpus():g} CPUs in Ray's cluster, expected {needed:g} for {len(self._of)} workers: waiting "
                f"for more nodes up to {start_timeout:g} s. num_cpus and envs_per_worker make them fit",
            )
        worker: Any = ray.remote(EnvWorker).options(
            scheduling_strategy="SPREAD", max_restarts=-1, max_task_retries=0, **self._wanted
        )
        self._workers: list[Any] = [worker.remote([env_fns[i] for i in own]) for own in self._of]
        # A worker that Ray has made anew is in another one
        self._lives = [1] * len(self._workers)
        self._obs: list[Any] = [None] * len(self._workers)
        self._fresh: dict[int, Any] = {}
        """First observations of workers that were made anew since their last step"""
        self._coming: dict[int, tuple[float, Any]] = {}
        """The same of workers that are being made anew, and since when"""
        self._sent: dict[int, Any] = {}
        self._in_a_row = [0] * len(self._workers)
        # Its own last errors: what is found later may only be that it was restarted
        self._failures: dict[int, RayTaskError] = {}
        self._restarts: deque[float] = deque()
        self.n_restarts = 0
        """How often workers were made anew"""
        self._first_seeds: list[int | None] = [None] * n_envs
        self._attributes: list[dict[str, Any]] = [{} for _ in range(n_envs)]
        self.is_resumable = False
        """Whether the environments remember their episodes"""
        found = [self._started(one.begin.remote(1), number) for number, one in enumerate(self._workers)]
        super().__init__(n_envs, *found[0])

    def _started(self, reference: Any, number: int) -> Any:
        """:return: What a worker answers that may have to be started first"""
        try:
            return ray.get(reference, timeout=self._start_timeout)
        except GetTimeoutError as error:
            self.close()
            raise RayWorkerError(
                f"RayVecEnv: found no {self._name(number)} after {self._start_timeout:g} s, expected one with {self._wanted}: "
                f"the cluster has {cpus():g} CPUs, of which {ray.available_resources().get('CPU', 0.0):g} are free. Lower "
                "what a worker reserves, raise envs_per_worker, or start more nodes"
            ) from error
        except RayError as error:
            self.close()
            raise RayWorkerError(f"RayVecEnv: {self._name(number)} cannot be started: {error}") from error

    def _name(self, number: int) -> str:
        own = self._of[number]
        return f"worker {number} (environment{'s' if len(own) > 1 else ''} {', '.join(map(str, own))})"

    def reset(self) -> Any:
        """cf ``VecEnv``"""
        # What was sent before is taken back: its life is over
        self._sent, self._fresh, self._coming = {}, {}, {}
        first = [own if own is not None else seed for own, seed in zip(self._seeds, self._first_seeds, strict=True)]
        self._first_seeds = first
        references = {number: self._send_reset(number, self._seeds) for number in range(len(self._workers))}
        self._obs = [self._begun(number, reference) for number, reference in references.items()]
        self._reset_seeds()
        self._reset_options()
        return _joined(self._obs)

    def _send_reset(self, number: int, seeds: Sequence[int | None]) -> Any:
        self._lives[number] += 1
        own = self._of[number]
        options, attributes = ([values[i] for i in own] for values in (self._options, self._attributes))
        start = Start(self._lives[number], [seeds[i] for i in own], options, attributes, self.is_resumable)
        # A reset may be repeated: nothing of it is stored
        return self._workers[number].reset.options(max_task_retries=-1).remote(start)

    def _begun(self, number: int, reference: Any) -> Any:
        """:return: The first observations of a worker"""
        obs, infos = self._started(reference, number)
        for i, info in zip(self._of[number], infos, strict=True):
            self.reset_infos[i] = info
        return obs

    def step_async(self, actions: np.ndarray) -> None:
        """cf ``VecEnv``"""
        self._sent = {
            number: self._workers[number].step.remote(self._lives[number], actions[own.start : own.stop])
            for number, own in enumerate(self._of)
            # The actions for the others were chosen for a state that is lost
            if number not in self._fresh
        }

    def step_wait(self) -> Any:
        """cf ``VecEnv``"""
        results = self._gathered(self._sent, self._step_timeout)
        for number in range(len(self._workers)):
            result = results.get(number)
            if not isinstance(result, Result):
                results[number] = self._lost_step(number, result, self._obs[number])
        self._sent = {}
        return self._returned([results[number] for number in range(len(self._workers))])

    def _gathered(self, references: dict[int, Any], timeout: float | None) -> dict[int, Any]:
        """:return: What each worker answers, or the error"""
        until = None if timeout is None else time.monotonic() + timeout
        try:
            answers: dict[int, Any] = dict(zip(references, ray.get(list(references.values()), timeout=timeout), strict=True))
        except _LOST:
            answers = {}
            for number, reference in references.items():
                left = None if until is None else max(until - time.monotonic(), 0.0)
                try:
                    answers[number] = ray.get(reference, timeout=left)
                except _LOST as error:
                    answers[number] = error
        for number, answer in answers.items():
            if not isinstance(answer, Exception):
                self._in_a_row[number] = 0
                self._failures.pop(number, None)
        return answers

    def _returned(self, results: Sequence[Result]) -> Any:
        """:return: The results of all workers as ``VecEnv`` returns them"""
        self._obs = [result.obs for result in results]
        infos = [info for result in results for info in result.infos]
        for i, info in enumerate(info for result in results for info in result.reset_infos):
            self.reset_infos[i] = info
        rewards, dones = (np.concatenate([result[column] for result in results]) for column in (1, 2))
        return _joined(self._obs), rewards, dones, infos

    def _lost_step(self, number: int, error: Exception | None, before: Any) -> Result:
        """
        :param error: With which it was lost
        :param before: The last observations that are known
        :return: For a step that may not have been taken: the end of the episodes that ran, and the first observations
        """
        if number not in self._fresh and number not in self._coming:
            assert error is not None
            self._make_anew(number, error)
        obs = self._fresh.pop(number, before)
        own = self._of[number]
        infos = [
            {ENV_RESTARTED: True, "TimeLimit.truncated": True, "terminal_observation": _of_one(before, place)}
            for place in range(len(own))
        ]
        zeros = np.zeros(len(own), dtype=np.float32)
        return Result(obs, zeros, np.ones(len(own), dtype=bool), infos, [self.reset_infos[i] for i in own])

    def _make_anew(self, number: int, error: Exception) -> None:
        """:param error: With which the worker, or what it was to do, was lost"""
        self._fresh[number] = self._begun(number, self._sent_anew(number, error))

    def _sent_anew(self, number: int, error: Exception) -> Any:
        """:return: The first observations of a worker that is made anew, when they have come"""
        cause = "a step took too long" if isinstance(error, GetTimeoutError) else str(error).strip().splitlines()[-1]
        now = time.monotonic()
        while self._restarts and self._restarts[0] < now - 3600.0:
            self._restarts.popleft()
        self._in_a_row[number] += 1
        if isinstance(error, RayTaskError):
            self._failures[number] = error
        if len(self._restarts) >= self._max_restarts or self._in_a_row[number] >= _IN_A_ROW:
            self.close()
            found = f"found {self._name(number)} lost for the {self._in_a_row[number]}. time without a step between"
            if self._in_a_row[number] < _IN_A_ROW:
                found = f"found {self._name(number)} lost after {len(self._restarts)} restarts within an hour"
            expected = f"expected at most {self._max_restarts} in an hour and {_IN_A_ROW - 1} in a row"
            shown = self._failures.get(number, error)
            raise RayWorkerError(f"RayVecEnv: {found}, {expected}: {shown}") from shown
        self._restarts.append(now)
        self.n_restarts += 1
        warn_user(f"RayVecEnv: {self._name(number)} is made anew, its episodes are cut: {cause}")
        if not isinstance(error, (RayActorError, LostEpisodesError)):
            # Its environments are in an unknown state, or hang
            ray.kill(self._workers[number], no_restart=False)
        seeds = [None if seed is None else _later_seed(seed, self.n_restarts) for seed in self._first_seeds]
        return self._send_reset(number, seeds)

    def close(self) -> None:
        """cf ``VecEnv``. Ends the workers."""
        if self.closed or not ray.is_initialized():
            return
        self.closed = True
        with suppress(*_LOST):
            ray.get([worker.close.remote() for worker in self._workers], timeout=5.0)
        for worker in self._workers:
            ray.kill(worker)

    def get_images(self) -> Sequence[np.ndarray | None]:
        """cf ``VecEnv``. ``env_method("render", indices=i)[0]`` is the picture of one."""
        if self.render_mode != "rgb_array":
            warn_user(f"RayVecEnv: found render_mode {self.render_mode!r}, expected 'rgb_array': no pictures")
            return [None] * self.num_envs
        return self.env_method("render")

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """cf ``VecEnv``"""
        return self._call("get_attr", indices, attr_name)

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """cf ``VecEnv``. Environments that are made anew get it too."""
        self._call("set_attr", indices, attr_name, value)
        for i in self._get_indices(indices):
            self._attributes[i][attr_name] = value

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list[Any]:
        """cf ``VecEnv``. If the worker dies meanwhile, the method is called in the new environments."""
        return self._call("env_method", indices, method_name, *method_args, **method_kwargs)

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper], indices: Any = None) -> list[bool]:
        """cf ``VecEnv``"""
        return self._call("env_is_wrapped", indices, wrapper_class)

    def make_resumable(self) -> None:
        """Let the environments remember their episodes, for a training state."""
        self.is_resumable = True
        with suppress(*_LOST):
            ray.get([worker.make_resumable.remote(life) for worker, life in zip(self._workers, self._lives, strict=True)])

    def _call(self, method: str, indices: Any, *args: Any, **kwargs: Any) -> list[Any]:
        wanted = [i % self.num_envs for i in self._get_indices(indices)]
        places = {number: [i - own.start for i in wanted if i in own] for number, own in enumerate(self._of)}
        self._await(places)
        waiting, answers = {number for number, own in places.items() if own}, dict[int, Iterator[Any]]()
        while waiting:
            sent = {n: self._workers[n].call.remote(self._lives[n], method, places[n], *args, **kwargs) for n in waiting}
            for number, answer in self._gathered(sent, None).items():
                if isinstance(answer, (RayActorError, LostEpisodesError)):
                    self._make_anew(number, answer)
                    continue
                if isinstance(answer, Exception):
                    # Of the environment, of its own class too
                    raise answer
                waiting.discard(number)
                answers[number] = iter(answer or [])
        if method == "set_attr":
            return []
        worker_of = {i: number for number, own in enumerate(self._of) for i in own}
        return [next(answers[worker_of[i]]) for i in wanted]

    def _await(self, numbers: Iterable[int], seconds: float | None = None) -> None:
        """
        Let workers that are being made anew begin.

        :param seconds: How long to wait, None: until they have begun or the time to start is over
        """
        for number in self._coming.keys() & set(numbers):
            since, reference = self._coming[number]
            is_late = time.monotonic() - since > self._start_timeout
            if seconds is None or is_late or ray.wait([reference], timeout=seconds)[0]:
                del self._coming[number]
                self._fresh[number] = self._begun(number, reference)


def _later_seed(seed: int, n_restarts: int) -> int:
    """:return: Another one, so that an environment that is made anew does not repeat its first episode"""
    return int(np.random.SeedSequence((seed, n_restarts)).generate_state(1)[0]) % 2**31


def _joined(parts: Sequence[Any]) -> Any:
    """:param parts: Observations of some environments each: arrays, dicts or tuples of them"""
    first = parts[0]
    if isinstance(first, dict):
        return {key: np.concatenate([part[key] for part in parts]) for key in first}
    if isinstance(first, tuple):
        return tuple(np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return np.concatenate(parts)


def _of_one(obs: Any, place: int) -> Any:
    if obs is None:
        return None
    if isinstance(obs, dict):
        return {key: np.array(array[place]) for key, array in obs.items()}
    return tuple(np.array(array[place]) for array in obs) if isinstance(obs, tuple) else np.array(obs[place])
