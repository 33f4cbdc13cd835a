"""A person at the keyboard: events of pygame, sent when an episode has come to a step."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import pygame
import pytest
from gymnasium import spaces

from sb3_pgfd.demonstrations.recording.controls import key_code

Events = Iterable[Any]


def down(*names: str) -> list[Any]:
    return [pygame.event.Event(pygame.KEYDOWN, key=key_code(name)) for name in names]


def up(*names: str) -> list[Any]:
    return [pygame.event.Event(pygame.KEYUP, key=key_code(name)) for name in names]


def tap(*names: str) -> list[Any]:
    return [event for name in names for event in (*down(name), *up(name))]


def stick(axis: int, value: float, gamepad: int = 0) -> Any:
    return pygame.event.Event(pygame.JOYAXISMOTION, instance_id=gamepad, axis=axis, value=value)


def button(number: int) -> Any:
    return pygame.event.Event(pygame.JOYBUTTONDOWN, instance_id=0, button=number)


class Walk(gym.Env):
    """Four steps; the first number of an observation is the seed, the second one the step, which is the reward as well."""

    def __init__(self, success_key: str | None = None, crashes_at: tuple[int, int] | None = None):
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": 500}
        self.render_mode = "rgb_array"
        self.observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
        self.action_space = spaces.Box(np.array([-2, -1], np.float32), np.array([1, 4], np.float32))
        self.success_key, self.crashes_at = success_key, crashes_at
        self.observation = np.zeros(2, dtype=np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.observation[:] = seed, 0
        return self.observation, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        # It scales its action in place, and writes every observation to the same array
        action *= 0
        self.observation[1] += 1
        if tuple(self.observation) == self.crashes_at:
            raise RuntimeError("the motor is too hot")
        # Every second episode succeeds
        info = {self.success_key: bool(self.observation[0] % 2)} if self.success_key else {}
        return self.observation, float(self.observation[1]), False, bool(self.observation[1] == 4), info

    def render(self) -> Any:
        return np.full((30, 40, 3), 50 * int(self.observation[1]), dtype=np.uint8)


class Typing(gym.Wrapper):
    """
    :param env: Where the person is
    :param script: Of an attempt and the steps made in it, both from 0, to the events that are sent then
    """

    def __init__(self, env: gym.Env, script: Mapping[tuple[int, int], Events] | Callable[[int, int, Any], Events]):
        super().__init__(env)
        self.script = script
        self.attempt, self.n_steps = -1, 0

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        self.attempt, self.n_steps = self.attempt + 1, 0
        observation, info = super().reset(**options)
        self.send(observation)
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        result = super().step(action)
        self.n_steps += 1
        self.send(result[0])
        return result

    def send(self, observation: Any) -> None:
        if callable(self.script):
            events = self.script(self.attempt, self.n_steps, observation)
        else:
            events = self.script.get((self.attempt, self.n_steps), ())
        for event in events:
            pygame.event.post(event)


def walk(script: Mapping[tuple[int, int], Events], **options: Any) -> Typing:
    return Typing(Walk(**options), script)


def dummy_display(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A display without a screen, for a fixture. Its window is closed if nothing else ends a recording."""
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    # Another test's environment may have left it open
    pygame.quit()
    alarm = threading.Timer(30, lambda: pygame.event.post(pygame.event.Event(pygame.QUIT)))
    alarm.start()
    yield
    alarm.cancel()
    # Whatever happened, pygame is left as it was found
    assert not pygame.display.get_init()
