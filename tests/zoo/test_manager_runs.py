"""What a run leaves, and how it is continued."""

import argparse
import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from huggingface_sb3 import EnvironmentName
from PIL import Image
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.save_util import load_from_pkl
from stable_baselines3.common.vec_env import VecNormalize
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sb3_pgfd import DDPGfD, Demonstrations, OptionWarning
from sb3_pgfd.zoo.agents import add_agent_arguments, load_agent, saved_with
from sb3_pgfd.zoo.command_line import CommandError
from sb3_pgfd.zoo.experiment_manager import PgfdExperimentManager
from sb3_pgfd.zoo.resuming import Run as ResumedRun
from sb3_pgfd.zoo.resuming import save_command

Make = Callable[..., PgfdExperimentManager]
Run = Callable[[PgfdExperimentManager], BaseAlgorithm]
ENV_ID = "PointToGoal-v0"


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory,
    make_manager: Make,
    run_to_its_end: Run,
    entry: dict[str, Any],
    demonstrations: Demonstrations,
) -> tuple[Path, str, str]:
    """The folder of a run of 120 steps with everything switched on, and what it printed and drew on the screen."""
    folder = tmp_path_factory.mktemp("run")
    demonstrations.save(folder / "demo.npz")
    entry = {**entry, "n_timesteps": 120, "pretrain_steps": 30, "demonstrations": "demo.npz", "normalize": True}
    options = {"eval_freq": 40, "n_eval_episodes": 2, "save_freq": 40, "save_replay_buffer": True, "show_progress": True}
    with pytest.MonkeyPatch.context() as patch:
        out, screen = io.StringIO(), io.StringIO()
        patch.setattr("sys.stdout", out)
        patch.setattr("sys.stderr", screen)
        run_to_its_end(make_manager(folder, entry, tensorboard_log=str(folder / "tb"), **options))
    return folder / f"logs/ddpgfd/{ENV_ID}_1", out.getvalue(), screen.getvalue()


@pytest.fixture(scope="module")
def run_folder(finished: tuple[Path, str, str]) -> Path:
    return finished[0]


def n_seen(statistics: Path) -> float:
    """:return: Observations that a saved VecNormalize has taken in"""
    return load_from_pkl(statistics).obs_rms.count


def test_the_summary_compares_the_last_evaluation_with_the_demonstrations(
    finished: tuple[Path, str, str], demonstrations: Demonstrations
) -> None:
    summary = json.loads((finished[0] / "summary.json").read_text())
    with np.load(finished[0] / "evaluations.npz") as evaluations:
        results, lengths = evaluations["results"], evaluations["ep_lengths"]
        assert evaluations["timesteps"].tolist() == [0, 40, 80, 120]
        # The reward is 1 for a success
        np.testing.assert_array_equal(evaluations["successes"], results)
    agent, theirs = summary["agent"], summary["demonstrations"]
    assert (summary["timesteps"], summary["source"], agent["n_episodes"]) == (120, "evaluation", 2)
    assert (agent["mean_return"], agent["success_rate"]) == (results[-1].mean(), results[-1].mean())
    assert agent["mean_length"] == lengths[-1].mean()
    assert summary["best_evaluation"]["mean_return"] == results.mean(axis=1).max()
    assert summary["best_evaluation"]["timesteps"] == [0, 40, 80, 120][int(results.mean(axis=1).argmax())]
    assert (theirs["n_episodes"], theirs["mean_return"], theirs["success_rate"]) == (3, 1.0, 1.0)
    assert theirs["mean_length"] == pytest.approx(len(demonstrations) / 3)
    lines = finished[1].splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("return  "))
    assert [line.split()[0] for line in lines[first : first + 3]] == ["return", "success", "episode"]
    assert all("demonstrations 1" in line for line in lines[first : first + 3])


