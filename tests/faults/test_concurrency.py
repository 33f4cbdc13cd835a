"""Several processes that start together."""

import multiprocessing
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from sb3_pgfd.zoo import study
from sb3_pgfd.zoo.resuming import make_run_folder


def _make_folder(barrier: Any, path: str, results: Any) -> None:
    barrier.wait()
    results.put(make_run_folder(path, "Pendulum-v1"))


def test_runs_that_start_together_have_folders_of_their_own(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(8), context.Queue()
    path = str(tmp_path / "ddpgfd" / "Pendulum-v1_1")
    processes = [context.Process(target=_make_folder, args=(barrier, path, results)) for _ in range(8)]
    for process in processes:
        process.start()
    found = sorted(results.get(timeout=60) for _ in processes)
    for process in processes:
        process.join()
    assert found == [str(tmp_path / "ddpgfd" / f"Pendulum-v1_{number}") for number in range(1, 9)]
    assert all(Path(folder, "Pendulum-v1").is_dir() for folder in found)


def _open_study(barrier: Any, url: str, results: Any) -> None:
    barrier.wait()
    try:
        made = optuna.create_study(storage=study.open_database(url), study_name="shared", load_if_exists=True)
        made.optimize(lambda trial: trial.suggest_float("x", 0.0, 1.0), n_trials=2)
        results.put("lives")
    except Exception as error:
        results.put(repr(error))
        raise


def test_workers_that_start_together_on_sqlite_all_live(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(4), context.Queue()
    url = f"sqlite:///{tmp_path}/study.db"
    processes = [context.Process(target=_open_study, args=(barrier, url, results)) for _ in range(4)]
    for process in processes:
        process.start()
    assert [results.get(timeout=120) for _ in processes] == ["lives"] * 4
    for process in processes:
        process.join()
    assert len(optuna.load_study(study_name="shared", storage=url).trials) == 8


def test_the_trial_of_a_killed_worker_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "HEARTBEAT", 1)
    monkeypatch.setattr(study, "GRACE", 2)
    path = tmp_path / "study.db"
    code = f"""
import time
import optuna
from sb3_pgfd.zoo import study
study.HEARTBEAT, study.GRACE = 1, 2
made = optuna.create_study(storage=study.open_database("sqlite:///{path}"), study_name="s", load_if_exists=True)
def objective(trial):
    x = trial.suggest_float("x", 0.0, 1.0)
    print("running", flush=True)
    time.sleep(1000)
made.optimize(objective, n_trials=1)
"""
    worker = subprocess.Popen([sys.executable, "-W", "ignore", "-c", code], stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None
    assert worker.stdout.readline() == "running\n"
    # The first sign of life
    while not sqlite3.connect(path).execute("select count(*) from trial_heartbeats").fetchone()[0]:
        time.sleep(0.1)
    worker.kill()
    worker.wait()
    worker.stdout.close()
    made = optuna.load_study(storage=study.open_database(f"sqlite:///{path}"), study_name="s")
    (left,) = made.trials
    assert left.state == TrialState.RUNNING
    study.try_again(made, lambda trial: trial.suggest_float("x", 0.0, 1.0), n_trials=1)
    first, again = made.trials
    assert (first.state, again.state) == (TrialState.FAIL, TrialState.COMPLETE)
    assert again.params == left.params
