"""
Learning from images: random shifts (DrQ, Kostrikov et al. 2021, https://arxiv.org/abs/2004.13649), and one encoder for actor
and critics that the critics train (SAC+AE, Yarats et al. 2021, https://arxiv.org/abs/1910.01741; DrQ-v2,
https://arxiv.org/abs/2107.09645).
"""

from typing import Any, NamedTuple

import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import BaseModel, BasePolicy, ContinuousCritic
from stable_baselines3.common.preprocessing import get_flattened_obs_dim, is_image_space, preprocess_obs
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, CombinedExtractor, NatureCNN
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from torch import nn

from sb3_pgfd.utils.checks import is_whole


def has_images(space: spaces.Space, normalized: bool = False) -> bool:
    """
    :param space: Observation space, images with their channels first
    :param normalized: Whether images are numbers from 0 to 1 already
    :return: Whether observations are images, or have some among their keys
    """
    subspaces = space.spaces.values() if isinstance(space, spaces.Dict) else [space]
    return any(is_image_space(subspace, normalized_image=normalized) for subspace in subspaces)


def random_shift(images: th.Tensor, n_pixels: int) -> th.Tensor:
    """
    Shift each image by whole pixels in both directions. The pixels at the edge are repeated outwards.

    :param images: Shape ``(B, channels, height, width)``, any dtype
    :param n_pixels: Largest shift
    """
    n, n_channels, height, width = images.shape
    device = images.device
    down, right = th.randint(-n_pixels, n_pixels + 1, (2, n, 1, 1), device=device)
    edges = [images[..., end].expand(n, n_channels, height, n_pixels) for end in (slice(1), slice(-1, None))]
    padded = th.cat([edges[0], images, edges[1]], dim=3)
    rows = (th.arange(height, device=device) + down).clamp(0, height - 1)
    rows = rows + height * th.arange(n * n_channels, device=device).view(n, n_channels, 1)
    # Whole rows are copied: to pick single pixels is many times as slow on a CPU
    starts = rows * padded.shape[3] + right + n_pixels
    return padded.view(-1).unfold(0, width, 1).index_select(0, starts.flatten()).view(images.shape)


class ImageEncoder(BaseFeaturesExtractor):
    """
    The convolutions of SB3's ``NatureCNN`` for each image; vectors beside the images, such as a robot's joints, are appended
    as they are. What the convolutions find goes through a layer that each network has of its own, see :class:`WithHead`.

    :param observation_space: An image, or a Dict with images
    :param normalized_image: Whether images are numbers from 0 to 1 already
    """

    def __init__(self, observation_space: spaces.Space, normalized_image: bool = False):
        subspaces = dict(observation_space.items()) if isinstance(observation_space, spaces.Dict) else {"": observation_space}
        images = [key for key, part in subspaces.items() if is_image_space(part, normalized_image=normalized_image)]
        if not images:
            raise ValueError(f"observation_space: found {observation_space}, expected an image, or a Dict with an image")
        small = [subspaces[key] for key in images if min(subspaces[key].shape[1:]) < 36]  # type: ignore[index]
        if small:
            raise ValueError(
                f"observation_space: found {small[0]}, expected images of at least 36 x 36 pixels: enlarge them, or give an "
                "encoder of your own as features_extractor_class"
            )
        cnns = {key: NatureCNN(subspaces[key], 1, normalized_image) for key in images}
        self.image_dim = 0
        self.image_dim = sum(cnn.linear[0].in_features for cnn in cnns.values())  # type: ignore[misc]
        self.vectors = [key for key in subspaces if key not in images]
        n_vector = sum(get_flattened_obs_dim(subspaces[key]) for key in self.vectors)
        super().__init__(observation_space, self.image_dim + n_vector)
        # Keys of a ModuleDict may neither be empty nor hold a dot
        self.keys = images
        self.convolutions = nn.ModuleList(cnns[key].cnn for key in images)

    def forward(self, observations: Any) -> th.Tensor:
        """:return: Features of all images, then all vectors, shape ``(B, features_dim)``"""
        if not isinstance(observations, dict):
            return self.convolutions[0](observations)
        found = [cnn(observations[key]) for cnn, key in zip(self.convolutions, self.keys, strict=True)]
        return th.cat([*found, *(observations[key].flatten(1) for key in self.vectors)], dim=1)


class WithHead(BaseFeaturesExtractor):
    """
    An encoder with a linear layer, LayerNorm and tanh behind it. Networks may share the encoder; the head is of one network.

    :param encoder: Any features extractor. Of :class:`ImageEncoder` vectors pass by the head
    :param head_dim: Units of the head
    """

    def __init__(self, encoder: BaseFeaturesExtractor, head_dim: int):
        self.image_dim = getattr(encoder, "image_dim", encoder.features_dim)
        super().__init__(encoder._observation_space, head_dim + encoder.features_dim - self.image_dim)
        self.encoder = encoder
        self.head = nn.Sequential(nn.Linear(self.image_dim, head_dim), nn.LayerNorm(head_dim), nn.Tanh())

    def forward(self, observations: Any) -> th.Tensor:
        """:return: Shape ``(B, features_dim)``"""
        return self.from_features(self.encoder(observations))

    def from_features(self, features: th.Tensor) -> th.Tensor:
        """:param features: Of the encoder"""
        headed = self.head(features[:, : self.image_dim])
        return headed if headed.shape[1] == self.features_dim else th.cat((headed, features[:, self.image_dim :]), dim=1)


class Encoded(NamedTuple):
    """Observations of an update with what the shared encoder makes of them."""

    observations: PyTorchObs
    """Shifted, for networks with an encoder of their own"""
    features: th.Tensor
    """Shape ``(B, encoder_dim)``"""

    def detach(self) -> "Encoded":
        """:return: The same, through which nothing trains the encoder"""
        return Encoded(self.observations, self.features.detach())


