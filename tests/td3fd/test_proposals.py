"""A frozen clone that proposes actions beside the actor's."""

import itertools
import math
import re
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from point_to_goal import GOAL
from small_models import own_rows
from stable_baselines3.common.env_util import make_vec_env
from two_transitions import LINEAR, seed_that_draws_both_rows, set_networks, set_weights, two_transitions, update

from sb3_pgfd import DDPGfD, Demonstrations, TD3fD
from sb3_pgfd.common.losses import smallest_shares
from sb3_pgfd.demonstrations import DemonstrationsError, Episode
from sb3_pgfd.utils.warning import OptionWarning

MakeModel = Callable[..., TD3fD]
SWITCHED_OFF: dict[str, Any] = dict(target_policy_noise=0.0, policy_delay=1, bc_coef=0.0, normalize_actor_loss=False)


@pytest.fixture
def make_linear(make_model: MakeModel, attach: Callable[[TD3fD], TD3fD]) -> MakeModel:
    """
    A model on the two transitions, see ``two_transitions.py``, whose clone does 0.5 and is trained.

    ``slope`` is that of Q' along the action
    """

    def _make(slope: float = 1.0, **options: Any) -> TD3fD:
        net = {"net_arch": [], "layer_norm": False, "n_critics": 1, "average_actor": None, **options.pop("policy_kwargs", {})}
        settings = {**LINEAR, **SWITCHED_OFF, "demonstrations": two_transitions(False), "pretrain_steps": 1, "n_steps": 1}
        settings |= {"proposals": True, "replay_buffer_kwargs": {"demo_fraction": 1.0}, **options}
        model = attach(make_model(policy_kwargs=net, **settings).learn(0))
        set_networks(model)
        for critic in model.critic_target.q_networks:
            set_weights(critic, [1.0, slope])
        if model.proposals:
            set_weights(model.policy.clone.mu, [0.0], math.atanh(0.5))
            # Until then the clone acts alone
            model.policy.critics_are_trained.fill_(True)
        return model

    return _make


# --- Targets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "slope", "expected"),
    [
        # Q'(s', 0.5) = s' + 0.5 and Q'(s', 0) = s' with s' = -0.5 and 0.25
        (dict(proposals=True), 1.0, (0.0, 0.75)),
        (dict(proposals="hard"), -1.0, (-0.5, 0.25)),
        (dict(proposals=False), 1.0, (-0.5, 0.25)),
        # 1 / (1 + exp(-0.5 / 0.25)) = 0.8808 of 0.5
        (dict(proposals="soft", policy_kwargs={"proposal_temperature": 0.25}), 1.0, (-0.05960, 0.69040)),
        # By default the temperature is 0.1: 1 / (1 + exp(5)) = 0.00669 of -0.5
        (dict(proposals="soft"), -1.0, (-0.50335, 0.24665)),
    ],
)
def test_targets_take_the_better_proposal(
    make_linear: MakeModel, recorder: Any, options: dict[str, Any], slope: float, expected: tuple[float, float]
) -> None:
    model = make_linear(slope, **options)
    seed_that_draws_both_rows(model)
    # Q is 3.5 and -3, rewards are 1 and 2, gamma is 0.5
    errors = (3.5 - 1.0 - 0.5 * expected[0]) ** 2 + (-3.0 - 2.0 - 0.5 * expected[1]) ** 2
    assert update(model, recorder)["train/critic_loss"] == pytest.approx(errors / 2, rel=1e-4)


def test_a_clone_that_is_not_trained_counts_nothing(make_linear: MakeModel, recorder: Any) -> None:
    model = make_linear()
    model.policy.clone_is_trained.fill_(False)
    seed_that_draws_both_rows(model)
    assert update(model, recorder)["train/critic_loss"] == pytest.approx((2.75**2 + 5.125**2) / 2)
    assert model.predict(np.zeros((1, 1), dtype=np.float32), deterministic=True)[0].tolist() == [[0.0]]


