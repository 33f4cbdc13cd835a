"""Jobs as tasks of Ray, and studies made of them."""

import csv
import re
from pathlib import Path

import pytest
import yaml

from sb3_pgfd.cli import main
from sb3_pgfd.cli.study import Grid
from sb3_pgfd.comparison import find_runs
from sb3_pgfd.comparison.references import find_references
from sb3_pgfd.distributed import Job, run_jobs

SMALL = {"pretrain_steps": 2, "batch_size": 8, "learning_starts": 10, "policy_kwargs": {"net_arch": [4]}}
ARGUMENTS = ["--eval-freq", "30", "--eval-episodes", "1", "--device", "cpu", "--num-threads", "1", "--verbose", "0"]


def divide(folder: str, numbers: list[int]) -> float:
    """Note each try, and divide the first number by the second."""
    with Path(folder, "tries.txt").open("a") as file:
        file.write("try\n")
    return numbers[0] / numbers[1]


def test_a_job_is_tried_again_and_then_its_error_is_named(cluster: None, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("good", "bad")]
    for folder in folders:
        folder.mkdir()
    jobs = [
        Job(folder.name, divide, (str(folder), numbers)) for folder, numbers in zip(folders, ([6, 3], [1, 0]), strict=True)
    ]
    outcomes = {outcome.job.name: outcome for outcome in run_jobs(jobs, retries=1, num_cpus=0.5)}
    assert outcomes["good"].value == 2.0
    assert outcomes["bad"].reason == "ZeroDivisionError: division by zero"
    assert [len((folder / "tries.txt").read_text().split()) for folder in folders] == [1, 2]


def write_grid(folder: Path, **changes: object) -> str:
    grid = {"tasks": ["Pendulum-v1"], "algorithms": ["ddpgfd"], "settings": {"small": SMALL}, "n_timesteps": 60, "retries": 0}
    path = folder / "grid.yml"
    path.write_text(yaml.safe_dump({**grid, "num_cpus": 0.5, "arguments": ARGUMENTS, **changes}))
    return str(path)


