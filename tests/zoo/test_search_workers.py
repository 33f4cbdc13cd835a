"""``-optimize`` as a user runs it: two workers on one study, and training with its best trial."""

import os
import subprocess
import sys
from pathlib import Path

import optuna
import yaml
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from sb3_pgfd.zoo.hyperparameters import merge
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


def test_two_workers_share_a_journal_without_losing_a_trial(tmp_path: Path) -> None:
    study_arguments = ["--storage", "study.log", "--study-name", "shared"]
    # They must not try the same, also with the same seed
    arguments = [*OPTIMIZE, *study_arguments, "--max-total-trials", "4", "--seed", "1", *SMALL]
    workers = [start(tmp_path, *arguments) for _ in range(2)]
    outputs = [finish(worker) for worker in workers]
    study = optuna.load_study(study_name="shared", storage=JournalStorage(JournalFileBackend(str(tmp_path / "study.log"))))
    # The last two may begin at the same moment
    assert len(study.trials) in (4, 5)
    assert [trial.number for trial in study.trials] == list(range(len(study.trials)))
    assert {trial.state for trial in study.trials} <= {TrialState.COMPLETE, TrialState.PRUNED}
    assert len({trial.params["learning_rate"] for trial in study.trials}) == len(study.trials)
    # Each worker has done some of them
    lines = [[line for line in output.splitlines() if "] Trial " in line] for output in outputs]
    assert all(lines)
    assert sum(map(len, lines)) == len(study.trials)

    best = study.best_trial.number
    run(tmp_path, *study_arguments, "--trial-id", str(best), "-n", "10", "--eval-freq", "-1", "-f", "again", *SMALL)
    (path,) = (tmp_path / "again" / "ddpgfd").glob(f"{ENV_ID}_*")
    saved = yaml.load((path / ENV_ID / "config.yml").read_text(), Loader=yaml.UnsafeLoader)
    expected = merge(CONVERTERS["ddpgfd"](study.best_trial.params), {"policy_kwargs": {"net_arch": [16]}})
    assert {name: saved[name] for name in expected} == expected
