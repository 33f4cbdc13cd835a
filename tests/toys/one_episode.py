"""An episode of three steps, of any shape."""

from typing import Any

import numpy as np

from sb3_pgfd import Demonstrations
from sb3_pgfd.demonstrations import Episode


def one_episode(
    observation_shape: tuple[int, ...] = (1,),
    action: Any = 0.5,
    action_shape: tuple[int, ...] = (1,),
    env_id: str | None = None,
    dtype: Any = np.float32,
) -> Demonstrations:
    observations = np.full((4, *observation_shape), 0.1, dtype=np.float32)
    actions = np.full((3, *action_shape), action, dtype=dtype)
    metadata = {} if env_id is None else {"env_id": env_id}
    return Demonstrations.from_episodes([Episode(observations, actions, np.zeros(3), terminated=True)], metadata)
