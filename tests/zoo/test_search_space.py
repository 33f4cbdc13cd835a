"""What ``-optimize`` searches: every configuration is valid, and means the same when it is read back."""

import random
from typing import Any

import numpy as np
import optuna
import pytest
from stable_baselines3.common.noise import NormalActionNoise

from sb3_pgfd import A2CfD, DDPGfD
from sb3_pgfd.zoo.hyperparams_opt import CONVERTERS, SAMPLERS, decided_argument, sample_a2cfd_params

N_SAMPLES = 40
N_ACTIONS = {"ddpgfd": 1, "a2cfd": 1}
# Smallest and largest value, or all values, of the arguments themselves
RANGES: dict[str, dict[str, Any]] = {
    "ddpgfd": {
        "gamma": (0.95, 0.999),
        "learning_rate": (1e-4, 3e-3),
        "actor_learning_rate": (3e-5, 3e-3),
        "batch_size": {64, 128, 256, 512},
        "tau": (0.002, 0.05),
        "gradient_steps": {1, 2, 4},
        "policy_delay": {1, 2},
        "n_steps": set(range(1, 11)),
        "n_step_coef": (0.1, 2.0),
        "l2_coef": (1e-6, 1e-3),
        "pretrain_steps": {0, 500, 1000, 2000, 5000},
        "bc_coef": {0.0, 0.5, 1.0, 2.0, 5.0, 10.0},
        "q_filter": {False, True},
        "normalize_actor_loss": {False, True},
        "demo_fraction": (0.1, 0.75),
        "priority_exponent": (0.0, 1.0),
        "importance_exponent": (0.0, 1.0),
        "action_gradient_coef": (0.01, 10.0),
        "demo_bonus": (1e-3, 10.0),
        "n_critics": {1, 2},
        "layer_norm": {False, True},
        "average_actor": {None, 0.01, 0.002},
        "critic_warmup_steps": {0, 1000, 2000, 5000},
        "keep_successes": {False, True},
        "pretrain_clone_only": {False, True},
        "relative_priorities": {False, True},
        "net_arch": {(64, 64), (128, 128), (256, 256), (400, 300)},
    },
    "a2cfd": {
        "gamma": (0.9, 0.999),
        "gae_lambda": (0.8, 0.999),
        "learning_rate": (1e-4, 5e-3),
        "actor_learning_rate": (1e-5, 1e-3),
        "n_steps": {4, 8, 16, 32, 64, 128, 256},
        "max_grad_norm": (0.3, 5.0),
        "ent_coef": (1e-8, 0.1),
        "normalize_advantage": {False, True},
        "use_rms_prop": {False, True},
        "pretrain_steps": {0, 500, 1000, 2000, 5000},
        "pretrain_learning_rate": (1e-4, 3e-3),
        "critic_warmup_steps": {0, 1000, 2000, 5000, 10000},
        "bc_coef": (0.01, 2.0),
        "bc_decay": (0.5 ** (1 / 100), 0.5 ** (1 / 100_000)),
        "demo_batch_size": {64, 128, 256},
        "log_std_min": (-4.0, -1.0),
        "log_std_max": (-0.5, 1.0),
        "net_arch": {(128,), (64, 64), (128, 128), (256, 256), (400, 300)},
    },
}
OF_DEMONSTRATIONS = {
    "ddpgfd": {
        "pretrain_steps",
        "bc_coef",
        "q_filter",
        "normalize_actor_loss",
        "pretrain_clone_only",
        "critic_warmup_steps",
        "demo_fraction",
        "demo_bonus",
        "relative_priorities",
    },
    "a2cfd": {"pretrain_steps", "pretrain_learning_rate", "critic_warmup_steps", "bc_coef", "bc_decay", "demo_batch_size"},
}


def sample(algo: str, seed: int, **told: Any) -> tuple[dict[str, Any], optuna.Trial]:
    """:return: Arguments of the constructor, and the trial that they were sampled in"""
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed)).ask()
    return SAMPLERS[algo](trial, N_ACTIONS[algo], 1, told), trial


