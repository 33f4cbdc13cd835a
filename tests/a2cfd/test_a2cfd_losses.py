"""The losses of A2CfD: gradients of whole updates, and their effect on the policy."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch as th
from clockwork import Clockwork
from parameter_groups import group
from stable_baselines3.common.torch_layers import FlattenExtractor

from sb3_pgfd import A2CfD, Demonstrations
from sb3_pgfd.a2cfd.a2cfd import demonstration_weight
from sb3_pgfd.demonstrations import Episode

MakeModel = Callable[..., A2CfD]


@pytest.mark.parametrize(
    ("iteration", "advantages", "expected"),
    [
        (0, [1.0, 4.0, -7.0], 0.5 * 4.0),
        (3, [1.0, 4.0, -7.0], 0.5 * 0.9**3 * 4.0),
        (3, [-1.0, -4.0], 0.0),
        (3, [0.0], 0.0),
        (3, [2.0], 0.5 * 0.9**3 * 2.0),
        (10_000, [2.0], 0.0),
    ],
)
def test_a_demonstration_weighs_a_decaying_share_of_the_largest_advantage(
    iteration: int, advantages: list[float], expected: float
) -> None:
    share = th.tensor(0.5 * 0.9**iteration)
    assert float(demonstration_weight(share, th.tensor(advantages))) == pytest.approx(expected)


# --- Gradients of a whole update -------------------------------------------------------------------------------------


class InFloat64(FlattenExtractor):
    """Features for networks in float64."""

    def forward(self, observations: th.Tensor) -> th.Tensor:
        return super().forward(observations).double()


TINY: dict[str, Any] = {
    "net_arch": [3],
    "activation_fn": th.nn.Tanh,
    "features_extractor_class": InFloat64,
    "optimizer_class": th.optim.SGD,
}
# In 1 / 16, so that float32 holds them exactly
STATES = th.tensor([[-0.5], [0.25], [0.75], [0.125]])
DRAWN = th.tensor([[-1.5], [2.25], [0.5], [-0.25]])
ADVANTAGES = th.tensor([1.5, -2.0, 0.25, 0.5])
RETURNS = th.tensor([3.0, -0.25, 0.0, -4.0])
BC_COEF, BC_DECAY, ENT_COEF = 0.5, 0.75, 0.125


def fill_rollout(model: A2CfD, states: th.Tensor, actions: th.Tensor, advantages: th.Tensor, returns: th.Tensor) -> None:
    """Put steps of one environment into the rollout buffer."""
    buffer = model.rollout_buffer
    buffer.reset()
    for name, column in (("observations", states), ("actions", actions), ("advantages", advantages), ("returns", returns)):
        getattr(buffer, name)[:] = column.numpy().reshape(getattr(buffer, name).shape)
    buffer.full = True


@pytest.fixture
def tiny(make_model: MakeModel, attach: Callable[[A2CfD], A2CfD]) -> A2CfD:
    """A model in float64, with weights that saturate nothing and a rollout of four steps."""
    states = np.arange(-3, 4, dtype=np.float32)[:, None] / 4
    actions = np.linspace(-2.0, 1.0, 7, dtype=np.float32)[:6, None]
    demonstrations = Demonstrations.from_episodes([Episode(states, actions, np.arange(6.0), terminated=True)])
    coefficients: dict[str, Any] = dict(bc_coef=BC_COEF, bc_decay=BC_DECAY, ent_coef=ENT_COEF, max_grad_norm=1e9, vf_coef=0.5)
    model = attach(make_model(demonstrations=demonstrations, policy_kwargs=TINY, n_steps=4, **coefficients))
    fill_rollout(model, STATES, DRAWN, ADVANTAGES, RETURNS)
    model.policy.double()
    for parameter in model.policy.parameters():
        th.nn.init.normal_(parameter, std=0.5)
    model._n_actor_updates = 2
    return model


def naive_log_prob_and_entropy(parameters: list[np.ndarray], states: Any, actions: Any) -> tuple[np.ndarray, np.ndarray]:
    """:param parameters: Weights and biases of the hidden and the last layer"""
    hidden = np.tanh(np.asarray(states, float) @ parameters[0].T + parameters[1])
    squashed = np.tanh(hidden @ parameters[2].T + parameters[3])
    mean, log_std = 2.0 * squashed[:, 0], -1.0 + 2.0 * squashed[:, 1] + np.log(2.0)
    log_prob = -0.5 * ((np.asarray(actions, float)[:, 0] - mean) / np.exp(log_std)) ** 2 - log_std - 0.5 * np.log(2 * np.pi)
    return log_prob, log_std + 0.5 * np.log(2 * np.pi * np.e)


def finite_differences(loss: Callable[[list[np.ndarray]], float], parameters: list[np.ndarray]) -> Iterator[np.ndarray]:
    for number, parameter in enumerate(parameters):
        gradient = np.zeros_like(parameter)
        for index in np.ndindex(parameter.shape):
            around = []
            for step in (1e-6, -1e-6):
                moved = [array.copy() for array in parameters]
                moved[number][index] += step
                around.append(loss(moved))
            gradient[index] = (around[0] - around[1]) / 2e-6
        yield gradient


def check_gradients(parameters: list[th.nn.Parameter], expected: list[np.ndarray]) -> None:
    for parameter, gradient in zip(parameters, expected, strict=True):
        assert parameter.grad is not None
        np.testing.assert_allclose(parameter.grad, gradient, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("without", [None, "bc_coef", "ent_coef"])
@pytest.mark.parametrize("advantages", [ADVANTAGES, -ADVANTAGES.abs()])
def test_the_actor_descends_policy_gradient_entropy_and_demonstrations_together(
    tiny: A2CfD, without: str | None, advantages: th.Tensor
) -> None:
    if without is not None:
        setattr(tiny, without, 0.0)
    fill_rollout(tiny, STATES, DRAWN, advantages, RETURNS)
    # The rollout is put into random order first
    np.random.seed(0)
    np.random.permutation(4)
    batch = tiny._demonstration_batches.sample(tiny.demo_batch_size)
    weight = tiny.bc_coef * BC_DECAY**2 * max(float(advantages.max()), 0.0)

    def loss(parameters: list[np.ndarray]) -> float:
        log_prob, entropy = naive_log_prob_and_entropy(parameters, STATES, DRAWN)
        demonstrated, _ = naive_log_prob_and_entropy(parameters, batch.observations, batch.actions)
        return float(-(advantages.numpy() * log_prob).mean() - tiny.ent_coef * entropy.mean() - weight * demonstrated.mean())

    parameters = group(tiny.policy, "actor")
    expected = list(finite_differences(loss, [parameter.detach().numpy().copy() for parameter in parameters]))
    np.random.seed(0)
    tiny.train()
    check_gradients(parameters, expected)
    assert tiny._n_actor_updates == 3


@pytest.mark.parametrize("held", [False, True])
def test_the_critic_descends_the_huber_loss(tiny: A2CfD, held: bool) -> None:
    tiny.critic_warmup_steps = 1000 * held
    parameters = group(tiny.policy, "critic")

    def loss(arrays: list[np.ndarray]) -> float:
        hidden = np.tanh(STATES.numpy().astype(float) @ arrays[0].T + arrays[1])
        error = np.abs((hidden @ arrays[2].T + arrays[3])[:, 0] - RETURNS.numpy())
        assert error.min() < 1.0 < error.max()
        return float(0.5 * np.where(error < 1.0, 0.5 * error**2, error - 0.5).mean())

    expected = list(finite_differences(loss, [parameter.detach().numpy().copy() for parameter in parameters]))
    tiny.train()
    check_gradients(parameters, expected)
    assert all((parameter.grad is None) == held for parameter in group(tiny.policy, "actor"))


def test_each_networks_gradient_is_clipped_by_itself(tiny: A2CfD) -> None:
    tiny.max_grad_norm = 1e-3
    tiny.train()
    for name in ("actor", "critic"):
        gradients = [parameter.grad.flatten() for parameter in group(tiny.policy, name) if parameter.grad is not None]
        assert float(th.cat(gradients).norm()) == pytest.approx(1e-3, rel=1e-2)


# --- What they do ----------------------------------------------------------------------------------------------------


def entropy_after(make_model: MakeModel, ent_coef: float) -> float:
    # Nothing that is done changes what is got
    model = make_model(
        env=Clockwork([0.0] * 10), demonstrations=None, ent_coef=ent_coef, learning_rate=0.0, actor_learning_rate=3e-3
    ).learn(300)
    with th.no_grad():
        entropy = model.policy.get_distribution(th.arange(10.0)[:, None]).entropy()
    assert entropy is not None
    return float(entropy.mean())


def test_the_entropy_bonus_raises_the_entropy(make_model: MakeModel) -> None:
    without, little, much = (entropy_after(make_model, ent_coef) for ent_coef in (0.0, 1e-3, 1.0))
    # log sigma may rise from -1 to 1
    assert much > without + 1.0
    assert much >= little


def test_a_good_action_becomes_more_and_a_bad_one_less_probable(
    make_model: MakeModel, attach: Callable[[A2CfD], A2CfD]
) -> None:
    model = attach(make_model(demonstrations=None, actor_learning_rate=1e-2, n_steps=2))
    states, actions = th.zeros(2, 1), th.tensor([[0.5], [-0.5]])

    def log_prob() -> th.Tensor:
        with th.no_grad():
            return model.policy.get_distribution(states).log_prob(actions)

    before = log_prob()
    for _ in range(5):
        fill_rollout(model, states, actions, th.tensor([1.0, -1.0]), th.zeros(2))
        model.train()
    after = log_prob()
    assert after[0] > before[0]
    assert after[1] < before[1]
