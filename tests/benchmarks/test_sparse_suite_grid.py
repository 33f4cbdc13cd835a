"""The grid of benchmarks/sparse_suite, and the files that several processes write."""

import json
import os
import signal
import subprocess
import sys
import time
from multiprocessing.pool import ThreadPool
from pathlib import Path

import pytest

from benchmarks.learning import read_results, replace_results
from benchmarks.sparse_suite import grid
from benchmarks.sparse_suite.cells import MAIN_ROWS, Selection, make_run, runs_of_grid, status_of
from benchmarks.sparse_suite.methods import METHODS
from benchmarks.sparse_suite.results import BENCHMARKS, Cell, failures_file, fingerprint, locked, store, store_failure
from benchmarks.sparse_suite.tasks import TASKS
from sb3_pgfd.distributed import Job, run_jobs

TINY = ["--steps", "60", "--eval-freq", "30", "--eval-episodes", "2"]


def row(steps: int, success: float = 0.5, config: str = "c") -> dict[str, object]:
    return {"steps": steps, "success": success, "config": config}


def test_the_first_seed_of_everything_comes_first():
    cells = [run.cell for run in runs_of_grid(Selection())]
    assert len(set(cells)) == len(cells)
    seeds = [cell.seed for cell in cells]
    assert seeds == sorted(seeds)
    first = [cell for cell in cells if cell.seed == seeds[0]]
    n_rows = len(MAIN_ROWS)
    assert cells[:n_rows] == [Cell(task.name, "td3fd", demos, seeds[0]) for task, demos in MAIN_ROWS]
    # All seeds are alike, but for the expert's, which changes nothing
    assert len(cells) == 5 * len(first) - 4 * sum(cell.method == "expert" for cell in first)
    # Of 1, 3 and 10 demonstrations on all tasks, the main comparison has a number for each row
    assert sum(cell.method == "bc" for cell in first) == 3 * len(TASKS) + sum(demos == 5 for _, demos in MAIN_ROWS)
    assert {cell.seed for cell in (run.cell for run in runs_of_grid(Selection(n_seeds=2)))} == set(seeds[:1]) | {seeds[0] + 1}


def test_methods_run_where_they_can_and_with_demonstrations_if_they_use_them():
    for run in runs_of_grid(Selection(parts=["main"])):
        assert run.method.is_for(run.task)
        assert run.cell.demos in (run.task.demos if run.method.uses_demonstrations else (0,))
        assert run.last_step == (20_000 if run.method.interacts else 0)
    assert {run.cell.demos for run in runs_of_grid(Selection(parts=["few"], methods=["bc"]))} == {1, 3, 10}


def test_a_part_of_the_grid_is_chosen():
    runs = runs_of_grid(Selection(tasks=["assembly"], methods=["td3", "a2cfd"], n_seeds=2, parts=["main"]))
    assert [run.cell for run in runs] == [Cell("assembly", "td3", 0, seed) for seed in (100, 101)]


def test_what_is_done_is_told_from_what_is_not():
    done, other, failed, missing = (make_run("assembly", "td3", seed) for seed in range(4))
    rows = [{**done.cell.columns, **row(steps, config=done.config)} for steps in (0, 20_000)]
    rows += [{**other.cell.columns, **row(20_000, config="before")}]
    failures = [{**failed.cell.columns, "steps": 5_000.0, "error": "ValueError: no"}]
    status = status_of([done, other, failed, missing], rows, failures)
    assert status == {
        "finished": ["assembly td3, 0 demonstrations, seed 0"],
        "other settings": ["assembly td3, 0 demonstrations, seed 1"],
        "failed": ["assembly td3, 0 demonstrations, seed 2: ValueError: no (after 5,000 steps)"],
        "missing": ["assembly td3, 0 demonstrations, seed 3"],
    }


def test_settings_have_a_fingerprint():
    settings = METHODS["sac_her"].settings
    assert fingerprint(settings) == fingerprint(dict(reversed(list(settings.items()))))
    assert fingerprint(settings) != fingerprint({**settings, "batch_size": 1})
    # With the schedule of evaluations, the fingerprint of a run is another one
    assert make_run("assembly", "td3", 0).config != make_run("assembly", "td3", 0, n_episodes=3).config


def test_rows_of_a_cell_take_the_place_of_its_old_ones(tmp_path: Path):
    path, cells = tmp_path / "results.csv", [Cell("assembly", "td3", 0, seed) for seed in (0, 1)]
    replace_results(path, cells[0].columns, [{"steps": 0, "success": "0.1250", "config": "old"}])
    store(path, cells[1], [row(0), row(5)])
    assert "0.1250" in path.read_text()
    store(path, cells[0], [row(0, 1.0)])
    assert [(r["seed"], r["steps"], r["success"]) for r in read_results(path)] == [(1, 0, 0.5), (1, 5, 0.5), (0, 0, 1.0)]
    store_failure(path, cells[0], 5, "first\nlast")
    store_failure(path, cells[1], 0, "first")
    assert [r["error"] for r in read_results(failures_file(path))] == ["first last", "first"]
    store(path, cells[0], [row(0, 1.0)])
    assert [r["seed"] for r in read_results(failures_file(path))] == [1]
    store(path, cells[1], [row(0)])
    assert not failures_file(path).exists()
    assert sorted(item.name for item in tmp_path.iterdir()) == ["results.csv"]


