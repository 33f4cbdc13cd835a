"""Recording from a person who drives the environment by keyboard or gamepad."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym

from sb3_pgfd.demonstrations.dataset import Demonstrations
from sb3_pgfd.demonstrations.errors import DemonstrationsError
from sb3_pgfd.demonstrations.recording.camera import CameraObservation
from sb3_pgfd.demonstrations.recording.controls import Command, Controls, KeyPairs, controllable_space
from sb3_pgfd.demonstrations.recording.session import Rollout, Session, describe_env, open_env
from sb3_pgfd.demonstrations.recording.window import Status, Window
from sb3_pgfd.utils.checks import is_number, is_whole

# Steps per second if the environment has no render_fps, and frames per second while the recording is paused
DEFAULT_FPS = 30


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
    camera: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> Demonstrations:
    """
    Open a window in which a person drives the environment.

    A held key moves its action dimension fully to one bound, or 0.3 of the way with shift. Without a key it is 0, or the
    bound nearest to 0. A gamepad's stick moves a dimension as far as it is pushed, where no key is held.

    ============================ ==========================================================
    SPACE, P, button 0 or 7      start, pause, continue. The window starts paused
    RETURN, button 3             end the episode here and keep it, as truncated
    BACKSPACE, button 1          discard the episode, start again with another seed
    U                            remove the episode that was kept last
    ESC, closing the window      finish; the current episode is dropped
    ============================ ==========================================================

    An episode that the environment ends is kept. A key that is pressed and released between two steps counts for one of
    them. When the window loses the focus, all keys are released and the episode is paused.

    :param env: An environment with bounded Box actions, made with ``render_mode="rgb_array"``, or its id. Attempt k is
        reset with ``seed + k``
    :param n_episodes: Finish when this many episodes are kept; None: when the person finishes
    :param path: Write the demonstrations there, see :func:`~sb3_pgfd.demonstrations.record`
    :param seed: Seed of the first attempt
    :param fps: Largest number of steps per second, None: the ``render_fps`` of the environment. Less is slow motion
    :param scale: How far a full deflection goes towards its bound, in (0, 1]
    :param keys: A (negative, positive) pair of pygame's key names for each action dimension, by default left/right,
        down/up, a/d, s/w, j/l, k/i, f/h, g/t
    :param axes: Gamepad axis of each action dimension, with a minus for a reversed one, by default 0, -1, 2, -3, ...:
        pushing up is positive. On some gamepads triggers are axes, too: leave them out
    :param successes_only: Keep only episodes whose last info reports ``is_success`` (or ``success``)
    :param pause_between: Start each episode paused, not only the first one
    :param camera: Record pictures too, see :func:`~sb3_pgfd.demonstrations.record`
    :param resume: Continue the unfinished recording in that folder, if there is one, with the next seed
    :param overwrite: Allow replacing the file and, without ``resume``, an unfinished recording
    :return: Demonstrations in environment units, with metadata of where they come from
    :raises DemonstrationsError: If a person cannot drive this environment, there is no display, no episode was kept, or the
        unfinished recording has other settings
    :raises FileExistsError: If there is a file or an unfinished recording already
    :raises ImportError: If pygame is not installed
    """
    if n_episodes is not None and not is_whole(n_episodes, 1):
        raise DemonstrationsError(f"record_person: found n_episodes={n_episodes!r}, expected at least 1, or None")
    if not is_whole(seed, 0):
        raise DemonstrationsError(f"record_person: found seed={seed!r}, expected a whole number >= 0")
    if fps is not None and not (is_number(fps, 0.0) and fps > 0):
        raise DemonstrationsError(f"record_person: found fps={fps!r}, expected a number > 0, or None")
    # The environment closes after the window, because some environments quit pygame then
    with open_env(env, "record_person", "rgb_array") as environment:
        if environment.render_mode != "rgb_array":
            raise DemonstrationsError(
                f"record_person: found an environment with render_mode={environment.render_mode!r}, expected 'rgb_array', "
                "because its pictures are shown in a window with a panel: gymnasium.make(..., render_mode='rgb_array')"
            )
        if camera is not None:
            environment = CameraObservation(environment, camera)
        controls = Controls(controllable_space(environment), keys, axes, scale)
        description = describe_env(environment.spec, environment.observation_space, environment.action_space)
        settings = {**description, "seed": int(seed), "successes_only": bool(successes_only)}
        settings |= {} if camera is None else {"camera": int(camera)}
        session = Session(path, settings, resume, overwrite)
        recorder = Recorder(environment, session, controls, n_episodes, pause_between, fps)
        recorder.run()
    return recorder.finish()


def fps_of(env: gym.Env) -> float:
    """:return: Frames per second that the environment asks for"""
    default: Any = env.metadata.get("render_fps")
    return float(default) if is_number(default, 0.0) and default > 0 else DEFAULT_FPS


class Recorder:
    """A recording by a person; see :func:`record_person` for the parameters."""

    def __init__(
        self,
        env: gym.Env,
        session: Session,
        controls: Controls,
        n_episodes: int | None,
        pause_between: bool,
        fps: float | None,
    ):
        self.env, self.session, self.controls, self.pause_between = env, session, controls, pause_between
        self.fps = fps or fps_of(env)
        state = session.state or {"n_attempts": 0, "devices": []}
        self.n_attempts, self.devices = int(state["n_attempts"]), set(state["devices"])
        self.status = Status(len(session.episodes), n_episodes, message="SPACE starts")
        self.window = Window(f"{env.spec.id if env.spec else env.unwrapped}: recording demonstrations", controls.names)
        self._commands: deque[Command] = deque()

    @property
    def complete(self) -> bool:
        """Whether the wanted number of episodes is kept"""
        return self.status.n_episodes is not None and len(self.session.episodes) >= self.status.n_episodes

    def run(self) -> None:
        """Record until there are enough episodes or the person finishes."""
        if self.complete:
            return
        with self.window:
            while self._record_attempt() and not self.complete:
                self.status.paused |= self.pause_between

    def finish(self) -> Demonstrations:
        """
        :return: All episodes, which are in the file now
        :raises DemonstrationsError: If there is none
        """
        if not self.session.episodes:
            kind = "successful episode" if self.session.settings["successes_only"] else "finished episode"
            raise DemonstrationsError(f"record_person: found no {kind}, expected at least one: nothing was written")
        devices = " and ".join(sorted(self.devices)) or "keyboard"
        return self.session.finish({"producer": f"a person, by {devices}", "n_attempts": self.n_attempts})

    def _record_attempt(self) -> bool:
        """:return: Whether the person wants to continue"""
        rollout = Rollout(self.env, self.session.settings["seed"] + self.n_attempts)
        self.n_attempts += 1
        frame, devices = self.env.render(), set[str]()
        while not rollout.over:
            self._commands.extend(filter(None, map(self.controls.handle, self.window.events())))
            command = self._commands.popleft() if self._commands else None
            if command is Command.FINISH:
                return False
            if command is Command.DISCARD:
                self.status.message = f"discarded an episode at step {len(rollout)}"
                return True
            if command is Command.KEEP and len(rollout):
                break
            self._obey(command)
            self.status.deflections, action, moved = self.controls.read()
            if not self.status.paused:
                devices |= moved
                rollout.step(action)
                frame = self.env.render()
            self.status.n_kept = len(self.session.episodes)
            self.status.n_steps, self.status.episode_return = len(rollout), rollout.episode_return
            self.window.draw(frame, self.status)
            self.window.wait(DEFAULT_FPS if self.status.paused else self.fps)
        self._keep(rollout, devices)
        return True

    def _obey(self, command: Command | None) -> None:
        """Carry out a command that does not end the current episode."""
        if command is Command.START_OR_PAUSE:
            self.status.paused = not self.status.paused
            self.status.message = "SPACE continues" if self.status.paused else ""
        elif command is Command.PAUSE and not self.status.paused:
            self.status.paused = True
            self.status.message = "paused, because the window lost the focus: SPACE continues"
        elif command is Command.KEEP:
            self.status.message = "there is no step to keep yet: SPACE starts"
        elif command is Command.UNDO and not self.session.episodes:
            self.status.message = "there is no kept episode to remove"
        elif command is Command.UNDO:
            self.session.discard_last()
            self.status.message = f"removed episode {len(self.session.episodes) + 1}"

    def _keep(self, rollout: Rollout, devices: set[str]) -> None:
        episode = rollout.episode()
        text = f"{len(rollout)} steps, return {rollout.episode_return:.2f}"
        if self.session.settings["successes_only"] and not episode.success:
            self.status.message = f"dropped an episode without success: {text}"
            return
        self.devices |= devices
        self.session.add(episode, {"n_attempts": self.n_attempts, "devices": sorted(self.devices)})
        success = {None: "", True: ", success", False: ", no success"}[episode.success]
        self.status.message = f"kept episode {len(self.session.episodes)}: {text}{success}"
