"""Every kind of observation that SB3 has policies for."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from small_models import demo_rows, own_rows
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize, VecTransposeImage

from sb3_pgfd import DDPGfD, Demonstrations, TD3fD
from sb3_pgfd.common.updates import Turn
from sb3_pgfd.demonstrations import record as record_episodes

MakeModel = Callable[..., DDPGfD]
POLICIES = {
    "box": "MlpPolicy",
    "matrix": "MlpPolicy",
    "dict": "MultiInputPolicy",
    "image": "CnnPolicy",
    "dict_image": "MultiInputPolicy",
}


def vec_env(view: str, n_envs: int = 1) -> DummyVecEnv:
    return DummyVecEnv([lambda: gym.make("PointToGoal-v0", view=view)] * n_envs)


def stored(model: DDPGfD, key: str = "", name: str = "observations") -> np.ndarray:
    """:return: Of the demonstrations, then of the agent's own transitions"""
    return np.concatenate([rows(model, f"{name}/{key}") for rows in (demo_rows, own_rows)])


def drawn(model: DDPGfD, indices: np.ndarray, column: str) -> np.ndarray:
    """:return: A column of the rows of a batch"""
    own, demos = (model.buffer.ring.columns[column], model.buffer.demonstrations.columns[column])
    return np.concatenate((own, demos))[indices]


@pytest.mark.parametrize("n_envs", [1, 2])
@pytest.mark.parametrize("view", list(POLICIES))
def test_learning_works_on_every_kind_of_observation(
    make_model: MakeModel, record: Callable[..., Demonstrations], view: str, n_envs: int
) -> None:
    options: dict[str, Any] = dict(demonstrations=record(view, 1), pretrain_steps=2, learning_starts=22, bc_coef=0.1)
    model = make_model(POLICIES[view], vec_env(view, n_envs), **options)
    before = {name: value.clone() for name, value in model.policy.state_dict().items()}
    model.learn(26)
    after = model.policy.state_dict()
    assert all(th.isfinite(value).all() for value in after.values())
    assert any(not th.equal(after[name], before[name]) for name in after if name.startswith("actor."))
    lengths = evaluate_policy(model, vec_env(view), n_eval_episodes=1, return_episode_rewards=True, warn=False)[1]
    assert lengths == [20]


@pytest.mark.parametrize("share", [False, True])
def test_images_are_learned_from_with_a_shared_or_an_own_features_extractor(
    make_model: MakeModel, record: Callable[..., Demonstrations], share: bool
) -> None:
    kwargs = {"share_features_extractor": share}
    options: dict[str, Any] = dict(demonstrations=record("image", 1), pretrain_steps=1, policy_kwargs=kwargs)
    model = make_model("CnnPolicy", vec_env("image"), **options)
    for actor, critic in ((model.actor, model.critic), (model.actor_target, model.critic_target)):
        assert (critic.features_extractor.encoder is actor.features_extractor.encoder) == share
        assert critic.features_extractor.head is not actor.features_extractor.head
    before = {name: next(getattr(model, name).features_extractor.encoder.parameters()).clone() for name in ("actor", "critic")}
    model.learn(0)
    for name, value in before.items():
        assert not th.equal(next(getattr(model, name).features_extractor.encoder.parameters()), value)


@pytest.mark.parametrize("algorithm", [DDPGfD, TD3fD])
def test_critics_train_the_shared_encoder_and_cloning_does_as_long_as_the_actor_only_clones(
    make_model: MakeModel, record: Callable[..., Demonstrations], algorithm: Any
) -> None:
    options: dict[str, Any] = dict(algorithm=algorithm, demonstrations=record("image", 1), bc_coef=1.0, pretrain_steps=0)
    policy_kwargs = {"image_shift": 0, "n_critics": 1}
    model = make_model("CnnPolicy", vec_env("image"), policy_kwargs=policy_kwargs, **options).learn(0)
    extractor: Any = model.critic.features_extractor
    encoder = list(extractor.encoder.parameters())
    assert not {id(parameter) for parameter in encoder} & optimized(model.actor)
    assert {id(parameter) for parameter in encoder} <= optimized(model.critic)
    # An actor that follows Q does not move the encoder. Rewards are 0 and Q is 0 everywhere: the critic has learned all
    batch = model.buffer.sample_batch(8)
    with th.no_grad():
        for network in (model.critic, model.critic_target):
            last: Any = network.q_networks[0]
            for parameter in last[-1].parameters():
                parameter.zero_()
    batch = batch._replace(rewards=th.zeros_like(batch.rewards))
    for clones_only, moves in ((False, False), (True, True)):
        before = [parameter.clone() for parameter in encoder]
        model.policy.set_training_mode(True)
        model._update_learning_rates()
        for group in model.critic.optimizer.param_groups:
            group["weight_decay"] = 0.0
        model.update(batch, th.tensor(clones_only), Turn(True, 1.0))
        assert all(th.equal(one, other) for one, other in zip(before, encoder, strict=True)) != moves


