"""Whole updates of SACfD, against numbers computed by hand and SB3's SAC."""

from collections.abc import Callable
from math import exp, log, pi, tanh
from typing import Any

import numpy as np
import pytest
import torch as th
from stable_baselines3 import SAC
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from two_transitions import LINEAR, set_weights, two_transitions, update

from sb3_pgfd import SACfD
from sb3_pgfd.common.losses import squashed_log_prob
from sb3_pgfd.common.updates import Turn

MakeModel = Callable[..., SACfD]
STD = 0.5
SEED = 4


@pytest.fixture
def make_linear(make_model: MakeModel) -> MakeModel:
    """A model on the two transitions, see ``two_transitions.py``: Q = 2 s + 3 a + 1, Q' = s + a, mode 0, and a known std."""

    def _make(**options: Any) -> SACfD:
        kwargs = {"net_arch": [], "layer_norm": False, "n_critics": 1, "n_target_critics": None, "log_std_init": log(STD)}
        off: dict[str, Any] = dict(bc_coef=0.0, normalize_actor_loss=False, ent_coef=0.0, n_steps=1)
        settings: dict[str, Any] = {**LINEAR, "demonstrations": two_transitions(False), **off, **options}
        buffer = {"demo_fraction": 1.0, "keep_successes": False}
        model = make_model(
            policy_kwargs={**kwargs, **settings.pop("policy_kwargs", {})}, replay_buffer_kwargs=buffer, **settings
        )
        for critic, target in zip(model.critic.q_networks, model.critic_target.q_networks, strict=True):
            set_weights(critic, [2.0, 3.0], 1.0)
            set_weights(target, [1.0, 1.0])
        with th.no_grad():
            for layer, bias in ((model.actor.mu, 0.0), (model.actor.log_std, log(STD))):
                layer.weight.zero_()
                layer.bias.fill_(bias)
        return model.learn(0)

    return _make


def drawn_rows(model: SACfD) -> list[int]:
    """:return: Which of the two transitions the next update will draw, in its order"""
    np.random.seed(SEED)
    first = model.buffer.ring.n_rows
    rows = [int(index) - first for index in model.buffer.sample_batch(2).indices]
    np.random.seed(SEED)
    th.manual_seed(SEED)
    return rows


def noises(*sizes: int) -> list[list[float]]:
    """:return: What the update will draw, in its order"""
    th.manual_seed(SEED)
    found = [th.randn(size, 1)[:, 0].tolist() for size in sizes]
    th.manual_seed(SEED)
    return found


def log_prob(noise: float) -> float:
    """log pi(a|s) of a = tanh(std * noise), by the change of variables."""
    return -0.5 * noise**2 - log(STD) - 0.5 * log(2 * pi) - log(1 - tanh(STD * noise) ** 2)


STATES, NEXT_STATES, ACTIONS, REWARDS = (0.5, -0.5), (-0.5, 0.25), (0.5, -1.0), (1.0, 2.0)


@pytest.mark.parametrize(("ent_coef", "entropy_backup"), [(0.0, False), (0.3, False), (0.3, True)])
def test_a_target_is_what_a_pencil_says(make_linear: MakeModel, recorder: Any, ent_coef: float, entropy_backup: bool) -> None:
    model = make_linear(ent_coef=ent_coef, entropy_backup=entropy_backup)
    rows, (_, following) = drawn_rows(model), noises(2, 2)
    logged = update(model, recorder)
    losses = []
    for row, noise in zip(rows, following, strict=True):
        bonus = ent_coef * log_prob(noise) if entropy_backup else 0.0
        target = REWARDS[row] + 0.5 * (NEXT_STATES[row] + tanh(STD * noise) - bonus)
        losses.append((2 * STATES[row] + 3 * ACTIONS[row] + 1 - target) ** 2)
    assert logged["train/critic_loss"] == pytest.approx(np.mean(losses), rel=1e-5)


