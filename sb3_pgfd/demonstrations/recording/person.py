"""Recording from a person, who drives the environment by keyboard or gamepad."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym

from sb3_pgfd.demonstrations.dataset import Demonstrations
from sb3_pgfd.demonstrations.environment import make_env
from sb3_pgfd.demonstrations.errors import DemonstrationsError
from sb3_pgfd.demonstrations.recording.controls import Command, Controls, KeyPairs, controllable_space
from sb3_pgfd.demonstrations.recording.provenance import describe_env, describe_episodes
from sb3_pgfd.demonstrations.recording.rollout import Rollout
from sb3_pgfd.demonstrations.recording.session import Session
from sb3_pgfd.demonstrations.recording.window import Status, Window
from sb3_pgfd.utils.checks import is_number, is_whole

# Of environments that do not say how fast they are
DEFAULT_FPS = 30
# How often the window looks for keys while nothing moves
PAUSED_FPS = 30


def record_person(
    env: gym.Env | str,
    n_episodes: int | None = None,
    path: str | Path | None = None,
    *,
    seed: int = 0,
    fps: float | None = None,
    scale: float = 1.0,
    keys: KeyPairs | None = None,
    axes: Sequence[int | str] | None = None,
    successes_only: bool = False,
    pause_between: bool = True,
    resume: bool = False,
    overwrite: bool = False,
) -> Demonstrations:
    """
    Open a window in which a person drives the environment.

    A key that is held deflects its action dimension fully towards a bound, or 0.3 of that with shift; nothing held is 0,
    or the bound nearest to it. Sticks of a gamepad deflect as far as they are pushed, where no key is held.

    ============================ ==========================================================
    SPACE, P, button 0 or 7      start, pause, go on. The window starts paused
    RETURN, button 3             end the episode here and keep it, as truncated
    BACKSPACE, button 1          discard the episode, start anew with another seed
    U                            take back the episode kept last
    ESC, closing the window      finish; the episode under way is dropped
    ============================ ==========================================================

    An episode that ends by itself is kept. A key that is pressed and released between two steps counts for one of them.
    When the window loses the focus, everything is let go and the episode paused.

    :param env: An environment with bounded Box actions, made with ``render_mode="rgb_array"``, or its id. Attempt k is
        reset with ``seed + k``
    :param n_episodes: Finish when this many are kept; None: when the person does
    :param path: Write the demonstrations there, the ending ``.npz`` is added if it is missing. Until the person has
        finished, the folder ``<path>.recording`` holds each episode from its end on, and ``Demonstrations.load`` reads it
    :param seed: Seed of the first attempt
    :param fps: Steps per second at most, None: the ``render_fps`` of the environment's metadata. Less is slow motion
    :param scale: How far towards its bound a full deflection goes, in (0, 1]
    :param keys: A (negative, positive) pair of pygame's key names for each action dimension, by default left/right,
        down/up, a/d, s/w, j/l, k/i, f/h, g/t
    :param axes: Number of the gamepad's axis for each action dimension, with a minus for one that is turned round, by
        default 0, -1, 2, -3, ...: pushed up is positive. Triggers are axes, too, on some gamepads: leave them out
    :param successes_only: Keep episodes that end with ``is_success`` (or ``success``) in their info only
    :param pause_between: Whether each episode waits for the person to start it; otherwise only the first one does
    :param resume: Go on with the unfinished recording in that folder, if there is one, with the next seed
    :param overwrite: Whether the file, and without ``resume`` an unfinished recording, may be replaced
    :return: Demonstrations in environment units with their provenance
    :raises DemonstrationsError: If the environment cannot be driven so, there is no display, no episode was kept, or the
        unfinished recording was begun with other settings
    :raises FileExistsError: If there is a file or an unfinished recording already
    :raises ImportError: If pygame is not installed
    """
    _check_numbers(n_episodes, seed, fps)
    owned = isinstance(env, str)
    env = make_env(env, render_mode="rgb_array") if isinstance(env, str) else env
    try:
        _check_env(env)
        controls = Controls(controllable_space(env), keys, axes, scale)
        settings = {**describe_env(env), "seed": seed, "successes_only": successes_only}
        session = Session(path, settings, resume, overwrite)
        recorder = Recorder(env, session, controls, n_episodes, pause_between, fps)
        recorder.run()
    finally:
        # After the window, as some environments quit pygame here
        if owned:
            env.close()
    return recorder.finish()


def _check_numbers(n_episodes: int | None, seed: int, fps: float | None) -> None:
    if n_episodes is not None and not is_whole(n_episodes, 1):
        raise DemonstrationsError(f"record_person: found n_episodes={n_episodes!r}, expected at least 1, or None")
    if not is_whole(seed, 0):
        raise DemonstrationsError(f"record_person: found seed={seed!r}, expected a whole number >= 0")
    if fps is not None and not (is_number(fps, 0.0) and fps > 0):
        raise DemonstrationsError(f"record_person: found fps={fps!r}, expected a number > 0, or None")


def _check_env(env: gym.Env) -> None:
    if not isinstance(env, gym.Env):
        raise DemonstrationsError(f"record_person: found env of type {type(env).__name__}, expected a gymnasium.Env or its id")
    if env.render_mode != "rgb_array":
        raise DemonstrationsError(
            f"record_person: found an environment with render_mode={env.render_mode!r}, expected 'rgb_array', as its "
            "pictures are shown in a window with a status bar: gymnasium.make(..., render_mode='rgb_array')"
        )


def _render_fps(env: gym.Env) -> float:
    fps: Any = env.metadata.get("render_fps")
    return float(fps) if is_number(fps, 0.0) and fps > 0 else DEFAULT_FPS


class Recorder:
    """
    A recording that is under way.

    :param env: See :func:`record_person`, as all that follows
    :param session: Where episodes are kept
    :param controls: What the person holds
    """

    def __init__(
        self,
        env: gym.Env,
        session: Session,
        controls: Controls,
        n_episodes: int | None,
        pause_between: bool,
        fps: float | None,
    ):
        self.env, self.session, self.controls = env, session, controls
        self.pause_between = pause_between
        self.fps = fps or _render_fps(env)
        self.successes_only = bool(session.settings["successes_only"])
        state = session.state or {"n_attempts": 0, "devices": []}
        self.n_attempts, self.devices = int(state["n_attempts"]), set(state["devices"])
        self.status = Status(len(session.episodes), n_episodes, message="SPACE starts")
        self.window = Window(f"{session.settings['env_id']}: recording demonstrations", controls.names)
        self._commands: deque[Command] = deque()

    @property
    def complete(self) -> bool:
        """Whether there are as many episodes as are wanted"""
        return self.status.n_episodes is not None and len(self.session.episodes) >= self.status.n_episodes

    def run(self) -> None:
        """Until there are enough episodes, or the person finishes."""
        if self.complete:
            return
        with self.window:
            while self._attempt() and not self.complete:
                self.status.paused |= self.pause_between

    def finish(self) -> Demonstrations:
        """
        :return: All episodes; they are in the file now
        :raises DemonstrationsError: If there is none
        """
        if not self.session.episodes:
            kind = "successful episode" if self.successes_only else "finished episode"
            raise DemonstrationsError(f"record_person: found no {kind}, expected at least one: nothing was written")
        metadata = {
            **describe_episodes(self.session.episodes),
            "producer": f"a person, by {' and '.join(sorted(self.devices)) or 'keyboard'}",
            "n_attempts": self.n_attempts,
        }
        return self.session.finish(metadata)

    def _attempt(self) -> bool:
        """:return: Whether the person wants to go on"""
        seed = int(self.session.settings["seed"]) + self.n_attempts
        self.n_attempts += 1
        rollout = Rollout(self.env, seed)
        frame, devices = self.env.render(), set[str]()
        while not rollout.over:
            command = self._next_command()
            if command is Command.FINISH:
                return False
            if command is Command.DISCARD:
                self.status.message = f"discarded an episode at step {len(rollout)}"
                return True
            if command is Command.KEEP and len(rollout):
                break
            self._obey(command)
            held = self.controls.read()
            if not self.status.paused:
                devices |= held.devices
                rollout.step(held.action)
                frame = self.env.render()
            self._show(frame, rollout, held.deflections)
        self._keep(rollout, devices)
        return True

    def _next_command(self) -> Command | None:
        for event in self.window.events():
            command = self.controls.handle(event)
            if command is not None:
                self._commands.append(command)
        return self._commands.popleft() if self._commands else None

    def _obey(self, command: Command | None) -> None:
        """What does not end the episode under way."""
        if command is Command.START_OR_PAUSE:
            self.status.paused = not self.status.paused
            self.status.message = "SPACE goes on" if self.status.paused else ""
        elif command is Command.PAUSE and not self.status.paused:
            self.status.paused = True
            self.status.message = "paused, as the window has lost the focus: SPACE goes on"
        elif command is Command.KEEP:
            self.status.message = "found no step to keep yet: SPACE starts"
        elif command is Command.UNDO and not self.session.episodes:
            self.status.message = "found no kept episode to take back"
        elif command is Command.UNDO:
            self.session.discard_last()
            self.status.message = f"took back episode {len(self.session.episodes) + 1}"

    def _keep(self, rollout: Rollout, devices: set[str]) -> None:
        episode = rollout.episode()
        text = f"{len(rollout)} steps, return {rollout.episode_return:.2f}"
        if self.successes_only and not rollout.success:
            self.status.message = f"dropped an episode without success: {text}"
            return
        self.devices |= devices
        self.session.add(episode, {"n_attempts": self.n_attempts, "devices": sorted(self.devices)})
        success = {None: "", True: ", success", False: ", no success"}[rollout.success]
        self.status.message = f"kept episode {len(self.session.episodes)}: {text}{success}"

    def _show(self, frame: Any, rollout: Rollout, deflections: Any) -> None:
        self.status.n_kept = len(self.session.episodes)
        self.status.n_steps, self.status.episode_return = len(rollout), rollout.episode_return
        self.status.deflections = deflections
        self.window.draw(frame, self.status)
        self.window.wait(PAUSED_FPS if self.status.paused else self.fps)
