"""Demonstrations that a yaml or the command line names."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from stable_baselines3 import SAC
from stable_baselines3.common.base_class import BaseAlgorithm

from sb3_pgfd import A2CfD, DDPGfD, Demonstrations, DemonstrationsError
from sb3_pgfd.extractors import RelativePositions
from sb3_pgfd.replay import DemoReplayBuffer
from sb3_pgfd.zoo.experiment_manager import PgfdExperimentManager

Make = Callable[..., PgfdExperimentManager]
Run = Callable[[PgfdExperimentManager], BaseAlgorithm]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, which is not the yaml's."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """The yaml's folder."""
    folder = tmp_path / "there"
    folder.mkdir()
    return folder


def read(manager: PgfdExperimentManager) -> Any:
    """:return: The plain demonstrations that would be saved, after a look that they are what the model would be given"""
    hyperparams, saved = manager.read_hyperparameters()
    assert hyperparams["demonstrations"] == saved["demonstrations"]
    return saved["demonstrations"]


@pytest.mark.parametrize("name", ["demo.npz", "sub/demo.npz", "../demo.npz"])
def test_a_path_is_relative_to_the_yaml(
    name: str, here: Path, there: Path, make_manager: Make, entry: dict[str, Any], demonstrations: Demonstrations
) -> None:
    demonstrations.save(there / name)
    assert read(make_manager(there, {**entry, "demonstrations": name})) == os.path.abspath(there / name)


def test_or_relative_to_the_current_folder(
    here: Path, there: Path, make_manager: Make, entry: dict[str, Any], demonstrations: Demonstrations
) -> None:
    demonstrations.save(here / "demo.npz")
    manager = make_manager(there, {**entry, "demonstrations": "demo.npz"})
    assert read(manager) == str(here / "demo.npz")
    demonstrations.save(there / "demo.npz")
    assert read(manager) == str(there / "demo.npz")


def test_on_the_command_line_it_is_relative_to_the_current_folder_alone(
    here: Path, there: Path, make_manager: Make, entry: dict[str, Any], demonstrations: Demonstrations
) -> None:
    demonstrations.save(there / "demo.npz")
    manager = make_manager(there, {**entry, "demonstrations": "nothing.npz"}, hyperparams={"demonstrations": "demo.npz"})
    with pytest.raises(DemonstrationsError, match=r"-params: demonstrations: demo.npz: .* \(looked in \S*here\)$"):
        manager.setup_experiment()
    demonstrations.save(here / "demo.npz")
    assert read(manager) == str(here / "demo.npz")


def test_packaged_names_and_ids_stay_as_they_are(
    there: Path, make_manager: Make, entry: dict[str, Any], monkeypatch: pytest.MonkeyPatch, demonstrations: Demonstrations
) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(there / "minari"))
    demonstrations.save("minari:point/to-goal-v0")
    for name in ("Pendulum-v1", "minari:point/to-goal-v0", "point/to-goal-v0"):
        assert read(make_manager(there, {**entry, "demonstrations": name})) == name
    experiment = make_manager(there, {**entry, "demonstrations": "minari:point/to-goal-v0"}).setup_experiment()
    assert experiment is not None
    assert isinstance(experiment[0], DDPGfD)
    assert experiment[0].demonstrations_source == "minari:point/to-goal-v0"


