"""Policies of TD3fD: those of DDPGfD with other defaults, random subsets of the critics, and a clone that proposes actions."""

from typing import Any

import torch as th
from gymnasium import spaces
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from stable_baselines3.td3.policies import Actor

from sb3_pgfd.common.images import ForDicts, ForImages
from sb3_pgfd.common.losses import clone_weight, smallest, smallest_shares
from sb3_pgfd.ddpgfd import policies as ddpgfd
from sb3_pgfd.utils.checks import is_number


class TD3fDPolicy(ddpgfd.DDPGfDPolicy):
    """
    Actor and critics of TD3fD: see :class:`~sb3_pgfd.ddpgfd.policies.DDPGfDPolicy`.

    :param observation_space: Observation space
    :param action_space: Action space
    :param lr_schedule: Learning rate schedule
    :param n_target_critics: How many critics, drawn anew for each update, the smallest target is taken of; the actor then
        follows the mean of all critics (RLPD, Ball et al. 2023, arXiv 2302.02948, sections 4.2 and 4.3). None: the smallest
        of all, and the actor follows the first (TD3)
    :param proposals: Given by the algorithm: whether there is a clone, which proposes actions beside the actor (IBRL, Hu et
        al. 2023, arXiv 2311.02198), and how one is chosen: "hard" (the same as True) or "soft"
    :param proposal_temperature: T of the soft choice, in units of Q
    :param clone_dropout: Like ``actor_dropout``, of the clone
    :param clone_weight_decay: L2 regularisation of the clone
    :param kwargs: See ``DDPGfDPolicy``. By default there are five critics with LayerNorm (RLPD, section 4.2), two
        hidden layers of 128 units, and a running mean of the actors
    """

    clone: Actor
    clone_is_trained: th.Tensor
    """Whether the clone proposes actions, one bool"""
    critics_are_trained: th.Tensor
    """Whether the critics can choose between the actor and the clone, one bool; until then the clone acts alone"""
    _smallest_shares: th.Tensor

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Box,
        lr_schedule: Schedule,
        n_target_critics: int | None = 2,
        proposals: bool | str = False,
        proposal_temperature: float = 0.1,
        clone_dropout: float = 0.0,
        clone_weight_decay: float = 0.0,
        **kwargs: Any,
    ):
        defaults: dict[str, Any] = {"net_arch": [128, 128], "n_critics": 5, "layer_norm": True, "average_actor": 0.002}
        if not is_number(proposal_temperature, 0.0) or proposal_temperature == 0.0:
            raise ValueError(f"proposal_temperature: found {proposal_temperature!r}, expected a number > 0")
        if not is_number(clone_dropout, 0.0) or clone_dropout >= 1.0:
            raise ValueError(f"clone_dropout: found {clone_dropout!r}, expected a number >= 0 and < 1")
        if not is_number(clone_weight_decay, 0.0):
            raise ValueError(f"clone_weight_decay: found {clone_weight_decay!r}, expected a number >= 0")
        self.n_target_critics = n_target_critics
        self.proposals = proposals
        self.proposal_temperature = proposal_temperature
        self.clone_dropout = clone_dropout
        self.clone_weight_decay = clone_weight_decay
        super().__init__(observation_space, action_space, lr_schedule, **{**defaults, **kwargs})

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        if not self.proposals:
            return
        # Last, so that all other networks are the same as without
        self.clone = self.make_actor(dropout=self.clone_dropout)
        parameters = self.clone.parameters()
        self.clone.optimizer = self._make_optimizer(parameters, lr_schedule, weight_decay=self.clone_weight_decay)
        self.clone.set_training_mode(False)
        self.register_buffer("clone_is_trained", th.tensor(False))
        self.register_buffer("critics_are_trained", th.tensor(False))
        n_critics = len(self.critic.q_networks)
        shares = smallest_shares(n_critics, self.n_target_critics or n_critics)
        self.register_buffer("_smallest_shares", th.tensor(shares)[:, None], persistent=False)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        names = ("n_target_critics", "proposals", "proposal_temperature", "clone_dropout", "clone_weight_decay")
        return {**super()._get_constructor_parameters(), **{name: getattr(self, name) for name in names}}

    def followed_q(self, observations: PyTorchObs, actions: th.Tensor) -> th.Tensor:
        """:return: Q(s, a) that the actor follows, a column"""
        if self.n_target_critics is None:
            return self.critic.q1_forward(observations, actions)  # type: ignore[arg-type]  # Dict too
        return self.mean_q(observations, actions)

    def target_q(self, observations: PyTorchObs, actions: th.Tensor) -> th.Tensor:
        """
        :param observations: s', rows as many as actions
        :param actions: Of the target policy
        :return: Q'(s'), a column: with proposals the larger one of the policy's action and the clone's, in a soft choice the
            mean over the choice
        """
        picked = self.pick_critics()
        q = smallest(self.critic_target(observations, actions, picked))
        if not self.proposals:
            return q
        q_clone = smallest(self.critic_target(observations, self.clone(observations), picked))
        return q.lerp(q_clone, self._clone_weight(q, q_clone, greedy=self.proposals != "soft"))

    def propose(self, observations: PyTorchObs, actions: th.Tensor, greedy: bool) -> tuple[th.Tensor, th.Tensor]:
        """
        :param observations: s
        :param actions: Of the actor, shape ``(B, action_dim)``
        :param greedy: Whether a soft choice is a hard one
        :return: The clone's actions, and the probability with which each is taken in place of the actor's, a column
        """
        cloned = self.clone(observations)
        # In the mean over the random subsets of the critics
        q, q_clone = (
            th.cat(self.critic_target(observations, one), dim=1).sort(dim=1).values @ self._smallest_shares
            for one in (actions, cloned)
        )
        weight = self._clone_weight(q, q_clone, greedy or self.proposals != "soft")
        return cloned, th.where(self.critics_are_trained, weight, self.clone_is_trained.to(weight.dtype))

    def _clone_weight(self, q: th.Tensor, q_clone: th.Tensor, greedy: bool) -> th.Tensor:
        return clone_weight(q, q_clone, None if greedy else self.proposal_temperature) * self.clone_is_trained

    def _predict(self, observation: PyTorchObs, deterministic: bool = False) -> th.Tensor:
        actions = super()._predict(observation, deterministic)
        if not (self.proposals and deterministic):
            return actions
        cloned, weight = self.propose(observation, actions, greedy=True)
        return th.where(weight > 0.5, cloned, actions)


class TD3fDCnnPolicy(ForImages, TD3fDPolicy):
    """Policy for images: see :class:`TD3fDPolicy`, by default with an :class:`~sb3_pgfd.common.images.ImageEncoder`."""


class TD3fDMultiInputPolicy(ForDicts, TD3fDPolicy):
    """Policy for Dict observations: see :class:`TD3fDPolicy` and :class:`~sb3_pgfd.ddpgfd.policies.DDPGfDMultiInputPolicy`."""


MlpPolicy = TD3fDPolicy
CnnPolicy = TD3fDCnnPolicy
MultiInputPolicy = TD3fDMultiInputPolicy
