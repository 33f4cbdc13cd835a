"""Registration with the RL Zoo, and what it finds there."""

from typing import Any

import optuna
import pytest
import yaml
from rl_zoo3.hyperparams_opt import HYPERPARAMS_CONVERTER, HYPERPARAMS_SAMPLER
from rl_zoo3.utils import ALGOS
from stable_baselines3 import PPO

from sb3_pgfd import DDPGfD
from sb3_pgfd.utils.files import hyperparams_file
from sb3_pgfd.zoo import register
from sb3_pgfd.zoo.experiment_manager import PgfdExperimentManager


def test_register_adds_to_the_zoos_tables_in_place_and_is_idempotent() -> None:
    before = ALGOS["ppo"]
    register()
    register()
    assert ALGOS["ddpgfd"] is DDPGfD
    assert ALGOS["ppo"] is before is PPO
    assert "ddpgfd" in HYPERPARAMS_SAMPLER
    assert "ddpgfd" in HYPERPARAMS_CONVERTER


@pytest.mark.parametrize("seed", range(5))
def test_sampled_hyperparameters_build_a_model_and_convert_back(seed: int) -> None:
    register()
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    trial = study.ask()
    sampled: dict[str, Any] = HYPERPARAMS_SAMPLER["ddpgfd"](trial, 1, 1, {})
    model = DDPGfD("MlpPolicy", "Pendulum-v1", demonstrations="Pendulum-v1", buffer_size=100, **sampled)
    assert model.gamma == sampled["gamma"]
    converted = HYPERPARAMS_CONVERTER["ddpgfd"](trial.params)
    # The Zoo makes the noise of these two when it knows the number of actions
    assert converted.pop("noise_type") == "normal"
    assert sampled.pop("action_noise")._sigma.tolist() == [converted.pop("noise_std")]
    assert converted == sampled


TEXTS = ("policy", "demonstrations", "noise_type", "env_wrapper")


def test_numbers_in_the_hyperparameters_are_numbers() -> None:
    # PyYAML reads 1e-3 as text
    entries = yaml.safe_load(hyperparams_file("ddpgfd").read_text())
    texts = {
        (env_id, name)
        for env_id, entry in entries.items()
        for name, value in entry.items()
        if isinstance(value, str) and name not in TEXTS and not value.startswith("lin_")
    }
    assert texts == set()


def test_schedules_of_our_own_options_are_spelled_like_the_zoos() -> None:
    processed = PgfdExperimentManager._preprocess_schedules(
        {"learning_rate": "lin_1e-3", "actor_learning_rate": "lin_4e-4", "importance_exponent": 0.5}
    )
    assert processed["learning_rate"](0.5) == pytest.approx(5e-4)
    assert processed["actor_learning_rate"](0.5) == pytest.approx(2e-4)
    assert processed["importance_exponent"] == 0.5