class TakesFeatures(BaseModel):
    """Mixin for a network that takes :class:`Encoded` in place of observations, so that one update encodes them once."""

    shares_encoder: bool = False

    def extract_features(self, obs: Any, features_extractor: BaseFeaturesExtractor) -> th.Tensor:
        """cf ``BaseModel``"""
        if not isinstance(obs, Encoded):
            return super().extract_features(obs, features_extractor)
        if not self.shares_encoder:
            return super().extract_features(obs.observations, features_extractor)
        return features_extractor.from_features(obs.features) if isinstance(features_extractor, WithHead) else obs.features


class LearnsFromImages(BasePolicy):
    """
    Mixin in front of SB3's policy with actor and critics, for networks that are :class:`TakesFeatures`. Set the attributes
    before SB3's constructor runs, and call :meth:`_share_encoder` at the end of ``_build()``.
    """

    image_shift: int
    """Pixels by which images are shifted at random in updates, at most"""
    image_head: int | None
    """Units of the layer behind the encoder, None: no such layer"""
    share_features_extractor: bool

    def _set_image_options(self, space: spaces.Space, normalize: bool, shift: int, head: int | None) -> None:
        """:raises ValueError: If one is out of range"""
        if not is_whole(shift, 0):
            raise ValueError(f"image_shift: found {shift!r}, expected a whole number of pixels >= 0")
        if head is not None and not is_whole(head, 1):
            raise ValueError(f"image_head: found {head!r}, expected a whole number >= 1, or None")
        self._sees_images = has_images(space, normalized=not normalize)
        self.image_shift, self.image_head = shift, head

    def make_features_extractor(self) -> BaseFeaturesExtractor:
        """cf ``BaseModel``. Behind the encoder of images is a head."""
        encoder = super().make_features_extractor()
        return WithHead(encoder, self.image_head) if self._sees_images and self.image_head is not None else encoder

    def _share_encoder(self, network: Any, critic: Any) -> None:
        """
        :param network: Uses the critic's encoder from now on
        :param critic: Trains it
        """
        own, other = network.features_extractor, critic.features_extractor
        if isinstance(own, WithHead):
            own.encoder = other.encoder
        else:
            network.features_extractor = other
        network.shares_encoder = critic.shares_encoder = True

    def own_parameters(self, network: Any) -> list[nn.Parameter]:
        """:return: Those of a network without the encoder, if it shares one"""
        extractor = network.features_extractor
        encoder = extractor.encoder if isinstance(extractor, WithHead) else extractor
        shared = {id(parameter) for parameter in encoder.parameters()} if network.shares_encoder else set()
        return [parameter for parameter in network.parameters() if id(parameter) not in shared]

    def shifted(self, observations: Any) -> Any:
        """:return: The same observations with their images shifted at random"""
        if not self._sees_images or self.image_shift == 0:
            return observations
        if isinstance(observations, dict):
            space: Any = self.observation_space
            return {key: self._shifted(value, space[key]) for key, value in observations.items()}
        return self._shifted(observations, self.observation_space)

    def _shifted(self, values: th.Tensor, space: spaces.Space) -> th.Tensor:
        is_image = is_image_space(space, normalized_image=not self.normalize_images)
        return random_shift(values, self.image_shift) if is_image else values

    def encoded(self, observations: Any, critic: ContinuousCritic) -> Any:
        """
        Observations as an update's networks take them.

        :param observations: Of a batch
        :param critic: The critic, or its target
        :return: Shifted, and :class:`Encoded` where the encoder is shared
        """
        observations = self.shifted(observations)
        if not self.share_features_extractor:
            return observations
        extractor: Any = critic.features_extractor
        encoder = extractor.encoder if isinstance(extractor, WithHead) else extractor
        inputs = preprocess_obs(observations, self.observation_space, normalize_images=self.normalize_images)
        return Encoded(observations, encoder(inputs))


def detached(observations: Any) -> Any:
    """:return: Of :meth:`LearnsFromImages.encoded`: the same, through which nothing trains the encoder"""
    return observations.detach() if isinstance(observations, Encoded) else observations


class ForImages(LearnsFromImages):
    """Mixin in front of a policy: images go through an :class:`ImageEncoder` by default."""

    def __init__(self, observation_space: spaces.Space, action_space: spaces.Box, lr_schedule: Schedule, **kwargs: Any):
        options = {"features_extractor_class": ImageEncoder, **kwargs}
        super().__init__(observation_space, action_space, lr_schedule, **_with_range(options))


class ForDicts(LearnsFromImages):
    """Mixin in front of a policy: by default Dict observations are joined, those with images as :class:`ImageEncoder` does."""

    def __init__(self, observation_space: spaces.Space, action_space: spaces.Box, lr_schedule: Schedule, **kwargs: Any):
        sees_images = has_images(observation_space, normalized=not kwargs.get("normalize_images", True))
        options = {"features_extractor_class": ImageEncoder if sees_images else CombinedExtractor, **kwargs}
        super().__init__(observation_space, action_space, lr_schedule, **_with_range(options))


def _with_range(options: dict[str, Any]) -> dict[str, Any]:
    """:return: Options of a policy that tell an :class:`ImageEncoder` of images from 0 to 1. SB3 tells its own encoders"""
    if options.get("normalize_images", True) or not issubclass(options["features_extractor_class"], ImageEncoder):
        return options
    of_encoder = {"normalized_image": True, **(options.get("features_extractor_kwargs") or {})}
    return {**options, "features_extractor_kwargs": of_encoder}
