"""Small models of the off-policy algorithms, and the rows of their buffers."""

import time
from typing import Any, TypeVar

import numpy as np

from sb3_pgfd import DDPGfD
from sb3_pgfd.common.off_policy_algorithm import OffPolicyFromDemonstrations
from sb3_pgfd.common.pretraining import LearnsFromDemonstrations
from sb3_pgfd.replay import DemoBatch, DemoReplayBuffer

Model = TypeVar("Model", bound=LearnsFromDemonstrations)
OffPolicy = TypeVar("OffPolicy", bound=OffPolicyFromDemonstrations)


class WatchedBuffer(DemoReplayBuffer):
    """Notes the indices of all batches of a draw, and when it was."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.drawn: list[np.ndarray] = []
        self.last_time = 0

    def sample_batches(self, *args: Any, **kwargs: Any) -> DemoBatch:
        batch = super().sample_batches(*args, **kwargs)
        self.drawn.append(batch.indices)
        self.last_time = time.time_ns()
        return batch


def small_model(
    algorithm: type[OffPolicy], policy: Any = "MlpPolicy", env: Any = "PointToGoal-v0", **options: Any
) -> OffPolicy:
    """:return: A model that is made, and learns, in no time; ``options`` are of the algorithm"""
    policy_kwargs = {"net_arch": [16], **options.pop("policy_kwargs", {})}
    small: dict[str, Any] = dict(buffer_size=500, learning_starts=10, batch_size=8, pretrain_steps=5, seed=0, device="cpu")
    model = algorithm(policy, env, policy_kwargs=policy_kwargs, **{**small, **options})
    return with_no_option_chosen(model)


def with_no_option_chosen(model: Model) -> Model:
    """
    :return: The model with its options as if they were the defaults of its class. A user's options that need demonstrations
        are refused without; many tests have some that act later, or look at what they do not do
    """
    model._chosen_options = []
    return model


def own_rows(model: DDPGfD, column: str) -> np.ndarray:
    """:return: A column of the agent's own transitions, in the order in which they were stored"""
    return model.buffer.ring.take(np.arange(model.buffer.n_own))[column]


def demo_rows(model: DDPGfD, column: str) -> np.ndarray:
    """:return: A column of the demonstration store"""
    return model.buffer.demonstrations.take(model.buffer.demonstrations.live_rows)[column]


def demo_priorities(model: DDPGfD) -> np.ndarray:
    """:return: p_i of the demonstration store"""
    return model.buffer.priorities[model.buffer.ring.n_rows :]


def own_priorities(model: DDPGfD) -> np.ndarray:
    """:return: p_i of the agent's own transitions"""
    return model.buffer.priorities[: model.buffer.n_own]


def set_priorities(model: DDPGfD, indices: np.ndarray, values: np.ndarray) -> None:
    """Make p_i what a test says: :meth:`DemoReplayBuffer.update_priorities` adds eps and eps_D."""
    buffer = model.buffer
    bonus = np.where(indices >= buffer.ring.n_rows, buffer.demo_bonus, 0.0)
    buffer.update_priorities(indices, values - buffer.priority_epsilon - bonus)
