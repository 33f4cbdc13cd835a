"""
The settings of every method: constructor arguments, the same for all tasks.

``noise_std`` is Gaussian action noise, ``n_envs`` and ``normalize`` (arguments of ``VecNormalize``) are of the environment,
schedules are spelled as in the RL Zoo (``lin_1e-3``). gamma and the return range are the task's,
and so is whether ``her_ratio`` counts.
"""

from typing import Any

from stable_baselines3 import HerReplayBuffer
from suite_policies import LayerNormSACPolicy

from sb3_pgfd.replay import DemoReplayBuffer

Settings = dict[str, Any]

NET_ARCH = [128, 128]
BATCH_SIZE = 128
# More than a run has steps: nothing is overwritten
BUFFER_SIZE = 100_000
# As the demonstrations have
NOISE_STD = 0.1

DDPGFD: Settings = {
    "noise_std": NOISE_STD,
    "buffer_size": BUFFER_SIZE,
    "learning_rate": "lin_1e-3",
    "batch_size": BATCH_SIZE,
    "tau": 0.01,
    "gradient_steps": 2,
    "policy_delay": 2,
    "target_policy_noise": 0.2,
    "pretrain_steps": 20_000,
    "pretrain_clone_only": True,
    "critic_warmup_steps": 2000,
    "n_steps": 10,
    "demo_fraction": 0.5,
    "keep_successes": True,
    "her_ratio": 0.6,
    "bc_coef": 1.5,
    "normalize_actor_loss": True,
    "policy_kwargs": {"net_arch": NET_ARCH, "n_critics": 2, "layer_norm": True, "average_actor": 0.002},
}
"""The best that was found"""

DDPGFD_PAPER: Settings = {
    "noise_std": NOISE_STD,
    "buffer_size": BUFFER_SIZE,
    "batch_size": BATCH_SIZE,
    "gradient_steps": 2,
    "pretrain_steps": 4000,
    "n_steps": 10,
    "relative_priorities": True,
    "demo_bonus": 10.0,
    "policy_kwargs": {"net_arch": NET_ARCH},
}
"""Priorities, one critic and no cloning, as in the paper; otherwise the constructor's defaults"""

DDPGFD_CONSTANT: Settings = {**DDPGFD_PAPER, "relative_priorities": False, "demo_bonus": 1.0}
"""The paper's constant bonus"""

# Differences are largest while it learns, and half of a run is half the time
ABLATION_STEPS = 15_000
# What is changed in DDPGFD, for the ablation
ABLATIONS: dict[str, Settings] = {
    "uniform": {"demo_fraction": None, "priority_exponent": 0.0},
    "priorities": {"demo_fraction": None, "relative_priorities": True, "demo_bonus": 10.0},
    "no_n_step": {"n_steps": 1},
    "no_pretraining": {"pretrain_steps": 0},
    "no_warmup": {"critic_warmup_steps": 0},
    "no_l2": {"l2_coef": 0.0},
    "no_bc": {"bc_coef": 0.0, "pretrain_clone_only": False, "critic_warmup_steps": 0},
    "q_filter": {"q_filter": True},
    "no_layer_norm": {"policy_kwargs.layer_norm": False},
    "one_critic": {"policy_kwargs.n_critics": 1},
    "no_successes": {"keep_successes": False},
    "no_averaging": {"policy_kwargs.average_actor": None},
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
    "policy_kwargs": {"net_arch": NET_ARCH},
}

SAC: Settings = {
    "buffer_size": BUFFER_SIZE,
    "batch_size": BATCH_SIZE,
    "policy_kwargs": {"net_arch": NET_ARCH},
}

SAC_HER: Settings = {
    **SAC,
    # It relabels episodes that are over; the longest are those of the maze
    "learning_starts": 1_000,
    "replay_buffer_class": HerReplayBuffer,
    "replay_buffer_kwargs": {"n_sampled_goal": 4, "goal_selection_strategy": "future"},
}

SAC_DEMOS: Settings = {
    **SAC,
    "policy": LayerNormSACPolicy,
    "learning_rate": 1e-3,
    "tau": 0.01,
    "gradient_steps": 2,
    "replay_buffer_class": DemoReplayBuffer,
    "replay_buffer_kwargs": {"demo_fraction": 0.5, "n_steps": DDPGFD["n_steps"]},
}
"""RLPD's sampling (Ball et al. 2023, arXiv 2302.02948): half of each batch are demonstrations, critics with LayerNorm"""

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
"""The ``default`` entry of hyperparams/a2cfd.yml"""
