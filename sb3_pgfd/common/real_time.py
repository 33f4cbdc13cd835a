"""Environments that do not wait for the learner: a thread steps them at a fixed rate with a copy of the policy."""

import queue
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from copy import copy, deepcopy
from typing import Any, NamedTuple, Protocol

import gymnasium as gym
import numpy as np
import torch as th
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecEnvWrapper, VecNormalize, VecTransposeImage

from sb3_pgfd.common.metrics import MeanMetrics
from sb3_pgfd.utils.checks import is_number

# How long to wait for a step before looking whether the thread has ended, in seconds
_PATIENCE = 0.2


class Choice(NamedTuple):
    """What a policy chose for one step of all environments."""

    actions: np.ndarray
    """In environment units"""
    stored: np.ndarray
    """As the buffer stores them"""
    without_noise: np.ndarray | None
    """As the buffer stores them, if the algorithm needs them"""
    means: dict[str, float]
    """What to log the means of"""


class Step(NamedTuple):
    """A step that was made, for the learner."""

    choice: Choice
    result: Any
    """As a ``VecEnv`` returns it"""


class Act(Protocol):
    """A policy that acts in a thread."""

    def __call__(self, observations: Any, ended: np.ndarray) -> Choice:
        """
        :param observations: As the environment gives them
        :param ended: Whether the step before ended an episode, of each environment
        """


class Punctuality:
    """
    How late steps were. It is of its process, and not saved with a training state.

    :param period: Seconds from step to step
    :param tolerance: Seconds; what is later is a missed deadline
    """

    def __init__(self, period: float, tolerance: float):
        self.period, self.tolerance = period, tolerance
        self.lateness: list[float] = []
        """Seconds from when each step was due to when its action was sent; not of an episode's first step"""
        self.n_missed, self.n_steps = 0, 0
        self._worst = 0.0

    def __reduce__(self) -> str:
        raise TypeError("it is of its process")

    def add(self, lateness: float) -> bool:
        """:return: Whether a step that came so late missed its deadline"""
        is_missed = lateness > self.tolerance
        self.n_missed += is_missed
        self.lateness.append(lateness)
        self._worst = max(self._worst, lateness)
        return is_missed

    def worst(self) -> float:
        """:return: The largest lateness since the last call, in seconds"""
        worst, self._worst = self._worst, 0.0
        return worst

    def __str__(self) -> str:
        text = f"{1 / self.period:g} Hz: {self.n_steps:,} steps"
        if not self.lateness:
            return text
        median, high, most = (1e3 * value for value in np.quantile(self.lateness, [0.5, 0.99, 1.0]))
        share = self.n_missed / len(self.lateness)
        missed = f"{self.n_missed:,} missed deadlines ({share:.1%} later than {1e3 * self.tolerance:.0f} ms)"
        return f"{text}, {missed}; late by {median:.1f} ms (median), {high:.1f} ms (99 %), {most:.1f} ms (largest)"


