"""
Policies of DDPGfD: SB3's ``TD3Policy`` with the last layers of DDPG, optional LayerNorm in the critics, a running mean of
the actors, and an optimiser that updates all parameters in one step.
"""

from typing import Any

import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, FlattenExtractor
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from stable_baselines3.td3 import policies as td3
from torch import nn

from sb3_pgfd.common.images import ForDicts, ForImages, TakesFeatures
from sb3_pgfd.common.policies import LAST_LAYER_BOUND, OffPolicyPolicy, fused_if_adam, init_last_layer, with_dropout
from sb3_pgfd.utils.checks import is_number, is_whole


class Actor(TakesFeatures, td3.Actor):
    """SB3's ``Actor`` of TD3."""


class DDPGfDPolicy(OffPolicyPolicy, td3.TD3Policy):
    """
    Actor and critics of DDPGfD.

    :param observation_space: Observation space
    :param action_space: Action space
    :param lr_schedule: Learning rate schedule
    :param net_arch: Hidden layers, None: those of SB3's ``TD3Policy``, and ``[256, 256]`` where there are images
    :param n_critics: Number of critics; the smallest of their targets counts (TD3, arXiv 1802.09477, equation 10)
    :param layer_norm: Whether the critics normalise their hidden layers
    :param average_actor: Rate of a running mean of the actors (Polyak averaging, slower than that of the targets). The
        mean acts in ``predict(..., deterministic=True)``, the last actor explores; None: the last actor does both
    :param actor_dropout: Probability with which a hidden unit of the actor is left out in an update (IBRL, Hu et al.
        2023, arXiv 2311.02198)
    :param precision: Of the matrix products of updates: "float32", or "bf16", which is faster on GPUs and, with 256 units
        and more, on CPUs with AMX or AVX512-BF16. Weights and sums stay float32, and acting does too
    :param image_shift: Pixels by which images are shifted at random in updates, at most, as DrQ does it; 0: none
    :param image_head: Units of the layer, with LayerNorm and tanh, that each network has behind the encoder of images (DrQ-v2,
        arXiv 2107.09645); None: no such layer
    :param initial_q: Q that the critics begin with. With the largest possible return, what was not tried yet looks good, and
        the agent tries it (optimistic initial values, Sutton and Barto 2018, section 2.6; docs/sparse_rewards.md).
        Pretraining changes it before the first step
    :param last_layer_bound: Bound of the uniform distribution of the first weights in the last layers of actor and critics, so
        that actions and values begin near 0 (Lillicrap et al. 2016, arXiv 1509.02971, section 7); None: PyTorch's larger
        ones, as in SB3
    :param share_features_extractor: Whether actor and critics have one features extractor, which the critics train. While the
        actor does nothing but clone, cloning trains it as well. None: where there are images
    :param optimizer_class: Adam by default, in its fused implementation
    :param optimizer_kwargs: Its further arguments; the algorithm adds ``weight_decay`` (lambda_2)
    :param kwargs: See SB3's ``TD3Policy``
    :raises ValueError: If there is no critic, or an option is out of range
    """

    actor: Actor
    mean_actor: Actor

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Box,
        lr_schedule: Schedule,
        net_arch: list[int] | dict[str, list[int]] | None = None,
        activation_fn: type[nn.Module] = nn.ReLU,
        features_extractor_class: type[BaseFeaturesExtractor] = FlattenExtractor,
        features_extractor_kwargs: dict[str, Any] | None = None,
        normalize_images: bool = True,
        optimizer_class: type[th.optim.Optimizer] = th.optim.Adam,
        optimizer_kwargs: dict[str, Any] | None = None,
        n_critics: int = 1,
        share_features_extractor: bool | None = None,
        layer_norm: bool = False,
        average_actor: float | None = None,
        actor_dropout: float = 0.0,
        precision: str = "float32",
        image_shift: int = 4,
        image_head: int | None = 64,
        initial_q: float = 0.0,
        last_layer_bound: float | None = LAST_LAYER_BOUND,
    ):
        if not is_whole(n_critics, 1):
            raise ValueError(f"n_critics: found {n_critics!r}, expected a whole number >= 1")
        if not is_number(actor_dropout, 0.0) or actor_dropout >= 1.0:
            raise ValueError(f"actor_dropout: found {actor_dropout!r}, expected a number >= 0 and < 1")
        # Read by _build(), make_actor() and make_critic(), which the parent's constructor calls
        self.precision = precision
        self._set_image_options(observation_space, normalize_images, image_shift, image_head)
        self.layer_norm = layer_norm
        self.actor_dropout = actor_dropout
        self.average_actor = average_actor
        self.initial_q = initial_q
        self.last_layer_bound = last_layer_bound
        super().__init__(
            observation_space,
            action_space,
            lr_schedule,
            [256, 256] if net_arch is None and self._sees_images else net_arch,
            activation_fn,
            features_extractor_class,
            # SB3 adds to it for images that are normalised already
            dict(features_extractor_kwargs or {}),
            normalize_images,
            optimizer_class,
            fused_if_adam(optimizer_class, optimizer_kwargs),
            n_critics,
            self._sees_images if share_features_extractor is None else share_features_extractor,
        )

    def make_actor(self, features_extractor: BaseFeaturesExtractor | None = None, dropout: float | None = None) -> Actor:
        """
        cf ``TD3Policy``.

        :param dropout: In place of ``actor_dropout``, None: the latter
        """
        actor = Actor(**self._update_features_extractor(self.actor_kwargs, features_extractor)).to(self.device)
        init_last_layer(actor.mu, self.last_layer_bound)
        dropout = self.actor_dropout if dropout is None else dropout
        if dropout > 0.0:
            actor.mu = with_dropout(actor.mu, dropout)
        return actor

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), "actor_dropout": self.actor_dropout}

    def _predict(self, observation: PyTorchObs, deterministic: bool = False) -> th.Tensor:
        return self.acting(deterministic)(observation)


class DDPGfDCnnPolicy(ForImages, DDPGfDPolicy):
    """Policy for images: see :class:`DDPGfDPolicy`, by default with an :class:`~sb3_pgfd.common.images.ImageEncoder`."""


class DDPGfDMultiInputPolicy(ForDicts, DDPGfDPolicy):
    """
    Policy for Dict observations: see :class:`DDPGfDPolicy`. By default it has an
    :class:`~sb3_pgfd.common.images.ImageEncoder` where there are images, otherwise a ``CombinedExtractor``.
    """


MlpPolicy = DDPGfDPolicy
CnnPolicy = DDPGfDCnnPolicy
MultiInputPolicy = DDPGfDMultiInputPolicy
