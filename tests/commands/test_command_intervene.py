"""``train --intervene`` and ``--control-hz``, with the real window and injected events."""

import csv
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pygame
import pytest
from command import SMALL, call, refused

from sb3_pgfd.zoo.beside_the_robot import given_options
from sb3_pgfd.zoo.commands import _parse_own

ENV = ["--algo", "td3fd", "--env", "Pendulum-v1", "--eval-freq", "-1", "--log-interval", "1", "--seed", "1", *SMALL]
RUN = Path("logs/td3fd/Pendulum-v1_1")


@pytest.fixture(autouse=True)
def _display(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.chdir(tmp_path)
    pygame.quit()
    yield
    pygame.quit()


def press_when_it_is_open(*keys: int) -> None:
    def press() -> None:
        while pygame.display.get_surface() is None:
            time.sleep(0.01)
        for key in keys:
            pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=key))

    threading.Thread(target=press, daemon=True).start()


def columns(path: Path) -> dict[str, list[str]]:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: [row[name] for row in rows if row[name]] for name in rows[0]}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:InterventionWrapper. SDL_VIDEODRIVER=dummy")
def test_a_person_takes_over_and_the_run_can_go_on_with_the_same_options(capsys: pytest.CaptureFixture[str]) -> None:
    press_when_it_is_open(pygame.K_d)
    options = ["--intervene", "keyboard", "--control-hz", "100", "--keys", "a,d"]
    printed = call(capsys, "train", *ENV, *options, "-n", "210")
    assert "Real time, 100 Hz: 210 steps, " in printed
    logged = columns(RUN / "progress.csv")
    rates = [float(value) for value in logged["rollout/intervention_rate"]]
    # The key is held from soon after the beginning of an episode of 200 steps
    assert 0.5 < rates[0] <= 1.0
    assert float(logged["time/missed_deadlines"][-1]) >= 0.0
    assert json.loads((RUN / "Pendulum-v1" / "command.json").read_text())[-6:] == options
    assert "Going on after 210 steps" in call(capsys, "train", "--resume", str(RUN), "-n", "220")


@pytest.mark.filterwarnings("ignore:InterventionWrapper. SDL_VIDEODRIVER=dummy")
def test_the_key_of_success_gives_the_reward_that_is_logged(capsys: pytest.CaptureFixture[str]) -> None:
    press_when_it_is_open(pygame.K_RETURN)
    call(capsys, "train", *ENV, "--intervene", "keyboard", "--success-key", "-n", "40")
    _, *rows = (RUN / "0.monitor.csv").read_text().splitlines()
    # The first episode ends when the key is pressed
    first = next(csv.DictReader(rows))
    assert (float(first["r"]), float(first["is_success"])) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--success-key"], "--success-key: found it alone, expected --intervene with it"),
        (["--keys", "a,d"], "--keys: found it alone, expected --intervene with it"),
        (["--control-hz", "0"], "--control-hz: found 0, expected a number of steps per second above 0"),
        (
            ["--intervene", "keyboard", "--vec-env", "subproc"],
            "--intervene: found environments of a SubprocVecEnv, expected one in this process",
        ),
        (["--intervene", "keyboard", "--algo", "a2cfd"], "found --algo a2cfd, expected one run of ddpgfd, td3fd, sacfd"),
        (["--control-hz", "10", "--algo", "a2cfd"], "found --algo a2cfd, expected one run of ddpgfd, td3fd, sacfd"),
        (["--control-hz", "10", "-optimize"], "--intervene, --control-hz: found -optimize, expected one run of"),
    ],
)
def test_options_without_meaning_are_refused(options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert message in refused(capsys, "train", *ENV, *options)


def test_the_options_are_remembered_as_they_were_given() -> None:
    given = ["--intervene", "spacemouse", "--success-key", "--control-hz", "12.5", "--scale", "0.5", "--axes", "0", "-1"]
    assert given_options(_parse_own([*given, "-n", "5"], "train")[0]) == given
