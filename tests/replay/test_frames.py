"""Images in the replay buffer: each frame once, whatever happens to episodes, against a buffer that keeps everything twice."""

import pickle

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from sb3_pgfd.demonstrations import Demonstrations
from sb3_pgfd.replay import DemoReplayBuffer

SHAPE, ACTIONS = (1, 3, 4), spaces.Box(-1.0, 1.0, (1,))


def image_space(k: int) -> spaces.Box:
    return spaces.Box(0, 255, (k, *SHAPE[1:]), np.uint8)


class Camera:
    """Numbered frames of one environment, stacked like VecFrameStack does it."""

    def __init__(self, k: int, numbers):
        self.k, self.numbers = k, numbers
        self.stack: list[np.ndarray] = []
        self.reset()

    def reset(self) -> None:
        self.stack = [np.zeros(SHAPE, np.uint8)] * (self.k - 1) + [self._frame()]

    def _frame(self) -> np.ndarray:
        number = next(self.numbers)
        return np.full(SHAPE, [[[number % 250 + 1], [number // 250 + 1], [7]]], dtype=np.uint8)

    def step(self) -> tuple[np.ndarray, np.ndarray]:
        before = np.concatenate(self.stack)
        self.stack = [*self.stack[1:], self._frame()]
        return before, np.concatenate(self.stack)


@settings(max_examples=40, deadline=None)
@given(
    k=st.sampled_from([1, 2, 3]),
    n_envs=st.sampled_from([1, 2]),
    capacity=st.integers(1, 6),
    device=st.sampled_from([None, "cpu"]),
    steps=st.lists(st.tuples(*[st.sampled_from(["go on", "go on", "end", "broken off"])] * 2), min_size=1, max_size=30),
)
def test_rows_hold_what_was_stored(k, n_envs, capacity, device, steps):
    buffer = DemoReplayBuffer(capacity * n_envs, image_space(k), ACTIONS, "cpu", n_envs, frame_stack=k, storage_device=device)
    numbers = iter(range(1, 10_000))
    cameras = [Camera(k, numbers) for _ in range(n_envs)]
    expected: list[tuple[np.ndarray, np.ndarray]] = []
    for number, events in enumerate(steps):
        pairs = [camera.step() for camera in cameras]
        ends = np.array([event == "end" for event in events[:n_envs]])
        first, second = (np.stack([pair[i] for pair in pairs]) for i in (0, 1))
        buffer.add(first, second, np.zeros((n_envs, 1)), np.zeros(n_envs), ends, [{}] * n_envs)
        expected = [*expected, (first, second)][-capacity:]
        for camera, event in zip(cameras, events, strict=False):
            if event != "go on":
                camera.reset()
        if number == len(steps) // 2:
            buffer = pickle.loads(pickle.dumps(buffer))
    rows = buffer._stores.ring_rows(len(expected))
    found = buffer.ring.take(rows.T.ravel())
    for name, index in (("observations/", 0), ("next_observations/", 1)):
        np.testing.assert_array_equal(found[name], np.concatenate([pair[index] for pair in expected]), err_msg=name)
    # No frame is lost, and none is kept that no row needs
    pool, used = buffer.ring.frames[""], buffer.ring.columns["frames/"][rows.ravel()]
    needed = set(used.ravel().tolist()) - {0}
    assert len(needed) == pool._n_used - 1 - len(pool._released)
    assert needed.isdisjoint(pool._released)
    assert len(set(pool._released)) == len(pool._released)


def episodes(lengths: list[int], k: int = 1) -> Demonstrations:
    numbers = iter(range(1, 10_000))
    firsts, seconds = [], []
    for length in lengths:
        camera = Camera(k, numbers)
        for _ in range(length):
            first, second = camera.step()
            firsts.append(first)
            seconds.append(second)
    ended = np.zeros(sum(lengths), dtype=bool)
    ended[np.cumsum(lengths) - 1] = True
    actions, rewards = np.zeros((len(ended), 1), np.float32), np.zeros(len(ended))
    return Demonstrations.from_transitions(np.stack(firsts), actions, rewards, np.stack(seconds), ended, np.zeros_like(ended))


@pytest.mark.parametrize("k", [1, 3])
def test_demonstrations_keep_each_frame_once(k):
    given = episodes([4, 1, 6], k)
    buffer = DemoReplayBuffer(5, image_space(k), ACTIONS, "cpu", demonstrations=given, frame_stack=k)
    found = buffer.demonstrations.take(np.arange(11))
    np.testing.assert_array_equal(found["observations/"], given.observations)
    np.testing.assert_array_equal(found["next_observations/"], given.next_observations)
    # 11 next observations and the first of each episode
    assert buffer.demonstrations.frames[""]._n_used - 1 == 11 + 3


def test_frames_of_dropped_successes_are_used_again():
    buffer = DemoReplayBuffer(100, image_space(1), ACTIONS, "cpu", keep_successes=True, max_success_transitions=6)
    numbers = iter(range(1, 10_000))
    for _ in range(10):
        camera = Camera(1, numbers)
        steps = [camera.step() for _ in range(3)]
        for place, (first, second) in enumerate(steps):
            infos = [{"is_success": place == 2}]
            buffer.add(first[None], second[None], np.zeros((1, 1)), np.zeros(1), np.array([place == 2]), infos)
        live = buffer.demonstrations.take(buffer.demonstrations.live_rows)
        assert {first.tobytes() for first, _ in steps} <= {row.tobytes() for row in live["observations/"]}
    # Two episodes of three steps, four frames each
    assert buffer.demonstrations.frames[""]._n_used - 1 == 8


def test_an_image_takes_little_more_than_a_frame():
    space = spaces.Box(0, 255, (3, 84, 84), np.uint8)
    buffer = DemoReplayBuffer(1000, space, ACTIONS, "cpu")
    frame = 3 * 84 * 84
    assert buffer.nbytes / 1000 < 1.1 * frame
    assert buffer.schema.row_nbytes < 1.01 * frame
    frames = np.random.default_rng(0).integers(0, 256, (26, 1, *space.shape), dtype=np.uint8)
    # Episodes of 25 steps, round the ring more than twice: no frame beyond those that were allocated
    for step in range(2200):
        place = step % 25
        buffer.add(frames[place], frames[place + 1], np.zeros((1, 1)), np.zeros(1), np.array([place == 24]), [{}])
    assert buffer.nbytes / 1000 < 1.1 * frame


@pytest.mark.parametrize("device", [None, "cpu"])
def test_a_batch_reads_windows_of_both_stores(device):
    given = episodes([4, 3])
    options = {"n_steps": 2, "demo_fraction": 0.5, "storage_device": device}
    buffer = DemoReplayBuffer(6, image_space(1), ACTIONS, "cpu", demonstrations=given, **options)
    own = Camera(1, iter(range(5000, 6000)))
    steps = [own.step() for _ in range(4)]
    for first, second in steps:
        buffer.add(first[None], second[None], np.zeros((1, 1)), np.zeros(1), np.array([False]), [{}])
    np.random.seed(0)
    batch = buffer.sample_batch(200)
    first_of, then_of = np.asarray(given.observations), np.asarray(given.next_observations)
    follows = {first.tobytes(): second for first, second in zip(first_of, then_of, strict=True)}
    follows |= {first.tobytes(): second for first, second in steps}
    after = np.asarray(batch.next_observations).reshape(200, 2, *SHAPE)
    for observation, (one, two) in zip(np.asarray(batch.observations), after, strict=True):
        np.testing.assert_array_equal(one, follows[observation.tobytes()])
        np.testing.assert_array_equal(two, follows.get(one.tobytes(), one))


def test_observations_that_are_no_stacks_are_refused():
    buffer = DemoReplayBuffer(5, image_space(2), ACTIONS, "cpu", frame_stack=2)
    rng = np.random.default_rng(0)
    first, second = (rng.integers(0, 256, (1, 2, 3, 4), dtype=np.uint8) for _ in range(2))
    with pytest.raises(ValueError, match="frame_stack: found observations that do not end with the frames"):
        buffer.add(first, second, np.zeros((1, 1)), np.zeros(1), np.array([False]), [{}])
    assert buffer.size() == 0
    with pytest.raises(ValueError, match="frame_stack: found 2 and 3 channels, expected a divisor"):
        DemoReplayBuffer(5, image_space(3), ACTIONS, "cpu", frame_stack=2)
    with pytest.raises(ValueError, match="frame_stack: found 2 and Box"):
        DemoReplayBuffer(5, spaces.Box(-1.0, 1.0, (3,)), ACTIONS, "cpu", frame_stack=2)
    with pytest.raises(ValueError, match="frame_stack: found 2 in the buffer, expected 1"):
        buffer.configure(frame_stack=1)