def flat(arguments: dict[str, Any]) -> dict[str, Any]:
    """Arguments of the constructor with those of the policy among them."""
    policy_kwargs = dict(arguments.get("policy_kwargs", {}))
    if "net_arch" in policy_kwargs:
        policy_kwargs["net_arch"] = tuple(policy_kwargs["net_arch"])
    return {name: value for name, value in {**arguments, **policy_kwargs}.items() if name != "policy_kwargs"}


@pytest.mark.parametrize("algo", ["ddpgfd", "a2cfd"])
def test_every_value_is_in_its_range_and_every_choice_is_made(algo: str) -> None:
    seen: dict[str, set[Any]] = {name: set() for name in RANGES[algo]}
    for seed in range(300):
        for name, value in flat(sample(algo, seed)[0]).items():
            if name == "action_noise":
                assert isinstance(value, NormalActionNoise)
                assert (value._mu == 0.0).all()
                assert ((value._sigma >= 0.0) & (value._sigma <= 0.5)).all()
            elif (name, value) != ("demo_fraction", None):
                seen[name].add(value)
    for name, allowed in RANGES[algo].items():
        if isinstance(allowed, set):
            assert seen[name] == allowed, name
        else:
            low, high = allowed
            tolerance = 1e-9 * abs(high)
            assert low - tolerance <= min(seen[name]), name
            assert max(seen[name]) <= high + tolerance, name
            assert len(seen[name]) > 20, name


@pytest.mark.parametrize("with_demonstrations", [True, False])
@pytest.mark.parametrize(("algo", "model_class"), [("ddpgfd", DDPGfD), ("a2cfd", A2CfD)])
def test_every_configuration_builds_a_model_that_learns(algo: str, model_class: type, with_demonstrations: bool) -> None:
    small = {"buffer_size": 1000, "learning_starts": 2} if algo == "ddpgfd" else {}
    for seed in range(N_SAMPLES):
        sampled, _ = sample(algo, seed, has_demonstrations=with_demonstrations)
        # Time is saved where validity does not depend on it
        sampled["policy_kwargs"]["net_arch"] = [8]
        for name in {"pretrain_steps", "n_steps"} & set(sampled):
            sampled[name] = min(sampled[name], 4)
        source = "Pendulum-v1" if with_demonstrations else None
        model = model_class("MlpPolicy", "Pendulum-v1", demonstrations=source, device="cpu", **small, **sampled)
        model.learn(8)
        assert model._n_updates >= 2
        assert all(bool(parameter.isfinite().all()) for parameter in model.policy.parameters())


@pytest.mark.parametrize("algo", ["ddpgfd", "a2cfd"])
def test_what_is_sampled_without_being_told_is_valid_without_demonstrations(algo: str) -> None:
    # The Zoo's own manager tells the sampler nothing
    model_class = {"ddpgfd": DDPGfD, "a2cfd": A2CfD}[algo]
    for seed in range(8):
        sampled, _ = sample(algo, seed)
        sampled["policy_kwargs"]["net_arch"] = [8]
        model_class("MlpPolicy", "Pendulum-v1", device="cpu", **sampled).learn(8)


@pytest.mark.parametrize("algo", ["ddpgfd", "a2cfd"])
@pytest.mark.parametrize("with_demonstrations", [True, False])
def test_the_converter_makes_of_a_trial_what_the_sampler_did(algo: str, with_demonstrations: bool) -> None:
    for seed in range(N_SAMPLES):
        sampled, trial = sample(algo, seed, has_demonstrations=with_demonstrations)
        converted = CONVERTERS[algo](trial.params)
        noise = sampled.pop("action_noise", None)
        if noise is not None:
            assert converted.pop("noise_type") == "normal"
            assert np.array_equal(noise._sigma, converted.pop("noise_std") * np.ones(1))
        assert converted == sampled
        # Twice the same, and the stored parameters are left alone
        assert CONVERTERS[algo](trial.params).keys() >= converted.keys()


