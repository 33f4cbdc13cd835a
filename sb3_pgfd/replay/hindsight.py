"""
Hindsight experience replay (Andrychowicz et al. 2017, arXiv 1707.01495): transitions are replayed as if the goal had been
one that was achieved later in the same episode (section 4.5, strategy "future"), or one that was achieved anywhere (strategy
"random"), by which values are passed on between episodes that meet.

The environment needs what gymnasium-robotics' GoalEnv has: observations with ``achieved_goal`` and ``desired_goal``, a
``compute_reward`` that takes many goals at once and, if an episode is over when its goal is reached,
``compute_terminated``.
"""

from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack, unwrap_vec_wrapper

from sb3_pgfd.replay.n_step import NStepWindow, Rows, Stores, two_columns
from sb3_pgfd.replay.samples import DESIRED, Draw, Drawn, NewGoals
from sb3_pgfd.replay.storage import next_obs_column, obs_column
from sb3_pgfd.utils.warning import OptionWarning, warn_user

ACHIEVED = "achieved_goal"


class GoalRewards:
    """
    Rewards and terminations of a goal environment for goals that it was not given.

    :param env: Its first environment is asked; all of them are alike
    """

    def __init__(self, env: VecEnv):
        self._env = env
        self._asked_for_termination = False
        self._terminal_reward: float | None = None
        self._compared: set[str] = set()
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

    def compare(self, both: Stores, rows: Rows) -> None:
        """
        Warn, once of demonstrations and once of others, if stored rewards are not those that the environment computes, as
        under a wrapper that changes rewards.

        :param both: Where the rows lie
        :param rows: With their own goals
        """
        for kind, first, end in (("demonstrations", 0, rows.n_demos), ("own transitions", rows.n_demos, len(rows.numbers))):
            if first < end and kind not in self._compared:
                self._compared.add(kind)
                self._compare(both, rows.at(np.arange(first, end)), kind)

    def _compare(self, both: Stores, rows: Rows, kind: str) -> None:
        computed = self.rewards(both.take(next_obs_column(ACHIEVED), rows), both.take(obs_column(DESIRED), rows))
        stored = both.take("rewards", rows)
        differs = ~np.isclose(computed, stored, atol=1e-4)
        if differs.any():
            first = int(np.argmax(differs))
            warn_user(
                f"her_ratio > 0: found a stored reward of {stored[first]:g} where compute_reward gives {computed[first]:g}, "
                f"{int(differs.sum())} such in {len(differs)} {kind}, expected equal ones: replaced goals are rewarded by "
                "compute_reward. Does a wrapper change the rewards, or have the demonstrations others? Change them in "
                "compute_reward, or set her_ratio to 0",
                OptionWarning,
            )

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


def goal_rewards(her_ratio: float, observation_space: spaces.Space, env: Any) -> GoalRewards | None:
    """
    :param her_ratio: Share of transitions whose goal is to be replaced
    :param observation_space: The buffer's
    :param env: Computes the rewards, None: there is none
    :raises ValueError: If goals are to be replaced and cannot be
    """
    if her_ratio == 0.0:
        return None if env is None else GoalRewards(env)
    keys = list(observation_space.spaces) if isinstance(observation_space, spaces.Dict) else []
    if not isinstance(observation_space, spaces.Dict) or not {"observation", ACHIEVED, DESIRED} <= set(keys):
        found = f"a Dict with {keys}" if keys else str(observation_space)
        raise ValueError(
            f"her_ratio > 0: found the observation space {found}, expected a Dict with observation, {ACHIEVED}, {DESIRED}"
        )
    achieved, desired = (observation_space[key].shape for key in (ACHIEVED, DESIRED))
    if achieved != desired:
        raise ValueError(f"her_ratio > 0: found achieved goals of shape {achieved}, expected {desired} like desired goals")
    if not isinstance(env, VecEnv):
        raise ValueError(
            f"her_ratio > 0: found env={env}, expected the VecEnv that is learned from: its compute_reward gives the "
            "rewards of replaced goals. SB3's own algorithms take it in replay_buffer_kwargs"
        )
    if unwrap_vec_wrapper(env, VecFrameStack) is not None:
        raise ValueError(
            "her_ratio > 0: found VecFrameStack, which stacks goals too, expected none: the environment computes the rewards "
            "of single goals. Stack what is to be stacked in a wrapper of the environment that leaves the goals alone"
        )
    if not env.has_attr("compute_reward"):
        raise ValueError("her_ratio > 0: found an environment without compute_reward, expected one, see gymnasium-robotics")
    return GoalRewards(env)


