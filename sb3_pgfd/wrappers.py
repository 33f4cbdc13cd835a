"""Environment wrappers, for the ``env_wrapper`` of the RL Zoo."""

from typing import Any

import gymnasium as gym


class ReportSuccess(gym.Wrapper, gym.utils.RecordConstructorArgs):
    """
    Report success as Stable-Baselines3 and the RL Zoo read it: ``EvalCallback`` and ``rollout/success_rate`` go by
    ``info["is_success"]`` in the last step of an episode. PointMaze and Meta-World call theirs ``success``. In the yaml::

        env_wrapper: sb3_pgfd.wrappers.ReportSuccess

    Every step says something: one in which the environment is silent is no success, unless it has an ``is_success`` of its
    own. Like the environment's, it is what holds after this step, not whether the task was ever solved in the episode.

    :param env: Environment to wrap
    :param key: What the environment calls it in its info
    """

    def __init__(self, env: gym.Env, key: str = "success"):
        gym.utils.RecordConstructorArgs.__init__(self, key=key)
        super().__init__(env)
        self.key = key

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """
        :param action: For the environment
        :return: What the environment returned, with ``is_success`` in its info
        """
        observation, reward, terminated, truncated, info = self.env.step(action)
        success = info.get(self.key, info.get("is_success", False))
        return observation, reward, terminated, truncated, {**info, "is_success": bool(success)}
