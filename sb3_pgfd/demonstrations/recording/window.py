"""The window of a recording: the environment's picture, and below it a panel with the state of the recording."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from math import ceil
from typing import Any

import numpy as np

from sb3_pgfd.demonstrations.errors import DemonstrationsError
from sb3_pgfd.demonstrations.recording.controls import import_pygame
from sb3_pgfd.utils.warning import warn_user

KEYS_HELP = {"SPACE": "start / pause", "RETURN": "keep", "BACKSPACE": "discard", "U": "undo", "SHIFT": "fine", "ESC": "finish"}
GAMEPAD_HELP = {"A": "start / pause", "Y": "keep", "B": "discard"}

# Frames are scaled down to fit into the largest size, and up to the smallest width
LARGEST_FRAME, SMALLEST_WIDTH = (960, 640), 640
MARGIN, LINE, LETTERS, SMALL_LETTERS = 14, 26, 22, 18
BAR_HEIGHT, BAR_LABEL, COLUMNS = 10, 60, 2

BACKGROUND, TRACK, MIDDLE, TEXT, FAINT = (24, 26, 31), (56, 60, 70), (130, 136, 148), (236, 238, 241), (163, 169, 180)
RED, AMBER, BLUE = (239, 83, 80), (255, 193, 7), (79, 161, 255)

Place = tuple[int, int]


@dataclass
class Status:
    """What the panel shows; ``n_episodes`` is the number to keep, ``deflections`` are what is held, in [-1, 1]."""

    n_kept: int = 0
    n_episodes: int | None = None
    n_steps: int = 0
    episode_return: float = 0.0
    paused: bool = True
    message: str = ""
    deflections: np.ndarray = field(default_factory=lambda: np.zeros(0))

    @property
    def badge(self) -> tuple[str, tuple[int, int, int]]:
        """Text and colour of the lamp"""
        return ("PAUSED", AMBER) if self.paused else ("RECORDING", RED)

    def __str__(self) -> str:
        wanted = "" if self.n_episodes is None else f" of {self.n_episodes}"
        return f"kept {self.n_kept}{wanted}     step {self.n_steps}     return {self.episode_return:.2f}"


def fit(frame: Place, area: Place) -> Place:
    """:return: The largest width and height with the shape of a frame that fits into an area"""
    factor = min(area[0] / frame[0], area[1] / frame[1])
    return max(1, round(frame[0] * factor)), max(1, round(frame[1] * factor))


class Window:
    """
    A window, as a context manager. Leaving the block closes it and leaves pygame as it was found, because the environment
    may draw with pygame, too.

    :param key_names: Negative and positive key of each action dimension
    :param caller: Name of what opens it, for messages
    :param keys_help: What the keys do, for the last line
    :param gamepad_help: What the buttons do, if there is a gamepad
    :raises ImportError: If pygame is not installed
    :raises DemonstrationsError: On entering, if there is no display
    """

    def __init__(
        self,
        title: str,
        key_names: Sequence[tuple[str, str]],
        caller: str = "record_person",
        keys_help: Mapping[str, str] = KEYS_HELP,
        gamepad_help: Mapping[str, str] = GAMEPAD_HELP,
    ):
        self.title, self.key_names, self.caller = title, list(key_names), caller
        self._keys_help, self._gamepad_help = keys_help, gamepad_help
        self._pygame = import_pygame()
        self._panel_height = 2 * MARGIN + LINE * (3 + ceil(len(self.key_names) / COLUMNS))
        # A gamepad sends events only as long as there is a reference to it
        self._gamepads: dict[int, Any] = {}

    def __enter__(self) -> "Window":
        pygame = self._pygame
        self._was_open = pygame.display.get_init()
        self._to_quit = [module for module in (pygame.font, pygame.joystick) if not module.get_init()]
        try:
            self._open_display()
            pygame.event.clear()
            pygame.font.init()
            # Sends a JOYDEVICEADDED event for every gamepad that is plugged in
            pygame.joystick.init()
        except BaseException:
            self.__exit__()
            raise
        self._font, self._small_font = (pygame.font.Font(None, size) for size in (LETTERS, SMALL_LETTERS))
        self._clock = pygame.time.Clock()
        return self

    def _open_display(self) -> None:
        pygame = self._pygame
        try:
            pygame.display.init()
            driver = pygame.display.get_driver()
        except pygame.error as error:
            driver = str(error)
        # Without a screen SDL chooses the driver "offscreen", which nobody can see or type into
        if not pygame.display.get_init() or driver == "offscreen":
            raise DemonstrationsError(
                f"{self.caller}: found no display ({driver}), expected one to open a window on: run it on a machine with a "
                "screen, over `ssh -X`, or set DISPLAY to a running X server"
            )
        if driver == "dummy":
            warn_user(f"{self.caller}: SDL_VIDEODRIVER=dummy shows no window: unset it to see one")

    def __exit__(self, *_: object) -> None:
        self._gamepads.clear()
        self._pygame.display.quit()
        for module in self._to_quit:
            module.quit()
        if self._was_open:
            self._pygame.display.init()

    def events(self) -> list[Any]:
        """:return: The events since the last call. Gamepads are opened when they are plugged in"""
        pygame = self._pygame
        events = pygame.event.get()
        for event in events:
            if event.type == pygame.JOYDEVICEADDED:
                # An error: it is unplugged again already
                with suppress(pygame.error):
                    gamepad = pygame.joystick.Joystick(event.device_index)
                    self._gamepads[gamepad.get_instance_id()] = gamepad
            elif event.type == pygame.JOYDEVICEREMOVED:
                self._gamepads.pop(event.instance_id, None)
        return list(events)

    @property
    def has_gamepad(self) -> bool:
        """Whether one is plugged in"""
        return self._pygame.joystick.get_count() > 0

    def wait(self, fps: float) -> None:
        """:param fps: Largest number of calls per second; wait for the rest of this one"""
        self._clock.tick(fps)

    def draw(self, frame: Any, status: Status) -> None:
        """:raises DemonstrationsError: If the frame, which ``env.render()`` returned, is no RGB picture"""
        pygame, array = self._pygame, np.asarray(frame)
        if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8 or 0 in array.shape:
            raise DemonstrationsError(
                f"{self.caller}: env.render() gave {type(frame).__name__} of shape {array.shape} and dtype {array.dtype}, "
                "expected a picture of shape (height, width, 3) and dtype uint8: make the environment with "
                "render_mode='rgb_array'"
            )
        picture = pygame.image.frombuffer(array.tobytes(), (array.shape[1], array.shape[0]), "RGB")
        screen = pygame.display.get_surface() or self._open_window(picture.get_size())
        screen.fill(BACKGROUND)
        width, height = screen.get_width(), max(1, screen.get_height() - self._panel_height)
        size = fit(picture.get_size(), (width, height))
        place = ((width - size[0]) // 2, (height - size[1]) // 2)
        screen.blit(picture if size == picture.get_size() else pygame.transform.smoothscale(picture, size), place)
        self._draw_panel(screen, height + MARGIN, status)
        pygame.display.flip()

    def _open_window(self, frame: Place) -> Any:
        width = max(SMALLEST_WIDTH, min(LARGEST_FRAME[0], frame[0]))
        size = fit(frame, (width, LARGEST_FRAME[1]))
        display = self._pygame.display
        display.set_caption(self.title)
        return display.set_mode((max(SMALLEST_WIDTH, size[0]), size[1] + self._panel_height), self._pygame.RESIZABLE)

    def _draw_panel(self, screen: Any, y: int, status: Status) -> None:
        badge, color = status.badge
        self._pygame.draw.circle(screen, color, (MARGIN + 7, y + LINE // 2), 7)
        self._write(screen, badge, (MARGIN + 22, y), color)
        self._write(screen, str(status), (MARGIN + 130, y), TEXT)
        n_columns = min(COLUMNS, len(self.key_names))
        width = screen.get_width() // n_columns
        for number, (names, deflection) in enumerate(zip(self.key_names, status.deflections, strict=False)):
            place = (MARGIN + width * (number % n_columns), y + LINE * (1 + number // n_columns))
            self._draw_bar(screen, place, width - 2 * MARGIN, names, float(deflection))
        x, y = MARGIN, screen.get_height() - MARGIN - 2 * LINE
        self._write(screen, status.message, (x, y), BLUE)
        for key, meaning in (self._gamepad_help if self._gamepads else self._keys_help).items():
            x += self._write(screen, key, (x, y + LINE), TEXT, small=True) + 5
            x += self._write(screen, meaning, (x, y + LINE), FAINT, small=True) + 14

    def _draw_bar(self, screen: Any, place: Place, width: int, names: tuple[str, str], deflection: float) -> None:
        """Draw a track between the names of its keys, filled from its middle."""
        pygame = self._pygame
        track = pygame.Rect(place[0] + BAR_LABEL, place[1] + (LINE - BAR_HEIGHT) // 2, width - 2 * BAR_LABEL, BAR_HEIGHT)
        pygame.draw.rect(screen, TRACK, track, border_radius=4)
        length = round(abs(deflection) * track.width / 2)
        left = track.centerx - (length if deflection < 0 else 0)
        pygame.draw.rect(screen, BLUE, (left, track.top, length, BAR_HEIGHT))
        pygame.draw.line(screen, MIDDLE, (track.centerx, track.top - 3), (track.centerx, track.bottom + 2))
        self._write(screen, names[0], place, FAINT)
        self._write(screen, names[1], (track.right + 10, place[1]), FAINT)

    def _write(self, screen: Any, text: str, place: Place, color: tuple[int, int, int], small: bool = False) -> int:
        """:return: Width of the text"""
        surface = (self._small_font if small else self._font).render(text, True, color)
        screen.blit(surface, (place[0], place[1] + (LINE - surface.get_height()) // 2))
        return int(surface.get_width())
