"""Advantages and returns of A2CfD, against numbers computed by hand and naive sums."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch as th
from clockwork import clockwork, set_linear
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_pgfd import A2CfD

MakeModel = Callable[..., A2CfD]
GAMMA = 0.5


class Watched(A2CfD):
    """Keeps the rollouts."""

    rollouts: list[dict[str, np.ndarray]]

    def train(self) -> None:
        names = ("observations", "actions", "rewards", "values", "advantages", "returns", "log_probs")
        self.rollouts = [
            *getattr(self, "rollouts", []),
            {name: getattr(self.rollout_buffer, name).copy() for name in names},
        ]
        super().train()


@pytest.fixture
def watch(make_model: MakeModel, attach: Callable[[A2CfD], A2CfD]) -> Callable[..., Watched]:
    """``watch(steps, *environments, **options)``: a model with V(s) = 2 s + 1 that has learned, at a rate of 0."""

    def _watch(steps: int, *environments: Callable[[], Any], **options: Any) -> Watched:
        settings: dict[str, Any] = dict(gamma=GAMMA, learning_rate=0.0, actor_learning_rate=0.0, demonstrations=None)
        settings |= dict(algorithm=Watched, policy_kwargs={"net_arch": []})
        model = make_model(env=DummyVecEnv(list(environments)), **{**settings, **options})
        set_linear(model.policy.value_net, 2.0, 1.0)
        attach(model).learn(steps)
        assert isinstance(model, Watched)
        return model

    return _watch


# V(0), V(1), V(2), V(3) = 1, 3, 5, 7 and rewards 10, 20, 40


@pytest.mark.parametrize(
    ("terminated", "last"),
    # The last step's r + gamma V(s') - V(s), where V(s') counts unless the episode has terminated
    [(True, 40 + 0.0 - 5), (False, 40 + 0.5 * 7 - 5)],
)
@pytest.mark.parametrize("gae_lambda", [0.0, 0.7, 1.0])
def test_with_one_step_the_advantage_is_the_td_error(
    watch: Callable[..., Watched], terminated: bool, last: float, gae_lambda: float
) -> None:
    model = watch(4, clockwork([10.0, 20.0, 40.0], terminated), n_steps=1, gae_lambda=gae_lambda)
    found = [rollout["advantages"].item() for rollout in model.rollouts]
    # The fourth step is the first one of another episode
    first = 10 + 0.5 * 3 - 1
    assert found == pytest.approx([first, 20 + 0.5 * 5 - 3, last, first])
    returns = [rollout["returns"].item() for rollout in model.rollouts]
    assert returns == pytest.approx([advantage + value for advantage, value in zip(found, (1, 3, 5, 1), strict=True)])


@pytest.mark.parametrize("terminated", [True, False])
def test_with_lambda_1_the_advantage_is_the_n_step_return_minus_the_value(
    watch: Callable[..., Watched], terminated: bool
) -> None:
    model = watch(4, clockwork([10.0, 20.0, 40.0], terminated), n_steps=4)
    (rollout,) = model.rollouts
    end = 0.0 if terminated else 7.0
    returns = [10 + 0.5 * 20 + 0.25 * 40 + 0.125 * end, 20 + 0.5 * 40 + 0.25 * end, 40 + 0.5 * end, 10 + 0.5 * 3]
    assert rollout["returns"].ravel() == pytest.approx(returns)
    assert rollout["advantages"].ravel() == pytest.approx(np.subtract(returns, [1, 3, 5, 1]))


def naive_gae(rewards: list[float], values: list[float], bootstrap: float, gae_lambda: float) -> list[float]:
    """
    A_t = sum_l (gamma lambda)^l delta_{t + l} up to the end of the episode or of the rollout.

    :param values: V of the states that these steps begin in
    :param bootstrap: V of the state that the last one leads to, 0 after a termination
    """
    following = [*values[1:], bootstrap]
    deltas = [r + GAMMA * after - v for r, v, after in zip(rewards, values, following, strict=True)]
    return [
        sum((GAMMA * gae_lambda) ** (later - t) * deltas[later] for later in range(t, len(deltas))) for t in range(len(deltas))
    ]


@pytest.mark.parametrize("gae_lambda", [0.0, 0.3, 0.95, 1.0])
@pytest.mark.parametrize("n_steps", [2, 5, 7])
def test_gae_sums_td_errors_within_each_environments_episodes(
    watch: Callable[..., Watched], gae_lambda: float, n_steps: int
) -> None:
    rewards: list[tuple[list[float], bool]] = [([10.0, 20.0, 40.0], True), ([1.0, -2.0, 3.0, 5.0], False), ([7.0] * 50, True)]
    environments = [clockwork(*episode) for episode in rewards]
    model = watch(3 * 2 * n_steps, *environments, n_steps=n_steps, gae_lambda=gae_lambda)
    assert len(model.rollouts) == 2
    for number, (episode, terminated) in enumerate(rewards):
        time = 0
        for rollout in model.rollouts:
            expected: list[float] = []
            while len(expected) < n_steps:
                stop = min(time + n_steps - len(expected), len(episode))
                ends = stop == len(episode)
                bootstrap = 0.0 if ends and terminated else 2.0 * stop + 1.0
                values = [2.0 * state + 1.0 for state in range(time, stop)]
                expected += naive_gae(episode[time:stop], values, bootstrap, gae_lambda)
                time = 0 if ends else stop
            assert rollout["advantages"][:, number] == pytest.approx(expected, rel=1e-5)


def test_both_losses_are_those_of_the_stored_rollout(watch: Callable[..., Watched], recorder: Any) -> None:
    model = watch(4, clockwork([10.0, 3.5, 5.5], terminated=False), n_steps=4, gae_lambda=0.0)
    (rollout,) = model.rollouts
    model.dump_logs()
    row = recorder.rows[-1]
    # Errors 10 + 0.5 * 3 - 1 = 10.5, 3.5 + 0.5 * 5 - 3 = 3, 5.5 + 0.5 * 7 - 5 = 4, 10.5; linear beyond 1
    assert row["train/value_loss"] == pytest.approx(np.mean([10.0, 2.5, 3.5, 10.0]))
    expected = -np.mean(rollout["advantages"] * rollout["log_probs"])
    assert row["train/policy_loss"] == pytest.approx(expected, rel=1e-5)
    assert row["train/explained_variance"] == pytest.approx(
        1 - np.var([10.5, 3.0, 4.0, 10.5]) / np.var([11.5, 6.0, 9.0, 11.5]), rel=1e-5
    )


def test_normalised_advantages_have_mean_0_and_deviation_1(watch: Callable[..., Watched], recorder: Any) -> None:
    model = watch(4, clockwork([10.0, 3.5, 5.5], terminated=False), n_steps=4, gae_lambda=0.0, normalize_advantage=True)
    (rollout,) = model.rollouts
    model.dump_logs()
    errors = np.array([10.5, 3.0, 4.0, 10.5])
    scaled = (errors - 7.0) / errors.std(ddof=1)
    expected = -np.mean(scaled * rollout["log_probs"].ravel())
    assert recorder.rows[-1]["train/policy_loss"] == pytest.approx(expected, rel=1e-5)


def test_a_single_advantage_is_not_normalised(watch: Callable[..., Watched], recorder: Any) -> None:
    model = watch(1, clockwork([10.0, 3.5]), n_steps=1, normalize_advantage=True)
    model.dump_logs()
    expected = -10.5 * model.rollouts[0]["log_probs"].item()
    assert recorder.rows[-1]["train/policy_loss"] == pytest.approx(expected, rel=1e-5)
    # A single return has no variance
    assert "train/explained_variance" not in recorder.rows[-1]


def test_what_is_stored_is_the_action_that_was_drawn_with_its_own_probability(watch: Callable[..., Watched]) -> None:
    # A standard deviation of e times the bounds: most actions are clipped on the way to the environment, which checks
    model = watch(200, clockwork([0.0] * 10), n_steps=200, policy_kwargs={"net_arch": [], "log_std_min": 0.99})
    (rollout,) = model.rollouts
    actions = rollout["actions"].ravel()
    assert (np.abs(actions) > 1.0).mean() > 0.5
    with th.no_grad():
        gaussian: Any = model.policy.get_distribution(th.as_tensor(rollout["observations"].reshape(-1, 1))).distribution
    mean, std = gaussian.mean.numpy().ravel(), gaussian.stddev.numpy().ravel()
    expected = -0.5 * ((actions - mean) / std) ** 2 - np.log(std) - 0.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(rollout["log_probs"].ravel(), expected, rtol=1e-4, atol=1e-5)
