"""What ``-optimize`` searches: every configuration is valid, and means the same when it is read back."""

import random
from typing import Any

import optuna
import pytest

from sb3_pgfd.zoo import ALGORITHMS
from sb3_pgfd.zoo.hyperparameters import flatten
from sb3_pgfd.zoo.hyperparams_opt import CONVERTERS, SAMPLERS, decided_option

N_SAMPLES = 40
# Smallest and largest value, or all values, of the options themselves
OFF_POLICY: dict[str, Any] = {
    "gamma": (0.95, 0.999),
    "learning_rate": (1e-4, 3e-3),
    "actor_learning_rate": (3e-5, 3e-3),
    "batch_size": {64, 128, 256, 512},
    "tau": (0.002, 0.05),
    "gradient_steps": {1, 2, 4},
    "n_steps": set(range(1, 11)),
    "n_step_coef": (0.1, 2.0),
    "l2_coef": (1e-6, 1e-3),
    "q_filter": {False, True},
    "demo_fraction": (0.1, 0.75),
    "layer_norm": {False, True},
    "average_actor": {None, 0.01, 0.002},
    "keep_successes": {False, True},
    "net_arch": {(64, 64), (128, 128), (256, 256), (400, 300)},
}
CLONES_FIRST: dict[str, Any] = {
    "pretrain_steps": {1000, 2000, 5000, 10_000, 20_000},
    "bc_coef": {0.5, 1.0, 1.5, 2.0, 5.0, 10.0},
    "normalize_actor_loss": {False, True},
    "critic_warmup_steps": {0, 1000, 2000, 5000},
}
RANGES: dict[str, dict[str, Any]] = {
    "ddpgfd": {
        **OFF_POLICY,
        "action_noise": (0.0, 0.5),
        "pretrain_steps": {0, 500, 1000, 2000, 5000},
        "bc_coef": {0.0, 0.5, 1.0, 2.0, 5.0, 10.0},
        "priority_exponent": (0.0, 1.0),
        "importance_exponent": (0.0, 1.0),
        "action_gradient_coef": (0.01, 10.0),
        "demo_bonus": (1e-3, 10.0),
        "n_critics": {1, 2},
        "relative_priorities": {False, True},
    },
    "td3fd": {
        **OFF_POLICY,
        **CLONES_FIRST,
        "action_noise": (0.0, 0.5),
        "policy_delay": {1, 2},
        "target_policy_noise": (0.0, 0.4),
        "n_critics": {2, 3, 5},
    },
    "sacfd": {
        **OFF_POLICY,
        **CLONES_FIRST,
        "policy_delay": {1, 2},
        "n_critics": {2, 5, 10},
        "n_target_critics": {None, 1, 2},
        "log_std_init": (-3.0, 0.0),
        "ent_coef": {"auto_0.0001", "auto_0.001", "auto_0.01", "auto_0.1", "auto"},
        "entropy_backup": {False, True},
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
_CLONES_FIRST = {"pretrain_steps", "bc_coef", "q_filter", "demo_fraction", "normalize_actor_loss", "critic_warmup_steps"}
OF_DEMONSTRATIONS = {
    "ddpgfd": {"pretrain_steps", "bc_coef", "q_filter", "demo_fraction", "demo_bonus", "relative_priorities"},
    "td3fd": _CLONES_FIRST,
    "sacfd": _CLONES_FIRST,
    "a2cfd": {"pretrain_steps", "pretrain_learning_rate", "critic_warmup_steps", "bc_coef", "bc_decay", "demo_batch_size"},
}


def sample(algo: str, seed: int, **told: Any) -> tuple[dict[str, Any], optuna.Trial]:
    """:return: Arguments of the constructor, and the trial that they were sampled in"""
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed)).ask()
    return SAMPLERS[algo](trial, 1, 1, told), trial


def flat(arguments: dict[str, Any]) -> dict[str, Any]:
    """Options by name, also those of nested mappings."""
    options = {name: value for name, value in flatten(arguments).items() if not name.endswith("_kwargs")}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_every_value_is_in_its_range_and_every_choice_is_made(algo: str) -> None:
    seen: dict[str, set[Any]] = {name: set() for name in RANGES[algo]}
    for seed in range(300):
        for name, value in flat(sample(algo, seed)[0]).items():
            if (name, value) != ("demo_fraction", None):
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


@pytest.mark.parametrize("with_demonstrations", [True, False, None])
@pytest.mark.parametrize("algo", ALGORITHMS)
def test_every_configuration_builds_a_model_that_learns(algo: str, with_demonstrations: bool | None) -> None:
    # None: as the Zoo's own manager, which tells the sampler nothing; everything is searched then
    told = {} if with_demonstrations is None else {"has_demonstrations": with_demonstrations}
    small = {} if algo == "a2cfd" else {"buffer_size": 1000, "learning_starts": 2}
    for seed in range(20):
        sampled, _ = sample(algo, seed, **told)
        # Time is saved where validity does not depend on it
        sampled["policy_kwargs"]["net_arch"] = [8]
        for name in {"pretrain_steps", "n_steps"} & set(sampled):
            sampled[name] = min(sampled[name], 4)
        source = None if with_demonstrations is False else "Pendulum-v1"
        model: Any = ALGORITHMS[algo]
        model = model("MlpPolicy", "Pendulum-v1", demonstrations=source, device="cpu", **small, **sampled)
        model.learn(8)
        assert model._n_updates >= 2
        assert all(bool(parameter.isfinite().all()) for parameter in model.policy.parameters())


