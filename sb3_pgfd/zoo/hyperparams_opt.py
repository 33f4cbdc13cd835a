"""
What the RL Zoo's ``-optimize`` searches for this package's algorithms.

A trial stores its parameters under the names below. The converters make of them what an entry of the yaml holds, so that
``--trial-id`` trains with what the trial had. Our manager tells the samplers two things in ``additional_args`` that the
Zoo's does not: ``given``, the hyperparameters of ``-params``, which are not searched, and ``has_demonstrations``. Without
them everything is searched; no option fails without demonstrations.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from stable_baselines3.common.noise import NormalActionNoise

Space = Mapping[str, BaseDistribution]
_SWITCH = CategoricalDistribution([False, True])


def _log(low: float, high: float) -> FloatDistribution:
    return FloatDistribution(low, high, log=True)


DDPGFD: Space = {
    "one_minus_gamma": _log(0.001, 0.05),
    "learning_rate": _log(1e-4, 3e-3),
    "actor_learning_rate": _log(3e-5, 3e-3),
    "batch_size_pow": IntDistribution(6, 9),
    "tau": _log(0.002, 0.05),
    "gradient_steps": CategoricalDistribution([1, 2, 4]),
    "policy_delay": CategoricalDistribution([1, 2]),
    "n_steps": IntDistribution(1, 10),
    "l2_coef": _log(1e-6, 1e-3),
    "noise_std": FloatDistribution(0.0, 0.5),
    "net_arch": CategoricalDistribution(["64-64", "128-128", "256-256", "400-300"]),
    "n_critics": CategoricalDistribution([1, 2]),
    "layer_norm": _SWITCH,
    "average_actor": CategoricalDistribution([None, 0.01, 0.002]),
    "keep_successes": _SWITCH,
}
DDPGFD_N_STEP: Space = {"n_step_coef": _log(0.1, 2.0)}
DDPGFD_DEMONSTRATIONS: Space = {
    "pretrain_steps": CategoricalDistribution([0, 500, 1000, 2000, 5000]),
    "bc_coef": CategoricalDistribution([0.0, 0.5, 1.0, 2.0, 5.0, 10.0]),
    "sampling": CategoricalDistribution(["priorities", "share"]),
}
DDPGFD_CLONING: Space = {
    "q_filter": _SWITCH,
    "normalize_actor_loss": _SWITCH,
    "critic_warmup_steps": CategoricalDistribution([0, 1000, 2000, 5000]),
}
DDPGFD_CLONING_FIRST: Space = {"pretrain_clone_only": _SWITCH}
DDPGFD_SHARE: Space = {"demo_fraction": FloatDistribution(0.1, 0.75)}
DDPGFD_PRIORITIES: Space = {
    "priority_exponent": FloatDistribution(0.0, 1.0),
    "importance_exponent": FloatDistribution(0.0, 1.0),
    "action_gradient_coef": _log(0.01, 10.0),
}
DDPGFD_BONUS: Space = {"demo_bonus": _log(1e-3, 10.0), "relative_priorities": _SWITCH}

A2CFD: Space = {
    "one_minus_gamma": _log(0.001, 0.1),
    "one_minus_gae_lambda": _log(0.001, 0.2),
    "learning_rate": _log(1e-4, 5e-3),
    "actor_learning_rate": _log(1e-5, 1e-3),
    "n_steps_pow": IntDistribution(2, 8),
    "max_grad_norm": _log(0.3, 5.0),
    "ent_coef": _log(1e-8, 0.1),
    "normalize_advantage": _SWITCH,
    "use_rms_prop": _SWITCH,
    "net_arch": CategoricalDistribution(["128", "64-64", "128-128", "256-256", "400-300"]),
}
# For actions that are numbers
A2CFD_GAUSSIAN: Space = {"log_std_min": FloatDistribution(-4.0, -1.0), "log_std_max": FloatDistribution(-0.5, 1.0)}
A2CFD_DEMONSTRATIONS: Space = {
    "pretrain_steps": CategoricalDistribution([0, 500, 1000, 2000, 5000]),
    "critic_warmup_steps": CategoricalDistribution([0, 1000, 2000, 5000, 10000]),
    "bc_coef": _log(0.01, 2.0),
    "bc_half_life": _log(100.0, 100_000.0),
    "demo_batch_size": CategoricalDistribution([64, 128, 256]),
}
A2CFD_PRETRAINING: Space = {"pretrain_learning_rate": _log(1e-4, 3e-3)}

# The argument that a parameter decides, where it has another name, and how
_CONVERSIONS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "one_minus_gamma": ("gamma", lambda value: 1.0 - value),
    "one_minus_gae_lambda": ("gae_lambda", lambda value: 1.0 - value),
    "batch_size_pow": ("batch_size", lambda power: 2**power),
    "n_steps_pow": ("n_steps", lambda power: 2**power),
    # lambda_1^k halves the demonstration term after so many updates of the actor
    "bc_half_life": ("bc_decay", lambda updates: 0.5 ** (1.0 / updates)),
}
_POLICY_KWARGS: dict[str, Callable[[Any], Any]] = {
    "net_arch": lambda widths: [int(width) for width in widths.split("-")],
    **dict.fromkeys(("n_critics", "layer_norm", "average_actor", "log_std_min", "log_std_max"), lambda value: value),
}


def decided_argument(name: str) -> str:
    """
    :param name: Name of a trial's parameter
    :return: Name of the constructor's argument that it decides
    """
    if name == "sampling":
        return "demo_fraction"
    return "policy_kwargs" if name in _POLICY_KWARGS else _CONVERSIONS.get(name, (name,))[0]


class _Suggestions:
    """What a trial suggests for the arguments that are not given."""

    def __init__(self, trial: optuna.Trial, given: Mapping[str, Any]):
        self._trial = trial
        self._given = given
        self.sampled: dict[str, Any] = {}

    def add(self, space: Space) -> None:
        """:param space: Distributions by name; what is given is left out"""
        for name, distribution in space.items():
            argument = decided_argument(name)
            if argument in self._given:
                continue
            self.sampled[name] = _suggest(self._trial, name, distribution)
            if name in _CONVERSIONS:
                # Where people look, the report and the dashboard
                self._trial.set_user_attr(argument, _CONVERSIONS[name][1](self.sampled[name]))

    def value(self, name: str) -> Any:
        """:return: What was sampled or given, None if neither was"""
        return self.sampled.get(name, self._given.get(name))


def _suggest(trial: optuna.Trial, name: str, distribution: BaseDistribution) -> Any:
    if isinstance(distribution, FloatDistribution):
        return trial.suggest_float(name, distribution.low, distribution.high, log=distribution.log)
    if isinstance(distribution, IntDistribution):
        return trial.suggest_int(name, distribution.low, distribution.high)
    assert isinstance(distribution, CategoricalDistribution)
    return trial.suggest_categorical(name, distribution.choices)


def sample_ddpgfd_params(trial: optuna.Trial, n_actions: int, n_envs: int, additional_args: dict[str, Any]) -> dict[str, Any]:
    """
    Sampler for DDPGfD hyperparameters.

    :param trial: Optuna's trial
    :param n_actions: Dimension of the actions
    :param n_envs: Number of parallel environments
    :param additional_args: See the module
    :return: Arguments of the constructor
    """
    given = additional_args.get("given") or {}
    suggestions = _Suggestions(trial, given)
    has_demonstrations = additional_args.get("has_demonstrations", True)
    suggestions.add(DDPGFD)
    if (suggestions.value("n_steps") or 1) > 1:
        suggestions.add(DDPGFD_N_STEP)
    by_share = suggestions.value("demo_fraction") is not None
    if has_demonstrations:
        suggestions.add(DDPGFD_DEMONSTRATIONS)
        if suggestions.value("bc_coef"):
            suggestions.add(DDPGFD_CLONING)
            if suggestions.value("pretrain_steps"):
                suggestions.add(DDPGFD_CLONING_FIRST)
        by_share = by_share or suggestions.value("sampling") == "share"
    # Each way of sampling has options of its own
    if by_share:
        suggestions.add(DDPGFD_SHARE)
    else:
        suggestions.add(DDPGFD_PRIORITIES)
        if has_demonstrations:
            suggestions.add(DDPGFD_BONUS)
    hyperparams = convert_ddpgfd_params(suggestions.sampled)
    for name in {"pretrain_clone_only", "critic_warmup_steps"} & set(given):
        hyperparams.pop(name, None)
    if hyperparams.pop("noise_type", None) is not None:
        sigma = hyperparams.pop("noise_std") * np.ones(n_actions)
        hyperparams["action_noise"] = NormalActionNoise(mean=np.zeros(n_actions), sigma=sigma)
    return hyperparams


def convert_ddpgfd_params(sampled_params: dict[str, Any]) -> dict[str, Any]:
    """
    :param sampled_params: A trial's parameters, as Optuna stores them
    :return: What an entry of the yaml would hold, the exploration noise as ``noise_type`` and ``noise_std``
    """
    hyperparams = _convert(sampled_params)
    # The entry may have a share of its own
    if hyperparams.pop("sampling", None) == "priorities":
        hyperparams["demo_fraction"] = None
    # Or what is refused without cloning
    if hyperparams.get("bc_coef") == 0.0:
        hyperparams.update(pretrain_clone_only=False, critic_warmup_steps=0)
    if "noise_std" in hyperparams:
        hyperparams["noise_type"] = "normal"
    return hyperparams


def sample_a2cfd_params(
    trial: optuna.Trial, n_actions: int | None, n_envs: int, additional_args: dict[str, Any]
) -> dict[str, Any]:
    """
    Sampler for A2CfD hyperparameters.

    :param trial: Optuna's trial
    :param n_actions: Dimension of the actions, 0 or None if they are not numbers but choices
    :param n_envs: Number of parallel environments
    :param additional_args: See the module
    :return: Arguments of the constructor
    """
    suggestions = _Suggestions(trial, additional_args.get("given") or {})
    suggestions.add(A2CFD)
    if n_actions:
        suggestions.add(A2CFD_GAUSSIAN)
    if additional_args.get("has_demonstrations", True):
        suggestions.add(A2CFD_DEMONSTRATIONS)
        if suggestions.value("pretrain_steps"):
            suggestions.add(A2CFD_PRETRAINING)
    return convert_a2cfd_params(suggestions.sampled)


def convert_a2cfd_params(sampled_params: dict[str, Any]) -> dict[str, Any]:
    """
    :param sampled_params: A trial's parameters, as Optuna stores them
    :return: What an entry of the yaml would hold
    """
    return _convert(sampled_params)


def _convert(sampled_params: Mapping[str, Any]) -> dict[str, Any]:
    hyperparams: dict[str, Any] = {}
    policy_kwargs: dict[str, Any] = {}
    for name, value in sampled_params.items():
        if name in _POLICY_KWARGS:
            policy_kwargs[name] = _POLICY_KWARGS[name](value)
        elif name in _CONVERSIONS:
            argument, convert = _CONVERSIONS[name]
            hyperparams[argument] = convert(value)
        else:
            hyperparams[name] = value
    return {**hyperparams, "policy_kwargs": policy_kwargs} if policy_kwargs else hyperparams


SAMPLERS = {"ddpgfd": sample_ddpgfd_params, "a2cfd": sample_a2cfd_params}
CONVERTERS = {"ddpgfd": convert_ddpgfd_params, "a2cfd": convert_a2cfd_params}
