"""The report of benchmarks/sparse_suite: numbers by hand, and what it says of an unfinished grid."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from stable_baselines3.common.vec_env import VecNormalize
from toy_task import TOY

from benchmarks.learning import replace_results
from benchmarks.sparse_suite import report
from benchmarks.sparse_suite.cells import Selection, make_run, runs_of_grid
from benchmarks.sparse_suite.evaluation import Evaluator
from benchmarks.sparse_suite.figures import rows_with_results
from benchmarks.sparse_suite.methods import ScriptedModel
from benchmarks.sparse_suite.results import Cell, store_failure
from benchmarks.sparse_suite.scores import Estimate, Outcome, curve_of, estimate, outcomes_of, select
from benchmarks.sparse_suite.tasks import TASKS


def rows_of(task: str, method: str, seed: int, successes: Sequence[float], demos: int | None = None) -> list[dict[str, Any]]:
    """One evaluation every 5,000 steps, a minute of learning and half a minute of evaluating up to each."""
    run = make_run(task, method, seed, demos)
    return [
        {
            **run.cell.columns,
            "steps": 5_000 * k,
            "success": success,
            "mean_return": 0.0,
            "length": 1.0,
            "seconds": 60.0 * k,
            "evaluation_seconds": 30.0 * k,
            "updates": 0,
            "config": run.config,
        }
        for k, success in enumerate(successes)
    ]


def outcome(successes: Sequence[float], steps: Sequence[float] | None = None) -> Outcome:
    at = 5_000 * np.arange(len(successes)) if steps is None else np.array(steps)
    return Outcome(Cell("assembly", "td3fd", 10, 0), at, np.array(successes), 1.0)


def test_the_score_is_the_mean_of_the_last_three_evaluations_up_to_a_step():
    run = outcome([0.0, 0.1, 0.4, 0.5, 0.9])
    assert run.score() == pytest.approx(0.6)
    assert run.score(15_000) == pytest.approx((0.1 + 0.4 + 0.5) / 3)
    # Evaluated once, it takes no steps
    assert outcome([0.4]).score(30_000) == 0.4


def test_steadiness_is_the_lowest_evaluation_after_the_first_good_one():
    run = outcome([0.0, 0.5, 0.9, 1.0, 0.6, 0.8])
    assert (run.first_good(), run.lowest_after_good()) == (10_000, 0.6)
    assert (outcome([0.0, 0.8]).first_good(), outcome([0.0, 0.8]).lowest_after_good()) == (None, None)
    # Nothing comes after it
    assert (outcome([0.0, 0.9]).first_good(), outcome([0.0, 0.9]).lowest_after_good()) == (5_000, None)


def test_the_interquartile_mean_leaves_out_the_best_and_the_worst_of_four():
    found = estimate([0.0, 0.7, 0.5, 1.0])
    assert found is not None
    assert found.value == pytest.approx(0.6)
    assert 0.0 <= found.low < found.value < found.high <= 1.0
    assert (estimate([0.2, 0.3, 0.7]) or found).value == pytest.approx(0.4)
    assert str(estimate([0.5] * 5)) == "0.50 [0.50, 0.50]"
    assert str(estimate([0.25, 0.5, 0.75])) == "0.50 (range of 3 seeds: 0.25 to 0.75)"
    assert str(estimate([0.25])) == "0.25"
    assert estimate([]) is None


def test_a_curve_has_the_steps_that_all_seeds_have():
    steps, estimates = curve_of([outcome([0.0, 0.2, 0.4]), outcome([0.4, 0.8], [0, 10_000])])
    assert steps.tolist() == [0, 10_000]
    assert [item.value for item in estimates] == pytest.approx([0.2, 0.6])
    assert estimates[0].n_seeds == 2


def test_outcomes_are_read_in_the_order_of_steps():
    rows = rows_of("assembly", "td3fd", 1, [0.1, 0.2, 0.3])
    (found,) = outcomes_of(rows[::-1])
    assert (found.cell, found.steps.tolist()) == (Cell("assembly", "td3fd", 3, 1), [0, 5_000, 10_000])
    assert (found.successes.tolist(), found.seconds) == ([0.1, 0.2, 0.3], 180.0)
    assert select([found], "assembly", "td3fd", 3) == [found]
    assert select([found], "assembly", "td3fd", 10) == []


def test_outcomes_are_in_the_order_of_seeds_whichever_ended_first():
    rows = [row for seed in (2, 0, 1) for row in rows_of("assembly", "td3fd", seed, [seed / 10])]
    assert [(found.cell.seed, found.score()) for found in outcomes_of(rows)] == [(0, 0.0), (1, 0.1), (2, 0.2)]


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The report of three methods on one task, and of the expert; everything else is missing."""
    path, rows = tmp_path_factory.mktemp("report") / "sparse_suite.csv", []
    for seed, last in enumerate((0.9, 1.0, 0.95), 100):
        rows += rows_of("peg-insert-side", "td3fd", seed, [0.9, 0.8, last, last, last])
        rows += rows_of("peg-insert-side", "td3fd", seed, [0.0] * 5, demos=10)
        rows += rows_of("peg-insert-side", "bc", seed, [0.3])
    rows += rows_of("peg-insert-side", "expert", 100, [0.98])
    rows += rows_of("peg-insert-side", "td3fd_no_bc", 100, [0.0, 0.0, 0.3])
    # They belong to no table: a seed that settings were chosen on, other settings, and a run that is not finished
    rows += rows_of("peg-insert-side", "td3fd", 0, [1.0] * 5)
    rows += [{**row, "config": "other"} for row in rows_of("peg-insert-side", "td3fd", 103, [1.0] * 5)]
    rows += rows_of("peg-insert-side", "td3fd", 104, [1.0] * 3)
    replace_results(path, {}, rows)
    store_failure(path, Cell("assembly", "td3", 0, 102), 5_000, "ValueError: broken")
    return report.report(path)


