"""A model with linear networks and two demonstrated transitions, whose updates can be followed by hand."""

from typing import Any

import numpy as np
import torch as th

from sb3_pgfd import DDPGfD, Demonstrations
from sb3_pgfd.common.off_policy_algorithm import OffPolicyFromDemonstrations
from sb3_pgfd.demonstrations import Episode

GAMMA = 0.5
# Actions have bounds of 2: scaled they are 0.5 and -1
STATES, ACTIONS, REWARDS = [[0.5], [-0.5], [0.25]], [[1.0], [-2.0]], [1.0, 2.0]
LINEAR: dict[str, Any] = dict(learning_rate=1e-12, l2_coef=0.0, pretrain_steps=0, batch_size=2, gamma=GAMMA, n_steps=2)
LINEAR |= dict(n_step_coef=0.5)
"""Options of the model. Its parameters hardly move"""


def two_transitions(terminated: bool) -> Demonstrations:
    states, actions = np.array(STATES, dtype=np.float32), np.array(ACTIONS, dtype=np.float32)
    return Demonstrations.from_episodes([Episode(states, actions, np.array(REWARDS), terminated)])


def set_weights(network: th.nn.Module, weights: list[float], bias: float = 0.0) -> None:
    """:param network: Of one linear layer and one output"""
    linear = next(layer for layer in network.children() if isinstance(layer, th.nn.Linear))
    with th.no_grad():
        linear.weight.copy_(th.tensor([weights]))
        linear.bias.fill_(bias)


def set_networks(model: DDPGfD) -> None:
    """Q(s, a) = 2 s + 3 a + 1, Q'(s, a) = s + a and pi(s) = pi'(s) = 0, for all critics."""
    for critic, critic_target in zip(model.critic.q_networks, model.critic_target.q_networks, strict=True):
        set_weights(critic, [2.0, 3.0], 1.0)
        set_weights(critic_target, [1.0, 1.0])
    set_weights(model.actor.mu, [0.0])
    set_weights(model.actor_target.mu, [0.0])


def seed_that_draws_both_rows(model: DDPGfD) -> None:
    """Seed NumPy so that the next batch of two holds both transitions."""
    for seed in range(100):
        np.random.seed(seed)
        if len(set(model.buffer.sample_batch(2).indices)) == 2:
            np.random.seed(seed)
            return
    raise AssertionError("no seed draws both rows")


def update(model: OffPolicyFromDemonstrations, recorder: Any) -> dict[str, Any]:
    """:return: What is logged of one update"""
    model.train(1, model.batch_size)
    model.dump_logs()
    return recorder.rows[-1]
