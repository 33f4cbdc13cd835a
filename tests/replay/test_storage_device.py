"""Observations stored on a device: the same batches as from arrays."""

import pickle
from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces

from sb3_pgfd import DDPGfD
from sb3_pgfd.replay import DemoBatch, DemoReplayBuffer
from sb3_pgfd.replay.device_arrays import DeviceArray
from sb3_pgfd.utils.warning import OptionWarning

DEVICES = ["cpu", *(["cuda"] if th.cuda.is_available() else [])]
IMAGE = spaces.Box(0, 255, (1, 6, 6), np.uint8)
DICT = spaces.Dict({"image": IMAGE, "cell": spaces.Discrete(4), "desired_goal": spaces.Box(-1.0, 1.0, (2,), np.float64)})
ACTIONS = spaces.Box(-1.0, 1.0, (2,))


def stacked(space: spaces.Space, n_envs: int) -> Any:
    samples = [space.sample() for _ in range(n_envs)]
    return (
        {key: np.stack([one[key] for one in samples]) for key in space}
        if isinstance(space, spaces.Dict)
        else np.stack(samples)
    )


def filled(space: spaces.Space, storage_device: str | None, n_steps: int, device: str = "cpu") -> DemoReplayBuffer:
    """:return: A buffer of 20 steps of two environments; every fifth step ends a successful episode, one is interrupted"""
    space.seed(0)
    rng = np.random.default_rng(0)
    buffer = DemoReplayBuffer(
        40,
        space,
        ACTIONS,
        device=device,
        n_envs=2,
        n_steps=3,
        keep_successes=True,
        storage_device=storage_device,
    )
    observation = stacked(space, 2)
    for step in range(n_steps):
        following = stacked(space, 2)
        done = np.full(2, step % 5 == 4)
        actions = rng.uniform(-1.0, 1.0, (2, 2)).astype(np.float32)
        buffer.add(observation, following, actions, rng.random(2), done, [{"is_success": bool(done[0])}] * 2)
        observation = stacked(space, 2) if done[0] or step == 7 else following
    return buffer


def tensors(batch: DemoBatch) -> dict[str, Any]:
    """:return: What is in a batch, as arrays"""
    found: dict[str, Any] = {}
    for name, value in batch._asdict().items():
        parts = value if isinstance(value, dict) else {"": value}
        found |= {f"{name} {key}": part.cpu().numpy() if isinstance(part, th.Tensor) else part for key, part in parts.items()}
    return found


def assert_same_batches(one: DemoReplayBuffer, other: DemoReplayBuffer) -> None:
    for n_batches, demos_only in ((1, False), (3, False), (2, True)):
        found = []
        for buffer in (one, other):
            np.random.seed(1)
            found.append(tensors(buffer.sample_batches(n_batches, 16, demos_only=demos_only)))
        assert found[0].keys() == found[1].keys()
        for name, value in found[0].items():
            np.testing.assert_array_equal(value, found[1][name], err_msg=name)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("space", [IMAGE, DICT])
# Before the ring is full, and after it has been overwritten
@pytest.mark.parametrize("n_steps", [12, 47])
def test_batches_are_those_of_arrays(space: spaces.Space, n_steps: int, device: str) -> None:
    there, arrays = filled(space, device, n_steps, device), filled(space, None, n_steps)
    assert there.n_demonstrations == arrays.n_demonstrations > 0
    np.testing.assert_array_equal(there.ring.columns["steps_left"], arrays.ring.columns["steps_left"])
    assert there.nbytes == arrays.nbytes
    assert_same_batches(there, arrays)
    batch = there.sample_batches(2, 4)
    images = batch.observations["image"] if isinstance(batch.observations, dict) else batch.observations
    assert images.device.type == device


@pytest.mark.parametrize("device", DEVICES)
def test_a_buffer_moves_with_its_option_and_its_pickle(device: str) -> None:
    there, arrays = filled(DICT, device, 30, device), filled(DICT, None, 30, device)
    loaded = pickle.loads(pickle.dumps(there))
    assert isinstance(loaded.ring.frames["image"].frames, DeviceArray)
    assert isinstance(loaded.ring.columns["observations/desired_goal"], np.ndarray)
    assert_same_batches(loaded, arrays)
    loaded.configure(storage_device=None)
    assert isinstance(loaded.ring.frames["image"].frames, np.ndarray)
    assert_same_batches(loaded, arrays)
    arrays.configure(storage_device=device)
    assert isinstance(arrays.demonstrations.frames["image"].frames, DeviceArray)
    assert_same_batches(loaded, arrays)


@pytest.mark.parametrize("device", ["gpu5", "mps", 3])
def test_another_device_is_refused(device: Any) -> None:
    with pytest.raises(ValueError, match=f'storage_device: found {device!r}, expected "cuda", "cpu", or None'):
        filled(IMAGE, device, 0)


def test_networks_on_the_cpu_have_their_observations_there() -> None:
    with pytest.warns(OptionWarning, match="storage_device: found 'cuda' and networks on cpu, expected both on the GPU"):
        buffer = filled(DICT, "cuda", 12)
    assert_same_batches(buffer, filled(DICT, None, 12))


@pytest.mark.parametrize("device", DEVICES)
def test_learning_is_the_same(device: str) -> None:
    def learned(storage_device: str | None) -> DDPGfD:
        model = DDPGfD(
            "MlpPolicy",
            "Pendulum-v1",
            demonstrations="Pendulum-v1",
            replay_buffer_kwargs={"storage_device": storage_device},
            policy_kwargs={"net_arch": [16]},
            pretrain_steps=3,
            learning_starts=3,
            gradient_steps=2,
            batch_size=16,
            device=device,
            seed=0,
        )
        return model.learn(20)

    for one, other in zip(learned(device).policy.parameters(), learned(None).policy.parameters(), strict=True):
        assert (one - other).abs().max() <= (0.0 if device == "cpu" else 1e-5)
