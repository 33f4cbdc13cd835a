"""Pictures and logs of a run made with plain SB3, without the RL Zoo."""

from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from matplotlib import pyplot
from PIL import Image
from stable_baselines3.common.callbacks import CallbackList, EvalCallback
from stable_baselines3.common.monitor import Monitor

from sb3_pgfd import DDPGfD
from sb3_pgfd.callbacks import EvaluateFirst, ProgressLog
from sb3_pgfd.plotting import _curve, _episode_returns, _read_progress, plot_run, run_figure


@pytest.fixture(scope="module")
def log_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    env = Monitor(gym.make("Pendulum-v1"), str(folder / "train"))
    model = DDPGfD(
        "MlpPolicy",
        env,
        demonstrations="Pendulum-v1",
        pretrain_steps=100,
        batch_size=32,
        policy_kwargs={"net_arch": [16]},
        seed=0,
    )
    evaluation = EvalCallback(
        Monitor(gym.make("Pendulum-v1")), n_eval_episodes=1, eval_freq=300, log_path=str(folder), verbose=0
    )
    model.learn(600, callback=CallbackList([ProgressLog(str(folder)), evaluation, EvaluateFirst(evaluation)]), log_interval=1)
    return folder


def test_the_log_holds_pretraining_and_learning(log_dir: Path) -> None:
    rows = _read_progress(log_dir / "progress.csv")
    updates, shares = _curve(rows, "pretrain/n_updates", "pretrain/demo_fraction")
    # 50 points on the curve of 100 updates, all of them demonstrations
    np.testing.assert_array_equal(updates, np.arange(2, 101, 2))
    np.testing.assert_array_equal(shares, np.ones(50))
    steps, losses = _curve(rows, "time/total_timesteps", "train/critic_loss")
    assert steps.tolist() == [200, 400, 600]
    assert np.isfinite(losses).all()


def test_episode_returns_lie_at_the_step_the_episode_ended(log_dir: Path) -> None:
    steps, returns = _episode_returns(log_dir)
    assert steps.tolist() == [200, 400, 600]
    assert (returns < 0).all()


def test_episodes_of_a_resumed_run_come_after_the_others(tmp_path: Path) -> None:
    # The clock of the first environment begins anew with its third episode
    (tmp_path / "0.monitor.csv").write_text("#{}\nr,l,t\n1,10,5.0\n2,10,9.0\n4,10,2.0\n6,10,4.0\n")
    # A power cut left half of the last row
    (tmp_path / "1.monitor.csv").write_text("#{}\nr,l,t\n3,10,10.0\n5,10,12.0\n7,1")
    steps, returns = _episode_returns(tmp_path)
    # At 5, 9, 9 + 2 and 9 + 4 seconds, and at 10 and 12
    assert returns.tolist() == [1, 2, 3, 4, 5, 6]
    assert steps.tolist() == [10, 20, 30, 40, 50, 60]


def test_the_picture_is_drawn_where_it_is_asked_for_and_not_blank(log_dir: Path, tmp_path: Path) -> None:
    path = plot_run(log_dir, tmp_path / "picture.png")
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    # Ink of the curves: pixels whose channels differ
    assert (np.ptp(pixels, axis=2) > 60).mean() > 0.001


def test_a_run_that_was_logged_without_monitor_and_evaluations_is_drawn(tmp_path: Path) -> None:
    (tmp_path / "progress.csv").write_text("time/total_timesteps,train/critic_loss\n100,1.0\n200,0.5\n")
    assert plot_run(tmp_path) == tmp_path / "run.png"


def test_a_folder_without_a_log_is_refused_with_advice(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="python -m"):
        plot_run(tmp_path)


def test_a_picture_is_replaced_and_nothing_else_is_left(log_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "picture.jpg"
    path.write_text("an older one")
    assert plot_run(log_dir, path) == path
    with Image.open(path) as picture:
        assert (picture.format, picture.size) == ("JPEG", (900, 1100))
    assert list(tmp_path.iterdir()) == [path]


def test_a_figure_is_not_kept_by_pyplot(log_dir: Path) -> None:
    # Others may have left theirs open
    before = pyplot.get_fignums()
    assert len(run_figure(log_dir).axes) == 5
    assert pyplot.get_fignums() == before


def test_panels_are_those_that_say_something(tmp_path: Path) -> None:
    # As TD3fD logs: a share that is a setting, and an actor's loss in units of Q
    header = "time/total_timesteps,train/critic_loss,train/actor_loss,train/q_mean,train/demo_fraction,train/bc_loss"
    (tmp_path / "progress.csv").write_text(f"{header}\n100,1.0,-1.0,0.3,0.5,\n200,0.5,-1.0,0.4,0.5,\n")
    np.savez(tmp_path / "evaluations.npz", timesteps=[0, 200], results=[[3.0], [5.0]], successes=[[False, True], [True, True]])
    axes = run_figure(tmp_path).axes
    labels = [axis.get_ylabel() for axis in axes]
    assert labels == ["episode return\n(with exploration)", "evaluation success", "critic loss", "mean Q"]
    assert np.asarray(axes[1].lines[0].get_ydata()).tolist() == [0.5, 1.0]
    (tmp_path / "progress.csv").write_text("time/total_timesteps,train/demo_fraction,train/actor_loss\n1,0.2,1\n2,0.4,2\n")
    assert [axis.get_ylabel() for axis in run_figure(tmp_path).axes][2:] == ["actor loss", "demonstrations\nin the batches"]