class RealTime(VecEnvWrapper):
    """
    Steps environments at a fixed rate. A model of this package that learns in it acts in a thread with a copy of its policy,
    while it updates; a step never waits for an update. The learner takes the steps in their order, and all that have come
    before it updates again, so with slow updates there are fewer of them. With anything else it only sets the pace.

    Only ``VecNormalize`` and ``VecTransposeImage`` may be around it; put all other wrappers inside. Which policy chose an
    action depends on the machine's speed, so two runs are never the same, and a training state does not hold the running
    episodes: they are cut when it is resumed. Callbacks see each step when the learner takes it. Use
    ``torch.set_num_threads(1)`` unless cores are free besides the environment's.

    :param env: A ``VecEnv``, or one environment. It is reset, stepped and closed by one thread
    :param control_hz: Steps per second
    :param tolerance: Seconds; a step whose action is sent later than that has missed its deadline. None: a fifth of a period
    """

    def __init__(self, env: VecEnv | gym.Env, control_hz: float, tolerance: float | None = None):
        if not (is_number(control_hz, 0.0) and control_hz > 0.0):
            raise ValueError(f"control_hz: found {control_hz!r}, expected a number of steps per second above 0")
        if tolerance is not None and not is_number(tolerance, 0.0):
            raise ValueError(f"tolerance: found {tolerance!r}, expected a number of seconds, or None")
        # The base asks the environment already
        self._lock, self._stop = threading.Lock(), threading.Event()
        super().__init__(env if isinstance(env, VecEnv) else DummyVecEnv([lambda: Monitor(env)]))
        period = 1.0 / control_hz
        self.punctuality = Punctuality(period, period / 5 if tolerance is None else tolerance)
        # One thread for all: a window's events must be read by the thread that opened it
        self._thread = ThreadPoolExecutor(1, "environment")
        self._is_closed = False
        self._steps: queue.SimpleQueue[Step] = queue.SimpleQueue()
        self._acting: Future[None] | None = None
        self._act_by: Act
        self._ended = np.zeros(self.num_envs, dtype=bool)
        self._due: float | None = None
        self._actions: Any = None
        self._taken: Step | None = None
        self._newest: Any = None

    @property
    def is_acting(self) -> bool:
        """Whether a policy acts in the thread"""
        return self._acting is not None

    @property
    def n_waiting(self) -> int:
        """Steps that the learner has not taken yet"""
        return self._steps.qsize()

    def begin(self, act: Act, n_steps: int) -> None:
        """
        Act in the thread, from the last observation on.

        :param n_steps: How many steps; :meth:`end` ends it earlier, and :meth:`take` makes more if it needs them
        """
        self._stop.clear()
        self._due = None
        self._act_by, self._ended = act, np.zeros(self.num_envs, dtype=bool)
        self._acting = self._thread.submit(self._act, n_steps)

    def end(self) -> None:
        """Wait until the running step is made, and make no more. Steps that wait stay for the next learner."""
        if self._acting is not None:
            self._stop.set()
            wait([self._acting])
            self._acting = None

    def take(self) -> Choice:
        """
        A rollout may end behind the last step that was asked for: with its episode, or with its last environment.

        :return: What the policy chose for the next step, whose result ``step()`` returns. It waits until it is made
        """
        while True:
            try:
                self._taken = self._steps.get(timeout=_PATIENCE)
            except queue.Empty:
                assert self._acting is not None, "there is a step, or the thread acts"
                if self._acting.done() and self._steps.empty():
                    # Raises what ended the thread
                    self._acting.result()
                    self._acting = self._thread.submit(self._act, 1)
            else:
                return self._taken.choice

    def _act(self, n_steps: int) -> None:
        for _ in range(n_steps):
            choice = self._act_by(self._newest, self._ended)
            if self._stop.is_set():
                return
            result = self._step(choice.actions)
            self._ended = result[2]
            self._steps.put(Step(choice, result))

    def _step(self, actions: np.ndarray) -> Any:
        """:return: The result of a step that is made when it is due"""
        punctuality = self.punctuality
        if self._due is not None:
            time.sleep(max(0.0, self._due - time.perf_counter()))
        now = time.perf_counter()
        # After a missed deadline the next period begins late: the steps in between are not made up for
        is_missed = self._due is not None and punctuality.add(now - self._due)
        begin = now if self._due is None or is_missed else self._due
        with self._lock:
            result = self.venv.step(actions)
        punctuality.n_steps += 1
        # Driving back to the start takes its time
        self._due = None if result[2].any() else begin + punctuality.period
        self._newest = result[0]
        return result

    def reset(self) -> Any:
        """cf ``VecEnv``. Steps that wait are dropped with their episodes."""
        assert not self.is_acting, "a policy acts in these environments"
        while not self._steps.empty():
            self._steps.get()
        self._due = None
        self._newest = self._thread.submit(self.venv.reset).result()
        return self._newest

    def step_async(self, actions: np.ndarray) -> None:
        """cf ``VecEnv``."""
        self._actions = actions

    def step_wait(self) -> Any:
        """cf ``VecEnv``. After :meth:`take` it is the step that was taken."""
        taken, self._taken = self._taken, None
        if taken is not None:
            return taken.result
        assert not self.is_acting, "a policy acts in these environments"
        return self._thread.submit(self._step, self._actions).result()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """cf ``VecEnv``. It waits for a running step, like all that follow."""
        with self._lock:
            return self.venv.get_attr(attr_name, indices)

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """cf ``VecEnv``."""
        with self._lock:
            self.venv.set_attr(attr_name, value, indices)

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        """cf ``VecEnv``."""
        with self._lock:
            return self.venv.env_method(method_name, *args, indices=indices, **kwargs)

    def close(self) -> None:
        """cf ``VecEnv``. A second call does nothing."""
        if self._is_closed:
            return
        self._is_closed = True
        self.end()
        self._thread.submit(self.venv.close).result()
        self._thread.shutdown()


