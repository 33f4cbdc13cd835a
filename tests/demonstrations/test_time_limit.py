"""A time limit in the arguments that make an environment again."""

import gymnasium as gym
import pytest

from sb3_pgfd.demonstrations.time_limit import time_limit, with_time_limit


@pytest.mark.parametrize(
    ("limit", "expected"), [(200, {}), (300, {"max_episode_steps": 300}), (None, {"max_episode_steps": -1})]
)
def test_what_makes_an_environment_again_has_its_limit(limit: int | None, expected: dict[str, int]) -> None:
    kwargs = with_time_limit("Pendulum-v1", {"g": 9.0}, limit)
    assert kwargs == {"g": 9.0, **expected}
    assert time_limit("Pendulum-v1", kwargs) == limit
    with gym.make("Pendulum-v1", **kwargs) as env:
        assert env.spec is not None
        assert env.spec.max_episode_steps == limit


def test_of_what_is_not_registered_nothing_is_known() -> None:
    assert with_time_limit("Nowhere-v0", {}, 300) == {}
    assert time_limit("Nowhere-v0", {}) is None
