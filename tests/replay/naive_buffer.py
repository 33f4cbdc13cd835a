"""A replay buffer of plain Python lists, and the transitions to fill it and the real one with."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.type_aliases import DictReplayBufferSamples, ReplayBufferSamples
from stable_baselines3.common.vec_env import VecNormalize

from sb3_pgfd.demonstrations import Demonstrations, Episode
from sb3_pgfd.replay import DemoBatch, DemoReplayBuffer
from sb3_pgfd.replay.n_step import Rows
from sb3_pgfd.replay.samples import Draw, TorchObs
from sb3_pgfd.replay.storage import Origin

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
    """
    A buffer of which chosen rows can be read the way that drawn ones are. Tests number the rows that hold a transition
    one behind the other: first those of the demonstration store, then those of the ring.
    """

    picked: Rows | None = None

    @property
    def n_filled(self) -> int:
        """Rows that hold a transition."""
        return self.n_demonstrations + self.n_own

    def indices(self, rows: Any) -> np.ndarray:
        """:return: What :class:`DemoBatch` calls these rows"""
        every = np.concatenate((self.ring.n_rows + self.demonstrations.live_rows, np.arange(self.n_own)))
        return every[np.asarray(rows, dtype=np.int64)]

    def rows(self, indices: np.ndarray) -> np.ndarray:
        """:return: What tests call these rows"""
        in_store = np.searchsorted(self.demonstrations.live_rows, indices - self.ring.n_rows)
        return np.where(indices >= self.ring.n_rows, in_store, indices + self.n_demonstrations)

    def set_priorities(self, rows: Any, errors: Any) -> np.ndarray:
        """:param rows: Which rows; the errors are their priorities if eps_D is 0 and eps is tiny"""
        return self.update_priorities(self.indices(rows), errors)

    def priorities_of(self, rows: Any) -> np.ndarray:
        """:return: p of these rows"""
        return self.priorities[self.indices(rows)]

    def _draw(self, n_batches: int, batch_size: int, demos_only: bool) -> Draw:
        return super()._draw(n_batches, batch_size, demos_only) if self.picked is None else Draw(self.picked, None)

    def read(self, rows: Any, **options: Any) -> DemoBatch:
        """:param rows: Which rows, in this order"""
        back = self._pick(rows)
        batch = self.sample_batch(len(back), **options)
        self.picked = None
        n_returns = batch.rewards.shape[1]

        def reordered(observations: TorchObs, per_row: int) -> Any:
            if isinstance(observations, dict):
                return {key: reordered(value, per_row) for key, value in observations.items()}
            return observations.unflatten(0, (len(back), per_row))[back].flatten(0, 1)

        kept = {name: value for name, value in batch._asdict().items() if value is not None and "observations" not in name}
        others = {name: value[back] for name, value in kept.items()}
        observations = {
            "observations": reordered(batch.observations, 1),
            "next_observations": reordered(batch.next_observations, n_returns),
        }
        return DemoBatch(**others, **observations)

    def read_n_step(self, rows: Any, env: VecNormalize | None = None) -> ReplayBufferSamples | DictReplayBufferSamples:
        """:param rows: Which rows, in this order"""
        back = self._pick(rows)
        samples = self.sample(len(back), env)
        self.picked = None

        def reordered(value: Any) -> Any:
            if value is None:
                # With one step the algorithm takes its own gamma
                return None
            return {key: part[back] for key, part in value.items()} if isinstance(value, dict) else value[back]

        return type(samples)(**{name: reordered(value) for name, value in samples._asdict().items()})

    def _pick(self, rows: Any) -> np.ndarray:
        """:return: Where the rows lie in the batch, which has the demonstrations first"""
        indices = self.indices(rows)
        is_demo = indices >= self.ring.n_rows
        order = np.argsort(~is_demo, kind="stable")
        self.picked = Rows(np.where(is_demo, indices - self.ring.n_rows, indices)[order], int(is_demo.sum()))
        return np.argsort(order)


def one_step(batch: DemoBatch) -> ReplayBufferSamples | DictReplayBufferSamples:
    """:return: The 1-step part of a batch, as SB3 has it"""
    return _returns(batch, 0)


def n_step(batch: DemoBatch) -> ReplayBufferSamples | DictReplayBufferSamples:
    """:return: The n-step part of a batch, as SB3 has it"""
    return _returns(batch, -1)


def _returns(batch: DemoBatch, kind: int) -> ReplayBufferSamples | DictReplayBufferSamples:
    n_returns = batch.rewards.shape[1]

    def of_kind(observations: TorchObs) -> Any:
        if isinstance(observations, dict):
            return {key: of_kind(value) for key, value in observations.items()}
        return observations[kind % n_returns :: n_returns]

    samples: Any = DictReplayBufferSamples if isinstance(batch.observations, dict) else ReplayBufferSamples
    return samples(
        observations=batch.observations,
        actions=batch.actions,
        next_observations=of_kind(batch.next_observations),
        dones=th.as_tensor(batch.terminated[:, kind, None], dtype=th.float32),
        rewards=batch.rewards[:, kind, None],
        discounts=th.as_tensor(batch.discounts[:, kind, None], dtype=th.float32),
    )


def state_buffer(buffer_size: int, **options: Any) -> PickedRows:
    """:param buffer_size: Transitions in the ring; unless told otherwise, a priority is the error that it is made from"""
    options = {"demo_bonus": 0.0, "priority_epsilon": 1e-30, **options}
    return PickedRows(buffer_size, STATE_SPACE, ACTION_SPACE, device="cpu", **options)


def info_of(event: str, success: bool | None, taken: float | None = None, key: str = "is_success") -> dict[str, Any]:
    """What an environment says in a step. None: nothing about success, or nobody took over"""
    info: dict[str, Any] = {"TimeLimit.truncated": True} if event == "u" else {}
    if success is not None:
        info[key] = success
    return info if taken is None else {**info, "intervene_action": np.array([taken])}


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


@dataclass
class Cell:
    """One row of the naive demonstration store."""

    steps: list[Step]
    """The episode, or the part of it, that was kept"""
    place: int
    """Which of its transitions this is"""
    origin: Origin
    priority: float


class NaiveBuffer:
    """
    What a :func:`state_buffer` has to hold, as lists.

    :param n_envs: Number of environments
    :param ring_steps: How many time steps the ring keeps
    :param keep_successes: Whether successful episodes join the demonstrations
    :param max_success: How many of their transitions stay
    """

    def __init__(self, n_envs: int, ring_steps: int, keep_successes: bool = False, max_success: int = 100_000):
        self.n_envs, self.ring_steps = n_envs, ring_steps
        self.keep_successes, self.max_success = keep_successes, max_success
        self.cells: list[Cell | None] = []
        self.successes: list[list[Cell]] = []
        self.max_priority = 1.0
        self.reset()

    def reset(self) -> None:
        self.histories: list[list[Step]] = [[] for _ in range(self.n_envs)]
        self.ring_priorities = [0.0] * (self.ring_steps * self.n_envs)
        # Of the running episodes: what their infos said, and the intervention that is going on
        self.told: list[list[bool]] = [[] for _ in range(self.n_envs)]
        self.taken_over: list[list[Step]] = [[] for _ in range(self.n_envs)]

    def add(
        self, steps: list[Step], successes: list[bool | None] | None = None, taken: list[float | None] | None = None
    ) -> None:
        """
        :param steps: One transition per environment
        :param successes: What the infos say
        :param taken: Actions that were executed in place of the policy's
        """
        place = len(self.histories[0]) % self.ring_steps * self.n_envs
        taken = taken or [None] * self.n_envs
        steps = [step if a is None else step._replace(action=a) for step, a in zip(steps, taken, strict=True)]
        for e, step in enumerate(steps):
            self.histories[e].append(step)
            self.ring_priorities[place + e] = self.max_priority
        for e, step in enumerate(steps):
            self._follow_intervention(e, step, taken[e] is not None)
            self._follow_success(e, step, bool(successes and successes[e]))

    def _follow_intervention(self, e: int, step: Step, intervened: bool) -> None:
        part = self.taken_over[e]
        if part and (not intervened or part[-1].event == "i"):
            # The new step may have overwritten the first
            self.keep(part[max(len(part) - self.ring_steps + 1, 0) :], Origin.INTERVENTION)
            part.clear()
        if intervened:
            part.append(step)
        if part and step.event in "tu":
            self.keep(part[-self.ring_steps :], Origin.INTERVENTION)
            part.clear()

    def _follow_success(self, e: int, step: Step, success: bool) -> None:
        told = self.told[e]
        told.append(success)
        # Not what was a success before anything was done
        if self.keep_successes and step.event in "tu" and success and (len(told) == 1 or not told[0]):
            self.keep(self.last_episode(self.histories[e]), Origin.SUCCESS)
        # A ring of one step has forgotten where the step before ended
        if step.event in "tu" or (step.event == "i" and self.ring_steps > 1):
            told.clear()

    def last_episode(self, history: list[Step]) -> list[Step]:
        """:return: Of one environment, as far as the ring still holds it"""
        episode = [history[-1]]
        for step in history[-2 : -self.ring_steps - 1 : -1]:
            if step.event != "-":
                break
            episode.insert(0, step)
        return episode

    def add_demonstrations(self, episodes: list[list[Step]]) -> None:
        """:param episodes: Each ends with "t" or "u" """
        size = sum(map(len, episodes))
        start = self._place(size)
        for steps in episodes:
            start = self._put(start, steps, Origin.GIVEN)

    def keep(self, steps: list[Step], origin: Origin) -> None:
        """:param steps: Of one environment; the last one ends what is kept"""
        if not steps or (origin is Origin.SUCCESS and len(steps) > self.max_success):
            return
        if origin is Origin.SUCCESS:
            while sum(map(len, self.successes)) + len(steps) > self.max_success:
                oldest = self.successes.pop(0)
                self.cells = [None if any(cell is one for one in oldest) else cell for cell in self.cells]
        last = steps[-1]
        steps = [*steps[:-1], last._replace(event="i" if last.event == "-" else last.event)]
        start = self._place(len(steps))
        self._put(start, steps, origin)
        if origin is Origin.SUCCESS:
            self.successes.append([cell for cell in self.cells[start : start + len(steps)] if cell is not None])

    def _place(self, size: int) -> int:
        """:return: Where so many cells follow each other that are empty or not there yet"""
        places = range(len(self.cells) + 1)
        return next(start for start in places if all(cell is None for cell in self.cells[start : start + size]))

    def _put(self, start: int, steps: list[Step], origin: Origin) -> int:
        self.cells[start : start + len(steps)] = [Cell(steps, k, origin, self.max_priority) for k in range(len(steps))]
        return start + len(steps)

    def update_priorities(self, indices: list[int], priorities: list[float]) -> None:
        """
        :param indices: As a batch has them; a cell may have been emptied since
        :param priorities: One for each
        """
        for index, priority in zip(indices, priorities, strict=True):
            if index < len(self.ring_priorities):
                self.ring_priorities[index] = priority
                continue
            cell = self.cells[index - len(self.ring_priorities)]
            if cell is not None:
                cell.priority = priority
        self.max_priority = max(self.max_priority, *priorities)

    @property
    def live(self) -> list[Cell]:
        """The cells that hold a transition."""
        return [cell for cell in self.cells if cell is not None]

    @property
    def n_own(self) -> int:
        """Transitions in the ring."""
        return min(len(self.histories[0]), self.ring_steps) * self.n_envs

    def rows(self, n_steps: int, gamma: float) -> list[Expected]:
        """:return: What each row that holds a transition must hold, first the demonstrations, then the ring"""
        ring = expected_rows([], self.histories, self.ring_steps, n_steps, gamma)
        kept = [follow(cell.steps, cell.place, n_steps, gamma) for cell in self.live]
        return kept + [ring[row] for row in sorted(ring)]

    @property
    def priorities(self) -> list[float]:
        """Of every row of the ring, then of every row of the demonstration store; 0 where nothing is stored."""
        return self.ring_priorities + [0.0 if cell is None else cell.priority for cell in self.cells]


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
    first, nth = one_step(batch), n_step(batch)
    columns = (
        numbers(first.observations),
        numbers(first.actions),
        numbers(first.rewards),
        numbers(first.next_observations),
        [bool(done) for done in numbers(first.dones)],
        numbers(nth.rewards),
        numbers(nth.next_observations),
        [bool(done) for done in numbers(nth.dones)],
        numbers(nth.discounts),
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
