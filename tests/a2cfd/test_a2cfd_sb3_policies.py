"""What SB3's ActorCriticPolicy accepts, and policies of SB3 themselves, in A2CfD."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from clockwork import Clockwork
from gymnasium import spaces
from parameter_groups import group
from stable_baselines3 import A2C
from stable_baselines3.a2c import CnnPolicy, MlpPolicy, MultiInputPolicy
from stable_baselines3.common.distributions import StateDependentNoiseDistribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import CombinedExtractor, NatureCNN

from sb3_pgfd import A2CfD, Demonstrations
from sb3_pgfd.a2cfd import A2CfDPolicy
from sb3_pgfd.a2cfd import CnnPolicy as OwnCnnPolicy

MakeModel = Callable[..., A2CfD]
STATES = spaces.Box(-1.0, 1.0, (3,))
IMAGES = spaces.Box(0, 255, (1, 36, 36), np.uint8)
BOX = spaces.Box(np.array([-1.0, 2.0], np.float32), np.array([3.0, 2.5], np.float32))


class OneTrunk(th.nn.Module):
    """Layers that actor and critic share, as a user may build them."""

    latent_dim_pi = latent_dim_vf = 8

    def __init__(self, features_dim: int):
        super().__init__()
        self.trunk = th.nn.Sequential(th.nn.Linear(features_dim, 8), th.nn.Tanh())

    def forward(self, features: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        return self.forward_actor(features), self.forward_critic(features)

    def forward_actor(self, features: th.Tensor) -> th.Tensor:
        return self.trunk(features)

    def forward_critic(self, features: th.Tensor) -> th.Tensor:
        return self.trunk(features)


class TrunkOfSB3(ActorCriticPolicy):
    """SB3's documentation shows policies like this."""

    def _build_mlp_extractor(self) -> None:
        self.mlp_extractor: Any = OneTrunk(self.features_dim)


class TrunkOfOurs(A2CfDPolicy):
    """The same with two groups of parameters."""

    def _build_mlp_extractor(self) -> None:
        self.mlp_extractor: Any = OneTrunk(self.features_dim)


# --- Policies of SB3 -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", [MlpPolicy, TrunkOfSB3, TrunkOfOurs])
def test_other_policies_pretrain_learn_save_and_go_on(
    make_model: MakeModel, demonstrations: Demonstrations, policy: type[ActorCriticPolicy], tmp_path: Path
) -> None:
    model = make_model(policy, pretrain_steps=300, pretrain_learning_rate=1e-2, critic_warmup_steps=10, demo_batch_size=32)
    before = model.policy.state_dict()
    before = {name: value.clone() for name, value in before.items()}
    model.learn(0)
    states: Any = np.asarray(demonstrations.observations)
    actions, _ = model.predict(states, deterministic=True)
    assert np.abs(actions - demonstrations.actions).mean() < 0.3
    after = model.learn(30).policy.state_dict()
    assert all(th.isfinite(value).all() for value in after.values())
    assert not any(th.equal(after[name], before[name]) for name in after)
    assert model._n_actor_updates == 4
    model.save(tmp_path / "model")
    loaded = A2CfD.load(tmp_path / "model", env=gym.make("PointToGoal-v0"), demonstrations=demonstrations, device="cpu")
    np.testing.assert_array_equal(loaded.predict(states, deterministic=True)[0], model.predict(states, deterministic=True)[0])
    assert loaded.learn(10)._n_actor_updates == 6


@pytest.mark.parametrize("view", ["image", "dict"])
def test_sb3s_policies_for_images_and_dicts_learn(
    make_model: MakeModel, record: Callable[..., Demonstrations], view: str
) -> None:
    policy = CnnPolicy if view == "image" else MultiInputPolicy
    model = make_model(policy, gym.make("PointToGoal-v0", view=view), demonstrations=record(view, 1), pretrain_steps=2)
    assert model.learn(10)._n_actor_updates == 2


def test_sb3s_policy_is_updated_as_by_a2c() -> None:
    # Errors of less than 1, for which the Huber loss is half the squared error
    shared: dict[str, Any] = dict(env=Clockwork([0.1, 0.2, 0.05] * 3), gamma=0.5, learning_rate=1e-3, ent_coef=0.1, seed=0)
    ours = A2CfD(MlpPolicy, vf_coef=1.0, device="cpu", actor_learning_rate=1.0, **shared).learn(60)
    other = A2C(MlpPolicy, vf_coef=0.5, device="cpu", use_rms_prop=False, **shared).learn(60)
    found, expected = ours.policy.state_dict(), other.policy.state_dict()
    for name, value in expected.items():
        assert th.allclose(found[name], value, rtol=1e-4, atol=1e-6), name


