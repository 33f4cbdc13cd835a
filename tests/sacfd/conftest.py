"""A small SACfD, and a way to see what it logs."""

from collections.abc import Callable
from typing import Any

import pytest
from point_to_goal import Recorder
from small_models import small_model
from stable_baselines3.common.logger import Logger

from sb3_pgfd import Demonstrations, SACfD

MakeModel = Callable[..., SACfD]


@pytest.fixture
def make_model(demonstrations: Demonstrations, recorder: Recorder) -> MakeModel:
    """``make_model(policy, env, **options)``: a small model that logs to ``recorder``, with the demonstrations."""

    def _make_model(*args: Any, **options: Any) -> SACfD:
        small: dict[str, Any] = dict(demonstrations=demonstrations, gradient_steps=1, critic_warmup_steps=0, policy_delay=1)
        policy_kwargs = {"n_critics": 3, **options.pop("policy_kwargs", {})}
        model = small_model(SACfD, *args, policy_kwargs=policy_kwargs, **{**small, **options})
        model.set_logger(Logger(None, [recorder]))
        return model

    return _make_model
