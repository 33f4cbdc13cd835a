"""A person takes over while a policy learns: the real window, and events of pygame."""

import signal
import sys
import time
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pygame
import pytest
from small_models import demo_rows, small_model
from stable_baselines3.common.callbacks import BaseCallback
from typing_person import Typing, Walk, button, down, dummy_display, stick, tap, up

from sb3_pgfd import DDPGfD, DemonstrationsError
from sb3_pgfd.demonstrations.recording.interventions import InterventionWrapper, Person
from sb3_pgfd.utils.files import install
from sb3_pgfd.wrappers import RealTime, SuccessReward

pytestmark = pytest.mark.filterwarnings("ignore:InterventionWrapper. SDL_VIDEODRIVER=dummy")

POLICY = np.array([0.25, 0.5], dtype=np.float32)


@pytest.fixture(autouse=True)
def _display(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield from dummy_display(monkeypatch)


def play(script: dict[int, list[Any]], n_steps: int = 4, **options: Any) -> tuple[list[Any], Person, list[Any]]:
    """
    :param script: Events that are sent after so many steps of the first episode
    :return: What was taken in each step, the person, and the results of the steps
    """
    inner = Typing(Walk(), {(0, step): events for step, events in script.items()})
    person = Person(inner, **options)
    env = SuccessReward(InterventionWrapper(inner, person), person.succeeded)
    env.reset(seed=3)
    results = [env.step(POLICY.copy()) for _ in range(n_steps)]
    env.close()
    taken = [info["intervene_action"] for *_, info in results]
    return [None if action is None else action.tolist() for action in taken], person, results


def test_a_held_key_takes_over_and_gives_back_when_it_is_released() -> None:
    taken, person, _ = play({1: down("right"), 3: up("right")})
    # The bounds of the walk are -2 and 1, -1 and 4
    assert taken == [None, [1.0, 0.0], [1.0, 0.0], None]
    assert str(person.status) == "episode 1     step 4     yours 50% of 4 steps"


def test_a_tap_between_two_steps_counts_for_one_of_them() -> None:
    assert play({1: tap("up")})[0] == [None, [0.0, 4.0], None, None]


def test_space_takes_over_without_a_key_until_it_is_pressed_again() -> None:
    taken, person, _ = play({1: tap("space"), 2: down("left"), 3: [*up("left"), *tap("space")]})
    assert taken == [None, [0.0, 0.0], [-2.0, 0.0], None]
    assert person.status.badge[0] == "POLICY"


def test_a_stick_takes_over_while_it_is_pushed() -> None:
    assert play({1: [stick(0, 1.0)], 3: [stick(0, 0.05)]})[0] == [None, [1.0, 0.0], [1.0, 0.0], None]


def test_a_lost_focus_releases_the_keys() -> None:
    assert play({1: down("right"), 2: [pygame.event.Event(pygame.WINDOWFOCUSLOST)]})[0] == [None, [1.0, 0.0], None, None]


@pytest.mark.parametrize("events", [tap("return"), [button(3)]])
def test_the_key_of_success_gives_the_reward_and_ends_the_episode(events: list[Any]) -> None:
    _, _, results = play({1: events}, n_steps=2)
    assert [(reward, terminated) for _, reward, terminated, *_ in results] == [(0.0, False), (1.0, True)]
    assert results[1][-1]["is_success"] is True


def test_the_key_of_failure_truncates_the_episode() -> None:
    _, person, results = play({1: tap("backspace")}, n_steps=2)
    assert [(terminated, truncated) for _, _, terminated, truncated, _ in results] == [(False, False), (False, True)]
    person.reset(None)
    assert not person.ends_episode


def test_the_window_shows_the_picture_and_who_drives() -> None:
    seen: list[np.ndarray] = []

    def look(attempt: int, n_steps: int, observation: Any) -> list[Any]:
        if n_steps > 0:
            screen = pygame.display.get_surface()
            assert screen is not None
            seen.append(pygame.surfarray.array3d(screen))
        return down("right") if n_steps == 1 else []

    inner = Typing(Walk(), look)
    env = InterventionWrapper(inner, Person(inner))
    env.reset(seed=0)
    for _ in range(2):
        env.step(POLICY.copy())
    env.close()
    # The picture of step 1, in grey of 50 for each step, and the lamp
    assert (seen[1][:640, :480] == 50).all()
    lamps = [
        (picture[:, 480:] == color).all(axis=2).any()
        for picture, color in zip(seen, ((79, 161, 255), (255, 193, 7)), strict=True)
    ]
    assert lamps == [True, True]


def test_an_environment_without_pictures_has_a_panel_alone() -> None:
    env = gym.make("Pendulum-v1")
    env = InterventionWrapper(env, Person(env, fps=500))
    env.reset(seed=0)
    assert env.step(np.zeros(1, dtype=np.float32))[-1]["intervene_action"] is None
    env.close()


# --- While a model learns --------------------------------------------------------------------------------------------


class Straight(Walk):
    """Twenty steps."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return super().reset(seed=seed or 0)

    def step(self, action: Any) -> Any:
        observation, _, terminated, _, info = super().step(action)
        return observation, 0.0, terminated, bool(observation[1] == 20), info

    def render(self) -> Any:
        return np.zeros((30, 40, 3), dtype=np.uint8)


class Noted(BaseCallback):
    """Notes which steps were a person's, and when."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[bool] = []

    def _on_step(self) -> bool:
        self.taken.append(self.locals["infos"][0]["intervene_action"] is not None)
        return True


def learner(env: Any, at_update: int, during: Any, **options: Any) -> DDPGfD:
    """:param during: Called in the middle of the update with that number"""
    model = small_model(DDPGfD, env=env, pretrain_steps=0, learning_starts=0, **options)
    update = model.update

    def watched(*arguments: Any) -> Any:
        if model._n_updates == at_update:
            during()
        return update(*arguments)

    model.update = watched  # type: ignore[method-assign, assignment]
    return model


def test_keys_that_are_pressed_while_an_update_runs_count_for_the_next_step() -> None:
    inner = Straight()
    env = InterventionWrapper(inner, Person(inner, fps=500))

    def type_quickly() -> None:
        for event in tap("right"):
            pygame.event.post(event)
        time.sleep(0.1)

    noted = Noted()
    # The first update is made after the first step, the fifth after the fifth
    model = learner(env, 4, type_quickly)
    model.learn(12, callback=noted)
    env.close()
    assert noted.taken == [False] * 5 + [True] + [False] * 6
    # 1 is the upper bound, 0 lies between -1 and 4
    np.testing.assert_allclose(demo_rows(model, "actions"), [[1.0, -0.6]], atol=1e-6)


def test_in_real_time_a_person_takes_over_in_the_middle_of_an_update() -> None:
    inner = Straight()
    real_time = RealTime(InterventionWrapper(inner, Person(inner, fps=0)), 25.0)
    while_updating: list[int] = []

    def hold_a_key() -> None:
        for event in down("right"):
            pygame.event.post(event)
        before = real_time.n_waiting
        time.sleep(0.6)
        while_updating.append(real_time.n_waiting - before)
        for event in up("right"):
            pygame.event.post(event)

    noted = Noted()
    model = learner(real_time, 2, hold_a_key)
    model.learn(40, callback=noted)
    real_time.close()
    n_taken = sum(noted.taken)
    # 15 steps in 0.6 s; a busy machine makes fewer
    assert 4 <= n_taken <= 16
    assert while_updating[0] >= 4
    first = noted.taken.index(True)
    assert noted.taken == [first <= step < first + n_taken for step in range(40)]


def test_escape_ends_learning_between_two_steps() -> None:
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    inner = Typing(Straight(), {(0, 3): tap("escape")})
    env = InterventionWrapper(inner, Person(inner, fps=500))
    model = small_model(DDPGfD, env=env, pretrain_steps=0)
    with pytest.raises(KeyboardInterrupt, match="learning was ended by SIGINT"):
        model.learn(20)
    env.close()
    assert model.buffer.n_own == model.num_timesteps == 4


# --- Devices ---------------------------------------------------------------------------------------------------------


def test_a_missing_gamepad_is_told() -> None:
    env = InterventionWrapper(Walk(), Person(Walk(), "gamepad"))
    env.reset(seed=0)
    with pytest.raises(DemonstrationsError, match="Person: found no gamepad, expected one that is plugged in"):
        env.step(POLICY)
    env.close()


def test_a_missing_library_of_the_spacemouse_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyspacemouse", None)
    with pytest.raises(ImportError, match="A SpaceMouse needs pyspacemouse and HIDAPI") as error:
        Person(Walk(), "spacemouse")
    assert install("spacemouse") in str(error.value)


class Puck:
    """The device of pyspacemouse 2: each call reads one report; without a new one the time stays."""

    def __init__(self, *reports: tuple[float, list[int]]):
        self.reports, self.n_read, self.is_open = list(reports), 0, True
        self.state = SimpleNamespace(x=0.0, y=0.0, z=0.0, roll=0.0, pitch=0.0, yaw=0.0, buttons=[0, 0], t=-1.0)

    def read(self) -> Any:
        if self.reports:
            self.n_read += 1
            y, buttons = self.reports.pop(0)
            self.state = SimpleNamespace(**{**vars(self.state), "y": y, "buttons": buttons, "t": float(self.n_read)})
        return self.state

    def close(self) -> None:
        self.is_open = False


def test_a_spacemouse_moves_the_axes_and_its_buttons_take_over_and_say_success(monkeypatch: pytest.MonkeyPatch) -> None:
    puck = Puck((0.2, [0, 0]), (-1.0, [0, 0]), (0.0, [1, 0]))
    library = ModuleType("pyspacemouse")
    library.open = lambda: puck  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pyspacemouse", library)
    env = Walk()
    person = Person(env, "spacemouse", fps=500)
    # All reports that have come are read: the mouse is at rest again, and its left button was pressed
    assert person(None, POLICY).tolist() == [0.0, 0.0]  # type: ignore[union-attr]
    puck.reports = [(-1.0, [0, 0])]
    assert person(None, POLICY).tolist() == [0.0, -1.0]  # type: ignore[union-attr]
    puck.reports = [(0.0, [1, 0]), (0.0, [0, 1])]
    assert person(None, POLICY) is None
    assert person.succeeded()
    person.close()
    assert not puck.is_open


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "joystick"}, "found device='joystick', expected one of keyboard, gamepad, spacemouse"),
        ({"fps": -1}, "found fps=-1, expected a number >= 0, or None"),
        ({"keys": [("left", "right")]}, "keys: found 1 pairs, expected 2"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DemonstrationsError, match=message):
        Person(Walk(), **options)
