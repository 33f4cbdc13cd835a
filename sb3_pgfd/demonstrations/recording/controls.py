"""Keys and sticks as actions. Their state follows pygame's events, so that a lost focus releases every key."""

import re
import warnings
from collections.abc import Sequence
from enum import Enum
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from sb3_pgfd.demonstrations.errors import DemonstrationsError
from sb3_pgfd.utils.checks import is_number
from sb3_pgfd.utils.files import install

KeyPairs = Sequence[Sequence[str]]

# Negative and positive key of each action dimension
DEFAULT_KEYS = (("left", "right"), ("down", "up"), ("a", "d"), ("s", "w"), ("j", "l"), ("k", "i"), ("f", "h"), ("g", "t"))
# Share of the deflection while shift is held, and largest value of a stick at rest
FINE, DEAD_ZONE = 0.3, 0.1


class Command(Enum):
    """What a person asks for, besides moving."""

    START_OR_PAUSE = "start or pause"
    PAUSE = "pause"
    DISCARD = "discard this episode"
    KEEP = "end this episode here and keep it"
    UNDO = "remove the last episode"
    FINISH = "finish"


COMMAND_KEYS = {
    "space": Command.START_OR_PAUSE,
    "p": Command.START_OR_PAUSE,
    "backspace": Command.DISCARD,
    "return": Command.KEEP,
    # On the number pad
    "enter": Command.KEEP,
    "u": Command.UNDO,
    "escape": Command.FINISH,
}
FINE_KEYS = ("left shift", "right shift")

# A, B, Y and start of a gamepad with the layout of an Xbox
COMMAND_BUTTONS = {0: Command.START_OR_PAUSE, 1: Command.DISCARD, 3: Command.KEEP, 7: Command.START_OR_PAUSE}


def import_pygame() -> Any:
    """:raises ImportError: If pygame is not installed"""
    try:
        import pygame
    except ImportError as error:
        raise ImportError(f"Recording from a person needs pygame: {install('keyboard')}") from error
    return pygame


def controllable_space(env: gym.Env) -> spaces.Box:
    """
    :return: The action space of an environment to drive
    :raises DemonstrationsError: Unless it is a Box of bounded floats
    """
    space, why = env.action_space, "because a held key moves an action towards a bound"
    if not isinstance(space, spaces.Box) or not np.issubdtype(space.dtype, np.floating):
        raise DemonstrationsError(f"action_space: found {space}, expected a Box of floats, {why}")
    if not np.isfinite((space.low, space.high)).all():
        raise DemonstrationsError(
            f"action_space: found bounds from {space.low.tolist()} to {space.high.tolist()}, expected finite bounds, {why}: "
            "wrap the environment in gymnasium.wrappers.TransformAction"
        )
    return space


def key_codes(keys: KeyPairs, n_dims: int) -> list[tuple[int, int]]:
    """
    :param keys: A (negative, positive) pair of pygame's key names for each action dimension
    :return: The codes of these keys
    :raises DemonstrationsError: If the number of pairs is wrong, or a key is unknown, reserved or used twice
    """
    if isinstance(keys, str) or any(isinstance(pair, str) or len(pair) != 2 for pair in keys):
        raise DemonstrationsError(f"keys: found {keys!r}, expected (negative, positive) pairs such as ('left', 'right')")
    if len(keys) != n_dims:
        raise DemonstrationsError(
            f"keys: found {len(keys)} pairs, expected {n_dims}: pass keys, a (negative, positive) pair of pygame's key names "
            "for each action dimension"
        )
    taken = {key_code(name): command.value for name, command in COMMAND_KEYS.items()}
    taken |= {key_code(name): "fine motion" for name in FINE_KEYS}
    codes = [(key_code(negative), key_code(positive)) for negative, positive in keys]
    for number, pair in enumerate(keys):
        for name, code in zip(pair, codes[number], strict=True):
            if code in taken:
                raise DemonstrationsError(
                    f"keys: found {name!r} for dimension {number}, expected another key: it is {taken[code]}"
                )
            taken[code] = f"a key of dimension {number} already"
    return codes


def key_code(name: str) -> int:
    """:raises DemonstrationsError: If this is no name that ``pygame.key.name`` returns: "left", "a", "page up\""""
    with warnings.catch_warnings():
        # pygame warns that no display is open; the names do not depend on it
        warnings.simplefilter("ignore", Warning)
        try:
            return int(import_pygame().key.key_code(name))
        except (TypeError, ValueError):
            raise DemonstrationsError(
                f"keys: found {name!r}, expected one of pygame's key names, such as 'left', 'a', '1', 'page up'"
            ) from None


def stick_axes(axes: Sequence[int | str] | None, n_dims: int) -> list[tuple[int, int]]:
    """
    :param axes: Gamepad axis of each action dimension, with a minus for a reversed one (``"-0"`` for the first). None: 0,
        -1, 2, -3, ..., because SDL's vertical axes are negative upwards
    :param n_dims: Number of action dimensions
    :return: Axis and sign of each dimension
    :raises DemonstrationsError: Unless there is one number for each dimension
    """
    if axes is None:
        return [(axis, -1 if axis % 2 else 1) for axis in range(n_dims)]
    if isinstance(axes, str) or not all(re.fullmatch(r"-?\d{1,3}", str(axis)) for axis in axes) or len(axes) != n_dims:
        raise DemonstrationsError(
            f"axes: found {axes!r}, expected {n_dims} numbers of axes, one for each action dimension, such as 0 or '-1'"
        )
    return [(abs(int(axis)), -1 if str(axis).startswith("-") else 1) for axis in axes]


