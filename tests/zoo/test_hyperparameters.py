"""Names and nested mappings of a yaml entry and of ``-params``."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from rl_zoo3.hyperparams_opt import HYPERPARAMS_CONVERTER, HYPERPARAMS_SAMPLER
from rl_zoo3.utils import ALGOS
from stable_baselines3 import PPO
from torch import nn

from sb3_pgfd import A2CfD, DDPGfD, DemonstrationsError
from sb3_pgfd.sacfd import SACfD
from sb3_pgfd.td3fd import TD3fD
from sb3_pgfd.utils.files import hyperparams_file
from sb3_pgfd.zoo import ALGORITHMS, register
from sb3_pgfd.zoo.command_line import CommandError
from sb3_pgfd.zoo.experiment_manager import PgfdExperimentManager
from sb3_pgfd.zoo.hyperparameters import check_config, default_algorithm, merge, resolve_in_wrappers, with_schedules

Make = Callable[..., PgfdExperimentManager]


def test_register_adds_to_the_zoos_tables_in_place_and_is_idempotent() -> None:
    before = ALGOS["ppo"]
    register()
    register()
    assert [ALGOS[name] for name in ("ddpgfd", "td3fd", "sacfd", "a2cfd")] == [DDPGfD, TD3fD, SACfD, A2CfD]
    assert ALGOS["ppo"] is before is PPO
    assert set(ALGORITHMS) <= set(HYPERPARAMS_SAMPLER) & set(HYPERPARAMS_CONVERTER)


def test_the_default_algorithm_is_ddpgfd_only_where_it_is_tuned() -> None:
    assert [default_algorithm(env_id) for env_id in ("Pendulum-v1", "FetchReach-v4", "Mine-v0")] == [
        "ddpgfd",
        "td3fd",
        "td3fd",
    ]


def test_nested_mappings_are_joined_and_the_rest_is_replaced() -> None:
    entry = {
        "gamma": 0.9,
        "policy_kwargs": "dict(net_arch=[4], activation_fn=nn.Tanh)",
        "replay_buffer_kwargs": {"a": 1, "b": 2},
    }
    changes = {"gamma": 0.5, "tau": 0.1, "policy_kwargs": {"net_arch": [8]}, "replay_buffer_kwargs": "dict(b=3)"}
    assert merge(entry, changes) == {
        "gamma": 0.5,
        "tau": 0.1,
        "policy_kwargs": {"net_arch": [8], "activation_fn": nn.Tanh},
        "replay_buffer_kwargs": {"a": 1, "b": 3},
    }
    assert entry["replay_buffer_kwargs"] == {"a": 1, "b": 2}
    assert merge(entry, {})["policy_kwargs"] == entry["policy_kwargs"]


def test_options_of_the_command_line_change_single_options_of_nested_mappings(tmp_path: Path, make_manager: Make) -> None:
    entry = {"policy": "MlpPolicy", "n_timesteps": 20, "action_noise": 0.3}
    entry |= {"replay_buffer_kwargs": {"demo_fraction": 0.25, "keep_successes": False}, "policy_kwargs": "dict(net_arch=[4])"}
    given = {"replay_buffer_kwargs": {"demo_fraction": 0.75}, "policy_kwargs": {"n_critics": 3}}
    experiment = make_manager(tmp_path, entry, "td3fd", hyperparams=given).setup_experiment()
    assert experiment is not None
    model: Any = experiment[0]
    assert (model.buffer.demo_fraction, model.buffer.keep_successes) == (0.75, False)
    assert (model.policy_kwargs["net_arch"], model.policy_kwargs["n_critics"]) == ([4], 3)
    assert model.action_noise._sigma.tolist() == [0.3]
    saved = yaml.safe_load((tmp_path / "logs/td3fd/PointToGoal-v0_1/PointToGoal-v0/config.yml").read_text())
    assert saved["replay_buffer_kwargs"] == {"demo_fraction": 0.75, "keep_successes": False}


def test_noise_of_the_command_line_counts_more_than_that_of_the_entry(
    tmp_path: Path, make_manager: Make, entry: dict[str, Any]
) -> None:
    entry = {**entry, "noise_type": "normal", "noise_std": 0.1}
    experiment = make_manager(tmp_path, entry, hyperparams={"action_noise": 0.4}).setup_experiment()
    assert experiment is not None
    model: Any = experiment[0]
    assert model.action_noise._sigma.tolist() == [0.4]


@pytest.mark.parametrize(
    ("algo", "in_yaml", "given", "message"),
    [
        ("ddpgfd", {"bc_coeff": 1.0}, {}, r"my.yml: DDPGfD: found the unknown argument 'bc_coeff', did you mean 'bc_coef'\?$"),
        ("td3fd", {}, {"polcy_delay": 1}, r"^-params: TD3fD: found the unknown argument .*did you mean 'policy_delay'\?$"),
        ("td3fd", {"n_timestep": 1}, {}, r"did you mean 'n_timesteps'\?$"),
        ("td3fd", {"her_ratio": 0.6}, {}, r"my.yml: TD3fD: .*expected it in replay_buffer_kwargs"),
        ("ddpgfd", {"replay_buffer_kwargs": {"her_ration": 0.6}}, {}, r"my.yml: replay_buffer_kwargs: .*'her_ratio'\?$"),
        ("a2cfd", {}, {"policy_kwargs": {"net_arc": [4]}}, r"^-params: policy_kwargs: .*'net_arch'\?$"),
    ],
)
@pytest.mark.parametrize("optimize", [False, True])
def test_an_unknown_name_is_refused_with_where_it_stands_and_what_was_meant(
    algo: str, in_yaml: dict[str, Any], given: dict[str, Any], message: str, optimize: bool, tmp_path: Path, make_manager: Make
) -> None:
    entry = {"policy": "MlpPolicy", "n_timesteps": 20, **in_yaml}
    options = {"optimize_hyperparameters": optimize, "n_trials": 1}
    with pytest.raises(CommandError, match=message):
        make_manager(tmp_path, entry, algo, hyperparams=given, **options).setup_experiment()
    assert not (tmp_path / "logs").exists()


TEXTS = ("policy", "demonstrations", "noise_type", "env_wrapper", "normalize")


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_numbers_in_the_packaged_hyperparameters_are_numbers(algo: str) -> None:
    # PyYAML reads 1e-3 as text
    entries = yaml.safe_load(hyperparams_file(algo).read_text())
    texts = {
        (env_id, name)
        for env_id, entry in entries.items()
        for name, value in entry.items()
        if isinstance(value, str) and name not in TEXTS and not value.startswith(("lin_", "auto"))
    }
    assert texts == set()


def test_schedules_of_our_own_options_are_spelled_like_the_zoos() -> None:
    processed = with_schedules({"learning_rate": "lin_1e-3", "actor_learning_rate": "lin_4e-4", "importance_exponent": 0.5})
    assert processed["learning_rate"](0.5) == pytest.approx(5e-4)
    assert processed["actor_learning_rate"](0.5) == pytest.approx(2e-4)
    assert processed["importance_exponent"] == 0.5


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Pendulum-v1:\n  policy: [unclosed\n", r"a mistake in line 3, column 1 \(expected ',' or '\]', .*\)"),
        ("- a list", r"\['a list'\]"),
        ("Pendulum-v1: 3", "3"),
    ],
)
def test_a_file_that_is_no_yaml_of_the_zoo_is_named(text: str, found: str, tmp_path: Path) -> None:
    config = tmp_path / "broken.yml"
    config.write_text(text)
    register()
    manager = PgfdExperimentManager(argparse.Namespace(), "td3fd", "Pendulum-v1", str(tmp_path), config=str(config))
    with pytest.raises(CommandError, match=rf"broken.yml: found {found}, expected YAML with options by environment$"):
        manager.read_hyperparameters()


def test_a_file_without_an_entry_or_no_file_names_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "mine.yml").write_text("Peg-v0: {n_timesteps: 1}\nHole-v1: {n_timesteps: 1}\n")
    with pytest.raises(CommandError, match=r"mine.yml: found entries for Peg-v0, Hole-v1, expected one for Peg-v1, or 'def"):
        check_config(str(tmp_path / "mine.yml"), "Peg-v1", may_be_atari=False)
    with pytest.raises(CommandError, match=r"mein.yml: found no such file, .*\. Did you mean .*mine.yml\?$"):
        check_config(str(tmp_path / "mein.yml"), "Peg-v1", may_be_atari=False)
    check_config("a.python.module", "Peg-v1", may_be_atari=False)


def test_demonstrations_of_wrappers_are_relative_to_the_file_that_names_them(tmp_path: Path) -> None:
    (tmp_path / "mine.npz").touch()
    wrappers = ["a.Plain", {"b.Starts": {"demonstrations": "mine.npz", "share": 0.5}}, {"c.Other": None}]
    found = resolve_in_wrappers(wrappers, [tmp_path], "entry")
    path = str(tmp_path / "mine.npz")
    assert found == ["a.Plain", {"b.Starts": {"demonstrations": path, "share": 0.5}}, {"c.Other": None}]
    assert resolve_in_wrappers({"b.Starts": {"demonstrations": "mine.npz"}}, [tmp_path], "entry") == {
        "b.Starts": {"demonstrations": path}
    }
    with pytest.raises(DemonstrationsError, match=r"entry: demonstrations: .*other\.npz"):
        resolve_in_wrappers({"b.Starts": {"demonstrations": "other.npz"}}, [tmp_path], "entry")
