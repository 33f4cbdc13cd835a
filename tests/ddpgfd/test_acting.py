"""Which actor acts, and which of its units are left out when."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from small_models import own_rows
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

from sb3_pgfd import DDPGfD
from sb3_pgfd.common.policies import with_dropout
from sb3_pgfd.ddpgfd import CnnPolicy, MlpPolicy, MultiInputPolicy

MakeModel = Callable[..., DDPGfD]
OBSERVATIONS: dict[type[MlpPolicy], spaces.Space] = {
    MlpPolicy: spaces.Box(-1.0, 1.0, (3,), seed=0),
    CnnPolicy: spaces.Box(0, 255, (1, 36, 36), np.uint8, seed=0),
    MultiInputPolicy: spaces.Dict({"a": spaces.Box(-1.0, 1.0, (2,)), "b": spaces.Box(-1.0, 1.0, (1,))}, seed=0),
}


def make_policy(policy_class: type[MlpPolicy] = MlpPolicy, **kwargs: Any) -> MlpPolicy:
    """A policy whose actors differ."""
    th.manual_seed(0)
    settings: dict[str, Any] = {"net_arch": [16, 16], **kwargs}
    policy = policy_class(OBSERVATIONS[policy_class], spaces.Box(-2.0, 2.0, (2,)), lambda _: 1e-3, **settings)
    actors = [policy.actor, policy.actor_target]
    if policy.average_actor is not None:
        actors.append(policy.mean_actor)
    for actor in actors:
        for parameter in actor.mu.parameters():
            nn.init.normal_(parameter, std=0.5)
    return policy


def action_of(policy: MlpPolicy, actor: nn.Module, observation: Any) -> np.ndarray:
    """What an actor says, in environment units"""
    with th.no_grad():
        tensor, _ = policy.obs_to_tensor(observation)
        return policy.unscale_action(actor(tensor).numpy())[0]


# --- average_actor ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy_class", list(OBSERVATIONS))
def test_the_mean_of_the_actors_acts_where_nothing_is_explored(policy_class: type[MlpPolicy]) -> None:
    policy = make_policy(policy_class, average_actor=0.25)
    for _ in range(3):
        observation = policy.observation_space.sample()
        for deterministic, actor in ((True, policy.mean_actor), (False, policy.actor)):
            found, _ = policy.predict(observation, deterministic=deterministic)
            np.testing.assert_array_equal(found, action_of(policy, actor, observation))
        assert not np.allclose(found, policy.predict(observation, deterministic=True)[0])


@pytest.mark.parametrize("policy_class", list(OBSERVATIONS))
def test_the_last_actor_acts_unless_asked(policy_class: type[MlpPolicy]) -> None:
    policy = make_policy(policy_class)
    assert not hasattr(policy, "mean_actor")
    observation = policy.observation_space.sample()
    for deterministic in (True, False):
        found, _ = policy.predict(observation, deterministic=deterministic)
        np.testing.assert_array_equal(found, action_of(policy, policy.actor, observation))
    before = [parameter.clone() for parameter in policy.parameters()]
    policy.update_mean_actor(1.0)
    assert all(th.equal(one, other) for one, other in zip(before, policy.parameters(), strict=True))


def test_the_mean_starts_as_a_copy_and_is_a_plain_mean_until_its_rate_is_slower() -> None:
    policy = MlpPolicy(OBSERVATIONS[MlpPolicy], spaces.Box(-1.0, 1.0, (2,)), lambda _: 1e-3, average_actor=0.25)
    for mean, parameter in zip(policy.mean_actor.parameters(), policy.actor.parameters(), strict=True):
        assert th.equal(mean, parameter)
    # All weights are 8, then 4, 0, 4, 8 and 0. The mean of the first, the first two, ...; then a quarter of the way
    for number, (weight, expected) in enumerate([(8, 8), (4, 6), (0, 4), (4, 4), (8, 5), (0, 3.75)], start=1):
        with th.no_grad():
            for parameter in policy.actor.parameters():
                parameter.fill_(float(weight))
        policy.update_mean_actor(policy.mean_actor_rate(number))
        for mean in policy.mean_actor.parameters():
            assert th.allclose(mean, th.tensor(float(expected)), atol=1e-6)
    assert not policy.mean_actor.training


def test_the_mean_takes_in_each_update_of_the_actor(make_model: MakeModel) -> None:
    model = make_model(pretrain_steps=0, learning_rate=1e-2, policy_kwargs={"average_actor": 0.25}).learn(0)
    mean = [th.zeros_like(parameter) for parameter in model.actor.parameters()]
    for number in range(1, 7):
        model.train(1, 8)
        for wanted, parameter in zip(mean, model.actor.parameters(), strict=True):
            wanted.lerp_(parameter.detach(), max(0.25, 1 / number))
    for found, wanted in zip(model.policy.mean_actor.parameters(), mean, strict=True):
        assert th.allclose(found, wanted, atol=1e-6)


def test_the_last_actor_explores(make_model: MakeModel) -> None:
    # No updates but those of pretraining, so that the actor is the one that acted
    model = make_model(pretrain_steps=20, learning_rate=1e-2, learning_starts=1000, policy_kwargs={"average_actor": 0.01})
    model.learn(10)
    taken, states = own_rows(model, "actions"), th.from_numpy(own_rows(model, "observations/"))
    with th.no_grad():
        by_actor, by_mean = model.actor(states).numpy(), model.policy.mean_actor(states).numpy()
    np.testing.assert_allclose(taken, by_actor, atol=1e-6)
    assert not np.allclose(taken, by_mean, atol=1e-3)


def test_updates_are_the_same_with_a_mean(make_model: MakeModel) -> None:
    states = []
    for average in (None, 0.01):
        # The first parameters of the mean are drawn last, and then those of the actor are copied to it
        model = make_model(policy_kwargs={"average_actor": average})
        th.manual_seed(0)
        states.append(model.learn(30).policy.state_dict())
    assert all(th.equal(value, states[1][name]) for name, value in states[0].items())


class Normalised(BaseFeaturesExtractor):
    """Batch normalisation of the observations."""

    def __init__(self, observation_space: spaces.Space):
        super().__init__(observation_space, features_dim=1)
        self.norm = nn.BatchNorm1d(1)

    def forward(self, observations: th.Tensor) -> th.Tensor:
        return self.norm(observations)


def test_the_mean_copies_statistics_of_batches(make_model: MakeModel) -> None:
    kwargs = {"average_actor": 0.01, "features_extractor_class": Normalised}
    model = make_model(policy_kwargs=kwargs).learn(30)
    found, expected = (actor.state_dict() for actor in (model.policy.mean_actor, model.actor))
    for name in ("running_mean", "running_var"):
        key = f"features_extractor.norm.{name}"
        assert th.equal(found[key], expected[key])
    assert expected["features_extractor.norm.running_mean"] != 0.0


# --- actor_dropout ----------------------------------------------------------------------------------------------------


def test_dropout_stands_in_front_of_all_linear_layers_but_the_first() -> None:
    layers = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2), nn.Tanh())
    dropped = with_dropout(layers, 0.25)
    kinds = [type(layer) for layer in dropped]
    assert kinds == [nn.Linear, nn.ReLU, nn.Dropout, nn.Linear, nn.ReLU, nn.Dropout, nn.Linear, nn.Tanh]
    assert [layer for layer in dropped if not isinstance(layer, nn.Dropout)] == list(layers)
    assert all(layer.p == 0.25 for layer in dropped if isinstance(layer, nn.Dropout))
    assert list(with_dropout(nn.Sequential(layers[0], layers[5]), 0.25)) == [layers[0], layers[5]]


@pytest.mark.parametrize("policy_class", list(OBSERVATIONS))
@pytest.mark.parametrize("probability", [0.0, 0.25])
def test_only_actors_have_dropout_and_only_if_asked(policy_class: type[MlpPolicy], probability: float) -> None:
    policy = make_policy(policy_class, actor_dropout=probability, n_critics=2)

    def count(network: nn.Module) -> int:
        return sum(isinstance(module, nn.Dropout) for module in network.modules())

    # One for each of the two hidden layers
    expected = 2 if probability else 0
    assert (count(policy.actor), count(policy.actor_target), count(policy.critic)) == (expected, expected, 0)


def test_dropout_leaves_out_units_in_training_alone() -> None:
    policy = make_policy(actor_dropout=0.5)
    policy.set_training_mode(True)
    observations = th.rand(1, 3).repeat(500, 1)
    assert policy.actor(observations).unique(dim=0).shape[0] > 100, "each row leaves out units of its own"
    for network in (policy.actor_target, policy.critic_target):
        assert not network.training
    assert policy.actor_target(observations).unique(dim=0).shape[0] == 1
    policy.set_training_mode(False)
    assert policy.actor(observations).unique(dim=0).shape[0] == 1
    # predict() leaves training mode by itself
    policy.set_training_mode(True)
    observation = np.zeros(3, dtype=np.float32)
    actions = {tuple(policy.predict(observation)[0]) for _ in range(20)}
    assert len(actions) == 1


def test_the_mean_leaves_out_nothing() -> None:
    policy = make_policy(actor_dropout=0.5, average_actor=0.1)
    policy.set_training_mode(True)
    assert not policy.mean_actor.training
    observation = np.zeros(3, dtype=np.float32)
    assert len({tuple(policy.predict(observation, deterministic=True)[0]) for _ in range(20)}) == 1


class Modes(BaseCallback):
    """Notes in each environment step whether the actor is in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.acting: list[bool] = []

    def _on_step(self) -> bool:
        self.acting.append(self.model.policy.actor.training)  # type: ignore[union-attr]  # DDPGfD's policy
        return True


