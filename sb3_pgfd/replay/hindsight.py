"""
Hindsight experience replay (Andrychowicz et al. 2017, arXiv 1707.01495): transitions are replayed as if the goal had been
one that was achieved later in the same episode (section 4.5, strategy "future").

The environment needs what gymnasium-robotics' GoalEnv has: observations with ``achieved_goal`` and ``desired_goal``, a
``compute_reward`` that takes many goals at once and, if an episode is over when its goal is reached,
``compute_terminated``.
"""

from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv

from sb3_pgfd.replay.n_step import NStepWindow, Stores
from sb3_pgfd.replay.samples import DESIRED, Drawn, NewGoals
from sb3_pgfd.replay.storage import next_obs_column

ACHIEVED = "achieved_goal"
_KEYS = ("observation", ACHIEVED, DESIRED)
# Of a row whose episode goes on at the write head
_RUNNING = np.iinfo(np.int32).max


def check_goal_environment(observation_space: spaces.Space, env: Any) -> None:
    """
    :param observation_space: The buffer's
    :param env: What rewards are to be computed with
    :raises ValueError: If goals cannot be replaced
    """
    keys = list(observation_space.spaces) if isinstance(observation_space, spaces.Dict) else []
    if not isinstance(observation_space, spaces.Dict) or not set(_KEYS) <= set(keys):
        found = f"a Dict with {keys}" if keys else str(observation_space)
        raise ValueError(f"her_ratio > 0: found the observation space {found}, expected a Dict with {', '.join(_KEYS)}")
    achieved, desired = (observation_space[key].shape for key in (ACHIEVED, DESIRED))
    if achieved != desired:
        raise ValueError(f"her_ratio > 0: found achieved goals of shape {achieved}, expected {desired} like desired goals")
    if not isinstance(env, VecEnv):
        raise ValueError(
            f"her_ratio > 0: found env={env}, expected the VecEnv that is learned from: its compute_reward gives the "
            "rewards of replaced goals. SB3's own algorithms take it in replay_buffer_kwargs"
        )
    if not env.has_attr("compute_reward"):
        raise ValueError("her_ratio > 0: found an environment without compute_reward, expected one, see gymnasium-robotics")


class GoalRewards:
    """
    Rewards and terminations of a goal environment for goals that it was not given.

    :param env: Its first environment is asked; all of them are alike
    """

    def __init__(self, env: VecEnv):
        self._env = env
        self._asked_for_termination = False
        self._terminal_reward: float | None = None
        # Making a thousand of them each time would cost more than all the rest
        self._empty_infos: list[dict[str, Any]] = []

    def rewards(self, achieved: np.ndarray, desired: np.ndarray) -> np.ndarray:
        """
        :param achieved: Goals achieved, shape ``(n, *goal_shape)``
        :param desired: Goals to achieve, likewise
        :return: Shape ``(n,)``, float32, as rewards are stored
        :raises ValueError: If the environment computes one reward at a time
        """
        n_missing = len(achieved) - len(self._empty_infos)
        self._empty_infos += [{} for _ in range(n_missing)]
        # Empty, as SB3's HerReplayBuffer passes them unless told to keep every info
        infos = self._empty_infos[: len(achieved)]
        rewards = np.asarray(self._env.env_method("compute_reward", achieved, desired, infos, indices=[0])[0])
        if any(infos):
            self._empty_infos = []
        if rewards.shape != (len(achieved),):
            raise ValueError(
                f"compute_reward: found shape {rewards.shape} for {len(achieved)} goals, expected {(len(achieved),)}: "
                "her_ratio > 0 needs a compute_reward that takes many goals at once, as SB3's HerReplayBuffer does"
            )
        return rewards.astype(np.float32)

    def terminal_reward(self, goal: np.ndarray) -> float | None:
        """
        A goal counts as reached where the reward is that of a goal reached exactly, which is right for sparse rewards.
        The environment cannot be asked: gymnasium-robotics' mazes compute one termination at a time.

        :param goal: Any goal, shape ``(*goal_shape,)``
        :return: The reward from which on a goal is reached and the episode is over; None if it goes on
        :raises ValueError: If the environment runs in a process of its own and asking ends it
        """
        if not self._asked_for_termination:
            if self._terminates_at(goal):
                self._terminal_reward = float(self.rewards(goal[None], goal[None])[0])
            self._asked_for_termination = True
        return self._terminal_reward

    def _terminates_at(self, goal: np.ndarray) -> bool:
        if not self._env.has_attr("compute_terminated"):
            return False
        try:
            return bool(self._env.env_method("compute_terminated", goal, goal, {}, indices=[0])[0])
        except NotImplementedError:
            # gymnasium-robotics' GoalEnv has the method and leaves it to the environment
            return False
        except EOFError as error:
            raise ValueError(
                "compute_terminated: found that it ended the environment's process, whose error is above, expected an answer: "
                "an environment of SubprocVecEnv has to implement it, and to return False if episodes go on at their goal"
            ) from error


