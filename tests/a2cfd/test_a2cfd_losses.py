"""The losses of A2CfD: as functions of tensors, as gradients of whole updates, and what they do to the policy."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch as th
from clockwork import Clockwork
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.type_aliases import RolloutBufferSamples

from sb3_pgfd import A2CfD, Demonstrations
from sb3_pgfd.a2cfd.losses import cloning_loss, demonstration_weight, normalized, policy_gradient_loss, value_loss
from sb3_pgfd.common.descent import shortened
from sb3_pgfd.demonstrations import Episode

MakeModel = Callable[..., A2CfD]


def test_the_policy_gradient_loss_weighs_log_probabilities_by_advantages() -> None:
    loss = policy_gradient_loss(th.tensor([-1.0, -2.0, 0.5]), th.tensor([2.0, -1.0, 4.0]))
    assert float(loss) == pytest.approx(-(-2.0 + 2.0 + 2.0) / 3)


def test_the_value_loss_is_quadratic_near_the_target_and_linear_beyond() -> None:
    # Errors 0.5, 1, 3, -2
    loss = value_loss(th.tensor([1.5, 1.0, 0.0, 0.0]), th.tensor([1.0, 2.0, 3.0, -2.0]))
    assert float(loss) == pytest.approx((0.125 + 0.5 + 2.5 + 1.5) / 4)


def test_the_cloning_loss_is_the_mean_negative_log_likelihood() -> None:
    assert float(cloning_loss(th.tensor([-1.0, -3.0, 1.0]))) == pytest.approx(1.0)


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
    assert float(demonstration_weight(0.5, 0.9, iteration, th.tensor(advantages))) == pytest.approx(expected)


def test_normalised_advantages_keep_their_order_and_a_single_one_itself() -> None:
    found = normalized(th.tensor([1.0, 2.0, 6.0]))
    assert found.tolist() == pytest.approx([(a - 3.0) / 7.0**0.5 for a in (1.0, 2.0, 6.0)])
    assert normalized(th.tensor([5.0])).tolist() == [5.0]
    assert normalized(th.tensor([5.0, 5.0])).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("max_norm", [1e-3, 0.5, 100.0])
def test_long_gradients_are_shortened_like_torch_does(max_norm: float) -> None:
    generator = th.Generator().manual_seed(0)
    gradients = [
        th.randn(3, 4, generator=generator),
        None,
        th.randn(5, generator=generator),
        th.randn((), generator=generator),
    ]
    parameters = [th.nn.Parameter(th.zeros_like(gradient)) for gradient in gradients if gradient is not None]
    for parameter, gradient in zip(parameters, [g for g in gradients if g is not None], strict=True):
        parameter.grad = gradient.clone()
    th.nn.utils.clip_grad_norm_(parameters, max_norm)
    found = shortened(gradients, max_norm)
    assert found[1] is None
    for parameter, gradient in zip(parameters, [g for g in found if g is not None], strict=True):
        assert parameter.grad is not None
        assert th.allclose(parameter.grad, gradient, rtol=1e-5)


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
BC_COEF, BC_DECAY, ENT_COEF = 0.5, 0.75, 0.125


@pytest.fixture
def tiny(make_model: MakeModel) -> A2CfD:
    """A model in float64, with weights that saturate nothing."""
    states = np.arange(-3, 4, dtype=np.float32)[:, None] / 4
    actions = np.linspace(-2.0, 1.0, 7, dtype=np.float32)[:6, None]
    demonstrations = Demonstrations.from_episodes([Episode(states, actions, np.arange(6.0), terminated=True)])
    coefficients: dict[str, Any] = dict(bc_coef=BC_COEF, bc_decay=BC_DECAY, ent_coef=ENT_COEF, max_grad_norm=1e9)
    model = make_model(demonstrations=demonstrations, policy_kwargs=TINY, **coefficients)
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


def actor_parameters(model: A2CfD) -> list[th.nn.Parameter]:
    return [parameter for module in model.policy.actor_modules for parameter in module.parameters()]


@pytest.mark.parametrize("without", [None, "bc_coef", "ent_coef"])
@pytest.mark.parametrize("advantages", [ADVANTAGES, -ADVANTAGES.abs()])
def test_the_actor_descends_policy_gradient_entropy_and_demonstrations_together(
    tiny: A2CfD, without: str | None, advantages: th.Tensor
) -> None:
    if without is not None:
        setattr(tiny, without, 0.0)
    state = np.random.get_state()
    batch = tiny._demonstration_batches.sample(tiny.demo_batch_size)
    np.random.set_state(state)
    weight = tiny.bc_coef * BC_DECAY**2 * max(float(advantages.max()), 0.0)

    def loss(parameters: list[np.ndarray]) -> float:
        log_prob, entropy = naive_log_prob_and_entropy(parameters, STATES, DRAWN)
        demonstrated, _ = naive_log_prob_and_entropy(parameters, batch.observations, batch.actions)
        return float(-(advantages.numpy() * log_prob).mean() - tiny.ent_coef * entropy.mean() - weight * demonstrated.mean())

    parameters = actor_parameters(tiny)
    expected = list(finite_differences(loss, [parameter.detach().numpy().copy() for parameter in parameters]))
    empty = th.zeros(4)
    tiny._update_actor(RolloutBufferSamples(STATES, DRAWN, empty, empty, advantages, empty))
    for parameter, gradient in zip(parameters, expected, strict=True):
        assert parameter.grad is not None
        np.testing.assert_allclose(parameter.grad, gradient, rtol=1e-6, atol=1e-8)
    assert tiny._n_actor_updates == 3


def test_the_critic_descends_the_huber_loss(tiny: A2CfD) -> None:
    returns = th.tensor([3.0, -0.25, 0.0, -4.0])
    parameters = [parameter for module in tiny.policy.critic_modules for parameter in module.parameters()]

    def loss(arrays: list[np.ndarray]) -> float:
        hidden = np.tanh(STATES.numpy().astype(float) @ arrays[0].T + arrays[1])
        error = np.abs((hidden @ arrays[2].T + arrays[3])[:, 0] - returns.numpy())
        assert error.min() < 1.0 < error.max()
        return float(np.where(error < 1.0, 0.5 * error**2, error - 0.5).mean())

    expected = list(finite_differences(loss, [parameter.detach().numpy().copy() for parameter in parameters]))
    tiny._update_critic(tiny.policy.predict_values(STATES).flatten(), returns)
    for parameter, gradient in zip(parameters, expected, strict=True):
        assert parameter.grad is not None
        np.testing.assert_allclose(parameter.grad, gradient, rtol=1e-6, atol=1e-8)


def test_each_networks_gradient_is_shortened_by_itself(tiny: A2CfD) -> None:
    tiny.max_grad_norm = 1e-3
    empty = th.zeros(4)
    tiny._update_actor(RolloutBufferSamples(STATES, DRAWN, empty, empty, ADVANTAGES, empty))
    tiny._update_critic(tiny.policy.predict_values(STATES).flatten(), ADVANTAGES)
    for modules in (tiny.policy.actor_modules, tiny.policy.critic_modules):
        gradients = [parameter.grad for module in modules for parameter in module.parameters()]
        norm = th.cat([gradient.flatten() for gradient in gradients if gradient is not None]).norm()
        assert float(norm) == pytest.approx(1e-3, rel=1e-2)


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


def test_a_good_action_becomes_more_and_a_bad_one_less_probable(make_model: MakeModel) -> None:
    model = make_model(demonstrations=None, actor_learning_rate=1e-2)
    states, actions, empty = th.zeros(2, 1), th.tensor([[0.5], [-0.5]]), th.zeros(2)

    def log_prob() -> th.Tensor:
        with th.no_grad():
            return model.policy.get_distribution(states).log_prob(actions)

    before = log_prob()
    model._update_learning_rates()
    for _ in range(5):
        model._update_actor(RolloutBufferSamples(states, actions, empty, empty, th.tensor([1.0, -1.0]), empty))
    after = log_prob()
    assert after[0] > before[0]
    assert after[1] < before[1]
