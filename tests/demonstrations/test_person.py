import ctypes
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pygame
import pytest
from toy_dataset import box
from typing_person import Typing, Walk, button, down, dummy_display, stick, tap, up, walk

from sb3_pgfd import Demonstrations, DemonstrationsError
from sb3_pgfd.demonstrations.recording.controls import Controls, controllable_space
from sb3_pgfd.demonstrations.recording.person import Recorder, record_person
from sb3_pgfd.demonstrations.recording.session import Session
from sb3_pgfd.demonstrations.validation import as_dict

pytestmark = pytest.mark.filterwarnings("ignore:record_person. SDL_VIDEODRIVER=dummy")


@pytest.fixture(autouse=True)
def _display(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield from dummy_display(monkeypatch)


def starts(demonstrations: Demonstrations) -> list[float]:
    """The seeds that the episodes began with."""
    return box(demonstrations.observations)[demonstrations.episode_starts, 0].tolist()


def test_each_step_takes_the_action_of_the_keys_held_then():
    script = {
        (0, 0): [*tap("space"), *down("right")],
        (0, 1): down("up"),
        (0, 2): [*up("right"), *down("left", "left shift")],
        (0, 3): up("left", "up", "left shift"),
        (1, 0): tap("space", "down"),
        (1, 3): down("right", "left"),
    }
    demonstrations = record_person(walk(script), 2, seed=7)
    # Bounds of -2 and 1, -1 and 4
    expected = [[1, 0], [1, 4], [-0.6, 1.2], [0, 0], [0, -1], [0, 0], [0, 0], [0, 0]]
    np.testing.assert_array_equal(demonstrations.actions, np.array(expected, np.float32))
    assert demonstrations.actions.dtype == np.float32
    assert box(demonstrations.observations).tolist() == [[seed, step] for seed in (7, 8) for step in range(4)]
    assert box(demonstrations.next_observations).tolist() == [[seed, step + 1] for seed in (7, 8) for step in range(4)]
    assert demonstrations.rewards.tolist() == [1, 2, 3, 4] * 2
    assert demonstrations.truncated.tolist() == [False, False, False, True] * 2
    assert not demonstrations.terminated.any()
    assert demonstrations.episode_info["seed"].tolist() == [7, 8]
    metadata = demonstrations.metadata
    assert (metadata["producer"], metadata["n_attempts"], metadata["mean_return"]) == ("a person, by keyboard", 2, 10)


def test_pictures_are_recorded_and_the_file_says_so():
    # The camera resets the environment to see what a picture is
    demonstrations = record_person(walk({(1, 0): tap("space")}), 1, camera=8)
    assert as_dict(demonstrations.observations)["observations['image']"].shape[1:] == (8, 8, 3)
    assert demonstrations.metadata["camera"] == 8


def test_a_person_drives_the_car_up_the_mountain(tmp_path: Path):
    def swing(attempt: int, n_steps: int, observation: np.ndarray) -> list[Any]:
        forward = observation[1] > 0
        keys = [*down("right"), *up("left")] if forward else [*down("left"), *up("right")]
        return [*tap("space"), *keys] if n_steps == 0 else keys

    car = gym.make("MountainCarContinuous-v0", render_mode="rgb_array")
    demonstrations = record_person(Typing(car, swing), 1, tmp_path / "car", seed=3, fps=1000)
    assert bool(demonstrations.terminated[-1])
    assert demonstrations.episode_returns[0] > 85
    observation, _ = car.reset(seed=3)
    for row, action in enumerate(demonstrations.actions):
        np.testing.assert_array_equal(box(demonstrations.observations)[row], observation)
        assert action == np.sign(observation[1]) or observation[1] == 0
        observation, *_ = car.step(action)
    demonstrations.check_spaces(car.observation_space, car.action_space)
    loaded = Demonstrations.load(tmp_path / "car.npz")
    np.testing.assert_array_equal(loaded.actions, demonstrations.actions)
    assert loaded.metadata["env_id"] == "MountainCarContinuous-v0"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["car.npz"]


def test_nothing_moves_while_it_is_paused():
    times = []

    def hesitate(attempt: int, n_steps: int, observation: np.ndarray) -> list[Any]:
        times.append(time.monotonic())
        if n_steps == 2:
            later = threading.Timer(0.3, lambda: pygame.event.post(tap("space")[0]))
            later.start()
            # A key that is held when it goes on counts, a tap meanwhile does not
            return tap("space", "up") + down("right")
        return tap("space") if n_steps == 0 else []

    demonstrations = record_person(Typing(Walk(), hesitate), 1)
    assert demonstrations.actions.tolist() == [[0, 0], [0, 0], [1, 0], [1, 0]]
    assert np.diff(times)[2] >= 0.29


def test_episodes_follow_each_other_without_a_pause_if_asked():
    # The first one waits all the same
    demonstrations = record_person(walk({(0, 0): tap("space")}), 3, pause_between=False)
    assert demonstrations.episode_lengths.tolist() == [4, 4, 4]


@pytest.mark.parametrize("discard", [tap("backspace")[0], button(1)])
def test_a_discarded_episode_is_dropped_and_begun_with_another_seed(discard: Any):
    script = {(0, 0): tap("space"), (0, 2): [discard], (1, 0): [*tap("space"), *down("right")]}
    demonstrations = record_person(walk(script), 1, seed=10)
    assert starts(demonstrations) == [11]
    assert demonstrations.actions.tolist() == [[1, 0]] * 4
    assert demonstrations.metadata["n_attempts"] == 2


@pytest.mark.parametrize("keep", [tap("return")[0], button(3)])
def test_an_episode_that_is_ended_by_the_person_is_kept_as_truncated(keep: Any):
    # There is nothing to keep before the first step
    script = {(0, 0): [keep, *tap("space")], (0, 2): [keep]}
    demonstrations = record_person(walk(script), 1)
    assert demonstrations.episode_lengths.tolist() == [2]
    assert demonstrations.truncated.tolist() == [False, True]
    assert not demonstrations.terminated.any()


@pytest.mark.parametrize("finish", [tap("escape")[0], pygame.event.Event(pygame.QUIT)])
def test_the_unfinished_episode_is_dropped_when_the_person_finishes(finish: Any, tmp_path: Path):
    script = {(0, 0): tap("space"), (1, 0): tap("space"), (1, 3): [finish]}
    demonstrations = record_person(walk(script), None, tmp_path / "a.npz", seed=5)
    assert starts(demonstrations) == [5]
    assert Demonstrations.load(tmp_path / "a.npz").n_episodes == 1


def test_finishing_at_once_after_keeping_keeps_both_meanings():
    # Two keys within one frame
    demonstrations = record_person(walk({(0, 0): tap("space"), (0, 1): tap("return", "escape")}))
    assert demonstrations.episode_lengths.tolist() == [1]


def test_nothing_is_written_without_an_episode(tmp_path: Path):
    script = {(0, 0): tap("space"), (0, 3): tap("escape")}
    with pytest.raises(DemonstrationsError, match="found no finished episode, expected at least one: nothing was written"):
        record_person(walk(script), 2, tmp_path / "a.npz")
    assert list(tmp_path.iterdir()) == []


def test_the_last_kept_episode_can_be_taken_back(tmp_path: Path):
    script = {
        # There is none yet
        (0, 0): tap("u", "space"),
        (1, 0): tap("space"),
        (1, 2): tap("u"),
        (2, 0): tap("space"),
    }
    demonstrations = record_person(walk(script), 2, tmp_path / "a.npz")
    assert starts(demonstrations) == [1, 2]
    assert starts(Demonstrations.load(tmp_path / "a.npz")) == [1, 2]


def test_a_numpy_bool_is_no_different():
    # JSON turns it into the text "False", which counts as true
    demonstrations = record_person(walk({(0, 0): tap("space")}), 1, successes_only=np.bool_(False))  # type: ignore[arg-type]
    assert starts(demonstrations) == [0]


def test_only_successes_are_kept_if_asked():
    script = {(attempt, 0): tap("space") for attempt in range(4)}
    demonstrations = record_person(walk(script, success_key="is_success"), 2, seed=2, successes_only=True)
    assert starts(demonstrations) == [3, 5]
    assert demonstrations.metadata["success_rate"] == 1
    assert demonstrations.successes is not None


def test_the_status_bar_says_what_happened():
    messages = []

    def note(attempt: int, n_steps: int, observation: np.ndarray) -> list[Any]:
        if n_steps < 2:
            messages.append(recorder.status.message)
        return {0: tap("space"), 1: tap("backspace") if attempt == 2 else []}.get(n_steps, [])

    env = Typing(Walk(success_key="success"), note)
    session = Session(None, {"env_id": "Walk", "seed": 0, "successes_only": True})
    recorder = Recorder(env, session, Controls(controllable_space(env)), 2, pause_between=True, fps=None)
    recorder.run()
    assert messages == [
        "SPACE starts",
        "",
        "dropped an episode without success: 4 steps, return 10.00",
        "",
        "kept episode 1: 4 steps, return 10.00, success",
        "",
        "discarded an episode at step 1",
        "",
    ]


def test_a_gamepad_drives_and_commands():
    script = {
        (0, 0): [button(7), stick(0, 0.55)],
        (0, 1): [stick(0, 0.09), stick(1, -1.0)],
        (0, 2): [stick(1, 0.0), stick(0, -1.0)],
        (0, 3): [pygame.event.Event(pygame.JOYDEVICEREMOVED, instance_id=0)],
    }
    demonstrations = record_person(walk(script), 1)
    expected: Any = [[0.5, 0], [0, 4], [-2, 0], [0, 0]]
    np.testing.assert_allclose(demonstrations.actions, expected, rtol=1e-6)
    assert demonstrations.metadata["producer"] == "a person, by gamepad"


def test_both_devices_are_named():
    script = {(0, 0): [*tap("space"), *down("right"), stick(1, 1.0)]}
    assert record_person(walk(script), 1).metadata["producer"] == "a person, by gamepad and keyboard"


def test_a_gamepad_is_opened_when_it_is_plugged_in():
    # SDL's own virtual gamepad; the library that pygame has loaded knows it
    sdl = ctypes.CDLL(
        next(line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "libSDL2-" in line)
    )
    sdl.SDL_JoystickFromInstanceID.restype = ctypes.c_void_p
    number = []

    def plug_in_and_push(attempt: int, n_steps: int, observation: np.ndarray) -> list[Any]:
        if n_steps == 0:
            number.append(sdl.SDL_JoystickAttachVirtual(1, 2, 8, 0))
            # One that is gone before it can be opened
            return [*tap("space"), pygame.event.Event(pygame.JOYDEVICEADDED, device_index=5)]
        if n_steps == 2:
            gamepad = ctypes.c_void_p(sdl.SDL_JoystickFromInstanceID(pygame.joystick.Joystick(0).get_instance_id()))
            sdl.SDL_JoystickSetVirtualAxis(gamepad, 0, ctypes.c_int16(-32768))
        if n_steps == 3:
            sdl.SDL_JoystickDetachVirtual(number[0])
        return []

    demonstrations = record_person(Typing(Walk(), plug_in_and_push), 1)
    assert demonstrations.actions.tolist() == [[0, 0], [0, 0], [-2, 0], [0, 0]]


def test_a_lost_focus_lets_the_keys_go_and_pauses():
    script = {
        (0, 0): [*tap("space"), *down("right")],
        (0, 1): [pygame.event.Event(pygame.WINDOWFOCUSLOST), *tap("space")],
    }
    demonstrations = record_person(walk(script), 1)
    assert demonstrations.actions.tolist() == [[1, 0], [0, 0], [0, 0], [0, 0]]


def test_steps_are_no_faster_than_asked():
    begin = time.monotonic()
    # 12 steps at 30 per second
    record_person(walk({(0, 0): tap("space")}), 3, fps=30, pause_between=False)
    assert 0.35 <= time.monotonic() - begin < 10


def test_finished_episodes_outlive_a_crash_and_are_resumed_with_the_next_seed(tmp_path: Path):
    script = {
        (0, 0): tap("space"),
        (1, 0): tap("backspace"),
        (2, 0): [*tap("space"), *down("left")],
        (3, 0): tap("space"),
    }
    path = tmp_path / "a.npz"
    with pytest.raises(RuntimeError, match="the motor is too hot"):
        record_person(walk(script, crashes_at=(13, 2)), 4, path, seed=10)
    assert not pygame.display.get_init()
    assert not path.exists()
    assert starts(Demonstrations.load(tmp_path / "a.npz.recording")) == [10, 12]
    with pytest.raises(FileExistsError, match="pass --resume"):
        record_person(walk({}), 4, path, seed=10)
    again = {(0, 0): [*tap("space"), stick(0, 1.0)], (1, 0): tap("space")}
    demonstrations = record_person(walk(again), 4, path, seed=10, resume=True)
    assert starts(demonstrations) == starts(Demonstrations.load(path)) == [10, 12, 13, 14]
    assert demonstrations.actions[::4].tolist() == [[0, 0], [-2, 0], [1, 0], [1, 0]]
    assert demonstrations.metadata["n_attempts"] == 5
    # What it was begun with, too
    assert demonstrations.metadata["producer"] == "a person, by gamepad and keyboard"


def test_a_recording_that_is_complete_needs_no_person(tmp_path: Path):
    script = {(0, 0): tap("space"), (1, 0): tap("space")}
    with pytest.raises(RuntimeError):
        record_person(walk(script, crashes_at=(1, 2)), 2, tmp_path / "a.npz")
    assert starts(record_person(walk({}), 1, tmp_path / "a.npz", resume=True)) == [0]


def test_a_file_is_not_replaced_unless_asked(tmp_path: Path):
    (tmp_path / "a.npz").write_text("precious")
    with pytest.raises(FileExistsError, match=r"a.npz: found a file, expected none"):
        record_person(walk({}), 1, tmp_path / "a.npz")
    record_person(walk({(0, 0): tap("space")}), 1, tmp_path / "a.npz", overwrite=True)
    assert Demonstrations.load(tmp_path / "a.npz").n_episodes == 1