@pytest.mark.parametrize("normalize", [False, True])
def test_the_actors_gradient_is_what_a_pencil_says(make_linear: MakeModel, recorder: Any, normalize: bool) -> None:
    model = make_linear(ent_coef=0.3, bc_coef=2.0, normalize_actor_loss=normalize)
    rows, (noise, _) = drawn_rows(model), noises(2, 2)
    logged = update(model, recorder)
    actions = [tanh(STD * value) for value in noise]
    q = [2 * STATES[row] + 3 * action + 1 for row, action in zip(rows, actions, strict=True)]
    scale = float(np.mean(np.abs(q))) if normalize else 1.0
    expected = [(0.3 * log_prob(value) - found) / scale for value, found in zip(noise, q, strict=True)]
    assert logged["train/actor_loss"] == pytest.approx(np.mean(expected), rel=1e-5)
    assert logged["train/entropy"] == pytest.approx(-np.mean([log_prob(value) for value in noise]), rel=1e-5)
    # The modes are 0
    assert logged["train/bc_loss"] == pytest.approx(np.mean([ACTIONS[row] ** 2 for row in rows]), rel=1e-5)
    # With u = mean + std * noise: d log pi / du = 2 tanh(u), d log pi / d log std = -1 + 2 tanh(u) std noise, and
    # d Q / du = 3 (1 - tanh(u)^2). Cloning pulls at the mean alone, 2 * (0 - a)
    of_mean, of_std = [], []
    for row, value, action in zip(rows, noise, actions, strict=True):
        slope = (0.3 * 2 * action - 3 * (1 - action**2)) / scale
        of_mean.append(slope + 2.0 * 2 * -ACTIONS[row])
        of_std.append(slope * STD * value - 0.3 / scale)
    mean_bias, std_bias = (list(layer.parameters())[1].grad for layer in (model.actor.mu, model.actor.log_std))
    assert float(mean_bias) == pytest.approx(np.mean(of_mean), rel=1e-4)
    assert float(std_bias) == pytest.approx(np.mean(of_std), rel=1e-4)


def test_the_entropy_coefficient_goes_where_the_entropy_is_wanted(make_linear: MakeModel, recorder: Any) -> None:
    model = make_linear(ent_coef="auto_0.2", target_entropy=-1.5)
    drawn_rows(model)
    (noise, _) = noises(2, 2)
    logged = update(model, recorder)
    assert logged["train/ent_coef"] == pytest.approx(0.2)
    assert model.log_ent_coef is not None
    assert model.log_ent_coef.grad is not None
    surplus = np.mean([log_prob(value) for value in noise]) - 1.5
    assert float(model.log_ent_coef.grad) == pytest.approx(-surplus, rel=1e-5)


def test_the_smallest_of_two_random_critics_counts(make_linear: MakeModel) -> None:
    model = make_linear(policy_kwargs={"n_critics": 3, "n_target_critics": 2})
    for number, target in enumerate(model.critic_target.q_networks):
        set_weights(target, [0.0, 0.0], float(number))
    values = [float(model.policy.target_q(th.zeros(1, 1), th.zeros(1, 1)).detach()) for _ in range(300)]
    # Of the pairs 01, 02 and 12
    assert set(values) == {0.0, 1.0}
    assert np.mean(values) == pytest.approx(1 / 3, abs=0.1)
    # The actor follows the mean of all: (2 + 5 + 8) / 3 at s = 0.5 and a = 0 with biases of 1, 4 and 7
    for number, critic in enumerate(model.critic.q_networks):
        set_weights(critic, [2.0, 3.0], 1.0 + 3.0 * number)
    assert float(model.policy.followed_q(th.tensor([[0.5]]), th.zeros(1, 1)).detach()) == pytest.approx(5.0)


def test_a_log_probability_is_that_of_the_squashed_gaussian() -> None:
    rng = np.random.default_rng(0)
    noise, mean, log_std = (th.tensor(rng.normal(size=(50, 3)), dtype=th.float64) for _ in range(3))
    unsquashed = mean + noise * log_std.exp()
    normal = th.distributions.Normal(mean, log_std.exp())
    reference = th.distributions.TransformedDistribution(normal, [th.distributions.TanhTransform(cache_size=1)])
    expected = reference.log_prob(reference.transforms[0](unsquashed)).sum(dim=1, keepdim=True)
    assert th.allclose(squashed_log_prob(noise, log_std, unsquashed), expected)
    # Where tanh rounds to 1: 1 - tanh(u)^2 = 4 e^-2u
    far = squashed_log_prob(th.zeros(1, 1), th.zeros(1, 1), th.full((1, 1), 30.0))
    assert float(far) == pytest.approx(-0.5 * log(2 * pi) - log(4) + 60.0)


# --- SB3's SAC --------------------------------------------------------------------------------------------------------


