"""Random shifts and encoders of images."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import NatureCNN
from torch.fx.experimental.proxy_tensor import make_fx

from sb3_pgfd import SACfD, TD3fD
from sb3_pgfd.common.images import Encoded, ImageEncoder, WithHead, random_shift

IMAGE = spaces.Box(0, 255, (3, 40, 36), np.uint8)
DICT = spaces.Dict({"arm": spaces.Box(-1.0, 1.0, (2,)), "camera": IMAGE, "force": spaces.Box(-1.0, 1.0, (1,))})


def test_images_are_shifted_by_whole_pixels_and_their_edges_repeated():
    images = th.randint(0, 256, (200, 2, 5, 7), dtype=th.uint8)
    shifted = random_shift(images, 2)
    assert shifted.dtype == th.uint8
    padded = np.pad(images.numpy(), [(0, 0), (0, 0), (2, 2), (2, 2)], mode="edge")
    found = set()
    for image, whole in zip(shifted.numpy(), padded, strict=True):
        (place,) = [(y, x) for y in range(5) for x in range(5) if np.array_equal(image, whole[:, y : y + 5, x : x + 7])]
        found.add(place)
    # Each of the 25 shifts comes 8 times on average
    assert len(found) == 25


def test_a_shift_is_a_function_of_tensors():
    images = th.randint(0, 256, (4, 1, 5, 7), dtype=th.uint8)
    program = make_fx(lambda given: random_shift(given, 4))(images)
    other = th.randint(0, 256, (4, 1, 5, 7), dtype=th.uint8)
    th.manual_seed(3)
    expected = random_shift(other, 4)
    th.manual_seed(3)
    assert th.equal(program(other), expected)


def test_vectors_beside_an_image_pass_by_the_head():
    extractor = WithHead(ImageEncoder(DICT), 8)
    observations = {key: th.as_tensor(DICT[key].sample()[None]).float() for key in DICT}
    features = extractor(observations)
    assert features.shape == (1, 8 + 2 + 1)
    assert th.equal(features[:, 8:], th.cat([observations["arm"], observations["force"]], dim=1))
    assert th.equal(extractor.from_features(extractor.encoder(observations)), features)
    assert features[:, :8].abs().max() < 1.0


def test_images_that_are_too_small_and_spaces_without_are_refused():
    with pytest.raises(ValueError, match="expected images of at least 36 x 36 pixels"):
        ImageEncoder(spaces.Box(0, 255, (3, 35, 64), np.uint8))
    with pytest.raises(ValueError, match="expected an image, or a Dict with an image"):
        ImageEncoder(spaces.Box(-1.0, 1.0, (3,)))


class Frozen(NatureCNN):
    """An encoder that was trained elsewhere."""

    def __init__(self, observation_space: spaces.Box):
        super().__init__(observation_space, 16)
        self.requires_grad_(False)


class Pictures(gym.Env):
    observation_space, action_space = IMAGE, spaces.Box(-1.0, 1.0, (1,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.np_random.integers(0, 256, IMAGE.shape, dtype=np.uint8), {}

    def step(self, action):
        return self.reset()[0], 0.0, False, False, {"is_success": False}


def model(**policy_kwargs) -> TD3fD:
    options: dict[str, Any] = {"buffer_size": 50, "batch_size": 4, "learning_starts": 8, "seed": 0, "device": "cpu"}
    options["replay_buffer_kwargs"] = {"keep_successes": False}
    return TD3fD("CnnPolicy", Pictures(), policy_kwargs=policy_kwargs, **options)


def test_a_frozen_encoder_stays_as_it_is_and_the_rest_learns(tmp_path):
    frozen = model(features_extractor_class=Frozen)
    extractor: Any = frozen.critic.features_extractor
    encoder, head = extractor.encoder, extractor.head
    before = {name: value.clone() for name, value in encoder.state_dict().items()}, head[0].weight.clone()
    frozen.learn(12)
    assert all(th.equal(value, encoder.state_dict()[name]) for name, value in before[0].items())
    assert not th.equal(head[0].weight, before[1])
    frozen.save(tmp_path / "model")
    loaded = TD3fD.load(tmp_path / "model", device="cpu")
    image = IMAGE.sample()
    np.testing.assert_array_equal(loaded.predict(image, deterministic=True)[0], frozen.predict(image, deterministic=True)[0])
    assert loaded.actor.features_extractor.encoder is loaded.critic.features_extractor.encoder


def test_an_update_shifts_and_encodes_both_observations_once():
    learner = model()
    learner.learn(12)
    calls: list[int] = []
    for critic in (learner.critic, learner.critic_target):
        extractor: Any = critic.features_extractor
        extractor.encoder.register_forward_hook(lambda module, inputs, output: calls.append(len(output)))
    learner.train(2, 4)
    # s, and s' after one step and after n steps
    assert calls == [4, 8] * 2
    images = th.as_tensor(np.stack([IMAGE.sample() for _ in range(3)]))
    encoded = learner.policy.encoded(images, learner.critic)
    assert isinstance(encoded, Encoded)
    assert isinstance(encoded.observations, th.Tensor)
    assert not th.equal(encoded.observations, images)
    without = model(image_shift=0).policy
    assert th.equal(without.encoded(images, without.critic).observations, images)


def test_options_of_images_out_of_range_are_refused():
    with pytest.raises(ValueError, match="image_shift: found -1, expected a whole number of pixels >= 0"):
        model(image_shift=-1)
    with pytest.raises(ValueError, match="image_head: found 0, expected a whole number >= 1, or None"):
        model(image_head=0)


class Floats(Pictures):
    """Images from 0 to 1, alone or beside a state."""

    def __init__(self, as_dict: bool):
        image = spaces.Box(0.0, 1.0, (3, 36, 36), np.float32)
        vector = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.observation_space: Any = spaces.Dict({"image": image, "state": vector}) if as_dict else image

    def reset(self, *, seed=None, options=None):
        return self.observation_space.sample(), {}


@pytest.mark.parametrize("as_dict", [False, True])
@pytest.mark.parametrize("algorithm", [TD3fD, SACfD])
def test_images_may_be_numbers_from_0_to_1(algorithm, as_dict, tmp_path):
    options: dict[str, Any] = {"buffer_size": 50, "batch_size": 4, "learning_starts": 8, "device": "cpu"}
    env, policy = Floats(as_dict), "MultiInputPolicy" if as_dict else "CnnPolicy"
    learned = algorithm(policy, env, policy_kwargs={"normalize_images": False}, **options).learn(12)
    assert isinstance(learned.critic.features_extractor.encoder, ImageEncoder)
    learned.save(tmp_path / "model")
    seen = env.observation_space.sample()
    loaded = algorithm.load(tmp_path / "model", device="cpu")
    np.testing.assert_array_equal(loaded.predict(seen, deterministic=True)[0], learned.predict(seen, deterministic=True)[0])
