"""The parameters of A2CfD's actor and critic, which its optimiser holds in two groups."""

import torch as th
from stable_baselines3.common.policies import ActorCriticPolicy


def group(policy: ActorCriticPolicy, name: str) -> list[th.nn.Parameter]:
    """:param name: "actor" or "critic" """
    (parameters,) = (group["params"] for group in policy.optimizer.param_groups if group["name"] == name)
    return parameters


def learning_rate(policy: ActorCriticPolicy, name: str) -> float:
    """:param name: "actor" or "critic" """
    (rate,) = (group["lr"] for group in policy.optimizer.param_groups if group["name"] == name)
    return rate


def copies(policy: ActorCriticPolicy, name: str) -> list[th.Tensor]:
    """:return: The parameters as they are now"""
    return [parameter.detach().clone() for parameter in group(policy, name)]