def test_without_what_it_adds_an_update_is_that_of_sb3s_sac(make_model: MakeModel) -> None:
    # SB3 halves the critics' loss, which Adam does not see without its small number
    adam = {"optimizer_kwargs": {"eps": 1e-30}}
    plain = {
        **adam,
        "n_critics": 2,
        "n_target_critics": None,
        "layer_norm": False,
        "average_actor": None,
        "net_arch": [16, 16],
    }
    off: dict[str, Any] = dict(n_steps=1, bc_coef=0.0, normalize_actor_loss=False, entropy_backup=True, l2_coef=0.0)
    ours = make_model(policy_kwargs=plain, ent_coef="auto_0.3", learning_rate=1e-2, batch_size=8, gamma=0.9, **off)
    buffer_class: Any = ReplayBuffer
    theirs = SAC(
        "MlpPolicy",
        "PointToGoal-v0",
        policy_kwargs={**adam, "net_arch": [16, 16]},
        ent_coef="auto_0.3",
        learning_rate=1e-2,
        tau=ours.tau,
        gamma=0.9,
        replay_buffer_class=buffer_class,
        device="cpu",
    )
    theirs.policy.load_state_dict(ours.policy.state_dict())
    theirs.set_logger(Logger(None, []))
    ours._update_learning_rates()
    for number in range(4):
        batch: Any = ours.buffer.sample_batch(8, demos_only=True)
        dones = (batch.bootstrap == 0.0).float()
        samples = ReplayBufferSamples(batch.observations, batch.actions, batch.next_observations, dones, batch.rewards)
        theirs.replay_buffer.sample = lambda *args, samples=samples, **kwargs: samples  # type: ignore[method-assign, union-attr]
        th.manual_seed(number)
        theirs.train(1, 8)
        th.manual_seed(number)
        ours.update(batch, th.tensor(False), Turn(True, 1.0))
    moved = dict(theirs.policy.named_parameters())
    # Each has moved by up to 0.04
    for name, parameter in ours.policy.named_parameters():
        assert th.allclose(parameter, moved[name], atol=1e-4), name
    assert ours.log_ent_coef is not None
    assert theirs.log_ent_coef is not None
    assert ours.log_ent_coef.item() == pytest.approx(theirs.log_ent_coef.item(), rel=1e-5)
    assert ours.log_ent_coef.item() != pytest.approx(log(0.3))


# --- Cloning ----------------------------------------------------------------------------------------------------------


def test_while_it_only_clones_its_deviation_and_the_entropy_coefficient_stay(make_model: MakeModel) -> None:
    kwargs = {"log_std_init": -1.0, "net_arch": [16, 16]}
    model = make_model(learning_rate=1e-2, pretrain_steps=300, l2_coef=1e-3, policy_kwargs=kwargs, ent_coef="auto_0.02")
    states = th.linspace(-1.0, 1.0, 20)[:, None]
    before = model.policy.draw(states).modes.detach()
    model.learn(0)
    after = model.policy.draw(states)
    # Scaled, the demonstrations' actions are 0.95
    assert (after.modes - 0.95).abs().mean() < 0.3 < (before - 0.95).abs().mean()
    assert (after.log_std + 1.0).abs().max() < 0.05
    assert model.log_ent_coef is not None
    assert model.log_ent_coef.item() == pytest.approx(log(0.02))
    model.train(20, 8)
    assert model.log_ent_coef.item() != pytest.approx(log(0.02))


def test_the_actor_waits_and_the_targets_do_not(make_model: MakeModel) -> None:
    model = make_model(policy_delay=3, pretrain_steps=0, learning_rate=1e-2, policy_kwargs={"average_actor": 0.1}).learn(0)
    names = ("actor", "critic", "critic_target")
    networks = {**{name: getattr(model, name) for name in names}, "mean_actor": model.policy.mean_actor}
    moved: dict[str, list[bool]] = {name: [] for name in [*networks, "ent_coef"]}
    assert model.log_ent_coef is not None
    for _ in range(6):
        before = {name: [item.detach().clone() for item in network.parameters()] for name, network in networks.items()}
        alpha = model.log_ent_coef.item()
        model.train(1, 8)
        for name, network in networks.items():
            moved[name].append(not all(th.equal(x, y) for x, y in zip(before[name], network.parameters(), strict=True)))
        moved["ent_coef"].append(model.log_ent_coef.item() != alpha)
    each, delayed = [True] * 6, [False, False, True] * 2
    assert moved == {"critic": each, "critic_target": each, "actor": delayed, "mean_actor": delayed, "ent_coef": delayed}


def test_the_first_actions_are_near_zero_with_the_deviation_that_was_asked_for(make_model: MakeModel) -> None:
    model = make_model(policy_kwargs={"log_std_init": -1.5})
    drawn = model.policy.draw(th.linspace(-1.0, 1.0, 5)[:, None])
    assert drawn.modes.abs().max() < 0.05
    assert th.allclose(drawn.log_std.exp(), th.tensor(exp(-1.5)), rtol=0.05)