# --- Ensembles --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n_critics", "n_picked"), [(1, 1), (2, 2), (3, 2), (5, 2), (6, 4)])
def test_shares_are_those_of_all_subsets(n_critics: int, n_picked: int) -> None:
    subsets = list(itertools.combinations(range(n_critics), n_picked))
    expected = [sum(min(one) == rank for one in subsets) / len(subsets) for rank in range(n_critics)]
    assert smallest_shares(n_critics, n_picked) == pytest.approx(expected)


def test_the_target_is_the_smallest_of_a_random_subset(make_linear: MakeModel) -> None:
    model = make_linear(proposals=False, policy_kwargs={"n_critics": 4, "n_target_critics": 2})
    for number, critic in enumerate(model.critic_target.q_networks):
        set_weights(critic, [0.0, 0.0], float(number))
    th.manual_seed(0)
    found = th.cat([model.policy.target_q(th.zeros(7, 1), th.zeros(7, 1)) for _ in range(1200)], dim=1)
    # One subset for all rows of a call
    assert (found == found[0]).all()
    # 3, 2 and 1 of the 6 pairs have the smallest number 0, 1 and 2
    shares = [float((found[0] == number).float().mean()) for number in range(4)]
    assert shares == pytest.approx([3 / 6, 2 / 6, 1 / 6, 0.0], abs=0.05)


def test_the_actor_follows_the_mean_of_an_ensemble(make_linear: MakeModel, recorder: Any) -> None:
    model = make_linear(proposals=False, policy_kwargs={"n_critics": 3, "n_target_critics": 1})
    for slope, critic in zip((3.0, 5.0, -2.0), model.critic.q_networks, strict=True):
        set_weights(critic, [0.0, slope], slope)
    row = update(model, recorder)
    # Q(s, 0) is 3, 5 and -2
    assert row["train/actor_loss"] == pytest.approx(-2.0)
    bias = list(model.actor.mu.parameters())[-1]
    assert bias.grad is not None
    assert float(bias.grad) == pytest.approx(-2.0)


def test_the_q_filter_asks_the_mean_too(make_linear: MakeModel, recorder: Any) -> None:
    kwargs = {"n_critics": 2, "n_target_critics": 2}
    model = make_linear(proposals=False, bc_coef=1.0, q_filter=True, policy_kwargs=kwargs)
    # The first critic prefers the demonstrated 0.5 to pi = 0, their mean prefers the demonstrated -1
    for slope, critic in zip((1.0, -3.0), model.critic.q_networks, strict=True):
        set_weights(critic, [0.0, slope])
    seed_that_draws_both_rows(model)
    assert update(model, recorder)["train/bc_loss"] == pytest.approx(1.0 / 2)


def test_four_updates_in_one_draw_are_two_of_the_actor(make_model: MakeModel) -> None:
    kwargs = {"n_critics": 5, "n_target_critics": 2}
    model = make_model(policy_delay=2, gradient_steps=4, proposals=True, policy_kwargs=kwargs, learning_starts=2).learn(2)
    steps = [int(next(iter(one.optimizer.state.values()))["step"]) for one in (model.critic, model.actor)]
    draws: list[int] = []
    sample = model.buffer.sample_batches
    model.buffer.sample_batches = lambda n, *rest: draws.append(n) or sample(n, *rest)  # type: ignore[method-assign, func-returns-value]
    model.train(4, 8)
    found = [int(next(iter(one.optimizer.state.values()))["step"]) for one in (model.critic, model.actor)]
    assert (found[0] - steps[0], draws) == (4, [4])
    assert found[1] - steps[1] == 2


# --- Acting -----------------------------------------------------------------------------------------------------------


def test_predict_takes_the_better_proposal(make_linear: MakeModel) -> None:
    model = make_linear()
    # Q'(s, a) = s + a + ... prefers 0.5 to tanh(s) from s = atanh(0.5) = 0.549 downwards
    set_weights(model.actor.mu, [1.0])
    states = np.array([[-0.9], [0.5], [0.6], [0.9]], dtype=np.float32)
    found = model.predict(states, deterministic=True)[0][:, 0] / 2.0
    assert found == pytest.approx([0.5, 0.5, math.tanh(0.6), math.tanh(0.9)], rel=1e-5)
    # The last actor alone explores
    assert model.predict(states)[0][:, 0] / 2.0 == pytest.approx(np.tanh(states[:, 0]), rel=1e-5)


