"""``zoo``: modules of the RL Zoo that know this package's algorithms and environments."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from command import ENV_ID, call, frames, refused, run

from sb3_pgfd.zoo.commands import COMMANDS, MODULES

# Of two seeds, the mean returns of the last of four evaluations
LAST = {"ddpgfd": (100.0, 200.0), "td3fd": (40.0, 60.0)}


def test_the_modules_are_those_that_can_be_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert all(find_spec(full_name) is not None for full_name in MODULES.values())
    listed = call(capsys, "zoo", "--help")
    assert listed.startswith("usage: sb3-pgfd zoo <module>")
    assert all(name in listed for name in MODULES)
    unknown = refused(capsys, "zoo", "fly")
    assert "found no module 'fly'" in unknown
    assert "plot_train" in unknown
    assert "found no module, expected one of" in refused(capsys, "zoo")


def test_a_module_of_the_zoo_films_our_algorithm(trained: Path) -> None:
    run(trained, "zoo", "record_video", "--algo", "ddpgfd", "--env", ENV_ID, "-f", "logs", "-n", "20", "-o", "my videos")
    (path,) = (trained / "my videos").glob("final-model-ddpgfd-Pendulum-v1*.mp4")
    # One of the reset, one of each step; moviepy may leave the last one out
    assert len(frames(path, stride=5)) in (20, 21)


def test_a_table_of_our_algorithms(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, default_style: None
) -> None:
    monkeypatch.chdir(tmp_path)
    for algo, last in LAST.items():
        for number, episode_return in enumerate(last, start=1):
            folder = tmp_path / "logs" / algo / f"{ENV_ID}_{number}"
            folder.mkdir(parents=True)
            results = np.linspace(-200.0, episode_return, 4)[:, None] + [-10.0, 0.0, 10.0]
            np.savez(folder / "evaluations.npz", timesteps=np.arange(4) * 1000, results=results)
    arguments = ["-a", *LAST, "-e", ENV_ID, "-f", "logs", "--no-million", "--no-display"]
    output = call(capsys, "zoo", "all-plots", *arguments)
    # Half the distance over the root of two runs: 50 / 1.41, 10 / 1.41
    (row,) = [line for line in output.splitlines() if line.startswith(f"|{ENV_ID}")]
    assert [cell.strip() for cell in row.strip("|").split("|")] == [ENV_ID, "150 +/- 35", "50 +/- 7"]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    if name == "zoo":
        text = call(capsys, name, "--help")
    else:
        with pytest.raises(SystemExit) as stop:
            call(capsys, name, "--help")
        assert stop.value.code == 0
        text = capsys.readouterr().out
        assert "td3fd" in text
    assert f"usage: sb3-pgfd {name} " in text
