"""The losses of the off-policy algorithms as functions of tensors, with numbers computed by hand."""

import copy

import numpy as np
import pytest
import torch as th
from gymnasium import spaces

from sb3_pgfd.common.losses import (
    action_gradient,
    behavior_cloning_loss,
    policy_gradient_loss,
    prefers,
    smallest,
    smoothed,
    squared_errors,
    td_targets,
)
from sb3_pgfd.ddpgfd import MlpPolicy
from sb3_pgfd.replay.priorities import priorities


def column(*values: float) -> th.Tensor:
    return th.tensor(values)[:, None]


def make_policy(n_critics: int = 1, layer_norm: bool = False) -> MlpPolicy:
    th.manual_seed(0)
    observation_space, action_space = spaces.Box(-1.0, 1.0, (3,)), spaces.Box(-1.0, 1.0, (2,))
    policy = MlpPolicy(
        observation_space, action_space, lambda _: 1e-3, net_arch=[16, 16], n_critics=n_critics, layer_norm=layer_norm
    )
    # The last layers start near zero, which would let a wrong gradient pass any tolerance
    for network in (policy.actor, policy.critic):
        for parameter in network.parameters():
            th.nn.init.normal_(parameter, std=0.5)
    return policy


@pytest.mark.parametrize(
    ("q_range", "expected"),
    [
        (None, [10.0, 2.0, -3.5]),  # 1 + 0.9 * 10, 2 + 0 * 5, -4 + 0.5 * 1
        ((0.0, 5.0), [5.0, 2.0, 0.0]),
        ((-3.0, float("inf")), [10.0, 2.0, -3.0]),
    ],
)
def test_a_target_is_reward_plus_discounted_value_within_the_possible_returns(
    q_range: tuple[float, float] | None, expected: list[float]
) -> None:
    target = td_targets(column(1.0, 2.0, -4.0), column(0.9, 0.0, 0.5), column(10.0, 5.0, 1.0), q_range)
    assert th.allclose(target, column(*expected))


def test_targets_of_two_returns_take_the_values_of_their_own_next_states() -> None:
    # The next states of a transition follow each other: s' and the state after k steps of the first, then of the second
    rewards, bootstrap = th.tensor([[1.0, 2.0], [3.0, 4.0]]), th.tensor([[0.5, 0.25], [0.5, 0.0]])
    targets = td_targets(rewards, bootstrap, column(10.0, 20.0, 30.0, 40.0))
    assert targets.tolist() == [[1.0 + 5.0, 2.0 + 5.0], [3.0 + 15.0, 4.0]]


def test_the_smallest_value_is_that_of_any_critic() -> None:
    assert smallest([column(1.0, 5.0, 3.0), column(2.0, 4.0, 3.5)]).tolist() == [[1.0], [4.0], [3.0]]
    assert smallest([column(1.0, 5.0)]).tolist() == [[1.0], [5.0]]


def test_errors_of_one_critic_are_squared_per_return() -> None:
    # (1-3)^2, (1-0)^2; (2-2)^2, (2-5)^2
    targets = th.tensor([[3.0, 0.0], [2.0, 5.0]])
    assert squared_errors([column(1.0, 2.0)], targets).tolist() == [[4.0, 1.0], [0.0, 9.0]]


def test_errors_of_two_critics_are_summed() -> None:
    # The second adds (0-3)^2, (0-0)^2; (1-2)^2, (1-5)^2
    targets = th.tensor([[3.0, 0.0], [2.0, 5.0]])
    assert squared_errors([column(1.0, 2.0), column(0.0, 1.0)], targets).tolist() == [[13.0, 1.0], [1.0, 25.0]]