def optimized(network: Any) -> set[int]:
    return {id(parameter) for group in network.optimizer.param_groups for parameter in group["params"]}


@pytest.mark.parametrize(("view", "key"), [("image", ""), ("dict_image", "image")])
def test_recorded_and_own_images_are_stored_alike(
    make_model: MakeModel, record: Callable[..., Demonstrations], view: str, key: str
) -> None:
    dataset = record(view, 1)
    model = make_model(POLICIES[view], vec_env(view), demonstrations=dataset, pretrain_steps=0).learn(5)
    images = stored(model, key)
    assert images.shape[1:] == (1, 36, 36)
    recorded: Any = dataset.observations
    np.testing.assert_array_equal(images[: len(dataset)], np.moveaxis(recorded[key] if key else recorded, -1, 1))
    # The point is a bar from the left, so all lines of an image are equal and fall from left to right
    assert (images == images[:, :, :1]).all()
    assert (np.diff(images.astype(int), axis=3) <= 0).all()


def test_a_matrix_is_kept_as_a_matrix(make_model: MakeModel, record: Callable[..., Demonstrations]) -> None:
    dataset = record("matrix", 1)
    model = make_model(env=vec_env("matrix"), demonstrations=dataset).learn(3)
    assert stored(model).shape[1:] == (2, 3)
    np.testing.assert_array_equal(stored(model)[: len(dataset)], dataset.observations)


def test_normalised_runs_store_raw_and_learn_from_normalised_numbers(
    make_model: MakeModel, demonstrations: Demonstrations
) -> None:
    env = VecNormalize(vec_env("box"), gamma=0.9)
    model = make_model(env=env, action_noise=None).learn(60)
    np.testing.assert_array_equal(stored(model)[: len(demonstrations)], demonstrations.observations)
    assert np.abs(stored(model)).max() <= 1.0
    batch = model.buffer.sample_batch(50, env=env)
    assert isinstance(batch.observations, th.Tensor)
    expected: Any = env.normalize_obs(drawn(model, batch.indices, "observations/"))
    np.testing.assert_allclose(batch.observations.numpy(), expected, rtol=1e-5)
    expected_rewards = env.normalize_reward(drawn(model, batch.indices, "rewards"))
    np.testing.assert_allclose(batch.rewards[:50, 0].numpy(), expected_rewards, rtol=1e-5)
    assert float(batch.observations.abs().max()) > 1.0


def test_normalised_dict_observations_are_learned_from(make_model: MakeModel, record: Callable[..., Demonstrations]) -> None:
    env = VecNormalize(vec_env("dict"), norm_obs_keys=["position"])
    model = make_model("MultiInputPolicy", env, demonstrations=record("dict", 1)).learn(40)
    batch = model.buffer.sample_batch(20, env=env)
    assert isinstance(batch.observations, dict)
    goals, positions = batch.observations["goal"].numpy(), batch.observations["position"].numpy()
    assert set(goals.ravel()) == {np.float32(0.8)}
    raw = {key: drawn(model, batch.indices, f"observations/{key}") for key in ("position", "goal")}
    expected: Any = env.normalize_obs(raw)
    np.testing.assert_allclose(positions, expected["position"], rtol=1e-5)


