"""A planner for AdroitHandDoor of gymnasium-robotics: a hand of 24 joints on an arm turns a latch and opens a door."""

from typing import Any

import gymnasium as gym
import numpy as np

_START = (-0.25, 0.0, 0.0, -0.33, 0.49, 0.13, -1.0)
"""Arm (4), wrist (2) and grip (-1 is an open hand) of the posture after a reset, as actions"""
# Opens the door of reset(seed=0); found from _START by the same search with more samples
_PLAN = np.array(
    [
        *(0.9, -0.22, -0.11, -0.4, 0.2, -0.62, -0.58),
        *(0.26, 0.82, 0.42, 0.03, 0.57, 0.09, -0.79),
        *(-0.23, -0.19, 0.2, 0.06, 0.83, 0.22, -0.16),
        *(-1.0, -0.08, -0.2, 0.11, 0.49, -0.02, 0.64),
        *(-0.24, -0.38, -0.26, -0.13, -0.1, -0.39, -0.95),
        *(-0.06, 0.62, 0.05),
    ]
)
_FINGERS = [7, 8, 9, 11, 12, 13, 15, 16, 17, 20, 21, 22]
"""Actuators that bend the four fingers"""
_LATCH, _HINGE, _TO_HANDLE = 27, 28, slice(35, 38)
"""Where the observation has the angles of latch and door, and the vector from the handle to the palm"""
_OPENED = 1000.0
"""Added to the score of a plan that opens the door"""


class DoorPlanner:
    """
    Plans each episode in a simulator of its own and then plays the plan. A plan has five postures of arm, wrist and grip,
    between which actions are interpolated, and the posture of the thumb. The cross-entropy method (Rubinstein 1999) improves
    it for the door at hand, from a plan that opened another one.

    :param env: AdroitHandDoor, wrapped or not
    :param n_steps: Steps of a plan
    :param n_plans: Plans per round
    :param n_kept: Of them, those that the next round is drawn around
    :param n_rounds: Rounds at most; planning ends when all kept plans open the door
    """

    def __init__(self, env: gym.Env, n_steps: int = 100, n_plans: int = 30, n_kept: int = 6, n_rounds: int = 30):
        self.env: Any = env.unwrapped
        assert env.spec is not None
        self.simulator: Any = gym.make(env.spec.id).unwrapped
        self.n_steps, self.n_plans, self.n_kept, self.n_rounds = n_steps, n_plans, n_kept, n_rounds
        self._actions = np.zeros((0, 28))
        self._step = 0

    def reset(self) -> None:
        """An episode begins: plan it."""
        self._actions, self._step = self.plan(), 0

    def __call__(self, observation: np.ndarray) -> np.ndarray:
        """
        :param observation: Not used
        :return: Targets of the 28 actuators, each in [-1, 1]; the last one is held when the plan is over
        """
        action = self._actions[min(self._step, self.n_steps - 1)]
        self._step += 1
        return action.astype(np.float32)

    def plan(self) -> np.ndarray:
        """:return: Actions for the door as it stands, shape ``(n_steps, 28)``; the best ones found, if none opens it"""
        state, rng = self.env.get_env_state(), np.random.default_rng(0)
        mean, deviation = _PLAN.copy(), np.full(len(_PLAN), 0.12)
        best, highest = mean, -np.inf
        for _ in range(self.n_rounds):
            plans = np.clip(mean + deviation * rng.standard_normal((self.n_plans, len(mean))), -1.0, 1.0)
            plans[0] = mean
            scores = np.array([self._score(plan, state) for plan in plans])
            kept = plans[scores.argsort()[-self.n_kept :]]
            if scores.max() > highest:
                best, highest = kept[-1], scores.max()
            if np.sort(scores)[-self.n_kept] > _OPENED:
                break
            mean = 0.2 * mean + 0.8 * kept.mean(axis=0)
            deviation = 0.2 * deviation + 0.8 * kept.std(axis=0) + 0.02
        return self.actions_of(best)

    def actions_of(self, plan: np.ndarray) -> np.ndarray:
        """
        :param plan: Shape ``(38,)``, in [-1, 1]
        :return: Actions, shape ``(n_steps, 28)``
        """
        postures = np.concatenate([[_START], plan[:35].reshape(5, 7)])
        times = np.linspace(0, self.n_steps, len(postures))
        arm = np.stack([np.interp(np.arange(self.n_steps), times, column) for column in postures.T], axis=1)
        grip, thumb = arm[:, 6], plan[35:]
        actions = np.zeros((self.n_steps, 28))
        actions[:, :6] = arm[:, :6]
        actions[:, _FINGERS] = grip[:, None]
        actions[:, 23], actions[:, 24] = thumb[:2]
        # The thumb bends with the fingers
        actions[:, 26], actions[:, 27] = thumb[2] * (1.0 + grip) / 2.0, -grip
        return actions

    def _score(self, plan: np.ndarray, state: dict[str, Any]) -> float:
        """How near the palm came to the handle, how far latch and door turned, and, above all, whether the door opened."""
        # The reset leaves nothing of the plan before, such as the solver's last forces
        self.simulator.reset()
        self.simulator.set_env_state(state)
        score = 0.0
        for action in self.actions_of(plan):
            observation, _, _, _, info = self.simulator.step(action)
            score += min(observation[_LATCH], 1.5) + 5.0 * observation[_HINGE] - float(np.linalg.norm(observation[_TO_HANDLE]))
            if info["success"]:
                return score + _OPENED
        return score
