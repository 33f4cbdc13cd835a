"""Record the successes of an algorithm while it learns."""

from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from sb3_pgfd.demonstrations import DemonstrationsError
from sb3_pgfd.demonstrations.arrays import channels_first, json_copy, map_observations
from sb3_pgfd.demonstrations.editing import reaches
from sb3_pgfd.demonstrations.recording import Session
from sb3_pgfd.demonstrations.recording.interventions import INTERVENE_ACTION
from sb3_pgfd.demonstrations.recording.session import EpisodeBuilder, describe_env, success_of
from sb3_pgfd.demonstrations.validation import as_dict, check_observations
from sb3_pgfd.replay.own_episodes import ENV_RESTARTED


class RecordSuccesses(BaseCallback):
    """
    Record the agent's own successful episodes while it learns, with any SB3 algorithm. An episode is a success if its last
    info says so (``is_success`` or ``success``), or if its return is high enough. Each is on disk when it ends, in the
    folder ``<path>.recording``, and the file is written when the training ends. Observations are those that the model sees
    (images with channels first), but observations and rewards are raw: ``VecNormalize`` is undone. It clips the last
    observation of an episode at ``clip_obs`` standard deviations from the mean, in single precision.

    If the same callback is used in several ``learn()``, each one rewrites the file with all successes so far. An episode
    that continues from one ``learn()`` to the next is recorded if the callback was used in both.

    :param path: The file; the ending ``.npz`` is added if it is missing
    :param max_episodes: Record at most this many episodes; None: all
    :param min_return: Episodes with at least this return (raw, undiscounted) count as successes, too
    :param overwrite: Allow replacing the file and, without ``resume``, an unfinished recording. A run that had ended and is
        resumed takes its episodes from the file
    :param resume: Continue the recording of a training that crashed, if there is one
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
        self.path, self.max_episodes, self.min_return = Path(path), max_episodes, min_return
        self.overwrite, self.resume = overwrite, resume
        self._session: Session | None = None
        # For each environment; None: the callback did not see the start of this episode
        self._episodes: list[EpisodeBuilder | None] = []
        # Episodes that the training state knows of, None: it was saved by a version that did not count them
        self._n_saved: int | None = None

    @property
    def session(self) -> Session:
        """What has been recorded so far"""
        assert self._session is not None, "there is no recording before the first learn()"
        return self._session

    def before_saving(self) -> None:
        """Episodes that are recorded after a training state was saved will be recorded again when it is resumed."""
        self._n_saved = len(self.session.episodes)

    def after_restoring(self) -> None:
        """Go on behind the episodes of the run that is resumed."""
        if self._n_saved is not None:
            self.session.go_on_behind(self._n_saved)

    # An existing file is refused before the training, not after it
    def _init_callback(self) -> None:
        if not isinstance(self.model, (OnPolicyAlgorithm, OffPolicyAlgorithm)):
            raise DemonstrationsError(
                f"RecordSuccesses: found a model of type {type(self.model).__name__}, expected an OnPolicyAlgorithm or an "
                "OffPolicyAlgorithm, which show each step to a callback"
            )
        spec = self.training_env.get_attr("spec", indices=0)[0]
        description = describe_env(spec, self.model.observation_space, self.model.action_space)
        producer = f"{type(self.model).__name__} while learning"
        settings = {**description, "producer": producer, "min_return": self.min_return}
        if self._session is None:
            self._session = Session(self.path, settings, self.resume, self.overwrite)
        elif self._session.settings != json_copy(settings):
            raise DemonstrationsError(
                f"RecordSuccesses: found another algorithm or environment than at the start of {self.path}, expected the "
                "same: use a new callback with another path"
            )

    def _on_training_start(self) -> None:
        observations = self._raw_observations(self.model._last_obs)
        check_observations(observations, self.model.observation_space, "RecordSuccesses: observations under VecNormalize")
        before = self._episodes or [None] * self.training_env.num_envs
        self._episodes = []
        for env, episode in enumerate(before):
            observation = map_observations(observations, itemgetter(env))
            # Without a reset, an episode continues at its last observation
            if self.num_timesteps == 0:
                episode = EpisodeBuilder(observation)
            elif episode is not None:
                last, now = (as_dict(value).values() for value in (episode.observations[-1], observation))
                episode = episode if all(map(np.array_equal, last, now)) else None
            self._episodes.append(episode)

    @property
    def _is_full(self) -> bool:
        return self.max_episodes is not None and len(self.session.episodes) >= self.max_episodes

    def _on_step(self) -> bool:
        if not self._is_full:
            self._record_step()
        self.logger.record("rollout/recorded_episodes", len(self.session.episodes))
        return True

    def _record_step(self) -> None:
        normalize, observations = self.model.get_vec_normalize_env(), self._raw_observations(self.locals["new_obs"])
        rewards = self.locals["rewards"] if normalize is None else normalize.get_original_reward()
        # On-policy algorithms pass `clipped_actions` to the environment
        actions = self.locals.get("clipped_actions", self.locals["actions"])
        for env, (done, info) in enumerate(zip(self.locals["dones"], self.locals["infos"], strict=True)):
            observation, episode = map_observations(observations, itemgetter(env)), self._episodes[env]
            if info.get(ENV_RESTARTED):
                # Nobody knows whether this step was taken, so it cannot end an episode
                episode = None
            if episode is not None:
                last = self._last_observation(info, observation) if done else observation
                # What somebody executed in place of the policy's action
                taken = info.get(INTERVENE_ACTION)
                episode.add(actions[env] if taken is None else np.asarray(taken, actions.dtype), last, rewards[env])
            if done:
                if episode is not None:
                    self._keep_success(episode, info)
                self._episodes[env] = EpisodeBuilder(observation)

    def _raw_observations(self, seen: Any) -> Any:
        normalize = self.model.get_vec_normalize_env()
        return channels_first(seen if normalize is None else normalize.get_original_obs(), self.model.observation_space)

    def _last_observation(self, info: dict[str, Any], like: Any) -> Any:
        observation, normalize = info["terminal_observation"], self.model.get_vec_normalize_env()
        if normalize is not None:
            observation = normalize.unnormalize_obs(observation)
        if isinstance(like, dict):
            return {key: _as_dtype(observation[key], like[key].dtype) for key in like}
        return _as_dtype(observation, like.dtype)

    def _keep_success(self, episode: EpisodeBuilder, info: dict[str, Any]) -> None:
        # Several environments may succeed in the same step
        if self._is_full:
            return
        success = success_of(info)
        if success or (self.min_return is not None and reaches(episode.episode_return, self.min_return)):
            self.session.add(episode.build(not info.get("TimeLimit.truncated", False), success), {})

    def _on_training_end(self) -> None:
        if self.session.unfinished:
            self.session.finish({})
        if not self.session.episodes:
            self.logger.info(f"RecordSuccesses: found no successful episode, {self.session.path} is not written")


def _as_dtype(array: Any, dtype: np.dtype) -> np.ndarray:
    """Integers are rounded, because undoing a normalisation leaves a rounding error."""
    return (np.rint(array) if dtype.kind in "iu" else np.asarray(array)).astype(dtype)
