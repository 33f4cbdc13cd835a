"""
Hindsight experience replay (Andrychowicz et al. 2017, arXiv 1707.01495): transitions are replayed as if the goal had been
one that was achieved later in the same episode (section 4.5, strategy "future").

It needs what gymnasium-robotics' GoalEnv has: observations with ``achieved_goal`` and ``desired_goal``, ``compute_reward``
for many goals at once and, if an episode is over when its goal is reached, ``compute_terminated`` to say so.
"""

from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv

from sb3_pgfd.replay.drawn import Drawn, NewGoals
from sb3_pgfd.replay.episode_ends import EpisodeEnds
from sb3_pgfd.replay.n_step import NStepWindow, RowLayout
from sb3_pgfd.replay.storage import TransitionStorage

ACHIEVED, DESIRED = "achieved_goal", "desired_goal"
_KEYS = ("observation", ACHIEVED, DESIRED)


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
    What a goal environment says about goals it was not asked for.

    :param env: All its environments are alike, the first one is asked
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
        Environments cannot be asked for many terminations at once (gymnasium-robotics' mazes compute one), so a goal
        counts as reached where the reward is that of a goal reached exactly, which is right for sparse rewards.

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


def relabel(
    drawn: Drawn,
    her_ratio: float,
    storage: TransitionStorage,
    ends: EpisodeEnds,
    layout: RowLayout,
    rewards: GoalRewards | None,
) -> Drawn:
    """
    Replace the goals of some transitions, the agent's and the demonstrations' alike.

    :param drawn: As stored
    :param her_ratio: Share of them
    :param storage: Where they lie
    :param ends: Where their episodes end
    :param layout: Where successors lie
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
    places = np.random.permutation(n_drawn)[: round(her_ratio * n_drawn)]
    rows = drawn.rows[places]
    # Inclusive, like SB3's: the goal may be what the transition itself achieved
    steps_ahead = np.random.randint(0, ends.steps_left(rows, layout) + 1)
    goals = storage.next_observations[ACHIEVED].take(layout.following(rows, steps_ahead), axis=0)
    return with_goals(drawn, NewGoals(places, goals, n_drawn), storage, rewards)


def with_goals(drawn: Drawn, new_goals: NewGoals, storage: TransitionStorage, rewards: GoalRewards) -> Drawn:
    """
    :param drawn: As stored
    :param new_goals: Goals for some of them
    :param storage: Where they lie
    :param rewards: The environment's
    :return: The same rows with the rewards, the ends and the terminations that the new goals give
    """
    places, goals = new_goals.places, new_goals.goals
    if len(places) == 0:
        return drawn
    window = drawn.window
    included = window.included[places]  # (m, n_steps)
    achieved = storage.next_observations[ACHIEVED].take(window.rows[places][included], axis=0)
    new_rewards = np.zeros(included.shape, dtype=np.float32)
    new_rewards[included] = rewards.rewards(achieved, goals.repeat(window.lengths[places], axis=0))
    relabelled = drawn._replace(rewards=_replaced(drawn.rewards, places, new_rewards), new_goals=new_goals)
    terminal_reward = rewards.terminal_reward(goals[0])
    if terminal_reward is None:
        return relabelled
    return _end_at_goals(relabelled, included & (new_rewards >= terminal_reward), terminal_reward, storage)


def _end_at_goals(relabelled: Drawn, reached: np.ndarray, terminal_reward: float, storage: TransitionStorage) -> Drawn:
    """
    :param relabelled: With new goals and their rewards
    :param reached: Whether a relabelled window's transitions reach the new goal, shape ``(m, n_steps)``, bool
    :param terminal_reward: Reward from which on a goal is reached
    :param storage: Where the rows lie
    """
    assert relabelled.new_goals is not None
    places, window, n_drawn = relabelled.new_goals.places, relabelled.window, len(relabelled.rows)
    ends_at = np.where(reached.any(axis=1), reached.argmax(axis=1), window.lengths[places] - 1)  # (m,)
    lengths = _replaced(window.lengths, places, ends_at + 1)
    last_rows = _replaced(window.last_rows, places, window.rows[places, ends_at])
    included = np.arange(window.rows.shape[1]) < lengths[:, None]
    # What ended an episode by reaching the old goal does not end it under the new one; what did otherwise still does
    rows = np.concatenate((relabelled.rows[places], last_rows[places]))
    failed = storage.terminated.take(rows) & (storage.rewards.take(rows) < terminal_reward)
    arrived = np.concatenate((reached[:, 0], reached[np.arange(len(places)), ends_at]))
    terminated = _replaced(relabelled.terminated, np.concatenate((places, n_drawn + places)), failed | arrived)
    return relabelled._replace(window=NStepWindow(window.rows, included, lengths, last_rows), terminated=terminated)


def _replaced(array: np.ndarray, places: np.ndarray, values: np.ndarray) -> np.ndarray:
    copy = array.copy()
    copy[places] = values
    return copy
