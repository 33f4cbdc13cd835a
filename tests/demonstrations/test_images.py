"""Demonstrations with images: recorded from a camera, read from other formats, drawn as strips."""

import json
from itertools import pairwise
from pathlib import Path

import av
import gymnasium as gym
import h5py
import numpy as np
import pyarrow as pa
import pytest
from command_line import result
from gymnasium import spaces
from lerobot_dataset import INFO, steps, write_dataset, write_table

from sb3_pgfd import Demonstrations
from sb3_pgfd.demonstrations import DemonstrationsError, record
from sb3_pgfd.demonstrations.arrays import resized
from sb3_pgfd.demonstrations.inspection.plots import image_strips, plot_demonstrations
from sb3_pgfd.wrappers import CameraObservation

KEY = "observation.images.top"


class Lamp(gym.Env):
    """Its picture is as bright as its state, which grows by 40 with each step up to 200."""

    metadata = gym.Env.metadata | {"render_modes": ["rgb_array"], "render_fps": 10}
    observation_space, action_space = spaces.Box(0.0, 255.0, (1,)), spaces.Box(-1.0, 1.0, (1,))

    def __init__(self, render_mode: str | None = None):
        self.render_mode, self.value = render_mode, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.value = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.value += 40
        done = self.value == 200
        return np.array([self.value], np.float32), float(done), done, False, {"is_success": done}

    def render(self):
        return np.full((90, 120, 3), self.value, np.uint8)


def test_pictures_are_recorded_beside_what_the_policy_sees():
    seen = []

    def policy(observation):
        seen.append(observation.copy())
        return np.zeros(1)

    found = record(policy, Lamp("rgb_array"), 2, camera=16)
    assert [observation.tolist() for observation in seen] == [[0], [40], [80], [120], [160]] * 2
    images, states = found.observations["image"], found.observations["state"]
    assert images.shape == (10, 16, 16, 3)
    assert (images.reshape(10, -1) == states).all()
    assert (found.next_observations["image"].reshape(10, -1) == states + 40).all()
    with pytest.raises(DemonstrationsError, match="render_mode=None, expected 'rgb_array'"):
        record(policy, Lamp(), 1, camera=16)


def test_a_policy_sees_the_pictures_of_its_environment():
    seen = []

    def policy(observation):
        seen.append(observation)
        return np.zeros(1)

    found = record(policy, CameraObservation(Lamp("rgb_array"), 16), 1)
    assert [int(observation["image"].max()) for observation in seen] == [0, 40, 80, 120, 160]
    np.testing.assert_array_equal(found.observations["image"], [observation["image"] for observation in seen])
    alone = record(lambda image: image[0, 0, :1] / 255, CameraObservation(Lamp("rgb_array"), 16, keep=False), 1)
    assert isinstance(alone.observations, np.ndarray)
    assert alone.observations.shape == (5, 16, 16, 3)
    np.testing.assert_allclose(alone.actions[:, 0], np.arange(0, 200, 40) / 255, rtol=1e-6)


def test_what_a_camera_recorded_is_replayed_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    spec = gym.envs.registration.EnvSpec("Lamp-v0", entry_point=lambda **kwargs: Lamp(**kwargs))
    monkeypatch.setitem(gym.registry, "Lamp-v0", spec)
    record(lambda observation: np.zeros(1), "Lamp-v0", 2, camera=16, path=tmp_path / "lamp.npz")
    shown = result(capsys, "show", tmp_path / "lamp.npz", "--replay")
    assert [episode["largest_distance"] for episode in shown["replay"]] == [0, 0]


def test_the_image_alone_or_beside_some_keys_is_observed():
    env = CameraObservation(Lamp("rgb_array"), 20, keep=False)
    assert env.observation_space == spaces.Box(0, 255, (20, 20, 3), np.uint8)
    env.reset()
    assert env.step(np.zeros(1))[0].tolist() == np.full((20, 20, 3), 40).tolist()
    with pytest.raises(DemonstrationsError, match=r"keep: found \['joints'\], expected some of \['state'\]"):
        CameraObservation(Lamp("rgb_array"), keep="joints")


def test_a_pixel_is_the_mean_of_those_that_it_covers():
    picture = np.random.default_rng(0).integers(0, 256, (5, 9, 3), dtype=np.uint8)
    found = resized(picture, 2)
    # The middle 5 x 5, cut after 2 pixels
    square = picture[:, 2:7].astype(float)
    expected = [[square[a:b, c:d].mean((0, 1)) for c, d in pairwise((0, 2, 5))] for a, b in pairwise((0, 2, 5))]
    assert np.abs(found - np.array(expected)).max() <= 0.5
    assert resized(picture[:, 2:7], 5).tolist() == picture[:, 2:7].tolist()
    assert resized(picture[:1, :1], 3).shape == (3, 3, 3)


