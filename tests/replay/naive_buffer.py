"""A replay buffer of plain Python lists, and the transitions to fill it and the real one with."""

from typing import Any, NamedTuple

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.type_aliases import DictReplayBufferSamples, ReplayBufferSamples
from stable_baselines3.common.vec_env import VecNormalize

from sb3_pgfd.demonstrations import Demonstrations, Episode
from sb3_pgfd.replay import DemoBatch, DemoReplayBuffer

STATE_SPACE = spaces.Box(-np.inf, np.inf, (1,), np.float32)
ACTION_SPACE = spaces.Box(-1.0, 1.0, (1,), np.float32)


class Step(NamedTuple):
    """One transition of one environment. The event is one of: "-" the episode goes on, "t" terminated, "u" truncated,
    "i" interrupted, which no flag tells: the next transition just starts in another state."""

    obs: float
    action: float
    reward: float
    next_obs: float
    event: str

    @classmethod
    def numbered(cls, place: int, event: str, offset: int = 0) -> "Step":
        """
        The state is the place itself, the next state lies 1 further. The last state of an episode lies another half
        further, so that it cannot be taken for the first of the next episode.

        :param place: Number of the transition
        :param event: What happened after it
        :param offset: Added to the states
        """
        state = float(offset + place)
        next_state = state + (1.0 if event == "-" else 1.5)
        return cls(state, (5 * place % 9 - 4) / 4, float(7 * place % 11 - 5), next_state, event)


class Expected(NamedTuple):
    """What has to be read from one row."""

    obs: float
    action: float
    reward: float
    next_obs: float
    terminated: bool
    n_step_return: float
    n_step_next_obs: float
    n_step_terminated: bool
    discount: float


def follow(steps: list[Step], start: int, n_steps: int, gamma: float) -> Expected:
    """
    :param steps: The transitions of one environment, or of one demonstration
    :param start: Which to begin with
    :param n_steps: n
    :param gamma: Discount factor
    """
    total, discount, first = 0.0, 1.0, steps[start]
    for last in steps[start : start + n_steps]:
        total += discount * last.reward
        discount *= gamma
        if last.event != "-":
            break
    one_step = (first.obs, first.action, first.reward, first.next_obs, first.event == "t")
    return Expected(*one_step, total, last.next_obs, last.event == "t", discount)


def demonstrations(episodes: list[list[Step]]) -> Demonstrations:
    """:param episodes: Each ends with "t" or "u" """
    return Demonstrations.from_episodes(
        [
            Episode(
                observations=np.array([[step.obs] for step in steps] + [[steps[-1].next_obs]], dtype=np.float32),
                actions=np.array([[step.action] for step in steps], dtype=np.float32),
                rewards=np.array([step.reward for step in steps]),
                terminated=steps[-1].event == "t",
            )
            for steps in episodes
        ]
    )


class PickedRows(DemoReplayBuffer):
    """A buffer of which chosen rows can be read the way that drawn ones are."""

    rows: np.ndarray | None = None

    def _draw(self, batch_size: int, demos_only: bool) -> np.ndarray:
        return super()._draw(batch_size, demos_only) if self.rows is None else self.rows

    def read(self, rows: Any, **options: Any) -> DemoBatch:
        """:param rows: Which rows, in this order"""
        self.rows = np.asarray(rows, dtype=np.int64)
        batch = self.sample_batch(len(self.rows), **options)
        self.rows = None
        return batch

    def read_n_step(self, rows: Any, env: VecNormalize | None = None) -> ReplayBufferSamples | DictReplayBufferSamples:
        """:param rows: Which rows, in this order"""
        self.rows = np.asarray(rows, dtype=np.int64)
        samples = self.sample(len(self.rows), env)
        self.rows = None
        return samples


def state_buffer(buffer_size: int, **options: Any) -> PickedRows:
    """:param buffer_size: Transitions in the ring"""
    return PickedRows(buffer_size, STATE_SPACE, ACTION_SPACE, device="cpu", **options)


def add_steps(buffer: ReplayBuffer, steps: list[Step], infos: list[dict[str, Any]] | None = None) -> None:
    """
    :param buffer: Where to
    :param steps: One transition per environment
    :param infos: Likewise; None: they tell of time limits alone
    """
    if infos is None:
        infos = [{"TimeLimit.truncated": True} if step.event == "u" else {} for step in steps]
    buffer.add(
        obs=np.array([[step.obs] for step in steps], dtype=np.float32),
        next_obs=np.array([[step.next_obs] for step in steps], dtype=np.float32),
        action=np.array([[step.action] for step in steps], dtype=np.float32),
        reward=np.array([step.reward for step in steps]),
        done=np.array([step.event in "tu" for step in steps]),
        infos=infos,
    )


def play(buffer: ReplayBuffer, *events: str, rewards: list[float] | None = None) -> list[list[Step]]:
    """
    Add transitions. Environment e is in state 100 e + t at time t.

    :param buffer: Where to
    :param events: One line per environment, one letter per time step
    :param rewards: Of the time steps, the same for all environments
    :return: The transitions of each environment
    """
    histories = [[Step.numbered(t, event, 100 * e) for t, event in enumerate(line)] for e, line in enumerate(events)]
    if rewards is not None:
        histories = [[s._replace(reward=r) for s, r in zip(steps, rewards, strict=True)] for steps in histories]
    for steps in zip(*histories, strict=True):
        add_steps(buffer, list(steps))
    return histories


