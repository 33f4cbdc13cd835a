"""``plot-train``, ``all-plots`` and ``plot-from-file`` on runs whose numbers are known."""

import re
from pathlib import Path

import numpy as np
import pytest
from command import PYTHON, fails, finish, ink, refused, run

# Of two seeds, the mean returns of the last of four evaluations. Named as plot-from-file needs it for normalised scores
LAST = {"ddpgfd": (100.0, 200.0), "a2cfd": (40.0, 60.0)}
ENV = "LunarLanderContinuous"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plots")
    for algo, last in LAST.items():
        for number, episode_return in enumerate(last, start=1):
            run_folder = folder / "logs" / algo / f"{ENV}-v3_{number}"
            run_folder.mkdir(parents=True)
            results = np.linspace(-200.0, episode_return, 4)[:, None] + [-10.0, 0.0, 10.0]
            np.savez(run_folder / "evaluations.npz", timesteps=np.arange(4) * 1000, results=results)
            rows = "".join(f"{-200.0 + k},50,{k}.5\n" for k in range(30))
            (run_folder / "0.monitor.csv").write_text('#{"t_start": 0.0, "env_id": "x"}\nr,l,t\n' + rows)
    arguments = ["-a", *LAST, "-e", ENV, "-f", "logs", "--no-million", "-o", "results"]
    output = run(folder, "sb3-pgfd all-plots", *arguments, "--picture", "curves.png")
    (folder / "printed.txt").write_text(output)
    return folder


def test_all_plots_prints_a_table_and_saves_its_figure(folder: Path) -> None:
    output = (folder / "printed.txt").read_text()
    # Half the distance over the root of two runs: 50 / 1.41, 10 / 1.41
    (row,) = [line for line in output.splitlines() if line.startswith(f"|{ENV}")]
    assert [cell.strip() for cell in row.strip("|").split("|")] == [ENV, "150 +/- 35", "50 +/- 7"]
    assert "Picture: curves.png" in output
    assert ink(folder / "curves.png") > 0.05


def test_several_figures_get_numbers(folder: Path) -> None:
    arguments = ["-a", "ddpgfd", "-e", ENV, "LunarLander", "-f", "logs", "--no-display", "--picture", "both.png"]
    run(folder, "all_plots", *arguments)
    assert not (folder / "both.png").exists()
    assert all(ink(folder / f"both-{number}.png") > 0.05 for number in (1, 2))
    assert not (folder / "both-3.png").exists()


def test_all_of_plot_from_file_is_saved(folder: Path) -> None:
    arguments = ["-i", "results", "-r", "-iqm", "-vs", "-b", "--no-million", "-o", "bars.png"]
    output = run(folder, "sb3-pgfd plot-from-file", *arguments, "--picture", "figures.png")
    # A curve, four figures of rliable, the bars and the boxes
    pictures = sorted(re.findall(r"Picture: (\S+)", output))
    assert pictures == [f"figures-{number}.png" for number in range(1, 8)]
    assert all(ink(folder / name) > 0.02 for name in (*pictures, "bars.png"))


def test_plot_train_saves_its_figure(folder: Path) -> None:
    arguments = ["-a", "ddpgfd", "-e", ENV, "-f", "logs", "-w", "5"]
    assert "Picture: train.png" in run(folder, "sb3-pgfd plot-train", *arguments, "-o", "train.png")
    assert ink(folder / "train.png") > 0.02


def test_without_a_screen_the_option_is_named(folder: Path) -> None:
    arguments = ["-a", "ddpgfd", "-e", ENV, "-f", "logs", "-w", "5"]
    finished = finish(folder, [PYTHON, "-m", "sb3_pgfd.plot_train", *arguments])
    assert finished.returncode == 0
    assert "Found no screen to show the figures on: -o PICTURE saves them" in finished.stderr
    finished = finish(folder, [PYTHON, "-m", "sb3_pgfd.plot_from_file", "-i", "results.pkl"])
    assert finished.returncode == 0
    assert "--picture PICTURE saves them" in finished.stderr


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (["all-plots", "-e", ENV, "-f", "logs"], "the following arguments are required: -a/--algos", 2),
        (["plot-from-file"], "the following arguments are required: -i/--input", 2),
        (["plot-from-file", "-i", "missing"], "No such file or directory: 'missing.pkl'", 1),
        (["all-plots", "-a", "sac", "-e", ENV, "-f", "logs"], f"found no evaluations.npz of sac on {ENV} in logs", 1),
        (["all-plots", "-a", "ddpgfd", "-e", ENV, "-f", "logs", "-l", "a", "b"], "--labels: found 2", 1),
        (["plot-train", "-a", "ddpgfd", "-e", ENV, "-f", "logs", "-o", "a.png"], "found nothing to draw", 1),
        (["plot-train", "-a", "sac", "-e", ENV, "-f", "logs", "-o", "a.png"], "logs/sac", 1),
        (["plot-train", "-a", "ddpgfd", "-e", ENV, "-f", "logs", "-o", "a.avi"], "found the ending '.avi'", 1),
    ],
)
@pytest.mark.filterwarnings("ignore:No artists with labels")
def test_what_cannot_be_drawn_is_refused(
    arguments: list[str],
    message: str,
    code: int,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(folder)
    assert message in refused(capsys, *arguments, code=code)
    assert not list(folder.glob("a.*"))


def test_single_runs_are_not_dropped_in_silence(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "logs" / "ddpgfd").mkdir(parents=True)
    (tmp_path / "logs" / "ddpgfd" / f"{ENV}-v3_1").symlink_to(folder / "logs" / "ddpgfd" / f"{ENV}-v3_1")
    run(tmp_path, "all_plots", "-a", "ddpgfd", "-e", ENV, "-f", "logs", "-o", "one", "--no-display")
    message = fails(tmp_path, "plot_from_file", "-i", "one.pkl", "--picture", "one.png")
    assert "found one run of DDPGFD-logs" in message
