from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3 as sb3
from gymnasium import spaces
from stable_baselines3 import TD3
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize
from toy_dataset import box
from toy_walk import ReportsSuccessesAlone, Walk, half

from sb3_pgfd import DemonstrationsError
from sb3_pgfd.demonstrations import record
from sb3_pgfd.demonstrations.recording import policy as policy_recording
from sb3_pgfd.demonstrations.spaces import space_from_json


class Images(gym.Env):
    """Two steps with a Dict observation, of which the image is reused."""

    def __init__(self) -> None:
        image = spaces.Box(0, 255, (2, 2, 3), np.uint8)
        self.observation_space = spaces.Dict({"image": image, "clock": spaces.Discrete(10)})
        self.action_space = spaces.Box(-1, 1, (1,), np.float32)
        self.image = np.zeros((2, 2, 3), dtype=np.uint8)

    def observe(self) -> dict[str, Any]:
        return {"image": self.image, "clock": self.clock}

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.clock = 0
        self.image[:] = 0
        return self.observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.clock += 1
        self.image[:] = 10 * self.clock
        return self.observe(), 1.0, False, self.clock == 2, {}


@pytest.fixture(scope="module")
def td3() -> TD3:
    return TD3("MlpPolicy", "Pendulum-v1", policy_kwargs={"net_arch": [4]}, buffer_size=10, seed=0, device="cpu")


def test_a_function_is_recorded_step_by_step():
    demonstrations = record(half, Walk(), 2, seed=7)
    assert box(demonstrations.observations).tolist() == [[7, 0], [7, 1], [7, 2], [8, 0], [8, 1], [8, 2]]
    assert box(demonstrations.next_observations).tolist() == [[7, 1], [7, 2], [7, 3], [8, 1], [8, 2], [8, 3]]
    assert demonstrations.actions.tolist() == [[0.5]] * 6
    assert demonstrations.rewards.tolist() == [0.5] * 6
    assert demonstrations.episode_lengths.tolist() == [3, 3]
    assert box(demonstrations.observations).dtype == demonstrations.actions.dtype == np.float32


@pytest.mark.parametrize("terminates", [True, False])
def test_the_end_is_recorded_as_the_environment_reports_it(terminates: bool):
    demonstrations = record(half, Walk(terminates), 1)
    assert demonstrations.terminated.tolist() == [False, False, terminates]
    assert demonstrations.truncated.tolist() == [False, False, not terminates]


@pytest.mark.filterwarnings("ignore:record. found an action of 5")
def test_an_action_beyond_the_bounds_is_recorded_as_it_was_taken():
    demonstrations = record(lambda observation: 5.0, Walk(), 1)
    assert demonstrations.actions.tolist() == [[2.0]] * 3
    assert demonstrations.rewards.tolist() == [2.0] * 3


def test_an_action_space_without_bounds_is_recorded():
    # Half of an infinite range times no noise is not a number
    assert record(half, Walk(bound=np.inf), 1).actions.tolist() == [[0.5]] * 3


def test_a_model_is_recorded(td3: TD3):
    demonstrations = record(td3, "Pendulum-v1", 1, seed=3)
    assert demonstrations.episode_lengths.tolist() == [200]
    demonstrations.check_spaces(td3.observation_space, td3.action_space)
    # Deterministic actions of the observations that stand beside them
    expected = td3.predict(box(demonstrations.observations), deterministic=True)[0]
    np.testing.assert_allclose(demonstrations.actions, expected, rtol=1e-5, atol=1e-6)
    first, _ = gym.make("Pendulum-v1").reset(seed=3)
    np.testing.assert_array_equal(box(demonstrations.observations)[0], first)
    np.testing.assert_array_equal(box(demonstrations.observations)[1:], box(demonstrations.next_observations)[:-1])


class RemembersItsArguments:
    def __init__(self) -> None:
        self.seen: list[bool] = []

    def predict(self, observation: Any, /, *, deterministic: bool) -> tuple[Any, Any]:
        self.seen.append(deterministic)
        return half(observation), None


@pytest.mark.parametrize("deterministic", [True, False])
def test_deterministic_reaches_predict(deterministic: bool):
    policy = RemembersItsArguments()
    record(policy, Walk(), 1, deterministic=deterministic)
    assert policy.seen == [deterministic] * 3


