"""The networks of DDPGfD."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

from sb3_pgfd import DDPGfD
from sb3_pgfd.common.policies import TargetNetworks
from sb3_pgfd.ddpgfd import CnnPolicy, MlpPolicy, MultiInputPolicy

MakeModel = Callable[..., DDPGfD]
OBSERVATIONS: dict[type[MlpPolicy], spaces.Space] = {
    MlpPolicy: spaces.Box(-1.0, 1.0, (3,)),
    CnnPolicy: spaces.Box(0, 255, (1, 36, 36), np.uint8),
    MultiInputPolicy: spaces.Dict({"a": spaces.Box(-1.0, 1.0, (2,)), "b": spaces.Box(-1.0, 1.0, (1,))}),
}


def make_policy(policy_class: type[MlpPolicy] = MlpPolicy, **kwargs: Any) -> MlpPolicy:
    settings: dict[str, Any] = {"net_arch": [16], **kwargs}
    return policy_class(OBSERVATIONS[policy_class], spaces.Box(-1.0, 1.0, (2,)), lambda _: 1e-3, **settings)


def linear_layers(layers: nn.Module) -> list[nn.Linear]:
    return [layer for layer in layers.children() if isinstance(layer, nn.Linear)]


@pytest.mark.parametrize("policy_class", list(OBSERVATIONS))
@pytest.mark.parametrize("net_arch", [[16], []])
def test_the_last_layers_start_uniform_near_zero(policy_class: type[MlpPolicy], net_arch: list[int]) -> None:
    policy = make_policy(policy_class, net_arch=net_arch, n_critics=2)
    for layers in (policy.actor.mu, *policy.critic.q_networks):
        linear = linear_layers(layers)[-1]
        for parameter in (linear.weight.detach(), linear.bias.detach()):
            assert float(parameter.abs().max()) <= 3e-3
            assert float(parameter.abs().min()) > 0.0


def test_the_last_layers_fill_the_range_that_they_start_from() -> None:
    weights = linear_layers(make_policy(net_arch=[2000]).actor.mu)[-1].weight.detach()
    # The standard deviation of a uniform distribution of half width b is b / sqrt(3)
    assert float(weights.std()) == pytest.approx(3e-3 / 3**0.5, rel=0.05)


@pytest.mark.parametrize("policy_class", list(OBSERVATIONS))
@pytest.mark.parametrize("layer_norm", [False, True])
def test_targets_start_as_copies(policy_class: type[MlpPolicy], layer_norm: bool) -> None:
    policy = make_policy(policy_class, n_critics=2, layer_norm=layer_norm)
    for network, target in ((policy.actor, policy.actor_target), (policy.critic, policy.critic_target)):
        for one, other in zip(network.parameters(), target.parameters(), strict=True):
            assert th.equal(one, other)
            assert one is not other


@pytest.mark.parametrize("layer_norm", [False, True])
def test_only_critics_have_layer_norm_and_only_if_asked(layer_norm: bool) -> None:
    policy = make_policy(net_arch=[16, 16], n_critics=2, layer_norm=layer_norm)

    def count(network: nn.Module) -> int:
        return sum(isinstance(module, nn.LayerNorm) for module in network.modules())

    # One for each of the two hidden layers
    assert [count(q_net) for q_net in policy.critic.q_networks] == [2 * layer_norm] * 2
    assert count(policy.actor) == 0


@pytest.mark.parametrize("n_critics", [1, 2, 5])
def test_there_are_as_many_critics_as_asked(n_critics: int) -> None:
    policy = make_policy(n_critics=n_critics)
    values = policy.critic(th.zeros(4, 3), th.zeros(4, 2))
    assert [value.shape for value in values] == [(4, 1)] * n_critics
    assert len(set(value[0, 0].item() for value in values)) == n_critics, "critics must not start as copies"


def test_the_training_mode_is_set_wherever_it_is_another_one() -> None:
    policy = make_policy(actor_dropout=0.5)

    def modes() -> set[bool]:
        return {module.training for network in (policy.actor, policy.critic) for module in network.modules()}

    for mode in (False, False, True, True, False):
        policy.set_training_mode(mode)
        assert modes() == {mode}
        assert not policy.actor_target.training
    policy.actor.set_training_mode(True)
    policy.predict(np.zeros(3, dtype=np.float32))
    assert modes() == {False}


def test_actor_and_critic_can_have_their_own_layers() -> None:
    policy = make_policy(net_arch={"pi": [4], "qf": [8, 8]})
    assert [layer.out_features for layer in linear_layers(policy.actor.mu)] == [4, 2]
    assert [layer.out_features for layer in linear_layers(policy.critic.q_networks[0])] == [8, 8, 1]


def test_adam_is_fused_by_default() -> None:
    policy = make_policy(optimizer_kwargs={"eps": 1e-5})
    for network in (policy.actor, policy.critic):
        assert isinstance(network.optimizer, th.optim.Adam)
        assert network.optimizer.defaults["fused"] is True
        assert network.optimizer.defaults["eps"] == 1e-5


@pytest.mark.parametrize("choice", [{"fused": False}, {"foreach": True}, {"foreach": False}])
def test_another_implementation_of_adam_can_be_chosen(choice: dict[str, bool]) -> None:
    defaults = make_policy(optimizer_kwargs=choice).actor.optimizer.defaults
    assert not defaults["fused"]
    assert {name: defaults[name] for name in choice} == choice


def test_another_optimiser_can_be_chosen(make_model: MakeModel) -> None:
    kwargs = {"optimizer_class": th.optim.SGD, "optimizer_kwargs": {"momentum": 0.5}}
    model = make_model(policy_kwargs=kwargs)
    before = copy.deepcopy(model.policy.state_dict())
    model.learn(20)
    for network in (model.actor, model.critic):
        assert isinstance(network.optimizer, th.optim.SGD)
        assert network.optimizer.param_groups[0]["momentum"] == 0.5
    assert any(not th.equal(value, before[name]) for name, value in model.policy.state_dict().items())


def test_the_callers_policy_kwargs_are_left_as_they_were(make_model: MakeModel) -> None:
    optimizer_kwargs = {"eps": 1e-5}
    policy_kwargs = {"net_arch": [16], "n_critics": 2, "optimizer_kwargs": optimizer_kwargs}
    before = copy.deepcopy(policy_kwargs)
    DDPGfD("MlpPolicy", "PointToGoal-v0", policy_kwargs=policy_kwargs, buffer_size=100, device="cpu").learn(5)
    assert policy_kwargs == before
    assert policy_kwargs["optimizer_kwargs"] is optimizer_kwargs


@pytest.mark.parametrize("policy_class", [MlpPolicy, MultiInputPolicy])
def test_a_policy_comes_back_from_its_file_as_it_was(policy_class: type[MlpPolicy], tmp_path: Path) -> None:
    policy = make_policy(policy_class, n_critics=3, layer_norm=True, optimizer_kwargs={"eps": 1e-5})
    policy.save(str(tmp_path / "policy"))
    loaded = policy_class.load(str(tmp_path / "policy"), device="cpu")
    assert loaded.layer_norm
    assert len(loaded.critic.q_networks) == 3
    state = policy.state_dict()
    assert all(th.equal(value, state[name]) for name, value in loaded.state_dict().items())
    observation = policy.observation_space.sample()
    np.testing.assert_array_equal(loaded.predict(observation)[0], policy.predict(observation)[0])


class RunningScale(BaseFeaturesExtractor):
    """Statistics of observations as buffers, whatever their names."""

    def __init__(self, space: spaces.Box):
        super().__init__(space, 1)
        self.mean: th.Tensor
        self.count: th.Tensor
        self.register_buffer("mean", th.zeros(1))
        self.register_buffer("count", th.zeros((), dtype=th.long))

    def forward(self, observations: th.Tensor) -> th.Tensor:
        return observations - self.mean


def test_statistics_of_an_extractor_are_copied_to_targets_and_to_the_mean_actor(make_model: MakeModel) -> None:
    policy: Any = make_model(policy_kwargs={"features_extractor_class": RunningScale, "average_actor": 0.01}).policy
    policy.actor.features_extractor.mean.fill_(3.0)
    policy.actor.features_extractor.count.fill_(7)
    for network in (policy.actor_target, policy.mean_actor):
        TargetNetworks([policy.actor], [network]).update(0.5)
        assert (float(network.features_extractor.mean), int(network.features_extractor.count)) == (3.0, 7)


def test_a_numpy_integer_is_a_number_of_critics(make_model: MakeModel) -> None:
    assert len(make_model(policy_kwargs={"n_critics": np.int64(2)}).critic.q_networks) == 2
