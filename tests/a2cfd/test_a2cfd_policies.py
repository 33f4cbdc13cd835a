"""The networks of A2CfD and their optimisers."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from clockwork import Clockwork
from gymnasium import spaces
from parameter_groups import copies, group, learning_rate
from stable_baselines3.common.torch_layers import NatureCNN

from sb3_pgfd import A2CfD
from sb3_pgfd.a2cfd import CnnPolicy, MlpPolicy, MultiInputPolicy

MakeModel = Callable[..., A2CfD]
OBSERVATIONS: dict[type[MlpPolicy], spaces.Space] = {
    MlpPolicy: spaces.Box(-1.0, 1.0, (3,)),
    CnnPolicy: spaces.Box(0, 255, (1, 36, 36), np.uint8),
    MultiInputPolicy: spaces.Dict({"a": spaces.Box(-1.0, 1.0, (2,)), "b": spaces.Box(0, 255, (1, 36, 36), np.uint8)}),
}
ACTIONS: list[spaces.Space] = [
    spaces.Box(-1.0, 1.0, (2,)),
    spaces.Discrete(3),
    spaces.MultiDiscrete([2, 3]),
    spaces.MultiBinary(2),
]


def make_policy(
    policy_class: type[MlpPolicy] = MlpPolicy, action_space: spaces.Space = ACTIONS[0], **kwargs: Any
) -> MlpPolicy:
    return policy_class(OBSERVATIONS[policy_class], action_space, lambda _: 1e-3, **{"net_arch": [16], **kwargs})


def hidden_sizes(layers: th.nn.Module) -> list[int]:
    return [layer.out_features for layer in layers.modules() if isinstance(layer, th.nn.Linear)]


@pytest.mark.parametrize("policy_class", list(OBSERVATIONS))
@pytest.mark.parametrize("action_space", ACTIONS, ids=str)
@pytest.mark.parametrize("net_arch", [[16], []])
def test_the_last_layers_start_uniform_near_zero(
    policy_class: type[MlpPolicy], action_space: spaces.Space, net_arch: list[int]
) -> None:
    policy = make_policy(policy_class, action_space, net_arch=net_arch)
    for layer in (policy.action_net, policy.value_net):
        for parameter in (layer.weight.detach(), layer.bias.detach()):
            assert float(parameter.abs().max()) <= 3e-3
            assert float(parameter.abs().min()) > 0.0


@pytest.mark.parametrize("policy_class", list(OBSERVATIONS))
@pytest.mark.parametrize("action_space", ACTIONS, ids=str)
def test_actor_and_critic_share_nothing_and_each_has_its_own_group(
    policy_class: type[MlpPolicy], action_space: spaces.Space
) -> None:
    policy = make_policy(policy_class, action_space)
    of_actor, of_critic = group(policy, "actor"), group(policy, "critic")
    assert sorted(map(id, [*of_actor, *of_critic])) == sorted(map(id, policy.parameters()))
    observation = policy.obs_to_tensor(policy.observation_space.sample())[0]
    policy.predict_values(observation).sum().backward()
    assert all(parameter.grad is None for parameter in of_actor)
    assert all(parameter.grad is not None for parameter in of_critic)
    policy.optimizer.zero_grad()
    policy.get_distribution(observation).log_prob(policy(observation)[0]).sum().backward()
    assert all(parameter.grad is not None for parameter in of_actor)
    assert all(parameter.grad is None for parameter in of_critic)


@pytest.mark.parametrize(
    ("net_arch", "of_actor", "of_critic"),
    [
        ([16], [16], [16]),
        ([], [], []),
        ([8, 16, 4], [8, 16, 4], [8, 16, 4]),
        ({"pi": [4], "vf": [8, 8]}, [4], [8, 8]),
        (None, [128], [128]),
    ],
)
def test_there_can_be_any_number_of_hidden_layers(net_arch: Any, of_actor: list[int], of_critic: list[int]) -> None:
    policy = make_policy(net_arch=net_arch)
    assert hidden_sizes(policy.mlp_extractor.policy_net) == of_actor
    assert hidden_sizes(policy.mlp_extractor.value_net) == of_critic
    assert policy.action_net.out_features == 4
    actions, values, log_prob = policy(th.zeros(5, 3))
    assert (actions.shape, values.shape, log_prob.shape) == ((5, 2), (5, 1), (5,))


def test_hidden_layers_are_rectified_unless_told_otherwise() -> None:
    def kinds(policy: MlpPolicy) -> set[type]:
        return {type(module) for module in policy.mlp_extractor.modules() if not list(module.children())}

    assert kinds(make_policy()) == {th.nn.Linear, th.nn.ReLU}
    assert kinds(make_policy(activation_fn=th.nn.Tanh)) == {th.nn.Linear, th.nn.Tanh}


def test_images_go_through_a_convolutional_network_of_each_networks_own() -> None:
    policy = make_policy(CnnPolicy, net_arch=None)
    assert isinstance(policy.pi_features_extractor, NatureCNN)
    assert isinstance(policy.vf_features_extractor, NatureCNN)
    assert policy.pi_features_extractor is not policy.vf_features_extractor
    assert hidden_sizes(policy.mlp_extractor) == []


def test_adam_is_fused_by_default() -> None:
    policy = make_policy(optimizer_kwargs={"eps": 1e-5})
    assert isinstance(policy.optimizer, th.optim.Adam)
    assert policy.optimizer.defaults["fused"] is True
    assert policy.optimizer.defaults["eps"] == 1e-5


def test_rmsprop_is_that_of_the_paper(make_model: MakeModel) -> None:
    model = make_model(use_rms_prop=True, rms_prop_eps=1e-4).learn(10)
    assert isinstance(model.policy.optimizer, th.optim.RMSprop)
    assert (model.policy.optimizer.defaults["alpha"], model.policy.optimizer.defaults["eps"]) == (0.99, 1e-4)


def test_rmsprop_takes_further_arguments(make_model: MakeModel) -> None:
    model = make_model(use_rms_prop=True, policy_kwargs={"optimizer_kwargs": {"momentum": 0.5, "eps": 1e-3}})
    defaults = model.policy.optimizer.defaults
    assert (defaults["alpha"], defaults["eps"], defaults["momentum"]) == (0.99, 1e-3, 0.5)


def test_another_optimiser_goes_before_rmsprop(make_model: MakeModel) -> None:
    model = make_model(use_rms_prop=True, policy_kwargs={"optimizer_class": th.optim.SGD}).learn(10)
    assert isinstance(model.policy.optimizer, th.optim.SGD)


@pytest.mark.parametrize(
    ("actor_learning_rate", "expected"),
    [(None, 1e-3), (5e-4, 5e-4), (lambda remaining: 1e-4 * remaining, 5e-5)],
)
def test_learning_rates_and_their_schedules_reach_the_optimisers(
    make_model: MakeModel, attach: Callable[[A2CfD], A2CfD], recorder: Any, actor_learning_rate: Any, expected: float
) -> None:
    options = dict(learning_rate=lambda remaining: 2e-3 * remaining, actor_learning_rate=actor_learning_rate)
    model = attach(make_model(pretrain_steps=0, n_steps=10, **options))
    # The only update is in the middle of what was asked for
    model.learn(10)
    model._current_progress_remaining = 0.5
    model.train()
    model.dump_logs()
    assert learning_rate(model.policy, "critic") == pytest.approx(1e-3)
    assert learning_rate(model.policy, "actor") == pytest.approx(expected)
    assert recorder.rows[-1]["train/learning_rate"] == pytest.approx(1e-3)
    assert recorder.rows[-1]["train/actor_learning_rate"] == pytest.approx(expected)


def test_each_network_moves_by_its_own_learning_rate(make_model: MakeModel) -> None:
    sgd = {"optimizer_class": th.optim.SGD}
    for rates, moves in (({"actor_learning_rate": 0.0}, (False, True)), ({"learning_rate": 0.0}, (True, False))):
        model = make_model(pretrain_steps=0, policy_kwargs=sgd, **rates)
        before = [copies(model.policy, name) for name in ("actor", "critic")]
        model.learn(20)
        after = [copies(model.policy, name) for name in ("actor", "critic")]
        for one, other, move in zip(before, after, moves, strict=True):
            assert all(th.equal(first, second) for first, second in zip(one, other, strict=True)) != move, rates


def test_the_callers_arguments_are_left_as_they_were() -> None:
    optimizer_kwargs, features_kwargs = {"eps": 1e-5}, {"features_dim": 8}
    policy_kwargs: dict[str, Any] = {"net_arch": [16], "optimizer_kwargs": optimizer_kwargs, "normalize_images": False}
    policy_kwargs |= {"features_extractor_class": NatureCNN, "features_extractor_kwargs": features_kwargs}
    before = copy.deepcopy(policy_kwargs)
    env = Clockwork([1.0])
    env.observation_space = spaces.Box(0.0, 1.0, (1, 36, 36))
    for use_rms_prop in (False, True):
        A2CfD("CnnPolicy", env, policy_kwargs=policy_kwargs, use_rms_prop=use_rms_prop, device="cpu")
        assert policy_kwargs == before
        assert policy_kwargs["optimizer_kwargs"] is optimizer_kwargs
        assert policy_kwargs["features_extractor_kwargs"] is features_kwargs


@pytest.mark.parametrize("policy_class", list(OBSERVATIONS))
@pytest.mark.parametrize("action_space", ACTIONS, ids=str)
def test_a_policy_comes_back_from_its_file_as_it_was(
    policy_class: type[MlpPolicy], action_space: spaces.Space, tmp_path: Path
) -> None:
    kwargs: dict[str, Any] = dict(log_std_min=-2.5, log_std_max=0.25, log_std_init=0.0, optimizer_kwargs={"eps": 1e-5})
    policy = make_policy(policy_class, action_space, net_arch={"pi": [4], "vf": [8, 8]}, activation_fn=th.nn.Tanh, **kwargs)
    for parameter in policy.parameters():
        th.nn.init.normal_(parameter, std=0.3)
    policy.save(str(tmp_path / "policy"))
    loaded = policy_class.load(str(tmp_path / "policy"), device="cpu")
    assert (loaded.log_std_min, loaded.log_std_max, loaded.log_std_init) == (-2.5, 0.25, 0.0)
    state = policy.state_dict()
    assert loaded.state_dict().keys() == state.keys()
    assert all(th.equal(value, state[name]) for name, value in loaded.state_dict().items())
    policy.observation_space.seed(0)
    observation = policy.observation_space.sample()
    np.testing.assert_array_equal(
        loaded.predict(observation, deterministic=True)[0], policy.predict(observation, deterministic=True)[0]
    )
    th.manual_seed(0)
    drawn = policy.predict(observation)[0]
    th.manual_seed(0)
    np.testing.assert_array_equal(loaded.predict(observation)[0], drawn)


def test_a_policy_can_be_copied() -> None:
    policy = make_policy()
    other = copy.deepcopy(policy)
    assert all(th.equal(one, two) for one, two in zip(policy.parameters(), other.parameters(), strict=True))
    np.testing.assert_array_equal(
        policy.predict(np.zeros(3, np.float32), deterministic=True)[0],
        other.predict(np.zeros(3, np.float32), deterministic=True)[0],
    )
