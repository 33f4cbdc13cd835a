"""Recording from a policy: a model, a function, or one of Gymnasium's scripted experts."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from sb3_pgfd.demonstrations.dataset import Demonstrations
from sb3_pgfd.demonstrations.episode import Episode
from sb3_pgfd.demonstrations.errors import DemonstrationsError
from sb3_pgfd.demonstrations.recording.camera import CameraObservation
from sb3_pgfd.demonstrations.recording.session import OnlyEnv, Rollout, Session, describe_env, open_env
from sb3_pgfd.utils.checks import is_whole
from sb3_pgfd.utils.screen import progress
from sb3_pgfd.utils.warning import warn_user


class Policy(Protocol):
    """
    Anything with SB3's ``predict``: a model or a policy. If ``predict`` takes ``state`` and ``episode_start``, it gets back
    the state that it returned. If there is a method ``reset``, it is called at the start of each episode.
    """

    def predict(self, observation: Any, /, *, deterministic: bool) -> tuple[Any, Any]: ...


LONG_EPISODE = 10_000
"""Steps after which a warning asks for a time limit"""
# A model, or a function from an observation to an action
AnyPolicy = Policy | Callable[[Any], Any]


def record(
    policy: AnyPolicy,
    env: gym.Env | VecEnv | str,
    n_episodes: int,
    *,
    seed: int = 0,
    max_episode_steps: int | None = None,
    deterministic: bool = True,
    action_noise: float = 0.0,
    successes_only: bool = False,
    max_attempts: int | None = None,
    vec_normalize: VecNormalize | None = None,
    camera: int | None = None,
    producer: str | None = None,
    path: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress_bar: bool = False,
) -> Demonstrations:
    """
    Record episodes from a policy.

    :param policy: See :class:`Policy`, or a function from an observation to an action in environment units; the function's
        method ``reset``, if it has one, is called at the start of each episode
    :param env: A Gymnasium environment, a ``VecEnv`` of one environment, or an id. Attempt k is reset with ``seed + k``.
        Demonstrations hold what ``VecNormalize`` around it has not yet normalised
    :param n_episodes: Number of episodes to keep
    :param seed: Seed of the first attempt and of the action noise
    :param max_episode_steps: Cut an episode after so many steps, as truncated. An environment without a time limit needs it
    :param deterministic: Passed to ``predict``
    :param action_noise: Standard deviation of Gaussian noise on Box actions, in units of half the action range. A little
        noise widens the states that the demonstrations cover
    :param successes_only: Keep only episodes whose last info reports ``is_success`` (or ``success``)
    :param max_attempts: Largest number of attempts, including those before an interruption; by default 10 per episode
    :param vec_normalize: Statistics that the policy was trained with. The policy sees normalised observations, the
        demonstrations hold the raw ones
    :param camera: Record pictures too, of so many pixels in each direction, see
        :class:`~sb3_pgfd.demonstrations.recording.camera.CameraObservation`. The policy does not see them
    :param producer: What made the actions, for the metadata; by default the policy's type and name
    :param path: Write the demonstrations there; the ending ``.npz`` is added if it is missing. Until all are recorded, the
        folder ``<path>.recording`` holds each finished episode, and ``Demonstrations.load`` reads it
    :param resume: Continue the unfinished recording in that folder, if there is one. With a deterministic policy the result
        is the same as without the interruption
    :param overwrite: Allow replacing the file and, without ``resume``, an unfinished recording
    :param progress_bar: Show a progress bar of the kept episodes; needs tqdm and rich
    :return: Demonstrations in environment units, with metadata of where they come from
    :raises DemonstrationsError: If too few episodes succeed, the environment cannot be recorded from, or the unfinished
        recording has other settings
    :raises FileExistsError: If there is a file or an unfinished recording already
    """
    if n_episodes < 1:
        raise DemonstrationsError(f"record: found n_episodes={n_episodes}, expected at least 1")
    if not is_whole(seed, 0):
        raise DemonstrationsError(f"record: found seed={seed!r}, expected a whole number >= 0")
    if max_episode_steps is not None and not is_whole(max_episode_steps, 1):
        raise DemonstrationsError(f"record: found max_episode_steps={max_episode_steps!r}, expected at least 1, or None")
    if isinstance(env, VecNormalize):
        vec_normalize, env = vec_normalize or env, env.venv
    render_mode = None if camera is None else "rgb_array"
    with open_env(OnlyEnv(env) if isinstance(env, VecEnv) else env, "record", render_mode) as environment:
        if camera is not None:
            environment = CameraObservation(environment, camera)
        settings = {
            **describe_env(environment.spec, environment.observation_space, environment.action_space),
            "producer": producer or f"{type(policy).__name__} {getattr(policy, '__name__', '')}".strip(),
            # Gymnasium refuses NumPy's integers, and JSON turns NumPy's numbers into strings
            "action_noise": float(action_noise),
            "seed": int(seed),
            "deterministic": bool(deterministic),
            "successes_only": bool(successes_only),
            **({} if max_episode_steps is None else {"max_episode_steps": int(max_episode_steps)}),
            **({} if camera is None else {"camera": int(camera)}),
        }
        actor = _Actor(policy, environment.action_space, settings, vec_normalize, hides_image=camera is not None)
        session = Session(path, settings, resume, overwrite)
        kept = _keep_episodes(session, actor, environment, n_episodes, max_attempts or 10 * n_episodes)
        for _ in progress(kept, progress_bar, "Recording", "episode", n_episodes, len(session.episodes)):
            pass
    assert session.state is not None
    return session.finish({"n_attempts": session.state["n_attempts"]})


class _Actor:
    """A policy with its memory, its noise and its normalisation; see :func:`record` for the parameters."""

    def __init__(
        self,
        policy: AnyPolicy,
        space: spaces.Space,
        settings: dict[str, Any],
        normalize: VecNormalize | None,
        hides_image: bool,
    ):
        self.deterministic, self.action_noise = settings["deterministic"], settings["action_noise"]
        if self.action_noise and not isinstance(space, spaces.Box):
            raise DemonstrationsError(f"record: found action_noise={self.action_noise} with {space}, expected a Box space")
        if self.action_noise and isinstance(space, spaces.Box) and not space.is_bounded():
            raise DemonstrationsError(
                f"record: found action_noise={self.action_noise} with {space}, expected finite bounds, because its unit is "
                "half their distance: add noise in the policy"
            )
        self.policy, self.space, self.vec_normalize, self.hides_image = policy, space, normalize, hides_image
        self.max_steps = settings.get("max_episode_steps", float("inf"))
        self._has_warned = False
        self.rng = np.random.default_rng(settings["seed"])
        predict = getattr(policy, "predict", None)
        self._has_state = predict is not None and {"state", "episode_start"} <= set(inspect.signature(predict).parameters)
        self._state: Any = None

    def run_episode(self, env: gym.Env, seed: int) -> Episode:
        rollout, self._state, reset = Rollout(env, seed), None, getattr(self.policy, "reset", None)
        if callable(reset):
            reset()
        while not rollout.over and len(rollout) < self.max_steps:
            seen = rollout.observation
            if self.hides_image:
                assert isinstance(env, CameraObservation)
                seen = env.without_image(seen)
            rollout.step(self._act(seen, len(rollout) == 0))
            if len(rollout) == LONG_EPISODE and self.max_steps == float("inf"):
                _warn_without_limit(env)
        return rollout.episode()

    def _act(self, observation: Any, episode_start: bool) -> Any:
        if self.vec_normalize is not None:
            observation = self.vec_normalize.normalize_obs(observation)
        if hasattr(self.policy, "predict"):
            memory = {"state": self._state, "episode_start": np.array([episode_start])} if self._has_state else {}
            action, self._state = self.policy.predict(observation, deterministic=self.deterministic, **memory)
        else:
            action = self.policy(observation)
        if not isinstance(self.space, spaces.Box):
            if not self.space.contains(action):
                raise DemonstrationsError(f"record: found the action {action!r:.100}, expected one of {self.space}")
            # Discrete environments take a number, and models give an array of it
            return np.asarray(action, dtype=self.space.dtype)[()]
        action = self._checked(action, self.space)
        low, high = self.space.low, self.space.high
        if self.action_noise:
            action = action + self.action_noise * self.rng.standard_normal(self.space.shape) * (high - low) / 2
        return np.clip(action, low, high).astype(self.space.dtype)

    def _checked(self, action: Any, space: spaces.Box) -> np.ndarray:
        """:return: The action in the space's shape. NumPy would broadcast one number to a whole action"""
        values = np.asarray(action)
        if values.shape != space.shape and not values.size == np.prod(space.shape) == 1:
            found = f"an action of shape {values.shape} ({action!r:.100})"
            raise DemonstrationsError(f"record: found {found}, expected {space.shape}, a number for each component")
        if values.dtype.kind not in "biuf" or not np.isfinite(values).all():
            raise DemonstrationsError(f"record: found the action {action!r:.100}, expected finite numbers")
        values = values.reshape(space.shape)
        beyond = np.maximum(space.low - values, values - space.high)
        # Rounding is no reason to warn
        if not self._has_warned and (beyond > 1e-6 * (1.0 + np.abs(values))).any():
            self._has_warned = True
            place = tuple(int(i) for i in np.unravel_index(np.argmax(beyond), beyond.shape))
            bounds = f"[{space.low[place]:g}, {space.high[place]:g}]"
            warn_user(
                f"record: found an action of {values[place]:g} in component {', '.join(map(str, place))}, outside the bounds "
                f"{bounds}: such actions are clipped. Are they in the environment's units?",
            )
        return values


