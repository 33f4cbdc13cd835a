"""
What ``-optimize`` searches for this package's algorithms.

A trial stores its parameters under the names below. The converter makes of them what an entry of the yaml holds, so that
``--trial-id`` trains with what the trial had. Our manager tells the samplers in ``additional_args``: ``given``, the options of
``-params`` and the entry's ``pretrain_steps``, which are not searched; ``of_entry``, the names of those of the entry that what
is searched must go with; and ``has_demonstrations``. The Zoo's own manager tells them nothing; then everything is searched, as
with demonstrations.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import optuna

# Suggests a value for the parameter of this name
_Suggest = Callable[[optuna.Trial, str], Any]


def _number(low: float, high: float, log: bool = False) -> _Suggest:
    return lambda trial, name: trial.suggest_float(name, low, high, log=log)


def _whole(low: int, high: int) -> _Suggest:
    return lambda trial, name: trial.suggest_int(name, low, high)


def _choice(*choices: Any) -> _Suggest:
    return lambda trial, name: trial.suggest_categorical(name, choices)


_log = partial(_number, log=True)
_SWITCH = _choice(False, True)
_WIDTHS = ("64-64", "128-128", "256-256", "400-300")

_OFF_POLICY: dict[str, _Suggest] = {
    "one_minus_gamma": _log(0.001, 0.05),
    "learning_rate": _log(1e-4, 3e-3),
    "actor_learning_rate": _log(3e-5, 3e-3),
    "batch_size_pow": _whole(6, 9),
    "tau": _log(0.002, 0.05),
    "gradient_steps": _choice(1, 2, 4),
    "n_steps": _whole(1, 10),
    "n_step_coef": _log(0.1, 2.0),
    "l2_coef": _log(1e-6, 1e-3),
    "net_arch": _choice(*_WIDTHS),
    "layer_norm": _SWITCH,
    "average_actor": _choice(None, 0.01, 0.002),
    "keep_successes": _SWITCH,
}
_CLONES_FIRST: dict[str, _Suggest] = {
    "demo_fraction": _number(0.1, 0.75),
    "pretrain_steps": _choice(1000, 2000, 5000, 10_000, 20_000),
    "bc_coef": _choice(0.5, 1.0, 1.5, 2.0, 5.0, 10.0),
    "q_filter": _SWITCH,
    "normalize_actor_loss": _SWITCH,
    "critic_warmup_steps": _choice(0, 1000, 2000, 5000),
}
# In this order: the conditions below look at the parameters before
SPACES: dict[str, dict[str, _Suggest]] = {
    "ddpgfd": {
        **_OFF_POLICY,
        "action_noise": _number(0.0, 0.5),
        "n_critics": _choice(1, 2),
        "pretrain_steps": _choice(0, 500, 1000, 2000, 5000),
        "bc_coef": _choice(0.0, 0.5, 1.0, 2.0, 5.0, 10.0),
        "q_filter": _SWITCH,
        # Each way of sampling has options of its own
        "sampling": _choice("priorities", "share"),
        "demo_fraction": _number(0.1, 0.75),
        "priority_exponent": _number(0.0, 1.0),
        "importance_exponent": _number(0.0, 1.0),
        "action_gradient_coef": _log(0.01, 10.0),
        "demo_bonus": _log(1e-3, 10.0),
        "relative_priorities": _SWITCH,
    },
    "td3fd": {
        **_OFF_POLICY,
        "action_noise": _number(0.0, 0.5),
        "n_critics": _choice(2, 3, 5),
        "policy_delay": _choice(1, 2),
        "target_policy_noise": _number(0.0, 0.4),
        **_CLONES_FIRST,
    },
    "sacfd": {
        **_OFF_POLICY,
        "n_critics": _choice(2, 5, 10),
        "n_target_critics": _choice(None, 1, 2),
        "policy_delay": _choice(1, 2),
        "log_std_init": _number(-3.0, 0.0),
        "ent_coef": _choice("auto_0.0001", "auto_0.001", "auto_0.01", "auto_0.1", "auto"),
        "entropy_backup": _SWITCH,
        **_CLONES_FIRST,
    },
    "a2cfd": {
        "one_minus_gamma": _log(0.001, 0.1),
        "one_minus_gae_lambda": _log(0.001, 0.2),
        "learning_rate": _log(1e-4, 5e-3),
        "actor_learning_rate": _log(1e-5, 1e-3),
        "n_steps_pow": _whole(2, 8),
        "max_grad_norm": _log(0.3, 5.0),
        "ent_coef": _log(1e-8, 0.1),
        "normalize_advantage": _SWITCH,
        "use_rms_prop": _SWITCH,
        "net_arch": _choice("128", *_WIDTHS),
        "log_std_min": _number(-4.0, -1.0),
        "log_std_max": _number(-0.5, 1.0),
        "pretrain_steps": _choice(0, 500, 1000, 2000, 5000),
        "pretrain_learning_rate": _log(1e-4, 3e-3),
        "bc_coef": _log(0.01, 2.0),
        "bc_half_life": _log(100.0, 100_000.0),
        "demo_batch_size": _choice(64, 128, 256),
        "critic_warmup_steps": _choice(0, 1000, 2000, 5000, 10000),
    },
}
"""By algorithm, functions that suggest a value by the name of the parameter"""

_OF_DEMONSTRATIONS = {"pretrain_steps", "pretrain_learning_rate", "bc_coef", "bc_half_life", "demo_batch_size", "q_filter"}
_OF_DEMONSTRATIONS |= {"normalize_actor_loss", "critic_warmup_steps", "sampling", "demo_fraction"}
_OF_DEMONSTRATIONS |= {"demo_bonus", "relative_priorities"}
_OF_PRIORITIES = ("priority_exponent", "importance_exponent", "action_gradient_coef", "demo_bonus", "relative_priorities")
_OF_STD = {"log_std_min", "log_std_max", "log_std_init"}
# When a parameter has an effect, by what is given and sampled so far
_CONDITIONS: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "n_step_coef": lambda known: (known.get("n_steps") or 1) > 1,
    **dict.fromkeys(("q_filter", "normalize_actor_loss", "critic_warmup_steps"), lambda known: known.get("bc_coef")),
    "pretrain_learning_rate": lambda known: known.get("pretrain_steps"),
    "demo_fraction": lambda known: known.get("sampling") != "priorities",
    **dict.fromkeys(_OF_PRIORITIES, lambda known: known.get("demo_fraction") is None and known.get("sampling") != "share"),
    "bc_half_life": lambda known: known.get("bc_coef"),
    "demo_batch_size": lambda known: known.get("bc_coef") or known.get("pretrain_steps"),
    # Discrete actions have no `n_actions`. What is drawn beside a number of the user's might not go with it
    **dict.fromkeys(("log_std_min", "log_std_max"), lambda known: known["n_actions"] and not _OF_STD & known["fixed"]),
}
# The option that a parameter decides, where it has another name, and its value
_CONVERSIONS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "one_minus_gamma": ("gamma", lambda value: 1.0 - value),
    "one_minus_gae_lambda": ("gae_lambda", lambda value: 1.0 - value),
    "batch_size_pow": ("batch_size", lambda power: 2**power),
    "n_steps_pow": ("n_steps", lambda power: 2**power),
    # lambda_1^k halves the demonstration term after so many updates of the actor
    "bc_half_life": ("bc_decay", lambda updates: 0.5 ** (1.0 / updates)),
}
_PLACES = {
    **dict.fromkeys(("net_arch", "n_critics", "n_target_critics", "layer_norm", "average_actor"), "policy_kwargs"),
    **dict.fromkeys(("log_std_init", "log_std_min", "log_std_max"), "policy_kwargs"),
    **dict.fromkeys(
        ("demo_fraction", "keep_successes", "priority_exponent", "demo_bonus", "relative_priorities"), "replay_buffer_kwargs"
    ),
}


def decided_option(name: str) -> str:
    """:return: Name of the option that a trial's parameter decides, an argument of the constructor or in its mappings"""
    return "demo_fraction" if name == "sampling" else _CONVERSIONS.get(name, (name,))[0]