def test_a_policy_sees_normalised_observations_and_raw_ones_are_kept():
    statistics = VecNormalize(DummyVecEnv([Walk]), epsilon=0.0)
    assert isinstance(statistics.obs_rms, RunningMeanStd)
    statistics.obs_rms.mean, statistics.obs_rms.var = np.array([1.0, 1.0]), np.array([4.0, 0.25])
    seen = []

    def policy(observation: np.ndarray) -> np.ndarray:
        seen.append(observation.tolist())
        return half(observation)

    demonstrations = record(policy, Walk(), 1, seed=9, vec_normalize=statistics)
    # (9 - 1) / 2 and (step - 1) / 0.5
    assert seen == [[4, -2], [4, 0], [4, 2]]
    assert box(demonstrations.observations).tolist() == [[9, 0], [9, 1], [9, 2]]
    assert statistics.obs_rms.mean.tolist() == [1, 1]


def test_a_seed_fixes_every_episode_and_episodes_differ():
    first, second, other = (record(half, "Pendulum-v1", 2, seed=seed, action_noise=0.3) for seed in (5, 5, 6))
    np.testing.assert_array_equal(box(first.observations), box(second.observations))
    np.testing.assert_array_equal(first.actions, second.actions)
    starts = box(first.observations)[first.episode_starts]
    assert not np.allclose(starts[0], starts[1])
    assert not np.allclose(box(first.observations), box(other.observations))
    # Episode k is reset with seed + k
    np.testing.assert_array_equal(starts[1], box(other.observations)[0])


def test_action_noise_is_gaussian_in_units_of_half_the_range():
    demonstrations = record(half, Walk(), 2, seed=11, action_noise=0.1)
    noise = np.random.default_rng(11).standard_normal((6, 1))
    np.testing.assert_allclose(demonstrations.actions, 0.5 + 0.1 * 2 * noise, rtol=1e-6)
    np.testing.assert_array_equal(demonstrations.rewards, demonstrations.actions[:, 0])


def test_action_noise_stays_within_the_bounds():
    demonstrations = record(half, "Pendulum-v1", 1, action_noise=3.0)
    assert demonstrations.actions.min() == -2
    assert demonstrations.actions.max() == 2
    assert demonstrations.actions.std() > 1


@pytest.mark.parametrize("key", ["is_success", "success"])
def test_only_successes_are_kept_if_asked(key: str):
    demonstrations = record(half, Walk(success_key=key), 2, seed=20, successes_only=True)
    # The second and the fourth attempt
    assert box(demonstrations.observations)[demonstrations.episode_starts, 0].tolist() == [21, 23]
    assert demonstrations.metadata["n_attempts"] == 4
    assert demonstrations.metadata["success_rate"] == 1.0


@pytest.mark.parametrize(
    ("env", "rate"), [(Walk(success_key="is_success"), 0.5), (Walk(), None), (ReportsSuccessesAlone(), 0.5)]
)
def test_the_success_rate_is_recorded(env: Walk, rate: float | None):
    assert record(half, env, 4).metadata["success_rate"] == rate


def test_an_environment_that_reports_no_success_is_refused():
    with pytest.raises(DemonstrationsError, match="found neither 'is_success' nor 'success' in the last info"):
        record(half, Walk(), 1, successes_only=True)


def test_too_few_successes_are_refused():
    with pytest.raises(DemonstrationsError, match="record: found 2 successes in 5 attempts, expected 3"):
        record(half, Walk(success_key="is_success"), 3, successes_only=True, max_attempts=5)


def test_too_few_attempts_are_refused():
    with pytest.raises(DemonstrationsError, match="record: found 2 episodes in 2 attempts, expected 3"):
        record(half, Walk(), 3, max_attempts=2)


def test_ten_attempts_are_made_per_episode():
    class NeverSucceeds(Walk):
        def info(self, over: bool) -> dict[str, Any]:
            return {"is_success": False}

    with pytest.raises(DemonstrationsError, match="record: found 0 successes in 20 attempts, expected 2"):
        record(half, NeverSucceeds(), 2, successes_only=True)


