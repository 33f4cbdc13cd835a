import re
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pygame
import pytest
from typing_person import Typing, Walk, down, dummy_display, tap, walk

from sb3_pgfd import DemonstrationsError
from sb3_pgfd.demonstrations.recording.person import record_person
from sb3_pgfd.demonstrations.recording.window import Status, Window, fit
from sb3_pgfd.utils.files import install

pytestmark = pytest.mark.filterwarnings("ignore:record_person. SDL_VIDEODRIVER=dummy")


@pytest.fixture(autouse=True)
def _display(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield from dummy_display(monkeypatch)


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (Status(), "kept 0     step 0     return 0.00"),
        (Status(2, 5, 113, -34.256), "kept 2 of 5     step 113     return -34.26"),
    ],
)
def test_the_numbers_are_shown_in_a_line(status: Status, text: str):
    assert str(status) == text


def test_the_window_shows_the_frame_and_what_is_recorded():
    pictures: dict[tuple[int, int], np.ndarray] = {}

    def look(attempt: int, n_steps: int, observation: np.ndarray) -> list[Any]:
        screen = pygame.display.get_surface()
        if screen is not None:
            pictures[attempt, n_steps] = pygame.surfarray.array3d(screen)
        return [*tap("space"), *down("right")] if n_steps == 0 else []

    record_person(Typing(Walk(), look), 2)
    # Frames of 40 x 30, the second axis of a surface goes down
    width, height = 640, 480
    # Nothing but the frame before, in grey of 50 for each step, and the panel below it
    for step in (2, 3):
        assert (pictures[0, step][:width, :height] == 50 * (step - 1)).all()
    panels = {key: picture[:, height:] for key, picture in pictures.items()}
    for first, second in [((0, 2), (0, 3)), ((0, 3), (1, 3))]:
        # The numbers of steps, of kept episodes
        assert (panels[first] != panels[second]).any()
    red, amber = (np.array(color) for color in ((239, 83, 80), (255, 193, 7)))
    assert (panels[0, 2] == red).all(axis=2).any()
    assert not (panels[0, 2] == amber).all(axis=2).any()


@pytest.mark.parametrize("size", [(1, 1), (50, 500), (500, 40), (900, 700)])
def test_the_window_may_be_given_any_size(size: tuple[int, int]):
    status = Status(deflections=np.array([0.5, -1, 0]))
    with Window("a walk", [("left", "right"), ("down", "up"), ("a", "d")]) as window:
        window.draw(Walk().render(), status)
        pygame.display.set_mode(size, pygame.RESIZABLE)
        window.draw(Walk().render(), status)
        screen = pygame.display.get_surface()
        assert screen is not None
        assert screen.get_size() == size


@pytest.mark.parametrize(
    ("frame", "area", "size"),
    [((600, 400), (640, 640), (640, 427)), ((500, 500), (640, 300), (300, 300)), ((2000, 10), (640, 640), (640, 3))],
)
def test_a_frame_keeps_its_shape(frame: Any, area: Any, size: Any):
    assert fit(frame, area) == size


@pytest.mark.parametrize("options", [{"id": "Pendulum-v1"}, {"id": "LunarLander-v3", "continuous": True}])
def test_environments_that_draw_with_pygame_go_on_afterwards(options: dict[str, Any]):
    env = gym.make(**options, render_mode="rgb_array")
    env.reset(seed=0)
    before = env.render()
    script = {(0, 0): [*tap("space"), *down("right")], (0, 3): tap("return")}
    assert record_person(Typing(env, script), 1, fps=500).episode_lengths.tolist() == [3]
    env.reset(seed=0)
    np.testing.assert_array_equal(env.render(), before)
    env.close()


def test_an_id_is_made_and_closed():
    def press_when_it_is_open() -> None:
        while pygame.display.get_surface() is None:
            time.sleep(0.01)
        for event in tap("space", "return"):
            pygame.event.post(event)

    threading.Thread(target=press_when_it_is_open, daemon=True).start()
    demonstrations = record_person("Pendulum-v1", 1)
    assert demonstrations.metadata["env_id"] == "Pendulum-v1"
    assert demonstrations.episode_lengths.tolist() == [1]


def test_a_display_that_was_open_is_open_again():
    pygame.display.init()
    record_person(walk({(0, 0): tap("space")}), 1)
    assert pygame.display.get_init()
    assert pygame.display.get_surface() is None
    pygame.display.quit()


@pytest.mark.parametrize(
    ("env", "options", "message"),
    [
        (gym.make("Pendulum-v1"), {}, "found an environment with render_mode=None, expected 'rgb_array'"),
        (gym.make("CartPole-v1", render_mode="rgb_array"), {}, r"action_space: found Discrete\(2\), expected a Box of floats"),
        ("Pendulum-v9", {}, "Pendulum-v9: found no environment of this id that can be made"),
        (3, {}, "found env of type int, expected a gymnasium.Env or its id"),
        (Walk(), {"n_episodes": 0}, "found n_episodes=0, expected at least 1, or None"),
        (Walk(), {"fps": 0}, "found fps=0, expected a number > 0, or None"),
    ],
)
def test_what_cannot_be_driven_is_refused_before_anything_is_written(env: Any, options: dict, message: str, tmp_path: Path):
    with pytest.raises(DemonstrationsError, match=message):
        record_person(env, path=tmp_path / "a.npz", **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("driver", ["x11", "offscreen"])
def test_a_machine_without_a_display_is_told(driver: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", driver)
    monkeypatch.delenv("DISPLAY", raising=False)
    with pytest.raises(DemonstrationsError, match=r"found no display \(.*\), expected one to open a window on"):
        record_person(walk({}), 1)
    assert not pygame.font.get_init()


def test_a_missing_pygame_is_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pygame", None)
    with pytest.raises(ImportError, match=re.escape(f"needs pygame: {install('keyboard')}")):
        record_person(Walk(), 1)


def test_a_window_that_nobody_sees_is_told_of():
    with pytest.warns(UserWarning, match="SDL_VIDEODRIVER=dummy shows no window: unset it"):
        record_person(walk({(0, 0): tap("space")}), 1)


def test_a_frame_that_is_no_picture_is_refused():
    class Text(Walk):
        def render(self) -> Any:
            return "a walk"

    with pytest.raises(DemonstrationsError, match=r"env.render\(\) gave str .*, expected a picture of shape"):
        record_person(Text(), 1)