def cells_of(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def test_tables_and_pictures_come_from_the_csv_alone(said: str):
    scores, steadiness, few, ablation, figures, *_ = said.split("\n\n")
    header, _, *lines = cells_of(scores)
    assert header == ["task", "demonstrations", "TD3fD", "behaviour cloning", "the expert"]
    # Those with results alone; ten demonstrations belong to another table
    assert [line[:2] for line in lines] == [["SparsePegInsertSide-v3", "3"]]
    peg = dict(zip(header, next(line for line in lines if line[:2] == ["SparsePegInsertSide-v3", "3"]), strict=True))
    assert peg["TD3fD"] == "0.95 (range of 3 seeds: 0.90 to 1.00)"
    assert (peg["behaviour cloning"], peg["the expert"]) == ("0.30 (range of 3 seeds: 0.30 to 0.30)", "0.98")
    assert cells_of(steadiness)[2:] == [
        ["SparsePegInsertSide-v3, 3", "0.90, 1.00, 0.95", "0, 0, 0", "0.80, 0.80, 0.80", "6.0, 6.0, 6.0"]
    ]
    columns = cells_of(few)[0]
    assert columns[1:4] == ["TD3fD, 1", "TD3fD, 3", "TD3fD, 10"]
    peg = dict(zip(columns, next(line for line in cells_of(few) if line[0] == "SparsePegInsertSide-v3"), strict=True))
    assert (peg["TD3fD, 1"], peg["TD3fD, 10"]) == ("", "0.00 (range of 3 seeds: 0.00 to 0.00)")
    assert ["no cloning loss, proposals stay", "0.10", ""] in cells_of(ablation)
    paths = [Path(line.removeprefix("Figure: ")) for line in figures.splitlines()]
    assert [path.name for path in paths] == [
        f"sparse_suite{name}.png" for name in ("", "_scores", "_demonstrations", "_ablation")
    ]
    for path in paths:
        with Image.open(path) as picture:
            assert min(picture.size) > 300
            assert len(picture.convert("RGB").getcolors(1_000_000) or ()) > 50


def test_every_cell_that_failed_or_is_missing_is_named(said: str):
    assert "failed, 1 cells:\n  assembly td3, 0 demonstrations, seed 102: ValueError: broken (after 5,000 steps)" in said
    assert "  mountain-car td3fd, 1 demonstrations, seed 100\n" in said
    assert "  peg-insert-side td3fd_no_bc, 3 demonstrations, seed 101\n" in said
    assert "  peg-insert-side td3fd, 10 demonstrations, seed 102\n" not in said
    n_cells = len(runs_of_grid(Selection()))
    # A run that is not finished counts as one of other settings
    assert said.endswith(f"11 finished, 1 failed, 2 other settings, {n_cells - 14} missing")
    assert "The longest cell took 6.0 minutes of one core: peg-insert-side td3fd" in said


def test_the_tables_of_a_readme_are_replaced_and_nothing_else(tmp_path: Path):
    readme, results = tmp_path / "README.md", tmp_path / "results.csv"
    replace_results(results, {}, rows_of("assembly", "td3fd", 100, [0.25] * 5))
    old = "".join(f"Before:\n\n<!-- report.py: {name} -->\n| old |\n| --- |\n| 0 |\n\nAfter.\n" for name in report.TABLES)
    readme.write_text(old)
    tables = report.report(results, readme=readme).split("\n\n")[:4]
    assert readme.read_text() == "".join(
        f"Before:\n\n<!-- report.py: {name} -->\n{table}\n\nAfter.\n"
        for name, table in zip(report.TABLES, tables, strict=True)
    )
    assert "| 0.25 |" in readme.read_text()


def test_rows_are_those_that_a_method_has_learned_from_in_the_order_of_the_grid():
    learned = [("assembly", "td3fd", 3), ("mountain-car", "bc", 1), ("fetch-push", "td3fd", 10), ("fetch-push", "bc", 10)]
    others = [("peg-insert-side", "td3fd", 10), ("peg-insert-side", "expert", 0), ("peg-insert-side", "td3fd_no_bc", 3)]
    outcomes = [Outcome(Cell(*cell, 100), np.array([0]), np.array([0.5]), 1.0) for cell in learned + others]
    assert [(task.name, demos) for task, demos in rows_with_results(outcomes)] == [
        ("mountain-car", 1),
        ("fetch-push", 10),
        ("assembly", 3),
    ]


def test_a_part_of_the_tables_may_be_made_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    results, readme = tmp_path / "results.csv", tmp_path / "README.md"
    rows = rows_of("assembly", "td3fd", 100, [0.25] * 5)
    replace_results(results, {}, rows + rows_of("peg-insert-side", "td3fd_no_layer_norm", 100, [0.0, 0.3, 0.6]))
    readme.write_text("<!-- report.py: ablation -->\n")
    report.main(["--results", str(results), "--readme", str(readme), "--tables", "ablation"])
    # Changes that have not run have no row
    assert [row[:2] for row in cells_of(readme.read_text().split("\n", 1)[1])[2:]] == [["TD3fD", ""], ["no LayerNorm", "0.30"]]
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["results_ablation.png"]
    assert "Figure" in capsys.readouterr().out


def test_a_table_may_be_the_last_thing_or_have_none_before_it():
    text = "<!-- report.py: a -->\nNo table yet.\n<!-- report.py: b -->\n| old |\n"
    new = "<!-- report.py: a -->\n| 1 |\nNo table yet.\n<!-- report.py: b -->\n| 2 |\n| 3 |\n"
    assert report.with_tables(text, {"a": "| 1 |", "b": "| 2 |\n| 3 |"}) == new


def test_a_readme_without_a_place_for_a_table_is_left_as_it_is(tmp_path: Path):
    readme = tmp_path / "README.md"
    readme.write_text(text := "<!-- report.py: scores -->\n| old |\n")
    with pytest.raises(ValueError, match=r"found no line .* steadiness"):
        report.report(tmp_path / "results.csv", readme=readme)
    assert readme.read_text() == text


def test_nothing_yet_is_a_report_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    report.main(["--results", str(tmp_path / "none.csv"), "--seeds", "1"])
    n_cells = len(runs_of_grid(Selection(n_seeds=1)))
    assert capsys.readouterr().out.endswith(f"0 finished, 0 failed, 0 other settings, {n_cells} missing\n")


class Rightwards:
    """Half speed to the right."""

    num_timesteps = 0

    def predict(self, observation: np.ndarray, *, deterministic: bool) -> tuple[np.ndarray, None]:
        return np.full((len(observation), 1), 1.0, dtype=np.float32), None

    def get_vec_normalize_env(self) -> VecNormalize | None:
        return None


@pytest.mark.parametrize("n_episodes", [1, 5])
def test_starts_are_always_the_same_however_many_environments_there_are(n_episodes: int):
    evaluator = Evaluator(TOY, n_episodes, 10_000)
    assert len(evaluator.envs) == min(2, n_episodes)
    lengths, successes = [], []
    env = TOY.make_env()
    for episode in range(n_episodes):
        env.reset(seed=10_000 + episode)
        length, over = 0, False
        while not over:
            _, _, terminated, truncated, _ = env.step(np.ones(1, dtype=np.float32))
            length, over = length + 1, terminated or truncated
        lengths.append(length)
        successes.append(terminated)
    for _ in range(2):
        found = evaluator.evaluate(Rightwards())
        assert found.lengths.tolist() == lengths
        assert found.successes.tolist() == found.returns.tolist() == [float(success) for success in successes]
    assert found.row()["length"] == pytest.approx(np.mean(lengths), abs=0.005)
    evaluator.close()


@pytest.mark.parametrize("task", ["mountain-car", "maze-medium", "fetch-push", "assembly"])
def test_the_experts_solve_their_tasks(task: str):
    evaluator = Evaluator(TASKS[task], 3, 10_000)
    found = evaluator.evaluate(ScriptedModel(TASKS[task]))
    evaluator.close()
    assert found.successes.tolist() == [1.0] * 3


def test_an_estimate_of_one_seed_has_no_interval():
    assert str(Estimate(0.5, 0.5, 0.5, 1)) == "0.50"