def past_dead_zone(value: float) -> float:
    """:return: 0 for a stick within the dead zone; outside it grows from 0 to +-1 without a jump"""
    return float(np.sign(value) * np.clip((abs(value) - DEAD_ZONE) / (1 - DEAD_ZONE), 0.0, 1.0))


def to_action(deflections: np.ndarray, space: spaces.Box, scale: float = 1.0) -> np.ndarray:
    """
    :param deflections: One value in [-1, 1] for each action dimension
    :param space: A bounded action space
    :param scale: How far a full deflection goes towards the bound, in (0, 1]
    :return: Without deflection 0, or the bound nearest to 0; a full deflection goes ``scale`` of the way to its bound
    """
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    neutral = np.clip(0.0, low, high)
    share = np.reshape(deflections, space.shape) * scale
    # Unlike `neutral + share * (bound - neutral)`, this is exact at both ends and does not overflow
    action = (1 - np.abs(share)) * neutral + np.abs(share) * np.where(share < 0, low, high)
    return np.clip(action, low, high).astype(space.dtype)


class Controls:
    """
    Turns pygame's events into actions and commands; see :func:`key_codes`, :func:`stick_axes` and :func:`to_action`.

    :raises DemonstrationsError: If an argument is invalid
    """

    def __init__(
        self, space: spaces.Box, keys: KeyPairs | None = None, axes: Sequence[int | str] | None = None, scale: float = 1.0
    ):
        if not is_number(scale, 0.0, 1.0) or scale == 0:
            raise DemonstrationsError(f"scale: found {scale!r}, expected a number in (0, 1]")
        n_dims = int(np.prod(space.shape))
        self.space, self.scale = space, float(scale)
        keys = DEFAULT_KEYS[:n_dims] if keys is None else keys
        self.codes = key_codes(keys, n_dims)
        self.names = [(str(negative), str(positive)) for negative, positive in keys]
        self.axes = stick_axes(axes, n_dims)
        self._commands = {key_code(name): command for name, command in COMMAND_KEYS.items()}
        self._fine = {key_code(name) for name in FINE_KEYS}
        self._held: set[int] = set()
        # Keys pressed since the last step: a tap between two steps still counts for one of them
        self._pressed: set[int] = set()
        # Value by gamepad and axis
        self._sticks: dict[tuple[int, int], float] = {}

    def handle(self, event: Any) -> Command | None:
        """:return: The command that an event of pygame gives, None if it gives none"""
        pygame = import_pygame()
        if event.type == pygame.QUIT:
            return Command.FINISH
        if event.type == pygame.KEYDOWN:
            self._held.add(event.key)
            self._pressed.add(event.key)
            return self._commands.get(event.key)
        if event.type == pygame.KEYUP:
            self._held.discard(event.key)
        elif event.type == pygame.JOYAXISMOTION:
            self._sticks[event.instance_id, event.axis] = event.value
        elif event.type == pygame.JOYBUTTONDOWN:
            return COMMAND_BUTTONS.get(event.button)
        elif event.type == pygame.JOYDEVICEREMOVED:
            self._sticks = {stick: value for stick, value in self._sticks.items() if stick[0] != event.instance_id}
        elif event.type == pygame.WINDOWFOCUSLOST:
            for state in (self._held, self._pressed, self._sticks):
                state.clear()
            return Command.PAUSE
        return None

    def set_stick(self, axis: int, value: float) -> None:
        """:param value: Of an axis of a device that sends no events, in [-1, 1]"""
        self._sticks[-1, axis] = value

    def read(self) -> tuple[np.ndarray, np.ndarray, set[str]]:
        """
        What is held now or was pressed since the last call. A stick counts where no key is held.

        :return: Deflections in [-1, 1], shape ``(n_dims,)``; the action; the devices in use (``"keyboard"``, ``"gamepad"``)
        """
        down = self._held | self._pressed
        self._pressed.clear()
        pairs = np.array([[code in down for code in pair] for pair in self.codes], dtype=bool).reshape(-1, 2)
        by_keys = pairs.any(axis=1)
        keys = pairs[:, 1].astype(float) - pairs[:, 0]
        sticks = np.array([sign * self._stick(axis) for axis, sign in self.axes], dtype=float)
        deflections = np.where(by_keys, keys, sticks) * (FINE if self._fine & down else 1.0)
        moving = {"keyboard": by_keys.any(), "gamepad": deflections[~by_keys].any()}
        devices = {device for device, moves in moving.items() if moves}
        return deflections, to_action(deflections, self.space, self.scale), devices

    def _stick(self, axis: int) -> float:
        """:return: The largest deflection of this axis among all gamepads"""
        values = [past_dead_zone(value) for (_, number), value in self._sticks.items() if number == axis]
        return max(values, key=abs, default=0.0)
