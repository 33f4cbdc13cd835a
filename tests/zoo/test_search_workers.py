"""``-optimize`` as a user runs it: storages, several workers on one study, and the way back with ``--trial-id``."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest
import yaml
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from sb3_pgfd.zoo.hyperparams_opt import CONVERTERS

ENV_ID = "Pendulum-v1"
SMALL = ["-params", "pretrain_steps:2", "gradient_steps:1", "policy_kwargs:dict(net_arch=[16])"]
OPTIMIZE = ["-optimize", "-n", "60", "--n-evaluations", "2", "--eval-episodes", "1", "--no-optim-plots", "--sampler", "random"]


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [os.environ.get("SB3_PGFD_PYTHON", sys.executable), "-m", "sb3_pgfd.train", "--algo", "ddpgfd", "--env", ENV_ID]
    return subprocess.Popen(
        [*command, "--num-threads", "1", "--device", "cpu", *arguments],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    """:return: What it printed; the test fails with it if the command does"""
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return output


def run(folder: Path, *arguments: str) -> str:
    return finish(start(folder, *arguments))


def saved_config(folder: Path, number: int) -> dict[str, Any]:
    """:return: The hyperparameters that a run of this number in the log folder was trained with"""
    path = folder / "logs" / "ddpgfd" / f"{ENV_ID}_{number}" / ENV_ID / "config.yml"
    return dict(yaml.load(path.read_text(), Loader=yaml.UnsafeLoader))


def test_two_workers_share_a_journal_without_losing_a_trial(tmp_path: Path) -> None:
    study_arguments = ["--storage", "study.log", "--study-name", "shared"]
    # With the same seed, as it is easily done, they must not try the same
    arguments = [*OPTIMIZE, *study_arguments, "--max-total-trials", "6", "--seed", "1", *SMALL]
    workers = [start(tmp_path, *arguments) for _ in range(2)]
    outputs = [finish(worker) for worker in workers]
    study = optuna.load_study(study_name="shared", storage=JournalStorage(JournalFileBackend(str(tmp_path / "study.log"))))
    # The last two may begin at the same moment
    assert len(study.trials) in (6, 7)
    assert [trial.number for trial in study.trials] == list(range(len(study.trials)))
    assert {trial.state for trial in study.trials} <= {TrialState.COMPLETE, TrialState.PRUNED}
    assert len({trial.params["learning_rate"] for trial in study.trials}) == len(study.trials)
    # Each has done some of them
    lines = [[line for line in output.splitlines() if "] Trial " in line] for output in outputs]
    assert all(lines)
    assert sum(map(len, lines)) == len(study.trials)

    best = study.best_trial.number
    run(tmp_path, *study_arguments, "--trial-id", str(best), "-n", "10", "--eval-freq", "-1", "-f", "again", *SMALL)
    (path,) = (tmp_path / "again" / "ddpgfd").glob(f"{ENV_ID}_*")
    saved = yaml.load((path / ENV_ID / "config.yml").read_text(), Loader=yaml.UnsafeLoader)
    for name, value in CONVERTERS["ddpgfd"](study.best_trial.params).items():
        assert saved[name] == value, name


@pytest.fixture(scope="module")
def sqlite_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a study of 2 trials in a database."""
    folder = tmp_path_factory.mktemp("sqlite")
    arguments = ["--storage", "sqlite:///study.db", "--study-name", "s", "--n-trials", "2", "--seed", "1"]
    output = run(folder, *OPTIMIZE, *arguments, "--pruner", "none", *SMALL)
    assert "Number of finished trials:  2" in output
    assert "stopped" not in output, "a trial was pruned by an exception"
    return folder


def test_the_report_of_a_study_is_written(sqlite_folder: Path) -> None:
    (path,) = (sqlite_folder / "logs" / "ddpgfd").glob(f"report_{ENV_ID}_2-trials-60-random-none_*.csv")
    study = optuna.load_study(study_name="s", storage=f"sqlite:///{sqlite_folder}/study.db")
    report = pd.read_csv(path)
    assert report["value"].tolist() == pytest.approx([trial.value for trial in study.trials])
    assert report["user_attrs_gamma"].tolist() == pytest.approx([1 - t.params["one_minus_gamma"] for t in study.trials])
    assert path.with_suffix(".pkl").is_file()


@pytest.mark.parametrize("number", [0, 1])
def test_any_trial_of_a_database_can_be_trained(sqlite_folder: Path, number: int) -> None:
    study_arguments = ["--storage", "sqlite:///study.db", "--study-name", "s", "--trial-id", str(number)]
    run(sqlite_folder, *study_arguments, "-n", "10", "--eval-freq", "-1", *SMALL)
    # The first folder is that of the study
    saved = saved_config(sqlite_folder, number + 2)
    trial = optuna.load_study(study_name="s", storage=f"sqlite:///{sqlite_folder}/study.db").trials[number]
    expected = CONVERTERS["ddpgfd"](trial.params)
    assert {name: saved[name] for name in expected} == expected
    assert (saved["pretrain_steps"], saved["gradient_steps"]) == (2, 1)


def test_a_study_in_memory_prunes_trials(tmp_path: Path) -> None:
    arguments = ["--n-trials", "6", "--seed", "2", "--pruner", "median", "--n-startup-trials", "1", *SMALL]
    output = run(tmp_path, *OPTIMIZE, *arguments)
    (path,) = (tmp_path / "logs" / "ddpgfd").glob("report_*.csv")
    states = pd.read_csv(path)["state"].value_counts()
    assert states.sum() == 6
    assert states["PRUNED"] >= 1
    assert states["COMPLETE"] >= 1
    assert output.count(" pruned. ") == states["PRUNED"]
