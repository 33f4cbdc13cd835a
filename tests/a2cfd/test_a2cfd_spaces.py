"""Every kind of action and observation, with demonstrations."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from clockwork import Clockwork, set_linear
from gymnasium import spaces
from pick_zero import CHOICES, PickZero, always, pick_zero
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize, VecTransposeImage

from sb3_pgfd import A2CfD, Demonstrations
from sb3_pgfd.demonstrations import Episode
from sb3_pgfd.demonstrations import record as record_episodes

MakeModel = Callable[..., A2CfD]
POLICIES = {
    "box": "MlpPolicy",
    "matrix": "MlpPolicy",
    "dict": "MultiInputPolicy",
    "image": "CnnPolicy",
    "dict_image": "MultiInputPolicy",
}


def vec_env(view: str, n_envs: int = 1) -> DummyVecEnv:
    return DummyVecEnv([lambda: gym.make("PointToGoal-v0", view=view)] * n_envs)


def moved(model: A2CfD, before: dict[str, th.Tensor]) -> bool:
    """:return: Whether all weights are finite and changed"""
    after = model.policy.state_dict()
    assert all(th.isfinite(value).all() for value in after.values())
    return not any(th.equal(after[name], before[name]) for name in after if name.endswith("weight"))


def weights(model: A2CfD) -> dict[str, th.Tensor]:
    return {name: value.clone() for name, value in model.policy.state_dict().items()}


# --- Actions ---------------------------------------------------------------------------------------------------------


def unpaid_demonstrations(action_space: spaces.Space) -> Demonstrations:
    """Of a choice that does not pay, so that it is not learned from the environment."""
    return record_episodes(lambda _: always(action_space, 1), PickZero(action_space), 4)


@pytest.mark.parametrize("action_space", CHOICES, ids=str)
@pytest.mark.parametrize("n_envs", [1, 4])
def test_choices_are_cloned_and_learned_from(make_model: MakeModel, action_space: spaces.Space, n_envs: int) -> None:
    options: dict[str, Any] = dict(demonstrations=unpaid_demonstrations(action_space), pretrain_steps=150, bc_coef=1.0)
    model = make_model(env=pick_zero(action_space, n_envs), pretrain_learning_rate=1e-2, **options)
    model.learn(0)
    states = np.array([[0.1, 1.0], [0.5, 0.0]], dtype=np.float32)
    actions, _ = model.predict(states, deterministic=True)
    assert actions.shape[1:] == action_space.shape
    assert (actions == 1).all()
    before = weights(model)
    model.learn(40)
    assert moved(model, before)


@pytest.mark.parametrize(("action_space", "probability"), list(zip(CHOICES, (1 / 3, 1 / 6, 1 / 4), strict=True)), ids=str)
def test_the_likelihood_of_choices_is_the_product_of_their_probabilities(
    make_model: MakeModel,
    attach: Callable[[A2CfD], A2CfD],
    recorder: Any,
    action_space: spaces.Space,
    probability: float,
) -> None:
    model = make_model(env=pick_zero(action_space), demonstrations=unpaid_demonstrations(action_space), pretrain_steps=1)
    # All choices are equally probable
    set_linear(model.policy.action_net, 0.0, 0.0)
    attach(model).learn(0)
    assert recorder.rows[-1]["pretrain/demo_log_likelihood"] == pytest.approx(np.log(probability), rel=1e-5)


@pytest.mark.parametrize(
    "box",
    [
        spaces.Box(-1.0, 3.0, (1,)),
        spaces.Box(np.array([[-1.0, -4.0], [0.0, 2.0]], np.float32), np.array([[3.0, -2.0], [0.01, 9.0]], np.float32)),
        spaces.Box(-1.0, 3.0, (2,), np.float64),
    ],
    ids=str,
)
def test_continuous_actions_are_cloned_in_environment_units(make_model: MakeModel, box: spaces.Box) -> None:
    env = Clockwork([1.0, 2.0, 3.0], action_space=box)
    wanted = (box.low + 0.8 * (box.high - box.low)).astype(box.dtype)
    demonstrations = record_episodes(lambda _: wanted, env, 2)
    model = make_model(env=env, demonstrations=demonstrations, pretrain_steps=150, pretrain_learning_rate=3e-2).learn(0)
    action, _ = model.predict(np.ones(1, dtype=np.float32), deterministic=True)
    assert action.shape == box.shape
    np.testing.assert_allclose((action - wanted) / (box.high - box.low), 0.0, atol=0.05)
    before = weights(model)
    assert moved(model.learn(40), before)


# --- Observations ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_envs", [1, 4])
@pytest.mark.parametrize("view", list(POLICIES))
def test_learning_works_on_every_kind_of_observation(
    make_model: MakeModel, record: Callable[..., Demonstrations], view: str, n_envs: int
) -> None:
    model = make_model(POLICIES[view], vec_env(view, n_envs), demonstrations=record(view, 1), pretrain_steps=2)
    before = weights(model)
    assert moved(model.learn(20), before)
    evaluate_policy(model, vec_env(view), n_eval_episodes=1, warn=False)


@pytest.mark.parametrize("view", ["image", "dict_image"])
def test_recorded_and_own_images_are_seen_alike(
    make_model: MakeModel, record: Callable[..., Demonstrations], view: str
) -> None:
    dataset = record(view, 1)
    model = make_model(POLICIES[view], vec_env(view), demonstrations=dataset, pretrain_steps=0).learn(5)
    batch = model._demonstration_batches.sample(20)
    own: Any = model.rollout_buffer.observations
    recorded: Any = dataset.observations
    seen: Any = batch.observations
    if view == "dict_image":
        own, recorded, seen = own["image"], recorded["image"], seen["image"]
    assert own.shape[1:] == seen.shape[1:] == (1, 36, 36)
    assert seen.dtype == th.uint8
    np.testing.assert_array_equal(seen, np.moveaxis(recorded[batch.rows], -1, 1))


@pytest.mark.parametrize("space", [spaces.Discrete(8), spaces.MultiDiscrete([8, 2]), spaces.MultiBinary(3)], ids=str)
@pytest.mark.parametrize("in_dict", [False, True])
def test_observations_that_are_choices_are_learned_from(make_model: MakeModel, space: spaces.Space, in_dict: bool) -> None:
    class Numbered(gym.ObservationWrapper):
        """The time as a choice."""

        def __init__(self) -> None:
            super().__init__(Clockwork([0.0, 1.0, 0.0, 2.0, 0.0]))
            self.observation_space = spaces.Dict({"time": space}) if in_dict else space

        def observation(self, observation: np.ndarray) -> Any:
            time = int(observation[0])
            seen: Any = time
            if isinstance(space, spaces.MultiDiscrete):
                seen = np.array([time, time % 2])
            elif isinstance(space, spaces.MultiBinary):
                seen = np.array([time >> bit & 1 for bit in range(3)], dtype=np.int8)
            return {"time": seen} if in_dict else seen

    dataset = record_episodes(lambda _: np.full(1, 0.5, dtype=np.float32), Numbered(), 2)
    model = make_model("MultiInputPolicy" if in_dict else "MlpPolicy", Numbered(), demonstrations=dataset)
    before = weights(model)
    model.learn(25)
    assert all(th.isfinite(value).all() for value in model.policy.state_dict().values())
    assert not th.equal(weights(model)["action_net.weight"], before["action_net.weight"])


# --- Normalisation ---------------------------------------------------------------------------------------------------


def test_demonstrations_are_normalised_like_the_agents_own_steps(
    make_model: MakeModel, demonstrations: Demonstrations
) -> None:
    env = VecNormalize(vec_env("box"), gamma=0.9)
    model = make_model(env=env, gamma=0.9).learn(60)
    env.training = False
    batch = model._demonstration_batches.sample(30)
    raw: Any = demonstrations.observations
    expected: Any = env.normalize_obs(raw[batch.rows])
    assert isinstance(batch.observations, th.Tensor)
    np.testing.assert_array_equal(batch.observations, expected)
    assert float(batch.observations.abs().max()) > 1.0
    # Actions are those of the environment
    np.testing.assert_array_equal(batch.actions, demonstrations.actions[batch.rows])


def test_the_last_state_of_a_truncated_episode_is_normalised_too(make_model: MakeModel) -> None:
    states, actions = np.array([[0.0], [0.1], [0.3]], np.float32), np.zeros((2, 1), np.float32)
    cut = Demonstrations.from_episodes([Episode(states, actions, np.zeros(2), terminated=False)])
    env = VecNormalize(vec_env("box"), gamma=0.9)
    model = make_model(env=env, demonstrations=cut, gamma=0.9, policy_kwargs={"net_arch": []}).learn(60)
    env.training = False
    # V(s) = s
    set_linear(model.policy.value_net, 1.0, 0.0)
    end = float(np.asarray(env.normalize_obs(states[2:])).item())
    targets = model._demonstration_batches.value_targets(np.array([0, 1]))
    assert targets.tolist() == pytest.approx([0.81 * end, 0.9 * end])
    assert abs(end - 0.3) > 0.1


def test_returns_are_those_of_normalised_rewards(make_model: MakeModel, demonstrations: Demonstrations) -> None:
    env = VecNormalize(vec_env("box"), gamma=0.9)
    seen: list[np.ndarray] = []

    class Watched(A2CfD):
        """Keeps the first batch of pretraining."""

        def _pretrain_update(self) -> None:
            batches = self._demonstration_batches
            rows = np.arange(len(demonstrations))
            seen.append(batches.value_targets(rows).numpy())
            super()._pretrain_update()

    make_model(algorithm=Watched, env=env, gamma=0.9, pretrain_steps=1).learn(0)
    # Of 1 at the end of each episode, over the deviation of the running return
    scale = np.sqrt(env.ret_rms.var + env.epsilon)
    to_end = np.concatenate([np.arange(length)[::-1] for length in demonstrations.episode_lengths])
    np.testing.assert_allclose(seen[0], 0.9**to_end / scale, rtol=1e-5)
    assert abs(scale - 1.0) > 0.1


def test_normalised_dict_observations_are_learned_from(make_model: MakeModel, record: Callable[..., Demonstrations]) -> None:
    env = VecNormalize(vec_env("dict", 2), norm_obs_keys=["position"])
    dataset = record("dict", 2)
    model = make_model("MultiInputPolicy", env, demonstrations=dataset)
    before = weights(model)
    assert moved(model.learn(40), before)
    batch = model._demonstration_batches.sample(10)
    assert isinstance(batch.observations, dict)
    assert set(batch.observations["goal"].ravel().tolist()) == {float(np.float32(0.8))}
    stored: Any = dataset.observations
    expected: Any = env.normalize_obs({key: array[batch.rows] for key, array in stored.items()})
    np.testing.assert_array_equal(batch.observations["position"], expected["position"])


def test_what_cannot_be_normalised_like_the_agents_steps_is_refused(
    make_model: MakeModel, record: Callable[..., Demonstrations]
) -> None:
    def make_env() -> VecNormalize:
        return VecNormalize(vec_env("dict_image"), norm_obs_keys=["position"])

    # SB3 puts its VecTransposeImage around it
    with pytest.raises(ValueError, match=r"found VecNormalize around .*, expected .* as the model sees it"):
        make_model("MultiInputPolicy", make_env(), demonstrations=record("dict_image", 1))
    # Without demonstrations there is nothing to normalise
    assert make_model("MultiInputPolicy", make_env(), demonstrations=None).learn(10)._n_updates == 2


def test_an_environment_that_is_set_later_is_checked_too(make_model: MakeModel, record: Callable[..., Demonstrations]) -> None:
    stacked = record_episodes(
        lambda _: np.full(1, 1.9, np.float32), gym.wrappers.FrameStackObservation(gym.make("PointToGoal-v0"), 2), 1
    )
    flat: Any = [np.asarray(array).reshape(-1, 2) for array in (stacked.observations, stacked.next_observations)]
    ends = (stacked.terminated, stacked.truncated)
    dataset = Demonstrations.from_transitions(flat[0], stacked.actions, stacked.rewards, flat[1], *ends)
    stacks = VecFrameStack(VecNormalize(vec_env("box")), 2)
    with pytest.raises(ValueError, match="found VecNormalize around"):
        make_model(env=stacks, demonstrations=dataset)
    model = make_model(env=VecFrameStack(vec_env("box"), 2), demonstrations=dataset).learn(5)
    model.set_env(stacks)
    with pytest.raises(ValueError, match="found VecNormalize around"):
        model.learn(5)


def test_rewards_of_image_tasks_can_be_normalised(make_model: MakeModel, record: Callable[..., Demonstrations]) -> None:
    for env in (
        VecNormalize(vec_env("image"), norm_obs=False),
        VecNormalize(VecTransposeImage(vec_env("image")), norm_obs=False),
    ):
        model = make_model("CnnPolicy", env, demonstrations=record("image", 1), pretrain_steps=2)
        before = weights(model)
        assert moved(model.learn(10), before)
