"""What the buffer and the models refuse to store: NaN, infinity, and shapes that NumPy would broadcast."""

import warnings
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from clockwork import Clockwork
from gymnasium import spaces
from point_to_goal import to_goal
from small_models import own_rows, small_model
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from sb3_pgfd import A2CfD, DDPGfD, SACfD, TD3fD
from sb3_pgfd.demonstrations import record
from sb3_pgfd.replay import DemoReplayBuffer

BOX = spaces.Box(-np.inf, np.inf, (3,))
DICT = spaces.Dict({"camera": spaces.Box(-1.0, 1.0, (2, 2)), "cell": spaces.Discrete(4)})
ACTIONS = spaces.Box(-1.0, 1.0, (2,))


def step(space: spaces.Space = BOX, n_envs: int = 2) -> dict[str, Any]:
    """:return: Arguments of ``add``"""

    def zeros() -> Any:
        if isinstance(space, spaces.Dict):
            return {key: np.zeros((n_envs, *(one.shape or ())), dtype=one.dtype) for key, one in space.spaces.items()}
        return np.zeros((n_envs, *(space.shape or ())), dtype=space.dtype)

    return {
        "obs": zeros(),
        "next_obs": zeros(),
        "action": np.zeros((n_envs, 2), dtype=np.float32),
        "reward": np.zeros(n_envs),
        "done": np.zeros(n_envs, dtype=bool),
        "infos": [{} for _ in range(n_envs)],
    }


def make_buffer(space: spaces.Space = BOX, n_envs: int = 2) -> DemoReplayBuffer:
    return DemoReplayBuffer(20, space, ACTIONS, device="cpu", n_envs=n_envs)


def refused(buffer: DemoReplayBuffer, arguments: dict[str, Any], message: str) -> None:
    before = buffer.n_own
    with pytest.raises(ValueError, match=message):
        buffer.add(**arguments)
    assert buffer.n_own == before


@pytest.mark.parametrize(
    ("name", "place", "value", "message"),
    [
        ("obs", (1, 2), np.nan, "^observations: environment 1, step 3 of its episode, component 2: found nan, expected a fin"),
        ("next_obs", (0, 0), -np.inf, "^next_observations: environment 0, step 5 of its episode, component 0: found -inf"),
        ("action", (1, 1), np.nan, "^actions: environment 1, step 3 of its episode, component 1: found nan"),
        ("reward", 1, np.inf, "^rewards: environment 1, step 3 of its episode: found inf"),
        # Rewards are stored in single precision, where this is infinite
        pytest.param(
            "reward", 0, 1e39, "^rewards: environment 0, .*: found inf", marks=pytest.mark.filterwarnings("ignore:overflow")
        ),
    ],
)
def test_a_number_that_is_not_finite_is_refused_with_its_place(name: str, place: Any, value: float, message: str) -> None:
    buffer = make_buffer()
    for number in range(5):
        # The episode of the second environment ends after two steps
        buffer.add(**{**step(), "done": np.array([False, number == 1])})
    arguments = step()
    arguments[name][place] = value
    refused(buffer, arguments, message)
    buffer.add(**step())
    assert buffer.n_own == 12


def test_numbers_whose_squares_overflow_are_finite() -> None:
    buffer = make_buffer(n_envs=1)
    buffer.add(**{**step(n_envs=1), "obs": np.full((1, 3), 3e38, dtype=np.float32), "reward": np.array([-3e38])})
    assert buffer.n_own == 1


def test_components_of_dicts_and_matrices_are_named() -> None:
    arguments = step(DICT)
    arguments["next_obs"]["camera"][1, 0, 1] = np.nan
    refused(
        make_buffer(DICT), arguments, r"next_observations\['camera'\]: environment 1, step 0 .*, component \[0, 1\]: found nan"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        # Each of them would be broadcast, or cut into other rows
        ({"obs": np.zeros((1, 3))}, r"^observations: found shape \(1, 3\), expected \(2, 3\), a row for each environment"),
        ({"obs": np.zeros(3)}, r"^observations: found shape \(3,\), expected \(2, 3\)"),
        ({"next_obs": np.zeros((3, 2))}, r"^next_observations: found shape \(3, 2\), expected \(2, 3\)"),
        ({"next_obs": np.zeros((2, 1))}, r"^next_observations: found shape \(2, 1\), expected \(2, 3\)"),
        ({"reward": 1.0}, r"^rewards: found shape \(\), expected \(2,\), one for each environment"),
        ({"done": [True]}, r"^dones: found shape \(1,\), expected \(2,\)"),
        ({"infos": [{}]}, r"^infos: found shape \(1,\), expected \(2,\)"),
    ],
)
def test_a_shape_that_numpy_would_broadcast_is_refused(changes: dict[str, Any], message: str) -> None:
    refused(make_buffer(), {**step(), **changes}, message)