def test_an_ensemble_acts_by_the_mean_over_its_subsets(make_linear: MakeModel) -> None:
    model = make_linear(policy_kwargs={"n_critics": 3, "n_target_critics": 2})
    # At 0 all are 0; at 0.5 they are -1, 0.5 and 4. The smallest of two is -1 twice and 0.5 once: -0.5 in the mean
    for slope, critic in zip((-2.0, 1.0, 8.0), model.critic_target.q_networks, strict=True):
        set_weights(critic, [0.0, slope])
    state = np.zeros((1, 1), dtype=np.float32)
    assert model.predict(state, deterministic=True)[0].tolist() == [[0.0]]
    # Now -0.1, 0.5 and 4: 0.1 in the mean. The smallest of all would say no
    set_weights(model.critic_target.q_networks[0], [0.0, -0.2])
    assert model.predict(state, deterministic=True)[0][0, 0] == pytest.approx(1.0)


class Stepwise:
    """Noise of which each step has another."""

    def __init__(self, *values: float):
        self.values = itertools.cycle(values)

    def __call__(self) -> np.ndarray:
        return np.array([next(self.values)])

    def reset(self) -> None:
        pass


def test_exploration_takes_the_better_of_the_noisy_action_and_the_clones(make_linear: MakeModel, recorder: Any) -> None:
    model = make_linear(learning_starts=1000)
    model._last_obs = np.zeros((1, 1), dtype=np.float32)
    noise: Any = Stepwise(0.25, 0.75, -0.5, 3.0)
    taken = [model._sample_action(0, noise) for _ in range(4)]
    # pi is 0, the clone 0.5: scaled, then in the environment's units
    assert [float(scaled[0, 0]) for _, scaled in taken] == pytest.approx([0.5, 0.75, 0.5, 1.0])
    assert [float(action[0, 0]) for action, _ in taken] == pytest.approx([1.0, 1.5, 1.0, 2.0])
    model.dump_logs()
    assert recorder.rows[-1]["rollout/clone_share"] == 0.5
    model.dump_logs()
    assert "rollout/clone_share" not in recorder.rows[-1]


def test_a_soft_choice_draws_the_clone_with_its_probability(make_linear: MakeModel) -> None:
    model = make_linear(proposals="soft", policy_kwargs={"proposal_temperature": 0.25})
    model._last_obs = np.zeros((1, 1), dtype=np.float32)
    th.manual_seed(0)
    taken = [float(model._sample_action(0)[1][0, 0]) for _ in range(800)]
    # 1 / (1 + exp(-2))
    assert np.mean(np.isclose(taken, 0.5)) == pytest.approx(0.8808, abs=0.035)
    assert np.mean(np.isclose(taken, 0.0)) == pytest.approx(0.1192, abs=0.035)
    # An evaluation does not draw
    assert model.predict(np.zeros((50, 1), dtype=np.float32), deterministic=True)[0] == pytest.approx(1.0)


def test_each_environment_gets_its_own_choice(make_linear: MakeModel) -> None:
    model = make_linear(env=make_vec_env("PointToGoal-v0", 3))
    set_weights(model.actor.mu, [1.0])
    model._last_obs = np.array([[0.9], [0.1], [-0.3]], dtype=np.float32)
    _, scaled = model._sample_action(0, n_envs=3)
    assert scaled[:, 0] == pytest.approx([math.tanh(0.9), 0.5, 0.5], rel=1e-5)
    assert model._rollout_metrics.flush() == {"clone_share": pytest.approx(2 / 3)}


# --- Training of the clone --------------------------------------------------------------------------------------------