def sample_params(
    algo: str, trial: optuna.Trial, n_actions: int | None, n_envs: int, additional_args: Mapping[str, Any]
) -> dict[str, Any]:
    """
    Sampler of the RL Zoo for one of our algorithms.

    :param n_actions: Dimension of continuous actions
    :param additional_args: See the module
    :return: Arguments of the constructor
    """
    given = additional_args.get("given") or {}
    sampled: dict[str, Any] = {}
    for name, suggest in SPACES[algo].items():
        lacks_demonstrations = name in _OF_DEMONSTRATIONS and not additional_args.get("has_demonstrations", True)
        known = {**given, **sampled, "n_actions": n_actions, "fixed": given.keys() | additional_args.get("of_entry", set())}
        matters = _CONDITIONS.get(name, lambda known: True)(known)
        if decided_option(name) in given or lacks_demonstrations or not matters:
            continue
        sampled[name] = suggest(trial, name)
        if name in _CONVERSIONS:
            # Where people look: the report and the dashboard
            option, convert = _CONVERSIONS[name]
            trial.set_user_attr(option, convert(sampled[name]))
    return convert_params(sampled)


def convert_params(sampled_params: Mapping[str, Any]) -> dict[str, Any]:
    """:return: What an entry of the yaml would hold, of a trial's parameters as Optuna stores them"""
    hyperparams: dict[str, Any] = {}
    for name, value in sampled_params.items():
        if (name, value) == ("sampling", "share"):
            continue
        option = decided_option(name)
        if name == "net_arch":
            value = [int(width) for width in value.split("-")]
        elif name == "sampling":
            # The entry may have a share of its own
            value = None
        elif name in _CONVERSIONS:
            value = _CONVERSIONS[name][1](value)
        place = hyperparams.setdefault(_PLACES[option], {}) if option in _PLACES else hyperparams
        place[option] = value
    return hyperparams


SAMPLERS = {algo: partial(sample_params, algo) for algo in SPACES}
CONVERTERS = dict.fromkeys(SPACES, convert_params)