def _warn_without_limit(env: gym.Env) -> None:
    if env.spec is None or env.spec.max_episode_steps is None:
        warn_user(
            f"record: found an episode of {LONG_EPISODE:,} steps that is not over. Without a time limit it may go on for "
            "ever: max_episode_steps (--max-episode-steps) cuts it",
        )


def _keep_episodes(session: Session, actor: _Actor, env: gym.Env, n_episodes: int, max_attempts: int) -> Iterator[Episode]:
    """Yield the episodes to keep, each of which is in the session already."""
    kept, n_attempts, successes_only = session.episodes, 0, session.settings["successes_only"]
    if session.state is not None:
        n_attempts = session.state["n_attempts"]
        actor.rng.bit_generator.state = session.state["noise"]
    if len(kept) > n_episodes:
        raise DemonstrationsError(
            f"record: found {len(kept)} episodes in {session.folder}, expected at most {n_episodes}: ask for as many or more"
        )
    # The kept episodes of a resumed recording report their success
    reported = bool(kept) or not successes_only
    while len(kept) < n_episodes and n_attempts < max_attempts:
        episode = actor.run_episode(env, session.settings["seed"] + n_attempts)
        n_attempts += 1
        reported |= episode.success is not None
        if episode.success or not successes_only:
            session.add(episode, {"n_attempts": n_attempts, "noise": actor.rng.bit_generator.state})
            yield episode
    if len(kept) < n_episodes:
        if not reported:
            raise DemonstrationsError(
                f"record: successes_only found neither 'is_success' nor 'success' in the last info of {n_attempts} attempts, "
                "expected one of them"
            )
        kind = "successes" if successes_only else "episodes"
        where = f". They are in {session.folder}: resume with more attempts" if kept and session.folder else ""
        raise DemonstrationsError(f"record: found {len(kept)} {kind} in {n_attempts} attempts, expected {n_episodes}{where}")


