"""Stacks of frames: those that VecFrameStack itself makes of the same episodes."""

from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecFrameStack, VecNormalize, VecTransposeImage

from sb3_pgfd import A2CfD, DDPGfD, Demonstrations, DemonstrationsError
from sb3_pgfd.demonstrations import Episode, record

SPACES: dict[str, spaces.Space] = {
    "box": spaces.Box(-np.inf, np.inf, (3,)),
    "matrix": spaces.Box(-np.inf, np.inf, (2, 3)),
    "channels last": spaces.Box(0, 255, (40, 36, 2), np.uint8),
    "channels first": spaces.Box(0, 255, (2, 40, 36), np.uint8),
    "dict": spaces.Dict(
        {"goal": spaces.Box(-np.inf, np.inf, (2,), np.float64), "image": spaces.Box(0, 255, (40, 36, 1), np.uint8)}
    ),
}


class Counter(gym.Env):
    """Every number of an observation is another one. Episodes of 2, 5, 1, 3, 2, ... steps end in turn by both flags."""

    action_space = spaces.Box(-1.0, 1.0, (1,))

    def __init__(self, view: str):
        self.observation_space = SPACES[view]
        self.shown = self.episode = 0

    def _observe(self) -> Any:
        self.shown += 1
        return self._filled(self.observation_space)

    def _filled(self, space: spaces.Space) -> Any:
        if isinstance(space, spaces.Dict):
            return {key: self._filled(subspace) for key, subspace in space.spaces.items()}
        assert space.shape is not None
        return ((np.arange(np.prod(space.shape)) + 7 * self.shown) % 251 + 1).reshape(space.shape).astype(space.dtype)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.episode += 1
        self.left = (2, 5, 1, 3)[self.episode % 4]
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.left -= 1
        is_over, terminates = self.left == 0, self.episode % 2 == 0
        return self._observe(), float(self.shown), is_over and terminates, is_over and not terminates, {}


def single(view: str) -> Demonstrations:
    return record(lambda _: np.zeros(1, dtype=np.float32), Counter(view), 5)


def by_wrapper(env: VecEnv, n_rows: int) -> tuple[list[Any], list[Any]]:
    """:return: Observations and next observations of each step, as a replay buffer is given them"""
    before, after = [], []
    seen: Any = env.reset()
    for _ in range(n_rows):
        before.append(first(seen))
        seen, _, dones, infos = env.step(np.zeros((1, 1), dtype=np.float32))
        after.append(infos[0]["terminal_observation"] if dones[0] else first(seen))
    return before, after


def first(seen: Any) -> Any:
    return {key: array[0].copy() for key, array in seen.items()} if isinstance(seen, dict) else seen[0].copy()


def assert_same(found: Any, expected: list[Any]) -> None:
    if isinstance(found, Mapping):
        for key, array in found.items():
            assert_same(array, [one[key] for one in expected])
    else:
        assert found.dtype == expected[0].dtype
        np.testing.assert_array_equal(found, np.stack(expected))


@pytest.mark.parametrize("n_stack", [1, 2, 4])
@pytest.mark.parametrize("view", SPACES)
def test_it_makes_what_the_wrapper_makes(view: str, n_stack: int) -> None:
    frames = single(view)
    stacked = frames.stack_frames(n_stack)
    before, after = by_wrapper(VecFrameStack(DummyVecEnv([lambda: Counter(view)]), n_stack), len(frames))
    assert_same(stacked.observations, before)
    assert_same(stacked.next_observations, after)
    np.testing.assert_array_equal(stacked.rewards, frames.rewards)
    assert stacked.metadata.get("frame_stack") == (None if n_stack == 1 else n_stack)
    # The frames are what they were, and each episode is still one sequence
    assert stacked.episode(1).observations is not None
    assert_same(frames.observations, by_wrapper(DummyVecEnv([lambda: Counter(view)]), len(frames))[0])


def test_by_hand() -> None:
    dataset = Demonstrations.from_episodes(
        [Episode(np.arange(n + 1.0)[:, None] + start, np.zeros((n, 1)), np.zeros(n), True) for n, start in ((3, 10), (1, 20))]
    ).stack_frames(3)
    assert isinstance(dataset.observations, np.ndarray)
    assert dataset.observations.tolist() == [[0, 0, 10], [0, 10, 11], [10, 11, 12], [0, 0, 20]]
    assert isinstance(dataset.next_observations, np.ndarray)
    assert dataset.next_observations.tolist() == [[0, 10, 11], [10, 11, 12], [11, 12, 13], [0, 20, 21]]


