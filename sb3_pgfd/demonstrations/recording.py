"""Recording demonstrations from a policy."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
import stable_baselines3 as sb3
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecNormalize

from sb3_pgfd.demonstrations.dataset import Demonstrations
from sb3_pgfd.demonstrations.episode import Episode
from sb3_pgfd.demonstrations.errors import DemonstrationsError
from sb3_pgfd.demonstrations.validation import Observations

# An episode, and whether it was a success if the environment says so
Attempt = tuple[Episode, bool | None]


class Policy(Protocol):
    """Anything with SB3's ``predict``: a model, a policy."""

    def predict(self, observation: Any, /, *, deterministic: bool) -> tuple[Any, Any]: ...


def record(
    policy: Policy | Callable[[Any], Any],
    env: gym.Env | str,
    n_episodes: int,
    *,
    seed: int = 0,
    deterministic: bool = True,
    action_noise: float = 0.0,
    successes_only: bool = False,
    max_attempts: int | None = None,
    vec_normalize: VecNormalize | None = None,
    producer: str | None = None,
) -> Demonstrations:
    """
    Collect episodes.

    :param policy: Something with ``predict``, or a function from an observation to an action in environment units
    :param env: A Gymnasium environment with a time limit, or its id. Episode k is reset with ``seed + k``
    :param n_episodes: Episodes to keep
    :param seed: Seed of the first episode and of the action noise
    :param deterministic: Passed to ``predict``
    :param action_noise: Standard deviation of Gaussian noise on Box actions, in units of half the action range: a
        little noise widens the states that demonstrations cover
    :param successes_only: Keep episodes that end with ``is_success`` (or ``success``) in their info only
    :param max_attempts: Episodes to try at most, by default 10 per episode to keep
    :param vec_normalize: The statistics a policy was trained with. It sees normalised observations, the
        demonstrations hold the raw ones
    :param producer: What made the actions, for the provenance; by default the policy's type and name
    :return: Demonstrations in environment units with their provenance
    :raises DemonstrationsError: If too few episodes succeed, or the environment cannot be recorded from
    """
    if n_episodes < 1:
        raise DemonstrationsError(f"record: found n_episodes={n_episodes}, expected at least 1")
    owned = isinstance(env, str)
    env = gym.make(env) if isinstance(env, str) else env
    if not isinstance(env, gym.Env):
        raise DemonstrationsError(f"record: found env of type {type(env).__name__}, expected a gymnasium.Env or its id")
    if action_noise and not isinstance(env.action_space, spaces.Box):
        raise DemonstrationsError(f"record: found action_noise={action_noise} with {env.action_space}, expected a Box space")
    act = _action_function(policy, env.action_space, deterministic, action_noise, vec_normalize, seed)
    kept, n_attempts = _collect(act, env, n_episodes, seed, max_attempts or 10 * n_episodes, successes_only)
    metadata = {
        **_provenance(env, kept),
        "producer": producer or f"{type(policy).__name__} {getattr(policy, '__name__', '')}".strip(),
        "action_noise": action_noise,
        "seed": seed,
        "n_attempts": n_attempts,
    }
    if owned:
        env.close()
    return Demonstrations.from_episodes([episode for episode, _ in kept], metadata)


def _collect(
    act: Callable[[Any], Any], env: gym.Env, n_episodes: int, seed: int, attempts: int, successes_only: bool
) -> tuple[list[Attempt], int]:
    """:return: The episodes to keep, and how many were tried"""
    kept: list[Attempt] = []
    for attempt in range(attempts):
        episode, success = _run_episode(act, env, seed + attempt)
        if successes_only and success is None:
            raise DemonstrationsError(
                "record: successes_only found neither 'is_success' nor 'success' in the last info, expected one of them"
            )
        if success or not successes_only:
            kept.append((episode, success))
        if len(kept) == n_episodes:
            return kept, attempt + 1
    kind = "successes" if successes_only else "episodes"
    raise DemonstrationsError(f"record: found {len(kept)} {kind} in {attempts} attempts, expected {n_episodes}")


def _provenance(env: gym.Env, kept: list[Attempt]) -> dict[str, Any]:
    successes = [success for _, success in kept]
    return {
        "env_id": env.spec.id if env.spec else type(env.unwrapped).__name__,
        "env_kwargs": dict(env.spec.kwargs) if env.spec else {},
        # An environment may report successes alone
        "success_rate": None if set(successes) == {None} else float(np.mean([bool(success) for success in successes])),
        "mean_return": float(np.mean([episode.rewards.sum() for episode, _ in kept])),
        "versions": {"gymnasium": gym.__version__, "numpy": np.__version__, "stable_baselines3": sb3.__version__},
    }


def _action_function(
    policy: Policy | Callable[[Any], Any],
    space: spaces.Space,
    deterministic: bool,
    action_noise: float,
    vec_normalize: VecNormalize | None,
    seed: int,
) -> Callable[[Any], Any]:
    rng = np.random.default_rng(seed)

    def act(observation: Any) -> Any:
        if vec_normalize is not None:
            observation = vec_normalize.normalize_obs(observation)
        if hasattr(policy, "predict"):
            action = policy.predict(observation, deterministic=deterministic)[0]
        else:
            action = policy(observation)
        if not isinstance(space, spaces.Box):
            return action
        if action_noise:
            action = action + action_noise * rng.standard_normal(space.shape) * (space.high - space.low) / 2
        return np.clip(action, space.low, space.high).astype(space.dtype)

    return act


def _run_episode(act: Callable[[Any], Any], env: gym.Env, seed: int) -> tuple[Episode, bool | None]:
    observation, info = env.reset(seed=seed)
    # Copies, as an environment may write every observation to the same array, or scale an action in place
    observations, actions, rewards = [deepcopy(observation)], [], []
    terminated = truncated = False
    while not (terminated or truncated):
        action = act(observation)
        actions.append(np.array(action))
        observation, reward, terminated, truncated, info = env.step(action)
        observations.append(deepcopy(observation))
        rewards.append(float(reward))
    success = info.get("is_success", info.get("success"))
    episode = Episode(
        observations=_stack(observations),
        actions=np.array(actions),
        rewards=np.array(rewards, dtype=np.float32),
        terminated=bool(terminated),
    )
    return episode, None if success is None else bool(success)


def _stack(observations: list[Any]) -> Observations:
    if isinstance(observations[0], dict):
        return {key: np.stack([observation[key] for observation in observations]) for key in observations[0]}
    return np.stack(observations)