@pytest.mark.parametrize("average", [None, 0.1])
def test_updates_leave_out_units_and_acting_and_targets_do_not(make_model: MakeModel, average: float | None) -> None:
    updating: list[tuple[bool, bool, bool]] = []
    modes = Modes()
    model = make_model(policy_kwargs={"actor_dropout": 0.3, "average_actor": average})

    def note(*_: Any) -> None:
        # Actions in the environment are taken without gradients
        if th.is_grad_enabled():
            updating.append((model.actor.training, model.actor_target.training, model.critic_target.training))

    model.actor.register_forward_hook(note)
    model.learn(30, modes)
    assert updating == [(True, False, False)] * model._n_updates
    assert len(updating) == 5 + 20
    assert modes.acting == [False] * 30


def test_an_update_is_that_of_the_units_that_were_not_left_out(make_model: MakeModel) -> None:
    # With the same units left out, the gradient is that of the same loss
    kwargs = {"net_arch": [32], "actor_dropout": 0.5}
    model = make_model(pretrain_steps=0, policy_kwargs=kwargs, learning_rate=0.0, importance_exponent=0.0).learn(0)
    for parameter in (*model.actor.parameters(), *model.critic.parameters()):
        th.nn.init.normal_(parameter, std=0.5)
    model.policy.set_training_mode(True)
    state = np.random.get_state()
    observations: Any = model.buffer.sample_batch(8).observations
    th.manual_seed(5)
    loss = -model.critic.q1_forward(observations, model.actor(observations)).mean()
    expected = th.autograd.grad(loss, list(model.actor.parameters()))
    np.random.set_state(state)
    th.manual_seed(5)
    model.train(1, 8)
    for parameter, wanted in zip(model.actor.parameters(), expected, strict=True):
        assert parameter.grad is not None
        assert th.allclose(parameter.grad, wanted, rtol=1e-4, atol=1e-8)