@pytest.mark.parametrize("order", ["first", "last"])
def test_the_order_of_channels_may_be_given(order: str) -> None:
    frames = single("matrix")
    before, _ = by_wrapper(VecFrameStack(DummyVecEnv([lambda: Counter("matrix")]), 2, order), len(frames))
    assert_same(frames.stack_frames(2, order).observations, before)


@pytest.mark.parametrize(
    ("n_stack", "order", "message"),
    [(0, None, "found 0, expected a whole"), (2.0, None, "found 2.0"), (2, "middle", "channels_order: found 'middle'")],
)
def test_bad_input_is_refused(n_stack: Any, order: Any, message: str) -> None:
    with pytest.raises(DemonstrationsError, match=message):
        single("box").stack_frames(n_stack, order)


def test_discrete_observations_have_no_axis() -> None:
    dataset = Demonstrations.from_episodes([Episode(np.arange(3), np.zeros((2, 1)), np.zeros(2), True)])
    with pytest.raises(DemonstrationsError, match=r"observations: found shape \(\) per step, expected an axis"):
        dataset.stack_frames(2)


def test_it_is_an_option_of_load(tmp_path: Any) -> None:
    path = single("box").save(tmp_path / "frames.npz")
    assert_same(Demonstrations.load(path, stack_frames=3).observations, list(single("box").stack_frames(3).observations))


# --- Models ----------------------------------------------------------------------------------------------------------

WRAPPERS: dict[str, Callable[[VecEnv], VecEnv]] = {
    "box": lambda env: VecNormalize(VecFrameStack(env, 3), norm_obs=False),
    "channels last": lambda env: VecFrameStack(env, 3),
    "channels first": lambda env: VecFrameStack(env, 3),
    "dict": lambda env: VecFrameStack(env, 3),
    # Turned before they are stacked
    "turned": lambda env: VecFrameStack(VecTransposeImage(env), 3),
}


@pytest.mark.parametrize("wrapped", WRAPPERS)
@pytest.mark.parametrize("recorded_with", ["a single frame", "a turned frame", "the stack"])
def test_a_model_stacks_frames_as_its_environment_does(wrapped: str, recorded_with: str) -> None:
    view = "channels last" if wrapped == "turned" else wrapped
    policy = "MultiInputPolicy" if view == "dict" else "CnnPolicy" if "channels" in view else "MlpPolicy"
    make: Callable[[], VecEnv] = lambda: WRAPPERS[wrapped](DummyVecEnv([lambda: Counter(view)]))  # noqa: E731
    dataset = single(view)
    model_env = DDPGfD._wrap_env(make())
    before, after = by_wrapper(model_env, len(dataset))
    if recorded_with == "the stack":
        dataset = dataset.changed(observations=joined(before), next_observations=joined(after))
    elif recorded_with == "a turned frame":
        dataset = dataset.changed(
            observations=turned(dataset.observations), next_observations=turned(dataset.next_observations)
        )
    options: dict[str, Any] = {"policy_kwargs": {"net_arch": [4]}, "device": "cpu"}
    model = DDPGfD(policy, make(), dataset, buffer_size=10, **options)
    assert isinstance(model.demonstrations, Demonstrations)
    assert_same(model.demonstrations.observations, before)
    assert_same(model.demonstrations.next_observations, after)
    other = A2CfD(policy, make(), **options)
    other.add_demonstrations(dataset)
    assert isinstance(other.demonstrations, Demonstrations)
    assert_same(other.demonstrations.observations, before)


def joined(rows: list[Any]) -> Any:
    return {key: np.stack([row[key] for row in rows]) for key in rows[0]} if isinstance(rows[0], dict) else np.stack(rows)


def turned(observations: Any) -> Any:
    """:return: Images with their channels first"""
    if isinstance(observations, Mapping):
        return {key: turned(array) for key, array in observations.items()}
    return np.moveaxis(observations, -1, 1) if observations.shape[1:] == (40, 36, observations.shape[-1]) else observations


def test_frames_of_another_shape_are_refused_as_before() -> None:
    with pytest.raises(DemonstrationsError, match=r"found shape \(2, 3\) per step, expected \(9,\)"):
        DDPGfD("MlpPolicy", WRAPPERS["box"](DummyVecEnv([lambda: Counter("box")])), single("matrix"), device="cpu")


def test_stacks_are_not_stacked_again() -> None:
    with pytest.raises(DemonstrationsError, match="found stacks of 2 frames already"):
        single(next(iter(SPACES))).stack_frames(2).stack_frames(2)
