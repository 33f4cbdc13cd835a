"""A window: what the environment shows, and below it what is being recorded."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil
from types import TracebackType
from typing import Any

import numpy as np

from sb3_pgfd.demonstrations.errors import DemonstrationsError
from sb3_pgfd.demonstrations.recording.controls import import_pygame

KEYS_HELP = {
    "SPACE": "start / pause",
    "RETURN": "keep",
    "BACKSPACE": "discard",
    "U": "undo",
    "SHIFT": "fine",
    "ESC": "finish",
}
GAMEPAD_HELP = {"A": "start / pause", "Y": "keep", "B": "discard"}

# Frames are scaled to fit into this, and up to the smallest width
LARGEST_FRAME = (960, 640)
SMALLEST_WIDTH = 640
MARGIN, LINE = 14, 26
LETTERS, SMALL_LETTERS = 22, 18
BAR_HEIGHT, COLUMNS = 10, 2

BACKGROUND, TRACK, MIDDLE = (24, 26, 31), (56, 60, 70), (130, 136, 148)
TEXT, FAINT = (236, 238, 241), (163, 169, 180)
RED, AMBER, BLUE = (239, 83, 80), (255, 193, 7), (79, 161, 255)

Place = tuple[int, int]


@dataclass
class Status:
    """What a person should know while recording."""

    n_kept: int = 0
    n_episodes: int | None = None
    """How many are wanted, None: as many as there will be"""
    n_steps: int = 0
    """Of this episode"""
    episode_return: float = 0.0
    """So far"""
    paused: bool = True
    message: str = ""
    """What happened last"""
    deflections: np.ndarray = field(default_factory=lambda: np.zeros(0))
    """What is held, in [-1, 1]"""


def status_line(status: Status) -> str:
    """:return: The numbers, in a line"""
    wanted = "" if status.n_episodes is None else f" of {status.n_episodes}"
    return f"kept {status.n_kept}{wanted}     step {status.n_steps}     return {status.episode_return:.2f}"


def fit(frame: Place, area: Place) -> Place:
    """
    :param frame: Width and height
    :param area: Width and height
    :return: The largest size of the frame's shape within the area
    """
    factor = min(area[0] / frame[0], area[1] / frame[1])
    return max(1, round(frame[0] * factor)), max(1, round(frame[1] * factor))


class Window:
    """
    A context manager. When its block is left the window is closed, and pygame is left as it was found: the environment
    may draw with it, too.

    :param title: Of the window
    :param key_names: Negative and positive key of each action dimension, to be shown
    :raises ImportError: If pygame is not installed
    :raises DemonstrationsError: On entering, if there is no display
    """

    def __init__(self, title: str, key_names: Sequence[tuple[str, str]]):
        self.title, self.key_names = title, list(key_names)
        self._pygame = import_pygame()
        self._panel_height = 2 * MARGIN + LINE * (3 + ceil(len(self.key_names) / COLUMNS))
        # Without a reference to them gamepads send nothing
        self._gamepads: dict[int, Any] = {}

    def __enter__(self) -> "Window":
        pygame = self._pygame
        self._was_open = pygame.display.get_init()
        self._to_quit = [module for module in (pygame.font, pygame.joystick) if not module.get_init()]
        try:
            self._open_display()
            pygame.event.clear()
            pygame.font.init()
            # It reports every gamepad that is there as one that was added
            pygame.joystick.init()
        except BaseException:
            self.close()
            raise
        self._font, self._small_font = (pygame.font.Font(None, size) for size in (LETTERS, SMALL_LETTERS))
        self._clock = pygame.time.Clock()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _open_display(self) -> None:
        pygame = self._pygame
        try:
            pygame.display.init()
            driver = pygame.display.get_driver()
        except pygame.error as error:
            driver = str(error)
        # What SDL takes where there is no screen; nobody can see it or type into it
        if not pygame.display.get_init() or driver == "offscreen":
            raise DemonstrationsError(
                f"record_person: found no display ({driver}), expected one to open a window on: run it on a machine with a "
                "screen, over `ssh -X`, or set DISPLAY to a running X server"
            )
        if driver == "dummy":
            warnings.warn("record_person: SDL_VIDEODRIVER=dummy shows no window: unset it to see one", stacklevel=2)

    def close(self) -> None:
        """Close the window. What used pygame before can go on with it."""
        self._gamepads.clear()
        self._pygame.display.quit()
        for module in self._to_quit:
            module.quit()
        if self._was_open:
            self._pygame.display.init()

    def events(self) -> list[Any]:
        """:return: What happened since the last call. Gamepads are opened as they come"""
        pygame = self._pygame
        events = pygame.event.get()
        for event in events:
            if event.type == pygame.JOYDEVICEADDED:
                try:
                    gamepad = pygame.joystick.Joystick(event.device_index)
                except pygame.error:
                    # Unplugged again already
                    continue
                self._gamepads[gamepad.get_instance_id()] = gamepad
            elif event.type == pygame.JOYDEVICEREMOVED:
                self._gamepads.pop(event.instance_id, None)
        return list(events)

    def wait(self, fps: float) -> None:
        """:param fps: As long as it takes since the last call to have this many calls per second"""
        self._clock.tick(fps)

    def draw(self, frame: Any, status: Status) -> None:
        """
        :param frame: What ``env.render()`` returned
        :param status: To be shown below it
        :raises DemonstrationsError: If the frame is no picture
        """
        pygame = self._pygame
        picture = self._picture(frame)
        screen = pygame.display.get_surface() or self._open_window(picture.get_size())
        screen.fill(BACKGROUND)
        width, height = screen.get_width(), max(1, screen.get_height() - self._panel_height)
        size = fit(picture.get_size(), (width, height))
        place = ((width - size[0]) // 2, (height - size[1]) // 2)
        screen.blit(picture if size == picture.get_size() else pygame.transform.smoothscale(picture, size), place)
        self._draw_panel(screen, height, status)
        pygame.display.flip()

    def _picture(self, frame: Any) -> Any:
        array = np.asarray(frame)
        if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8 or 0 in array.shape:
            raise DemonstrationsError(
                f"record_person: env.render() gave {type(frame).__name__} of shape {array.shape} and dtype {array.dtype}, "
                "expected a picture of shape (height, width, 3) and dtype uint8: make the environment with "
                "render_mode='rgb_array'"
            )
        return self._pygame.image.frombuffer(array.tobytes(), (array.shape[1], array.shape[0]), "RGB")

    def _open_window(self, frame: Place) -> Any:
        pygame = self._pygame
        width = max(SMALLEST_WIDTH, min(LARGEST_FRAME[0], frame[0]))
        size = fit(frame, (width, LARGEST_FRAME[1]))
        pygame.display.set_caption(self.title)
        return pygame.display.set_mode((max(SMALLEST_WIDTH, size[0]), size[1] + self._panel_height), pygame.RESIZABLE)

    def _draw_panel(self, screen: Any, top: int, status: Status) -> None:
        y = top + MARGIN
        badge, color = ("PAUSED", AMBER) if status.paused else ("RECORDING", RED)
        self._pygame.draw.circle(screen, color, (MARGIN + 7, y + LINE // 2), 7)
        self._write(screen, badge, (MARGIN + 22, y), color)
        self._write(screen, status_line(status), (MARGIN + 130, y), TEXT)
        n_columns = min(COLUMNS, len(self.key_names))
        width = screen.get_width() // n_columns
        for number, (names, deflection) in enumerate(zip(self.key_names, status.deflections, strict=False)):
            row, column = divmod(number, n_columns)
            place = (MARGIN + width * column, y + LINE * (1 + row))
            self._draw_bar(screen, place, width - 2 * MARGIN, names, float(deflection))
        y = screen.get_height() - MARGIN - 2 * LINE
        self._write(screen, status.message, (MARGIN, y), BLUE)
        x, gap = MARGIN, 14
        for key, meaning in (GAMEPAD_HELP if self._gamepads else KEYS_HELP).items():
            x += self._write(screen, key, (x, y + LINE), TEXT, small=True) + 5
            x += self._write(screen, meaning, (x, y + LINE), FAINT, small=True) + gap

    def _draw_bar(self, screen: Any, place: Place, width: int, names: tuple[str, str], deflection: float) -> None:
        """A track between the names of its keys, filled from its middle."""
        pygame = self._pygame
        label = 60
        track = pygame.Rect(place[0] + label, place[1] + (LINE - BAR_HEIGHT) // 2, width - 2 * label, BAR_HEIGHT)
        pygame.draw.rect(screen, TRACK, track, border_radius=4)
        length = round(abs(deflection) * track.width / 2)
        left = track.centerx - (length if deflection < 0 else 0)
        pygame.draw.rect(screen, BLUE, (left, track.top, length, BAR_HEIGHT))
        pygame.draw.line(screen, MIDDLE, (track.centerx, track.top - 3), (track.centerx, track.bottom + 2))
        self._write(screen, names[0], place, FAINT)
        self._write(screen, names[1], (track.right + 10, place[1]), FAINT)

    def _write(self, screen: Any, text: str, place: Place, color: tuple[int, int, int], small: bool = False) -> int:
        """:return: How wide it is"""
        surface = (self._small_font if small else self._font).render(text, True, color)
        screen.blit(surface, (place[0], place[1] + (LINE - surface.get_height()) // 2))
        return int(surface.get_width())
