"""What the RL Zoo's ``-optimize`` searches for this package's algorithms."""

from typing import Any

import numpy as np
import optuna
from stable_baselines3.common.noise import NormalActionNoise

NET_ARCHS = {"small": [64, 64], "medium": [256, 256], "big": [400, 300]}


def sample_ddpgfd_params(trial: optuna.Trial, n_actions: int, n_envs: int, additional_args: dict[str, Any]) -> dict[str, Any]:
    """
    Sampler for DDPGfD hyperparameters.

    :param trial: Optuna's trial
    :param n_actions: Dimension of the actions
    :param n_envs: Number of parallel environments
    :param additional_args: Given by the RL Zoo for HER, not used
    :return: Arguments of the constructor
    """
    sampled: dict[str, Any] = {
        "one_minus_gamma": trial.suggest_float("one_minus_gamma", 0.001, 0.05, log=True),
        "learning_rate": trial.suggest_float("learning_rate", 1e-4, 3e-3, log=True),
        "batch_size_pow": trial.suggest_int("batch_size_pow", 6, 9),
        "tau": trial.suggest_float("tau", 0.002, 0.05, log=True),
        "gradient_steps": trial.suggest_categorical("gradient_steps", [1, 2, 4]),
        "pretrain_steps": trial.suggest_categorical("pretrain_steps", [0, 500, 1000, 2000, 5000]),
        "n_steps": trial.suggest_int("n_steps", 1, 10),
        "n_step_coef": trial.suggest_float("n_step_coef", 0.1, 2.0, log=True),
        "bc_coef": trial.suggest_categorical("bc_coef", [0.0, 0.5, 1.0, 2.0]),
        "n_critics": trial.suggest_categorical("n_critics", [1, 2]),
        "layer_norm": trial.suggest_categorical("layer_norm", [False, True]),
        "net_arch": trial.suggest_categorical("net_arch", list(NET_ARCHS)),
        "sampling": trial.suggest_categorical("sampling", ["priorities", "share"]),
        "noise_std": trial.suggest_float("noise_std", 0.0, 0.5),
    }
    # Each way of sampling has options of its own
    if sampled["sampling"] == "priorities":
        sampled["priority_exponent"] = trial.suggest_float("priority_exponent", 0.0, 1.0)
        sampled["demo_bonus"] = trial.suggest_float("demo_bonus", 1e-3, 10.0, log=True)
    else:
        sampled["demo_fraction"] = trial.suggest_float("demo_fraction", 0.1, 0.75)
    hyperparams = convert_ddpgfd_params(sampled)
    sigma = sampled["noise_std"] * np.ones(n_actions)
    return {**hyperparams, "action_noise": NormalActionNoise(mean=np.zeros(n_actions), sigma=sigma)}


def convert_ddpgfd_params(sampled_params: dict[str, Any]) -> dict[str, Any]:
    """
    :param sampled_params: A trial's parameters, as Optuna stores them
    :return: Arguments of the constructor, but for the exploration noise: it needs the number of actions
    """
    hyperparams = dict(sampled_params)
    hyperparams["gamma"] = 1.0 - hyperparams.pop("one_minus_gamma")
    hyperparams["batch_size"] = 2 ** hyperparams.pop("batch_size_pow")
    hyperparams["policy_kwargs"] = {
        "net_arch": NET_ARCHS[hyperparams.pop("net_arch")],
        "n_critics": hyperparams.pop("n_critics"),
        "layer_norm": hyperparams.pop("layer_norm"),
    }
    # Cloning is weighed against a policy gradient of known size, and only what Q prefers is cloned
    hyperparams["q_filter"] = hyperparams["normalize_actor_loss"] = hyperparams["bc_coef"] > 0.0
    for name in ("sampling", "noise_std"):
        del hyperparams[name]
    return hyperparams


def sample_a2cfd_params(trial: optuna.Trial, n_actions: int, n_envs: int, additional_args: dict[str, Any]) -> dict[str, Any]:
    """
    Sampler for A2CfD hyperparameters.

    :param trial: Optuna's trial
    :param n_actions: Dimension of the actions
    :param n_envs: Number of parallel environments
    :param additional_args: Given by the RL Zoo for HER, not used
    :return: Arguments of the constructor
    """
    sampled: dict[str, Any] = {
        "one_minus_gamma": trial.suggest_float("one_minus_gamma", 0.001, 0.1, log=True),
        "one_minus_gae_lambda": trial.suggest_float("one_minus_gae_lambda", 0.001, 0.2, log=True),
        "learning_rate": trial.suggest_float("learning_rate", 1e-4, 5e-3, log=True),
        "actor_learning_rate": trial.suggest_float("actor_learning_rate", 1e-5, 1e-3, log=True),
        "n_steps_pow": trial.suggest_int("n_steps_pow", 2, 8),
        "max_grad_norm": trial.suggest_float("max_grad_norm", 0.3, 5.0, log=True),
        "ent_coef": trial.suggest_float("ent_coef", 1e-8, 0.1, log=True),
        "normalize_advantage": trial.suggest_categorical("normalize_advantage", [False, True]),
        "use_rms_prop": trial.suggest_categorical("use_rms_prop", [False, True]),
        "pretrain_steps": trial.suggest_categorical("pretrain_steps", [0, 500, 1000, 2000, 5000]),
        "critic_warmup_steps": trial.suggest_categorical("critic_warmup_steps", [0, 2000, 5000, 10000]),
        "bc_coef": trial.suggest_float("bc_coef", 0.01, 2.0, log=True),
        "bc_half_life": trial.suggest_float("bc_half_life", 100.0, 100_000.0, log=True),
        "net_arch": trial.suggest_categorical("net_arch", ["tiny", *NET_ARCHS]),
    }
    return convert_a2cfd_params(sampled)


def convert_a2cfd_params(sampled_params: dict[str, Any]) -> dict[str, Any]:
    """
    :param sampled_params: A trial's parameters, as Optuna stores them
    :return: Arguments of the constructor
    """
    hyperparams = dict(sampled_params)
    hyperparams["gamma"] = 1.0 - hyperparams.pop("one_minus_gamma")
    hyperparams["gae_lambda"] = 1.0 - hyperparams.pop("one_minus_gae_lambda")
    hyperparams["n_steps"] = 2 ** hyperparams.pop("n_steps_pow")
    # lambda_1^k halves the demonstration term after so many updates of the actor
    hyperparams["bc_decay"] = 0.5 ** (1.0 / hyperparams.pop("bc_half_life"))
    hyperparams["policy_kwargs"] = {"net_arch": {"tiny": [128], **NET_ARCHS}[hyperparams.pop("net_arch")]}
    return hyperparams


SAMPLERS = {"ddpgfd": sample_ddpgfd_params, "a2cfd": sample_a2cfd_params}
CONVERTERS = {"ddpgfd": convert_ddpgfd_params, "a2cfd": convert_a2cfd_params}
