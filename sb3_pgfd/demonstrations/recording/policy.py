"""Recording from a policy: a model, a function, a scripted expert."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NoReturn, Protocol

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecNormalize

from sb3_pgfd.demonstrations.dataset import Demonstrations
from sb3_pgfd.demonstrations.episode import Episode
from sb3_pgfd.demonstrations.errors import DemonstrationsError
from sb3_pgfd.demonstrations.recording.provenance import describe_env, describe_episodes
from sb3_pgfd.demonstrations.recording.rollout import Rollout
from sb3_pgfd.demonstrations.recording.session import Session
from sb3_pgfd.utils.screen import progress


class Policy(Protocol):
    """
    Anything with SB3's ``predict``: a model, a policy. If its ``predict`` takes ``state`` and ``episode_start``, as SB3's
    does, it is handed the state it returned; if it has a method ``reset``, that is called when an episode begins.
    """

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
    path: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress_bar: bool = False,
) -> Demonstrations:
    """
    Collect episodes.

    :param policy: Something with ``predict``, or a function from an observation to an action in environment units. If it
        has a method ``reset``, that is called when an episode begins
    :param env: A Gymnasium environment with a time limit, or its id. Episode k is reset with ``seed + k``
    :param n_episodes: Episodes to keep
    :param seed: Seed of the first episode and of the action noise
    :param deterministic: Passed to ``predict``
    :param action_noise: Standard deviation of Gaussian noise on Box actions, in units of half the action range: a
        little noise widens the states that demonstrations cover
    :param successes_only: Keep episodes that end with ``is_success`` (or ``success``) in their info only; an
        environment may say so of its successes alone
    :param max_attempts: Episodes to try at most, those before an interruption included; by default 10 per episode to keep
    :param vec_normalize: The statistics a policy was trained with. It sees normalised observations, the
        demonstrations hold the raw ones
    :param producer: What made the actions, for the provenance; by default the policy's type and name
    :param path: Write the demonstrations there, the ending ``.npz`` is added if it is missing. Until all are recorded,
        the folder ``<path>.recording`` holds each episode from its end on, and ``Demonstrations.load`` reads it
    :param resume: Go on with the unfinished recording in that folder, if there is one. From a policy that always does the
        same, the result is what it would have been without the interruption
    :param overwrite: Whether the file, and without ``resume`` an unfinished recording, may be replaced
    :param progress_bar: Show a progress bar of the episodes kept, which needs tqdm and rich
    :return: Demonstrations in environment units with their provenance
    :raises DemonstrationsError: If too few episodes succeed, the environment cannot be recorded from, or the unfinished
        recording was begun with other settings
    :raises FileExistsError: If there is a file or an unfinished recording already
    """
    if n_episodes < 1:
        raise DemonstrationsError(f"record: found n_episodes={n_episodes}, expected at least 1")
    with _open(env) as environment:
        settings = {
            **describe_env(environment),
            "producer": producer or f"{type(policy).__name__} {getattr(policy, '__name__', '')}".strip(),
            "action_noise": action_noise,
            "seed": seed,
            "deterministic": deterministic,
            "successes_only": successes_only,
        }
        actor = Actor(policy, environment.action_space, deterministic, action_noise, vec_normalize, seed)
        session = Session(path, settings, resume, overwrite)
        attempts = _Attempts(session, actor, environment, seed, max_attempts or 10 * n_episodes)
        kept = attempts.keep(n_episodes, successes_only)
        for _ in progress(kept, progress_bar, "Recording", "episode", n_episodes, len(session.episodes)):
            pass
    return session.finish({**describe_episodes(session.episodes), "n_attempts": attempts.made})


@contextmanager
def _open(env: gym.Env | str) -> Iterator[gym.Env]:
    """An environment that was made here is closed."""
    if isinstance(env, str):
        with closing(gym.make(env)) as made:
            yield made
    elif isinstance(env, gym.Env):
        yield env
    else:
        raise DemonstrationsError(f"record: found env of type {type(env).__name__}, expected a gymnasium.Env or its id")


class Actor:
    """
    What a policy does in an environment. See :func:`record` for the parameters.

    :raises DemonstrationsError: If noise is asked for where there can be none
    """

    def __init__(
        self,
        policy: Policy | Callable[[Any], Any],
        space: spaces.Space,
        deterministic: bool = True,
        action_noise: float = 0.0,
        vec_normalize: VecNormalize | None = None,
        seed: int = 0,
    ):
        if action_noise and not isinstance(space, spaces.Box):
            raise DemonstrationsError(f"record: found action_noise={action_noise} with {space}, expected a Box space")
        self.policy = policy
        self.space = space
        self.deterministic = deterministic
        self.action_noise = action_noise
        self.vec_normalize = vec_normalize
        self.rng = np.random.default_rng(seed)
        predict = getattr(policy, "predict", None)
        parameters = {} if predict is None else inspect.signature(predict).parameters
        self._has_state = {"state", "episode_start"} <= set(parameters)
        self._state: Any = None
        self._episode_start = True

    def reset(self) -> None:
        """An episode begins."""
        self._state, self._episode_start = None, True
        reset = getattr(self.policy, "reset", None)
        if callable(reset):
            reset()

    def __call__(self, observation: Any) -> Any:
        """
        :param observation: As the environment hands it out
        :return: An action in environment units, within their bounds
        """
        if self.vec_normalize is not None:
            observation = self.vec_normalize.normalize_obs(observation)
        action = self._ask(observation)
        if not isinstance(self.space, spaces.Box):
            return action
        low, high = self.space.low, self.space.high
        if self.action_noise:
            action = action + self.action_noise * self.rng.standard_normal(self.space.shape) * (high - low) / 2
        return np.clip(action, low, high).astype(self.space.dtype)

    def _ask(self, observation: Any) -> Any:
        if not hasattr(self.policy, "predict"):
            return self.policy(observation)
        if not self._has_state:
            return self.policy.predict(observation, deterministic=self.deterministic)[0]
        memory = {"state": self._state, "episode_start": np.array([self._episode_start])}
        action, self._state = self.policy.predict(observation, deterministic=self.deterministic, **memory)
        self._episode_start = False
        return action


class _Attempts:
    """
    Episodes one after another.

    :param session: Where they are kept; there may be some already
    :param actor: Chooses the actions
    :param env: Attempt k is reset with ``seed + k``
    :param seed: Of the first attempt
    :param most: How many attempts may be made
    """

    def __init__(self, session: Session, actor: Actor, env: gym.Env, seed: int, most: int):
        self.session, self.actor, self.env, self.seed, self.most = session, actor, env, seed, most
        self.made = 0
        if session.state is not None:
            self.made = session.state["n_attempts"]
            actor.rng.bit_generator.state = session.state["noise"]

    def keep(self, n_episodes: int, successes_only: bool) -> Iterator[Episode]:
        """
        :return: The episodes to keep, each of them in the session already
        :raises DemonstrationsError: If there are more than that, or too few attempts
        """
        kept = self.session.episodes
        if len(kept) > n_episodes:
            found = f"{len(kept)} episodes in {self.session.folder}"
            raise DemonstrationsError(f"record: found {found}, expected at most {n_episodes}: ask for as many or more")
        # Those that were kept say that they are successes
        reported = bool(kept)
        while len(kept) < n_episodes and self.made < self.most:
            episode = run_episode(self.actor, self.env, self.seed + self.made)
            self.made += 1
            reported |= episode.success is not None
            if episode.success or not successes_only:
                self.session.add(episode, {"n_attempts": self.made, "noise": self.actor.rng.bit_generator.state})
                yield episode
        if len(kept) < n_episodes:
            self._give_up(n_episodes, successes_only, reported)

    def _give_up(self, n_episodes: int, successes_only: bool, reported: bool) -> NoReturn:
        if successes_only and not reported:
            raise DemonstrationsError(
                f"record: successes_only found neither 'is_success' nor 'success' in the last info of {self.made} attempts, "
                "expected one of them"
            )
        kind = "successes" if successes_only else "episodes"
        n_kept = len(self.session.episodes)
        where = f". They are in {self.session.folder}: resume with more attempts" if n_kept and self.session.folder else ""
        raise DemonstrationsError(f"record: found {n_kept} {kind} in {self.made} attempts, expected {n_episodes}{where}")


def run_episode(actor: Actor, env: gym.Env, seed: int) -> Episode:
    """
    :param actor: Chooses the actions
    :param env: With a time limit
    :param seed: Of its reset
    """
    rollout = Rollout(env, seed)
    actor.reset()
    while not rollout.over:
        rollout.step(actor(rollout.observation))
    return rollout.episode()
