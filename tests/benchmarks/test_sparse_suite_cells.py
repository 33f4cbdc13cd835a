"""A cell of benchmarks/sparse_suite: it runs to its end, goes on after an interruption, and is not run twice."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stable_baselines3 import SAC, TD3
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import OrnsteinUhlenbeckActionNoise
from toy_task import BREAKING, TOY, TOY_WITH_GOALS, Breaks

from benchmarks.learning import read_results
from benchmarks.sparse_suite import run_cell
from benchmarks.sparse_suite.cells import Selection, runs_of_grid
from benchmarks.sparse_suite.evaluation import first_start
from benchmarks.sparse_suite.methods import METHODS, build, make_env, with_changes
from benchmarks.sparse_suite.results import BENCHMARKS, Cell, failures_file
from benchmarks.sparse_suite.run import Run, find_checkpoint, load_checkpoint, read_progress
from benchmarks.sparse_suite.run import run_cell as run_one
from benchmarks.sparse_suite.settings import VARIANTS
from benchmarks.sparse_suite.tasks import TASKS, demonstrations_of
from sb3_pgfd import TD3fD
from sb3_pgfd.extractors import RelativePositions
from sb3_pgfd.wrappers import StartInDemonstrations

_SMALL_TD3FD = {"pretrain_steps": 5, "learning_starts": 20, "batch_size": 16, "policy_kwargs.net_arch": [16]}
SMALL: dict[str, dict[str, Any]] = {
    "td3fd": _SMALL_TD3FD,
    **{f"td3fd_{name}": _SMALL_TD3FD for name in VARIANTS},
    "sac_demos": {"learning_starts": 20, "batch_size": 16, "policy_kwargs.net_arch": [16]},
    "a2cfd": {"pretrain_steps": 5, "critic_warmup_steps": 20, "n_envs": 1, "n_steps": 5, "policy_kwargs.net_arch": [16]},
    "bc": {"n_updates": 300},
}


def toy_run(folder: Path, method: str = "td3fd", **changes: Any) -> Run:
    demos = TOY.n_demos if METHODS[method].uses_demonstrations else 0
    settings = with_changes(METHODS[method].settings, SMALL.get(method, {}))
    run = Run(Cell("toy", method, demos, 0), TOY, METHODS[method], settings, steps=100, eval_freq=50, n_episodes=3)
    return replace(run, results=folder / "results.csv", logs=folder / "logs", **changes)


def command(folder: Path, *arguments: str) -> list[str]:
    files = ["--results", str(folder / "results.csv"), "--logs", str(folder / "logs")]
    return ["--seed", "0", *files, *arguments]


@pytest.mark.parametrize("name", VARIANTS)
def test_other_settings_learn(name: str, tmp_path: Path):
    run = toy_run(tmp_path, f"td3fd_{name}")
    demonstrations = demonstrations_of(TOY, 2, tmp_path)
    env = make_env(TOY, run.settings, demonstrations)
    assert isinstance(env, StartInDemonstrations) == (name == "starts")
    model = build(run.method, TOY, env, 0, demonstrations, run.settings)
    assert isinstance(model, TD3fD)
    assert model.learn(25)._n_updates > 0
    assert (model.policy.n_target_critics, len(model.critic.q_networks)) == ((None, 2) if name == "plain" else (2, 5))


@pytest.mark.parametrize("method", ["td3fd", "a2cfd"])
def test_a_cell_is_evaluated_on_the_way_and_not_run_twice(method: str, tmp_path: Path):
    run = toy_run(tmp_path, method)
    assert run_one(run)
    rows = read_results(run.results)
    assert [row["steps"] for row in rows] == [0, 50, 100]
    assert all(run.cell.owns(row) and row["config"] == run.config for row in rows)
    assert all(0 <= row["success"] <= 1 and row["length"] <= 20 for row in rows)
    assert rows[0]["updates"] < rows[1]["updates"] < rows[2]["updates"]
    assert not run.folder.exists()
    written = run.results.read_bytes()
    assert not run_one(run)
    assert run.results.read_bytes() == written
    # With other settings it is another run, which takes its place
    changed = replace(run, settings={**run.settings, "gamma": 0.8})
    assert run_one(changed)
    assert [row["config"] for row in read_results(run.results)] == [changed.config] * 3


def test_a_method_that_is_wanted_in_part_stops_early_with_the_schedule_of_a_whole_run(tmp_path: Path):
    run = toy_run(tmp_path)
    part = replace(run, method=replace(run.method, stops_at=50), results=tmp_path / "part.csv")
    assert part.config != run.config
    assert run_one(run)
    assert run_one(part)
    whole, rows = read_results(run.results), read_results(part.results)
    assert [row["steps"] for row in rows] == [0, 50]
    # Of the same seed, they are the same until then
    names = ("success", "mean_return", "length", "updates")
    assert [[row[name] for name in names] for row in rows] == [[row[name] for name in names] for row in whole[:2]]
    assert not part.folder.exists()
    assert not run_one(part)


@pytest.mark.parametrize("method", ["bc", "expert"])
def test_what_takes_no_steps_is_evaluated_once(method: str, tmp_path: Path):
    run = toy_run(tmp_path, method)
    assert run_one(run)
    (row,) = read_results(run.results)
    # To the right without a pause, it reaches the goal; a clone of it does so too
    assert (row["steps"], row["success"], row["mean_return"]) == (0, 1.0, 1.0)
    assert not run_one(run)


@pytest.mark.parametrize("method", ["td3fd", "sac_demos", "a2cfd"])
def test_an_interrupted_cell_goes_on_from_its_last_evaluation(method: str, tmp_path: Path):
    run = toy_run(tmp_path, method)
    with pytest.raises(RuntimeError):
        run_one(replace(run, task=BREAKING))
    checkpoint = find_checkpoint(run.folder)
    assert checkpoint is not None
    assert [path.name for path in run.folder.iterdir()] == ["checkpoint_50"]
    before = read_progress(checkpoint)
    assert before.steps == 50
    assert read_results(run.results) == []
    assert run_one(run)
    rows = read_results(run.results)
    assert [row["steps"] for row in rows] == [0, 50, 100]
    # What was done is not done again
    assert [{name: row[name] for name in before.rows[0]} for row in rows[:2]] == before.rows
    assert rows[2]["updates"] > rows[1]["updates"]
    assert rows[2]["seconds"] >= before.seconds
    assert not run.folder.exists()


class Schedule(BaseCallback):
    """How much is left of the run, in each step that follows an update of it."""

    def __init__(self) -> None:
        super().__init__()
        self.left: list[float] = []

    def _on_step(self) -> bool:
        self.left.append(self.model._current_progress_remaining)
        return True


def test_schedules_random_numbers_and_the_buffer_go_on(tmp_path: Path):
    run = toy_run(tmp_path)
    with pytest.raises(RuntimeError):
        run_one(replace(run, task=BREAKING))
    checkpoint = find_checkpoint(run.folder)
    assert checkpoint is not None
    dataset = demonstrations_of(TOY, 2, run.logs / "demonstrations")
    model, again = (load_checkpoint(run, checkpoint, make_env(TOY, run.settings), dataset) for _ in range(2))
    numbers = np.random.random(3)
    model = load_checkpoint(run, checkpoint, make_env(TOY, run.settings), dataset)
    np.testing.assert_array_equal(np.random.random(3), numbers)
    buffer: Any = vars(model)["replay_buffer"]
    # The evaluation is before the step's transition is stored
    assert (model.num_timesteps, buffer.size(), buffer.n_demonstrations) == (50, 49, len(dataset or ()))
    assert vars(again)["_n_updates"] == read_progress(checkpoint).rows[-1]["updates"]
    schedule = Schedule()
    model.learn(50, callback=schedule, reset_num_timesteps=False)
    # Of 100 steps in all; the first value is that of the checkpoint
    assert schedule.left == pytest.approx(1 - np.array([49, *range(51, 100)]) / 100)
    assert model.num_timesteps == 100


def test_another_setting_does_not_go_on_from_the_checkpoint(tmp_path: Path):
    run = toy_run(tmp_path)
    with pytest.raises(RuntimeError):
        run_one(replace(run, task=BREAKING))
    with pytest.raises(ValueError, match="checkpoint of an unfinished run with other settings, expected"):
        run_one(replace(run, settings={**run.settings, "gamma": 0.8}))


def test_a_cell_that_fails_is_named_until_it_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    settings = [f"{name}={value}" for name, value in SMALL["td3fd"].items()]
    arguments = command(tmp_path, "--task", "toy", "--method", "td3fd", "--eval-freq", "50", "--eval-episodes", "2")
    arguments += ["--set", *settings]
    failures = failures_file(tmp_path / "results.csv")
    monkeypatch.setitem(TASKS, "toy", BREAKING)
    assert run_cell.main(arguments) == 1
    assert "RuntimeError" in capsys.readouterr().err
    (row,) = read_results(failures)
    assert Cell("toy", "td3fd", 2, 0).owns(row)
    assert (row["steps"], row["error"]) == (50, "RuntimeError: the simulator broke")
    monkeypatch.setitem(TASKS, "toy", TOY)
    assert run_cell.main(arguments) == 0
    assert not failures.exists()
    assert [row["steps"] for row in read_results(tmp_path / "results.csv")] == [0, 50, 100]
    assert run_cell.main(arguments) == 0
    assert "not run again" in capsys.readouterr().out


def test_a_killed_process_loses_nothing_but_the_steps_since_its_last_evaluation(tmp_path: Path):
    arguments = command(tmp_path, "--task", "mountain-car", "--method", "td3fd", "--label", "tiny")
    arguments += ["--steps", "300", "--eval-freq", "100", "--eval-episodes", "2"]
    arguments += ["--set", "pretrain_steps=5", "policy_kwargs.net_arch=[16]", "batch_size=16", "learning_rate=lin_1e-3"]
    command_line = [sys.executable, "-m", "benchmarks.sparse_suite.run_cell", *arguments]
    with subprocess.Popen(command_line, cwd=BENCHMARKS.parent, stdout=subprocess.DEVNULL) as process:
        folder = tmp_path / "logs" / "mountain-car" / "tiny" / "demos_1" / "seed_0"
        while not (folder / "checkpoint_100").is_dir() and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    checkpoint = find_checkpoint(folder)
    assert checkpoint is not None
    rows = json.loads((checkpoint / "progress.json").read_text())["rows"]
    assert run_cell.main(arguments) == 0
    results = read_results(tmp_path / "results.csv")
    assert [row["steps"] for row in results] == [0, 100, 200, 300]
    assert [{name: row[name] for name in rows[0]} for row in results[: len(rows)]] == rows


def test_peg_insertion_runs_from_its_demonstrations_to_its_row(tmp_path: Path):
    arguments = command(tmp_path, "--task", "peg-insert-side", "--method", "td3fd", "--demos", "1", "--steps", "210")
    arguments += ["--eval-freq", "200", "--eval-episodes", "1", "--label", "tiny"]
    arguments += ["--set", "pretrain_steps=5", "batch_size=16", "policy_kwargs.net_arch=[16]"]
    assert run_cell.main(arguments) == 0
    with (tmp_path / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["task"], row["method"], row["demos"], row["steps"]) for row in rows] == [
        ("peg-insert-side", "tiny", "1", "0"),
        ("peg-insert-side", "tiny", "1", "200"),
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task", "toy", "--method", "td3fd"], "invalid choice: 'toy'"),
        (["--task", "assembly", "--method", "a2cfd"], "expected a task that this method can run on"),
        (["--task", "assembly", "--method", "bc", "--demos", "0"], "expected at least 1"),
        (["--task", "assembly", "--method", "td3fd", "--set", "gamma"], "found 'gamma', expected KEY=VALUE"),
    ],
)
def test_what_cannot_be_run_is_refused(arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        run_cell.main(command(tmp_path, *arguments))
    assert message in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


def test_other_settings_need_another_name(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        run_cell.main(["--task", "assembly", "--method", "td3fd", "--seed", "0", "--set", "gamma=0.9"])
    assert "expected another name for the other settings" in capsys.readouterr().err


def test_the_zoo_s_settings_take_the_place_of_the_others_where_it_has_tuned_them():
    task, models = TASKS["mountain-car"], {}
    for name in ("sac", "td3"):
        tuned = METHODS[name].settings_for(task)
        models[name] = build(METHODS[name], task, make_env(task, tuned), 0, None, tuned)
        assert METHODS[name].settings_for(TASKS["assembly"]) is METHODS[name].settings
    assert isinstance(models["sac"], SAC)
    assert (models["sac"].use_sde, models["sac"].ent_coef, models["sac"].gamma) == (True, 0.1, 0.9999)
    assert isinstance(models["td3"], TD3)
    assert isinstance(models["td3"].action_noise, OrnsteinUhlenbeckActionNoise)


def test_seeds_and_starts_of_the_tables_are_not_those_that_settings_were_chosen_on():
    assert {run.cell.seed for run in runs_of_grid(Selection())} == set(range(100, 105))
    assert [first_start(seed) for seed in (0, 99, 100)] == [10_000, 10_000, 50_000]


def test_settings_are_yaml_and_reach_into_dictionaries():
    changes = ["learning_rate=1e-4", "q_filter=false", "policy_kwargs.n_critics=5", "q_range=[0, 2]"]
    arguments = ["--task", "peg-insert-side", "--method", "td3fd", "--seed", "3", "--label", "mine"]
    run, _ = run_cell.parse([*arguments, "--set", *changes])
    assert (run.cell, run.steps) == (Cell("peg-insert-side", "mine", 3, 3), 20_000)
    assert (run.settings["learning_rate"], run.settings["q_filter"], run.settings["q_range"]) == (1e-4, False, [0, 2])
    assert run.settings["policy_kwargs"]["n_critics"] == 5
    # The settings of the method stay as they are
    assert "policy_kwargs" not in METHODS["td3fd"].settings


def test_return_range_discount_and_noise_are_the_task_s_and_goals_are_for_tasks_that_have_some():
    settings = with_changes(METHODS["td3fd"].settings, {"noise_std": 0.3})
    model: Any = build(METHODS["td3fd"], TOY, make_env(TOY, settings), 0, None, settings)
    assert (model.gamma, model.q_range) == (0.9, (0.0, 1.0))
    np.testing.assert_allclose(model.action_noise._sigma, [0.3])
    # The toy task has no goals
    assert "her_ratio" in METHODS["td3fd"].settings["replay_buffer_kwargs"]
    assert model.buffer.her_ratio == 0.0


@pytest.mark.parametrize("method", ["td3fd", "sac_demos", "td3", "bc"])
def test_all_methods_have_the_networks_of_the_task(method: str, tmp_path: Path):
    # The only entry of the observation, from itself
    extractor = {"pairs": ((0, 0),), "size": 1}
    task = replace(TOY, policy_kwargs={"features_extractor_class": RelativePositions, "features_extractor_kwargs": extractor})
    run = replace(toy_run(tmp_path, method), task=task)
    assert run.config != toy_run(tmp_path, method).config
    env, demonstrations = make_env(task, run.settings), demonstrations_of(task, run.cell.demos, run.logs)
    model: Any = build(run.method, task, env, 0, demonstrations, run.settings)
    for network in (model.actor, model.critic):
        assert isinstance(network.features_extractor, RelativePositions)
        assert network.features_extractor.features_dim == 2
    # The settings of the method stay as they are
    assert "features_extractor_class" not in METHODS[method].settings.get("policy_kwargs", {})


def test_sac_s_critics_normalise_their_hidden_layers():
    settings = METHODS["sac_demos"].settings
    model: Any = build(METHODS["sac_demos"], TOY, make_env(TOY, settings), 0, None, settings)
    for critic in (model.critic, model.critic_target):
        for network in critic.q_networks:
            assert [type(layer).__name__ for layer in network] == ["Linear", "LayerNorm", "ReLU"] * 2 + ["Linear"]
            assert network[1].normalized_shape == (128,)
    # They are learned, and the targets follow
    learned = {id(parameter) for group in model.critic.optimizer.param_groups for parameter in group["params"]}
    assert id(model.critic.q_networks[0][1].weight) in learned
    assert model.replay_buffer.gamma == 0.9


def test_sac_on_our_buffer_replaces_goals_where_there_are_some_also_after_an_interruption(tmp_path: Path):
    run = replace(toy_run(tmp_path, "sac_demos"), task=TOY_WITH_GOALS)
    with pytest.raises(RuntimeError):
        run_one(replace(run, task=replace(TOY_WITH_GOALS, eval_envs=3, wrapper=Breaks)))
    checkpoint = find_checkpoint(run.folder)
    assert checkpoint is not None
    demonstrations = demonstrations_of(run.task, run.cell.demos, run.logs)
    settings = run.settings
    first: Any = build(run.method, run.task, make_env(run.task, settings), 0, demonstrations, settings)
    then: Any = load_checkpoint(run, checkpoint, make_env(run.task, settings), demonstrations)
    assert first.replay_buffer.n_own == 0 < then.replay_buffer.n_own
    for model in (first, then):
        stored = model.replay_buffer.to_demonstrations().observations["desired_goal"]
        goals = model.replay_buffer.sample(500).observations["desired_goal"].numpy()
        # 80 of 100, but for those that were reached already
        assert 0.3 < np.mean(~np.isin(goals, stored)) <= 0.9
    assert run_one(run)
    # The toy task has no goals
    assert build(run.method, TOY, make_env(TOY, settings), 0, None, settings).replay_buffer.her_ratio == 0.0  # type: ignore[union-attr]
