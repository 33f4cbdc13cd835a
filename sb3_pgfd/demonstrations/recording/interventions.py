"""Interventions: a person or a controller takes over from a policy while it learns, and gives back."""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from sb3_pgfd.demonstrations.errors import DemonstrationsError
from sb3_pgfd.demonstrations.recording.controls import Command, Controls, KeyPairs, controllable_space
from sb3_pgfd.demonstrations.recording.person import fps_of
from sb3_pgfd.demonstrations.recording.window import AMBER, BLUE, Status, Window
from sb3_pgfd.utils.checks import is_number
from sb3_pgfd.utils.files import install

INTERVENE_ACTION = "intervene_action"
"""Key of the info under which an environment gives the action that was executed in place of the policy's; None: it was not"""
DEVICES = ("keyboard", "gamepad", "spacemouse")
_HELP = {"SPACE": "take over / give back", "RETURN": "success", "BACKSPACE": "failure", "SHIFT": "fine", "ESC": "finish"}
_GAMEPAD_HELP = {"A": "take over / give back", "Y": "success", "B": "failure"}
# Shown where the environment draws no picture, because the person sees the robot itself
_NO_PICTURE = np.full((40, 640, 3), 24, dtype=np.uint8)

Controller = Callable[[Any, Any], Any]
"""Of the observation and the policy's action to the action to execute in its place, or None: the policy's"""


class InterventionWrapper(gym.Wrapper):
    """
    Lets a controller take over at any step. ``info["intervene_action"]`` says what it did, or None. TD3fD, SACfD and DDPGfD
    store the executed action, the steps of an intervention join the demonstrations, and ``rollout/intervention_rate`` is
    logged. A2CfD refuses it. Put it outside of wrappers that change actions, and around the environment that is learned from
    alone.

    :param env: The environment
    :param controller: A :class:`Person`, or any function of the observation and the policy's action. It returns the action to
        execute, in environment units, or None. If it has ``reset(observation)``, that is called at the start of an episode;
        if its ``ends_episode`` is true after a step, the episode is truncated; ``close()`` is called with the environment's
    """

    def __init__(self, env: gym.Env, controller: Controller):
        super().__init__(env)
        self.controller = controller
        self._observation: Any = None

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """:return: The result of the environment"""
        self._observation, info = self.env.reset(**kwargs)
        if hasattr(self.controller, "reset"):
            self.controller.reset(self._observation)
        return self._observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """:return: The result of the environment for the action that was executed"""
        taken = self.controller(self._observation, action)
        if taken is not None:
            action = taken = self._checked(taken)
        self._observation, reward, terminated, truncated, info = self.env.step(action if taken is None else taken.copy()[()])
        truncated = bool(truncated or getattr(self.controller, "ends_episode", False))
        return self._observation, reward, terminated, truncated, {**info, INTERVENE_ACTION: taken}

    def close(self) -> None:
        """Close the controller, and then the environment: some environments quit pygame, and a window needs it."""
        if hasattr(self.controller, "close"):
            self.controller.close()
        super().close()

    def _checked(self, taken: Any) -> np.ndarray:
        space = self.action_space
        taken = np.asarray(taken, dtype=space.dtype)
        is_box = isinstance(space, spaces.Box)
        if not (taken.shape == space.shape and np.isfinite(taken).all() if is_box else space.contains(taken)):
            raise ValueError(f"controller: found the action {taken.tolist()} of shape {taken.shape}, expected one of {space}")
        # The buffer clips what it stores
        return np.clip(taken, space.low, space.high) if isinstance(space, spaces.Box) else taken


@dataclass
class InterventionStatus(Status):
    """What the panel shows while a policy learns."""

    intervenes: bool = False
    n_intervened: int = 0
    n_total: int = 0

    @property
    def badge(self) -> tuple[str, tuple[int, int, int]]:
        """Text and colour of the lamp"""
        return ("YOU", AMBER) if self.intervenes else ("POLICY", BLUE)

    def __str__(self) -> str:
        rate = self.n_intervened / self.n_total if self.n_total else 0.0
        return f"episode {self.n_kept}     step {self.n_steps}     yours {rate:.0%} of {self.n_total} steps"