@pytest.mark.parametrize("layer_norm", [False, True])
def test_the_action_gradient_agrees_with_finite_differences(layer_norm: bool) -> None:
    critic = copy.deepcopy(make_policy(n_critics=2, layer_norm=layer_norm).critic).double()
    observations, actions = th.rand(5, 3), th.rand(5, 2, dtype=th.float64)
    q_values, gradient = action_gradient(critic.q1_forward, observations, actions)
    step = 1e-6
    for component in range(2):
        shift = th.zeros(2, dtype=th.float64)
        shift[component] = step
        with th.no_grad():
            above, below = (critic.q1_forward(observations, actions + sign * shift) for sign in (1, -1))
        assert th.allclose(gradient[:, [component]], (above - below) / (2 * step), rtol=1e-5, atol=1e-7)
    assert th.equal(q_values, critic.q1_forward(observations, actions))


def test_the_action_gradient_leaves_no_gradients_behind() -> None:
    policy = make_policy()
    observations = th.rand(4, 3)
    q_values, gradient = action_gradient(policy.critic.q1_forward, observations, policy.actor(observations))
    assert not q_values.requires_grad
    assert not gradient.requires_grad
    assert all(parameter.grad is None for parameter in policy.parameters())


def test_the_policy_gradient_is_that_of_the_weighted_mean_value() -> None:
    policy = make_policy()
    observations, weights = th.rand(6, 3), column(1.0, 0.5, 0.25, 1.0, 0.1, 0.7)
    parameters = list(policy.actor.parameters())
    actions = policy.actor(observations)
    _, gradient = action_gradient(policy.critic.q1_forward, observations, actions)
    found = th.autograd.grad(policy_gradient_loss(actions, gradient, weights), parameters)
    loss = -(weights * policy.critic.q1_forward(observations, policy.actor(observations))).mean()
    for one, other in zip(found, th.autograd.grad(loss, parameters), strict=True):
        assert th.allclose(one, other, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("mask", "is_demo", "expected"),
    [
        # Squared distances: 0.25 + 1, 0 + 4, 1 + 1
        ([True, True, False], [True, True, False], (1.25 + 4.0) / 2),
        ([True, False, False], [True, True, False], 1.25 / 2),
        ([False, False, False], [False, False, False], 0.0),
    ],
)
def test_cloning_averages_kept_demonstrations_over_all_demonstrations(
    mask: list[bool], is_demo: list[bool], expected: float
) -> None:
    actions = th.tensor([[0.5, 0.0], [0.0, 1.0], [1.0, 1.0]])
    demo_actions = th.tensor([[0.0, 1.0], [0.0, -1.0], [0.0, 0.0]])
    loss = behavior_cloning_loss(actions, demo_actions, th.tensor(mask)[:, None], th.tensor(is_demo)[:, None])
    assert float(loss) == expected


def test_a_priority_adds_up_error_and_demonstration_bonus() -> None:
    errors = np.array([16.5, 2.0, 0.0])
    found = priorities(errors, np.array([True, False, False]), epsilon=0.125, demo_bonus=10.0)
    # Positive without any error
    assert found.tolist() == [26.625, 2.125, 0.125]
    assert errors.tolist() == [16.5, 2.0, 0.0], "they are logged too, so they must not change"


def test_noise_is_clipped_and_leaves_no_action_outside() -> None:
    actions = th.tensor([[0.9, -0.9, 0.0]]).repeat(500, 1)
    found = smoothed(actions, noise=1e6, clip=0.25)
    # Noise this large is clipped to one side or the other
    assert [sorted(set(column.tolist())) for column in found.T] == [
        [pytest.approx(0.65), 1.0],
        [-1.0, pytest.approx(-0.65)],
        [-0.25, 0.25],
    ]
    assert actions[0].tolist() == pytest.approx([0.9, -0.9, 0.0]), "the policy's own actions must not change"


def test_the_q_filter_compares_two_actions_by_the_first_critic() -> None:
    policy = make_policy(n_critics=2)
    observations, actions, others = th.rand(50, 3), th.rand(50, 2), th.rand(50, 2).requires_grad_()
    found = prefers(policy.critic.q1_forward, observations, actions, policy.critic.q1_forward(observations, others))
    first, second = (policy.critic(observations, chosen)[0] for chosen in (actions, others))
    assert found.tolist() == (first > second).tolist()
    assert 0 < int(found.sum()) < 50
    assert not prefers(policy.critic.q1_forward, observations, actions, first).any()
