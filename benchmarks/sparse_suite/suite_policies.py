"""SB3's SAC with LayerNorm in its critics, which its ``policy_kwargs`` cannot ask for."""

from typing import Any

from stable_baselines3.common.policies import ContinuousCritic
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.sac.policies import SACPolicy
from torch import nn


class LayerNormSACPolicy(SACPolicy):
    """SAC's policy whose critics normalise their hidden layers (RLPD, Ball et al. 2023, arXiv 2302.02948, section 4.2)."""

    def make_critic(self, features_extractor: BaseFeaturesExtractor | None = None) -> ContinuousCritic:
        """:param features_extractor: That the critic shares"""
        critic = super().make_critic(features_extractor)
        for q_network in critic.q_networks:
            layers: Any = q_network
            hidden = [number for number, layer in enumerate(layers) if isinstance(layer, nn.Linear)][:-1]
            for number in reversed(hidden):
                layers.insert(number + 1, nn.LayerNorm(layers[number].out_features))
        return critic
