"""Environment wrappers for the ``env_wrapper`` of the RL Zoo."""

from typing import Any

import gymnasium as gym


class ReportSuccess(gym.Wrapper, gym.utils.RecordConstructorArgs):
    """
    Report success under the name that Stable-Baselines3 and the RL Zoo read: ``EvalCallback`` and ``rollout/success_rate``
    use ``info["is_success"]`` of the last step of an episode. PointMaze and Meta-World call it ``success``. In the yaml::

        env_wrapper: sb3_pgfd.wrappers.ReportSuccess

    Every step reports success. If the info lacks the key, its own ``is_success`` counts, or else False. The value holds after
    this step; it does not say whether the task was solved earlier in the episode.

    :param env: Environment to wrap
    :param key: Name of success in the environment's info
    """

    def __init__(self, env: gym.Env, key: str = "success"):
        gym.utils.RecordConstructorArgs.__init__(self, key=key)
        super().__init__(env)
        self.key = key

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """
        :param action: Action for the environment
        :return: The result of the environment, with ``is_success`` in the info
        """
        observation, reward, terminated, truncated, info = self.env.step(action)
        success = info.get(self.key, info.get("is_success", False))
        return observation, reward, terminated, truncated, {**info, "is_success": bool(success)}