def real_time_of(env: VecEnv | None) -> RealTime | None:
    """
    :return: The wrapper that sets the pace, if there is one
    :raises ValueError: If another wrapper is around it, which cannot be asked what the policy would see
    """
    outer: list[VecEnvWrapper] = []
    while isinstance(env, VecEnvWrapper):
        if isinstance(env, RealTime):
            others = [type(one).__name__ for one in outer if not isinstance(one, VecNormalize | VecTransposeImage)]
            if others:
                raise ValueError(
                    f"env: found {others[0]} around RealTime, expected VecNormalize and VecTransposeImage alone: put "
                    f"it inside, RealTime({others[0]}(...), control_hz)"
                )
            return env
        outer.append(env)
        env = env.venv
    return None


class PolicyCopy:
    """
    Acts like a model, with a copy of its policy that changes only in :meth:`update`.

    :param model: An ``OffPolicyAlgorithm`` in a :class:`RealTime` environment
    :param env: That wrapper
    """

    def __init__(self, model: Any, env: RealTime):
        self.env = env
        # Shallow: all else is the model's own
        self._model = copy(model)
        # At once, because other names are parts of the policy
        vars(self._model).update(deepcopy({name: one for name, one in vars(model).items() if isinstance(one, th.nn.Module)}))
        self._model.policy.set_training_mode(False)
        self._model.action_noise = deepcopy(model.action_noise)
        self._model._rollout_metrics = MeanMetrics()
        self._model._policy_copy = None
        # Steps that wait were made, and not counted by the learner yet
        self._model.num_timesteps += env.n_waiting * model.n_envs
        self._wrappers = list(_around(model.env))
        self._lock = threading.Lock()
        self._acting, self._learned = _tensors(self._model.policy), _tensors(model.policy)

    def update(self, model: Any) -> None:
        """:param model: Whose policy acts from now on"""
        with self._lock, th.no_grad():
            th._foreach_copy_(self._acting, self._learned)
            self._model._n_updates = model._n_updates

    def __call__(self, observations: Any, ended: np.ndarray) -> Choice:
        """cf :class:`Act`."""
        model = self._model
        for index in np.flatnonzero(ended).tolist() if model.action_noise is not None else ():
            model.action_noise.reset(**({"indices": [index]} if model.n_envs > 1 else {}))
        model._last_obs = observations
        for wrapper in self._wrappers:
            transform = wrapper.normalize_obs if isinstance(wrapper, VecNormalize) else wrapper.transpose_observations
            model._last_obs = transform(model._last_obs)
        with self._lock:
            actions, stored = model._sample_action(model.learning_starts, model.action_noise, model.n_envs)
        model.num_timesteps += model.n_envs
        return Choice(actions, stored, vars(model).get("_policy_actions"), model._rollout_metrics.flush())


def _around(env: Any) -> Sequence[Any]:
    """:return: The wrappers around :class:`RealTime`, the innermost first"""
    found: list[Any] = []
    while not isinstance(env, RealTime):
        found.insert(0, env)
        env = env.venv
    return found


def _tensors(policy: th.nn.Module) -> list[th.Tensor]:
    return [*policy.parameters(), *policy.buffers()]