def test_the_heads_of_a_shared_policy_wait_for_the_critic(make_model: MakeModel) -> None:
    model = make_model(TrunkOfSB3, critic_warmup_steps=1000, pretrain_steps=5).learn(0)
    before = {name: value.clone() for name, value in model.policy.state_dict().items()}
    after = model.learn(20).policy.state_dict()
    held = {name for name, value in after.items() if th.equal(value, before[name])}
    assert held == {"log_std", "action_net.weight", "action_net.bias"}


# --- Options of SB3's policies ---------------------------------------------------------------------------------------


def test_a_shared_features_extractor_is_in_the_critics_group() -> None:
    policy = OwnCnnPolicy(IMAGES, BOX, lambda _: 1e-3, share_features_extractor=True)
    assert isinstance(policy.pi_features_extractor, NatureCNN)
    assert policy.pi_features_extractor is policy.vf_features_extractor
    of_critic = {id(parameter) for parameter in group(policy, "critic")}
    assert {id(parameter) for parameter in policy.pi_features_extractor.parameters()} <= of_critic
    assert len(of_critic) + len(group(policy, "actor")) == len(list(policy.parameters()))
    loaded = policy._get_constructor_parameters()
    assert loaded["share_features_extractor"] is True


def test_orthogonal_initialisation_has_sb3s_gains() -> None:
    policy = A2CfDPolicy(STATES, BOX, lambda _: 1e-3, net_arch=[16], ortho_init=True)
    for layer, gain in ((policy.action_net, 0.01), (policy.value_net, 1.0), (policy.mlp_extractor.value_net[0], 2.0**0.5)):
        assert isinstance(layer, th.nn.Linear)
        weight = layer.weight.detach()
        square = weight @ weight.T if weight.shape[0] <= weight.shape[1] else weight.T @ weight
        assert th.allclose(square, gain**2 * th.eye(len(square)), atol=1e-5)
        assert not layer.bias.detach().any()


@pytest.mark.parametrize("log_std_init", [-2.5, -1.0, 0.9])
def test_sigma_starts_where_it_is_told_to(log_std_init: float) -> None:
    policy = A2CfDPolicy(STATES, BOX, lambda _: 1e-3, log_std_init=log_std_init)
    with th.no_grad():
        distribution: Any = policy.get_distribution(th.rand(20, 3)).distribution
    expected = np.exp(log_std_init) * np.tile([2.0, 0.25], (20, 1))
    np.testing.assert_allclose(distribution.stddev, expected, rtol=0.05)


@pytest.mark.parametrize("squash_output", [False, True])
def test_gsde_clones_and_learns(make_model: MakeModel, squash_output: bool) -> None:
    env = Clockwork([1.0, 2.0, 3.0], action_space=BOX)
    wanted = np.array([2.0, 2.1], np.float32)
    demonstrations = Demonstrations.record(lambda _: wanted, Clockwork([1.0, 2.0, 3.0], action_space=BOX), 2)
    options: dict[str, Any] = dict(use_sde=True, sde_sample_freq=2, pretrain_steps=300, pretrain_learning_rate=3e-2)
    kwargs = {"squash_output": squash_output, "log_std_init": -2.0}
    model = make_model(env=env, demonstrations=demonstrations, policy_kwargs=kwargs, ent_coef=0.01, **options).learn(0)
    assert isinstance(model.policy.action_dist, StateDependentNoiseDistribution)
    action, _ = model.predict(np.ones(1, dtype=np.float32), deterministic=True)
    assert action == pytest.approx(wanted, abs=0.1)
    assert any(parameter is model.policy.log_std for parameter in group(model.policy, "actor"))
    before = model.policy.log_std.detach().clone()
    assert model.learn(40)._n_actor_updates == 8
    assert th.isfinite(model.policy.log_std).all()
    assert not th.equal(before, model.policy.log_std)


def test_an_extractor_of_ones_own_goes_before_the_default() -> None:
    policy = OwnCnnPolicy(IMAGES, BOX, lambda _: 1e-3, features_extractor_kwargs={"features_dim": 8})
    assert policy.features_dim == 8
    space = spaces.Dict({"a": STATES})
    own = A2CfDPolicy(space, BOX, lambda _: 1e-3, features_extractor_class=CombinedExtractor)
    assert isinstance(own.features_extractor, CombinedExtractor)