def scripted_expert(env: gym.Env) -> Callable[[Any], Any]:
    """
    The expert that Gymnasium ships with an environment, as a policy for :func:`record`. BipedalWalker's expert falls in most
    episodes: load its demonstrations with a ``min_return`` of 200.

    :param env: The environment to act in
    :return: A function from an observation to an action
    :raises DemonstrationsError: If Gymnasium has no expert for this environment
    """
    # Compared by name: importing the classes needs Box2D
    classes = {f"{cls.__module__}:{cls.__qualname__}" for cls in type(env.unwrapped).__mro__}
    if "gymnasium.envs.box2d.bipedal_walker:BipedalWalker" in classes:
        from gymnasium.envs.box2d.bipedal_walker import BipedalWalkerHeuristics

        class BipedalWalkerExpert(BipedalWalkerHeuristics):
            """It remembers the leg it stands on, so that each episode resets it."""

            __call__ = BipedalWalkerHeuristics.step_heuristic

            def reset(self) -> None:
                vars(self).clear()

        return BipedalWalkerExpert()
    if "gymnasium.envs.box2d.lunar_lander:LunarLander" in classes:
        from gymnasium.envs.box2d.lunar_lander import heuristic

        # The expert asks the environment whether its actions are continuous
        return partial(heuristic, env)
    raise DemonstrationsError(
        f"expert: found {env.spec.id if env.spec else env.unwrapped}, expected an environment that Gymnasium has an expert "
        "for: LunarLander, BipedalWalker. Write one as a function (--policy file.py:function)"
    )