def test_nothing_is_printed_twice(
    tmp_path: Path, make_manager: Make, run_to_its_end: Run, entry: dict[str, Any], demonstrations: Demonstrations,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    entry = {**entry, "pretrain_steps": 100, "demonstrations": str(demonstrations.save(tmp_path / "demo.npz"))}
    manager = make_manager(tmp_path, entry, eval_freq=20, n_eval_episodes=1, verbose=1, log_interval=2)
    model = run_to_its_end(manager)
    printed = capsys.readouterr().out
    assert printed.count("| pretrain/") == 1
    assert printed.count("Eval num_timesteps") == 3
    assert "| eval/" not in printed
    # One table for every second episode
    assert printed.count("| rollout/") == model._episode_num // 2
    with (Path(manager.save_path) / "progress.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert sum(bool(row["pretrain/n_updates"]) for row in rows) == 50
    assert sum(bool(row["eval/mean_reward"]) for row in rows) == 3


def test_the_progress_bars_count_the_pretraining_and_the_steps(finished: tuple[Path, str, str]) -> None:
    bars = finished[1] + finished[2]
    assert "Pretraining" in bars
    assert "30/30" in bars
    assert "120/120" in bars


def test_the_log_of_the_episodes_tells_successes(run_folder: Path) -> None:
    with (run_folder / "0.monitor.csv").open() as file:
        assert json.loads(file.readline()[1:])["env_id"] == ENV_ID
        rows = list(csv.DictReader(file))
    assert len(rows) >= 6
    assert all(float(row["is_success"]) == float(row["r"]) for row in rows)


def test_tensorboard_has_the_scalars_and_the_picture(run_folder: Path) -> None:
    events = EventAccumulator(str(run_folder.parents[2] / "tb" / ENV_ID / "DDPGfD_1"))
    events.Reload()
    scalars = events.Tags()["scalars"]
    assert {"pretrain/critic_loss", "train/critic_loss", "eval/success_rate", "rollout/success_rate"} <= set(scalars)
    assert [event.step for event in events.Scalars("pretrain/critic_loss")] == list(range(1, 31))
    assert [event.step for event in events.Scalars("eval/success_rate")] == [0, 40, 80, 120]
    (figure,) = events.Images("run/figure")
    assert figure.step == 120
    in_board = np.asarray(Image.open(io.BytesIO(figure.encoded_image_string)).convert("RGB"))
    in_folder = np.asarray(Image.open(run_folder / "run.png").convert("RGB"))
    np.testing.assert_array_equal(in_board, in_folder)
    # Ink of the curves: pixels whose channels differ
    assert (np.ptp(in_folder.astype(int), axis=2) > 60).mean() > 0.001


def test_each_checkpoint_has_its_statistics_and_the_newest_its_buffer(run_folder: Path) -> None:
    names = {path.name for path in run_folder.glob("rl_model_*")}
    models = {f"rl_model_{steps}_steps.zip" for steps in (40, 80, 120)}
    statistics = {f"rl_model_vecnormalize_{steps}_steps.pkl" for steps in (40, 80, 120)}
    assert names == {*models, *statistics, "rl_model_replay_buffer_120_steps.pkl"}
    seen = [n_seen(saved_with(run_folder / f"rl_model_{steps}_steps.zip", "vecnormalize")) for steps in (40, 80, 120)]
    assert np.diff(seen).tolist() == [40, 40]


def test_the_best_model_has_its_own_statistics(run_folder: Path, demonstrations: Demonstrations) -> None:
    best = saved_with(run_folder / "best_model.zip", "vecnormalize")
    steps = json.loads((run_folder / "summary.json").read_text())["best_evaluation"]["timesteps"]
    # Besides the steps: the demonstrations, the first observation, and the small number that VecNormalize begins with
    assert n_seen(best) == pytest.approx(len(demonstrations) + steps + 1, abs=1e-3)
    assert n_seen(run_folder / ENV_ID / "vecnormalize.pkl") == pytest.approx(len(demonstrations) + 121, abs=1e-3)


@pytest.mark.parametrize(
    ("arguments", "model"),
    [
        ({}, f"{ENV_ID}.zip"),
        ({"load_best": True}, "best_model.zip"),
        ({"load_checkpoint": "80"}, "rl_model_80_steps.zip"),
    ],
)
def test_a_saved_model_acts_with_its_own_statistics(arguments: dict[str, Any], model: str, run_folder: Path) -> None:
    own = saved_with(run_folder / model, "vecnormalize")
    expected = n_seen(own if own.is_file() else run_folder / ENV_ID / "vecnormalize.pkl")
    parser = argparse.ArgumentParser()
    add_agent_arguments(parser)
    options = parser.parse_args(["-f", str(run_folder.parents[1]), "--no-render"])
    vars(options).update(env=EnvironmentName(ENV_ID), algo="ddpgfd", env_kwargs=None, **arguments)
    agent = load_agent(options)
    assert (agent.model_path, agent.deterministic) == (run_folder / model, True)
    assert isinstance(agent.env, VecNormalize)
    assert getattr(agent.env.obs_rms, "count", None) == expected
    assert (agent.env.training, agent.env.norm_reward) == (False, False)


# The buffer of the end of the run counts for a checkpoint that has none. SB3 makes a checkpoint before the step is stored
@pytest.mark.parametrize(("steps", "n_in_buffer"), [(80, 120), (120, 119)])
def test_going_on_from_a_checkpoint_takes_what_is_its_own(
    steps: int, n_in_buffer: int, run_folder: Path, tmp_path: Path, make_manager: Make, demonstrations: Demonstrations
) -> None:
    checkpoint = run_folder / f"rl_model_{steps}_steps.zip"
    config = yaml.safe_load((run_folder / ENV_ID / "config.yml").read_text())
    manager = make_manager(tmp_path, config, trained_agent=str(checkpoint), eval_freq=10, n_eval_episodes=1)
    experiment = manager.setup_experiment()
    assert experiment is not None
    model = experiment[0]
    assert isinstance(model, DDPGfD)
    normalize = model.get_vec_normalize_env()
    assert normalize is not None
    assert getattr(normalize.obs_rms, "count", None) == n_seen(saved_with(checkpoint, "vecnormalize"))
    assert (normalize.training, normalize.norm_reward) == (True, True)
    (evaluation,) = [callback for callback in manager.callbacks if isinstance(callback, EvalCallback)]
    assert isinstance(evaluation.eval_env, VecNormalize)
    assert (evaluation.eval_env.training, evaluation.eval_env.norm_reward) == (False, False)
    assert (model.buffer.size(), model.buffer.n_demonstrations) == (n_in_buffer, len(demonstrations))


def test_the_environments_arguments_in_the_yaml_hold_for_evaluation_and_all_commands(
    tmp_path: Path, make_manager: Make, entry: dict[str, Any]
) -> None:
    entry = {**entry, "env_kwargs": {"view": "matrix"}}
    manager = make_manager(tmp_path, entry, eval_freq=20)
    assert manager.setup_experiment() is not None
    for evaluation in (False, True):
        assert manager.create_envs(1, eval_env=evaluation).observation_space.shape == (2, 3)
    arguments = yaml.unsafe_load((tmp_path / f"logs/ddpgfd/{ENV_ID}_1/{ENV_ID}/args.yml").read_text())
    assert arguments["env_kwargs"] == {"view": "matrix"}
    # Those of the command line count more, and leave the others
    entry = {**entry, "env_kwargs": {"view": "matrix", "render_mode": "rgb_array"}}
    typed = make_manager(tmp_path, entry, env_kwargs={"view": "box"}, eval_env_kwargs={"render_mode": "rgb_array"})
    assert typed.setup_experiment() is not None
    assert typed.env_kwargs == {"view": "box", "render_mode": "rgb_array"}
    assert typed.eval_env_kwargs == {"render_mode": "rgb_array"}
    assert typed.create_envs(1, eval_env=True).observation_space.shape == (1,)


def test_numbers_that_yaml_takes_for_text_are_numbers(tmp_path: Path, make_manager: Make, entry: dict[str, Any]) -> None:
    manager = make_manager(tmp_path, None)
    text = yaml.safe_dump({ENV_ID: {**entry, "tau": 0.1, "policy_kwargs": {"net_arch": [4], "n_critics": 2}}})
    text = text.replace("tau: 0.1", "tau: 1e-2").replace("n_timesteps: 40", "n_timesteps: 4E1") + "  learning_rate: 2e-3\n"
    (tmp_path / "my.yml").write_text(text)
    manager.config = str(tmp_path / "my.yml")
    experiment = manager.setup_experiment()
    assert experiment is not None
    assert isinstance(experiment[0], DDPGfD)
    assert (experiment[0].tau, experiment[0].lr_schedule(0.3), manager.n_timesteps) == (0.01, 0.002, 40)
    assert {key: experiment[1][key] for key in ("tau", "learning_rate")} == {"tau": 0.01, "learning_rate": 0.002}


@pytest.mark.parametrize("text", ["fast", "lin", "lin_", "lin_fast", "1e-3_lin"])
def test_what_is_no_schedule_is_refused(text: str, tmp_path: Path, make_manager: Make, entry: dict[str, Any]) -> None:
    for name in ("learning_rate", "actor_learning_rate"):
        with pytest.raises(ValueError, match=f"^{name}: found '{text}', expected a number, or lin_<number>"):
            make_manager(tmp_path, {**entry, name: text}).setup_experiment()
    assert not (tmp_path / "logs").exists()


def test_going_on_keeps_the_normalisation_in_the_settings(
    run_folder: Path, tmp_path: Path, make_manager: Make, entry: dict[str, Any]
) -> None:
    # The model has learned with both normalised, whatever the entry says
    for named in ({}, {"normalize": "dict(norm_obs=False, norm_reward=True)"}):
        manager = make_manager(tmp_path, {**entry, **named}, trained_agent=str(run_folder / f"{ENV_ID}.zip"), eval_freq=20)
        experiment = manager.setup_experiment()
        assert experiment is not None
        normalize = experiment[0].get_env()
        assert isinstance(normalize, VecNormalize)
        assert (normalize.norm_obs, normalize.norm_reward) == (True, True)
        # By which `enjoy` finds the statistics, and a resumed run makes the wrapper
        saved = yaml.safe_load(Path(manager.params_path, "config.yml").read_text())["normalize"]
        assert (saved["norm_obs"], saved["norm_reward"], saved["gamma"]) == (True, True, normalize.gamma)
        again = make_manager(tmp_path, {**entry, "normalize": saved})
        assert again.setup_experiment() is not None
        assert again.normalize_kwargs == {**saved, "gamma": 0.99}


def test_demonstrations_beside_a_saved_buffer_are_refused(
    run_folder: Path, tmp_path: Path, make_manager: Make, entry: dict[str, Any]
) -> None:
    other = {"demonstrations": "Pendulum-v1"}
    with pytest.raises(CommandError, match=r"found demonstrations in -params beside .*, which has those of the run"):
        make_manager(tmp_path, entry, trained_agent=str(run_folder / f"{ENV_ID}.zip"), hyperparams=other).setup_experiment()
    assert not (tmp_path / "logs").exists()


def test_networks_that_a_model_has_not_are_named(
    run_folder: Path, tmp_path: Path, make_manager: Make, entry: dict[str, Any]
) -> None:
    other = {"policy_kwargs": {"net_arch": [8], "n_critics": 1}}
    manager = make_manager(tmp_path, entry, trained_agent=str(run_folder / f"{ENV_ID}.zip"), hyperparams=other)
    with pytest.warns(OptionWarning, match=r"policy_kwargs \{'net_arch': \[8\], 'n_critics': 1\} in -params, expected those"):
        assert manager.setup_experiment() is not None


def test_a_run_that_goes_on_needs_no_other_model(tmp_path: Path) -> None:
    save_command(str(tmp_path), ["--algo", "ddpgfd", "-i", "gone.zip", "--env", ENV_ID, "--trained-agent=gone.zip"])
    run = ResumedRun.__new__(ResumedRun)
    run._settings = tmp_path
    assert run.command == ["--algo", "ddpgfd", "--env", ENV_ID]
