"""Whole updates of TD3fD, against numbers computed by hand and a naive loop over rows."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch as th
from naive_update import (
    MIXED,
    PRIORITIES,
    Transition,
    assert_gradients,
    mix,
    naive_actor_losses,
    naive_delta,
    next_batch,
    random_demonstrations,
)
from small_models import demo_priorities, set_priorities
from two_transitions import LINEAR, seed_that_draws_both_rows, set_networks, set_weights, two_transitions, update

from sb3_pgfd import TD3fD

MakeModel = Callable[..., TD3fD]
MakeMixed = Callable[..., tuple[TD3fD, list[Transition]]]
# What TD3fD has and DDPGfD has not, but for its critics
SWITCHED_OFF: dict[str, Any] = dict(target_policy_noise=0.0, policy_delay=1, bc_coef=0.0, normalize_actor_loss=False)


@pytest.fixture
def make_linear(make_model: MakeModel, attach: Callable[[TD3fD], TD3fD]) -> MakeModel:
    """A model on the two transitions, see ``two_transitions.py``; ``buffer`` are options of its replay buffer."""

    def _make(terminated: bool = True, buffer: dict[str, Any] | None = None, **options: Any) -> TD3fD:
        net = {"net_arch": [], "layer_norm": False, "n_critics": 1, **options.pop("policy_kwargs", {})}
        buffer_kwargs = {"demo_fraction": None, "priority_exponent": 1.0, **(buffer or {})}
        settings = {**LINEAR, **SWITCHED_OFF, "demonstrations": two_transitions(terminated), **options}
        model = make_model(policy_kwargs=net, replay_buffer_kwargs=buffer_kwargs, **settings)
        set_networks(model)
        return attach(model).learn(0)

    return _make


@pytest.fixture
def make_mixed(make_model: MakeModel, attach: Callable[[TD3fD], TD3fD]) -> MakeMixed:
    """A model with random demonstrations and transitions of its own, and all of these."""

    def _make(buffer: dict[str, Any] | None = None, **options: Any) -> tuple[TD3fD, list[Transition]]:
        dataset, rows = random_demonstrations()
        settings = {**MIXED, **SWITCHED_OFF, "demonstrations": dataset, **options}
        model = make_model(replay_buffer_kwargs={**PRIORITIES, **(buffer or {})}, **settings)
        attach(model)
        return model, mix(model, rows)

    return _make


# --- Critics ----------------------------------------------------------------------------------------------------------


def test_the_smallest_target_counts_and_the_critics_errors_are_summed(make_linear: MakeModel, recorder: Any) -> None:
    model = make_linear(terminated=False, n_steps=1, policy_kwargs={"n_critics": 2}, buffer={"demo_bonus": 0.0})
    # Q'(s', 0) is -0.5 and 0.25 by the first, 0.5 and -0.25 by the second
    set_weights(model.critic_target.q_networks[1], [-1.0, 1.0])
    set_weights(model.critic.q_networks[1], [0.0, 0.0])
    row = update(model, recorder)
    # y = 1 + 0.5 * -0.5 = 0.75 and 2 + 0.5 * -0.25 = 1.875; Q is 3.5 and -3 by the first, 0 by the second
    delta = [2.75**2 + 0.75**2, 4.875**2 + 1.875**2]
    assert row["train/critic_loss"] == pytest.approx(sum(delta) / 2)
    # Their mean over the critics, and no gradient of Q
    np.testing.assert_allclose(demo_priorities(model), np.array(delta) / 2 + 1e-6, rtol=1e-5)


def test_possible_returns_limit_the_targets(make_linear: MakeModel, recorder: Any) -> None:
    # Targets of the first row: 1 + 0.5 * -0.5 and 1 + 0.5 * 2; of the second 2 and 2. At most 1.5
    row = update(make_linear(q_range=(0.0, 1.5)), recorder)
    assert row["train/critic_loss"] == pytest.approx((2.75**2 + 0.5 * 2.0**2 + 1.5 * 4.5**2) / 2)


def target_actions(model: TD3fD, batch_size: int) -> th.Tensor:
    """:return: The actions for which the next update asks the target critics"""
    noted: list[th.Tensor] = []
    hook = model.critic_target.register_forward_pre_hook(lambda _, inputs: noted.append(inputs[1]))
    model.train(1, batch_size)
    hook.remove()
    return noted[0]


@pytest.mark.parametrize(("noise", "clip", "size"), [(0.0, 0.5, 0.0), (1e6, 0.25, 0.25), (1e6, 5.0, 1.0)])
def test_target_policy_noise_is_clipped_and_stays_in_the_action_space(
    make_linear: MakeModel, noise: float, clip: float, size: float
) -> None:
    # pi' = 0, and the two returns have next states of their own
    found = target_actions(make_linear(target_policy_noise=noise, target_noise_clip=clip), batch_size=200)
    assert found.shape == (400, 1)
    assert found.abs().unique().tolist() == [size]


def test_target_policy_noise_has_the_given_standard_deviation(make_linear: MakeModel) -> None:
    found = target_actions(make_linear(target_policy_noise=0.1), batch_size=10_000)
    assert float(found.std()) == pytest.approx(0.1, rel=0.03)
    assert float(found.mean()) == pytest.approx(0.0, abs=0.003)


@pytest.mark.parametrize("buffer", [{"demo_fraction": None}, {}])
@pytest.mark.parametrize("n_steps", [1, 3])
def test_an_update_of_the_critics_is_that_of_a_naive_loop(
    make_mixed: MakeMixed, recorder: Any, n_steps: int, buffer: dict[str, Any]
) -> None:
    model, rows = make_mixed(buffer=buffer, n_steps=n_steps, target_policy_noise=0.3, target_noise_clip=0.4)
    batch = next_batch(model)
    # The noise of an update is drawn at once, for the next states of each row side by side
    n_returns = 1 if n_steps == 1 else 2
    th.manual_seed(7)
    noise = th.randn(8 * n_returns, 1).mul(0.3).clamp(-0.4, 0.4).view(8, n_returns).tolist()
    deltas = th.stack([naive_delta(model, rows, row, tuple(added)) for row, added in zip(batch.rows, noise, strict=True)])
    loss = (batch.weights * deltas).mean()
    gradients = th.autograd.grad(loss, list(model.critic.parameters()))
    expected = model.buffer.priorities

    th.manual_seed(7)
    logged = update(model, recorder)
    assert logged["train/critic_loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert_gradients(model.critic, gradients)
    if "demo_fraction" in buffer:
        expected[batch.indices] = deltas.detach().numpy() / 2 + 1e-6 + 0.3 * batch.is_demo
    np.testing.assert_allclose(model.buffer.priorities, expected, rtol=1e-4)
    assert logged["train/demo_fraction"] == pytest.approx(np.mean(batch.is_demo))


# --- Actor ------------------------------------------------------------------------------------------------------------


def test_the_policy_gradient_in_units_of_q_is_what_a_pencil_says(make_linear: MakeModel, recorder: Any) -> None:
    model = make_linear(normalize_actor_loss=True, bc_coef=2.0, buffer={"demo_bonus": 0.25})
    set_weights(model.critic.q_networks[0], [2.0, 3.0], 3.0)
    set_priorities(model, model.buffer.ring.n_rows + np.arange(2), np.array([1.0, 4.0]))
    seed_that_draws_both_rows(model)
    row = update(model, recorder)
    # Q(s, 0) = 2 s + 3 = 4 and 2, so that their mean is 3; w = 1 and 1/4
    assert row["train/actor_loss"] == pytest.approx(-(4.0 / 3.0 + 0.25 * 2.0 / 3.0) / 2)
    # pi = 0, so the squared distances to 0.5 and -1 are 0.25 and 1; they have no weights
    assert row["train/bc_loss"] == pytest.approx((0.25 + 1.0) / 2)
    # At pi = tanh(0), d pi / d bias = 1: -mean(w 3 / 3) + 2 * mean(2 (pi - a))
    bias = [parameter for parameter in model.actor.mu.parameters()][-1]
    assert bias.grad is not None
    assert float(bias.grad) == pytest.approx(-1.25 / 2 + 2.0 * (-1.0 + 2.0) / 2)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize(("bc_coef", "q_filter"), [(0.0, False), (0.7, False), (0.7, True)])
def test_the_actor_descends_the_loss_of_the_docstring(
    make_mixed: MakeMixed, recorder: Any, normalize: bool, bc_coef: float, q_filter: bool
) -> None:
    model, rows = make_mixed(normalize_actor_loss=normalize, bc_coef=bc_coef, q_filter=q_filter)
    actor, batch = copy.deepcopy(model.actor), next_batch(model)
    logged = update(model, recorder)
    q_loss, bc_loss = naive_actor_losses(model, actor, rows, batch, q_filter, normalize)
    assert logged["train/actor_loss"] == pytest.approx(q_loss.item(), rel=1e-4)
    assert logged.get("train/bc_loss", 0.0) == pytest.approx(bc_loss.item() if bc_coef else 0.0, rel=1e-4)
    assert_gradients(model.actor, th.autograd.grad(q_loss + bc_coef * bc_loss, list(actor.parameters())))


# --- Delay ------------------------------------------------------------------------------------------------------------


def snapshot(network: th.nn.Module) -> list[th.Tensor]:
    return [parameter.detach().clone() for parameter in network.parameters()]


@pytest.mark.parametrize("buffer", [{"demo_fraction": None}, {}])
def test_the_policy_the_targets_and_the_mean_move_only_every_so_many_updates(
    make_model: MakeModel, buffer: dict[str, Any]
) -> None:
    model = make_model(policy_delay=3, pretrain_steps=0, learning_rate=1e-3, replay_buffer_kwargs=buffer).learn(0)
    networks = {name: getattr(model, name) for name in ("critic", "actor", "critic_target", "actor_target")}
    networks["mean_actor"] = model.policy.mean_actor
    moved: dict[str, list[bool]] = {name: [] for name in networks}
    for _ in range(6):
        before = {name: snapshot(network) for name, network in networks.items()}
        priorities = model.buffer.priorities
        model.train(1, 8)
        for name, network in networks.items():
            moved[name].append(not all(th.equal(x, y) for x, y in zip(before[name], network.parameters(), strict=True)))
        # Priorities do not wait for the policy
        assert (model.buffer.priorities != priorities).any() == ("demo_fraction" in buffer)
    delayed = [False, False, True] * 2
    assert moved == {"critic": [True] * 6, **dict.fromkeys(list(networks)[1:], delayed)}


# --- Averaged actor ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy_delay", [1, 3])
def test_the_mean_of_the_first_actors_is_a_plain_one(make_model: MakeModel, policy_delay: int) -> None:
    kwargs = {"average_actor": 0.25}
    model = make_model(pretrain_steps=0, learning_rate=1e-2, policy_delay=policy_delay, policy_kwargs=kwargs).learn(0)
    actors: list[th.Tensor] = []
    for number in range(1, 7 * policy_delay):
        model.train(1, 8)
        if number % policy_delay == 0:
            actors.append(next(model.actor.parameters()).detach().clone())
        if 0 < len(actors) <= 4:
            expected = th.stack(actors).mean(dim=0)
    # From the fourth on a quarter of the way each time. The actor before the first update never counts
    for actor in actors[4:]:
        expected = expected.lerp(actor, 0.25)
    assert len(actors) == 6
    assert th.allclose(next(model.policy.mean_actor.parameters()), expected, atol=1e-6)


def test_after_500_updates_nothing_is_left_of_the_first_actor(make_model: MakeModel) -> None:
    # With the rate 0.002 alone it kept the weight 0.998^500 = 0.37
    model = make_model()
    assert model.policy.average_actor == 0.002
    first, mean = (next(actor.parameters()) for actor in (model.actor, model.policy.mean_actor))
    with th.no_grad():
        first.fill_(1.0)
        mean.fill_(1000.0)
        for k in range(1, 500):
            first.fill_(float(k))
            model.policy.update_mean_actor(model.policy.mean_actor_rate(k))
    # (1 + ... + 499) / 499
    assert float(mean.detach().mean()) == pytest.approx(250.0, rel=1e-4)


def test_the_mean_acts_and_goes_on_when_a_model_is_loaded(make_model: MakeModel, tmp_path: Any) -> None:
    options: dict[str, Any] = dict(policy_delay=1, learning_rate=1e-2, learning_starts=10, pretrain_steps=0)
    model = make_model(policy_kwargs={"average_actor": 0.01}, **options).learn(20)
    model.save(tmp_path / "model")
    env = model.get_env()
    loaded = TD3fD.load(tmp_path / "model", env=env, demonstrations=model.demonstrations, device="cpu")
    states = np.linspace(-1.0, 1.0, 20, dtype=np.float32)[:, None]
    for deterministic in (True, False):
        found, expected = (one.predict(states, deterministic=deterministic)[0] for one in (loaded, model))
        np.testing.assert_array_equal(found, expected)
    assert not np.allclose(loaded.predict(states, deterministic=True)[0], loaded.predict(states)[0])
    # The mean of the 10 actors counts 10 / 11 in that of 11
    mean, weight = (next(actor.parameters()) for actor in (loaded.policy.mean_actor, loaded.actor))
    before = mean.detach().clone()
    loaded.learn(0)
    loaded.train(1, 8)
    assert loaded._n_updates == 11
    assert th.allclose(mean, before + (weight - before) / 11, atol=1e-6)