class Person:
    """
    The controller of a person at a window. A held key or a pushed stick takes over for as long as it is held; keys that are
    pressed while the policy is updated count for the next step.

    ============================ ==========================================================
    SPACE, P, button 0 or 7      take over until it is pressed again; without a key the action is 0, or the bound nearest to 0
    RETURN, button 3             this was a success, see :meth:`succeeded`
    BACKSPACE, button 1          this was a failure: the episode ends, truncated
    ESC, closing the window      finish learning between two steps, like Ctrl-C
    ============================ ==========================================================

    :param env: The environment that the :class:`InterventionWrapper` wraps. Its picture is shown if it draws one
        (``render_mode="rgb_array"``)
    :param device: ``"keyboard"``, ``"gamepad"``, which must be plugged in, or ``"spacemouse"``, a 3Dconnexion SpaceMouse. The
        keyboard works with all of them
    :param fps: Largest number of steps per second, None: the ``render_fps`` of the environment; 0: do not wait, because
        somebody else sets the pace
    :param scale: How far a full deflection goes towards its bound, in (0, 1]
    :param keys: A (negative, positive) pair of pygame's key names for each action dimension, see ``record_person``
    :param axes: Axis of each action dimension; of a SpaceMouse 0 to 5 are x, y, z, roll, pitch and yaw
    :raises DemonstrationsError: If a person cannot drive this environment, or an argument is invalid
    :raises ImportError: If pygame or the SpaceMouse's library is not installed
    """

    ends_episode = False
    """Whether the person ended this episode as a failure"""

    def __init__(
        self,
        env: gym.Env,
        device: str = "keyboard",
        *,
        fps: float | None = None,
        scale: float = 1.0,
        keys: KeyPairs | None = None,
        axes: Sequence[int | str] | None = None,
    ):
        if device not in DEVICES:
            raise DemonstrationsError(f"Person: found device={device!r}, expected one of {', '.join(DEVICES)}")
        if fps is not None and not is_number(fps, 0.0):
            raise DemonstrationsError(f"Person: found fps={fps!r}, expected a number >= 0, or None")
        space = controllable_space(env)
        if device == "spacemouse" and axes is None:
            # A SpaceMouse has no axis that points down
            axes = range(int(np.prod(space.shape)))
        self.env, self.device, self.fps = env, device, fps_of(env) if fps is None else fps
        self.controls = Controls(space, keys, axes, scale)
        self.status = InterventionStatus(message="a key or a stick takes over")
        title = f"{env.spec.id if env.spec else env.unwrapped}: learning"
        self.window = Window(title, self.controls.names, "InterventionWrapper", _HELP, _GAMEPAD_HELP)
        self._mouse = SpaceMouse(self.controls) if device == "spacemouse" else None
        self._is_open, self._is_mine, self._succeeded = False, False, False

    def reset(self, observation: Any) -> None:
        """An episode begins, which is not a success yet."""
        self.ends_episode = self._succeeded = False
        self.status.n_steps = 0
        self.status.n_kept += 1

    def __call__(self, observation: Any, action: Any) -> np.ndarray | None:
        """:return: The person's action, None: the policy's"""
        if not self._is_open:
            self._open()
        commands = deque(filter(None, map(self.controls.handle, self.window.events())))
        commands.extend([] if self._mouse is None else self._mouse.poll())
        for command in commands:
            self._obey(command)
        status = self.status
        status.deflections, mine, moved = self.controls.read()
        status.intervenes = self._is_mine or bool(moved)
        status.n_total += 1
        status.n_steps += 1
        status.n_intervened += status.intervenes
        self.window.draw(self.env.render() if self.env.render_mode == "rgb_array" else _NO_PICTURE, status)
        if self.fps > 0:
            self.window.wait(self.fps)
        return mine if status.intervenes else None

    def succeeded(self, observation: Any = None, info: Any = None) -> bool:
        """:return: Whether the person said that this episode is a success, for ``SuccessReward(env, person.succeeded)``"""
        return self._succeeded

    def close(self) -> None:
        """Close the window."""
        if self._is_open:
            self._is_open = False
            self.window.__exit__()
        if self._mouse is not None:
            self._mouse.close()

    def _open(self) -> None:
        # Not in the constructor: events must be read by the thread that opened the window
        self.window.__enter__()
        self._is_open = True
        if self.device == "gamepad" and not self.window.has_gamepad:
            raise DemonstrationsError("Person: found no gamepad, expected one that is plugged in, or device='keyboard'")

    def _obey(self, command: Command) -> None:
        if command is Command.START_OR_PAUSE:
            self._is_mine = not self._is_mine
            self.status.message = "SPACE gives back" if self._is_mine else "a key or a stick takes over"
        elif command is Command.KEEP:
            self._succeeded = True
            self.status.message = f"episode {self.status.n_kept}: success"
        elif command is Command.DISCARD:
            self.ends_episode = True
            self.status.message = f"episode {self.status.n_kept}: failure"
        elif command is Command.PAUSE:
            self.status.message = "keys are released, because the window lost the focus"
        elif command is Command.FINISH:
            self.status.message = "learning ends after this step"
            # Learning waits for it between two steps, also in another thread
            signal.raise_signal(signal.SIGINT)


class SpaceMouse:
    """
    Feeds a 3Dconnexion SpaceMouse into controls as if it were a gamepad.

    :param controls: What it moves
    :raises ImportError: If its library is not installed
    :raises DemonstrationsError: If none is plugged in
    """

    # Reports that are read at once; the device sends up to 100 a second
    _MOST_REPORTS = 64
    _BUTTONS = (Command.START_OR_PAUSE, Command.KEEP)

    def __init__(self, controls: Controls):
        try:
            import pyspacemouse
        except (ImportError, OSError) as error:
            # An OSError: the system's HIDAPI is missing
            raise ImportError(f"A SpaceMouse needs pyspacemouse and HIDAPI ({error}): {install('spacemouse')}") from error
        try:
            self._device = pyspacemouse.open()
        except (OSError, RuntimeError, ValueError) as error:
            raise DemonstrationsError(f"Person: found no SpaceMouse that opens ({error}), expected one plugged in") from error
        self._controls, self._held = controls, [False] * len(self._BUTTONS)

    def poll(self) -> list[Command]:
        """Read what has come; the last position counts. :return: What the buttons ask for"""
        commands, before = [], None
        for _ in range(self._MOST_REPORTS):
            state = self._device.read()
            for number, command in enumerate(self._BUTTONS[: len(state.buttons)]):
                if state.buttons[number] and not self._held[number]:
                    commands.append(command)
                self._held[number] = bool(state.buttons[number])
            if state.t == before:
                break
            before = state.t
        for axis, name in enumerate(("x", "y", "z", "roll", "pitch", "yaw")):
            self._controls.set_stick(axis, float(getattr(state, name)))
        return commands

    def close(self) -> None:
        """Let go of it."""
        self._device.close()