@pytest.mark.parametrize("algo", ["ddpgfd", "a2cfd"])
def test_nothing_of_demonstrations_is_searched_without_them(algo: str) -> None:
    names = {name for seed in range(N_SAMPLES) for name in flat(sample(algo, seed, has_demonstrations=False)[0])}
    assert names & OF_DEMONSTRATIONS[algo] == set()
    assert names | OF_DEMONSTRATIONS[algo] | {"action_noise"} == set(RANGES[algo]) | {"action_noise"}


def test_only_what_has_an_effect_is_sampled() -> None:
    for seed in range(N_SAMPLES):
        sampled, _ = sample("ddpgfd", seed)
        assert ("n_step_coef" in sampled) == (sampled["n_steps"] > 1)
        assert ("q_filter" in sampled) == ("normalize_actor_loss" in sampled) == (sampled["bc_coef"] > 0.0)
        # Also if the entry has a share of its own: None puts an end to it
        by_priority = sampled["demo_fraction"] is None
        for name in ("priority_exponent", "importance_exponent", "action_gradient_coef", "demo_bonus", "relative_priorities"):
            assert (name in sampled) == by_priority
        # An entry may have it, and without cloning it is refused
        if sampled["bc_coef"] == 0.0:
            assert sampled["pretrain_clone_only"] is False
        else:
            assert ("pretrain_clone_only" in sampled) == (sampled["pretrain_steps"] > 0)
        sampled, _ = sample("a2cfd", seed)
        assert ("pretrain_learning_rate" in sampled) == (sampled["pretrain_steps"] > 0)


@pytest.mark.parametrize("algo", ["ddpgfd", "a2cfd"])
def test_what_is_given_is_not_searched(algo: str) -> None:
    arguments = sorted({decided_argument(name) for seed in range(N_SAMPLES) for name in sample(algo, seed)[1].params})
    for seed in range(N_SAMPLES):
        chosen = random.Random(seed).sample(arguments, k=3)
        given = dict.fromkeys(chosen, 1)
        sampled, trial = sample(algo, seed, given=given)
        assert {decided_argument(name) for name in trial.params} & set(given) == set()
        assert set(sampled) & set(given) == set()


@pytest.mark.parametrize(("given", "absent", "present"), [
    ({"demo_fraction": 0.5}, {"sampling", "priority_exponent", "demo_bonus", "demo_fraction"}, set()),
    ({"demo_fraction": None}, {"sampling", "demo_fraction"}, {"priority_exponent", "demo_bonus"}),
    ({"bc_coef": 0.0}, {"bc_coef", "q_filter", "pretrain_clone_only"}, set()),
    ({"bc_coef": 2.0}, {"bc_coef"}, {"q_filter", "normalize_actor_loss"}),
    ({"bc_coef": 2.0, "pretrain_steps": 0}, {"pretrain_clone_only"}, {"q_filter"}),
    ({"bc_coef": 2.0, "pretrain_steps": 10}, set(), {"pretrain_clone_only"}),
    ({"n_steps": 1}, {"n_steps", "n_step_coef"}, set()),
    ({"noise_std": 0.2}, {"noise_std"}, set()),
])  # fmt: skip
def test_what_is_given_decides_what_else_matters(given: dict[str, Any], absent: set[str], present: set[str]) -> None:
    for seed in range(10):
        sampled, trial = sample("ddpgfd", seed, given=given)
        assert absent & set(trial.params) == set()
        assert present <= set(trial.params)
        assert ("action_noise" in sampled) == ("noise_std" not in given)


def test_actions_that_are_choices_have_no_standard_deviation() -> None:
    for n_actions in (0, None):
        trial = optuna.create_study().ask()
        sampled = sample_a2cfd_params(trial, n_actions, 1, {})
        assert set(sampled["policy_kwargs"]) == {"net_arch"}


def test_the_arguments_themselves_are_in_the_report() -> None:
    sampled, trial = sample("ddpgfd", 0)
    assert trial.user_attrs == {"gamma": sampled["gamma"], "batch_size": sampled["batch_size"]}
