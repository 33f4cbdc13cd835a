"""Parts of networks, and target networks."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch as th
from stable_baselines3.common.policies import ContinuousCritic
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from torch import nn

from sb3_pgfd.common.critics import Critics
from sb3_pgfd.common.images import LearnsFromImages
from sb3_pgfd.common.losses import smallest
from sb3_pgfd.utils.checks import is_number, is_whole

# Bound of the uniform distribution that the last layers start from, so that the first actions and values are
# near zero (Lillicrap et al. 2016, arXiv 1509.02971, section 7)
LAST_LAYER_BOUND = 3e-3


def init_last_layer(
    layers: nn.Module | Sequence[nn.Module], bound: float | None = LAST_LAYER_BOUND, output: float = 0.0
) -> None:
    """
    Draw the weights of the last linear layer anew.

    :param layers: A network
    :param bound: Of their uniform distribution; None: they stay as PyTorch has drawn them
    :param output: What to add to the outputs
    """
    found = layers.modules() if isinstance(layers, nn.Module) else layers
    last = [layer for layer in found if isinstance(layer, nn.Linear)][-1]
    if bound is not None:
        nn.init.uniform_(last.weight, -bound, bound)
        if last.bias is not None:
            nn.init.uniform_(last.bias, -bound, bound)
    if output != 0.0:
        last.bias.data += output


def with_dropout(layers: nn.Sequential, probability: float) -> nn.Sequential:
    """
    :param layers: Linear layers, with an activation behind each but the last
    :param probability: With which a hidden unit is left out in training
    :return: The same layers with dropout in front of each linear one but the first
    """
    linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
    dropped = [(nn.Dropout(probability), layer) if layer in linear[1:] else (layer,) for layer in layers]
    return nn.Sequential(*(layer for group in dropped for layer in group))


def with_layer_norm(layers: nn.Module) -> nn.Sequential:
    """
    :param layers: Linear layers of a critic, with an activation behind each but the last
    :return: The same layers with LayerNorm behind each linear one but the last, which bounds how far Q can rise outside
        the data (RLPD, Ball et al. 2023, arXiv 2302.02948, section 4.2)
    """
    linear = [layer for layer in layers.children() if isinstance(layer, nn.Linear)]
    normed = [(layer, nn.LayerNorm(layer.out_features)) if layer in linear[:-1] else (layer,) for layer in layers.children()]
    return nn.Sequential(*(layer for group in normed for layer in group))


def fused_if_adam(optimizer_class: type[th.optim.Optimizer], optimizer_kwargs: Mapping[str, Any] | None) -> dict[str, Any]:
    """
    Let Adam update all parameters in one kernel: for small networks the loop over them costs as much as the gradients.

    :param optimizer_class: Any optimiser
    :param optimizer_kwargs: Its arguments
    :return: The same with Adam's fused implementation, unless another implementation is chosen: torch refuses two
    """
    kwargs = dict(optimizer_kwargs or {})
    if optimizer_class in (th.optim.Adam, th.optim.AdamW) and {"fused", "foreach", "differentiable"}.isdisjoint(kwargs):
        kwargs["fused"] = True
    return kwargs


def check_precision(precision: str) -> None:
    """:raises ValueError: If it is none that :func:`matmul_precision` takes, or torch is too old"""
    if precision not in ("float32", "bf16"):
        raise ValueError(f'precision: found {precision!r}, expected "float32" or "bf16"')
    if precision == "bf16" and not hasattr(th.backends.mkldnn, "matmul"):
        raise ValueError(f"precision: found bf16 and torch {th.__version__}, expected torch 2.9 or later")


@contextmanager
def matmul_precision(precision: str, device: th.device) -> Iterator[None]:
    """
    :param precision: "float32", or "bf16": matrix products take the first 8 bits of each number and add up in float32
    :param device: Where
    """
    if precision == "float32":
        yield
    elif device.type == "cuda":
        # Cached weights would be read when a CUDA graph is captured, and not be made again when it runs
        with th.autocast("cuda", th.bfloat16, cache_enabled=False):
            yield
    else:
        backend: Any = th.backends.mkldnn
        present = backend.matmul.fp32_precision
        backend.matmul.fp32_precision = precision
        try:
            yield
        finally:
            backend.matmul.fp32_precision = present


class TargetNetworks:
    """
    Networks that follow others slowly: theta' <- theta' + tau (theta - theta').

    :param networks: theta
    :param targets: theta', in the same order
    """

    def __init__(self, networks: Sequence[nn.Module], targets: Sequence[nn.Module]):
        # By target, so that a features extractor that actor and critic share moves once
        pairs: dict[th.Tensor, th.Tensor] = {}
        for network, target in zip(networks, targets, strict=True):
            pairs |= zip(target.parameters(), network.parameters(), strict=True)
        self._targets, self._parameters = list(pairs), list(pairs.values())
        # Running statistics are copied, see SB3's issue 996: of batch normalisation, and of extractors of any other name
        statistics: dict[th.Tensor, th.Tensor] = {}
        for network, target in zip(networks, targets, strict=True):
            statistics |= zip(target.buffers(), network.buffers(), strict=True)
        self._target_statistics, self._statistics = list(statistics), list(statistics.values())

    @th.no_grad()
    def update(self, tau: float | th.Tensor) -> None:
        """:param tau: Share of the way, 1: copy"""
        # One call for all parameters
        if isinstance(tau, th.Tensor):
            steps = th._foreach_sub(self._parameters, self._targets)
            th._foreach_mul_(steps, tau)
            th._foreach_add_(self._targets, steps)
        else:
            th._foreach_lerp_(self._targets, self._parameters, tau)
        if self._statistics:
            th._foreach_copy_(self._target_statistics, self._statistics)


class OffPolicyPolicy(LearnsFromImages):
    """
    What the policies of the off-policy algorithms have beyond SB3's ``TD3Policy`` and ``SACPolicy``, in front of which it
    stands: LayerNorm in the critics, targets of a random subset of them, and a running mean of the actors.

    A subclass sets the attributes below before it calls the parent's constructor, which builds the networks.
    """

    actor: Any
    critic: ContinuousCritic
    critic_target: ContinuousCritic
    mean_actor: Any
    critic_kwargs: dict[str, Any]
    layer_norm: bool
    """Whether the critics normalise their hidden layers"""
    average_actor: float | None
    """Rate of a running mean of the actors, which acts in ``predict(..., deterministic=True)``; None: no mean"""
    precision: str
    """Of the matrix products of updates"""
    initial_q: float
    """Q that the critics begin with"""
    last_layer_bound: float | None
    """Of the first weights of the last layers, None: PyTorch's"""
    n_target_critics: int | None = None
    """How many critics, drawn anew for each update, the smallest target is taken of; None: all"""

    def _build(self, lr_schedule: Schedule) -> None:
        average_actor, n_picked = self.average_actor, self.n_target_critics
        if average_actor is not None and (not is_number(average_actor, 0.0, 1.0) or average_actor == 0.0):
            raise ValueError(f"average_actor: found {average_actor!r}, expected a number > 0 and <= 1, or None")
        check_precision(self.precision)
        if not is_number(self.initial_q):
            raise ValueError(f"initial_q: found {self.initial_q!r}, expected a number")
        bound = self.last_layer_bound
        if bound is not None and not is_number(bound, 0.0):
            raise ValueError(f"last_layer_bound: found {bound!r}, expected a number >= 0, or None for PyTorch's weights")
        # SB3 would let the actor train an extractor that both use
        shares, self.share_features_extractor = self.share_features_extractor, False
        super()._build(lr_schedule)  # type: ignore[misc]  # of TD3Policy or SACPolicy
        self.share_features_extractor = shares
        if shares:
            self._share_encoder(self.actor, self.critic)
            # SAC has none
            if hasattr(self, "actor_target"):
                self._share_encoder(self.actor_target, self.critic_target)
            self.actor.optimizer = self._make_optimizer(self.own_parameters(self.actor), lr_schedule)
        n_critics = len(self.critic.q_networks)
        if n_critics == 1 and n_picked == 2:
            # The default of two is for those who have them
            n_picked = self.n_target_critics = None
        if n_picked is not None and not (is_whole(n_picked, 1) and n_picked <= n_critics):
            raise ValueError(f"n_target_critics: found {n_picked!r}, expected a whole number from 1 to n_critics={n_critics}")
        if average_actor is not None:
            self.mean_actor = self.make_actor()
            self.mean_actor.load_state_dict(self.actor.state_dict())
            self.mean_actor.set_training_mode(False)
        self._mean: TargetNetworks | None = None

    def _make_optimizer(self, parameters: Any, lr_schedule: Schedule, **kwargs: Any) -> th.optim.Optimizer:
        options: dict[str, Any] = {"lr": lr_schedule(1), **self.optimizer_kwargs, **kwargs}
        return self.optimizer_class(parameters, **options)

    def make_actor(self, features_extractor: BaseFeaturesExtractor | None = None) -> Any:
        """cf ``TD3Policy`` and ``SACPolicy``"""
        return super().make_actor(features_extractor)  # type: ignore[misc]

    def make_critic(self, features_extractor: BaseFeaturesExtractor | None = None) -> Critics:
        """cf ``TD3Policy`` and ``SACPolicy``"""
        critic = Critics(**self._update_features_extractor(self.critic_kwargs, features_extractor)).to(self.device)
        for idx, q_net in enumerate(critic.q_networks):
            init_last_layer(q_net, self.last_layer_bound, self.initial_q)
            if self.layer_norm:
                critic.q_networks[idx] = with_layer_norm(q_net)
                setattr(critic, f"qf{idx}", critic.q_networks[idx])
        return critic

    def set_training_mode(self, mode: bool) -> None:
        """cf ``TD3Policy``. SB3 sets the mode twice for each step of the environment, and it walks through all modules."""
        if not self.training == self.actor.training == self.critic.training == mode:
            super().set_training_mode(mode)

    def mean_actor_rate(self, n_updates: int) -> float:
        """
        :param n_updates: k, how many actors there were, the present one included
        :return: Rate of the running mean, at least 1 / k: the mean of the first actors is a plain one, and the random
            initial actor has no weight
        """
        return max(self.average_actor or 0.0, 1.0 / max(n_updates, 1))

    def update_mean_actor(self, rate: float | th.Tensor) -> None:
        """
        Let the running mean of the actors, if there is one, take in the present one.

        :param rate: Share of the way, see :meth:`mean_actor_rate`
        """
        if self.average_actor is None:
            return
        if self._mean is None:
            # Not earlier: on another device, batch normalisation has other tensors
            self._mean = TargetNetworks((self.actor,), (self.mean_actor,))
        self._mean.update(rate)

    def acting(self, deterministic: bool) -> Any:
        """:return: The actor that acts"""
        return self.actor if self.average_actor is None or not deterministic else self.mean_actor

    def modes(self, observations: Any) -> th.Tensor:
        """:return: Actions of the actor without noise"""
        return self.actor(observations)

    def pick_critics(self) -> th.Tensor | None:
        """:return: Numbers of the critics that count in the targets of this update, None: all"""
        if self.n_target_critics is None:
            return None
        return th.rand(len(self.critic_target.q_networks), device=self.device).argsort()[: self.n_target_critics]

    def target_q(self, observations: PyTorchObs, actions: th.Tensor) -> th.Tensor:
        """
        :param observations: s', rows as many as actions
        :param actions: Of the policy whose value is the target
        :return: Q'(s'), the smallest of the critics that count, a column
        """
        return smallest(self.critic_target(observations, actions, self.pick_critics()))

    def mean_q(self, observations: PyTorchObs, actions: th.Tensor) -> th.Tensor:
        """:return: Mean of Q(s, a) over all critics, a column (RLPD, Ball et al. 2023, arXiv 2302.02948, section 4.3)"""
        return th.cat(self.critic(observations, actions), dim=1).mean(dim=1, keepdim=True)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        names = ("layer_norm", "average_actor", "precision", "image_shift", "image_head", "initial_q", "last_layer_bound")
        own = {name: getattr(self, name) for name in names}
        return {**super()._get_constructor_parameters(), **own}