def expected_rows(
    episodes: list[list[Step]], histories: list[list[Step]], ring_steps: int, n_steps: int, gamma: float
) -> dict[int, Expected]:
    """
    :param episodes: The demonstrations
    :param histories: Everything that each environment did so far
    :param ring_steps: How many time steps the ring keeps
    :param n_steps: n
    :param gamma: Discount factor
    :return: What each filled row of the buffer must hold
    """
    rows = [follow(steps, k, n_steps, gamma) for steps in episodes for k in range(len(steps))]
    expected = dict(enumerate(rows))
    for e, steps in enumerate(histories):
        for t in range(max(len(steps) - ring_steps, 0), len(steps)):
            expected[len(rows) + t % ring_steps * len(histories) + e] = follow(steps, t, n_steps, gamma)
    return expected


class NaiveBuffer:
    """
    What a :func:`state_buffer` has to hold, as lists.

    :param n_envs: Number of environments
    :param ring_steps: How many time steps the ring keeps
    """

    def __init__(self, n_envs: int, ring_steps: int):
        self.n_envs, self.ring_steps = n_envs, ring_steps
        self.episodes: list[list[Step]] = []
        self.demo_priorities: list[float] = []
        self.max_priority = 1.0
        self.reset()

    def reset(self) -> None:
        self.histories: list[list[Step]] = [[] for _ in range(self.n_envs)]
        self.ring_priorities = [0.0] * (self.ring_steps * self.n_envs)

    def add(self, steps: list[Step]) -> None:
        """:param steps: One transition per environment"""
        place = len(self.histories[0]) % self.ring_steps * self.n_envs
        for e, step in enumerate(steps):
            self.histories[e].append(step)
            self.ring_priorities[place + e] = self.max_priority

    def add_demonstrations(self, episodes: list[list[Step]]) -> None:
        """:param episodes: Each ends with "t" or "u" """
        self.episodes = self.episodes + episodes
        self.demo_priorities += [self.max_priority for steps in episodes for _ in steps]

    def update_priorities(self, rows: list[int], priorities: list[float]) -> None:
        """
        :param rows: Rows that hold a transition
        :param priorities: One for each
        """
        for row, priority in zip(rows, priorities, strict=True):
            ring_row = row - len(self.demo_priorities)
            if ring_row < 0:
                self.demo_priorities[row] = priority
            else:
                self.ring_priorities[ring_row] = priority
        self.max_priority = max(self.max_priority, *priorities)

    def rows(self, n_steps: int, gamma: float) -> dict[int, Expected]:
        """:return: What each filled row must hold, see :func:`expected_rows`"""
        return expected_rows(self.episodes, self.histories, self.ring_steps, n_steps, gamma)

    @property
    def priorities(self) -> list[float]:
        """Of every row, filled or not."""
        return self.demo_priorities + self.ring_priorities


def box(observations: th.Tensor | dict[str, th.Tensor]) -> th.Tensor:
    """:param observations: Those of a Box space"""
    assert isinstance(observations, th.Tensor)
    return observations


def numbers(tensor: th.Tensor | dict[str, th.Tensor] | None) -> list[float]:
    """:param tensor: One number per row"""
    assert isinstance(tensor, th.Tensor)
    assert tensor.shape[1:] == (1,)
    return tensor.flatten().tolist()


def as_expected(batch: DemoBatch) -> list[Expected]:
    """:param batch: Transitions of a :func:`state_buffer`"""
    one_step, n_step = batch.one_step, batch.n_step
    columns = (
        numbers(one_step.observations),
        numbers(one_step.actions),
        numbers(one_step.rewards),
        numbers(one_step.next_observations),
        [bool(done) for done in numbers(one_step.dones)],
        numbers(n_step.rewards),
        numbers(n_step.next_observations),
        [bool(done) for done in numbers(n_step.dones)],
        numbers(n_step.discounts),
    )
    return [Expected(*values) for values in zip(*columns, strict=True)]


# States of demonstrations start here, far from those of the agent
DEMO_STATE = 10_000


def demo_steps(*events: str, first: int = 0) -> list[list[Step]]:
    """
    One episode per line of events; the last event ends it.

    :param events: Of each episode
    :param first: Number of the first transition
    """
    starts = np.cumsum([first, *map(len, events)])[:-1]
    return [
        [Step.numbered(int(start) + t, event, DEMO_STATE) for t, event in enumerate(line)]
        for start, line in zip(starts, events, strict=True)
    ]


def five_demos() -> Demonstrations:
    return demonstrations(demo_steps("--t", "-u"))


def single_episode(observations: Any, actions: Any, terminated: bool = True) -> Demonstrations:
    episode = Episode(observations, np.asarray(actions), np.arange(len(actions), dtype=np.float32), terminated)
    return Demonstrations.from_episodes([episode])


def fill_like(buffer: DemoReplayBuffer, n_steps: int) -> None:
    """Add random transitions of the buffer's spaces."""
    space = buffer.observation_space
    for seed in range(n_steps):
        space.seed(seed)
        samples = [space.sample() for _ in range(buffer.n_envs)]
        if isinstance(space, spaces.Dict):
            obs: Any = {key: np.stack([sample[key] for sample in samples]) for key in space.spaces}
        else:
            obs = np.stack(samples)
        action = np.stack([buffer.action_space.sample() for _ in range(buffer.n_envs)])
        reward, done = np.ones(buffer.n_envs), np.zeros(buffer.n_envs, dtype=bool)
        buffer.add(obs, obs, action, reward, done, [{} for _ in range(buffer.n_envs)])