def write_video(path: Path, levels: list[int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for level in levels:
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), level, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def brightness(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1).mean(axis=1)


def test_videos_of_lerobot_version_2_have_a_file_for_each_episode(tmp_path):
    info = {**INFO, "codebase_version": "v2.1", "chunks_size": 1000}
    tables = {f"chunk-000/episode_{k:06d}.parquet": steps([n], k) for k, n in ((0, 3), (1, 2))}
    folder = write_dataset(tmp_path / "data", tables, info)
    for number, levels in ((0, [20, 60, 100]), (1, [140, 180])):
        write_video(folder / f"videos/chunk-000/{KEY}/episode_{number:06d}.mp4", levels)
    found = Demonstrations.load(folder, observation_keys={"image": KEY, "state": "observation.state"}, image_size=12)
    assert found.observations["image"].shape[1:] == (12, 12, 3)
    # The last step is terminal, so it stays; what was observed after it is unknown
    np.testing.assert_allclose(brightness(found.observations["image"]), [20, 60, 100, 140, 180], atol=3)
    assert found.observations["state"][:, 0].tolist() == [0, 1, 2, 100, 101]
    # Not read unless it is named
    assert isinstance(Demonstrations.load(folder).observations, np.ndarray)
    (folder / f"videos/chunk-000/{KEY}/episode_000001.mp4").unlink()
    with pytest.raises(DemonstrationsError, match=r"found no videos/chunk-000/.*000001\.mp4, expected the video of episode 1"):
        Demonstrations.load(folder, observation_keys=KEY)


def test_videos_of_lerobot_version_3_hold_several_episodes(tmp_path):
    info = {**INFO, "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"}
    folder = write_dataset(tmp_path / "data", {"chunk-000/file-000.parquet": steps([3, 2])}, info)
    write_video(folder / f"videos/{KEY}/chunk-000/file-000.mp4", [20, 60, 100, 140, 180])
    places = {
        "episode_index": pa.array([0, 1]),
        f"videos/{KEY}/chunk_index": pa.array([0, 0]),
        f"videos/{KEY}/file_index": pa.array([0, 0]),
        f"videos/{KEY}/from_timestamp": pa.array([0.0, 0.1]),
    }
    write_table(folder / "meta" / "episodes" / "chunk-000" / "file-000.parquet", places)
    found = Demonstrations.load(folder, observation_keys=KEY)
    assert isinstance(found.observations, np.ndarray)
    assert found.observations.shape[1:] == (48, 64, 3)
    np.testing.assert_allclose(brightness(found.observations), [20, 60, 100, 140, 180], atol=3)
    write_video(folder / f"videos/{KEY}/chunk-000/file-000.mp4", [20, 60])
    with pytest.raises(DemonstrationsError, match=r"file-000\.mp4: found no frame 2, expected one for each step"):
        Demonstrations.load(folder, observation_keys=KEY)
    (folder / f"videos/{KEY}/chunk-000/file-000.mp4").write_bytes(b"no video")
    with pytest.raises(DemonstrationsError, match=r"file-000\.mp4: found a video that cannot be decoded"):
        Demonstrations.load(folder, observation_keys=KEY)


def test_images_of_robomimic_are_read(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (4, 40, 40, 3), dtype=np.uint8)
    with h5py.File(tmp_path / "demo.hdf5", "w") as file:
        demo = file.create_group("data/demo_0")
        demo["actions"], demo["rewards"], demo["dones"] = np.zeros((3, 2)), [0.0, 0.0, 1.0], [0, 0, 1]
        demo["obs/agentview_image"], demo["next_obs/agentview_image"] = images[:-1], images[1:]
        demo["obs/robot0_joint_pos"] = demo["next_obs/robot0_joint_pos"] = np.zeros((3, 2))
        file["data"].attrs["env_args"] = json.dumps({"env_name": "Lift"})
    found = Demonstrations.load(tmp_path / "demo.hdf5", observation_keys="agentview_image")
    np.testing.assert_array_equal(found.observations, images[:-1])
    np.testing.assert_array_equal(found.next_observations, images[1:])


def test_strips_go_from_the_first_frame_to_the_last(tmp_path):
    found = record(lambda observation: np.zeros(1), Lamp("rgb_array"), 2, camera=16)
    ((title, strip),) = image_strips(found).items()
    assert title == "image: episodes 0, 1, from the first frame to the last"
    assert strip.shape == (2 * 16, 10 * 16, 3)
    assert strip[0, ::16, 0].tolist() == [40 * round(5 * k / 9) for k in range(10)]
    assert plot_demonstrations(found, tmp_path / "plot.png").stat().st_size > 10_000
    gray = {name: getattr(found, name)["image"][..., :1].repeat(3, axis=2) for name in ("observations", "next_observations")}
    channels_first = found.changed(**{name: np.moveaxis(array, -1, 1) for name, array in gray.items()})
    assert next(iter(image_strips(channels_first).values())).shape == (2 * 16, 10 * 48, 3)
