"""Policies of SACfD: SB3's ``SACPolicy`` with an ensemble of critics, and what tells demonstrations from exploration."""

from typing import Any, NamedTuple

import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, FlattenExtractor
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from stable_baselines3.sac import policies as sac
from torch import nn

from sb3_pgfd.common.images import ForDicts, ForImages, TakesFeatures
from sb3_pgfd.common.losses import smallest, squashed_log_prob
from sb3_pgfd.common.policies import LAST_LAYER_BOUND, OffPolicyPolicy, fused_if_adam, init_last_layer
from sb3_pgfd.utils.checks import is_number, is_whole

# Of SB3's policy, for gSDE
_OF_GSDE = ("use_sde", "use_expln", "clip_mean")


class Drawn(NamedTuple):
    """Actions drawn from a policy."""

    actions: th.Tensor
    """Scaled to [-1, 1], with their graph, shape ``(B, action_dim)``"""
    log_prob: th.Tensor
    """log pi(a|s), a column"""
    modes: th.Tensor
    """The actions without noise"""
    log_std: th.Tensor
    """Logarithm of the standard deviation of the Gaussian that is squashed, shape ``(B, action_dim)``"""


class Actor(TakesFeatures, sac.Actor):
    """SB3's ``Actor`` of SAC."""


class SACfDPolicy(OffPolicyPolicy, sac.SACPolicy):
    """
    Actor and critics of SACfD.

    :param observation_space: Observation space
    :param action_space: Action space
    :param lr_schedule: Learning rate schedule
    :param log_std_init: Logarithm of the standard deviation that the Gaussian, which tanh squashes, begins with in every state
    :param n_critics: Number of critics; RLPD has ten (Ball et al. 2023, arXiv 2302.02948, section 4.3)
    :param n_target_critics: How many of them, drawn anew for each update, the smallest target is taken of; the actor then
        follows the mean of all critics (RLPD). None: the smallest of all in both places (SAC)
    :param layer_norm: Whether the critics normalise their hidden layers (RLPD, section 4.2)
    :param average_actor: Rate of a running mean of the actors. The mean acts in ``predict(..., deterministic=True)``, the
        last actor explores; None: the last actor does both
    :param precision: Of the matrix products of updates: "float32", or "bf16", see
        :class:`~sb3_pgfd.ddpgfd.policies.DDPGfDPolicy`
    :param image_shift: As ``image_head``, ``share_features_extractor``, ``initial_q`` and ``last_layer_bound``, see
        :class:`~sb3_pgfd.ddpgfd.policies.DDPGfDPolicy`
    :param optimizer_class: Adam by default, in its fused implementation
    :param optimizer_kwargs: Its further arguments; the algorithm adds ``weight_decay`` (lambda_2)
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
        log_std_init: float = -2.0,
        features_extractor_class: type[BaseFeaturesExtractor] = FlattenExtractor,
        features_extractor_kwargs: dict[str, Any] | None = None,
        normalize_images: bool = True,
        optimizer_class: type[th.optim.Optimizer] = th.optim.Adam,
        optimizer_kwargs: dict[str, Any] | None = None,
        n_critics: int = 5,
        n_target_critics: int | None = 2,
        share_features_extractor: bool | None = None,
        layer_norm: bool = True,
        average_actor: float | None = 0.002,
        precision: str = "float32",
        image_shift: int = 4,
        image_head: int | None = 64,
        initial_q: float = 0.0,
        last_layer_bound: float | None = LAST_LAYER_BOUND,
    ):
        if not is_whole(n_critics, 1):
            raise ValueError(f"n_critics: found {n_critics!r}, expected a whole number >= 1")
        if not is_number(log_std_init, -20.0, 2.0):
            raise ValueError(f"log_std_init: found {log_std_init!r}, expected a number from -20 to 2")
        # Read by _build(), make_actor() and make_critic(), which the parent's constructor calls
        self.log_std_init = log_std_init
        self.n_target_critics = n_target_critics
        self.layer_norm = layer_norm
        self.average_actor = average_actor
        self.precision = precision
        self.initial_q = initial_q
        self.last_layer_bound = last_layer_bound
        self._set_image_options(observation_space, normalize_images, image_shift, image_head)
        super().__init__(
            observation_space,
            action_space,
            lr_schedule,
            [128, 128] if net_arch is None else net_arch,
            activation_fn,
            log_std_init=log_std_init,
            features_extractor_class=features_extractor_class,
            # SB3 adds to it for images that are normalised already
            features_extractor_kwargs=dict(features_extractor_kwargs or {}),
            normalize_images=normalize_images,
            optimizer_class=optimizer_class,
            optimizer_kwargs=fused_if_adam(optimizer_class, optimizer_kwargs),
            n_critics=n_critics,
            share_features_extractor=self._sees_images if share_features_extractor is None else share_features_extractor,
        )

    def make_actor(self, features_extractor: BaseFeaturesExtractor | None = None) -> Actor:
        """
        cf ``SACPolicy``. Small weights give about the same standard deviation in every state; cloning the mean keeps it.
        """
        actor = Actor(**self._update_features_extractor(self.actor_kwargs, features_extractor)).to(self.device)
        assert isinstance(actor.log_std, nn.Linear)
        init_last_layer(actor.mu, self.last_layer_bound)
        init_last_layer(actor.log_std, self.last_layer_bound)
        nn.init.constant_(actor.log_std.bias, self.log_std_init)
        return actor

    def modes(self, observations: Any) -> th.Tensor:
        """:return: Actions of the actor without noise"""
        mean, _, _ = self.actor.get_action_dist_params(observations)
        return mean.tanh()

    def draw(self, observations: PyTorchObs) -> Drawn:
        """
        :param observations: s
        :return: Actions with their probabilities
        """
        # Not SB3's distribution, whose checks branch on values
        mean, log_std, _ = self.actor.get_action_dist_params(observations)
        noise = th.randn_like(mean)
        unsquashed = th.addcmul(mean, noise, log_std.exp())
        return Drawn(unsquashed.tanh(), squashed_log_prob(noise, log_std, unsquashed), mean.tanh(), log_std)

    def followed_q(self, observations: PyTorchObs, actions: th.Tensor) -> th.Tensor:
        """:return: Q(s, a) that the actor follows, a column"""
        if self.n_target_critics is None:
            return smallest(self.critic(observations, actions))
        return self.mean_q(observations, actions)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        parent = super()._get_constructor_parameters()
        own = {"n_target_critics": self.n_target_critics, "share_features_extractor": self.share_features_extractor}
        return {name: value for name, value in parent.items() if name not in _OF_GSDE} | own

    def _predict(self, observation: PyTorchObs, deterministic: bool = False) -> th.Tensor:
        return self.acting(deterministic)(observation, deterministic)


class SACfDCnnPolicy(ForImages, SACfDPolicy):
    """Policy for images: see :class:`SACfDPolicy`, by default with an :class:`~sb3_pgfd.common.images.ImageEncoder`."""


class SACfDMultiInputPolicy(ForDicts, SACfDPolicy):
    """Policy for Dict observations: see :class:`SACfDPolicy` and :class:`~sb3_pgfd.ddpgfd.policies.DDPGfDMultiInputPolicy`."""


MlpPolicy = SACfDPolicy
CnnPolicy = SACfDCnnPolicy
MultiInputPolicy = SACfDMultiInputPolicy
