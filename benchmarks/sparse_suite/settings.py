"""
The settings of every method: constructor arguments, the same for all tasks, but for methods that the RL Zoo has tuned for one.

``noise_std`` is the standard deviation of Gaussian action noise. ``task_features: False`` leaves out the task's features.
``n_envs``, ``normalize`` (arguments of ``VecNormalize``) and ``start_in_demonstrations`` belong to the environment. All
methods make two updates per environment step, as TD3fD does by default, but for SACfD (one), RLPD (five) and what the Zoo's
settings say. Schedules are spelled as in the RL Zoo (``lin_1e-3``). gamma and the return range come from the task, which
also says whether hindsight is used.
"""

from pathlib import Path
from typing import Any

import rl_zoo3
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.policies import ContinuousCritic
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.sac.policies import SACPolicy
from torch import nn

from benchmarks.learning import PLAIN, TWIN_CRITICS, options_of
from sb3_pgfd.replay import DemoReplayBuffer

ZOO = Path(rl_zoo3.__file__).parent / "hyperparams"
Settings = dict[str, Any]

NET_ARCH = [128, 128]
BATCH_SIZE = 128
# Larger than the number of steps of a run: nothing is overwritten
BUFFER_SIZE = 100_000
# The demonstrations have the same
NOISE_STD = 0.1


class LayerNormSACPolicy(SACPolicy):
    """SB3's SAC policy with LayerNorm in the hidden layers of its critics (RLPD, arXiv 2302.02948, section 4.2)."""

    def make_critic(self, features_extractor: BaseFeaturesExtractor | None = None) -> ContinuousCritic:
        """:param features_extractor: Features extractor that the critic shares"""
        critic = super().make_critic(features_extractor)
        for q_network in critic.q_networks:
            layers: Any = q_network
            hidden = [number for number, layer in enumerate(layers) if isinstance(layer, nn.Linear)][:-1]
            for number in reversed(hidden):
                layers.insert(number + 1, nn.LayerNorm(layers[number].out_features))
        return critic


# As TD3fD has it by default, for the tasks that have goals
HINDSIGHT: Settings = {"her_ratio": 0.8, "her_skip_reached": True, "her_random_share": 0.5}

TD3FD: Settings = {"buffer_size": BUFFER_SIZE, "replay_buffer_kwargs": {"her_ratio": 0.8}}
"""The constructor's defaults, which were chosen on these tasks"""

SACFD: Settings = {"buffer_size": BUFFER_SIZE, "replay_buffer_kwargs": {"her_ratio": 0.8, "her_random_share": 0.5}}
"""The constructor's defaults"""

SACFD_AS_SAC: Settings = {
    "buffer_size": BUFFER_SIZE,
    "learning_rate": 1e-3,
    "gradient_steps": 2,
    "policy_delay": 1,
    "pretrain_steps": 0,
    "critic_warmup_steps": 0,
    "bc_coef": 0.0,
    "l2_coef": 0.0,
    "normalize_actor_loss": False,
    "q_range": None,
    "ent_coef": "auto_0.01",
    "entropy_backup": True,
    "replay_buffer_kwargs": {**HINDSIGHT, "keep_successes": False},
    "policy_kwargs": {
        "n_critics": 2,
        "n_target_critics": None,
        "average_actor": None,
        "log_std_init": 0.0,
        "last_layer_bound": None,
    },
}
"""SAC with half of each batch demonstrations, and 1-step and n-step returns: for a single demonstration"""

DDPGFD_PAPER: Settings = {
    "noise_std": NOISE_STD,
    "buffer_size": BUFFER_SIZE,
    "batch_size": BATCH_SIZE,
    "gradient_steps": 2,
    "pretrain_steps": 4000,
    "n_steps": 10,
    "q_range": None,
    "replay_buffer_kwargs": {"relative_priorities": False, "demo_bonus": 1.0},
    "policy_kwargs": {"net_arch": NET_ARCH},
}
"""As in the paper: priorities with a constant bonus, one critic, no cloning; otherwise the constructor's defaults"""

DDPGFD_RELATIVE: Settings = {
    **{name: value for name, value in DDPGFD_PAPER.items() if name != "q_range"},
    "replay_buffer_kwargs": {"relative_priorities": True, "demo_bonus": 10.0},
}
"""With what the paper does not have: a bonus in units of the priorities, and targets clipped to the task's return range"""

_TWIN_CRITICS: Settings = {f"policy_kwargs.{name}": value for name, value in TWIN_CRITICS.items()}
# Differences are largest while the agent learns, and half of a run takes half the time
ABLATION_STEPS = 10_000
# The changes to TD3FD in the ablation
ABLATIONS: dict[str, Settings] = {
    "uniform": {"replay_buffer_kwargs.demo_fraction": None, "replay_buffer_kwargs.priority_exponent": 0.0},
    "priorities": {
        "replay_buffer_kwargs.demo_fraction": None,
        "replay_buffer_kwargs.relative_priorities": True,
        "replay_buffer_kwargs.demo_bonus": 10.0,
    },
    "no_n_step": {"n_steps": 1},
    "no_pretraining": {"pretrain_steps": 0},
    "no_warmup": {"critic_warmup_steps": 0},
    "no_l2": {"l2_coef": 0.0},
    # The clone goes on proposing. Pretraining trains it and nothing else, and the actor follows Q from the first update on
    "no_bc": {"bc_coef": 0.0, "critic_warmup_steps": 0},
    "no_q_filter": {"q_filter": False},
    "no_proposals": {"proposals": False},
    "two_critics": _TWIN_CRITICS,
    "with_noise": {"replay_buffer_kwargs.denoise_successes": False},
    "no_layer_norm": {"policy_kwargs.layer_norm": False},
    "no_successes": {"replay_buffer_kwargs.keep_successes": False},
    "no_averaging": {"policy_kwargs.average_actor": None},
}

