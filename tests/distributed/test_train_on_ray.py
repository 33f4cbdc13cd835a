"""``sb3-pgfd train`` with environments and trials in Ray's workers."""

import warnings
from pathlib import Path

import numpy as np
import optuna
import pytest
import ray
import yaml
from command import call, refused
from optuna.trial import TrialState

ENV_ID = "Pendulum-v1"
SMALL = ["pretrain_steps:2", "batch_size:8", "learning_starts:10", "policy_kwargs:dict(net_arch=[4])"]
TRAIN = ["--algo", "ddpgfd", "--env", ENV_ID, "--eval-freq", "-1", "--device", "cpu", "--seed", "3", "--verbose", "0"]
FEW_CPUS = ["n_envs:2", "vec_env_kwargs:dict(envs_per_worker=2, num_cpus=0.5)"]


def test_a_run_with_environments_in_ray_is_resumed_inside_its_episodes(
    cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    call(capsys, "train", *TRAIN, "--vec-env", "ray", "-n", "300", "-params", *SMALL, *FEW_CPUS)
    run = Path("logs", "ddpgfd", f"{ENV_ID}_1")
    config = yaml.load((run / ENV_ID / "config.yml").read_text(), Loader=yaml.UnsafeLoader)
    assert config["vec_env"] == "ray"
    with warnings.catch_warnings():
        # Episodes that could not go on would be a warning
        warnings.filterwarnings("error", "resume")
        said = call(capsys, "train", "--resume", str(run), "-n", "450")
    assert "Going on after 300 steps" in said
    # Two environments have taken 225 steps each, in episodes of 200
    lengths = [(run / f"{i}.monitor.csv").read_text().splitlines()[2:] for i in (0, 1)]
    assert [[row.split(",")[1] for row in rows] for rows in lengths] == [["200"], ["200"]]


def test_evaluations_reserve_nothing(
    cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    # Learning takes all that there is, and would wait for ever
    all_of_them = f"vec_env_kwargs:dict(num_cpus={ray.cluster_resources()['CPU']}, start_timeout=60)"
    evaluated = ["--eval-freq", "10", "--eval-episodes", "1"]
    call(capsys, "train", *TRAIN, *evaluated, "--vec-env", "ray", "-n", "20", "-params", *SMALL, all_of_them)
    timesteps = np.load(Path("logs", "ddpgfd", f"{ENV_ID}_1", "evaluations.npz"))["timesteps"]
    assert timesteps.tolist() == [0, 10, 20]


def test_workers_of_ray_do_the_trials_of_a_search(
    cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    study = ["--storage", "sqlite:///study.db", "--study-name", "shared", "--max-total-trials", "2"]
    options = ["-optimize", "-n", "30", "--n-evaluations", "1", "--eval-episodes", "1", "--no-optim-plots"]
    said = call(capsys, "train", *TRAIN, *options, *study, "--ray-workers", "1", "-params", *SMALL[:2], SMALL[3])
    assert "Best trial" in said
    trials = optuna.load_study(storage="sqlite:///study.db", study_name="shared").trials
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 2


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (["-params", "vec_env:'rai'"], "vec_env: found 'rai', expected one of dummy, subproc, ray, ray-collector", 1),
        (["--ray-workers", "2"], "the following arguments are required: -optimize", 2),
        (["--ray-workers", "2", "--seeds", "0"], "--ray-workers: found --seeds, expected none: trials draw their own", 1),
        (
            ["--ray-workers", "2", "--control-hz", "5"],
            "--ray-workers: found --control-hz, expected none: several trials cannot share one robot",
            1,
        ),
        (["--resume", "logs", "--vec-env", "ray"], "--vec-env: found it with --resume logs, which has its own", 1),
    ],
)
def test_options_that_do_not_fit_are_refused(
    arguments: list[str], message: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    # What they share with others has a --seed
    own = arguments if {"--resume", "--seeds"} & set(arguments) else [*TRAIN, *arguments]
    assert message in refused(capsys, "train", *own, code=code)
