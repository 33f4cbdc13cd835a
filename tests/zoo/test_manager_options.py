"""Options of a yaml and of the command line that need demonstrations, and frames that are stacked."""

import argparse
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from stable_baselines3 import SAC
from stable_baselines3.common.base_class import BaseAlgorithm

from sb3_pgfd import DDPGfD, Demonstrations, DemonstrationsError
from sb3_pgfd.common.option_warnings import options_without_effect
from sb3_pgfd.replay import DemoReplayBuffer
from sb3_pgfd.utils.files import hyperparams_file
from sb3_pgfd.utils.keywords import keyword_defaults
from sb3_pgfd.utils.warning import OptionWarning
from sb3_pgfd.zoo import ALGORITHMS
from sb3_pgfd.zoo.agents import load_without_buffer
from sb3_pgfd.zoo.beside_the_robot import BesideTheRobot, add_options
from sb3_pgfd.zoo.experiment_manager import PgfdExperimentManager
from sb3_pgfd.zoo.hyperparameters import flatten

Make = Callable[..., PgfdExperimentManager]
Run = Callable[[PgfdExperimentManager], BaseAlgorithm]
PLAIN = {"policy": "MlpPolicy", "n_timesteps": 8, "policy_kwargs": "dict(net_arch=[4])"}


@pytest.mark.parametrize(
    ("algo", "entry", "params", "message"),
    [
        (
            "td3fd",
            {"replay_buffer_kwargs": {"demo_fraction": 0.25}},
            {},
            "TD3fD: found no demonstrations, but demo_fraction=0.25",
        ),
        ("a2cfd", {}, {"pretrain_steps": 5}, "A2CfD: found no demonstrations, but pretrain_steps=5"),
        ("ddpgfd", {"demonstrations": "PointToGoal.npz"}, {"demonstrations": None, "bc_coef": 1.0}, "but bc_coef=1.0"),
    ],
)
def test_options_that_need_demonstrations_are_refused(
    algo: str, entry: Any, params: Any, message: str, tmp_path: Path, make_manager: Make, run_to_its_end: Run
) -> None:
    with pytest.raises(DemonstrationsError, match=re.escape(message)):
        run_to_its_end(make_manager(tmp_path, {**PLAIN, **entry}, algo, hyperparams=params))


def test_without_them_a_run_is_warned(tmp_path: Path, make_manager: Make, run_to_its_end: Run) -> None:
    with pytest.warns(OptionWarning, match="TD3fD: found no demonstrations: it learns from its own experience alone"):
        run_to_its_end(make_manager(tmp_path, PLAIN, "td3fd"))


def test_a_search_is_refused_before_its_first_trial(tmp_path: Path, make_manager: Make) -> None:
    manager = make_manager(tmp_path, {**PLAIN, "bc_coef": 1.0}, optimize_hyperparameters=True, n_trials=1)
    manager.setup_experiment()
    with pytest.raises(DemonstrationsError, match=r"DDPGfD: found no demonstrations, but bc_coef=1\.0"):
        manager.hyperparameters_optimization()


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_no_packaged_entry_has_an_option_without_effect(algo: str) -> None:
    algorithm = ALGORITHMS[algo]
    defaults = {**keyword_defaults(algorithm), **getattr(algorithm, "buffer_defaults", {})}
    for env_id, entry in yaml.safe_load(hyperparams_file(algo).read_text()).items():
        chosen = flatten(entry)
        assert list(options_without_effect({**defaults, **chosen}, list(chosen), algorithm._option_needs)) == [], env_id


# --- Frames ----------------------------------------------------------------------------------------------------------


def test_an_entrys_frame_stack_stacks_the_demonstrations(
    tmp_path: Path, make_manager: Make, run_to_its_end: Run, demo_file: Path, demonstrations: Demonstrations
) -> None:
    entry = {**PLAIN, "demonstrations": str(demo_file), "frame_stack": 3, "pretrain_steps": 1}
    model = run_to_its_end(make_manager(tmp_path, entry))
    assert isinstance(model, DDPGfD)
    expected = demonstrations.stack_frames(3).observations
    np.testing.assert_array_equal(model.buffer.demonstrations.columns["observations/"][: len(expected)], expected)


@pytest.mark.parametrize("own_number", [False, True])
def test_likewise_in_the_buffer_of_sb3s_algorithms(
    own_number: bool, tmp_path: Path, make_manager: Make, run_to_its_end: Run, demo_file: Path, demonstrations: Demonstrations
) -> None:
    named: Any = str(demo_file)
    if own_number:
        named = {"source": str(demonstrations.stack_frames(2).save(tmp_path / "stacked.npz")), "stack_frames": 1}
    buffer = {"demonstrations": named, "demo_fraction": 0.5}
    named_class = "sb3_pgfd.replay.DemoReplayBuffer"
    entry = {**PLAIN, "frame_stack": 2, "replay_buffer_class": named_class, "replay_buffer_kwargs": buffer}
    model = run_to_its_end(make_manager(tmp_path, entry, "sac"))
    assert isinstance(model, SAC)
    assert isinstance(model.replay_buffer, DemoReplayBuffer)
    expected = demonstrations.stack_frames(2).observations
    np.testing.assert_array_equal(model.replay_buffer.demonstrations.columns["observations/"][: len(expected)], expected)
    # A reference: a model's file does not hold the demonstrations, and `enjoy` does not look for them
    assert isinstance(model.replay_buffer_kwargs["demonstrations"], dict)
    demo_file.unlink()
    (saved,) = tmp_path.glob("logs/sac/*/PointToGoal-v0.zip")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = load_without_buffer(SAC, saved)
    observation = np.zeros(2, dtype=np.float32)
    assert loaded.predict(observation, deterministic=True)[0] == model.predict(observation, deterministic=True)[0]


def test_single_options_of_the_buffer_are_changed_with_sb3s_algorithms_too(
    tmp_path: Path, make_manager: Make, demo_file: Path
) -> None:
    buffer = {"demonstrations": str(demo_file), "demo_fraction": 0.5}
    entry = {**PLAIN, "replay_buffer_class": "sb3_pgfd.replay.DemoReplayBuffer", "replay_buffer_kwargs": buffer}
    manager = make_manager(tmp_path, entry, "sac", hyperparams={"replay_buffer_kwargs": {"demo_fraction": 0.25}})
    experiment = manager.setup_experiment()
    assert experiment is not None
    model: Any = experiment[0]
    assert model.replay_buffer.demo_fraction == 0.25
    assert model.replay_buffer.n_demonstrations > 0


def test_trials_learn_in_the_environment_of_the_command(tmp_path: Path, make_manager: Make) -> None:
    manager = make_manager(tmp_path, {**PLAIN, "env_kwargs": {"view": "box"}}, env_kwargs={"render_mode": "rgb_array"})
    manager.read_hyperparameters()
    assert manager._with_trial({"batch_size": 4})["env_kwargs"] == {"view": "box", "render_mode": "rgb_array"}


def test_evaluations_in_real_time_take_the_statistics(tmp_path: Path, make_manager: Make) -> None:
    parser = argparse.ArgumentParser()
    add_options(parser)
    robot = BesideTheRobot(parser.parse_args(["--control-hz", "500"]))
    manager = make_manager(tmp_path, {**PLAIN, "normalize": True}, robot=robot, eval_freq=4, n_eval_episodes=1)
    experiment = manager.setup_experiment()
    assert experiment is not None
    manager.learn(experiment[0])
    assert len(np.load(Path(manager.save_path, "evaluations.npz"))["timesteps"]) > 1