# --- Saving -----------------------------------------------------------------------------------------------------------

ACTING = {"average_actor": 0.1, "actor_dropout": 0.25, "layer_norm": True, "initial_q": 1.0, "last_layer_bound": 0.1}


@pytest.mark.parametrize("policy_class", list(OBSERVATIONS))
def test_a_policy_comes_back_from_its_file_and_acts_the_same(policy_class: type[MlpPolicy], tmp_path: Path) -> None:
    policy = make_policy(policy_class, **ACTING)
    policy.save(str(tmp_path / "policy"))
    loaded = policy_class.load(str(tmp_path / "policy"), device="cpu")
    assert {name: getattr(loaded, name) for name in ACTING} == ACTING
    observation = policy.observation_space.sample()
    for deterministic in (True, False):
        found, expected = (one.predict(observation, deterministic=deterministic)[0] for one in (loaded, policy))
        np.testing.assert_array_equal(found, expected)


def test_a_model_comes_back_from_its_file_and_acts_and_learns_the_same(make_model: MakeModel, tmp_path: Path) -> None:
    model = make_model(policy_kwargs=ACTING, pretrain_steps=20).learn(30)
    model.save(tmp_path / "model")
    loaded = DDPGfD.load(tmp_path / "model", env=gym.make("PointToGoal-v0"), demonstrations=model.demonstrations, device="cpu")
    assert loaded.policy.average_actor == 0.1
    assert loaded.policy.actor_dropout == 0.25
    states = np.linspace(-1.0, 1.0, 20, dtype=np.float32)[:, None]
    for deterministic in (True, False):
        found, expected = (one.predict(states, deterministic=deterministic)[0] for one in (loaded, model))
        np.testing.assert_array_equal(found, expected)
    assert not loaded.actor_target.training
    assert not loaded.policy.mean_actor.training
    n_updates = loaded._n_updates
    mean = [parameter.detach().clone() for parameter in loaded.policy.mean_actor.parameters()]
    loaded.learn(20)
    assert not any(th.equal(one, other) for one, other in zip(mean, loaded.policy.mean_actor.parameters(), strict=True))
    # All but those of the first 10 steps
    assert loaded._n_updates == n_updates + 10


@pytest.mark.parametrize("view", ["image", "dict", "dict_image"])
def test_learning_works_on_images_and_keys(make_model: MakeModel, record: Callable[..., Any], view: str) -> None:
    policy = "CnnPolicy" if view == "image" else "MultiInputPolicy"
    env = gym.make("PointToGoal-v0", view=view)
    model = make_model(policy, env, demonstrations=record(view, 1), policy_kwargs=ACTING, buffer_size=50).learn(14)
    assert all(bool(value.isfinite().all()) for value in model.policy.state_dict().values())
    observation = env.observation_space.sample()
    assert len({tuple(model.predict(observation)[0]) for _ in range(5)}) == 1
