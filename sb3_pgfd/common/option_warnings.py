"""
Checks of a model's options and demonstrations when it starts to learn: what needs demonstrations and has none, options that
have no effect, and demonstrations that teach the critic something else than is meant.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecNormalize
from torch import nn
from torch.optim import RMSprop

from sb3_pgfd.demonstrations import Demonstrations, DemonstrationsError
from sb3_pgfd.demonstrations.arrays import discounted_returns

Options = Mapping[str, Any]
Need = tuple[str, Callable[[Options], Any]]

# They act on demonstrations. The first two also on the agent's own successes, where these are kept
_ACT_ON_DEMONSTRATIONS = ("bc_coef", "demo_fraction", "pretrain_steps", "critic_warmup_steps", "proposals")
_ACT_ON_SUCCESSES = ("bc_coef", "demo_fraction")

_CLONING: Need = ("bc_coef > 0", lambda options: options["bc_coef"] > 0.0)
_PRIORITIES: Need = ("demo_fraction=None", lambda options: options.get("demo_fraction") is None)
_OF_PRIORITIES = ("priority_exponent", "priority_epsilon", "demo_bonus", "relative_priorities")
OFF_POLICY_NEEDS: Mapping[str, Need] = {
    **dict.fromkeys(("q_filter", "critic_warmup_steps"), _CLONING),
    "n_step_coef": ("n_steps > 1", lambda options: options["n_steps"] > 1),
    "target_noise_clip": ("target_policy_noise > 0", lambda options: options["target_policy_noise"] > 0.0),
    "target_entropy": ('ent_coef="auto"', lambda options: str(options["ent_coef"]).startswith("auto")),
    "max_success_transitions": ("keep_successes=True", lambda options: options.get("keep_successes")),
    "denoise_successes": (
        "keep_successes=True and bc_coef > 0",
        lambda options: options.get("keep_successes") and options["bc_coef"] > 0.0,
    ),
    "her_skip_reached": ("her_ratio > 0", lambda options: options.get("her_ratio")),
    "her_random_share": ("her_ratio > 0", lambda options: options.get("her_ratio")),
    **dict.fromkeys(("clone_dropout", "clone_weight_decay"), ("proposals=True", lambda options: options["proposals"])),
    "proposals": (
        "pretrain_steps > 0, which trains the clone",
        lambda options: options["pretrain_steps"] > 0 or options.get("_pretrain_updates"),
    ),
    "proposal_temperature": ('proposals="soft"', lambda options: options["proposals"] == "soft"),
    **dict.fromkeys((*_OF_PRIORITIES, "importance_exponent", "action_gradient_coef"), _PRIORITIES),
}
"""What an option needs to have an effect: in words, and whether the options, those of the replay buffer included, have it"""
ON_POLICY_NEEDS: Mapping[str, Need] = {
    "pretrain_learning_rate": ("pretrain_steps > 0", lambda options: options["pretrain_steps"] > 0),
    "bc_decay": _CLONING,
    "demo_batch_size": (
        "bc_coef > 0 or pretrain_steps > 0",
        lambda options: options["bc_coef"] > 0.0 or options["pretrain_steps"] > 0,
    ),
    "rms_prop_eps": ("use_rms_prop=True", lambda options: options["use_rms_prop"]),
    "use_rms_prop": (
        "policy_kwargs without optimizer_class",
        # The algorithm itself puts it there
        lambda options: (options.get("policy_kwargs") or {}).get("optimizer_class", RMSprop) is RMSprop,
    ),
    "actor_learning_rate": ("a policy of this package", lambda options: _has_own_actor(options["policy"])),
    # -1 is the default
    "sde_sample_freq": ("use_sde=True", lambda options: options["use_sde"] or options["sde_sample_freq"] < 0),
    "log_std_init": ("continuous actions", lambda options: _is_continuous(options)),
    **dict.fromkeys(
        ("log_std_min", "log_std_max"),
        ("continuous actions and use_sde=False", lambda options: _is_continuous(options) and not options["use_sde"]),
    ),
}
"""Likewise of on-policy algorithms"""


def _has_own_actor(policy: Any) -> bool:
    """:return: Whether the actor has a group of parameters of its own; a policy's name does not tell"""
    optimizer = getattr(policy, "optimizer", None)
    return optimizer is None or any(group.get("name") == "actor" for group in optimizer.param_groups)


def _is_continuous(options: Options) -> bool:
    return "action_space" not in options or isinstance(options["action_space"], spaces.Box)