def test_dict_observations_are_copied_and_stacked():
    demonstrations = record(half, Images(), 2)
    assert demonstrations.observations["image"][:, 0, 0, 0].tolist() == [0, 10, 0, 10]
    assert demonstrations.next_observations["image"][:, 1, 1, 2].tolist() == [10, 20, 10, 20]
    assert demonstrations.observations["image"].dtype == np.uint8
    assert demonstrations.observations["clock"].tolist() == [0, 1, 0, 1]
    env = Images()
    demonstrations.check_spaces(env.observation_space, env.action_space)


def test_discrete_actions_are_recorded():
    def lean(observation: np.ndarray) -> int:
        return int(observation[2] > 0)

    demonstrations = record(lean, "CartPole-v1", 2)
    env = gym.make("CartPole-v1")
    demonstrations.check_spaces(env.observation_space, env.action_space)
    np.testing.assert_array_equal(demonstrations.actions, box(demonstrations.observations)[:, 2] > 0)
    assert demonstrations.actions.dtype == np.int64
    assert demonstrations.terminated.sum() == 2


def test_action_noise_needs_continuous_actions():
    with pytest.raises(DemonstrationsError, match=r"found action_noise=0.1 with Discrete\(2\), expected a Box space"):
        record(lambda observation: 0, "CartPole-v1", 1, action_noise=0.1)


def test_provenance_is_recorded():
    env = gym.make("Pendulum-v1", g=9.81)
    metadata = record(half, env, 1, seed=2, action_noise=0.1, producer="by hand").metadata
    assert metadata["env_id"] == "Pendulum-v1"
    assert metadata["env_kwargs"] == {"g": 9.81}
    assert metadata["producer"] == "by hand"
    assert (metadata["seed"], metadata["action_noise"], metadata["n_attempts"]) == (2, 0.1, 1)
    assert metadata["versions"] == {
        "gymnasium": gym.__version__,
        "numpy": np.__version__,
        "stable_baselines3": sb3.__version__,
    }


def test_the_mean_return_and_an_unregistered_environment_are_recorded():
    metadata = record(half, Walk(), 2).metadata
    assert metadata["mean_return"] == 1.5
    assert "env_id" not in metadata


def test_the_producer_is_named_by_itself(td3: TD3):
    assert record(half, Walk(), 1).metadata["producer"] == "function half"
    assert record(td3, "Pendulum-v1", 1).metadata["producer"] == "TD3"


def test_no_episode_is_refused():
    with pytest.raises(DemonstrationsError, match="record: found n_episodes=0, expected at least 1"):
        record(half, Walk(), 0)


@pytest.mark.parametrize("normalize", [False, True])
def test_a_vectorised_environment_is_recorded_like_the_one_in_it(normalize: bool, td3: TD3):
    plain = DummyVecEnv([lambda: gym.make("Pendulum-v1")])
    env = VecNormalize(plain) if normalize else plain
    statistics = env if isinstance(env, VecNormalize) else None
    found, expected = record(td3, env, 2, seed=3), record(td3, "Pendulum-v1", 2, seed=3, vec_normalize=statistics)
    for name in ("observations", "next_observations", "actions", "rewards", "terminated", "truncated"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    assert found.metadata["env_id"] == "Pendulum-v1"


def test_vectorised_environments_that_cannot_be_recorded_are_refused():
    with pytest.raises(DemonstrationsError, match="found a VecEnv of 2 environments, expected one: a policy with a memory"):
        record(half, DummyVecEnv([Walk, Walk]), 1)
    with pytest.raises(DemonstrationsError, match="found VecNormalize inside other wrappers, expected it outermost"):
        record(half, VecFrameStack(VecNormalize(DummyVecEnv([Walk])), 2), 1)
    with pytest.raises(DemonstrationsError, match=r"found env of type int, expected a gymnasium.Env or its id"):
        record(half, 3, 1)  # type: ignore[arg-type]


def test_an_episode_is_cut_after_so_many_steps():
    demonstrations = record(half, Walk(terminates=True), 2, max_episode_steps=2)
    assert demonstrations.episode_lengths.tolist() == [2, 2]
    assert demonstrations.truncated.tolist() == [False, True] * 2
    assert not demonstrations.terminated.any()
    with pytest.raises(DemonstrationsError, match="found max_episode_steps=0, expected at least 1"):
        record(half, Walk(), 1, max_episode_steps=0)


class TwoMotors(Walk):
    def __init__(self) -> None:
        super().__init__()
        self.action_space = spaces.Box(-1, 1, (2,), np.float32)


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (0.5, r"found an action of shape \(\) \(0.5\), expected \(2,\), a number for each component"),
        ([0.5], r"found an action of shape \(1,\)"),
        ([[0.5, 0.5]], r"found an action of shape \(1, 2\)"),
        ([0.5, float("nan")], "found the action .*nan.*, expected finite numbers"),
        (["left", "up"], "found the action .*, expected finite numbers"),
    ],
)
def test_an_action_that_numpy_would_broadcast_is_refused(action: Any, message: str):
    with pytest.raises(DemonstrationsError, match=message):
        record(lambda observation: action, TwoMotors(), 1)


