"""Critics in batched products against the same critics one by one."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from torch import nn

from sb3_pgfd import DDPGfD, SACfD, TD3fD
from sb3_pgfd.common.critics import Critics, are_alike, batched
from sb3_pgfd.td3fd.policies import CnnPolicy, MlpPolicy, MultiInputPolicy

SPACES: dict[type[MlpPolicy], spaces.Space] = {
    MlpPolicy: spaces.Box(-1.0, 1.0, (3,)),
    CnnPolicy: spaces.Box(0, 255, (1, 36, 36), np.uint8),
    MultiInputPolicy: spaces.Dict({"a": spaces.Box(-1.0, 1.0, (2,)), "b": spaces.Box(-1.0, 1.0, (1,))}),
}
DEVICES = ["cpu", *(["cuda"] if th.cuda.is_available() else [])]


@pytest.fixture
def on_all_devices(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    return lambda: monkeypatch.setattr(Critics, "batched_on", ("cpu", "cuda"))


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("policy_class", list(SPACES))
def test_values_and_gradients_are_those_of_separate_networks(
    policy_class: type[MlpPolicy], layer_norm: bool, shared: bool, on_all_devices: Callable[[], None]
) -> None:
    th.manual_seed(0)
    space = SPACES[policy_class]
    options: dict[str, Any] = dict(n_critics=10, layer_norm=layer_norm, share_features_extractor=shared, net_arch=[16, 8])
    policy = policy_class(space, spaces.Box(-1.0, 1.0, (2,)), lambda _: 1e-3, **options)
    for parameter in policy.critic.parameters():
        nn.init.normal_(parameter, std=0.3)
    sampled: Any = [space.sample() for _ in range(6)]
    array: Any = np.stack(sampled)
    if isinstance(space, spaces.Dict):
        array = {key: np.stack([one[key] for one in sampled]) for key in space}
    observations, _ = policy.obs_to_tensor(array)

    def values_and_gradients() -> list[th.Tensor]:
        actions = th.linspace(-1.0, 1.0, 12).view(6, 2).requires_grad_()
        values = policy.critic(observations, actions)
        loss = sum((value * (number + 1)).square().sum() for number, value in enumerate(values))
        wanted = [actions, *policy.critic.parameters()]
        found = th.autograd.grad(loss, wanted, allow_unused=True)
        return [*values, *(th.zeros(()) if gradient is None else gradient for gradient in found)]

    expected = values_and_gradients()
    on_all_devices()
    found = values_and_gradients()
    assert [value.shape for value in found[:10]] == [(6, 1)] * 10
    for one, other in zip(found, expected, strict=True):
        # Gradients are sums of rounded numbers, large and small
        assert (one - other).norm() <= 1e-4 * other.norm() + 1e-5


@pytest.mark.parametrize("activation", [nn.ReLU, nn.PReLU])
@pytest.mark.parametrize("picked", [[1], [3, 0], [2, 2, 4], [0, 1, 2, 3, 4]])
@pytest.mark.parametrize("batched_on", [(), ("cpu",)])
def test_the_critics_that_are_picked_answer_in_this_order(
    batched_on: tuple[str, ...], picked: list[int], activation: type[nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Critics, "batched_on", batched_on)
    options: dict[str, Any] = {"activation_fn": activation, "layer_norm": True, "net_arch": [16, 8]}
    policy = MlpPolicy(SPACES[MlpPolicy], spaces.Box(-1.0, 1.0, (2,)), lambda _: 1e-3, **options)
    for parameter in policy.critic.parameters():
        nn.init.normal_(parameter, std=0.3)
    observations, actions = th.rand(7, 3), th.rand(7, 2)
    inputs = th.cat((observations, actions), dim=1)
    found = policy.critic(observations, actions, th.tensor(picked))
    assert len(found) == len(picked)
    for values, number in zip(found, picked, strict=True):
        assert th.allclose(values, policy.critic.q_networks[number](inputs), atol=1e-5)


def test_two_linear_critics_by_hand() -> None:
    networks = [nn.Sequential(nn.Linear(2, 1)) for _ in range(2)]
    for network, weights, bias in zip(networks, ([1.0, 2.0], [-1.0, 3.0]), (0.5, -0.5), strict=True):
        layer = next(network.children())
        layer.load_state_dict({"weight": th.tensor([weights]), "bias": th.tensor([bias])})
    # 1 * 10 + 2 * 100 + 0.5 and -1 * 10 + 3 * 100 - 0.5
    assert batched(networks, th.tensor([[10.0, 100.0]])).flatten().tolist() == [210.5, 289.5]


@pytest.mark.parametrize(
    ("networks", "expected"),
    [
        ([nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)) for _ in range(2)], True),
        ([nn.Sequential(nn.Linear(2, 1))], False),
        ([nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1)), nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 1))], False),
        ([nn.Sequential(nn.Linear(2, 1), nn.ELU(0.5)), nn.Sequential(nn.Linear(2, 1), nn.ELU(1.0))], False),
        # A weight of its own; a random number; a sum over the batch's axis of one critic
        ([nn.Sequential(nn.Linear(2, 1), nn.PReLU()) for _ in range(2)], False),
        ([nn.Sequential(nn.Linear(2, 1), nn.Dropout(0.1)) for _ in range(2)], False),
        ([nn.Sequential(nn.Linear(2, 2), nn.Softmax(0)) for _ in range(2)], False),
        ([nn.Sequential(nn.Linear(2, 1, bias=False)) for _ in range(2)], False),
        ([nn.Linear(2, 1), nn.Linear(2, 1)], False),
    ],
)
def test_only_networks_that_are_alike_are_batched(networks: list[nn.Module], expected: bool) -> None:
    assert are_alike(networks) is expected


@pytest.mark.parametrize("algorithm", [DDPGfD, TD3fD, SACfD])
def test_critics_and_their_targets_begin_at_the_wanted_q(algorithm: Any) -> None:
    options: dict[str, Any] = {"demonstrations": "Pendulum-v1", "device": "cpu", "seed": 0}
    policies = [algorithm("MlpPolicy", "Pendulum-v1", policy_kwargs={"initial_q": q}, **options).policy for q in (0.0, -5.0)]
    observations, actions = th.randn(100, 3), th.rand(100, 1) * 2.0 - 1.0
    values = [th.cat((*one.critic(observations, actions), *one.critic_target(observations, actions))) for one in policies]
    # The last layer's weights are at most 3e-3
    assert values[0].abs().max() < 0.2
    th.testing.assert_close(values[1], values[0] - 5.0, rtol=0.0, atol=1e-5)
    assert policies[1]._get_constructor_parameters()["initial_q"] == -5.0


@pytest.mark.parametrize("algorithm", [DDPGfD, TD3fD, SACfD])
@pytest.mark.parametrize(("bound", "low", "high"), [(0.0, 0.0, 0.0), (0.02, 0.015, 0.0201), (None, 0.1, 0.1251)])
def test_last_layers_begin_within_the_wanted_bound(algorithm: Any, bound: float | None, low: float, high: float) -> None:
    """PyTorch's own bound is 1 / sqrt(units of the layer below), here of 64."""
    kwargs = {"last_layer_bound": bound, "net_arch": [64]}
    options: dict[str, Any] = {"demonstrations": "Pendulum-v1", "device": "cpu", "seed": 0, "policy_kwargs": kwargs}
    policy = algorithm("MlpPolicy", "Pendulum-v1", **options).policy
    networks = [policy.actor.mu, *policy.critic.q_networks, *policy.critic_target.q_networks]
    for network in networks:
        last = [layer for layer in network.modules() if isinstance(layer, nn.Linear)][-1]
        assert low <= last.weight.abs().max() <= high


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("algorithm", "compiled"), [(DDPGfD, False), (TD3fD, False), (TD3fD, True)])
def test_a_batched_run_ends_where_a_separate_one_does(
    algorithm: type[DDPGfD], compiled: bool, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_td3fd = algorithm is TD3fD
    # One program to compile: each update has the actor in it
    own: dict[str, Any] = {"policy_delay": 1} if of_td3fd else {}
    subset = {"n_target_critics": 2} if of_td3fd else {}

    def learned(batched_on: tuple[str, ...], **options: Any) -> DDPGfD:
        monkeypatch.setattr(Critics, "batched_on", batched_on)
        model = algorithm(
            "MlpPolicy",
            "Pendulum-v1",
            demonstrations="Pendulum-v1",
            policy_kwargs={"net_arch": [16], "n_critics": 3, "layer_norm": True, **subset},
            device=device,
            seed=0,
            **{"learning_rate": 1e-4, "pretrain_steps": 20, "learning_starts": 5, "batch_size": 16, **own, **options},
        )
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="compile=True")
            return model.learn(10)

    separate, together = learned(()), learned(("cpu", "cuda"), compile=compiled)
    for name, value in separate.policy.state_dict().items():
        assert (together.policy.state_dict()[name].double() - value.double()).abs().max() <= 1e-4, name


def test_a_model_is_loaded_whatever_its_device_batches(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Critics, "batched_on", ("cpu",))
    model = TD3fD("MlpPolicy", "Pendulum-v1", demonstrations="Pendulum-v1", pretrain_steps=4, learning_starts=2, device="cpu")
    model.learn(5)
    model.save(tmp_path / "model")
    monkeypatch.setattr(Critics, "batched_on", ())
    loaded = TD3fD.load(tmp_path / "model", env=model.get_env(), demonstrations="Pendulum-v1", device="cpu")
    for one, other in zip(model.policy.parameters(), loaded.policy.parameters(), strict=True):
        assert th.equal(one, other)
    memory = model.critic.optimizer.state_dict()["state"]
    for number, of_parameter in loaded.critic.optimizer.state_dict()["state"].items():
        assert th.equal(of_parameter["exp_avg"], memory[number]["exp_avg"])
    loaded.learn(5, reset_num_timesteps=False)