def noisy_lines(n_episodes: int) -> Demonstrations:
    """Demonstrations of a = s / 2 with large noise, so that what is learned from few rows by heart is wrong elsewhere."""
    rng = np.random.default_rng(0)
    episodes = []
    for _ in range(n_episodes):
        states = rng.uniform(-1, 1, (7, 1)).astype(np.float32)
        noise = rng.normal(size=(6, 1)) * 0.3
        episodes.append(Episode(states, np.clip(states[:-1] + 2.0 * noise, -2, 2).astype(np.float32), np.ones(6), True))
    return Demonstrations.from_episodes(episodes)


@pytest.mark.parametrize(("n_episodes", "n_held_out"), [(4, 0), (5, 1), (14, 2)])
def test_every_fifth_demonstration_is_held_out(make_model: MakeModel, n_episodes: int, n_held_out: int) -> None:
    found: list[Any] = []

    class Watched(TD3fD):
        def _pretrain_update(self) -> None:
            found.append(self._clone_training)
            super()._pretrain_update()

    make_model(algorithm=Watched, demonstrations=noisy_lines(n_episodes), proposals=True, pretrain_steps=2).learn(0)
    training = found[0]
    assert sorted({*training.rows, *training.held_out_rows}) == list(range(6 * n_episodes))
    assert len(training.held_out_rows) == 6 * n_held_out
    # Whole episodes
    assert len({row // 6 for row in training.held_out_rows}) == n_held_out


def test_the_best_clone_on_held_out_demonstrations_is_kept(make_model: MakeModel, recorder: Any, attach: Any) -> None:
    kwargs = {"net_arch": [64, 64]}
    options: dict[str, Any] = dict(proposals=True, pretrain_steps=1500, learning_rate=1e-2, batch_size=32, bc_coef=0.0)
    demonstrations = noisy_lines(5)
    found: list[Any] = []

    class Watched(TD3fD):
        def _pretrain_update(self) -> None:
            found[:] = [self._clone_training]
            super()._pretrain_update()

    model = make_model(algorithm=Watched, demonstrations=demonstrations, policy_kwargs=kwargs, **options)
    attach(model).learn(0)
    (training,) = found
    error, n_updates, _ = training.best
    losses = recorder.column("pretrain/clone_held_out_loss")
    assert len(losses) == 50
    assert error == pytest.approx(min(losses))
    assert n_updates == 30 * (int(np.argmin(losses)) + 1) < 1500
    rows = training.held_out_rows
    with th.no_grad():
        actions = model.policy.clone(th.as_tensor(demonstrations.observations[rows]))[:, 0].numpy()
    assert np.mean((actions - demonstrations.actions[rows, 0] / 2.0) ** 2) == pytest.approx(error, rel=1e-4)
    # It learned by heart what it saw
    assert recorder.column("pretrain/clone_loss")[-1] < 0.5 * error


def test_weight_decay_and_dropout_are_the_clones_own(make_model: MakeModel) -> None:
    kwargs = {"clone_dropout": 0.5, "clone_weight_decay": 0.25}
    policy = make_model(proposals=True, policy_kwargs=kwargs).learn(0).policy
    assert policy.clone.optimizer.param_groups[0]["weight_decay"] == 0.25
    assert [layer.p for layer in policy.clone.modules() if isinstance(layer, th.nn.Dropout)] == [0.5]
    assert not any(isinstance(layer, th.nn.Dropout) for layer in policy.actor.modules())
    assert not policy.clone.training


def test_a_pretraining_that_goes_on_in_a_loaded_model_ends_with_a_rate_of_0(make_model: MakeModel, tmp_path: Any) -> None:
    class Interrupted(TD3fD):
        is_interrupted = False

        def _pretrain_update(self) -> None:
            if self._n_updates == 10 and not self.is_interrupted:
                self.is_interrupted = True
                raise KeyboardInterrupt
            super()._pretrain_update()

    options: dict[str, Any] = dict(proposals=True, pretrain_steps=50, learning_starts=1000)
    model = make_model(algorithm=Interrupted, **options)
    with pytest.raises(KeyboardInterrupt):
        model.learn(1)
    model.save(tmp_path / "model")
    # In the same process it goes on with the same clone
    again = model.learn(1)
    # A file has the clone's weights, not what its training remembers
    loaded = TD3fD.load(tmp_path / "model", make_vec_env("PointToGoal-v0"), demonstrations=model.demonstrations).learn(1)
    for one, n_left in ((again, 50), (loaded, 40)):
        assert one._n_updates == 50
        rate = one.policy.clone.optimizer.param_groups[0]["lr"]
        assert rate == pytest.approx(one.lr_schedule(1.0) / n_left)


def test_learning_leaves_the_clone_as_it_is(make_model: MakeModel) -> None:
    model = make_model(proposals=True, learning_rate=1e-2, pretrain_steps=20, learning_starts=2).learn(0)
    before = {name: value.clone() for name, value in model.policy.clone.state_dict().items()}
    model.learn(20)
    assert model._n_updates > 20
    assert all(th.equal(value, before[name]) for name, value in model.policy.clone.state_dict().items())


@pytest.mark.parametrize("proposals", ["hard", "soft"])
def test_without_cloning_pretraining_trains_the_clone_alone(make_model: MakeModel, proposals: str) -> None:
    model = make_model(proposals=proposals, bc_coef=0.0, pretrain_steps=50, learning_starts=1000, action_noise=0.5)
    before = {name: value.clone() for name, value in model.policy.state_dict().items()}
    model.learn(12)
    moved = {name for name, value in model.policy.state_dict().items() if not th.equal(value, before[name])}
    assert model._n_updates == 0
    assert {name.split(".")[0] for name in moved} == {"clone", "clone_is_trained"}
    # Until the first update the clone acts, without noise
    assert model._rollout_metrics.flush() == {"clone_share": 1.0}
    with th.no_grad():
        expected = model.policy.clone(th.as_tensor(own_rows(model, "observations/")))
    np.testing.assert_allclose(own_rows(model, "actions"), expected, rtol=1e-5)
    # In evaluations too; the bounds of actions are -2 and 2
    states = own_rows(model, "observations/")
    np.testing.assert_allclose(model.predict(states, deterministic=True)[0], 2.0 * expected, rtol=1e-5)
    model.learning_starts = 0
    assert model.learn(4).policy.critics_are_trained


# --- Models -----------------------------------------------------------------------------------------------------------


def test_all_other_networks_are_those_without_a_clone(make_model: MakeModel) -> None:
    plain, proposing = (make_model(proposals=proposals) for proposals in (False, "soft"))
    found = proposing.policy.state_dict()
    assert all(th.equal(value, found[name]) for name, value in plain.policy.state_dict().items())
    added = {name.split(".")[0] for name in found.keys() - plain.policy.state_dict().keys()}
    assert added == {"clone", "clone_is_trained", "critics_are_trained"}


@pytest.mark.parametrize("view", ["box", "dict"])
def test_the_clone_is_saved_with_the_model(
    make_model: MakeModel, record: Callable[..., Demonstrations], tmp_path: Any, view: str
) -> None:
    env, policy = gym.make("PointToGoal-v0", view=view), "MlpPolicy" if view == "box" else "MultiInputPolicy"
    kwargs = {"n_critics": 3, "n_target_critics": 2, "clone_dropout": 0.1}
    options: dict[str, Any] = dict(proposals="soft", pretrain_steps=30, policy_kwargs=kwargs, learning_rate=1e-2)
    model = make_model(policy, env, demonstrations=record(view, 5), **options).learn(40)
    model.save(tmp_path / "model")
    loaded = TD3fD.load(tmp_path / "model", env=env, demonstrations=record(view, 5), device="cpu")
    states: Any = np.linspace(-1.0, 1.0, 40, dtype=np.float32)[:, None]
    if view == "dict":
        states = {"position": states, "goal": np.full_like(states, GOAL)}
    expected = model.predict(states, deterministic=True)[0]
    assert loaded.proposals == loaded.policy.proposals == "soft"
    assert bool(loaded.policy.clone_is_trained)
    assert len(loaded.policy.clone.optimizer.state) == len(list(loaded.policy.clone.parameters()))
    np.testing.assert_array_equal(loaded.predict(states, deterministic=True)[0], expected)
    assert loaded.learn(15)._n_updates > model._n_updates
    with pytest.raises(ValueError, match=r"^TD3fD\.load: found proposals=False, expected 'soft' as saved"):
        TD3fD.load(tmp_path / "model", proposals=False)
    assert TD3fD.load(tmp_path / "model", proposals="hard").policy.proposals == "hard"
    # A policy alone, too
    model.policy.save(tmp_path / "policy")
    kind = type(model.policy)
    np.testing.assert_array_equal(kind.load(tmp_path / "policy").predict(states, deterministic=True)[0], expected)


def test_an_exported_policy_chooses_likewise(make_linear: MakeModel, tmp_path: Any) -> None:
    model = make_linear()
    set_weights(model.actor.mu, [1.0])
    states = np.linspace(-1.0, 1.0, 9, dtype=np.float32)[:, None]
    script = th.jit.load(str(model.export(tmp_path / "policy.pt")))
    np.testing.assert_allclose(script(th.as_tensor(states)).numpy(), model.predict(states, deterministic=True)[0], rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(proposals="loud"), "proposals: found 'loud', expected \"hard\""),
        (
            dict(policy_kwargs={"n_target_critics": 3}),
            "n_target_critics: found 3, expected a whole number from 1 to n_critics=2",
        ),
        (dict(policy_kwargs={"proposal_temperature": 0.0}), "proposal_temperature: found 0.0, expected a number > 0"),
        (dict(policy_kwargs={"clone_dropout": 1.0}), "clone_dropout: found 1.0, expected a number >= 0 and < 1"),
        (dict(policy_kwargs={"clone_weight_decay": -1.0}), "clone_weight_decay: found -1.0, expected a number >= 0"),
    ],
)
def test_options_out_of_range_are_refused(make_model: MakeModel, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        make_model(**options)


def test_proposals_belong_to_the_algorithm(make_model: MakeModel) -> None:
    with pytest.raises(TypeError, match="policy_kwargs: found proposals, expected them as arguments"):
        make_model(policy_kwargs={"proposals": True})
    with pytest.raises(TypeError, match="found the unknown argument 'proposals'"):
        DDPGfD("MlpPolicy", "PointToGoal-v0", proposals=True)  # type: ignore[call-arg]


def test_proposals_need_demonstrations() -> None:
    model = TD3fD("MlpPolicy", "PointToGoal-v0", proposals=True, device="cpu")
    with pytest.raises(DemonstrationsError, match=r"^TD3fD: found no demonstrations, but proposals=True, which would do"):
        model.learn(4)


def test_options_of_a_clone_without_one_are_named(demonstrations: Demonstrations) -> None:
    options: dict[str, Any] = dict(pretrain_steps=1, proposals=False, policy_kwargs={"net_arch": [8], "clone_dropout": 0.5})
    with pytest.warns(OptionWarning, match=r"clone_dropout=0\.5 has no effect: it needs proposals=True"):
        TD3fD("MlpPolicy", "PointToGoal-v0", demonstrations, device="cpu", **options).learn(0)


def test_without_pretraining_no_clone_proposes(make_model: MakeModel) -> None:
    # By default silently, as it is the class's wish alone
    assert not make_model(proposals=True, pretrain_steps=0).learn(10).policy.clone_is_trained
    model = TD3fD("MlpPolicy", "PointToGoal-v0", two_transitions(False), pretrain_steps=0, proposals=True, device="cpu")
    with pytest.warns(OptionWarning, match="proposals=True has no effect: it needs pretrain_steps > 0"):
        model.learn(0)


def test_the_clone_learns_at_the_rate_of_the_actor(make_model: MakeModel) -> None:
    model = make_model(proposals=True, learning_rate=1e-3, actor_learning_rate=1e-5, pretrain_steps=1).learn(0)
    assert {group["lr"] for group in model.policy.clone.optimizer.param_groups} == {1e-5}
