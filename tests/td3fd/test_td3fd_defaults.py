"""What TD3fD does unless told otherwise, and how it is told otherwise."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from small_models import own_rows
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.noise import NormalActionNoise, OrnsteinUhlenbeckActionNoise, VectorizedActionNoise

from sb3_pgfd import DDPGfD, Demonstrations, TD3fD
from sb3_pgfd.ddpgfd import MlpPolicy as DDPGfDMlpPolicy
from sb3_pgfd.ddpgfd.policies import CnnPolicy as DDPGfDCnnPolicy
from sb3_pgfd.td3fd import CnnPolicy, MlpPolicy, MultiInputPolicy

MakeModel = Callable[..., TD3fD]
# The setting of the sparse suite, written down by hand
BEST: dict[str, Any] = dict(batch_size=128, tau=0.01, gradient_steps=2, policy_delay=2, target_policy_noise=0.2)
BEST |= dict(target_noise_clip=0.5, pretrain_steps=20_000, critic_warmup_steps=2000, n_steps=10, n_step_coef=1.0)
BEST |= dict(
    l2_coef=1e-5,
    bc_coef=1.5,
    q_filter=True,
    proposals=True,
    normalize_actor_loss=True,
    learning_starts=100,
    train_freq=(1, "step"),
)
BEST |= dict(actor_learning_rate=None, buffer_size=1_000_000, gamma=0.99, q_range=None, importance_exponent=1.0)


def test_the_defaults_are_the_best_setting_of_the_sparse_suite(demonstrations: Demonstrations) -> None:
    model = TD3fD("MlpPolicy", "PointToGoal-v0", demonstrations, device="cpu")
    assert {name: getattr(model, name) for name in BEST} == {**BEST, "train_freq": model.train_freq}
    assert (model.train_freq.frequency, model.train_freq.unit.value) == (1, "step")  # type: ignore[union-attr]  # converted
    assert [model.lr_schedule(remaining) for remaining in (1.0, 0.5, 0.0)] == pytest.approx([1e-3, 5e-4, 0.0])
    assert isinstance(model.action_noise, NormalActionNoise)
    assert (model.action_noise._mu.tolist(), model.action_noise._sigma.tolist()) == ([0.0], [0.1])
    buffer = model.buffer
    assert (buffer.demo_fraction, buffer.keep_successes, buffer.denoise_successes) == (0.5, True, True)
    assert (buffer.her_ratio, buffer.her_skip_reached, buffer.her_random_share) == (0.0, True, 0.5)
    policy = model.policy
    assert (policy.layer_norm, policy.average_actor, policy.actor_dropout) == (True, 0.002, 0.0)
    assert [layer.out_features for layer in policy.actor.mu.children() if isinstance(layer, th.nn.Linear)] == [128, 128, 1]
    for network in policy.critic.q_networks:
        assert [layer.out_features for layer in network.children() if isinstance(layer, th.nn.Linear)] == [128, 128, 1]
    assert (len(policy.critic.q_networks), policy.n_target_critics) == (5, 2)


@pytest.mark.parametrize(
    ("alias", "policy_class"), [("MlpPolicy", MlpPolicy), ("CnnPolicy", CnnPolicy), ("MultiInputPolicy", MultiInputPolicy)]
)
def test_every_policy_has_the_defaults_and_its_own_features_extractor(
    record: Callable[..., Demonstrations], alias: str, policy_class: Any
) -> None:
    view = {"MlpPolicy": "box", "CnnPolicy": "image", "MultiInputPolicy": "dict"}[alias]
    env = make_vec_env("PointToGoal-v0", env_kwargs={"view": view})
    plain = DDPGfD(alias, env, record(view, 1), buffer_size=10, device="cpu").policy
    for name in (alias, policy_class):
        policy = TD3fD(name, env, record(view, 1), buffer_size=10, device="cpu").policy
        assert type(policy) is policy_class
        assert (len(policy.critic.q_networks), policy.layer_norm, policy.average_actor) == (5, True, 0.002)
        assert policy.features_extractor_class is plain.features_extractor_class


def test_one_critic_needs_no_other_word(demonstrations: Demonstrations) -> None:
    policy = TD3fD("MlpPolicy", "PointToGoal-v0", demonstrations, policy_kwargs={"n_critics": 1}, device="cpu").policy
    assert (len(policy.critic.q_networks), policy.n_target_critics) == (1, None)


def test_policies_of_ddpgfd_are_refused() -> None:
    # They would bring other defaults
    for policy in (DDPGfDMlpPolicy, DDPGfDCnnPolicy):
        with pytest.raises(ValueError, match=r"policy: found .*ddpgfd\.policies.*, expected MlpPolicy, CnnPolicy, Multi"):
            TD3fD(policy, "PointToGoal-v0")  # type: ignore[arg-type]  # that is the point


def test_options_of_the_buffer_and_the_networks_lie_on_top_of_the_defaults(make_model: MakeModel) -> None:
    buffer, net = {"her_ratio": 0.0, "demo_fraction": 0.25}, {"n_critics": 3, "layer_norm": False}
    before = (dict(buffer), dict(net))
    model = make_model(replay_buffer_kwargs=buffer, policy_kwargs=net)
    assert (model.buffer.demo_fraction, model.buffer.keep_successes) == (0.25, True)
    assert (len(model.policy.critic.q_networks), model.policy.layer_norm, model.policy.average_actor) == (3, False, 0.002)
    assert (buffer, net) == before


def test_options_of_the_buffer_lie_on_top_of_the_defaults_on_loading_too(make_model: MakeModel, tmp_path: Path) -> None:
    model = make_model(replay_buffer_kwargs={"demo_fraction": 0.25}).learn(20)
    model.save(tmp_path / "model")
    model.save_replay_buffer(tmp_path / "buffer")
    options: dict[str, Any] = dict(env=model.get_env(), demonstrations=model.demonstrations, device="cpu")
    for given, share, alpha in ((None, 0.25, 0.3), ({}, 0.5, 0.3), ({"demo_fraction": None}, None, 0.3)):
        loaded = TD3fD.load(tmp_path / "model", **options, **({} if given is None else {"replay_buffer_kwargs": given}))
        for from_file in (False, True):
            if from_file:
                loaded.load_replay_buffer(tmp_path / "buffer")
            buffer = loaded.buffer
            assert (buffer.demo_fraction, buffer.keep_successes, buffer.priority_exponent) == (share, True, alpha)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"policy_delay": 0}, "policy_delay: found 0, expected a whole number >= 1"),
        ({"critic_warmup_steps": 1.5}, "critic_warmup_steps: found 1.5, expected a whole number >= 0"),
        ({"target_policy_noise": -0.1}, "target_policy_noise .*: found -0.1, expected a number >= 0"),
        ({"target_noise_clip": float("inf")}, "target_noise_clip .*: found inf, expected a number >= 0"),
        ({"normalize_actor_loss": "false"}, "normalize_actor_loss: found 'false', expected True or False"),
        # What DDPGfD checks is checked here too
        ({"q_range": (1, 0)}, r"q_range: found \(1, 0\), expected \(smallest, largest\) possible return"),
    ],
)
def test_an_option_out_of_range_is_refused(make_model: MakeModel, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_model(**options)


def test_what_only_ddpgfd_has_is_unknown(make_model: MakeModel) -> None:
    for name in ("action_gradient_coef", "importance_exponent"):
        with pytest.raises(TypeError, match=f"TD3fD: found the unknown argument '{name}'"):
            make_model(**{name: 1.0})


# --- Noise of actions -------------------------------------------------------------------------------------------------


def test_a_number_is_the_standard_deviation_of_exploration(make_model: MakeModel) -> None:
    model = make_model(action_noise=0.3, learning_starts=1000).learn(150)
    with th.no_grad():
        wanted = model.actor(th.from_numpy(own_rows(model, "observations/"))).numpy()
    added = own_rows(model, "actions") - wanted
    inside = np.abs(own_rows(model, "actions")) < 1.0
    assert float(added.std()) == pytest.approx(0.3, rel=0.2)
    assert inside.mean() > 0.9


def test_several_environments_explore_apart(make_model: MakeModel) -> None:
    model = make_model(env=make_vec_env("PointToGoal-v0", 3), action_noise=0.3).learn(30)
    assert isinstance(model.action_noise, VectorizedActionNoise)
    assert isinstance(model.action_noise.base_noise, NormalActionNoise)


@pytest.mark.parametrize("nothing", [0, 0.0, None])
def test_there_may_be_no_noise(make_model: MakeModel, nothing: Any) -> None:
    assert make_model(action_noise=nothing).action_noise is None


def test_another_kind_of_noise_is_taken_as_it_is(make_model: MakeModel) -> None:
    noise = OrnsteinUhlenbeckActionNoise(np.zeros(1), np.full(1, 0.2))
    assert make_model(action_noise=noise).action_noise is noise


def test_noise_can_be_changed_on_loading(make_model: MakeModel, tmp_path: Path) -> None:
    make_model(action_noise=0.3).save(tmp_path / "model")
    for changes, sigma in (({}, 0.3), ({"action_noise": 0.2}, 0.2)):
        noise = TD3fD.load(tmp_path / "model", device="cpu", **changes).action_noise
        assert isinstance(noise, NormalActionNoise)
        assert noise._sigma.tolist() == pytest.approx([sigma])


@pytest.mark.parametrize(("before", "after"), [(3, 1), (3, 2), (1, 3)])
def test_a_model_explores_in_another_number_of_environments(
    make_model: MakeModel, demonstrations: Demonstrations, tmp_path: Path, before: int, after: int
) -> None:
    make_model(env=make_vec_env("PointToGoal-v0", before), action_noise=0.3).learn(30).save(tmp_path / "model")
    env = make_vec_env("PointToGoal-v0", after)
    model = TD3fD.load(tmp_path / "model", env, demonstrations=demonstrations, device="cpu").learn(30)
    single = model.action_noise.base_noise if isinstance(model.action_noise, VectorizedActionNoise) else model.action_noise
    assert isinstance(single, NormalActionNoise)
    assert single._sigma.tolist() == pytest.approx([0.3])
    assert len(own_rows(model, "actions")) == 30


@pytest.mark.parametrize("wrong", [-0.1, "0.1", True, float("nan")])
def test_other_noise_is_refused(make_model: MakeModel, wrong: Any) -> None:
    with pytest.raises(
        ValueError,
        match=r"action_noise: found .*, expected an ActionNoise, a standard deviation >= 0, 'demonstrations', or None",
    ):
        make_model(action_noise=wrong)


# --- Learning ---------------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_parameters_bit_for_bit(make_model: MakeModel) -> None:
    first, second = (make_model(gradient_steps=2, pretrain_steps=10).learn(60) for _ in range(2))
    found, expected = first.policy.state_dict(), second.policy.state_dict()
    assert all(th.equal(value, expected[name]) for name, value in found.items())


@pytest.mark.parametrize("n_envs", [1, 2])
@pytest.mark.parametrize("view", ["dict", "image"])
def test_learning_works_on_images_and_keys_in_several_environments(
    make_model: MakeModel, record: Callable[..., Demonstrations], view: str, n_envs: int
) -> None:
    policy = {"dict": "MultiInputPolicy", "image": "CnnPolicy"}[view]
    env = make_vec_env("PointToGoal-v0", n_envs, env_kwargs={"view": view})
    model = make_model(policy, env, demonstrations=record(view, 1), pretrain_steps=2)
    before = {name: value.clone() for name, value in model.policy.state_dict().items()}
    model.learn(26)
    after = model.policy.state_dict()
    assert all(th.isfinite(value).all() for value in after.values())
    for network in ("actor.", "actor_target.", "critic.", "critic_target.", "mean_actor."):
        assert any(not th.equal(after[name], before[name]) for name in after if name.startswith(network))


def test_a_sparse_task_is_solved_before_the_first_step_and_after(make_model: MakeModel) -> None:
    model = make_model(pretrain_steps=150, batch_size=32, learning_rate=1e-2, critic_warmup_steps=50)
    env = make_vec_env("PointToGoal-v0", seed=100)
    for steps in (0, 100):
        returns, _ = evaluate_policy(model.learn(steps), env, 10, return_episode_rewards=True)
        assert np.mean(np.array(returns) > 0.0) >= 0.9