def goal_rewards(her_ratio: float, observation_space: spaces.Space, env: VecEnv | None) -> GoalRewards | None:
    """
    :param her_ratio: Share of transitions whose goal is to be replaced
    :param observation_space: The buffer's
    :param env: What rewards are to be computed with
    :raises ValueError: If goals are to be replaced and cannot be
    """
    if her_ratio > 0.0:
        check_goal_environment(observation_space, env)
    return None if env is None else GoalRewards(env)


class RingEpisodeEnds:
    """
    How many transitions of its own episode follow each row of the ring. Reading takes O(1) per row. A step of the
    environments takes O(1) too on average: the rows of an episode are written once, when the first step after it is
    stored, because only then is it known whether the episode was interrupted.

    :param both: With the ring
    :param n_steps: Steps of all environments that the ring holds
    """

    def __init__(self, both: Stores, n_steps: int):
        self._following = np.full(both.n_ring_rows, _RUNNING, dtype=np.int32)
        ring = both.ring_rows(n_steps)
        ended = both.ring["ended"][ring]
        places = np.arange(n_steps, dtype=np.int32)
        ends = np.where(ended, places, _RUNNING)[:, ::-1]
        next_end = np.minimum.accumulate(ends, axis=1)[:, ::-1]
        self._following[ring] = np.where(next_end == _RUNNING, _RUNNING, next_end - places)
        # Rows of each environment's running episode, shape (n_envs,)
        self._n_running = (self._following[ring] == _RUNNING).sum(axis=1)

    @property
    def nbytes(self) -> int:
        """Memory in bytes."""
        return self._following.nbytes

    def add_step(self, both: Stores) -> None:
        """:param both: With a new step of all environments at the head; ``ended`` of the step before it is final"""
        previous = both.step_rows(back=1)
        for env in np.flatnonzero(both.ring["ended"][previous]):
            back = np.arange(self._n_running[env])
            self._following[(previous[env] - back * both.n_envs) % both.n_ring_rows] = back
            self._n_running[env] = 0
        self._following[both.step_rows(back=0)] = _RUNNING
        self._n_running = np.minimum(self._n_running + 1, both.n_ring_rows // both.n_envs)

    def steps_left(self, rows: np.ndarray, n_demos: int, both: Stores) -> np.ndarray:
        """
        :param rows: Rows that hold a transition, shape ``(m,)``
        :param n_demos: The first so many are rows of the demonstration store
        :param both: Where they lie
        :return: How many stored transitions of the same episode follow each, shape ``(m,)``
        """
        left = np.concatenate((both.demonstrations["steps_left"].take(rows[:n_demos]), self._following.take(rows[n_demos:])))
        return both.up_to_head(rows, n_demos, left)


def relabel(drawn: Drawn, her_ratio: float, both: Stores, ends: RingEpisodeEnds, rewards: GoalRewards | None) -> Drawn:
    """
    Replace the goals of some transitions, the agent's and the demonstrations' alike.

    :param drawn: As stored
    :param her_ratio: Share of them
    :param both: Where they lie
    :param ends: Where the episodes of the ring end
    :param rewards: The environment's
    :return: The same rows under the new goals
    :raises ValueError: If there is no environment
    """
    if rewards is None:
        raise ValueError(
            f"sample: found no environment, expected one for her_ratio={her_ratio}: it computes the rewards of new goals "
            "and is not saved with the buffer. Give it back with set_env(env)"
        )
    n_drawn = len(drawn.rows)
    # In rising order the demonstrations come first here, too
    places = np.sort(np.random.permutation(n_drawn)[: round(her_ratio * n_drawn)])
    if len(places) == 0:
        return drawn
    rows, n_demos = drawn.rows[places], int(places.searchsorted(drawn.n_demos))
    # Inclusive, like SB3's: the goal may be what the transition itself achieved
    steps_ahead = np.random.randint(0, ends.steps_left(rows, n_demos, both) + 1)
    goals = both.take(next_obs_column(ACHIEVED), both.following(rows, n_demos, steps_ahead), n_demos)
    return with_goals(drawn, NewGoals(places, goals), both, rewards)


def with_goals(drawn: Drawn, new_goals: NewGoals, both: Stores, rewards: GoalRewards) -> Drawn:
    """
    :param drawn: As stored
    :param new_goals: Goals for some of them, at least one
    :param both: Where they lie
    :param rewards: The environment's
    :return: The same rows with the rewards, the ends and the terminations that the new goals give
    """
    places, goals = new_goals
    window, n_demos = drawn.window, int(places.searchsorted(drawn.n_demos))
    included = window.included[places]  # (m, n_steps)
    achieved = both.take(next_obs_column(ACHIEVED), window.rows[places], n_demos)[included]
    new_rewards = np.zeros(included.shape, dtype=np.float32)
    new_rewards[included] = rewards.rewards(achieved, goals.repeat(window.lengths[places], axis=0))
    relabelled = drawn._replace(rewards=_replaced(drawn.rewards, places, new_rewards), new_goals=new_goals)
    terminal_reward = rewards.terminal_reward(goals[0])
    if terminal_reward is None:
        return relabelled
    return _end_at_goals(relabelled, included & (new_rewards >= terminal_reward), terminal_reward, both)


def _end_at_goals(relabelled: Drawn, reached: np.ndarray, terminal_reward: float, both: Stores) -> Drawn:
    """
    :param relabelled: With new goals and their rewards
    :param reached: Whether a relabelled window's transitions reach the new goal, shape ``(m, n_steps)``, bool
    :param terminal_reward: Reward from which on a goal is reached
    :param both: Where the rows lie
    """
    assert relabelled.new_goals is not None
    places, window = relabelled.new_goals.places, relabelled.window
    n_demos = int(places.searchsorted(relabelled.n_demos))
    ends_at = np.where(reached.any(axis=1), reached.argmax(axis=1), window.lengths[places] - 1)  # (m,)
    lengths = _replaced(window.lengths, places, ends_at + 1)
    last_rows = _replaced(window.last_rows, places, window.rows[places, ends_at])
    included = np.arange(window.rows.shape[1]) < lengths[:, None]
    # An episode that ended by reaching the old goal does not end under the new one; one that ended otherwise does
    rows = np.stack((relabelled.rows[places], last_rows[places]), axis=1)
    stored_rewards = both.take("rewards", rows, n_demos)
    failed = both.take("terminated", rows, n_demos) & (stored_rewards < terminal_reward)
    arrived = np.stack((reached[:, 0], reached[np.arange(len(places)), ends_at]), axis=1)
    terminated = _replaced(relabelled.terminated, places, failed | arrived)
    return relabelled._replace(window=NStepWindow(window.rows, included, lengths, last_rows), terminated=terminated)


def _replaced(array: np.ndarray, places: np.ndarray, values: np.ndarray) -> np.ndarray:
    copy = array.copy()
    copy[places] = values
    return copy