def test_an_action_out_of_bounds_is_clipped_with_one_warning():
    with pytest.warns(UserWarning, match=r"found an action of -3 in component 1, outside the bounds \[-1, 1\]") as caught:
        demonstrations = record(lambda observation: [1.0 + 1e-7, -3.0], TwoMotors(), 2)
    assert len(caught) == 1
    assert demonstrations.actions.tolist() == [[1.0, -1.0]] * 6


def test_one_number_is_an_action_of_one_component():
    assert record(lambda observation: 0.5, Walk(), 1).actions.tolist() == [[0.5]] * 3


def test_a_discrete_action_that_is_not_there_is_refused():
    with pytest.raises(DemonstrationsError, match=r"found the action 2, expected one of Discrete\(2\)"):
        record(lambda observation: 2, "CartPole-v1", 1)


def test_rewards_that_are_no_numbers_are_refused():
    class Broken(Walk):
        def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
            observation, _, *rest = super().step(action)
            return observation, float("nan"), *rest

    with pytest.raises(DemonstrationsError, match="rewards: episode 0, step 0, component 0: found nan"):
        record(half, Broken(), 1)


def test_an_environment_that_reports_successes_alone_is_recorded():
    # The first attempt says nothing, the second one succeeds
    demonstrations = record(half, ReportsSuccessesAlone(), 2, seed=20, successes_only=True)
    assert box(demonstrations.observations)[demonstrations.episode_starts, 0].tolist() == [21, 23]
    with pytest.raises(DemonstrationsError, match="record: found 1 successes in 3 attempts, expected 2"):
        record(half, ReportsSuccessesAlone(), 2, successes_only=True, max_attempts=3)


def test_episodes_know_their_seed_and_success():
    demonstrations = record(half, ReportsSuccessesAlone(), 4, seed=20)
    assert demonstrations.episode_info["seed"].tolist() == [20, 21, 22, 23]
    assert demonstrations.episode_info["success"].tolist() == [False, True, False, True]
    assert "success" not in record(half, Walk(), 2).episode_info


def test_the_spaces_are_recorded():
    env = Images()
    metadata = record(half, env, 1).metadata
    assert space_from_json(metadata["observation_space"]) == env.observation_space
    assert space_from_json(metadata["action_space"]) == env.action_space
    unbounded = record(half, Walk(), 1).metadata["observation_space"]
    assert unbounded == {"type": "Box", "dtype": "float32", "shape": [2], "low": [-np.inf] * 2, "high": [np.inf] * 2}


def test_how_an_environment_is_watched_is_not_recorded():
    env = gym.make("Pendulum-v1", g=9.0, render_mode="rgb_array")
    assert record(half, env, 1).metadata["env_kwargs"] == {"g": 9.0}


def test_a_space_that_no_demonstrations_have_is_refused():
    class Talks(Walk):
        def __init__(self) -> None:
            super().__init__()
            self.observation_space = spaces.Text(5)

    with pytest.raises(DemonstrationsError, match=r"found the space Text\(.*, expected one of Box, Dict"):
        record(half, Talks(), 1)


def test_an_episode_without_end_is_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(policy_recording, "LONG_EPISODE", 3)
    with pytest.warns(UserWarning, match="found an episode of 3 steps that is not over"):
        record(half, Walk(), 1)