def check_without_demonstrations(algorithm: str, options: Options, chosen: Collection[str]) -> str:
    """
    :param algorithm: Name of an algorithm that has no demonstrations
    :param options: All of its options and those of its replay buffer
    :param chosen: Names of those that the user chose. Defaults of the class are nobody's wish
    :return: The warning
    :raises DemonstrationsError: If the user chose an option that does nothing without demonstrations
    """
    # Who asks for own successes to be kept has something to clone and to draw later
    keeps_successes = "keep_successes" in chosen and options.get("keep_successes")
    needing = [name for name in _ACT_ON_DEMONSTRATIONS if name in chosen and options.get(name)]
    needing = [name for name in needing if not (keeps_successes and name in _ACT_ON_SUCCESSES)]
    if needing:
        raise DemonstrationsError(
            f"{algorithm}: found no demonstrations, but {', '.join(f'{name}={options[name]!r}' for name in needing)}, which "
            "would do nothing without: pass demonstrations=... or call add_demonstrations() before learn(), or leave "
            f"{'it' if len(needing) == 1 else 'them'} out"
        )
    return (
        f"{algorithm}: found no demonstrations: it learns from its own experience alone. Pass demonstrations=..., or call "
        "add_demonstrations() before learn()"
    )


def options_without_effect(options: Options, chosen: Collection[str], needs: Mapping[str, Need]) -> Iterator[str]:
    """
    :param options: All options of a model and of its replay buffer
    :param chosen: Names of those that the user chose. After ``load()`` with fewer options some of these may be gone
    :param needs: What an option needs to have an effect
    :return: A warning for each that has none
    """
    for name in needs.keys() & set(chosen) & options.keys():
        words, holds = needs[name]
        if options[name] and not holds(options):
            yield f"{name}={options[name]!r} has no effect: it needs {words}. Change that, or leave {name} out"


def other_rewards(given: np.ndarray, own: np.ndarray) -> str | None:
    """
    :param given: Rewards of demonstrations in steps that do not end the task
    :param own: Those of the agent
    :return: A warning if both are always the same number, and not the same one: a wrapper changes one of them
    """
    if len(given) == 0 or len(own) == 0 or np.ptp(given) > 0 or np.ptp(own) > 0 or np.isclose(given[0], own[0]):
        return None
    return (
        f"demonstrations: found a reward of {given[0]:g} in every step before the end, expected {own[0]:g}, which the "
        "environment gives: the critic learns from both. Record them again in this environment, or load them with other "
        "rewards, or use the wrapper that they were recorded with"
    )


def other_units(policy: nn.Module, env: VecNormalize) -> Iterator[str]:
    """
    :param policy: With its features extractors
    :param env: Wrapper that may give each entry of an observation a unit of its own
    :return: A warning if a features extractor compares such entries
    """
    normalized: set[str] = set()
    if env.norm_obs:
        normalized = set(env.norm_obs_keys or ()) if isinstance(env.observation_space, spaces.Dict) else {""}
    for kind in {type(module).__name__ for module in policy.modules() if getattr(module, "compared_keys", set()) & normalized}:
        yield (
            f"VecNormalize: found norm_obs=True with {kind}, expected observations as they are: each entry gets a unit of its "
            "own, so the difference of two positions says little. Use norm_obs=False, or leave the keys of the positions out "
            "of norm_obs_keys"
        )


def older_frames(policy: nn.Module, n_stack: int) -> Iterator[str]:
    """
    :param policy: With its features extractors
    :param n_stack: Frames in an observation, the newest last
    :return: A warning if a features extractor compares two positions of older frames; one and a newer one tell a velocity
    """
    for module in policy.modules():
        for pair in getattr(module, "compared_entries", ()):
            if all(entry < n - n // n_stack for entry, n in pair):
                newest = " and ".join(str(n - n // n_stack + entry % (n // n_stack)) for entry, n in pair)
                yield (
                    f"{type(module).__name__}: found a pair of positions in older frames, at {pair[0][0]} and {pair[1][0]}, "
                    f"expected them in the newest of VecFrameStack's {n_stack}, at {newest}"
                )
                return


def doubtful_demonstrations(
    demonstrations: Demonstrations, options: Options, normalization: Callable[[], VecNormalize | None]
) -> Iterator[str]:
    """
    :param demonstrations: Which the model is about to learn from
    :param options: All options of the model
    :param normalization: Gives the wrapper to normalise rewards with, where they are compared
    :return: A warning for each doubt
    """
    rewards = demonstrations.rewards
    if not rewards.any():
        yield (
            "demonstrations: found no reward but 0, expected some that tell success from failure: the critic learns that "
            "these episodes are worth nothing. If they succeed, load them with the reward of success, "
            "Demonstrations.load(source, final_reward=1.0)"
        )
    q_range = options.get("q_range")
    if q_range is None:
        return
    (low, high), env = q_range, normalization()
    returns = discounted_returns(
        rewards if env is None else env.normalize_reward(rewards), demonstrations.episode_lengths, options["gamma"]
    )
    smallest, largest = float(returns.min()), float(returns.max())
    slack = 1e-5 * max(1.0, np.abs(returns).max())
    if smallest < low - slack or largest > high + slack:
        yield (
            f"q_range: found discounted returns of the demonstrations from {smallest:g} to {largest:g}, expected all in "
            f"{low:g} to {high:g}: targets are clipped to q_range, so the critic cannot learn them. Widen it or leave it out"
        )