def store_many(path: Path, seed: int) -> None:
    for number in range(10):
        store(path, Cell("assembly", "td3", number, seed), [row(0), row(5)])


def test_writers_do_not_lose_each_other_s_rows(tmp_path: Path):
    # Each writer opens the folder and locks it, so threads exclude each other like processes
    with ThreadPool(2) as pool:
        pool.starmap(store_many, [(tmp_path / "results.csv", seed) for seed in (0, 1)])
    rows = read_results(tmp_path / "results.csv")
    assert len(rows) == 40
    assert len({(r["demos"], r["seed"], r["steps"]) for r in rows}) == 40


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    return ["--results", str(tmp_path / "results.csv"), "--logs", str(tmp_path / "logs")]


def test_two_processes_run_the_grid_and_one_cell_fails(
    tmp_path: Path, files: list[str], cluster: None, capsys: pytest.CaptureFixture[str]
):
    # What a run with other settings left when it was interrupted
    broken = tmp_path / "logs" / "mountain-car" / "sac" / "demos_0" / "seed_100" / "checkpoint_30"
    broken.mkdir(parents=True)
    left = {"config": "other", "rows": [{"steps": 30}], "seconds": 1.0, "evaluation_seconds": 1.0}
    (broken / "progress.json").write_text(json.dumps(left))
    chosen = ["--tasks", "mountain-car", "--methods", "td3", "sac", "expert", "--seeds", "1", "--part", "main", *files, *TINY]
    assert grid.main([*chosen, "--processes", "2"]) == 1
    said = capsys.readouterr().out
    assert "3 cells, 3 to run" in said
    assert "failed: mountain-car sac, 0 demonstrations, seed 100: ValueError: " in said
    assert "2 finished, 1 failed, 0 other settings, 0 missing" in said
    rows = read_results(tmp_path / "results.csv")
    assert sorted((r["method"], r["steps"]) for r in rows) == [("expert", 0), ("td3", 0), ("td3", 30), ("td3", 60)]
    assert "with other settings" in read_results(failures_file(tmp_path / "results.csv"))[0]["error"]
    # It is no longer in the way
    (broken / "progress.json").unlink()
    broken.rmdir()
    assert grid.main(chosen) == 0
    said = capsys.readouterr().out
    assert "3 cells, 1 to run" in said
    assert "3 finished, 0 failed" in said


def test_whoever_ends_the_grid_ends_its_cells_and_nothing_has_failed(tmp_path: Path, files: list[str]):
    command = [sys.executable, "-m", "benchmarks.sparse_suite.grid", "--tasks", "mountain-car", "--methods", "td3", *files]
    command += ["--eval-episodes", "2"]

    def hear_interrupts() -> None:
        # Of a test run in the background, which hears none, they would be ignored by the grid too
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    with subprocess.Popen(
        command, cwd=BENCHMARKS.parent, stdout=subprocess.PIPE, text=True, preexec_fn=hear_interrupts
    ) as process:
        checkpoint = tmp_path / "logs" / "mountain-car" / "td3" / "demos_0" / "seed_100" / "checkpoint_0"
        while not checkpoint.is_dir() and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "the same command continues" in said
    assert not (tmp_path / "results.csv").exists()
    assert not failures_file(tmp_path / "results.csv").exists()
    # Nobody holds the cell any more
    with locked(checkpoint.parent, wait=False):
        assert os.listdir(checkpoint.parent) == ["checkpoint_0"]


def kill_oneself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_cell_that_is_killed_is_named(tmp_path: Path, cluster: None):
    run = make_run("mountain-car", "td3", 0, results=tmp_path / "results.csv", logs=tmp_path / "logs")
    (outcome,) = run_jobs([Job("killed", kill_oneself)])
    reason = grid.error_of(run, outcome)
    assert reason is not None
    assert "worker died" in reason
    (failure,) = read_results(failures_file(run.results))
    assert run.cell.owns(failure)
    assert failure["error"] == reason


def test_the_list_runs_nothing(files: list[str], capsys: pytest.CaptureFixture[str]):
    assert grid.main(["--list", "--tasks", "assembly", "--methods", "td3", *files]) == 0
    said = capsys.readouterr().out
    assert said.count("missing: assembly td3") == 5
    assert "0 finished, 0 failed, 0 other settings, 5 missing" in said
