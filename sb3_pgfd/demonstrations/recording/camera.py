"""Pictures of an environment as observations."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from sb3_pgfd.demonstrations.arrays import resized
from sb3_pgfd.demonstrations.errors import DemonstrationsError
from sb3_pgfd.utils.checks import is_whole

IMAGE, STATE = "image", "state"


class CameraObservation(gym.ObservationWrapper, gym.utils.RecordConstructorArgs):
    """
    Observe what ``render()`` shows, as uint8 images of shape ``(size, size, channels)``::

        env = CameraObservation(gym.make("FetchReach-v4", render_mode="rgb_array"), size=84)

    :param env: Environment made with ``render_mode="rgb_array"``
    :param size: Pixels in each direction; the middle of a wider picture is taken
    :param keep: Which observations are kept beside the image. True: all, under their keys, or as ``state`` if they are one
        array. A name or several: those keys. False: none, and the observation is the image alone
    :raises DemonstrationsError: If the environment draws no pictures, or has no such keys
    """

    def __init__(self, env: gym.Env, size: int = 84, keep: bool | str | tuple[str, ...] | list[str] = True):
        gym.utils.RecordConstructorArgs.__init__(self, size=size, keep=keep)
        super().__init__(env)
        if not is_whole(size, 1):
            raise DemonstrationsError(f"size: found {size!r}, expected a whole number of pixels >= 1")
        if env.render_mode != "rgb_array":
            raise DemonstrationsError(
                f"camera: found an environment with render_mode={env.render_mode!r}, expected 'rgb_array': "
                "gymnasium.make(..., render_mode='rgb_array')"
            )
        self.size = size
        given = env.observation_space
        known = dict(given.items()) if isinstance(given, spaces.Dict) else {STATE: given}
        self.kept = list(known) if keep is True else [keep] if isinstance(keep, str) else list(keep or ())
        missing = [key for key in self.kept if key not in known]
        if missing or IMAGE in self.kept:
            raise DemonstrationsError(f"keep: found {missing or [IMAGE]}, expected some of {sorted(set(known) - {IMAGE})}")
        env.reset()
        image = spaces.Box(0, 255, self._picture().shape, np.uint8)
        self.observation_space = spaces.Dict({IMAGE: image, **{key: known[key] for key in self.kept}}) if self.kept else image

    def observation(self, observation: Any) -> Any:
        """:return: The image, and what is kept beside it"""
        if not self.kept:
            return self._picture()
        given = observation if isinstance(observation, dict) else {STATE: observation}
        return {IMAGE: self._picture(), **{key: given[key] for key in self.kept}}

    def without_image(self, observation: Any) -> Any:
        """:return: The environment's own observation, if all of it is kept"""
        if isinstance(self.env.observation_space, spaces.Dict):
            return {key: observation[key] for key in self.kept}
        return observation[STATE]

    def _picture(self) -> np.ndarray:
        picture: Any = self.env.render()
        if not isinstance(picture, np.ndarray) or picture.ndim != 3 or picture.dtype != np.uint8:
            found = f"{picture.dtype} of shape {picture.shape}" if isinstance(picture, np.ndarray) else type(picture).__name__
            raise DemonstrationsError(f"camera: found a picture of {found}, expected uint8 of shape (height, width, channels)")
        return resized(picture, self.size)