def relabel(
    drawn: Drawn,
    draw: Draw,
    n_batches: int,
    her_ratio: float,
    both: Stores,
    rewards: GoalRewards | None,
    skip_reached: bool = False,
    random_share: float = 0.0,
) -> Drawn:
    """
    Replace the goals of some transitions, the agent's and the demonstrations' alike.

    :param drawn: As stored
    :param draw: The batches that they make up
    :param n_batches: How many
    :param her_ratio: Share of each
    :param both: Where they lie
    :param rewards: The environment's
    :param skip_reached: Whether a row keeps its goal where the new one is reached in s already
    :param random_share: Share of the new goals that come from other rows
    :return: The same rows under the new goals
    :raises ValueError: If there is no environment
    """
    if rewards is None:
        raise ValueError(
            f"sample: found no environment, expected one for her_ratio={her_ratio}: it computes the rewards of new goals "
            "and is not saved with the buffer. Give it back with set_env(env)"
        )
    rewards.compare(both, drawn.rows)
    batch_size = len(drawn.rows.numbers) // n_batches
    n_replaced = round(her_ratio * batch_size)
    picked = [np.random.permutation(batch_size)[:n_replaced] + number * batch_size for number in range(n_batches)]
    places = np.concatenate(picked)
    places = np.sort(places if draw.order is None else draw.order[places])
    if len(places) == 0:
        return drawn
    rows = drawn.rows.at(places)
    # Inclusive, like SB3's: the goal may be what the transition itself achieved
    steps_ahead = np.random.randint(0, both.steps_left(rows) + 1)
    goals = both.take(next_obs_column(ACHIEVED), both.following(rows, steps_ahead))
    are_foreign = np.zeros(len(places), dtype=bool)
    if random_share > 0.0:
        are_foreign = np.random.random(len(places)) < random_share
        # What the other rows are to achieve was achieved anywhere
        goals[are_foreign] = goals[np.random.permutation(len(places))[are_foreign]]
    if skip_reached:
        is_new = rewards.rewards(both.take(obs_column(ACHIEVED), rows), goals) < rewards.rewards(goals, goals)
        places, goals, are_foreign = places[is_new], goals[is_new], are_foreign[is_new]
    return with_goals(drawn, NewGoals(places, goals, are_foreign), both, rewards) if len(places) else drawn


def with_goals(drawn: Drawn, new_goals: NewGoals, both: Stores, rewards: GoalRewards) -> Drawn:
    """
    :param drawn: As stored
    :param new_goals: Goals for some of them, at least one
    :param both: Where they lie
    :param rewards: The environment's
    :return: The same rows with the rewards, the ends and the terminations that the new goals give
    """
    places, goals, _ = new_goals
    window = drawn.window
    included = window.included[places]  # (m, n_steps)
    achieved = both.take(next_obs_column(ACHIEVED), window.rows.at(places))[included]
    new_rewards = np.zeros(included.shape, dtype=np.float32)
    new_rewards[included] = rewards.rewards(achieved, goals.repeat(window.lengths[places], axis=0))
    relabelled = drawn._replace(rewards=_replaced(drawn.rewards, places, new_rewards), new_goals=new_goals)
    terminal_reward = rewards.terminal_reward(goals[0])
    if terminal_reward is None:
        return relabelled
    # A window ends at its first transition that reaches the new goal
    reached = included & (new_rewards >= terminal_reward)
    lengths = np.where(reached.any(axis=1), reached.argmax(axis=1) + 1, window.lengths[places])  # (m,)
    window = NStepWindow(window.rows, _replaced(window.lengths, places, lengths))
    # An episode that ended by reaching the old goal does not end under the new one; one that ended otherwise does
    ends = window.ends.at(places)  # (m, 2)
    failed = both.take("terminated", ends) & (both.take("rewards", ends) < terminal_reward)
    arrived = two_columns(reached[:, 0], reached[np.arange(len(places)), lengths - 1])
    return relabelled._replace(window=window, terminated=_replaced(drawn.terminated, places, failed | arrived))


def _replaced(array: np.ndarray, places: np.ndarray, values: np.ndarray) -> np.ndarray:
    copy = array.copy()
    copy[places] = values
    return copy
