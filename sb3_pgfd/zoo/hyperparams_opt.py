"""
What ``-optimize`` searches for this package's algorithms.

A trial stores its parameters under the names below. The converters make of them what an entry of the yaml holds, so that
``--trial-id`` trains with what the trial had. Our manager tells the samplers two things in ``additional_args``: ``given``, the
options of ``-params``, which are not searched, and ``has_demonstrations``. The Zoo's own manager tells them nothing; then
everything is searched, and no option fails without demonstrations.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna

Space = Mapping[str, Callable[[optuna.Trial, str], Any]]
"""Functions that suggest a value, by the name of the parameter"""


def _uniform(low: float, high: float) -> Callable[[optuna.Trial, str], Any]:
    return lambda trial, name: trial.suggest_float(name, low, high)


def _log(low: float, high: float) -> Callable[[optuna.Trial, str], Any]:
    return lambda trial, name: trial.suggest_float(name, low, high, log=True)


def _whole(low: int, high: int) -> Callable[[optuna.Trial, str], Any]:
    return lambda trial, name: trial.suggest_int(name, low, high)


def _choice(choices: Sequence[Any]) -> Callable[[optuna.Trial, str], Any]:
    return lambda trial, name: trial.suggest_categorical(name, choices)


_SWITCH = _choice([False, True])
_WIDTHS = ["64-64", "128-128", "256-256", "400-300"]

OFF_POLICY: Space = {
    "one_minus_gamma": _log(0.001, 0.05),
    "learning_rate": _log(1e-4, 3e-3),
    "actor_learning_rate": _log(3e-5, 3e-3),
    "batch_size_pow": _whole(6, 9),
    "tau": _log(0.002, 0.05),
    "gradient_steps": _choice([1, 2, 4]),
    "n_steps": _whole(1, 10),
    "l2_coef": _log(1e-6, 1e-3),
    "action_noise": _uniform(0.0, 0.5),
    "net_arch": _choice(_WIDTHS),
    "layer_norm": _SWITCH,
    "average_actor": _choice([None, 0.01, 0.002]),
    "keep_successes": _SWITCH,
}
N_STEP: Space = {"n_step_coef": _log(0.1, 2.0)}
Q_FILTER: Space = {"q_filter": _SWITCH}
SHARE: Space = {"demo_fraction": _uniform(0.1, 0.75)}

DDPGFD: Space = {**OFF_POLICY, "n_critics": _choice([1, 2])}
DDPGFD_DEMONSTRATIONS: Space = {
    "pretrain_steps": _choice([0, 500, 1000, 2000, 5000]),
    "bc_coef": _choice([0.0, 0.5, 1.0, 2.0, 5.0, 10.0]),
    "sampling": _choice(["priorities", "share"]),
}
DDPGFD_PRIORITIES: Space = {
    "priority_exponent": _uniform(0.0, 1.0),
    "importance_exponent": _uniform(0.0, 1.0),
    "action_gradient_coef": _log(0.01, 10.0),
}
DDPGFD_BONUS: Space = {"demo_bonus": _log(1e-3, 10.0), "relative_priorities": _SWITCH}

TD3FD: Space = {
    **OFF_POLICY,
    "n_critics": _choice([2, 3, 5]),
    "policy_delay": _choice([1, 2]),
    "target_policy_noise": _uniform(0.0, 0.4),
}
TD3FD_DEMONSTRATIONS: Space = {
    **SHARE,
    "pretrain_steps": _choice([1000, 2000, 5000, 10_000, 20_000]),
    "bc_coef": _choice([0.5, 1.0, 1.5, 2.0, 5.0, 10.0]),
}
TD3FD_CLONING: Space = {
    **Q_FILTER,
    "normalize_actor_loss": _SWITCH,
    "critic_warmup_steps": _choice([0, 1000, 2000, 5000]),
}

A2CFD: Space = {
    "one_minus_gamma": _log(0.001, 0.1),
    "one_minus_gae_lambda": _log(0.001, 0.2),
    "learning_rate": _log(1e-4, 5e-3),
    "actor_learning_rate": _log(1e-5, 1e-3),
    "n_steps_pow": _whole(2, 8),
    "max_grad_norm": _log(0.3, 5.0),
    "ent_coef": _log(1e-8, 0.1),
    "normalize_advantage": _SWITCH,
    "use_rms_prop": _SWITCH,
    "net_arch": _choice(["128", *_WIDTHS]),
}
# For actions that are numbers
A2CFD_GAUSSIAN: Space = {"log_std_min": _uniform(-4.0, -1.0), "log_std_max": _uniform(-0.5, 1.0)}
A2CFD_DEMONSTRATIONS: Space = {
    "pretrain_steps": _choice([0, 500, 1000, 2000, 5000]),
    "critic_warmup_steps": _choice([0, 1000, 2000, 5000, 10000]),
    "bc_coef": _log(0.01, 2.0),
    "bc_half_life": _log(100.0, 100_000.0),
    "demo_batch_size": _choice([64, 128, 256]),
}
A2CFD_PRETRAINING: Space = {"pretrain_learning_rate": _log(1e-4, 3e-3)}

# The option that a parameter decides, where it has another name or value
_CONVERSIONS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "one_minus_gamma": ("gamma", lambda value: 1.0 - value),
    "one_minus_gae_lambda": ("gae_lambda", lambda value: 1.0 - value),
    "batch_size_pow": ("batch_size", lambda power: 2**power),
    "n_steps_pow": ("n_steps", lambda power: 2**power),
    # lambda_1^k halves the demonstration term after so many updates of the actor
    "bc_half_life": ("bc_decay", lambda updates: 0.5 ** (1.0 / updates)),
}
_PLACES = {
    **dict.fromkeys(("net_arch", "n_critics", "layer_norm", "average_actor", "log_std_min", "log_std_max"), "policy_kwargs"),
    **dict.fromkeys(
        ("demo_fraction", "keep_successes", "priority_exponent", "demo_bonus", "relative_priorities"), "replay_buffer_kwargs"
    ),
}


def decided_option(name: str) -> str:
    """
    :param name: Name of a trial's parameter
    :return: Name of the option that it decides, an argument of the constructor or in one of its mappings
    """
    return "demo_fraction" if name == "sampling" else _CONVERSIONS.get(name, (name,))[0]


class _Suggestions:
    """What a trial suggests for the options that are not given."""

    def __init__(self, trial: optuna.Trial, additional_args: Mapping[str, Any]):
        self.trial = trial
        self.given: Mapping[str, Any] = additional_args.get("given") or {}
        self.has_demonstrations = additional_args.get("has_demonstrations", True)
        self.sampled: dict[str, Any] = {}

    def add(self, space: Space) -> None:
        """:param space: By name. Options that are given are left out"""
        for name, suggest in space.items():
            option = decided_option(name)
            if option not in self.given:
                self.sampled[name] = suggest(self.trial, name)
                if name in _CONVERSIONS:
                    # Where people look: the report and the dashboard
                    self.trial.set_user_attr(option, _CONVERSIONS[name][1](self.sampled[name]))

    def value(self, name: str) -> Any:
        """:return: What was sampled or given, None if neither was"""
        return self.sampled.get(name, self.given.get(name))


def sample_ddpgfd_params(trial: optuna.Trial, n_actions: int, n_envs: int, additional_args: dict[str, Any]) -> dict[str, Any]:
    """
    Sampler for DDPGfD hyperparameters.

    :param trial: Optuna's trial
    :param n_actions: Dimension of the actions
    :param n_envs: Number of parallel environments
    :param additional_args: See the module
    :return: Arguments of the constructor
    """
    suggestions = _Suggestions(trial, additional_args)
    suggestions.add(DDPGFD)
    if (suggestions.value("n_steps") or 1) > 1:
        suggestions.add(N_STEP)
    if suggestions.has_demonstrations:
        suggestions.add(DDPGFD_DEMONSTRATIONS)
        if suggestions.value("bc_coef"):
            suggestions.add(Q_FILTER)
    # Each way of sampling has options of its own
    if suggestions.value("demo_fraction") is not None or suggestions.value("sampling") == "share":
        suggestions.add(SHARE)
    else:
        suggestions.add(DDPGFD_PRIORITIES)
        if suggestions.has_demonstrations:
            suggestions.add(DDPGFD_BONUS)
    return convert_params(suggestions.sampled)


def sample_td3fd_params(trial: optuna.Trial, n_actions: int, n_envs: int, additional_args: dict[str, Any]) -> dict[str, Any]:
    """Sampler for TD3fD hyperparameters, cf :func:`sample_ddpgfd_params`."""
    suggestions = _Suggestions(trial, additional_args)
    suggestions.add(TD3FD)
    if (suggestions.value("n_steps") or 1) > 1:
        suggestions.add(N_STEP)
    if suggestions.has_demonstrations:
        suggestions.add(TD3FD_DEMONSTRATIONS)
        if suggestions.value("bc_coef"):
            suggestions.add(TD3FD_CLONING)
    return convert_params(suggestions.sampled)


def sample_a2cfd_params(
    trial: optuna.Trial, n_actions: int | None, n_envs: int, additional_args: dict[str, Any]
) -> dict[str, Any]:
    """Sampler for A2CfD hyperparameters, cf :func:`sample_ddpgfd_params`. Discrete actions have no ``n_actions``."""
    suggestions = _Suggestions(trial, additional_args)
    suggestions.add(A2CFD)
    if n_actions:
        suggestions.add(A2CFD_GAUSSIAN)
    if suggestions.has_demonstrations:
        suggestions.add(A2CFD_DEMONSTRATIONS)
        if suggestions.value("pretrain_steps"):
            suggestions.add(A2CFD_PRETRAINING)
    return convert_params(suggestions.sampled)


def convert_params(sampled_params: Mapping[str, Any]) -> dict[str, Any]:
    """
    :param sampled_params: A trial's parameters, as Optuna stores them
    :return: What an entry of the yaml would hold
    """
    hyperparams: dict[str, Any] = {}
    for name, value in sampled_params.items():
        option, convert = _CONVERSIONS.get(name, (name, None))
        value = convert(value) if convert else value
        if name == "net_arch":
            value = [int(width) for width in value.split("-")]
        elif name == "sampling":
            if value == "share":
                continue
            # The entry may have a share of its own
            option, value = "demo_fraction", None
        place = hyperparams.setdefault(_PLACES[option], {}) if option in _PLACES else hyperparams
        place[option] = value
    return hyperparams


SAMPLERS = {"ddpgfd": sample_ddpgfd_params, "td3fd": sample_td3fd_params, "a2cfd": sample_a2cfd_params}
CONVERTERS = dict.fromkeys(SAMPLERS, convert_params)