def test_a_mapping_has_options(
    here: Path, demo_file: Path, there: Path, make_manager: Make, run_to_its_end: Run, entry: dict[str, Any]
) -> None:
    named = {"source": "../demos/demo.npz", "n_episodes": 2, "seed": 4}
    model = run_to_its_end(make_manager(there, {**entry, "demonstrations": named}))
    assert isinstance(model, DDPGfD)
    expected = Demonstrations.load(demo_file, n_episodes=2, seed=4)
    assert isinstance(model.demonstrations, Demonstrations)
    np.testing.assert_array_equal(model.demonstrations.rewards, expected.rewards)
    assert model.demonstrations_source == str(demo_file)
    config = (there / "logs/ddpgfd/PointToGoal-v0_1/PointToGoal-v0/config.yml").read_text()
    # Plain YAML, and good for another run in another folder
    saved = yaml.safe_load(config)
    assert saved["demonstrations"] == {"source": str(demo_file), "n_episodes": 2, "seed": 4}
    assert read(make_manager(here, saved)) == saved["demonstrations"]


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ("nothing.npz", r"my.yml: demonstrations: nothing.npz: found no such file.* \(looked in \S*there and in \S*here\)$"),
        ("/nothing.npz", r"my.yml: demonstrations: /nothing.npz: found no such file, .*, Reacher-v5, .*$"),
        (
            "minari:nothing-v0",
            "my.yml: demonstrations: minari:nothing-v0: found no folder .* says where Minari's datasets are$",
        ),
        ({"n_episodes": 2}, r"found {'n_episodes': 2}, expected .* a mapping with one of them as 'source'"),
        ({"source": "Pendulum-v1", "n": 2}, "found option 'n', but sb3-pgfd .npz knows only"),
        (7, "my.yml: demonstrations: found 7, expected a path, the name of packaged demonstrations"),
        ([], r"found \[\], expected a path"),
        (["Pendulum-v1", "nothing.npz"], "demonstrations: nothing.npz: found no such file"),
        ("broken.npz", "broken.npz: found a file that begins with b'no'"),
    ],
)
def test_what_is_not_there_is_refused_before_a_folder_is_made(
    named: Any, expected: str, here: Path, there: Path, make_manager: Make, entry: dict[str, Any]
) -> None:
    (there / "broken.npz").write_text("no")
    with pytest.raises(DemonstrationsError, match=expected):
        make_manager(there, {**entry, "demonstrations": named}).setup_experiment()
    assert not (there / "logs").exists()


def test_the_zoos_python_configurations_work(
    here: Path, there: Path, make_manager: Make, entry: dict[str, Any], demonstrations: Demonstrations, monkeypatch: Any
) -> None:
    text = f"hyperparams = {{'PointToGoal-v0': {{**{entry}, 'demonstrations': 'demo.npz'}}}}"
    (there / "conf.py").write_text(text)
    (there / "my_hyperparams.py").write_text(text)
    monkeypatch.syspath_prepend(str(there))
    demonstrations.save(there / "demo.npz")
    assert read(make_manager(there, None, config=str(there / "conf.py"))) == str(there / "demo.npz")
    # Nobody knows which folder a package means but the current one
    with pytest.raises(DemonstrationsError, match=r"my_hyperparams: demonstrations: demo.npz: .* \(looked in \S*here\)$"):
        make_manager(there, None, config="my_hyperparams").read_hyperparameters()
    demonstrations.save(here / "demo.npz")
    assert read(make_manager(there, None, config="my_hyperparams")) == str(here / "demo.npz")


