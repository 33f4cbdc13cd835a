import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import gymnasium_robotics
import numpy as np
import pytest
from packaged_physics import start_tolerance

from sb3_pgfd import Demonstrations
from sb3_pgfd.demonstrations.inspection.replay import recorded_seed
from sb3_pgfd.demonstrations.validation import as_dict
from sb3_pgfd.environments import register
from sb3_pgfd.utils.files import hyperparams_file, packaged_demonstrations

gym.register_envs(gymnasium_robotics)
register()

DEMOS = Path(__file__).parents[2] / "demos"
NAMES = sorted(packaged_demonstrations())


def test_every_file_of_the_folder_is_packaged():
    assert sorted(path.stem for path in DEMOS.glob("*.npz")) == NAMES
    assert {"MountainCarContinuous-v0", "Pendulum-v1"} <= set(NAMES)


def test_hyperparameters_are_looked_up_beside_them():
    assert hyperparams_file("ddpgfd") == packaged_demonstrations()["Pendulum-v1"].parents[1] / "hyperparams" / "ddpgfd.yml"


@pytest.mark.parametrize("name", NAMES)
def test_a_packaged_file_is_small(name: str):
    assert packaged_demonstrations()[name].stat().st_size < 2_000_000
    assert 1 <= Demonstrations.load(name).n_episodes <= 20


@pytest.mark.parametrize("name", NAMES)
def test_a_packaged_file_says_where_it_is_from(name: str):
    demonstrations = Demonstrations.load(name)
    metadata = demonstrations.metadata
    assert demonstrations.source == name
    # Several of one environment are told apart behind its id
    assert name.startswith(metadata["env_id"])
    assert metadata["producer"]
    assert {"seed", "action_noise", "env_kwargs", "success_rate", "n_attempts"} <= set(metadata)
    assert {"gymnasium", "numpy", "stable_baselines3"} <= set(metadata["versions"])
    assert metadata["mean_return"] == pytest.approx(demonstrations.episode_returns.mean(), rel=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_packaged_file_fits_its_environment(name: str):
    demonstrations = Demonstrations.load(name)
    env = gym.make(demonstrations.metadata["env_id"], **demonstrations.metadata["env_kwargs"])
    demonstrations.check_spaces(env.observation_space, env.action_space)
    # Not the first attempt's, where some were left out
    start, _ = env.reset(seed=recorded_seed(demonstrations, 0))
    recorded = as_dict(demonstrations.observations)
    for key, array in as_dict(start).items():
        # The walker's are rounded to 14 bits
        rtol = 1e-6 if name != "BipedalWalker-v3" else 2**-14
        np.testing.assert_allclose(recorded[key][0], array, rtol=rtol, atol=start_tolerance(name))


@pytest.mark.parametrize(("name", "low", "high"), [("Pendulum-v1", -600, -160), ("MountainCarContinuous-v0", 0, 90)])
def test_the_demonstrator_is_better_than_chance_and_not_perfect(name: str, low: float, high: float):
    # A random policy has a return of about -1200 on Pendulum and below 0 on MountainCarContinuous; good ones have
    # about -150 and more than 90
    assert low < Demonstrations.load(name).episode_returns.mean() < high


def test_the_script_makes_the_files_that_are_there():
    command = [sys.executable, "-m", "demos.make_demos", "--check"]
    result = subprocess.run(command, cwd=DEMOS.parent, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr
    for name in NAMES:
        assert f"{name}.npz" in result.stdout