@pytest.mark.parametrize("algo", ALGORITHMS)
@pytest.mark.parametrize("with_demonstrations", [True, False])
def test_the_converter_makes_of_a_trial_what_the_sampler_did(algo: str, with_demonstrations: bool) -> None:
    for seed in range(N_SAMPLES):
        sampled, trial = sample(algo, seed, has_demonstrations=with_demonstrations)
        assert CONVERTERS[algo](trial.params) == sampled


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_nothing_of_demonstrations_is_searched_without_them(algo: str) -> None:
    names = {name for seed in range(N_SAMPLES) for name in flat(sample(algo, seed, has_demonstrations=False)[0])}
    assert names & OF_DEMONSTRATIONS[algo] == set()
    assert names | OF_DEMONSTRATIONS[algo] == set(RANGES[algo])


def test_only_options_with_an_effect_are_sampled() -> None:
    for seed in range(N_SAMPLES):
        sampled = flat(sample("ddpgfd", seed)[0])
        assert ("n_step_coef" in sampled) == (sampled["n_steps"] > 1)
        assert ("q_filter" in sampled) == (sampled["bc_coef"] > 0.0)
        # None also ends a share of the entry
        by_priority = sampled["demo_fraction"] is None
        for name in ("priority_exponent", "importance_exponent", "action_gradient_coef", "demo_bonus", "relative_priorities"):
            assert (name in sampled) == by_priority
        sampled, _ = sample("a2cfd", seed)
        assert ("pretrain_learning_rate" in sampled) == (sampled["pretrain_steps"] > 0)


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_given_options_are_not_searched(algo: str) -> None:
    options = sorted({decided_option(name) for seed in range(N_SAMPLES) for name in sample(algo, seed)[1].params})
    for seed in range(N_SAMPLES):
        given = dict.fromkeys(random.Random(seed).sample(options, k=3), 1)
        sampled, trial = sample(algo, seed, given=given)
        assert {decided_option(name) for name in trial.params} & set(given) == set()
        assert set(flat(sampled)) & set(given) == set()


@pytest.mark.parametrize(("algo", "given", "absent", "present"), [
    ("ddpgfd", {"demo_fraction": 0.5}, {"sampling", "priority_exponent", "demo_bonus", "demo_fraction"}, set()),
    ("ddpgfd", {"demo_fraction": None}, {"sampling", "demo_fraction"}, {"priority_exponent", "demo_bonus"}),
    ("ddpgfd", {"bc_coef": 0.0}, {"bc_coef", "q_filter"}, set()),
    ("ddpgfd", {"bc_coef": 2.0}, {"bc_coef"}, {"q_filter"}),
    ("ddpgfd", {"n_steps": 1}, {"n_steps", "n_step_coef"}, set()),
    ("td3fd", {"bc_coef": 0.0}, {"bc_coef", "q_filter", "normalize_actor_loss", "critic_warmup_steps"}, {"demo_fraction"}),
    ("td3fd", {"net_arch": [4]}, {"net_arch"}, {"n_critics", "layer_norm"}),
    ("a2cfd", {"log_std_max": -2.0}, {"log_std_min", "log_std_max"}, {"ent_coef"}),
    ("a2cfd", {"log_std_init": 0.0}, {"log_std_min", "log_std_max"}, {"ent_coef"}),
    ("a2cfd", {"ent_coef": 0.0}, {"ent_coef"}, {"log_std_min", "log_std_max"}),
    ("a2cfd", {"bc_coef": 0.0}, {"bc_half_life"}, {"ent_coef"}),
    ("a2cfd", {"bc_coef": 0.0, "pretrain_steps": 0}, {"bc_half_life", "demo_batch_size"}, {"ent_coef"}),
])  # fmt: skip
def test_given_options_decide_which_others_matter(
    algo: str, given: dict[str, Any], absent: set[str], present: set[str]
) -> None:
    for seed in range(10):
        _, trial = sample(algo, seed, given=given)
        assert absent & set(trial.params) == set()
        assert present <= set(trial.params)


def test_what_the_entry_holds_is_searched_where_it_has_a_range() -> None:
    trials = {algo: optuna.create_study().ask() for algo in ("a2cfd", "sacfd")}
    for algo, trial in trials.items():
        SAMPLERS[algo](trial, 1, 1, {"of_entry": {"log_std_init"}})
    assert not {"log_std_min", "log_std_max"} & trials["a2cfd"].params.keys()
    assert "log_std_init" in trials["sacfd"].params


def test_discrete_actions_have_no_standard_deviation() -> None:
    for n_actions in (0, None):
        trial = optuna.create_study().ask()
        sampled = SAMPLERS["a2cfd"](trial, n_actions, 1, {})
        assert set(sampled["policy_kwargs"]) == {"net_arch"}


def test_the_options_themselves_are_in_the_report() -> None:
    sampled, trial = sample("ddpgfd", 0)
    assert trial.user_attrs == {"gamma": sampled["gamma"], "batch_size": sampled["batch_size"]}