@pytest.mark.parametrize("as_text", [False, True])
def test_sac_learns_from_demonstrations_in_its_buffer(
    as_text: bool,
    demo_file: Path,
    here: Path,
    make_manager: Make,
    run_to_its_end: Run,
    entry: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    options: Any = {"demonstrations": "demo.npz", "demo_fraction": 0.5}
    entry = {**entry, "replay_buffer_class": "sb3_pgfd.replay.DemoReplayBuffer", "buffer_size": 100}
    entry["replay_buffer_kwargs"] = "dict(demonstrations='demo.npz', demo_fraction=0.5)" if as_text else options
    del entry["pretrain_steps"]
    model = run_to_its_end(make_manager(demo_file.parent, entry, "sac"))
    assert isinstance(model, SAC)
    assert isinstance(model.replay_buffer, DemoReplayBuffer)
    expected = Demonstrations.load(demo_file)
    assert (model.replay_buffer.n_demonstrations, model.replay_buffer.demo_fraction) == (len(expected), 0.5)
    # 1.00 is the success of the demonstrations, which the buffer does not know
    assert "demonstrations 1.00" in next(line for line in capsys.readouterr().out.splitlines() if "success" in line)
    folder = demo_file.parent / "logs/sac/PointToGoal-v0_1"
    saved = yaml.safe_load((folder / "PointToGoal-v0/config.yml").read_text())
    assert saved["replay_buffer_kwargs"] == {"demonstrations": str(demo_file), "demo_fraction": 0.5}
    assert SAC.load(folder / "PointToGoal-v0.zip").num_timesteps == 40


def test_a_features_extractor_is_named_by_its_path(
    demo_file: Path, make_manager: Make, run_to_its_end: Run, entry: dict[str, Any]
) -> None:
    extractor = {"features_extractor_class": "sb3_pgfd.extractors.RelativePositions"}
    networks = {"net_arch": [4], **extractor, "features_extractor_kwargs": {"pairs": [[0, 0]], "size": 1}}
    entry = {**entry, "demonstrations": "demo.npz", "policy_kwargs": networks}
    model = run_to_its_end(make_manager(demo_file.parent, entry))
    assert isinstance(model, DDPGfD)
    assert isinstance(model.actor.features_extractor, RelativePositions)
    folder = demo_file.parent / "logs/ddpgfd/PointToGoal-v0_1"
    assert yaml.safe_load((folder / "PointToGoal-v0/config.yml").read_text())["policy_kwargs"] == networks
    assert isinstance(DDPGfD.load(folder / "PointToGoal-v0.zip").actor.features_extractor, RelativePositions)


def test_a_buffers_mapping_has_options_too(demo_file: Path, make_manager: Make, entry: dict[str, Any]) -> None:
    entry = {**entry, "replay_buffer_class": "sb3_pgfd.replay.DemoReplayBuffer"}
    entry["replay_buffer_kwargs"] = {"demonstrations": {"source": "demo.npz", "n_episodes": 1}}
    del entry["pretrain_steps"]
    experiment = make_manager(demo_file.parent, entry, "sac").setup_experiment()
    assert experiment is not None
    assert isinstance(experiment[0], SAC)
    assert isinstance(experiment[0].replay_buffer, DemoReplayBuffer)
    assert experiment[0].replay_buffer.n_demonstrations == len(Demonstrations.load(demo_file, n_episodes=1))


def test_dicts_for_a_flattened_environment_are_refused_with_advice(
    there: Path, make_manager: Make, run_to_its_end: Run, entry: dict[str, Any], record: Callable[..., Demonstrations]
) -> None:
    demonstrations = record("dict")
    demonstrations.save(there / "dict.npz")
    entry = {**entry, "env_kwargs": {"view": "dict"}, "env_wrapper": "rl_zoo3.utils.flatten_dict_observations"}
    with pytest.raises(DemonstrationsError, match=r"found a dict with keys .* flatten_observations: true}"):
        make_manager(there, {**entry, "demonstrations": "dict.npz"}).setup_experiment()
    named = {"source": "dict.npz", "flatten_observations": True}
    model = run_to_its_end(make_manager(there, {**entry, "demonstrations": named}))
    assert isinstance(model, DDPGfD)
    # As Gymnasium's wrapper joins them: by name, so the goal comes first
    stored = model.buffer.demonstrations.columns["observations/"][: len(demonstrations)]
    observations: Any = demonstrations.observations
    np.testing.assert_array_equal(stored, np.hstack((observations["goal"], observations["position"])))


def test_going_on_without_naming_any_takes_those_of_the_run(
    demo_file: Path, there: Path, make_manager: Make, run_to_its_end: Run
) -> None:
    small = {"policy": "MlpPolicy", "n_timesteps": 20, "pretrain_steps": 2, "policy_kwargs": "dict(net_arch=[4])"}
    first = make_manager(demo_file.parent, {**small, "demonstrations": "demo.npz"}, "a2cfd")
    run_to_its_end(first)
    model = run_to_its_end(make_manager(there, small, "a2cfd", trained_agent=f"{first.save_path}/PointToGoal-v0.zip"))
    assert isinstance(model, A2CfD)
    assert isinstance(model.demonstrations, Demonstrations)
    assert (model.demonstrations.n_episodes, model.demonstrations_source) == (3, str(demo_file))
    saved = yaml.safe_load((there / "logs/a2cfd/PointToGoal-v0_1/PointToGoal-v0/config.yml").read_text())
    assert saved["demonstrations"] == str(demo_file)