def test_rewards_of_image_tasks_can_be_normalised_inside_out(
    make_model: MakeModel, record: Callable[..., Demonstrations]
) -> None:
    env = VecNormalize(VecTransposeImage(vec_env("image")), norm_obs=False)
    model = make_model("CnnPolicy", env, demonstrations=record("image", 1), learning_starts=100).learn(25)
    assert (stored(model) == stored(model)[:, :, :1]).all()


@pytest.mark.parametrize(
    ("policy", "env"),
    [
        # SB3 puts its VecTransposeImage around the VecNormalize whose raw observations are stored
        ("CnnPolicy", lambda: VecNormalize(vec_env("image"), norm_obs=False)),
        ("MlpPolicy", lambda: VecFrameStack(VecNormalize(vec_env("box")), 2)),
    ],
)
def test_a_wrapper_that_would_store_what_the_model_does_not_see_is_refused(
    make_model: MakeModel, policy: str, env: Callable[[], Any]
) -> None:
    with pytest.raises(ValueError, match=r"found VecNormalize around .*, expected .* as the model sees it"):
        make_model(policy, env(), demonstrations=None)


def test_integers_whose_normalisation_cannot_be_undone_are_refused(make_model: MakeModel) -> None:
    env = VecNormalize(DummyVecEnv([lambda: gym.wrappers.DtypeObservation(gym.make("PointToGoal-v0"), np.int64)]))
    with pytest.raises(ValueError, match=r"found VecNormalize of Box\(.*int64\), expected floats, as normalised integers"):
        make_model(env=env, demonstrations=None)


def test_a_stack_of_frames_can_be_normalised(make_model: MakeModel) -> None:
    env = VecNormalize(VecFrameStack(vec_env("box"), 2))
    model = make_model(env=env, demonstrations=None, learning_starts=20).learn(40)
    assert stored(model).shape == (40, 2)


def test_a_stack_of_images_is_stored_frame_by_frame(
    make_model: MakeModel, record: Callable[..., Demonstrations], tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    def env() -> VecFrameStack:
        return VecFrameStack(vec_env("image"), 3)

    model = make_model("CnnPolicy", env(), demonstrations=record("image", 1), learning_starts=20, verbose=1)
    # 36 x 36 bytes, four numbers, and the rest of a row
    assert "Replay buffer: 1.3 kB for each transition" in capsys.readouterr().out
    model.verbose = 0
    model.learn(45)
    assert model.buffer.frame_stack == 3
    own = model.buffer.ring.take(np.arange(45))
    first, second = own["observations/"], own["next_observations/"]
    assert first.shape == (45, 3, 36, 36)
    np.testing.assert_array_equal(first[:, 1:], second[:, :-1])
    # Episodes of 20 steps begin with two black frames
    black = (first.reshape(45, 3, -1) == 0).all(axis=2)
    assert np.flatnonzero(black.sum(axis=1) == 2).tolist() == [0, 20, 40]
    assert model.buffer.ring.frames[""]._n_used - 1 == 45 + 3
    model.save_training_state(tmp_path / "state")
    resumed = type(model).resume(tmp_path / "state", env(), device="cpu")
    resumed.learn(95)
    again = resumed.buffer.ring.take(np.arange(95))
    np.testing.assert_array_equal(again["observations/"][:45], first)
    # The running episode goes on with its last frames, not with black ones
    np.testing.assert_array_equal(again["observations/"][45], second[44])
    assert resumed.buffer.ring.frames[""]._n_used - 1 == 95 + 5


def test_discrete_observations_are_learned_from(make_model: MakeModel) -> None:
    class Cells(gym.Env):
        """Five cells in a row."""

        observation_space = gym.spaces.Discrete(5)
        action_space = gym.spaces.Box(-1.0, 1.0, (1,))

        def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
            super().reset(seed=seed)
            self.cell = 0
            return self.cell, {}

        def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
            self.cell = int(np.clip(self.cell + np.sign(action[0]), 0, 4))
            return self.cell, float(self.cell == 4), self.cell == 4, False, {}

    env = gym.wrappers.TimeLimit(Cells(), 10)
    dataset = record_episodes(lambda _: np.ones(1, dtype=np.float32), env, 2)
    model = make_model(env=env, demonstrations=dataset).learn(30)
    assert stored(model)[:4].ravel().tolist() == [0, 1, 2, 3]
    assert model._n_updates > 5