# Other choices than TD3FD's
VARIANTS: dict[str, Settings] = {
    # What TD3fD was before it had an ensemble and proposals
    "plain": {
        **PLAIN,
        "replay_buffer_kwargs.denoise_successes": False,
        "replay_buffer_kwargs.her_ratio": 0.6,
        "replay_buffer_kwargs.her_skip_reached": False,
        "replay_buffer_kwargs.her_random_share": 0.0,
        **_TWIN_CRITICS,
    },
    "soft": {"proposals": "soft"},
    # It needs a simulator. The curriculum of an interrupted run begins anew
    "starts": {"start_in_demonstrations": True},
    # After IBRL (arXiv 2311.02198): no cloning in learning, and dropout in the actor
    "ibrl": {
        "proposals": "soft",
        "bc_coef": 0.0,
        "q_filter": False,
        "critic_warmup_steps": 0,
        "n_steps": 3,
        "policy_kwargs.actor_dropout": 0.5,
        "replay_buffer_kwargs.denoise_successes": False,
    },
}

BEHAVIOR_CLONING: Settings = {
    "n_updates": 10_000,
    "learning_rate": "lin_3e-3",
    "batch_size": BATCH_SIZE,
    "policy_kwargs": {"net_arch": NET_ARCH},
}

TD3: Settings = {
    "noise_std": NOISE_STD,
    "buffer_size": BUFFER_SIZE,
    "batch_size": BATCH_SIZE,
    "gradient_steps": 2,
    "policy_kwargs": {"net_arch": NET_ARCH},
}

TD3_TUNED = {"mountain-car": options_of(ZOO / "td3.yml", "MountainCarContinuous-v0")}
SAC_TUNED = {"mountain-car": options_of(ZOO / "sac.yml", "MountainCarContinuous-v0")}
"""The RL Zoo's settings, by the name of the task"""

SAC: Settings = {
    "buffer_size": BUFFER_SIZE,
    "batch_size": BATCH_SIZE,
    "gradient_steps": 2,
    "policy_kwargs": {"net_arch": NET_ARCH},
}

SAC_HER: Settings = {
    **SAC,
    # HER relabels finished episodes only; the longest are those of the maze
    "learning_starts": 1_000,
    "replay_buffer_class": HerReplayBuffer,
    "replay_buffer_kwargs": {"n_sampled_goal": 4, "goal_selection_strategy": "future"},
}

SAC_DEMOS: Settings = {
    **SAC,
    "policy": LayerNormSACPolicy,
    "learning_rate": 1e-3,
    "tau": 0.01,
    # From 1 on it takes thousands of updates to fall (sac_entropy.py)
    "ent_coef": "auto_0.01",
    "replay_buffer_class": DemoReplayBuffer,
    "replay_buffer_kwargs": {"demo_fraction": 0.5, "n_steps": 10, **HINDSIGHT},
}
"""RLPD's sampling (arXiv 2302.02948): half of each batch comes from the demonstrations, critics have LayerNorm"""

RLPD: Settings = {
    "learning_rate": 3e-4,
    "buffer_size": BUFFER_SIZE,
    "batch_size": BATCH_SIZE,
    "learning_starts": 1_000,
    "tau": 0.005,
    "gradient_steps": 5,
    "policy_delay": 5,
    "pretrain_steps": 0,
    "critic_warmup_steps": 0,
    "n_steps": 1,
    "l2_coef": 0.0,
    "bc_coef": 0.0,
    "normalize_actor_loss": False,
    "ent_coef": "auto",
    "q_range": None,
    "replay_buffer_kwargs": {**HINDSIGHT, "keep_successes": False},
    "policy_kwargs": {"net_arch": NET_ARCH, "n_critics": 10, "average_actor": None, "log_std_init": 0.0},
}
"""RLPD (arXiv 2302.02948) by SACfD: ten critics, five of their updates and one of the actor per step, no entropy in targets"""

A2CFD: Settings = {
    "n_envs": 4,
    "normalize": {"norm_obs": False, "norm_reward": True},
    "learning_rate": "lin_3e-3",
    "actor_learning_rate": "lin_1e-4",
    "n_steps": 16,
    "gae_lambda": 0.95,
    "use_rms_prop": True,
    "pretrain_steps": 4000,
    "demo_batch_size": BATCH_SIZE,
    "critic_warmup_steps": 5000,
    "policy_kwargs": {"net_arch": NET_ARCH, "log_std_min": -2.0, "log_std_max": 0.5},
}
"""The ``default`` entry of hyperparams/a2cfd.yml, with smaller batches of demonstrations"""
