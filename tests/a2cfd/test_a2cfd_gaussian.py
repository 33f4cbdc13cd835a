"""The Gaussian of A2CfD over continuous actions."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch as th
from clockwork import Clockwork
from gymnasium import spaces
from scipy import stats
from scipy.integrate import trapezoid

from sb3_pgfd import A2CfD
from sb3_pgfd.a2cfd import MlpPolicy

BOXES: dict[str, spaces.Box] = {
    "symmetric": spaces.Box(-2.0, 2.0, (1,)),
    "asymmetric": spaces.Box(-1.0, 3.0, (1,)),
    "all positive": spaces.Box(5.0, 5.5, (1,)),
    "wide": spaces.Box(-1e6, 3e6, (1,)),
    "several": spaces.Box(np.array([-1.0, -4.0, 0.0], np.float32), np.array([3.0, -2.0, 0.01], np.float32)),
    "matrix": spaces.Box(np.array([[-1.0, -4.0], [0.0, 2.0]], np.float32), np.array([[3.0, -2.0], [0.01, 9.0]], np.float32)),
    "float64": spaces.Box(-1.0, 3.0, (2,), np.float64),
}
STATES = spaces.Box(-1.0, 1.0, (3,))


def make_policy(action_space: spaces.Box, spread: float = 1.0, **kwargs: Any) -> MlpPolicy:
    """:param spread: Of the weights: the outputs of large ones are saturated"""
    th.manual_seed(0)
    policy = MlpPolicy(STATES, action_space, lambda _: 1e-3, **{"net_arch": [16], **kwargs})
    for parameter in policy.parameters():
        th.nn.init.normal_(parameter, std=spread)
    return policy


def draw(policy: MlpPolicy, n: int = 1) -> tuple[np.ndarray, np.ndarray, Any]:
    """:return: Mean and standard deviation by state and component, and the distribution"""
    states = th.as_tensor(np.random.default_rng(0).uniform(-1, 1, (n, 3)).astype(np.float32))
    with th.no_grad():
        distribution = policy.get_distribution(states)
    gaussian: Any = distribution.distribution
    return gaussian.mean.double().numpy(), gaussian.stddev.double().numpy(), distribution


def in_float64(policy: MlpPolicy) -> tuple[Any, Any, Any]:
    # SB3 turns observations into float32, so the network is fed from behind that
    with th.no_grad():
        latent = policy.mlp_extractor.forward_actor(th.tensor([[0.3, -0.2, 0.6]], dtype=th.float64))
        distribution: Any = policy._get_action_dist_from_latent(latent)
    return distribution.distribution.mean, distribution.distribution.stddev, distribution


@pytest.mark.parametrize("name", list(BOXES))
@pytest.mark.parametrize("spread", [0.01, 1.0, 100.0])
def test_the_mean_stays_within_the_bounds_and_sigma_within_its_range(name: str, spread: float) -> None:
    box = BOXES[name]
    low, high = box.low.ravel().astype(float), box.high.ravel().astype(float)
    mean, std, _ = draw(make_policy(box, spread, log_std_min=-2.0, log_std_max=0.5), 200)
    assert mean.shape == std.shape == (200, box.low.size)
    half, rounding = (high - low) / 2, 1e-6 * np.abs([low, high]).max(axis=0)
    assert (mean >= low - rounding).all()
    assert (mean <= high + rounding).all()
    relative = std / half
    assert relative.min() >= np.exp(-2.0) * (1 - 1e-5)
    assert relative.max() <= np.exp(0.5) * (1 + 1e-5)
    # The ends can be reached
    if spread == 100.0:
        assert (np.isclose(mean.min(axis=0), low, rtol=1e-5) | np.isclose(mean.max(axis=0), high, rtol=1e-5)).all()
        lowest, highest = np.exp([-2.0, 0.5])
        reached = np.isclose(relative.min(axis=0), lowest, rtol=1e-4) | np.isclose(relative.max(axis=0), highest, rtol=1e-4)
        assert reached.all()


def test_mean_and_sigma_are_squashed_outputs_of_the_last_layer() -> None:
    policy = make_policy(BOXES["several"], log_std_min=-3.0, log_std_max=1.0)
    states = th.rand(5, 3)
    with th.no_grad():
        raw = policy.action_net(policy.mlp_extractor.forward_actor(states)).double().numpy()
        gaussian: Any = policy.get_distribution(states).distribution
    center, half = np.array([1.0, -3.0, 0.005]), np.array([2.0, 1.0, 0.005])
    np.testing.assert_allclose(gaussian.mean, center + half * np.tanh(raw[:, :3]), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(gaussian.stddev, half * np.exp(-1.0 + 2.0 * np.tanh(raw[:, 3:])), rtol=1e-5)


def test_sigma_depends_on_the_state() -> None:
    _, std, _ = draw(make_policy(BOXES["symmetric"]), 20)
    assert std.std() > 0.1 * std.mean()


def test_a_new_policy_is_in_the_middle_of_everything() -> None:
    policy = MlpPolicy(STATES, BOXES["asymmetric"], lambda _: 1e-3, log_std_min=-3.0, log_std_max=1.0)
    mean, std, _ = draw(policy, 50)
    assert np.abs(mean - 1.0).max() < 0.1
    assert std / 2.0 == pytest.approx(np.full((50, 1), np.exp(-1.0)), rel=0.1)


@pytest.mark.parametrize("name", list(BOXES))
def test_the_log_probability_is_that_of_independent_gaussians(name: str) -> None:
    policy = make_policy(BOXES[name])
    mean, std, distribution = draw(policy, 40)
    actions = mean + std * np.random.default_rng(1).normal(0, 2, mean.shape)
    with th.no_grad():
        found = distribution.log_prob(th.as_tensor(actions.astype(np.float32)))
    assert found.shape == (40,)
    np.testing.assert_allclose(found, stats.norm.logpdf(actions, mean, std).sum(axis=1), rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("name", ["symmetric", "asymmetric", "all positive"])
def test_the_density_integrates_to_1_over_all_actions_and_gives_the_entropy(name: str) -> None:
    policy = make_policy(BOXES[name]).double()
    mean, std, distribution = in_float64(policy)
    grid = th.linspace(float(mean - 12 * std), float(mean + 12 * std), 20_001, dtype=th.float64)[:, None]
    with th.no_grad():
        log_density = distribution.log_prob(grid)
    density = log_density.exp().numpy()
    assert trapezoid(density, grid[:, 0]) == pytest.approx(1.0, abs=1e-9)
    entropy = trapezoid(-density * log_density.numpy(), grid[:, 0])
    assert float(distribution.entropy()) == pytest.approx(entropy, abs=1e-7)
    # Actions beyond the bounds, which are clipped on their way to the environment, have their share in it
    box = BOXES[name]
    inside = ((grid >= float(box.low[0])) & (grid <= float(box.high[0]))).numpy().ravel()
    assert 0.05 < trapezoid(density * inside, grid[:, 0]) < 0.999


def test_in_two_dimensions_the_density_integrates_to_1() -> None:
    box = spaces.Box(np.array([-1.0, 2.0], np.float32), np.array([3.0, 2.5], np.float32))
    mean, std, distribution = in_float64(make_policy(box).double())
    axes = [np.linspace(float(m - 9 * s), float(m + 9 * s), 301) for m, s in zip(mean[0], std[0], strict=True)]
    grid = th.as_tensor(np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2))
    with th.no_grad():
        log_density = distribution.log_prob(grid).numpy().reshape(301, 301)

    def integral(values: np.ndarray) -> float:
        return float(trapezoid(trapezoid(values, axes[1]), axes[0]))

    assert integral(np.exp(log_density)) == pytest.approx(1.0, abs=1e-9)
    entropy = integral(-np.exp(log_density) * log_density)
    assert float(distribution.entropy()) == pytest.approx(entropy, abs=1e-7)


def test_samples_have_the_moments_of_the_distribution() -> None:
    policy = make_policy(BOXES["several"])
    states = th.tensor([[0.3, -0.2, 0.6]]).repeat(20_000, 1)
    with th.no_grad():
        actions, _, log_prob = policy(states)
        gaussian: Any = policy.get_distribution(states[:1]).distribution
    assert actions.mean(dim=0).numpy() == pytest.approx(gaussian.mean[0].numpy(), abs=0.03 * float(gaussian.stddev.max()))
    assert actions.std(dim=0).numpy() == pytest.approx(gaussian.stddev[0].numpy(), rel=0.03)
    # The mean of -log p is the entropy
    assert -float(log_prob.mean()) == pytest.approx(float(gaussian.entropy().sum()), abs=0.05)


@pytest.mark.parametrize("name", list(BOXES))
def test_what_is_predicted_has_the_spaces_shape_and_stays_within_it(name: str) -> None:
    box = BOXES[name]
    policy = make_policy(box, log_std_min=0.9)
    states = np.random.default_rng(0).uniform(-1, 1, (30, 3)).astype(np.float32)
    for deterministic in (False, True):
        actions, _ = policy.predict(states, deterministic=deterministic)
        assert actions.shape == (30, *box.shape)
        assert all((box.low <= action).all() and (action <= box.high).all() for action in actions)
    mean, _, _ = draw(policy, 30)
    np.testing.assert_allclose(actions.reshape(30, -1), np.clip(mean, box.low.ravel(), box.high.ravel()), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", list(BOXES))
def test_learning_works_in_every_box(make_model: Callable[..., A2CfD], name: str) -> None:
    # The environment checks that each action is in its space
    model = make_model(env=Clockwork([1.0, 2.0, 0.0], action_space=BOXES[name]), demonstrations=None, ent_coef=0.01)
    before = {key: value.clone() for key, value in model.policy.state_dict().items()}
    model.learn(30)
    after = model.policy.state_dict()
    assert all(th.isfinite(value).all() for value in after.values())
    assert not any(th.equal(after[key], before[key]) for key in after if "weight" in key)


def test_the_logged_deviation_is_in_units_of_the_half_width(
    make_model: Callable[..., A2CfD], attach: Callable[[A2CfD], A2CfD], recorder: Any
) -> None:
    # Half widths of 2 and 0.25, and one sigma for all states
    box = spaces.Box(np.array([-1.0, 2.0], np.float32), np.array([3.0, 2.5], np.float32))
    model = attach(make_model(env=Clockwork([0.0], action_space=box), demonstrations=None, actor_learning_rate=0.0))
    assert isinstance(model.policy, MlpPolicy)
    with th.no_grad():
        model.policy.action_net.weight.zero_()
        model.policy.action_net.bias.copy_(th.tensor([0.0, 0.0, -20.0, 20.0]))
    model.learn(5).dump_logs()
    # Of exp(-3) and exp(1)
    assert recorder.rows[-1]["train/std"] == pytest.approx((np.exp(-3.0) + np.exp(1.0)) / 2, rel=1e-5)
    entropy = np.log(2 * np.pi * np.e) + np.log(2.0) - 3.0 + np.log(0.25) + 1.0
    assert recorder.rows[-1]["train/entropy"] == pytest.approx(entropy, rel=1e-5)
