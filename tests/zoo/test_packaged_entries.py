"""Every tuned entry that ships with the package begins to learn."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import yaml
from stable_baselines3.common.base_class import BaseAlgorithm

from sb3_pgfd.utils.files import hyperparams_file
from sb3_pgfd.zoo import ALGORITHMS
from sb3_pgfd.zoo.command_line import register_environments
from sb3_pgfd.zoo.experiment_manager import PgfdExperimentManager

ENTRIES = [
    (algo, env_id)
    for algo in ALGORITHMS
    for env_id in yaml.safe_load(hyperparams_file(algo).read_text())
    if env_id != "default"
]


@pytest.mark.parametrize(("algo", "env_id"), ENTRIES)
def test_an_entry_begins_to_learn_from_its_demonstrations(
    algo: str,
    env_id: str,
    tmp_path: Path,
    make_manager: Callable[..., PgfdExperimentManager],
    run_to_its_end: Callable[[PgfdExperimentManager], BaseAlgorithm],
) -> None:
    register_environments()
    assert env_id in gym.registry
    # CartPole's is learned without demonstrations
    alone = env_id == "CartPole-v1"
    short: dict[str, Any] = {"n_timesteps": 20, **({} if alone else {"pretrain_steps": 2})}
    manager = make_manager(tmp_path, None, algo, env_id, hyperparams=short)
    model = run_to_its_end(manager)
    assert model.num_timesteps >= 20
    assert alone or vars(model)["demonstrations_source"] is not None


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_the_default_entry_is_for_dict_observations_too(
    algo: str, tmp_path: Path, make_manager: Callable[..., PgfdExperimentManager]
) -> None:
    register_environments()
    manager = make_manager(tmp_path, None, algo, "AntMaze_UMaze-v5", hyperparams={"n_timesteps": 20})
    experiment = manager.setup_experiment()
    assert experiment is not None
    assert experiment[0].policy_class is type(experiment[0]).policy_aliases["MultiInputPolicy"]
    assert yaml.safe_load((Path(manager.params_path) / "config.yml").read_text())["policy"] == "MultiInputPolicy"
