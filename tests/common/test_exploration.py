"""Exploration noise of the size that demonstrations leave open."""

import numpy as np
import pytest
from gymnasium import spaces
from point_to_goal import PointToGoal
from stable_baselines3.common.noise import NormalActionNoise

from sb3_pgfd import DDPGfD, Demonstrations
from sb3_pgfd.common.exploration import noise_of_demonstrations
from sb3_pgfd.demonstrations import Episode

# The nearest step of the other episode is the one with the same number
EPISODES = [
    Episode(np.array([[0.0], [0.5], [0.9]]), np.array([[0.4], [1.2]]), np.zeros(2), False),
    Episode(np.array([[0.1], [0.6], [0.8]]), np.array([[0.8], [0.0]]), np.zeros(2), False),
]
# Actions scaled from [-2, 2] to [-1, 1] differ by 0.2 and 0.6, each twice: sqrt((0.04 + 0.36) / 2 / 2)
DEVIATION = np.sqrt(0.1)


def test_the_deviation_is_that_of_actions_in_nearby_states():
    two = [Episode(e.observations, np.hstack([e.actions, np.ones((2, 1))]), e.rewards, False) for e in EPISODES]
    noise = noise_of_demonstrations(Demonstrations.from_episodes(two), spaces.Box(-2.0, 2.0, (2,)))
    # All demonstrations agree on the second component
    assert noise._sigma == pytest.approx([DEVIATION, 0.0])
    assert noise._mu.tolist() == [0.0, 0.0]


def test_a_model_estimates_it():
    demonstrations = Demonstrations.from_episodes(
        [Episode(np.asarray(e.observations, np.float32), e.actions.astype(np.float32), e.rewards, False) for e in EPISODES]
    )
    model = DDPGfD("MlpPolicy", PointToGoal(), demonstrations=demonstrations, action_noise="demonstrations")
    assert isinstance(model.action_noise, NormalActionNoise)
    assert model.action_noise._sigma == pytest.approx([DEVIATION])
    with pytest.raises(ValueError, match="action_noise: found 'demonstrations' with no demonstrations"):
        DDPGfD("MlpPolicy", PointToGoal(), action_noise="demonstrations")
    with pytest.raises(ValueError, match="expected two episodes or more"):
        DDPGfD("MlpPolicy", PointToGoal(), demonstrations=demonstrations.select([0]), action_noise="demonstrations")
