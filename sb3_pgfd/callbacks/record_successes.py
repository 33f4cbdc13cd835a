"""Demonstrations from the agent's own successful episodes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from sb3_pgfd.demonstrations import DemonstrationsError
from sb3_pgfd.demonstrations.arrays import channels_first, json_copy
from sb3_pgfd.demonstrations.recording import Session
from sb3_pgfd.demonstrations.recording.provenance import describe_episodes, describe_spaces, describe_spec
from sb3_pgfd.demonstrations.recording.rollout import EpisodeBuilder, success_of
from sb3_pgfd.demonstrations.validation import Observations, check_observations


class RecordSuccesses(BaseCallback):
    """
    Record the agent's own successful episodes while it learns, whatever SB3 algorithm it is. An episode is a success if
    its last info says so (``is_success`` or ``success``), or if its return is high enough. Each is on disk when it ends, in
    the folder ``<path>.recording``, and the file is written when the training ends. Observations are those the model sees
    (images have their channels first), but raw, as rewards are: ``VecNormalize`` is undone.

    Given to several ``learn()``, it writes the file at the end of each that had successes, with the earlier ones in it. An
    episode that goes on from one ``learn()`` to the next is recorded if the callback was there in both.

    With ``VecNormalize``, the last observation of an episode is exact to single precision, and if it is more than
    ``clip_obs`` standard deviations off the mean it is known to be that far off only.

    :param path: The file, the ending ``.npz`` is added if it is missing
    :param max_episodes: Record so many at most; None: all
    :param min_return: Episodes with this return (raw, undiscounted) or more are successes, too
    :param overwrite: Whether the file, and without ``resume`` an unfinished recording, may be replaced
    :param resume: Whether to go on with the recording of a training that crashed, if there is one
    :param verbose: Verbosity level
    """

    def __init__(
        self,
        path: str | Path,
        max_episodes: int | None = None,
        min_return: float | None = None,
        overwrite: bool = False,
        resume: bool = False,
        verbose: int = 0,
    ):
        super().__init__(verbose)
        if max_episodes is not None and max_episodes < 1:
            raise DemonstrationsError(f"RecordSuccesses: found max_episodes={max_episodes}, expected at least 1, or None")
        self.path = Path(path)
        self.max_episodes = max_episodes
        self.min_return = min_return
        self.overwrite = overwrite
        self.resume = resume
        self._session: Session | None = None
        # Of each environment; None: its episode was under way before the callback was there
        self._episodes: list[EpisodeBuilder | None] = []

    @property
    def session(self) -> Session:
        """What has been recorded so far"""
        assert self._session is not None, "there is no recording before the first learn()"
        return self._session

    # Called before anything is learned: an existing file is refused now, not after hours
    def _init_callback(self) -> None:
        if not isinstance(self.model, (OnPolicyAlgorithm, OffPolicyAlgorithm)):
            raise DemonstrationsError(
                f"RecordSuccesses: found a model of type {type(self.model).__name__}, expected an OnPolicyAlgorithm or an "
                "OffPolicyAlgorithm, which tell a callback of each step"
            )
        settings = self._settings()
        if self._session is None:
            self._session = Session(self.path, settings, self.resume, self.overwrite)
        elif self._session.settings != json_copy(settings):
            raise DemonstrationsError(
                f"RecordSuccesses: found another algorithm or environment than that which {self.path} was begun with, "
                "expected the same: use a new callback with another path"
            )

    def _settings(self) -> dict[str, Any]:
        spec = self.training_env.get_attr("spec", indices=0)[0]
        return {
            **(describe_spec(spec) if spec else {}),
            **describe_spaces(self.model.observation_space, self.model.action_space),
            "producer": f"{type(self.model).__name__} while learning",
            "min_return": self.min_return,
        }

    def _on_training_start(self) -> None:
        normalize = self.model.get_vec_normalize_env()
        raw = self.model._last_obs if normalize is None else normalize.get_original_obs()
        assert raw is not None
        observations = self._as_the_model_sees_them(raw)
        check_observations(observations, self.model.observation_space, "RecordSuccesses: observations under VecNormalize")
        before = self._episodes or [None] * self.training_env.num_envs
        self._episodes = [self._go_on(episode, _of_env(observations, index)) for index, episode in enumerate(before)]

    def _go_on(self, episode: EpisodeBuilder | None, observation: Any) -> EpisodeBuilder | None:
        if self.num_timesteps == 0:
            return EpisodeBuilder(observation)
        # Without a reset, an episode goes on if it has come to the same observation
        return episode if episode is not None and _same(episode.observations[-1], observation) else None

    def _on_step(self) -> bool:
        if self.max_episodes is None or len(self.session.episodes) < self.max_episodes:
            self._record_step()
        self.logger.record("rollout/recorded_episodes", len(self.session.episodes))
        return True

    def _record_step(self) -> None:
        normalize = self.model.get_vec_normalize_env()
        raw = self.locals["new_obs"] if normalize is None else normalize.get_original_obs()
        rewards = self.locals["rewards"] if normalize is None else normalize.get_original_reward()
        observations = self._as_the_model_sees_them(raw)
        # On-policy algorithms call what the environment gets so
        actions = self.locals.get("clipped_actions", self.locals["actions"])
        for index, (done, info) in enumerate(zip(self.locals["dones"], self.locals["infos"], strict=True)):
            observation, episode = _of_env(observations, index), self._episodes[index]
            if episode is not None:
                episode.act(actions[index])
                episode.observe(self._last_observation(info, observation) if done else observation, rewards[index])
                if done:
                    self._keep_success(episode, info)
            if done:
                self._episodes[index] = EpisodeBuilder(observation)

    def _last_observation(self, info: dict[str, Any], like: Any) -> Any:
        observation, normalize = info["terminal_observation"], self.model.get_vec_normalize_env()
        if normalize is not None:
            observation = normalize.unnormalize_obs(observation)
        if isinstance(like, dict):
            return {key: _as_dtype(observation[key], like[key]) for key in like}
        return _as_dtype(observation, like)

    def _keep_success(self, episode: EpisodeBuilder, info: dict[str, Any]) -> None:
        success, enough = success_of(info), self.min_return is not None and sum(episode.rewards) >= self.min_return
        if success or enough:
            self.session.add(episode.build(not info.get("TimeLimit.truncated", False), success), {})

    def _on_training_end(self) -> None:
        if self.session.unfinished:
            self.session.finish(describe_episodes(self.session.episodes))
        if not self.session.episodes:
            self.logger.info(f"RecordSuccesses: found no successful episode, {self.session.path} is not written")

    def _as_the_model_sees_them(self, observations: Observations) -> Observations:
        return channels_first(observations, self.model.observation_space)


def _of_env(observations: Observations, index: int) -> Any:
    """One environment's share of a batch."""
    if isinstance(observations, Mapping):
        return {key: array[index] for key, array in observations.items()}
    return observations[index]


def _same(first: Any, second: Any) -> bool:
    if isinstance(first, dict):
        return all(np.array_equal(first[key], second[key]) for key in first)
    return np.array_equal(first, second)


def _as_dtype(array: Any, like: np.ndarray) -> np.ndarray:
    """Whole numbers are rounded: undoing a normalisation leaves a rounding error."""
    return (np.rint(array) if like.dtype.kind in "iu" else np.asarray(array)).astype(like.dtype)
