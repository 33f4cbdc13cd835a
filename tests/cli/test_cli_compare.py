"""``sb3-pgfd compare``."""

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import command_line
import numpy as np
import pytest
from PIL import Image
from run_folders import read_csv, write_run

compare = partial(command_line.run, command="compare")
fails = partial(command_line.fails, command="compare")
misused = partial(command_line.misused, command="compare")

CONFIG = {"demonstrations": "Pendulum-v1", "gamma": 0.98}


def result(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[dict[str, Any], list[str]]:
    """:return: The one JSON object that the command prints, and its notes"""
    assert compare(*arguments, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    return found, found.pop("notes")


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    root = tmp_path / "logs"
    write_run(root, "ddpgfd/Pendulum-v1_1", {0: -400, 100: -200, 200: -150}, config=CONFIG)
    write_run(root, "ddpgfd/Pendulum-v1_2", {0: -600, 100: -180, 200: -160}, config=CONFIG)
    write_run(root, "sac/Pendulum-v1_1", {100: -900, 200: -700})
    write_run(root, "sac/Reach-v4_1", {0: -50, 100: -10}, successes=[0, 0.5])
    return root


def test_last_values_are_printed(logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    output = tmp_path / "out.png"
    found, notes = result(capsys, logs, "-o", output)
    assert notes == []
    assert (found["picture"], found["csv"]) == (str(output), str(tmp_path / "out.csv"))
    assert (found["statistic"], found["confidence"], found["reps"]) == ("mean", 0.95, 2000)
    pendulum, reach = found["environments"]
    assert (pendulum["env"], reach["env"]) == ("Pendulum-v1", "Reach-v4")
    assert [item["name"] for item in pendulum["demonstrations"]] == ["Pendulum-v1"]
    assert reach["demonstrations"] == []
    ours, sac = pendulum["curves"]
    folders = ours.pop("runs")
    assert [Path(folder).name for folder in folders] == ["Pendulum-v1_1", "Pendulum-v1_2"]
    # The packaged demonstrations return -199 on average
    assert ours == {
        "label": "ddpgfd",
        "n_seeds": 2,
        "timesteps": 200,
        "return": -155,
        "return_low": -160,
        "return_high": -150,
        "success": None,
        "success_low": None,
        "success_high": None,
        "demonstrations_reached_at": 100,
    }
    assert (sac["return"], sac["return_low"], sac["demonstrations_reached_at"]) == (-700, None, None)
    assert (reach["curves"][0]["success"], reach["curves"][0]["return"]) == (0.5, -10)


def test_the_table_for_people_has_the_same(logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert compare(logs, "-o", tmp_path / "out.png", "--statistic", "median") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("At the end, median over seeds")
    assert [" ".join(line.split()) for line in lines[1:6]] == [
        "environment label seeds steps return 95 % success 95 % reached at",
        "Pendulum-v1 ddpgfd 2 200 -155 -160 to -150 (range of 2) - - 100",
        "Pendulum-v1 sac 1 200 -700 - - - -",
        "Pendulum-v1 demonstrations -199.1 -",
        "Reach-v4 sac 1 100 -10 - 50% - -",
    ]
    assert lines[-2:] == [f"picture: {tmp_path / 'out.png'}", f"numbers: {tmp_path / 'out.csv'}"]


def test_the_csv_ends_with_what_is_printed(logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    found, _ = result(capsys, logs, "-o", tmp_path / "out.png", "--confidence", 0.5, "--reps", 100)
    rows = read_csv(tmp_path / "out.csv")
    for env in found["environments"]:
        for curve in env["curves"]:
            last = [row for row in rows if (row["env"], row["label"]) == (env["env"], curve["label"])][-1]
            for name in ("return", "return_low", "return_high", "success", "success_low", "success_high"):
                assert last[name] == ("" if curve[name] is None else str(curve[name]))


def test_runs_are_chosen(logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    options = ("-o", tmp_path / "out.png", "--force")
    found, _ = result(capsys, logs, *options, "--env", "x:Pendulum-v1", "--algos", "SAC", "--max-timesteps", 150)
    assert [(env["env"], len(env["curves"])) for env in found["environments"]] == [("Pendulum-v1", 1)]
    assert found["environments"][0]["curves"][0]["timesteps"] == 100
    assert "expected some of Pendulum-v1, Reach-v4" in misused(capsys, logs, *options, "--env", "Pendulum-v0")
    assert "--algos: found no run of td3, expected some of ddpgfd, sac" in misused(capsys, logs, *options, "--algos", "td3")


def test_labels_draw_runs_apart(logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folders = [logs / "ddpgfd" / f"Pendulum-v1_{number}" for number in (1, 2)]
    found, _ = result(capsys, *folders, "-o", tmp_path / "out.png", "--labels", "first", "second")
    assert [curve["label"] for curve in found["environments"][0]["curves"]] == ["first", "second"]
    assert "--labels: found 1, expected 2" in misused(capsys, *folders, "--labels", "one")


def test_other_demonstrations_can_be_named(logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    options = ("-o", tmp_path / "out.png", "--force", "--demonstrations", "MountainCarContinuous-v0")
    found, _ = result(capsys, logs, "--env", "Pendulum-v1", *options)
    assert [item["name"] for item in found["environments"][0]["demonstrations"]] == ["MountainCarContinuous-v0"]
    assert "expected one of Pendulum-v1, Reach-v4: choose it with --env" in fails(capsys, logs, *options)


def test_damaged_runs_are_noted(logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (logs / "sac" / "Reach-v4_1" / "evaluations.npz").write_bytes(b"nothing")
    found, notes = result(capsys, logs, "-o", tmp_path / "out.png")
    assert [env["env"] for env in found["environments"]] == ["Pendulum-v1"]
    assert len(notes) == 1
    assert notes[0].startswith("left out: ")
    assert "Reach-v4_1" in notes[0]
    assert compare(logs, "-o", tmp_path / "out.png", "--force") == 0
    assert f"note: {notes[0]}\n" in capsys.readouterr().out


def test_nothing_is_written_if_something_is_wrong(logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    output = tmp_path / "out.png"
    assert "no such folder" in fails(capsys, tmp_path / "missing", "-o", output)
    assert "found no run to compare" in fails(capsys, logs / "sac" / "Reach-v4_1" / "Reach-v4", "-o", output)
    assert "left out: sac in Pendulum-v1" in fails(
        capsys, logs / "sac", "--env", "Pendulum-v1", "--max-timesteps", 1, "-o", output
    )
    assert "nonsense" in fails(capsys, logs, "--demonstrations", "nonsense", "-o", output)
    assert "found the ending '.csv'" in fails(capsys, logs, "-o", tmp_path / "out.csv")
    assert "confidence=95.0" in fails(capsys, logs, "--confidence", "95", "-o", output)
    assert "invalid int value" in misused(capsys, logs, "--reps", "x", "-o", output)
    assert list(tmp_path.iterdir()) == [logs]


def test_files_are_kept_without_force(logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for name in ("out.csv", "out.png"):
        (tmp_path / name).write_text("precious")
        assert f"{name}: found a file" in fails(capsys, logs, "-o", tmp_path / "out.png")
        assert (tmp_path / name).read_text() == "precious"
    assert compare(logs, "-o", tmp_path / "out.png", "--force") == 0
    assert all((tmp_path / name).read_bytes() != b"precious" for name in ("out.csv", "out.png"))


def test_the_installed_command_draws(logs: Path, tmp_path: Path):
    python = os.environ.get("SB3_PGFD_PYTHON", sys.executable)
    command = [python, "-m", "sb3_pgfd", "compare", "logs", "--title", "ours and theirs"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=logs.parent)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-2:] == ["picture: comparison.png", "numbers: comparison.csv"]
    with Image.open(tmp_path / "comparison.png") as image:
        assert np.asarray(image.convert("L")).std() > 10
    rows = read_csv(tmp_path / "comparison.csv")
    assert [float(row["return"]) for row in rows] == [-500, -190, -155, -900, -700, -50, -10]
    assert [row["return_low"] for row in rows[3:]] == [""] * 4