def test_discrete_observations_come_without_an_axis_or_with_one() -> None:
    buffer = make_buffer(DICT)
    buffer.add(**step(DICT))
    arguments = step(DICT)
    arguments["obs"]["cell"] = np.array([[1], [2]])
    buffer.add(**arguments)
    assert buffer.ring.columns["observations/cell"][:4].ravel().tolist() == [0, 0, 1, 2]
    refused(buffer, {**step(DICT), "obs": {**step(DICT)["obs"], "cell": np.int64(3)}}, r"\['cell'\]: found shape \(\)")


# --- Models ----------------------------------------------------------------------------------------------------------


class Broken(gym.Wrapper):
    """
    Its 13th step is changed.

    :param env: Environment
    :param change: Gets the observation and the reward, and returns them
    """

    def __init__(self, env: gym.Env, change: Callable[[Any, float], tuple[Any, Any]]):
        super().__init__(env)
        self.change, self.n_steps = change, 0

    def step(self, action: Any) -> Any:
        observation, reward, *rest = self.env.step(action)
        self.n_steps += 1
        if self.n_steps == 13:
            observation, reward = self.change(observation, float(reward))
        return observation, reward, *rest


CHANGES: dict[str, tuple[Callable[[Any, float], Any], str]] = {
    "NaN observation": (
        lambda observation, reward: (observation * np.nan, reward),
        "next_observations: environment 1, step 2 of its episode, component 0: found nan",
    ),
    "infinite reward": (
        lambda observation, reward: (observation, np.inf),
        "rewards: environment 1, step 2 of its episode: found inf",
    ),
    "scalar observation": (
        lambda observation, reward: (observation[0], reward),
        r"observation: environment 1: found shape \(\), expected \(1,\) of its space",
    ),
}


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("kind", CHANGES)
@pytest.mark.parametrize("algorithm", [DDPGfD, TD3fD, SACfD, A2CfD])
# NumPy's, where VecNormalize takes in what is not finite
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_models_refuse_what_one_environment_gives(algorithm: Any, kind: str, normalize: bool) -> None:
    change, message = CHANGES[kind]
    # Episodes of ten steps
    plain = [lambda: Clockwork([0.0] * 10), lambda: Broken(Clockwork([0.0] * 10), change)]
    env: Any = DummyVecEnv(plain)
    env = VecNormalize(env) if normalize else env
    small = {"buffer_size": 100, "batch_size": 8} if algorithm is not A2CfD else {}
    demonstrations = record(lambda _: np.zeros(1, dtype=np.float32), Clockwork([0.0] * 10), 1)
    model = algorithm(
        "MlpPolicy", env, demonstrations, pretrain_steps=1, policy_kwargs={"net_arch": [4]}, device="cpu", **small
    )
    with pytest.raises(ValueError, match=f"^{message}"):
        model.learn(100)
    assert all(bool(parameter.isfinite().all()) for parameter in model.policy.parameters())


def test_the_first_observation_is_looked_at_too() -> None:
    class NeverFinite(Clockwork):
        def _observe(self) -> np.ndarray:
            return np.full(1, np.nan, dtype=np.float32)

    with pytest.raises(ValueError, match=r"^observations: environment 0, step 0 of its episode, component 0: found nan"):
        A2CfD("MlpPolicy", NeverFinite([0.0] * 3), device="cpu").learn(5)


def test_a_model_wraps_each_environment_once() -> None:
    env = DummyVecEnv([lambda: gym.make("PointToGoal-v0")] * 2)
    first = DDPGfD("MlpPolicy", env, buffer_size=100, device="cpu")
    wrapped = list(env.envs)
    second = DDPGfD("MlpPolicy", env, buffer_size=100, device="cpu")
    assert first.env is second.env is env
    assert all(one is other for one, other in zip(env.envs, wrapped, strict=True))
    assert to_goal(env.reset()).shape == (1,)


class Touch(gym.Env):
    """A switch that closes in the last of ten steps, so that statistics of first observations never see it closed."""

    observation_space = spaces.Box(-100.0, 100.0, (2,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.step_number = 0
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.step_number += 1
        over = self.step_number == 10
        return np.array([self.step_number, over], np.float32), float(over), False, over, {"is_success": over}


@pytest.mark.parametrize("clip_obs", [10.0, 1e9])
def test_a_last_observation_that_was_clipped_is_told(clip_obs: float) -> None:
    model = small_model(DDPGfD, env=VecNormalize(DummyVecEnv([Touch]), clip_obs=clip_obs), learning_starts=100)
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        model.learn(60)
    told = [warning for warning in given if "found component [1] of the last observation" in str(warning.message)]
    lasts = own_rows(model, "next_observations/")[9::10, 1]
    assert len(told) == (clip_obs == 10.0)
    assert np.allclose(lasts, 1.0, atol=1e-3) == (clip_obs > 10.0)


def test_whole_numbers_are_no_actions_to_scale() -> None:
    space = spaces.Box(-5, 5, (1,), np.int32)
    with pytest.raises(ValueError, match="expected floats: actions are scaled"):
        DemoReplayBuffer(10, spaces.Box(-1.0, 1.0, (1,)), space)
