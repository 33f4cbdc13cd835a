"""The replay buffer of an off-policy algorithm: made with its demonstrations, saved, loaded."""

import io
import pathlib
from collections.abc import Mapping
from typing import Any, ClassVar

from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.save_util import load_from_pkl
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.vec_env import VecFrameStack, unwrap_vec_wrapper
from stable_baselines3.her.her_replay_buffer import HerReplayBuffer

from sb3_pgfd.common.images import has_images
from sb3_pgfd.common.option_warnings import other_rewards
from sb3_pgfd.common.pretraining import LearnsFromDemonstrations
from sb3_pgfd.demonstrations import Demonstrations
from sb3_pgfd.replay import DemoReplayBuffer
from sb3_pgfd.replay.storage import Schema
from sb3_pgfd.utils.files import write_whole
from sb3_pgfd.utils.keywords import accepted_keywords, keyword_defaults
from sb3_pgfd.utils.memory import GIB
from sb3_pgfd.utils.warning import OptionWarning, warn_user

COMPARED_STEPS = 200
"""Own steps after which their rewards are compared with the demonstrations'"""


class LearnsFromReplay(LearnsFromDemonstrations, OffPolicyAlgorithm):
    """An ``OffPolicyAlgorithm`` whose replay buffer is a :class:`~sb3_pgfd.replay.DemoReplayBuffer`."""

    n_steps: int
    buffer_defaults: ClassVar[Mapping[str, Any]] = {}
    """Options of the replay buffer, unless ``replay_buffer_kwargs`` has others"""
    _other_ways_back: ClassVar[str] = ", or load its replay buffer with load_replay_buffer(path)"
    _rewards_are_compared: bool = False
    """Whether those of demonstrations and of own steps have been"""

    @classmethod
    def _keyword_places(cls) -> Mapping[str, set[str]]:
        return {"replay_buffer_kwargs": set(cls._buffer_options(DemoReplayBuffer)), **super()._keyword_places()}

    @classmethod
    def _buffer_options(cls, buffer_class: type[DemoReplayBuffer]) -> dict[str, Any]:
        """:return: Options of a replay buffer that the algorithm does not pass itself, with their defaults"""
        passed = accepted_keywords(cls) | {"observation_space", "action_space", "n_envs"}
        return {name: default for name, default in keyword_defaults(buffer_class).items() if name not in passed}

    def _check_buffer(self) -> None:
        """
        :raises ValueError: If the replay buffer is none of this package
        :raises TypeError: If one of its options is unknown
        """
        buffer = self._buffer_class
        if not (isinstance(buffer, type) and issubclass(buffer, DemoReplayBuffer)):
            why = (
                ": it keeps no demonstrations; her_ratio of the former replaces goals too" if buffer is HerReplayBuffer else ""
            )
            found = getattr(buffer, "__name__", buffer)
            raise ValueError(f"replay_buffer_class: found {found}, expected DemoReplayBuffer or a subclass{why}")
        self._check_kwargs("replay_buffer_kwargs", set(self._buffer_options(buffer)))

    @property
    def _buffer_class(self) -> type[DemoReplayBuffer]:
        # Another class is refused in _check_buffer()
        return self.replay_buffer_class or DemoReplayBuffer  # type: ignore[return-value]

    @property
    def buffer(self) -> DemoReplayBuffer:
        """The replay buffer, with its type."""
        assert isinstance(self.replay_buffer, DemoReplayBuffer)
        return self.replay_buffer

    def _make_replay_buffer(self) -> DemoReplayBuffer:
        wrapper = unwrap_vec_wrapper(self.env, VecFrameStack) if self.env is not None else None
        if wrapper is not None and has_images(self.observation_space):
            self.replay_buffer_kwargs = {"frame_stack": wrapper.stacked_obs.n_stack, **self.replay_buffer_kwargs}
        if self.verbose >= 1 and has_images(self.observation_space):
            schema = Schema(self.observation_space, self.action_space, self.replay_buffer_kwargs.get("frame_stack", 1))
            row, full = schema.row_nbytes / 1e3, self.buffer_size * schema.row_nbytes / GIB
            print(f"Replay buffer: {row:,.1f} kB for each transition, {full:,.2f} GiB when it is full")
        return self._buffer_class(
            self.buffer_size,
            self.observation_space,
            self.action_space,
            device=self.device,
            n_envs=self.n_envs,
            demonstrations=self.demonstrations,
            n_steps=self.n_steps,
            gamma=self.gamma,
            env=self.env,
            **self.replay_buffer_kwargs,
        )

    def set_env(self, env: GymEnv, force_reset: bool = True) -> None:
        """cf ``BaseAlgorithm``. The replay buffer computes the rewards of replaced goals with this environment."""
        super().set_env(env, force_reset)
        if self.replay_buffer is not None and self.env is not None:
            self.buffer.set_env(self.env)

    def _setup_learn(self, *args: Any, **kwargs: Any) -> Any:
        if self.replay_buffer is None:
            self.replay_buffer = self._make_replay_buffer()
        return super()._setup_learn(*args, **kwargs)

    @property
    def _has_demonstrations(self) -> bool:
        if self.replay_buffer is None:
            return self.demonstrations is not None
        return self.buffer.n_demonstrations > 0

    def add_demonstrations(self, demonstrations: Demonstrations | str | pathlib.Path) -> None:
        """
        Learn from more demonstrations from now on, e.g. from corrections recorded in the meantime. Call it before or
        between calls of ``learn()``, or during one from a callback. They are kept for ever, with the largest priority so
        far. Before the first ``learn()`` they count as if given to the constructor. Later there is no pretraining on them.

        :param demonstrations: A dataset, a path, or the name of packaged demonstrations
        :raises DemonstrationsError: If they cannot be read or do not belong to this environment, or if the model was
            saved with demonstrations that have not been given back. Nothing changes then
        """
        buffer = None if self.replay_buffer is None else self.buffer
        self._require_demonstrations(self.demonstrations is not None or self._has_demonstrations, "add_demonstrations")
        dataset = self._load_fitting(demonstrations)
        merged = self._merge_with_present(dataset)
        # Otherwise the model was loaded without an environment, and its buffer will be made with all of them
        if buffer is not None:
            buffer.add_demonstrations(dataset)
        self._join_demonstrations(dataset, merged)

    def _compare_rewards(self) -> None:
        """Warn once of demonstrations whose rewards have another scale, when there are enough own steps."""
        ring = self.buffer.ring
        if not isinstance(self.demonstrations, Demonstrations) or self._rewards_are_compared or ring.size < COMPARED_STEPS:
            return
        self._rewards_are_compared = True
        own = ring.columns["rewards"][: ring.size][~ring.columns["terminated"][: ring.size]]
        text = other_rewards(self.demonstrations.rewards[~self.demonstrations.terminated], own)
        if text is not None:
            warn_user(text, OptionWarning)

    def dump_logs(self) -> None:
        """cf ``OffPolicyAlgorithm``. Warns once of demonstrations with other rewards."""
        self._compare_rewards()
        super().dump_logs()

    def save_replay_buffer(self, path: str | pathlib.Path | io.BufferedIOBase) -> None:
        """cf ``OffPolicyAlgorithm``. The file is written whole or not at all."""
        if isinstance(path, (str, pathlib.Path)):
            target = pathlib.Path(path) if pathlib.Path(path).suffix else pathlib.Path(f"{path}.pkl")
            with write_whole(target, overwrite=True) as temporary, temporary.open("wb") as file:
                super().save_replay_buffer(file)
        else:
            super().save_replay_buffer(path)

    def load_replay_buffer(self, path: str | pathlib.Path | io.BufferedIOBase, truncate_last_traj: bool = True) -> None:
        """
        cf ``OffPolicyAlgorithm``. Demonstrations and priorities come back with the buffer. A model that has not learned, and
        has no demonstrations of its own, pretrains on them, also if its parameters were set; not with ``pretrain_steps=0``.

        :param truncate_last_traj: Without effect: an episode that does not go on is cut when the next transition comes
        :raises ValueError: If it is another kind of buffer, or of another environment or number of them; the model then
            keeps the buffer that it has
        """
        try:
            loaded = load_from_pkl(path, self.verbose)
        except (AttributeError, ModuleNotFoundError) as error:
            # Its classes are where another version had them
            raise ValueError(f"load_replay_buffer: cannot read it ({error}): it was saved by another version") from error
        if not isinstance(loaded, DemoReplayBuffer):
            raise ValueError(
                f"load_replay_buffer: found a {type(loaded).__name__}, expected a DemoReplayBuffer: it has no demonstrations, "
                "so they would be gone. model.buffer.add_replay_buffer(load_from_pkl(path)) adds its transitions to the "
                "buffer that the model has (load_from_pkl is in stable_baselines3.common.save_util)"
            )
        for name in ("observation_space", "action_space", "n_envs"):
            found, expected = getattr(loaded, name), getattr(self, name)
            if found != expected:
                raise ValueError(f"load_replay_buffer: found {name}={found} in the file, expected {expected} of the model")
        # An option that the model was not given has its default, whatever the file says
        options = {**self._buffer_options(type(loaded)), **self.replay_buffer_kwargs}
        loaded.device = self.device
        loaded.configure(n_steps=self.n_steps, gamma=self.gamma, **options)
        if self.env is not None:
            loaded.set_env(self.env)
        self.replay_buffer = loaded
        if self.demonstrations is None and not self._pretrained and self.start_time == 0.0 and loaded.n_given > 0:
            # A new model that is given them this way pretrains on them too
            source = str(path) if isinstance(path, (str, pathlib.Path)) else "a replay buffer"
            self.demonstrations = loaded.given_demonstrations().changed(source=source)
            self.demonstrations_source = source