def test_a_study_runs_each_cell_once_and_names_those_that_fail(
    cluster: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = write_grid(tmp_path, settings={"small": SMALL, "broken": {**SMALL, "tau": 3.0}})
    command = ["study", grid, "-f", str(tmp_path / "study")]
    assert main(command) == 1
    said = capsys.readouterr()
    assert "2 cells, 2 to run" in said.out
    assert "tau: found 3.0, expected 0 to 1" in said.out
    assert said.err == "sb3-pgfd: 1 of 2 cells failed: Pendulum-v1 ddpgfd broken, seed 0\n"
    with (tmp_path / "study" / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["setting"], row["timesteps"], row["success"]) for row in rows] == [("small", f"{n}", "") for n in (0, 30, 60)]

    runs, _ = find_runs([tmp_path / "study" / "results.csv"])
    assert [(run.env, run.label, run.seed, run.timesteps.tolist()) for run in runs] == [
        ("Pendulum-v1", "ddpgfd", 0, [0.0, 30.0, 60.0])
    ]
    assert runs[0].returns.tolist() == [float(row["return"]) for row in rows]

    assert [(line.name, line.mean_return) for line in find_references(runs)[0]] == [
        ("Pendulum-v1", pytest.approx(-199.1, abs=0.1))
    ]
    assert [run.label for run in find_runs([tmp_path / "study"])[0]] == ["ddpgfd"]

    # What failed before its first state is tried with the settings that it has now
    write_grid(tmp_path, settings={"small": SMALL, "broken": {**SMALL, "tau": 0.3}})
    assert main(command) == 0
    assert "2 cells, 1 to run" in capsys.readouterr().out

    # The cell that is finished does not run again, and keeps its row
    write_grid(tmp_path)
    assert main(command) == 0
    assert "1 cells, 0 to run" in capsys.readouterr().out
    assert main([*command, "--list"]) == 0
    assert capsys.readouterr().out == "finished: Pendulum-v1 ddpgfd small, seed 0\n"
    write_grid(tmp_path, n_timesteps=90)
    assert main(command) == 1
    assert "found a run with other settings (cell.json), expected those of the grid" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tasks": ["Pendulum-v9"]}, "Pendulum-v9"),
        ({"setings": {}}, "setings.*did you mean 'settings'"),
        ({"settings": {"small": {"bc_coeff": 1.0}}}, "bc_coeff.*bc_coef"),
        ({"arguments": ["-params", "bc_coef:4.0"]}, "arguments: found -params, expected its options in tasks or settings"),
        ({"arguments": ["--seed=3"]}, "arguments: found --seed, expected none: the study sets it for each cell"),
        ({"arguments": ["--hyperparam", "gamma:0.5"]}, "arguments: found --hyperparam, expected its options in tasks"),
        ({"arguments": ["-conf", "my.yml"]}, "arguments: found -conf, expected it as config of the study"),
        ({"arguments": "--eval-freq 30"}, "arguments: found '--eval-freq 30', expected a list, such as"),
        ({"seeds": 1.5}, "seeds: found 1.5, expected how many, or a list of whole numbers >= 0"),
        ({"seeds": "12"}, "seeds: found '12', expected how many"),
        ({"algorithms": ["td3df"]}, r"algorithms: found \['td3df'\], expected some of .*td3fd"),
        ({"config": "nowhere.yml"}, "config: found no file .*nowhere.yml, expected a yaml of entries"),
        ({"n_timesteps": "lots"}, "n_timesteps: found 'lots', expected a whole number >= 1"),
        ({"num_cpus": "two"}, "num_cpus: found 'two', expected a number >= 0"),
        ({"tasks": {"Pendulum-v1": 3}}, "tasks: found {'Pendulum-v1': 3}, expected names, or options by name"),
    ],
)
def test_a_grid_with_unknown_names_is_refused(
    changes: dict[str, object], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["study", write_grid(tmp_path, **changes), "-f", str(tmp_path / "study")]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(message, error), error
    assert not (tmp_path / "study").exists()


def test_a_seed_that_is_named_twice_is_one(tmp_path: Path) -> None:
    twice = {"seeds": [3, 0, 3], "algorithms": ["ddpgfd", "ddpgfd"]}
    assert [cell.seed for cell in Grid(Path(write_grid(tmp_path, **twice))).cells] == [3, 0]


def test_numbers_may_be_written_as_yaml_reads_floats(tmp_path: Path) -> None:
    path = Path(write_grid(tmp_path))
    path.write_text(path.read_text().replace("n_timesteps: 60", "n_timesteps: !!float 1e4"))
    assert Grid(path).cells[0].arguments[-2:] == ("-n", "10000")


def test_demonstrations_of_wrappers_are_beside_the_grid(tmp_path: Path) -> None:
    (tmp_path / "mine.npz").touch()
    wrapper = {"sb3_pgfd.wrappers.StartInDemonstrations": {"demonstrations": "mine.npz"}}
    cell = Grid(Path(write_grid(tmp_path, tasks={"Pendulum-v1": {"env_wrapper": wrapper}}))).cells[0]
    assert cell.options["env_wrapper"] == {
        "sb3_pgfd.wrappers.StartInDemonstrations": {"demonstrations": str(tmp_path / "mine.npz")}
    }


def test_a_setting_changes_single_options_of_its_task(tmp_path: Path) -> None:
    tasks = {"Pendulum-v1": {"policy_kwargs": {"net_arch": [16]}, "gamma": 0.9}}
    grid = Grid(Path(write_grid(tmp_path, tasks=tasks, settings={"one": {"policy_kwargs": {"n_critics": 1}}})))
    assert [cell.options for cell in grid.cells] == [{"policy_kwargs": {"net_arch": [16], "n_critics": 1}, "gamma": 0.9}]
